"""One photograph: walls, ground, sky, things in the street, haze, and the camera's response."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from swclip.synthetic.buildings import linear
from swclip.synthetic.camera import Camera
from swclip.synthetic.conditions import Conditions
from swclip.synthetic.facade import shade_facade
from swclip.synthetic.fields import F32, hash01, noise_tile, pulse, sample_tile
from swclip.synthetic.light import SpanLight, light_spans, lit_colour
from swclip.synthetic.paint import Columns
from swclip.synthetic.scene import BOLLARD, LAMP, PILLAR_BOX, ROUND_SIGN, SIGNAL, TREE, Scene
from swclip.synthetic.sprites import draw_sprite, sprite_sheet
from swclip.synthetic.surfaces import reflect_in_wet, shade_ground, shade_sky
from swclip.synthetic.traffic import Vehicles, shade_vehicles
from swclip.synthetic.visibility import Pixels, Spans, find_spans, pixels_of
from swclip.synthetic.walls import BACK, FENCE, FRONT, HEDGE, RIDGE, SIDE, STONE, VEHICLE, Walls

REACH_M = 170.0


@dataclass(frozen=True)
class Shot:
    """What is in one photograph beside the city itself.

    Attributes:
        camera: Where from and where to.
        conditions: The day.
        vehicles: Parked and moving.
        people_m: (N, 2) where people stand.
        key: Identity of the photograph: clothes, noise of the sensor.
    """

    camera: Camera
    conditions: Conditions
    vehicles: Vehicles
    people_m: NDArray[np.float64]
    key: int


def render(scene: Scene, shot: Shot, supersample: int = 2) -> NDArray[np.uint8]:
    """Render a photograph.

    Args:
        scene: The city.
        shot: Camera, day, vehicles and people.
        supersample: Rays per pixel along each side.

    Returns:
        (size, size, 3) sRGB.
    """
    camera = replace(shot.camera, size_px=shot.camera.size_px * supersample)
    light, _ = trace(scene, replace(shot, camera=camera))
    size, n = shot.camera.size_px, supersample
    light = light.reshape(size * n, size * n, 3)
    light = np.add.reduce([light[i::n, j::n] for i in range(n) for j in range(n)]) * np.float32(1.0 / n**2)
    return _develop(light.reshape(size, size, 3).transpose(1, 0, 2), shot)


def trace(scene: Scene, shot: Shot) -> tuple[F32, F32]:
    """Light and depth of each ray.

    Returns:
        (W * H, 3) linear light and (W * H,) depth in metres, both column by column.
    """
    camera, conditions = shot.camera, shot.conditions
    size = camera.size_px
    picture = np.zeros((size * size, 3), dtype=np.float32)
    depth = np.full(size * size, np.inf, dtype=np.float32)
    covered = np.zeros(size * size, dtype=bool)
    half = np.arctan(0.5 * size / camera.focal_px)
    city = scene.walls.before(np.array([camera.east_m, camera.north_m]), camera.forward, REACH_M, float(np.cos(half)))
    walls = Walls.joined([city, shot.vehicles.walls])
    spans = find_spans(camera, walls, REACH_M)
    light = light_spans(camera, walls, spans, scene.ground, conditions)
    kind = walls.kind[spans.wall]
    facade = (kind == FRONT) | (kind == SIDE) | (kind == BACK)
    for rows, shade in (
        (facade, _shade_buildings),
        (~facade & (kind != VEHICLE), _shade_plain),
        (kind == VEHICLE, _shade_vehicles),
    ):
        some = np.flatnonzero(rows)
        if not len(some):
            continue
        part = spans.take(some)
        pixels = pixels_of(camera, part)
        part_light = SpanLight(light.direct[some], light.ambient[some], light.shadow_m[some])
        picture[pixels.place] = shade(scene, shot, walls, part, pixels, part_light)
        depth[pixels.place] = part.depth_m[pixels.span]
        covered[pixels.place] = True
    _fill_ground_and_sky(scene, shot, picture, depth, covered)
    _draw_things(scene, shot, picture, depth)
    return picture, depth


def _direct(light: SpanLight, pixels: Pixels) -> F32:
    return np.asarray(
        light.direct[pixels.span] * np.clip((pixels.height_m - light.shadow_m[pixels.span]) / 0.5, 0.0, 1.0)
    )


def _shade_buildings(scene: Scene, shot: Shot, walls: Walls, spans: Spans, pixels: Pixels, light: SpanLight) -> F32:
    ends = walls.ends[spans.wall]
    length = np.hypot(ends[:, 1, 0] - ends[:, 0, 0], ends[:, 1, 1] - ends[:, 0, 1])
    pixel = spans.depth_m / np.float32(shot.camera.focal_px)
    columns = Columns.of(
        scene.buildings, walls.owner[spans.wall].astype(np.int64), walls.kind[spans.wall], spans.share * length, length,
        pixel * spans.oblique, pixel,
    )  # fmt: skip
    shaded = shade_facade(scene.buildings, columns, pixels.span, pixels.height_m, shot.conditions)
    low = 0.70 + 0.30 * np.clip(pixels.height_m / 7.0, 0.0, 1.0)
    ambient = light.ambient[pixels.span] * low * shaded.relief
    colour = lit_colour(shaded.albedo, _direct(light, pixels), ambient, shaded.glow, shot.conditions)
    return _hazed(colour, spans.depth_m[pixels.span], shot.conditions)


def _shade_plain(scene: Scene, shot: Shot, walls: Walls, spans: Spans, pixels: Pixels, light: SpanLight) -> F32:
    """Roofs, chimneys, garden walls, hedges, monuments."""
    b = scene.buildings
    wall = spans.wall[pixels.span]
    kind, owner = walls.kind[wall], walls.owner[wall]
    u = spans.share[pixels.span] * np.hypot(*(walls.ends[wall, 1] - walls.ends[wall, 0]).T)
    h = pixels.height_m
    z = spans.depth_m[pixels.span]
    building = np.where((kind == HEDGE) | (kind == STONE), 0, owner)
    noise = sample_tile(noise_tile(0.7), u * 22.0 + owner, h * 22.0)
    roof = b.roof[building] * (0.86 + 0.14 * pulse(h / 0.42, 0.0, 0.75, z / shot.camera.focal_px / 0.42))[:, None]
    brick = 0.85 * b.wall[building]
    leaf = 0.55 * shot.conditions.foliage + np.array([0.02, 0.04, 0.01], dtype=np.float32)
    hedge = leaf * (1.0 + 0.35 * noise)[:, None]
    stone = np.float32(0.30) * (0.85 + 0.15 * hash01(owner, 4))[:, None] * np.array([1.0, 0.97, 0.90], dtype=np.float32)
    k = kind[:, None]
    albedo = np.where(k == RIDGE, roof, np.where(k == HEDGE, hedge, np.where(k == STONE, stone, brick)))
    albedo = albedo * (1.0 + 0.06 * noise)[:, None]
    direct = _direct(light, pixels)
    # A slope looks half up: it gets the sun from both sides of the street.
    slope = np.maximum(0.7 * direct + 0.65 * shot.conditions.sun[2], 0.15)
    direct = np.where(kind == RIDGE, slope, direct).astype(np.float32)
    ambient = np.where((kind == FENCE) | (kind == HEDGE), 0.82, 0.98).astype(np.float32) * light.ambient[pixels.span]
    colour = lit_colour(albedo.astype(np.float32), direct, ambient, None, shot.conditions)
    return _hazed(colour, z, shot.conditions)


def _shade_vehicles(scene: Scene, shot: Shot, walls: Walls, spans: Spans, pixels: Pixels, light: SpanLight) -> F32:
    wall = spans.wall[pixels.span]
    length = np.hypot(*(walls.ends[wall, 1] - walls.ends[wall, 0]).T)
    z = spans.depth_m[pixels.span]
    pixel = (z / np.float32(shot.camera.focal_px)).astype(np.float32)
    albedo, glow, up = shade_vehicles(
        shot.vehicles, walls.owner[wall], spans.share[pixels.span] * length, length, pixels.height_m,
        spans.back[pixels.span], pixel,
    )  # fmt: skip
    direct = _direct(light, pixels)
    direct = direct + up * (shot.conditions.sun[2] * (light.shadow_m[pixels.span] < 1.5) - direct)
    ambient = light.ambient[pixels.span] * (0.80 + 0.25 * up)
    night = np.float32(0.15 + 0.85 * (shot.conditions.lit > 0.1))
    colour = lit_colour(albedo, direct.astype(np.float32), ambient.astype(np.float32), glow * night, shot.conditions)
    # Paint mirrors the sky a little.
    colour += (0.05 + 0.06 * up)[:, None] * shot.conditions.skylight * np.float32(0.6)
    return _hazed(colour, z, shot.conditions)


def _hazed(colour: F32, depth_m: F32, conditions: Conditions) -> F32:
    share = 1.0 - np.exp(depth_m * np.float32(-1.0 / conditions.haze_m))
    colour += share[:, None] * (conditions.horizon - colour)
    return colour


def _fill_ground_and_sky(scene: Scene, shot: Shot, picture: F32, depth: F32, covered: NDArray[np.bool_]) -> None:
    camera, conditions = shot.camera, shot.conditions
    size = camera.size_px
    rows = np.arange(size) + 0.5 - camera.horizon_px
    row_depth = np.where(rows > 0, camera.height_m * camera.focal_px / np.maximum(rows, 1e-3), np.inf).astype(
        np.float32
    )
    open_place = np.flatnonzero(~covered).astype(np.int32)
    z = row_depth[open_place % size]
    near = z < 420.0
    sky = open_place[~near]
    picture[sky] = shade_sky(camera, conditions, sky)
    place, z = open_place[near], z[near]
    slope = camera.slopes()[place // size]
    (fx, fy), (rx, ry) = camera.forward.tolist(), camera.right.tolist()
    x = np.float32(camera.east_m) + z * (fx + slope * rx)
    y = np.float32(camera.north_m) + z * (fy + slope * ry)
    pixel = z / np.float32(camera.focal_px)
    colour = shade_ground(scene, conditions, x, y, z, pixel, pixel * z / np.float32(camera.height_m))
    picture[place] = _hazed(colour, z, conditions)
    depth[place] = z
    if conditions.wet:
        reflect_in_wet(picture, camera, place, z, conditions.wet)


_METAL = linear(np.array([0.22, 0.24, 0.25]))
_RED = linear(np.array([0.78, 0.08, 0.10]))
_GREEN = linear(np.array([0.15, 0.75, 0.45]))
_LAMP_OFF = linear(np.array([0.85, 0.86, 0.84]))
_POSTS = {LAMP: "lamp", SIGNAL: "signal", BOLLARD: "bollard", PILLAR_BOX: "box", ROUND_SIGN: "sign"}


def _draw_things(scene: Scene, shot: Shot, picture: F32, depth: F32) -> None:
    camera, conditions, props = shot.camera, shot.conditions, scene.props
    offset = props.position_m - np.array([camera.east_m, camera.north_m])
    z, x = offset @ camera.forward, offset @ camera.right
    near = np.flatnonzero((z > 1.8) & (z < 95.0) & (np.abs(x) < 0.9 * z + 4.0))
    near = near[_may_show(camera, depth, x[near], z[near], props.height_m[near])]
    people = camera.to_view(shot.people_m) if len(shot.people_m) else np.zeros((0, 2), np.float32)
    queue = [(float(z[i]), float(x[i]), int(i)) for i in near] + [
        (float(p[1]), float(p[0]), -1 - i) for i, p in enumerate(people)
    ]
    sheet = sprite_sheet()
    light = conditions.skylight * np.float32(0.85) + 0.35 * conditions.sunlight
    for depth_m, across, i in sorted(queue, reverse=True):
        haze = 1.0 - float(np.exp(-depth_m / conditions.haze_m))
        key = int(props.key[i]) if i >= 0 else (shot.key * 131 - i * 7919) & 0x7FFFFFFF
        flip = bool(key & 1)
        if i < 0:
            sprite = sheet["person"][key % len(sheet["person"])]
            tint = hash01(np.arange(9), key).reshape(3, 3)
            tint = (0.35 * tint + 0.65 * tint[:, :1]).astype(np.float32) ** 1.8 * 0.45 + 0.015
            tint[2] = np.array([0.52, 0.34, 0.25], dtype=np.float32) * (0.35 + 0.75 * float(hash01(key, 4)))
            colours, height = tint * light, 1.60 + 0.25 * float(hash01(key, 5))
        elif props.kind[i] == TREE:
            family = sheet["leafy" if conditions.leaves else "bare"]
            sprite = family[key % len(family)]
            leaf = conditions.foliage * (0.75 + 0.5 * float(hash01(key, 3)))
            bark = np.array([0.11, 0.09, 0.07], dtype=np.float32)
            colours, height = np.stack([1.25 * leaf, 0.9 * leaf + 0.03, bark]) * light, float(props.height_m[i])
        else:
            sprite = sheet[_POSTS[int(props.kind[i])]][0]
            lamp = np.array([6.0, 4.4, 2.6], np.float32) if conditions.lit > 0.3 else _LAMP_OFF * light
            face = _RED * light
            if props.kind[i] == SIGNAL:
                lamp, face = (2.2 * _RED, 0.1 * _GREEN) if key & 2 else (0.1 * _RED, 2.2 * _GREEN)
            colours, height = np.stack([_METAL * light, lamp, face]).astype(np.float32), float(props.height_m[i])
        draw_sprite(
            picture,
            depth,
            camera,
            sprite,
            (across, depth_m),
            height,
            colours.astype(np.float32),
            (haze, conditions.horizon),
            flip,
        )


def _may_show(
    camera: Camera, depth: F32, x_m: NDArray[np.float64], z_m: NDArray[np.float64], height_m: F32
) -> NDArray[np.bool_]:
    """Whether any of a few points of each thing is not behind a wall, and it is more than a speck."""
    size, f = camera.size_px, camera.focal_px
    seen = np.zeros(len(x_m), dtype=bool)
    for up in (0.1, 0.45, 0.7, 0.95):
        row = np.clip(camera.horizon_px - f * (up * height_m - camera.height_m) / z_m, 0, size - 1).astype(np.int64)
        for aside in (-0.3, 0.0, 0.3):
            column = np.clip(0.5 * size + f * (x_m + aside * height_m) / z_m, 0, size - 1).astype(np.int64)
            seen |= depth[column * size + row] > z_m
    return seen & (f * height_m / z_m > 4.0)


def _develop(light: F32, shot: Shot) -> NDArray[np.uint8]:
    """The camera's response: exposure, white balance, a shoulder for highlights, noise of the sensor."""
    conditions = shot.conditions
    size = light.shape[0]
    exposed = light * (conditions.exposure * 1.18 * conditions.balance)
    grey = exposed @ np.array([0.30, 0.59, 0.11], dtype=np.float32)
    exposed += np.float32(0.06) * (grey[..., None] - exposed)
    # Below 0.6 straight, above it bent towards 1.
    over = np.maximum(exposed - 0.6, 0.0)
    exposed = np.minimum(exposed, 0.6) + over / (1.0 + over / 0.45)
    value = np.clip(exposed, 0.0, 1.0) ** np.float32(conditions.contrast / 2.2)
    across = np.linspace(-1.0, 1.0, size, dtype=np.float32)
    value *= (1.0 - 0.07 * (across[:, None] ** 2 + across[None, :] ** 2))[..., None]
    rng = np.random.default_rng(shot.key)
    value += rng.standard_normal((size, size, 1), dtype=np.float32) * np.float32(0.010)
    return np.asarray(np.clip(value, 0.0, 1.0) * 255.0 + 0.5, dtype=np.uint8)
