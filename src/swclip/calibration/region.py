"""A prediction region with its nominal coverage: which cells it has, and when it is too large to be informative.

The tail of a cell y under masses p over cells of areas a is the mass in cells no denser than it:

    T(y) = sum over the cells z with p_z / a_z <= p_y / a_y of p_z

1 for the densest cell, 0 for one without mass. The highest-density region at threshold t is { y : T(y) >= t }: the
cells at least as dense as a cut, chosen so that the remaining cells contain less than t. Small tails matter most, so
the least dense cells are summed first and nothing is subtracted from 1.

The mass of the cell itself counts. Without it a confident and correct posterior would have a tail of nearly 0, like a
wrong one.

References:
    R. J. Hyndman, "Computing and graphing highest density regions", The American Statistician 50 (1996).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int64
from numpy.typing import ArrayLike

from swclip.errors import ConfigError

_MEMORY_BYTES = 64 * 2**20
_ARRAYS_AT_ONCE = 3
_ROUNDING = 1.0 - 1e-9
_BUCKET_SHIFT = 42  # of a float64's bits: leaves the exponent and ten bits, buckets 0.1 % wide
_TIE_BITS = 20  # densities are rounded to 32 bits, 2e-10: differences by rounding only are ties


def cell_density(mass: Float[np.ndarray, "... c"], area_km2: Float64[np.ndarray, " c"]) -> Float64[np.ndarray, "... c"]:
    """Mass over area, rounded so that cells do not differ by rounding errors of their sums.

    Example:
        >>> density = cell_density(np.array([0.1 + 0.2, 0.3]), np.ones(2))
        >>> bool(density[0] == density[1])
        True
    """
    density: Float64[np.ndarray, "... c"] = np.asarray(mass, dtype=np.float64) / area_km2
    bits = density.view(np.int64)
    bits += 1 << (_TIE_BITS - 1)
    bits &= ~((1 << _TIE_BITS) - 1)
    return density


def tail_mass(
    mass: Float[np.ndarray, "q c"], area_km2: Float64[np.ndarray, " c"], cells: Int64[np.ndarray, " q"]
) -> Float64[np.ndarray, " q"]:
    """The tail of one cell for each query.

    Args:
        mass: (q, C) masses of the cells.
        area_km2: (C,) their areas.
        cells: (q,) the cell of each query, -1 for one that no candidate reaches: its tail is 0.

    Returns:
        (q,) masses, 0 to 1.

    Example:
        >>> tail_mass(np.array([[0.25, 0.5, 0.25], [0.5, 0.3, 0.2]]), np.ones(3), np.array([2, 2])).tolist()
        [0.5, 0.2]
    """
    tails = np.zeros(len(mass))
    reached = np.flatnonzero(cells >= 0)
    step = max(1, _MEMORY_BYTES // (max(1, len(area_km2)) * 8 * _ARRAYS_AT_ONCE))
    for at in range(0, len(reached), step):
        rows = reached[at : at + step]
        masses = np.asarray(mass[rows], dtype=np.float64)
        density = cell_density(masses, area_km2)
        cell_densities = density[np.arange(len(rows)), cells[rows], None]
        # NumPy sums in pairs, and nothing is negative: the error is a few units in the last place, however small.
        sums = np.where(density <= cell_densities, masses, 0.0).sum(axis=1)
        # Exactly 1 for the densest cell, whatever the rounding: a region at a threshold of 1 contains that cell.
        densest = (cell_densities[:, 0] == density.max(axis=1)) & (cell_densities[:, 0] > 0.0)
        tails[rows] = np.where(densest, 1.0, np.minimum(sums, 1.0))
    return tails


def density_cuts(
    mass: Float64[np.ndarray, " c"],
    area_km2: Float64[np.ndarray, " c"],
    thresholds: Float64[np.ndarray, " t"],
) -> tuple[Float64[np.ndarray, " t"], Float64[np.ndarray, " t"]]:
    """The densities at which the regions of one posterior end.

    Sorting all cells of a large gallery for every query would dominate the time. Cells are put in buckets by the
    leading bits of their density, and only the buckets in which a region ends are sorted; the cuts are those of a full
    sort. Cells less dense than t over the total area, for the smallest t, contain together less than t and are in no
    region: they share one bucket.

    Args:
        mass: (C,) masses of the cells, C >= 1, of which one at least is above 0.
        area_km2: (C,) their areas.
        thresholds: (T,) above 0, at most 1.

    Returns:
        (T,) densities (`cell_density`): the region at a threshold is the cells at least as dense, always including the
        densest; and (T,) areas of the regions.

    Example:
        >>> cuts, areas = density_cuts(np.array([0.2, 0.5, 0.3]), np.ones(3), np.array([0.1, 0.2, 0.25, 1.0]))
        >>> cuts.round(9).tolist(), areas.tolist()
        ([0.2, 0.2, 0.3, 0.5], [3.0, 3.0, 2.0, 1.0])
    """
    density = cell_density(mass, area_km2)
    least = np.array([_ROUNDING * thresholds.min(initial=1.0) / area_km2.sum()])
    bucket = density.view(np.int64) >> _BUCKET_SHIFT
    bucket -= (least.view(np.int64) >> _BUCKET_SHIFT) - 1
    np.maximum(bucket, 0, out=bucket)
    mass_up_to = np.cumsum(np.bincount(bucket, weights=mass))
    bucket_area = np.bincount(bucket, weights=area_km2)
    area_above = np.concatenate([np.cumsum(bucket_area[::-1])[::-1], [0.0]])
    # The last bucket contains the densest cell; rounding must not push a threshold of 1 beyond it.
    ends_in = np.minimum(np.searchsorted(mass_up_to, thresholds), len(mass_up_to) - 1)
    touched = np.zeros(len(mass_up_to), dtype=np.bool_)
    touched[ends_in] = True
    cells = np.flatnonzero(touched[bucket])
    cells = cells[np.argsort(density[cells], kind="stable")]
    cell_bucket, sorted_density = bucket[cells], density[cells]
    starts, stops = np.searchsorted(cell_bucket, ends_in), np.searchsorted(cell_bucket, ends_in, side="right")
    up_to = np.concatenate([[0.0], np.cumsum(mass[cells])])
    before = np.concatenate([[0.0], mass_up_to])
    first = np.searchsorted(cell_bucket, cell_bucket)
    tail = before[cell_bucket] + (up_to[1:] - up_to[first])
    at = np.clip(np.searchsorted(tail, thresholds), starts, stops - 1)
    cuts = sorted_density[at]
    area_up_to = np.concatenate([[0.0], np.cumsum(area_km2[cells])])
    areas = area_above[ends_in + 1] + area_up_to[stops] - area_up_to[np.searchsorted(sorted_density, cuts)]
    return cuts, areas


LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Coverage levels that reports evaluate."""

