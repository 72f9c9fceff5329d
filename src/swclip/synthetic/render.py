"""Rendering of a photograph: walls, ground, sky, objects in the street, haze, and the response of the camera."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from swclip.synthetic.camera import Camera
from swclip.synthetic.conditions import Conditions
from swclip.synthetic.facade import shade_facade
from swclip.synthetic.fields import F32, hash01, noise_tile, pulse, sample_tile
from swclip.synthetic.paint import Columns
from swclip.synthetic.scene import Scene
from swclip.synthetic.sprites import draw_sprites
from swclip.synthetic.surfaces import SpanLight, light_spans, lit_colour, reflect_in_wet, shade_ground, shade_sky
from swclip.synthetic.traffic import Vehicles, shade_vehicles
from swclip.synthetic.visibility import Pixels, Spans, blocks_of, find_spans, pixels_of
from swclip.synthetic.walls import BACK, FENCE, FRONT, HEDGE, RIDGE, SIDE, STONE, VEHICLE, Walls

REACH_M = 170.0
_HORIZON_M = 420.0


@dataclass(frozen=True)
class Shot:
    """The variable content of one photograph.

    Attributes:
        camera: The camera.
        conditions: Light and weather.
        vehicles: Parked and moving vehicles.
        people_m: (N, 2) positions of people.
        key: Seed of the photograph, for clothes and sensor noise.
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
        shot: Camera, conditions, vehicles and people.
        supersample: Rays per pixel along each side.

    Returns:
        (size, size, 3) sRGB.
    """
    camera = replace(shot.camera, size_px=shot.camera.size_px * supersample)
    light, _ = trace(scene, replace(shot, camera=camera), supersample)
    size, n = shot.camera.size_px, supersample
    light = light.reshape(size * n, size * n, 3)
    light = np.add.reduce([light[i::n, j::n] for i in range(n) for j in range(n)]) * np.float32(1.0 / n**2)
    return _develop(light.reshape(size, size, 3).transpose(1, 0, 2), shot)


def trace(scene: Scene, shot: Shot, block: int = 1) -> tuple[F32, F32]:
    """Compute light and depth of each ray.

    Args:
        scene: The city.
        shot: Camera, conditions, vehicles and people.
        block: Number of rows that share the shading of a facade, and of rays along each side that share the shading of
            ground and sky. Outlines use every ray.

    Returns:
        (W * H, 3) linear light and (W * H,) depth in metres, both in column order.
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
    for rows, shade, rows_per_block in (
        (facade, _shade_buildings, block),
        (~facade & (kind != VEHICLE), _shade_plain, 1),
        (kind == VEHICLE, _shade_vehicles, 1),
    ):
        indices = np.flatnonzero(rows)
        if not len(indices):
            continue
        part = spans.take(indices)
        pixels = pixels_of(camera, part)
        shaded, number = blocks_of(camera, part, rows_per_block) if rows_per_block > 1 else (pixels, slice(None))
        part_light = SpanLight(light.direct[indices], light.ambient[indices], light.shadow_m[indices])
        picture[pixels.place] = shade(scene, shot, _Piece(walls, part, shaded, part_light, rows_per_block))[number]
        depth[pixels.place] = part.depth_m[pixels.span]
        covered[pixels.place] = True
    _fill_ground_and_sky(scene, shot, picture, depth, covered, block)
    draw_sprites(scene.props, camera, conditions, shot.people_m, shot.key, picture, depth)
    return picture, depth


@dataclass(frozen=True)
class _Piece:
    """Spans of walls of one kind, their pixels or blocks of pixels to shade, and the light on each span."""

    walls: Walls
    spans: Spans
    pixels: Pixels
    light: SpanLight
    block: int


def _direct(light: SpanLight, pixels: Pixels) -> F32:
    return np.asarray(
        light.direct[pixels.span] * np.clip((pixels.height_m - light.shadow_m[pixels.span]) / 0.5, 0.0, 1.0)
    )


def _shade_buildings(scene: Scene, shot: Shot, piece: _Piece) -> F32:
    walls, spans, pixels, light = piece.walls, piece.spans, piece.pixels, piece.light
    ends = walls.ends[spans.wall]
    length = np.hypot(ends[:, 1, 0] - ends[:, 0, 0], ends[:, 1, 1] - ends[:, 0, 1])
    pixel = spans.depth_m / np.float32(shot.camera.focal_px)
    columns = Columns.of(
        scene.buildings, walls.owner[spans.wall].astype(np.int64), walls.kind[spans.wall], spans.share * length, length,
        pixel * spans.oblique, pixel * np.float32(piece.block),
    )  # fmt: skip
    shaded = shade_facade(scene.buildings, columns, pixels.span, pixels.height_m, shot.conditions)
    low = 0.70 + 0.30 * np.clip(pixels.height_m / 7.0, 0.0, 1.0)
    ambient = light.ambient[pixels.span] * low * shaded.relief
    colour = lit_colour(shaded.albedo, _direct(light, pixels), ambient, shaded.glow, shot.conditions)
    return _hazed(colour, spans.depth_m[pixels.span], shot.conditions)


