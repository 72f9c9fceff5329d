"""Materials of facades: layers of paint, glass, masonry, and the positions of windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swclip.synthetic.buildings import Buildings
from swclip.synthetic.fields import F32, I64, hash01, noise_tile, pulse, sample_tile
from swclip.synthetic.walls import FRONT

_DARK = np.array([0.022, 0.027, 0.034], dtype=np.float32)
_SKY = np.array([0.36, 0.43, 0.52], dtype=np.float32)
CURTAIN = np.array([0.58, 0.54, 0.46], dtype=np.float32)
_WARM = np.array([1.0, 0.86, 0.60], dtype=np.float32)
SHOP_GLASS = (_DARK + 0.35 * (_SKY - _DARK)).astype(np.float32)

Zone = tuple[F32, F32, F32]
"""Albedo (P, 3), share of lamplight (P,), and darkening by relief (P,) of the pixels of one part of a facade."""


class Paint:
    """Layers from front to back: each covers a share of the area that the layers before it leave."""

    def __init__(self, count: int) -> None:
        self.remaining: F32 = np.ones(count, dtype=np.float32)
        self.albedo: F32 = np.zeros((count, 3), dtype=np.float32)

    def put(self, cover: F32, colour: NDArray[np.float32]) -> F32:
        """Add a layer with coverage (P,) and colours (P, 3) or (3,); return its visible share (P,)."""
        visible = self.remaining * cover
        self.albedo += visible[:, None] * colour
        self.remaining -= visible
        return visible


@dataclass(frozen=True)
class Columns:
    """Position and window pattern of spans of facades: arrays over N spans.

    Attributes:
        building: Number of the building.
        kind: Kind of the wall.
        u: Metres along the wall.
        length: Length of the wall, metres.
        bays: Number of bays.
        bay: Number of the bay.
        pixel_u: Width of the pixel on the wall, metres.
        pixel_v: Height of the pixel on the wall, metres.
        window: Coverage by windows.
        glass: Coverage by panes.
        around: Coverage by windows with their surrounds.
        bar: Coverage by glazing bars.
    """

    building: I64
    kind: NDArray[np.int32]
    u: F32
    length: F32
    bays: F32
    bay: F32
    pixel_u: F32
    pixel_v: F32
    window: F32
    glass: F32
    around: F32
    bar: F32

    @classmethod
    def of(
        cls, b: Buildings, building: I64, kind: NDArray[np.int32], u: F32, length: F32, pixel_u: F32, pixel_v: F32
    ) -> Columns:
        """Compute the pattern of spans from their position and the buildings."""
        bays = np.maximum(np.rint(length / b.bay_m[building]), 1.0)
        pitch = length / bays
        bay_u, wide = u / pitch, pixel_u / pitch
        w = b.window_w[building] * np.where(kind == FRONT, 1.0, 0.72)
        edge = np.minimum(0.07 / pitch, 0.12 * w)
        lo, hi = 0.5 - 0.5 * w, 0.5 + 0.5 * w
        middle = pulse(bay_u, 0.5 - 0.5 * edge, 0.5 + 0.5 * edge, wide)
        thirds = pulse(bay_u, lo + w / 3 - 0.4 * edge, lo + w / 3 + 0.4 * edge, wide)
        thirds = thirds + pulse(bay_u, hi - w / 3 - 0.4 * edge, hi - w / 3 + 0.4 * edge, wide)
        bars = b.bars[building]
        return cls(
            building=building, kind=kind, u=u, length=length, bays=bays.astype(np.float32),
            bay=np.floor(bay_u).astype(np.float32), pixel_u=pixel_u, pixel_v=pixel_v,
            window=pulse(bay_u, lo, hi, wide), glass=pulse(bay_u, lo + edge, hi - edge, wide),
            around=pulse(bay_u, lo - 2.2 * edge, hi + 2.2 * edge, wide),
            bar=np.where(bars == 1, middle, np.where(bars == 2, thirds, 0.0)).astype(np.float32),
        )  # fmt: skip


def glass_colour(b: Buildings, building: I64, a: Any, c: Any, lift: F32, calm: F32, lit: float) -> tuple[F32, F32]:
    """Return colours of window panes and whether they are lit.

    Args:
        b: All buildings.
        building: (P,) number of the building.
        a: Number of the window along the wall.
        c: Number of the floor.
        lift: (P,) height within the window, 0 to 1.
        calm: (P,) 0 for near windows; towards 1, distant windows get an average colour.
        lit: Share of lit windows.

    Returns:
        Colours (P, 3) and the share of lamplight (P,).
    """
    key = b.key[building]
    r = hash01(key, a, c)
    r = r + calm * (0.5 - r)
    value = 0.12 + 0.50 * r * r + 0.25 * lift
    colour = _DARK + value[:, None] * (_SKY - _DARK)
    # Each blind is lowered to a random height.
    blind = np.clip((lift - 3.2 * hash01(key, a, c, 3)) * 12.0, 0.0, 1.0) * (1.0 - calm)
    colour += blind[:, None] * (CURTAIN * np.float32(0.72) - colour)
    glow = (hash01(key, a, c, 9) < lit).astype(np.float32) * (1.0 - calm) + lit * calm
    colour += (glow * np.float32(0.9 if lit > 0.3 else 0.45))[:, None] * (_WARM - colour)
    return colour, glow


def wall_texture(material: NDArray[np.int32], key: NDArray[np.int32], u: F32, height: F32, pixel: F32) -> F32:
    """Return a factor (P,) on the colour of walls: courses of brick and stone at short distance, stains at any."""
    stain = sample_tile(noise_tile(1.1), u * 9.0 + (key & 255), height * 9.0)
    factor = 1.0 + 0.045 * stain
    masonry = np.flatnonzero((material <= 1) & (pixel < np.where(material == 0, 0.06, 0.25)))
    if len(masonry):
        stone = material[masonry] == 1
        course_m = np.where(stone, 0.34, 0.085).astype(np.float32)
        block_m = np.where(stone, 0.72, 0.24).astype(np.float32)
        v = height[masonry] / course_m
        row = np.floor(v)
        x = u[masonry] / block_m + 0.5 * (row % 2)
        fade = np.clip(1.4 - 1.6 * pixel[masonry] / course_m, 0.0, 1.0)
        tone = (hash01(row, np.floor(x), key[masonry]) - 0.5) * np.where(stone, 0.22, 0.34)
        joint = 1.0 - (1.0 - pulse(v, 0.06, 0.94, pixel[masonry] / course_m)) * 0.28
        joint *= 1.0 - (1.0 - pulse(x, 0.03, 0.97, pixel[masonry] / block_m)) * 0.30
        factor[masonry] *= 1.0 + fade * ((1.0 + tone) * joint - 1.0)
    panel = np.flatnonzero(material == 4)
    if len(panel):
        v, x = height[panel] / 1.6, u[panel] / 2.4
        lines = pulse(v, 0.015, 0.985, pixel[panel] / 1.6) * pulse(x, 0.012, 0.988, pixel[panel] / 2.4)
        factor[panel] *= 0.6 + 0.4 * lines
    return np.asarray(factor, dtype=np.float32)