LEVEL = 0.8
"""Default coverage level of an answer's region."""


@dataclass(frozen=True, eq=False)
class Region:
    """A set of cells that contains the truth with a stated probability.

    Attributes:
        level: Nominal coverage.
        cells: (R,) numbers of its cells, increasing; None where it is unbounded: all cells and the area outside.
        area_km2: Its area, infinite where it is unbounded.
        total_km2: Area of all the gallery's cells.
    """

    level: float
    cells: Int64[np.ndarray, " r"] | None
    area_km2: float
    total_km2: float

    def cannot_tell(self, limit_km2: float | None = None) -> bool:
        """Whether it is uninformative; see `is_uninformative`."""
        return bool(is_uninformative(self.area_km2, self.level, self.total_km2, limit_km2))


def is_uninformative(area_km2: ArrayLike, level: float, total_km2: float, limit_km2: float | None = None) -> Any:
    """Whether regions are too large to be informative.

    A region of the share L of the area, chosen at random, contains a truth that is uniform over the area with
    probability L. A region of level L that is no smaller is uninformative.

    Args:
        area_km2: Areas of the regions, any shape; infinite where one is unbounded.
        level: L, the nominal coverage.
        total_km2: Area of all cells.
        limit_km2: Areas above this are too large for the user; None for no limit.

    Returns:
        Bool, of that shape.
    """
    area = np.asarray(area_km2, dtype=np.float64)
    uninformative = area >= level * total_km2
    return uninformative if limit_km2 is None else uninformative | (area > limit_km2)


def check_level(level: float) -> None:
    """Raise ConfigError unless a coverage level is between 0 and 1."""
    if not (math.isfinite(level) and 0.0 < level < 1.0):
        raise ConfigError(
            f"a region of probability {level} cannot exist; give a number between 0 and 1, such as {LEVEL}."
        )