def _shade_plain(scene: Scene, shot: Shot, piece: _Piece) -> F32:
    """Shade roofs, chimneys, garden walls, hedges and monuments."""
    walls, spans, pixels, light = piece.walls, piece.spans, piece.pixels, piece.light
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
    # A slope faces partly upwards and gets sunlight on both sides of the street.
    slope = np.maximum(0.7 * direct + 0.65 * shot.conditions.sun[2], 0.15)
    direct = np.where(kind == RIDGE, slope, direct).astype(np.float32)
    ambient = np.where((kind == FENCE) | (kind == HEDGE), 0.82, 0.98).astype(np.float32) * light.ambient[pixels.span]
    colour = lit_colour(albedo.astype(np.float32), direct, ambient, None, shot.conditions)
    return _hazed(colour, z, shot.conditions)


def _shade_vehicles(scene: Scene, shot: Shot, piece: _Piece) -> F32:
    walls, spans, pixels, light = piece.walls, piece.spans, piece.pixels, piece.light
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
    # Car paint reflects some of the sky.
    colour += (0.05 + 0.06 * up)[:, None] * shot.conditions.skylight * np.float32(0.6)
    return _hazed(colour, z, shot.conditions)


def _hazed(colour: F32, depth_m: F32, conditions: Conditions) -> F32:
    share = 1.0 - np.exp(depth_m * np.float32(-1.0 / conditions.haze_m))
    colour += share[:, None] * (conditions.horizon - colour)
    return colour


def _fill_ground_and_sky(
    scene: Scene, shot: Shot, picture: F32, depth: F32, covered: NDArray[np.bool_], block: int
) -> None:
    """Shade the pixels without walls, once per block of rays, over which ground and sky are filtered."""
    camera, conditions = shot.camera, shot.conditions
    size, side = camera.size_px, camera.size_px // block
    place = np.flatnonzero(~covered).astype(np.int32)
    column, row = place // size, place % size
    cell = (column // block) * np.int32(side) + row // block
    needed = np.zeros(side * side, dtype=bool)
    needed[cell] = True
    cells = np.flatnonzero(needed)
    slope = ((cells // side + 0.5) * block - 0.5 * size).astype(np.float32) / np.float32(camera.focal_px)
    rise = np.float32(camera.horizon_px) - ((cells % side + 0.5) * block).astype(np.float32)
    rise = np.where(np.abs(rise) < 0.25, np.float32(0.25), rise) / np.float32(camera.focal_px)
    z = (-camera.height_m / rise).astype(np.float32)
    near = (rise < 0) & (z < _HORIZON_M)
    colour = np.zeros((side * side, 3), dtype=np.float32)
    colour[cells[~near]] = shade_sky(camera, conditions, slope[~near], np.maximum(rise[~near], 0.004))
    z, slope = z[near], slope[near]
    (fx, fy), (rx, ry) = camera.forward.tolist(), camera.right.tolist()
    x = np.float32(camera.east_m) + z * (fx + slope * rx)
    y = np.float32(camera.north_m) + z * (fy + slope * ry)
    pixel = (z * (block / camera.focal_px)).astype(np.float32)
    deep = (pixel * z / camera.height_m).astype(np.float32)
    ground = shade_ground(scene, conditions, x.astype(np.float32), y.astype(np.float32), pixel, deep)
    colour[cells[near]] = _hazed(ground, z, conditions)
    picture[place] = colour[cell]
    rows = np.arange(size) + 0.5 - camera.horizon_px
    row_depth = np.where(rows > 0, camera.height_m * camera.focal_px / np.maximum(rows, 1e-3), np.inf).astype(
        np.float32
    )
    row_depth[row_depth >= _HORIZON_M] = np.inf
    depth[place] = row_depth[row]
    if conditions.wet:
        wet = place[np.isfinite(depth[place])]
        reflect_in_wet(picture, camera, wet, depth[wet], conditions.wet)


def _develop(light: F32, shot: Shot) -> NDArray[np.uint8]:
    """Apply the response of the camera: exposure, white balance, compression of highlights, sensor noise."""
    conditions = shot.conditions
    size = light.shape[0]
    exposed = light * (conditions.exposure * 1.18 * conditions.balance)
    grey = exposed @ np.array([0.30, 0.59, 0.11], dtype=np.float32)
    exposed += np.float32(0.06) * (grey[..., None] - exposed)
    # Linear below 0.6, compressed towards 1 above.
    over = np.maximum(exposed - 0.6, 0.0)
    exposed = np.minimum(exposed, 0.6) + over / (1.0 + over / 0.45)
    table = np.linspace(0.0, 1.0, 8192, dtype=np.float32) ** np.float32(conditions.contrast / 2.2)
    value = table[(np.clip(exposed, 0.0, 1.0) * 8191.0).astype(np.int32)]
    across = np.linspace(-1.0, 1.0, size, dtype=np.float32)
    value *= (1.0 - 0.07 * (across[:, None] ** 2 + across[None, :] ** 2))[..., None]
    rng = np.random.default_rng(shot.key)
    value += rng.standard_normal((size, size, 1), dtype=np.float32) * np.float32(0.010)
    return np.asarray(np.clip(value, 0.0, 1.0) * 255.0 + 0.5, dtype=np.uint8)
