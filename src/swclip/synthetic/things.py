"""Trees, posts and people of one photograph: which ones show, in which light, drawn from far to near."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from swclip.synthetic.buildings import linear
from swclip.synthetic.camera import Camera
from swclip.synthetic.conditions import Conditions
from swclip.synthetic.fields import F32, hash01
from swclip.synthetic.scene import BOLLARD, LAMP, PILLAR_BOX, ROUND_SIGN, SIGNAL, TREE, Props
from swclip.synthetic.sprites import draw_sprite, sprite_sheet

_METAL = linear(np.array([0.22, 0.24, 0.25]))
_RED = linear(np.array([0.78, 0.08, 0.10]))
_GREEN = linear(np.array([0.15, 0.75, 0.45]))
_LAMP_OFF = linear(np.array([0.85, 0.86, 0.84]))
_POSTS = {LAMP: "lamp", SIGNAL: "signal", BOLLARD: "bollard", PILLAR_BOX: "box", ROUND_SIGN: "sign"}


def draw_things(
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
        props: What stands in the city's streets.
        camera: The camera.
        conditions: The day.
        people_m: (N, 2) where people stand.
        key: Identity of the photograph: who the people are.
        picture: (W * H, 3) linear light, column by column; changed in place.
        depth: (W * H,) depth of each pixel.
    """
    offset = props.position_m - np.array([camera.east_m, camera.north_m])
    z, x = offset @ camera.forward, offset @ camera.right
    near = np.flatnonzero((z > 1.8) & (z < 95.0) & (np.abs(x) < 0.9 * z + 4.0))
    near = near[_may_show(camera, depth, x[near], z[near], props.height_m[near])]
    people = camera.to_view(people_m) if len(people_m) else np.zeros((0, 2), np.float32)
    queue = [(float(z[i]), float(x[i]), int(i)) for i in near] + [
        (float(p[1]), float(p[0]), -1 - i) for i, p in enumerate(people)
    ]
    sheet = sprite_sheet()
    light = conditions.skylight * np.float32(0.85) + 0.35 * conditions.sunlight
    for depth_m, across, i in sorted(queue, reverse=True):
        haze = 1.0 - float(np.exp(-depth_m / conditions.haze_m))
        own = int(props.key[i]) if i >= 0 else (key * 131 - i * 7919) & 0x7FFFFFFF
        flip = bool(own & 1)
        if i < 0:
            sprite = sheet["person"][own % len(sheet["person"])]
            tint = hash01(np.arange(9), own).reshape(3, 3)
            tint = (0.35 * tint + 0.65 * tint[:, :1]).astype(np.float32) ** 1.8 * 0.45 + 0.015
            tint[2] = np.array([0.52, 0.34, 0.25], dtype=np.float32) * (0.35 + 0.75 * float(hash01(own, 4)))
            colours, height = tint * light, 1.60 + 0.25 * float(hash01(own, 5))
        elif props.kind[i] == TREE:
            family = sheet["leafy" if conditions.leaves else "bare"]
            sprite = family[own % len(family)]
            leaf = conditions.foliage * (0.75 + 0.5 * float(hash01(own, 3)))
            bark = np.array([0.11, 0.09, 0.07], dtype=np.float32)
            colours, height = np.stack([1.25 * leaf, 0.9 * leaf + 0.03, bark]) * light, float(props.height_m[i])
        else:
            sprite = sheet[_POSTS[int(props.kind[i])]][0]
            lamp = np.array([6.0, 4.4, 2.6], np.float32) if conditions.lit > 0.3 else _LAMP_OFF * light
            face = _RED * light
            if props.kind[i] == SIGNAL:
                lamp, face = (2.2 * _RED, 0.1 * _GREEN) if own & 2 else (0.1 * _RED, 2.2 * _GREEN)
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
