"""Walls: the vertical faces of a city."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from swclip.synthetic.buildings import Buildings
from swclip.synthetic.fields import F32, hash01
from swclip.synthetic.lots import Lots
from swclip.synthetic.streets import Plan

FRONT, SIDE, BACK, RIDGE, CHIMNEY, FENCE, HEDGE, STONE, VEHICLE = range(9)
"""Kinds of wall. RIDGE is the vertical face under the ridge of a roof, which represents the slope in front of it."""

CELL_M = 32.0


@dataclass(frozen=True)
class Walls:
    """Arrays over S vertical faces that start at the ground.

    Attributes:
        ends: (S, 2, 2) east, north of both ends; the outside is to the right of the direction from first to second.
        top_m: (S,) height of the top edge at the ends.
        peak_m: (S,) additional height in the middle (gables, cabins of cars).
        steep: (S,) slope of the top edge: 1 for a gable with its peak in the middle, more for a flat top with sloping
            ends.
        kind: (S,) one of the kinds above.
        owner: (S,) number of the building (or vehicle).
    """

    ends: F32
    top_m: F32
    peak_m: F32
    steep: F32
    kind: NDArray[np.int32]
    owner: NDArray[np.int32]

    def __len__(self) -> int:
        """Number of faces."""
        return len(self.top_m)

    def take(self, rows: NDArray[np.int64]) -> Walls:
        """Select faces."""
        return Walls(
            self.ends[rows], self.top_m[rows], self.peak_m[rows], self.steep[rows], self.kind[rows], self.owner[rows]
        )  # fmt: skip

    @staticmethod
    def joined(parts: list[Walls]) -> Walls:
        """Concatenate tables."""
        return Walls(
            np.concatenate([p.ends for p in parts]).astype(np.float32).reshape(-1, 2, 2),
            np.concatenate([p.top_m for p in parts]).astype(np.float32),
            np.concatenate([p.peak_m for p in parts]).astype(np.float32),
            np.concatenate([p.steep for p in parts]).astype(np.float32),
            np.concatenate([p.kind for p in parts]).astype(np.int32),
            np.concatenate([p.owner for p in parts]).astype(np.int32),
        )

    @staticmethod
    def of(
        ends: NDArray[np.floating], top: object, peak: object, kind: object, owner: object, steep: object = 1.0
    ) -> Walls:
        """Build a table from arrays or from single values, which are repeated."""
        n = len(ends)
        return Walls(
            np.asarray(ends, dtype=np.float32).reshape(-1, 2, 2),
            np.broadcast_to(np.asarray(top, dtype=np.float32), n),
            np.broadcast_to(np.asarray(peak, dtype=np.float32), n),
            np.broadcast_to(np.asarray(steep, dtype=np.float32), n),
            np.broadcast_to(np.asarray(kind, dtype=np.int32), n),
            np.broadcast_to(np.asarray(owner, dtype=np.int32), n),
        )


@dataclass(frozen=True)
class WallIndex:
    """Walls sorted into square cells, for fast selection of the walls in front of a camera."""

    walls: Walls
    cells: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    centres_m: NDArray[np.float64]

    @classmethod
    def build(cls, walls: Walls) -> WallIndex:
        """Sort walls into cells by their centres."""
        middle = walls.ends.mean(axis=1).astype(np.float64)
        cell = np.floor(middle / CELL_M).astype(np.int64)
        number = (cell[:, 0] + 4096) * 8192 + cell[:, 1] + 4096
        order = np.argsort(number, kind="stable")
        cells, starts = np.unique(number[order], return_index=True)
        stops = np.append(starts[1:], len(order))
        centres = np.stack([cells // 8192 - 4096, cells % 8192 - 4096], axis=1) * CELL_M + 0.5 * CELL_M
        return cls(walls.take(order), cells, starts, stops, centres.astype(np.float64))

    def before(
        self, position_m: NDArray[np.float64], forward: NDArray[np.float64], reach_m: float, cosine: float
    ) -> Walls:
        """Return the walls in cells that intersect the field of view."""
        offset = self.centres_m - position_m
        distance = np.hypot(offset[:, 0], offset[:, 1])
        margin = 0.75 * CELL_M
        ahead = offset @ forward
        sine = np.sqrt(1.0 - cosine * cosine)
        # Signed distance of the cell's centre from the edge of the field of view.
        across = np.abs(offset[:, 0] * forward[1] - offset[:, 1] * forward[0])
        chosen = (distance < reach_m + margin) & (across * cosine - ahead * sine < margin) & (ahead > -margin)
        rows = [np.arange(a, b) for a, b in zip(self.starts[chosen], self.stops[chosen], strict=True)]
        return self.walls.take(np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64))


def build_walls(plan: Plan, lots: Lots, buildings: Buildings) -> Walls:
    """Build all fixed walls of a city, on the warped ground."""
    n = len(buildings)
    quad = plan.warp(lots.corners)
    indices = np.arange(n)
    top, ridge = buildings.eave_m, buildings.ridge_m
    parts = [
        Walls.of(quad[:, [0, 1]], top, 0.0, FRONT, indices),
        Walls.of(quad[:, [2, 3]], top, 0.0, BACK, indices),
    ]
    # A party wall is visible only if the house is taller than its neighbour.
    left = lots.attached
    has_left = left >= 0
    tall = top + ridge
    show_left = ~has_left | (tall > tall[left] + 0.2) | (ridge != ridge[left])
    right = np.full(n, -1)
    right[left[has_left]] = indices[has_left]
    show_right = (right < 0) | (tall > tall[right] + 0.2) | (ridge != ridge[right])
    kind_right = np.where(lots.corner, FRONT, SIDE)
    parts.append(
        Walls.of(
            quad[show_right][:, [1, 2]], top[show_right], ridge[show_right], kind_right[show_right], indices[show_right]
        )
    )
    parts.append(Walls.of(quad[show_left][:, [3, 0]], top[show_left], ridge[show_left], SIDE, indices[show_left]))
    pitched = indices[ridge > 0]
    ridge_left = 0.5 * (quad[pitched, 0] + quad[pitched, 3])
    ridge_right = 0.5 * (quad[pitched, 1] + quad[pitched, 2])
    parts.append(Walls.of(np.stack([ridge_left, ridge_right], axis=1), (top + ridge)[pitched], 0.0, RIDGE, pitched))
    parts.append(_chimneys(quad, pitched, (top + ridge)[pitched], buildings.key[pitched]))
    if len(lots.fences):
        owner = np.repeat(indices[lots.garden], 2)
        hedge = hash01(lots.terrace[owner], 31) < 0.5
        height = 0.75 + 0.5 * hash01(lots.terrace[owner], 32)
        parts.append(Walls.of(plan.warp(lots.fences), height, 0.0, np.where(hedge, HEDGE, FENCE), owner))
    parts.append(_open_spaces(plan))
    return Walls.joined(parts)


def _chimneys(quad: NDArray[np.float64], rows: NDArray[np.int64], ridge: F32, key: NDArray[np.int32]) -> Walls:
    present = hash01(key, 5) < 0.75
    rows, ridge, key = rows[present], ridge[present], key[present]
    along = quad[rows, 1] - quad[rows, 0]
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-6)
    inward = np.stack([-along[:, 1], along[:, 0]], axis=1)
    base = 0.5 * (quad[rows, 0] + quad[rows, 3]) + 0.25 * inward + 0.15 * along
    wide = (0.7 + 0.7 * hash01(key, 6))[:, None]
    corners = [base, base + wide * along, base + wide * along + 0.6 * inward, base + 0.6 * inward]
    top = ridge + 0.7 + 0.7 * hash01(key, 7)
    sides = [(0, 1), (1, 2), (3, 0)]
    return Walls.joined(
        [Walls.of(np.stack([corners[a], corners[b]], axis=1), top, 0.0, CHIMNEY, rows) for a, b in sides]
    )


def _open_spaces(plan: Plan) -> Walls:
    """Build hedges and low walls around parks, and monuments."""
    ends, top, kind, owner = [], [], [], []
    for number, block in enumerate(plan.blocks):
        if block.kind == "built":
            continue
        centre = block.corners.mean(axis=0)
        if block.kind == "park":
            for i in range(len(block.corners)):
                a, b = block.corners[i], block.corners[(i + 1) % len(block.corners)]
                a, b = a + 0.02 * (centre - a), b + 0.02 * (centre - b)
                pieces = max(1, int(np.linalg.norm(b - a) // 7.0))
                for k in range(pieces):
                    if k == pieces // 2 and pieces > 2:
                        continue  # the gate
                    ends.append([a + (b - a) * k / pieces, a + (b - a) * (k + 1) / pieces])
                    top.append(0.8 + 0.3 * float(hash01(number, 1)))
                    kind.append(HEDGE if hash01(number, 2) < 0.6 else STONE)
                    owner.append(number)
        half = 0.9 + 0.8 * float(hash01(number, 3))
        for size, height in ((1.5 * half, 1.0), (half, 2.6 + half), (0.45 * half, 4.2 + 3.0 * half)):
            box = centre + size * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
            for i in range(4):
                ends.append([box[i], box[(i + 1) % 4]])
                top.append(height)
                kind.append(STONE)
                owner.append(number)
    if not ends:
        return Walls.of(np.zeros((0, 2, 2)), 0.0, 0.0, HEDGE, 0)
    return Walls.of(plan.warp(np.array(ends)), np.array(top), 0.0, np.array(kind), np.array(owner))
