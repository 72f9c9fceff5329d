"""Cells of the ground in the order of a posterior's density, and the mass that lies in the less dense ones.

The tail of a cell y under masses p over cells of areas a is

    T(y) = sum over the cells z with p_z / a_z < p_y / a_y of p_z

A highest-density region at threshold t is { y : T(y) >= t }: the densest cells, until what is left holds less than t.
Small tails are what matters, so the least dense are summed first and nothing is taken from 1.

References:
    R. J. Hyndman, "Computing and graphing highest density regions", The American Statistician 50 (1996).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64

_MEMORY_BYTES = 64 * 2**20
_ARRAYS_AT_ONCE = 3
_ROUNDING = 1.0 - 1e-9


def tail_mass(
    mass: Float[np.ndarray, "q c"], area_km2: Float64[np.ndarray, " c"], cells: Int64[np.ndarray, " q"]
) -> Float64[np.ndarray, " q"]:
    """The tail of one cell for each query: the mass of the cells that are less dense.

    Ties count against: a cell as dense as others has none of theirs in its tail.

    Args:
        mass: (q, C) masses of the cells.
        area_km2: (C,) their areas.
        cells: (q,) the cell asked about, -1 for one that no candidate reaches: its tail is 0.

    Returns:
        (q,) masses, 0 to 1.

    Example:
        >>> tail_mass(np.array([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]]), np.ones(3), np.array([2, 0])).tolist()
        [0.2, 0.2]
    """
    tails = np.zeros(len(mass))
    asked = np.flatnonzero(cells >= 0)
    step = max(1, _MEMORY_BYTES // (max(1, len(area_km2)) * 8 * _ARRAYS_AT_ONCE))
    for at in range(0, len(asked), step):
        rows = asked[at : at + step]
        own = np.asarray(mass[rows], dtype=np.float64)
        density = own / area_km2
        less = density < density[np.arange(len(rows)), cells[rows], None]
        # NumPy sums in pairs, and nothing is negative: the error is a few units in the last place, however small.
        tails[rows] = np.where(less, own, 0.0).sum(axis=1)
    return np.minimum(tails, 1.0)


@dataclass(frozen=True, eq=False)
class RankedCells:
    """The cells of one posterior from the least dense to the densest.

    Attributes:
        cells: (K,) numbers of the cells.
        tail: (K,) their tails, which do not fall along the order.
        area_from_km2: (K + 1,) area of the cells from each place in the order on.
    """

    cells: Int64[np.ndarray, " k"]
    tail: Float64[np.ndarray, " k"]
    area_from_km2: Float64[np.ndarray, " k1"]

    def inside(self, threshold: float) -> Int64[np.ndarray, " r"]:
        """The cells of the region at a threshold, the least dense first."""
        return self.cells[np.searchsorted(self.tail, threshold) :]

    def area_km2(self, thresholds: Float64[np.ndarray, " t"]) -> Float64[np.ndarray, " t"]:
        """Areas of the regions at thresholds."""
        areas: Float64[np.ndarray, " t"] = self.area_from_km2[np.searchsorted(self.tail, thresholds)]
        return areas


def rank_cells(
    mass: Float64[np.ndarray, " c"], area_km2: Float64[np.ndarray, " c"], least_threshold: float
) -> RankedCells:
    """Put the cells of one posterior in order, as far as regions at a threshold or above need it.

    Cells less dense than t over the area of all cells hold together less than t: each one's tail is below t, so it is
    in no region at t or above. They are not sorted, only summed. The regions are the same.

    Args:
        mass: (C,) masses of the cells.
        area_km2: (C,) their areas.
        least_threshold: t, above 0; nothing may be asked of the answer at a smaller threshold.
    """
    density = mass / area_km2
    sorted_ones = density >= _ROUNDING * least_threshold / area_km2.sum()
    cells = np.flatnonzero(sorted_ones)
    cells = cells[np.argsort(density[cells], kind="stable")]
    rest = float(np.where(sorted_ones, 0.0, mass).sum())
    below = rest + np.concatenate([[0.0], np.cumsum(mass[cells])])[:-1]
    own = density[cells]
    # Of cells as dense as one another, each has the tail of the first.
    first = np.concatenate([[True], own[1:] > own[:-1]])[: len(cells)]
    tail = np.minimum(below[np.maximum.accumulate(np.where(first, np.arange(len(cells)), 0))], 1.0)
    from_end = np.concatenate([[0.0], np.cumsum(area_km2[cells[::-1]])])[::-1]
    return RankedCells(cells, tail, from_end)
