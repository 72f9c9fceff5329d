"""Light on surfaces: sun, cast shadows, sky, and the darkening towards the foot of a street."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from swclip.synthetic.camera import Camera
from swclip.synthetic.conditions import Conditions
from swclip.synthetic.fields import F32
from swclip.synthetic.ground import Ground
from swclip.synthetic.visibility import Spans
from swclip.synthetic.walls import Walls

_STEPS_M = (2.5, 5.0, 8.0, 12.0, 17.0, 23.0, 30.0, 40.0)
GLOW = np.array([1.0, 0.80, 0.52], dtype=np.float32)
"""Colour of lamps."""


@dataclass(frozen=True)
class SpanLight:
    """Light on the walls, one entry for each span.

    Attributes:
        direct: (N,) cosine between the wall and the sun, 0 when it is turned away.
        ambient: (N,) factor on the light of the sky.
        shadow_m: (N,) height below which the wall lies in a shadow.
    """

    direct: F32
    ambient: F32
    shadow_m: F32


def shadow_height(ground: Ground, conditions: Conditions, x_m: F32, y_m: F32) -> F32:
    """Height up to which a vertical line at each point is in the shadow of buildings."""
    flat = float(np.hypot(conditions.sun[0], conditions.sun[1]))
    tangent = float(conditions.sun[2]) / flat
    dx, dy = np.float32(conditions.sun[0] / flat), np.float32(conditions.sun[1] / flat)
    highest = np.zeros(len(x_m), dtype=np.float32)
    for distance in _STEPS_M:
        roof = ground.roof_at(x_m + np.float32(distance) * dx, y_m + np.float32(distance) * dy)
        np.maximum(highest, roof - np.float32(distance * tangent), out=highest)
    return highest


def light_spans(camera: Camera, walls: Walls, spans: Spans, ground: Ground, conditions: Conditions) -> SpanLight:
    """Light on each span of wall."""
    ends = walls.ends[spans.wall]
    along = ends[:, 1] - ends[:, 0]
    along /= np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-6)[:, None]
    normal = np.stack([along[:, 1], -along[:, 0]], axis=1)
    facing = normal[:, 0] * conditions.sun[0] + normal[:, 1] * conditions.sun[1]
    point = ends[:, 0] + spans.share[:, None] * (ends[:, 1] - ends[:, 0]) + 0.9 * normal
    x, y = point[:, 0].astype(np.float32), point[:, 1].astype(np.float32)
    shadow = shadow_height(ground, conditions, x, y) if conditions.sunny else np.zeros(len(x), dtype=np.float32)
    # Even under cloud the side away from the bright part of the sky is darker: corners stay visible.
    ambient = 0.88 + 0.12 * facing + 0.05 * normal[:, 0]
    return SpanLight(np.maximum(facing, 0.0), ambient.astype(np.float32), shadow)


def lit_colour(albedo: F32, direct: F32, ambient: F32, glow: F32 | None, conditions: Conditions) -> NDArray[np.float32]:
    """Albedo (P, 3) under the sun's and the sky's light, by factors (P,) of each; `glow` adds lamplight."""
    light = ambient[:, None] * conditions.skylight
    light += direct[:, None] * conditions.sunlight
    if glow is not None:
        light += glow[:, None] * GLOW
    light *= albedo
    return light
