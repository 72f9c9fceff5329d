"""Sprites of trees, posts and people, drawn from far to near.

Each kind is a small picture that faces the camera, drawn once as three weights and a coverage; an instance sets the
three colours. Copies at halved sizes (mipmaps) let a distant tree show the average of its leaves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from swclip.synthetic.buildings import linear
from swclip.synthetic.camera import Camera
from swclip.synthetic.conditions import Conditions
from swclip.synthetic.fields import F32, hash01, noise_tile
from swclip.synthetic.scene import BOLLARD, LAMP, PILLAR_BOX, ROUND_SIGN, SIGNAL, TREE, Props

_METAL = linear(np.array([0.22, 0.24, 0.25]))
_RED = linear(np.array([0.78, 0.08, 0.10]))
_GREEN = linear(np.array([0.15, 0.75, 0.45]))
_LAMP_OFF = linear(np.array([0.85, 0.86, 0.84]))
_POSTS = {LAMP: "lamp", SIGNAL: "signal", BOLLARD: "bollard", PILLAR_BOX: "box", ROUND_SIGN: "sign"}


def draw_sprites(
    props: Props,
    camera: Camera,
    conditions: Conditions,
    people_m: NDArray[np.float64],
    key: int,
    picture: F32,
    depth: F32,
) -> None:
    """Draw trees, posts and people into a picture, from far to near.

    Args:
        props: Objects in the streets.
        camera: The camera.
        conditions: Light and weather.
        people_m: (N, 2) positions of people.
        key: Seed of the photograph, for the appearance of people.
        picture: (W * H, 3) linear light, in column order; changed in place.
        depth: (W * H,) depth of each pixel.
    """
    offset = props.position_m - np.array([camera.east_m, camera.north_m])
    z, x = offset @ camera.forward, offset @ camera.right
    near = np.flatnonzero((z > 1.8) & (z < 95.0) & (np.abs(x) < 0.9 * z + 4.0))
    near = near[_potentially_visible(camera, depth, x[near], z[near], props.height_m[near])]
    people = camera.to_view(people_m) if len(people_m) else np.zeros((0, 2), np.float32)
    queue = [(float(z[i]), float(x[i]), int(i)) for i in near] + [
        (float(p[1]), float(p[0]), -1 - i) for i, p in enumerate(people)
    ]
    sheet = sprite_sheet()
    light = conditions.skylight * np.float32(0.85) + 0.35 * conditions.sunlight
    for depth_m, across, i in sorted(queue, reverse=True):
        haze = 1.0 - float(np.exp(-depth_m / conditions.haze_m))
        seed = int(props.key[i]) if i >= 0 else (key * 131 - i * 7919) & 0x7FFFFFFF
        flip = bool(seed & 1)
        if i < 0:
            sprite = sheet["person"][seed % len(sheet["person"])]
            tint = hash01(np.arange(9), seed).reshape(3, 3)
            tint = (0.35 * tint + 0.65 * tint[:, :1]).astype(np.float32) ** 1.8 * 0.45 + 0.015
            tint[2] = np.array([0.52, 0.34, 0.25], dtype=np.float32) * (0.35 + 0.75 * float(hash01(seed, 4)))
            colours, height = tint * light, 1.60 + 0.25 * float(hash01(seed, 5))
        elif props.kind[i] == TREE:
            family = sheet["leafy" if conditions.leaves else "bare"]
            sprite = family[seed % len(family)]
            leaf = conditions.foliage * (0.75 + 0.5 * float(hash01(seed, 3)))
            bark = np.array([0.11, 0.09, 0.07], dtype=np.float32)
            colours, height = np.stack([1.25 * leaf, 0.9 * leaf + 0.03, bark]) * light, float(props.height_m[i])
        else:
            sprite = sheet[_POSTS[int(props.kind[i])]][0]
            lamp = np.array([6.0, 4.4, 2.6], np.float32) if conditions.lit > 0.3 else _LAMP_OFF * light
            face = _RED * light
            if props.kind[i] == SIGNAL:
                lamp, face = (2.2 * _RED, 0.1 * _GREEN) if seed & 2 else (0.1 * _RED, 2.2 * _GREEN)
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


def _potentially_visible(
    camera: Camera, depth: F32, x_m: NDArray[np.float64], z_m: NDArray[np.float64], height_m: F32
) -> NDArray[np.bool_]:
    """Return whether any of several sample points of each object is in front of the walls, and it is large enough."""
    size, f = camera.size_px, camera.focal_px
    visible = np.zeros(len(x_m), dtype=bool)
    for up in (0.1, 0.45, 0.7, 0.95):
        row = np.clip(camera.horizon_px - f * (up * height_m - camera.height_m) / z_m, 0, size - 1).astype(np.int64)
        for aside in (-0.3, 0.0, 0.3):
            column = np.clip(0.5 * size + f * (x_m + aside * height_m) / z_m, 0, size - 1).astype(np.int64)
            visible |= depth[column * size + row] > z_m
    return visible & (f * height_m / z_m > 4.0)


_HEIGHT = 512


@dataclass(frozen=True)
class Sprite:
    """A sprite at several sizes.

    Attributes:
        levels: Arrays (h, w, 4) of decreasing size: three weights times coverage, and coverage.
        aspect: Width divided by height.
    """

    levels: tuple[F32, ...]
    aspect: float


def _sprite(image: Image.Image, skip: int = 0) -> Sprite:
    """Build a sprite from RGBA, whose red, green and blue are the three weights; omit the first `skip` levels."""
    full = np.asarray(image, dtype=np.float32) / 255.0
    full = np.concatenate([full[..., :3] * full[..., 3:], full[..., 3:]], axis=2)
    levels = [full]
    while min(levels[-1].shape[:2]) >= 4:
        last = levels[-1][: levels[-1].shape[0] // 2 * 2, : levels[-1].shape[1] // 2 * 2]
        h, w = last.shape[0] // 2, last.shape[1] // 2
        levels.append(last.reshape(h, 2, w, 2, 4).mean(axis=(1, 3)))
    return Sprite(tuple(np.ascontiguousarray(level) for level in levels[skip:]), image.width / image.height)


def _leafy(rng: np.random.Generator) -> Sprite:
    width = int(_HEIGHT * rng.uniform(0.62, 0.80))
    image = Image.new("RGBA", (width, _HEIGHT), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    middle = width / 2
    crown_y, crown_ry, crown_rx = 0.40 * _HEIGHT, 0.36 * _HEIGHT, 0.42 * width
    draw.polygon(
        [(middle - 8, _HEIGHT), (middle - 4, 0.5 * _HEIGHT), (middle + 4, 0.5 * _HEIGHT), (middle + 8, _HEIGHT)],
        (0, 0, 255, 255),
    )
    for side in (-1, 1):
        draw.line([(middle, 0.72 * _HEIGHT), (middle + side * 0.2 * width, 0.5 * _HEIGHT)], (0, 0, 255, 255), 5)
    for layer in range(3):
        for _ in range(60):
            angle, radius = rng.uniform(0, 2 * np.pi), np.sqrt(rng.random()) * (1.0 - 0.12 * layer)
            x = middle + crown_rx * radius * np.cos(angle) - 5 * layer
            y = crown_y + crown_ry * radius * np.sin(angle) - 8 * layer
            size = rng.uniform(0.05, 0.105) * _HEIGHT
            light = 70 + 48 * layer + rng.uniform(-22, 22) - 60 * (y - crown_y) / crown_ry
            shade = int(np.clip(light, 25, 235))
            draw.ellipse([x - size, y - size, x + size, y + size], (shade, max(0, shade - 120), 0, 255))
    pixels = np.asarray(image).astype(np.float32)
    noise = np.tile(noise_tile(0.8), (3, 3))[:_HEIGHT, :width]
    coarse = np.roll(noise, (91, 37), (0, 1))
    leaves = pixels[..., 2] == 0
    pixels[..., 0] *= np.where(leaves, np.clip(1.0 + 0.30 * noise, 0.4, 1.7), 1.0)
    inner = np.clip(
        1.0
        - np.hypot((np.arange(width)[None] - middle) / crown_rx, (np.arange(_HEIGHT)[:, None] - crown_y) / crown_ry),
        0,
        1,
    )
    holes = leaves & (coarse > 1.1 + 3.0 * inner)
    pixels[..., 3] = np.where(holes, 0.0, pixels[..., 3])
    return _sprite(Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)))


def _bare(rng: np.random.Generator) -> Sprite:
    height = 2 * _HEIGHT
    width = int(height * 0.72)
    image = Image.new("RGBA", (width, height), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    stack: list[tuple[float, float, float, float, float]] = [
        (width / 2, float(height), -np.pi / 2, 0.30 * height, 30.0)
    ]
    while stack:
        x, y, angle, length, thick = stack.pop()
        x2, y2 = x + length * np.cos(angle), y + length * np.sin(angle)
        draw.line([(x, y), (x2, y2)], (0, 0, 255, 255), max(1, round(thick)))
        if thick > 2.2:
            for turn in rng.normal(0.0, 0.14) + np.array([-0.42, 0.05, 0.46]) * rng.uniform(0.7, 1.25):
                stack.append((x2, y2, angle + turn, length * rng.uniform(0.60, 0.80), thick * 0.58))
    return _sprite(image, skip=1)


def _person(rng: np.random.Generator) -> Sprite:
    width = int(0.42 * _HEIGHT)
    image = Image.new("RGBA", (width, _HEIGHT), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    m, h = width / 2, _HEIGHT
    stride = rng.uniform(0.06, 0.20) * width
    for side in (-1, 1):
        draw.line(
            [(m + 6 * side, 0.50 * h), (m + side * stride, 0.97 * h)], (0, 215 + 20 * side, 0, 255), int(0.075 * h)
        )
        draw.ellipse([m + side * stride - 16, 0.945 * h, m + side * stride + 20, 0.995 * h], (0, 40, 0, 255))
        draw.line(
            [(m + side * 0.22 * width, 0.24 * h), (m + side * (0.27 + 0.4 * stride / width) * width, 0.52 * h)],
            (185, 0, 0, 255),
            int(0.055 * h),
        )
    skirt = rng.random() < 0.35
    draw.rounded_rectangle(
        [m - 0.24 * width, 0.175 * h, m + 0.24 * width, (0.66 if skirt else 0.54) * h], 18, (225, 0, 0, 255)
    )
    draw.ellipse([m - 0.052 * h, 0.035 * h, m + 0.052 * h, 0.165 * h], (0, 0, 235, 255))
    draw.pieslice([m - 0.058 * h, 0.02 * h, m + 0.058 * h, 0.15 * h], 170, 370, (0, 45, 0, 255))
    if rng.random() < 0.4:
        draw.rounded_rectangle([m + 0.22 * width, 0.5 * h, m + 0.44 * width, 0.64 * h], 6, (60, 90, 0, 255))
    return _sprite(image)


def _post(kind: str) -> Sprite:
    width = {"lamp": 110, "signal": 70, "bollard": 80, "box": 150, "sign": 100}[kind]
    image = Image.new("RGBA", (width, _HEIGHT), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    m, h = width / 2, _HEIGHT
    metal, light, face = (255, 0, 0, 255), (0, 255, 0, 255), (0, 0, 255, 255)
    if kind == "lamp":
        draw.polygon([(m - 5, h), (m - 2.5, 0.05 * h), (m + 2.5, 0.05 * h), (m + 5, h)], metal)
        draw.line([(m, 0.06 * h), (m + 34, 0.02 * h)], metal, 5)
        draw.rounded_rectangle([m + 24, 0.012 * h, m + 53, 0.032 * h], 4, light)
    elif kind == "signal":
        draw.rectangle([m - 5, 0.25 * h, m + 5, h], metal)
        draw.rounded_rectangle([m - 24, 0.0, m + 24, 0.30 * h], 8, (90, 0, 0, 255))
        for row, tone in enumerate((light, (40, 30, 0, 255), face)):
            draw.ellipse([m - 15, (0.015 + 0.095 * row) * h, m + 15, (0.015 + 0.095 * row) * h + 30], tone)
    elif kind == "bollard":
        draw.rounded_rectangle([m - 26, 6, m + 26, h], 20, metal)
        draw.rectangle([m - 26, 60, m + 26, 100], light)
    elif kind == "box":
        draw.rounded_rectangle([m - 66, 0.05 * h, m + 66, h], 24, face)
        draw.rectangle([m - 72, 0.06 * h, m + 72, 0.11 * h], face)
        draw.rectangle([m - 36, 0.20 * h, m + 36, 0.23 * h], (30, 0, 0, 255))
        draw.rectangle([m - 66, 0.9 * h, m + 66, h], (40, 0, 0, 255))
    else:
        draw.rectangle([m - 5, 0.2 * h, m + 5, h], metal)
        draw.ellipse([m - 48, 0, m + 48, 96], face)
        draw.ellipse([m - 34, 14, m + 34, 82], light)
    return _sprite(image)


@lru_cache(maxsize=1)
def sprite_sheet() -> dict[str, tuple[Sprite, ...]]:
    """Draw all sprites by name, from a fixed seed; cached per process."""
    rng = np.random.default_rng(7)
    return {
        "leafy": tuple(_leafy(rng) for _ in range(5)),
        "bare": tuple(_bare(rng) for _ in range(3)),
        "person": tuple(_person(rng) for _ in range(6)),
        **{kind: (_post(kind),) for kind in ("lamp", "signal", "bollard", "box", "sign")},
    }


def draw_sprite(
    picture: F32, depth_m: F32, camera: Camera, sprite: Sprite, view: tuple[float, float], height_m: float,
    colours: F32, fog: tuple[float, F32], flip: bool,
) -> None:  # fmt: skip
    """Blend one sprite into a picture, except behind nearer pixels.

    Args:
        picture: (W * H, 3) linear light, in column order; changed in place.
        depth_m: (W * H,) depth of each pixel.
        camera: The camera.
        sprite: The sprite.
        view: Metres to the right, and depth.
        height_m: Height of the object above the ground.
        colours: (3, 3) light of the three weights.
        fog: Share of haze, and its colour.
        flip: Whether to mirror the sprite horizontally.
    """
    size, z = camera.size_px, view[1]
    foot = camera.horizon_px + camera.focal_px * camera.height_m / z
    tall = camera.focal_px * height_m / z
    wide = tall * sprite.aspect
    left = 0.5 * size + camera.focal_px * view[0] / z - 0.5 * wide
    c0, c1 = max(0, round(left)), min(size, round(left + wide) + (wide < 1.0))
    r0, r1 = max(0, round(foot - tall)), min(size, round(foot))
    if c0 >= c1 or r0 >= r1:
        return
    before = depth_m.reshape(size, size)[c0:c1, r0:r1] > z
    if not before.any():
        return
    level = sprite.levels[int(np.clip(np.floor(np.log2(max(_HEIGHT / tall, 1.0)) + 0.4), 0, len(sprite.levels) - 1))]
    h, w = level.shape[:2]
    x = np.clip((np.arange(c0, c1) + 0.5 - left) / wide * w, 0, w - 1).astype(np.int32)
    y = np.clip((np.arange(r0, r1) + 0.5 - (foot - tall)) / tall * h, 0, h - 1).astype(np.int32)
    piece = level[y[None, :], (w - 1 - x if flip else x)[:, None]]  # (columns, rows, 4)
    target = picture.reshape(size, size, 3)[c0:c1, r0:r1]
    cover = piece[..., 3:] * before[..., None]
    light = piece[..., :3] @ colours
    share, haze = fog
    light += share * (piece[..., 3:] * haze - light)
    target *= 1.0 - cover
    target += light * before[..., None]
