"""The ground as tables with one sample per metre: distance to the kerb, lane coordinates, land use, roof heights.

Distances vary smoothly between samples, so that interpolation gives sharp kerbs and lane markings at any size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from swclip.synthetic.fields import F32
from swclip.synthetic.streets import HALF_EXTENT_M, MARGIN_M, Plan

KERB, LATERAL, ALONG, ZEBRA, INSIDE, GREEN, HALF_ROAD, RANK = range(8)
"""Channels: metres beyond the nearest kerb (negative on the road); metres to the right of the centre line; metres along
the street; metres along it from a zebra crossing; 1 inside a block, 0.5 on a square; 1 on grass; half the width of the
road; rank of the street."""

JUNCTION = 9.0
"""Rank of ground where two streets overlap, which has no markings."""

EXTENT_M = HALF_EXTENT_M + MARGIN_M + 30.0
_SIDE = int(2 * EXTENT_M) + 1


@dataclass(frozen=True)
class Ground:
    """Tables over the ground with one sample per metre; rows run north, columns east.

    Attributes:
        channels: (n * n, 8) the channels above.
        roof_m: (n, n) height of buildings, 0 in the open; used for shadows.
    """

    channels: F32
    roof_m: F32

    def sample(self, x_m: F32, y_m: F32) -> F32:
        """Interpolate the channels at (P,) east and north to (P, 8)."""
        gx = np.clip(x_m + np.float32(EXTENT_M), 0, _SIDE - 1.001)
        gy = np.clip(y_m + np.float32(EXTENT_M), 0, _SIDE - 1.001)
        ix, iy = gx.astype(np.int32), gy.astype(np.int32)
        fx, fy = (gx - ix)[:, None], (gy - iy)[:, None]
        flat = iy * np.int32(_SIDE) + ix
        table = self.channels
        low = table[flat]
        low += fx * (table[flat + 1] - low)
        high = table[flat + _SIDE]
        high += fx * (table[flat + _SIDE + 1] - high)
        high -= low
        high *= fy
        return np.asarray(low + high)

    def roof_at(self, x_m: F32, y_m: F32) -> F32:
        """Return the height of buildings at points, by nearest neighbour."""
        ix = np.clip(x_m + np.float32(EXTENT_M + 0.5), 0, _SIDE - 1).astype(np.int32)
        iy = np.clip(y_m + np.float32(EXTENT_M + 0.5), 0, _SIDE - 1).astype(np.int32)
        return np.asarray(self.roof_m.ravel()[iy * np.int32(_SIDE) + ix])


def _mask(polygons: list[NDArray[np.float64]], values: list[float]) -> F32:
    image = Image.new("F", (_SIDE, _SIDE), 0.0)
    draw = ImageDraw.Draw(image)
    for polygon, value in zip(polygons, values, strict=True):
        draw.polygon([(float(x) + EXTENT_M, float(y) + EXTENT_M) for x, y in polygon], fill=float(value))
    return np.asarray(image, dtype=np.float32)


def outline(plan: Plan, corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a polygon (K, 2) on the warped ground, with eight points on each edge to follow the curve."""
    following = np.roll(corners, -1, axis=0)
    share = np.linspace(0.0, 1.0, 9)[:-1, None]
    points = np.concatenate([a + share * (b - a) for a, b in zip(corners, following, strict=True)])
    return plan.warp(points)


def build_ground(plan: Plan, footprints: NDArray[np.float64], heights: F32) -> Ground:
    """Build the tables.

    Args:
        plan: Streets and blocks.
        footprints: (N, 4, 2) corners of the buildings on the warped ground.
        heights: (N,) heights of the buildings, metres.
    """
    table = np.zeros((_SIDE, _SIDE, 8), dtype=np.float32)
    table[..., KERB] = 40.0
    table[..., ZEBRA] = 100.0
    owner = np.full((_SIDE, _SIDE), -1, dtype=np.int32)
    junction = np.zeros((_SIDE, _SIDE), dtype=bool)
    for number in range(len(plan.streets)):
        _add_street(plan, number, table, owner, junction)
    table[..., RANK][junction] = JUNCTION
    blocks = [outline(plan, b.corners) for b in plan.blocks]
    table[..., INSIDE] = _mask(blocks, [1.0] * len(blocks))
    parks = [shape for shape, b in zip(blocks, plan.blocks, strict=True) if b.kind == "park"]
    table[..., GREEN] = _mask(parks, [1.0] * len(parks))
    squares = [shape for shape, b in zip(blocks, plan.blocks, strict=True) if b.kind == "square"]
    table[..., INSIDE] -= 0.5 * _mask(squares, [1.0] * len(squares))
    order = np.argsort(heights, kind="stable")
    roof = _mask([footprints[i] for i in order], [float(heights[i]) for i in order])
    return Ground(table.reshape(-1, 8), roof)


def _add_street(plan: Plan, number: int, table: F32, owner: NDArray[np.int32], junction: NDArray[np.bool_]) -> None:
    """Write one street to the tables where it is the nearest, and mark its overlaps with others in `junction`."""
    street = plan.streets[number]
    pieces = max(1, int(np.ceil(street.length_m / 12.0)))
    stations = np.linspace(0.0, street.length_m, pieces + 1)
    points, _ = plan.centre_line(number, stations)
    # Crossings near both ends of large streets, clear of the junctions.
    zebras = [16.0, street.length_m - 16.0] if street.rank < 2 and street.length_m > 60.0 else []
    reach = street.half_road_m + 9.0
    for k in range(pieces):
        a, b = points[k], points[k + 1]
        length = float(np.linalg.norm(b - a))
        if length < 1e-6:
            continue
        low = np.floor(np.minimum(a, b) - reach + EXTENT_M).astype(int).clip(0, _SIDE - 1)
        high = (np.ceil(np.maximum(a, b) + reach + EXTENT_M).astype(int) + 1).clip(1, _SIDE)
        x = (np.arange(low[0], high[0]) - EXTENT_M - a[0]).astype(np.float32)[None, :]
        y = (np.arange(low[1], high[1]) - EXTENT_M - a[1]).astype(np.float32)[:, None]
        dx, dy = np.float32((b[0] - a[0]) / length), np.float32((b[1] - a[1]) / length)
        along, lateral = x * dx + y * dy, x * dy - y * dx
        beyond = np.maximum(np.maximum(-along, along - np.float32(length)), 0.0)
        kerb = np.sqrt(lateral * lateral + beyond * beyond) - np.float32(street.half_road_m)
        window = table[low[1] : high[1], low[0] : high[0]]
        nearer = kerb < window[..., KERB]
        part = slice(low[1], high[1]), slice(low[0], high[0])
        junction[part] |= (kerb < 1.5) & (window[..., KERB] < 1.5) & (owner[part] != number)
        owner[part][nearer] = number
        station = (along * np.float32((stations[k + 1] - stations[k]) / length) + np.float32(stations[k]))[nearer]
        zebra = np.full(station.shape, 100.0, dtype=np.float32)
        for crossing in zebras:
            zebra = np.where(np.abs(station - crossing) < np.abs(zebra), station - np.float32(crossing), zebra)
        values = np.empty((len(station), 8), dtype=np.float32)
        values[:, KERB], values[:, LATERAL], values[:, ALONG] = kerb[nearer], lateral[nearer], station
        values[:, ZEBRA], values[:, INSIDE], values[:, GREEN] = zebra, 0.0, 0.0
        values[:, HALF_ROAD], values[:, RANK] = street.half_road_m, street.rank
        window[nearer] = values
