"""Lots: the edges of blocks divided into footprints of adjoining buildings along the street."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from swclip.synthetic.fields import SmoothField
from swclip.synthetic.streets import Block, Plan, Points

GARDEN_M = 3.2
"""Depth of front gardens, metres."""


@dataclass(frozen=True)
class Lots:
    """Footprints of the buildings, in metres before warping.

    Attributes:
        corners: (N, 4, 2) front left, front right, back right, back left, from the inside facing the street;
            counter-clockwise, so that the outside is to the right of each wall.
        street: (N,) number of the street in front.
        rank: (N,) rank of that street.
        terrace: (N,) number of the row of similar buildings.
        corner: (N,) whether the wall after the front also faces a street.
        garden: (N,) whether the lot has a front garden.
        attached: (N,) number of the lot that adjoins the left side, -1 for none.
        fences: (M, 2, 2) ends of low walls and hedges in front of gardens.
    """

    corners: NDArray[np.float64]
    street: NDArray[np.int32]
    rank: NDArray[np.int32]
    terrace: NDArray[np.int32]
    corner: NDArray[np.bool_]
    garden: NDArray[np.bool_]
    attached: NDArray[np.int32]
    fences: NDArray[np.float64]


class _Collector:
    def __init__(self) -> None:
        self.corners: list[Points] = []
        self.rows: list[tuple[int, int, int, bool, bool, int]] = []
        self.fences: list[Points] = []
        self.terraces = 0


def _frontages(
    rng: np.random.Generator, length: float, rank: int, commerce: float, garden: bool
) -> list[tuple[float, bool]]:
    """Divide an edge into widths, each with a flag whether it starts a new terrace."""
    widths: list[tuple[float, bool]] = []
    left = length
    while left > 4.5:
        if rank <= 1 and rng.random() < 0.30 + 0.25 * commerce:
            run, width = 1, rng.uniform(11.0, 22.0)
        elif garden or rng.random() < 0.45:
            run, width = int(rng.integers(1, 4)), rng.uniform(5.2, 7.6)
        else:
            run, width = 1, rng.uniform(6.0, 12.5)
        for k in range(run):
            if left <= 4.5:
                break
            lot_width = min(width, left)
            if left - lot_width < 4.5:
                lot_width = left
            widths.append((lot_width, k == 0))
            left -= lot_width
    return widths


def cut_lots(plan: Plan, commerce: SmoothField, green: SmoothField, leafiness: float, rng: np.random.Generator) -> Lots:
    """Divide the built blocks of a plan into lots.

    Args:
        plan: Streets and blocks.
        commerce: Field with high values for shops and offices.
        green: Field with high values for front gardens.
        leafiness: Share of greenery of the city, 0 to 1.
        rng: Source of randomness.
    """
    out = _Collector()
    for block in plan.blocks:
        if block.kind == "built":
            _cut_block(plan, block, commerce, green, leafiness, rng, out)
    rows = np.array(out.rows, dtype=np.int64).reshape(-1, 6)
    return Lots(
        corners=np.array(out.corners).reshape(-1, 4, 2),
        street=rows[:, 0].astype(np.int32),
        rank=np.array([plan.streets[s].rank for s in rows[:, 0]], dtype=np.int32),
        terrace=rows[:, 2].astype(np.int32),
        corner=rows[:, 3].astype(bool),
        garden=rows[:, 4].astype(bool),
        attached=rows[:, 5].astype(np.int32),
        fences=np.array(out.fences).reshape(-1, 2, 2),
    )


def _cut_block(
    plan: Plan,
    block: Block,
    commerce: SmoothField,
    green: SmoothField,
    leafiness: float,
    rng: np.random.Generator,
    out: _Collector,
) -> None:
    corners = block.corners
    n = len(corners)
    following = np.roll(corners, -1, axis=0)
    lengths = np.linalg.norm(following - corners, axis=1)
    directions = (following - corners) / np.maximum(lengths, 1e-9)[:, None]
    inradius = 2.0 * _area(corners) / lengths.sum()
    depth = float(np.clip(0.55 * inradius, 4.0, 11.5))
    built = [block.streets[i] >= 0 and lengths[i] > 9.0 for i in range(n)]
    # Length of the side of the corner building along the next edge; the lots of the next edge start after it.
    flank = np.zeros(n)
    for i in range(n):
        j = (i + 1) % n
        sine = float(directions[i][0] * directions[j][1] - directions[i][1] * directions[j][0])
        if built[i] and sine > 0.5:
            flank[i] = min(depth / sine, 0.6 * lengths[j])
    for i in range(n):
        if not built[i]:
            continue
        j = (i + 1) % n
        middle = 0.5 * (corners[i] + following[i])
        rank = plan.streets[block.streets[i]].rank
        shops = float(commerce(*middle)) - 0.5 * rank + 1.0
        garden = rank >= 2 and shops < 0.6 and float(green(*middle)) + 2.2 * leafiness > 1.1 and inradius > 15.0
        inward = np.array([-directions[i][1], directions[i][0]])
        start = flank[i - 1] if flank[i - 1] else (2.0 if not built[i - 1] else 0.45 * depth)
        end = lengths[i] if flank[i] else lengths[i] - 0.45 * depth
        if garden:
            end, start = end - GARDEN_M * (flank[i] > 0), start + 0.5
        setback = GARDEN_M if garden else 0.0
        offset, previous = start, -1
        widths = _frontages(rng, end - start, rank, shops, garden)
        for k, (width, new) in enumerate(widths):
            out.terraces += int(new)
            if rng.random() < 0.08 and 0 < k < len(widths) - 1:  # a gap, such as an alley or a yard
                offset, previous = offset + width, -1
                continue
            last = k == len(widths) - 1 and flank[i] > 0 and not garden
            front_left = corners[i] + directions[i] * offset + inward * setback
            front_right = corners[i] + directions[i] * (offset + width) + inward * setback
            back = flank[i] * directions[j] if last else depth * inward
            quad = np.array([front_left, front_right, front_right + back, front_left + depth * inward])
            out.corners.append(quad)
            out.rows.append((block.streets[i], i, out.terraces, last, garden, previous))
            previous = len(out.corners) - 1
            if garden:
                gate = 0.22 * width
                base = corners[i] + directions[i] * offset + inward * 0.15
                out.fences.append(np.array([base, base + directions[i] * (0.5 * width - 0.3 * gate)]))
                out.fences.append(
                    np.array([base + directions[i] * (0.5 * width + 0.7 * gate), base + directions[i] * width])
                )
            offset += width


def front_gardens(lots: Lots) -> NDArray[np.float64]:
    """Return the (M, 4, 2) corners of front gardens, before warping."""
    left, right, back = (lots.corners[lots.garden][:, i] for i in (0, 1, 3))
    inward = (back - left) / np.linalg.norm(back - left, axis=1, keepdims=True)
    return np.stack([left, right, right - GARDEN_M * inward, left - GARDEN_M * inward], axis=1)


def _area(corners: Points) -> float:
    x, y = corners[:, 0], corners[:, 1]
    return 0.5 * float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
