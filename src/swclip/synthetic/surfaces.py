"""Colours of ground and sky, and the light on walls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from swclip.synthetic.camera import Camera
from swclip.synthetic.conditions import Conditions
from swclip.synthetic.fields import F32, band, hash01, noise_tile, pulse, sample_tile, sample_tile_smooth, step
from swclip.synthetic.ground import ALONG, GREEN, HALF_ROAD, INSIDE, KERB, LATERAL, RANK, ZEBRA, Ground
from swclip.synthetic.scene import Scene
from swclip.synthetic.visibility import Spans
from swclip.synthetic.walls import Walls

_ASPHALT = np.array([0.085, 0.087, 0.092], dtype=np.float32)
_WHITE = np.array([0.72, 0.72, 0.70], dtype=np.float32)
_YELLOW = np.array([0.70, 0.50, 0.08], dtype=np.float32)
_YARD = np.array([0.17, 0.155, 0.135], dtype=np.float32)


def shade_ground(scene: Scene, conditions: Conditions, x_m: F32, y_m: F32, pixel: F32, pixel_z: F32) -> F32:
    """Compute the light of pixels of ground.

    Args:
        scene: The city.
        conditions: Light and weather.
        x_m: (P,) east.
        y_m: (P,) north.
        pixel: (P,) width of the pixel across the view, metres.
        pixel_z: (P,) length of the pixel along the view, metres.

    Returns:
        (P, 3) linear light.
    """
    table = scene.ground.sample(x_m, y_m)
    kerb, lateral, along = table[:, KERB], table[:, LATERAL], table[:, ALONG]
    wide = 0.5 * (pixel + pixel_z)
    grain = sample_tile(noise_tile(0.35), x_m * 14.0, y_m * 14.0) * np.clip(1.2 - 9.0 * wide, 0.0, 1.0)
    patch = sample_tile(noise_tile(1.1), x_m * 3.0, y_m * 3.0)
    road = step(-kerb, 0.0, wide)
    tone = 1.0 + 0.10 * grain + 0.09 * patch - 0.12 * band(np.abs(np.abs(lateral) - 1.7), -0.1, 0.35, 0.5)
    albedo = _ASPHALT * tone[:, None]
    # Lane markings of two-way streets; yellow lines along the kerb; zebra crossings.
    rank, half = table[:, RANK], table[:, HALF_ROAD]
    dashed = pulse(along / 6.0, 0.0, 0.5, pixel_z / 6.0)
    two_way = (rank < 2.5) & (kerb > -half - 0.5)
    centre = band(lateral, -0.075, 0.075, pixel) * dashed * two_way
    lane = (band(np.abs(lateral), 0.5 * half - 0.06, 0.5 * half + 0.06, pixel) * dashed) * (rank < 0.5)
    zebra = band(table[:, ZEBRA], -1.6, 1.6, pixel_z)
    stripes = zebra * pulse(lateral / 1.2, 0.0, 0.5, pixel / 1.2)
    white = np.maximum(np.maximum(centre, lane) * (1.0 - zebra), stripes) * road
    worn = 0.75 + 0.12 * patch
    albedo += (white * worn)[:, None] * (_WHITE - albedo)
    yellow = band(kerb, -0.42, -0.32, wide) + band(kerb, -0.25, -0.15, wide)
    albedo += (yellow * (rank < 1.5) * (1.0 - zebra))[:, None] * (_YELLOW - albedo)
    # Paving slabs and kerb stones.
    slab = (
        1.0 - (1.0 - pulse(along / 0.9, 0.02, 0.98, wide / 0.9) * pulse(lateral / 0.6, 0.03, 0.97, wide / 0.6)) * 0.35
    )
    near = np.flatnonzero(wide < 0.35)
    if len(near):
        each = hash01(np.floor(along[near] / 0.9), np.floor(lateral[near] / 0.6)) - 0.5
        slab[near] *= 1.0 + 0.16 * each * np.clip(1.3 - 4.0 * wide[near], 0.0, 1.0)
    paving = scene.pavement * (slab * (0.95 + 0.05 * grain + 0.06 * patch))[:, None]
    paving += band(kerb, 0.0, 0.22, wide)[:, None] * (1.15 * scene.pavement + 0.04 - paving)
    paving *= (1.0 - 0.45 * band(kerb, -0.05, 0.04, wide))[:, None]
    off = 1.0 - road
    albedo += off[:, None] * (paving - albedo)
    inside = table[:, INSIDE]
    yard = step(inside, 0.75, 0.5)
    albedo += yard[:, None] * (_YARD * (1.0 + 0.15 * patch + 0.1 * grain)[:, None] - albedo)
    green = step(table[:, GREEN], 0.5, 0.3)
    grass = (
        np.array([0.10, 0.17, 0.045], dtype=np.float32) * (0.6 + 0.4 * conditions.leaves) + 0.12 * conditions.foliage
    )
    albedo += green[:, None] * (grass * (1.0 + 0.18 * grain + 0.15 * patch)[:, None] - albedo)
    if conditions.wet:
        albedo *= np.float32(0.62)
    if conditions.sunny:
        shadow = shadow_height(scene.ground, conditions, x_m, y_m)
        direct = conditions.sun[2] * (1.0 - np.clip(shadow / 0.6, 0.0, 1.0))
    else:
        direct = np.full(len(kerb), conditions.sun[2], dtype=np.float32)
    roofs = np.clip(1.0 - 0.10 * np.clip(kerb - 1.0, 0.0, 3.0), 0.65, 1.0)
    return lit_colour(albedo, direct.astype(np.float32), (0.86 * roofs).astype(np.float32), None, conditions)


def reflect_in_wet(picture: F32, camera: Camera, place: np.ndarray, depth_m: F32, amount: float) -> None:
    """Add reflections to ground pixels: the picture mirrored at the horizon, blurred over a few rows.

    Args:
        picture: (W * H, 3) linear light, in column order; changed in place.
        camera: The camera.
        place: (P,) indices of the ground pixels.
        depth_m: (P,) their depth.
        amount: Strength of reflections, 0 to 1.
    """
    size = camera.size_px
    row = place % size
    mirrored = 2.0 * camera.horizon_px - row - 1.0
    reflection = np.zeros((len(place), 3), dtype=np.float32)
    for shift in (-0.10, -0.05, 0.0, 0.05, 0.10):
        source_row = np.clip(mirrored + shift * (row - camera.horizon_px) * 1.6, 0, size - 1).astype(np.int32)
        reflection += 0.2 * picture[place - row + source_row]
    # Fresnel effect: reflections increase at grazing angles.
    share = amount * np.clip(0.05 + 0.020 * depth_m, 0.0, 0.50)
    picture[place] += share[:, None] * (0.8 * reflection - picture[place])


def shade_sky(camera: Camera, conditions: Conditions, slope: F32, rise: F32) -> F32:
    """Compute the light of pixels of sky: a gradient, and clouds on a flat layer.

    Args:
        camera: The camera.
        conditions: Light and weather.
        slope: (P,) metres to the right per metre of depth.
        rise: (P,) metres up per metre of depth, above 0.

    Returns:
        (P, 3) linear light.
    """
    (fx, fy), (rx, ry) = camera.forward.tolist(), camera.right.tolist()
    level = np.sqrt(1.0 + slope * slope)
    sine = rise / np.sqrt(level * level + rise * rise)
    blend = np.clip(sine * 1.7, 0.0, 1.0) ** 0.62
    colour = conditions.horizon + blend[:, None] * (conditions.zenith - conditions.horizon)
    # The ray intersects the cloud layer at a distance of 1 / rise.
    reach = 1.0 / (rise + 0.10)
    east = (fx + slope * rx) * reach
    north = (fy + slope * ry) * reach
    x, y = east * 13.0 + conditions.drift[0], north * 13.0 + conditions.drift[1]
    tile = noise_tile(1.35)
    noise = 0.72 * sample_tile_smooth(tile, x, y) + 0.30 * sample_tile_smooth(tile, 3.7 * x, 3.7 * y)
    noise += 0.12 * sample_tile_smooth(tile, 13.1 * x, 13.1 * y)
    if conditions.clouds >= 1.0:
        return np.asarray(colour * (1.0 + 0.06 * noise)[:, None], dtype=np.float32)
    cover = np.clip((noise + 1.9 * conditions.clouds - 1.0) * 1.1, 0.0, 1.0) * np.clip(sine * 9.0, 0.0, 1.0)
    bright = conditions.horizon * 0.75 + 0.25 * conditions.skylight + 0.22 * conditions.sunlight
    shaded = (1.0 - 0.16 * np.clip(noise - 0.4, 0.0, 1.5))[:, None] * bright
    colour += (0.9 * cover)[:, None] * (shaded - colour)
    flat = float(np.hypot(conditions.sun[0], conditions.sun[1]))
    if conditions.sunny:
        towards = (fx + slope * rx) * conditions.sun[0]
        towards += (fy + slope * ry) * conditions.sun[1]
        cosine = (towards + rise * conditions.sun[2]) / np.sqrt(level * level + rise * rise)
        colour += (0.35 * np.clip(cosine, 0.0, 1.0) ** 24 * flat)[:, None] * GLOW
    return np.asarray(colour, dtype=np.float32)


_STEPS_M = (2.5, 5.0, 8.0, 12.0, 17.0, 23.0, 30.0, 40.0)
GLOW = np.array([1.0, 0.80, 0.52], dtype=np.float32)
"""Colour of lamps."""


@dataclass(frozen=True)
class SpanLight:
    """Light on the walls, one entry for each span.

    Attributes:
        direct: (N,) cosine between the normal of the wall and the sun, 0 if the wall faces away.
        ambient: (N,) factor on the light of the sky.
        shadow_m: (N,) height below which the wall is in shadow.
    """

    direct: F32
    ambient: F32
    shadow_m: F32


def shadow_height(ground: Ground, conditions: Conditions, x_m: F32, y_m: F32) -> F32:
    """Return the height below which a vertical line at each point is in the shadow of buildings."""
    flat = float(np.hypot(conditions.sun[0], conditions.sun[1]))
    tangent = float(conditions.sun[2]) / flat
    dx, dy = np.float32(conditions.sun[0] / flat), np.float32(conditions.sun[1] / flat)
    highest = np.zeros(len(x_m), dtype=np.float32)
    for distance in _STEPS_M:
        roof = ground.roof_at(x_m + np.float32(distance) * dx, y_m + np.float32(distance) * dy)
        np.maximum(highest, roof - np.float32(distance * tangent), out=highest)
    return highest


def light_spans(camera: Camera, walls: Walls, spans: Spans, ground: Ground, conditions: Conditions) -> SpanLight:
    """Compute the light on each span of wall."""
    ends = walls.ends[spans.wall]
    along = ends[:, 1] - ends[:, 0]
    along /= np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-6)[:, None]
    normal = np.stack([along[:, 1], -along[:, 0]], axis=1)
    facing = normal[:, 0] * conditions.sun[0] + normal[:, 1] * conditions.sun[1]
    point = ends[:, 0] + spans.share[:, None] * (ends[:, 1] - ends[:, 0]) + 0.9 * normal
    x, y = point[:, 0].astype(np.float32), point[:, 1].astype(np.float32)
    shadow = shadow_height(ground, conditions, x, y) if conditions.sunny else np.zeros(len(x), dtype=np.float32)
    # Under clouds too, walls facing away from the bright part of the sky are darker, so that corners remain visible.
    ambient = 0.88 + 0.12 * facing + 0.05 * normal[:, 0]
    return SpanLight(np.maximum(facing, 0.0), ambient.astype(np.float32), shadow)


def lit_colour(albedo: F32, direct: F32, ambient: F32, glow: F32 | None, conditions: Conditions) -> NDArray[np.float32]:
    """Light an albedo (P, 3) by sun and sky with factors (P,) for each; `glow` adds lamplight."""
    light = ambient[:, None] * conditions.skylight
    light += direct[:, None] * conditions.sunlight
    if glow is not None:
        light += glow[:, None] * GLOW
    light *= albedo
    return light
