"""Visibility: intersections of the rays of columns with vertical walls, and the visible rows of each intersection.

All walls start at the ground. Along one ray, a wall is therefore visible only above the highest nearer wall, and its
visible rows are one span. Spans are computed for all columns at once, and only visible pixels are shaded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from swclip.synthetic.camera import Camera
from swclip.synthetic.fields import F32, I64
from swclip.synthetic.walls import CHIMNEY, RIDGE, VEHICLE, Walls

NEAR_M = 0.6


@dataclass(frozen=True)
class Spans:
    """Arrays over N visible pieces of wall, each one column wide.

    Attributes:
        column: (N,) column of pixels.
        wall: (N,) row of the table of walls.
        depth_m: (N,) depth (not distance) of the hit.
        share: (N,) position along the wall, from 0 at its first end to 1.
        oblique: (N,) metres along the wall per metre across the view at that depth.
        back: (N,) whether the wall is visible from behind (roofs of vehicles).
        first: (N,) first row, from the top of the picture.
        last: (N,) one past the last row.
    """

    column: NDArray[np.int32]
    wall: I64
    depth_m: F32
    share: F32
    oblique: F32
    back: NDArray[np.bool_]
    first: NDArray[np.int32]
    last: NDArray[np.int32]

    def take(self, rows: NDArray[np.bool_] | I64) -> Spans:
        """Select spans."""
        return Spans(
            self.column[rows], self.wall[rows], self.depth_m[rows], self.share[rows], self.oblique[rows],
            self.back[rows], self.first[rows], self.last[rows],
        )  # fmt: skip


def find_spans(camera: Camera, walls: Walls, reach_m: float = 160.0) -> Spans:
    """Intersect the rays of all columns of a camera with walls.

    Args:
        camera: The camera.
        walls: Walls in front of the camera.
        reach_m: Largest visible depth, metres.

    Returns:
        The visible spans.
    """
    view = camera.to_view(walls.ends)  # (S, 2 ends, 2: right, depth)
    x0, z0, x1, z1 = view[:, 0, 0], view[:, 0, 1], view[:, 1, 0], view[:, 1, 1]
    # The outside is to the right of first -> second: a wall faces the camera if the camera is on that side.
    facing = x0 * (z1 - z0) - z0 * (x1 - x0) < 0
    both = (walls.kind == RIDGE) | (walls.kind == CHIMNEY) | (walls.kind == VEHICLE)
    edge = np.float32(1.001 * 0.5 * camera.size_px / camera.focal_px)
    visible = (facing | both) & (np.maximum(z0, z1) > NEAR_M) & (np.minimum(z0, z1) < reach_m)
    visible &= ~((x0 > edge * z0) & (x1 > edge * z1)) & ~((x0 < -edge * z0) & (x1 < -edge * z1))
    rows = np.flatnonzero(visible)
    x0, z0, dx, dz = x0[rows], z0[rows], (x1 - x0)[rows], (z1 - z0)[rows]
    slope = camera.slopes()[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        cross = dx - slope * dz
        share = (slope * z0 - x0) / cross
        depth = z0 + share * dz
        hit = (share >= 0) & (share <= 1) & (depth > NEAR_M) & (depth < reach_m)
    column, candidate = np.nonzero(hit)
    depth_hit, share_hit = depth[column, candidate], share[column, candidate]
    order = np.lexsort((depth_hit, column))
    column, candidate = column[order], candidate[order]
    wall, depth_hit, share_hit = rows[candidate], depth_hit[order], share_hit[order]
    length = np.hypot(dx, dz)[candidate]
    oblique = length / np.maximum(np.abs(cross[column, candidate]), 1e-4)
    peak = walls.peak_m[wall] * np.minimum(walls.steep[wall] * (1.0 - np.abs(2.0 * share_hit - 1.0)), 1.0)
    top = camera.row_of(walls.top_m[wall] + peak, depth_hit)
    foot = camera.row_of(np.zeros_like(depth_hit), depth_hit)
    first, last = _visible_rows(camera.size_px, column, top, foot)
    keep = last > first
    return Spans(
        column.astype(np.int32), wall, depth_hit, share_hit, oblique.astype(np.float32), ~facing[wall], first, last
    ).take(keep)


def _visible_rows(size: int, column: I64, top: F32, foot: F32) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the first row and one past the last of each hit; hits are sorted by column and from near to far."""
    starts = np.searchsorted(column, np.arange(size))
    rank = np.arange(len(column)) - starts[column]
    width = int(rank.max()) + 2 if len(rank) else 1
    # (column, rank): the highest row reached by any nearer wall.
    reached = np.full((size, width), np.float32(size))
    reached[column, rank + 1] = top
    np.minimum.accumulate(reached, axis=1, out=reached)
    first = np.ceil(np.clip(top, 0, size) - 0.5).astype(np.int32)
    last = np.ceil(np.clip(np.minimum(foot, reached[column, rank]), 0, size) - 0.5).astype(np.int32)
    return first, last


@dataclass(frozen=True)
class Pixels:
    """Arrays over P pixels of spans.

    Attributes:
        span: (P,) number of the span.
        place: (P,) column * size + row.
        height_m: (P,) above the ground, on the wall.
    """

    span: I64
    place: NDArray[np.int32]
    height_m: F32


def pixels_of(camera: Camera, spans: Spans) -> Pixels:
    """Return the pixels of spans, in column order."""
    span, row = _rows_of(spans.first, spans.last)
    return Pixels(span, spans.column[span] * np.int32(camera.size_px) + row, _height(camera, spans, span, row + 0.5))


def blocks_of(camera: Camera, spans: Spans, block: int) -> tuple[Pixels, I64]:
    """Divide each span into blocks of `block` rows, which share their shading.

    Returns:
        The blocks (whose `place` is not an index of the picture), and for each pixel of `pixels_of` its block.
    """
    first, last = spans.first // block, -(-spans.last // block)
    span, row = _rows_of(first, last)
    blocks = Pixels(span, row, _height(camera, spans, span, (row + 0.5) * block))
    lengths = last - first
    fine_span, fine_row = _rows_of(spans.first, spans.last)
    return blocks, (np.cumsum(lengths) - lengths - first)[fine_span] + fine_row // block


def _rows_of(first: NDArray[np.int32], last: NDArray[np.int32]) -> tuple[I64, NDArray[np.int32]]:
    """Return the span and the row of every pixel of spans."""
    lengths = last - first
    span = np.repeat(np.arange(len(lengths)), lengths)
    start = np.cumsum(lengths) - lengths - first
    return span, (np.arange(len(span)) - np.repeat(start, lengths)).astype(np.int32)


def _height(camera: Camera, spans: Spans, span: I64, row_px: NDArray[np.floating]) -> F32:
    rise = (np.float32(camera.horizon_px) - row_px.astype(np.float32)) * np.float32(1.0 / camera.focal_px)
    return np.asarray(np.float32(camera.height_m) + rise * spans.depth_m[span], dtype=np.float32)
