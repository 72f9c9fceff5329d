"""The regions of one posterior at every level a person may choose, and the cells that draw them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from swclip.calibration.conformal import Calibration
from swclip.calibration.density import cell_density, density_cuts
from swclip.calibration.region import is_uninformative
from swclip.calibration.region_cells import RegionCells

LEVELS: tuple[float, ...] = tuple(round(0.5 + step / 100, 2) for step in range(46))
"""0.5 to 0.95."""

_LISTED_MASS = 0.999


@dataclass(frozen=True, eq=False)
class LevelRegion:
    """The region of one level.

    Attributes:
        level: Its probability.
        cells: How many cells it has; None where it is all ground.
        area_km2: Their area; None likewise.
        cannot_tell: Whether it is too large to be an answer.
    """

    level: float
    cells: int | None
    area_km2: float | None
    cannot_tell: bool


@dataclass(frozen=True, eq=False)
class Levels:
    """All regions of one posterior; each holds the ones of lower levels.

    Attributes:
        order: (K,) cells, densest first: those of all regions that are not all ground, and further ones until they hold
            nearly all of the mass.
        from_level: (K,) the first level whose region has the cell; NaN for none.
        regions: The regions, one for each of `LEVELS`.
    """

    order: Int64[np.ndarray, " k"]
    from_level: Float64[np.ndarray, " k"]
    regions: tuple[LevelRegion, ...]


def nearest_level(level: float) -> float:
    """The lowest of `LEVELS` that is at least `level`."""
    return LEVELS[int(np.searchsorted(np.array(LEVELS), level - 1e-9))]


def thresholds_of(calibration: Calibration | None) -> tuple[float | None, ...]:
    """The tail that a cell must have to be in the region of each level; None where the region is all ground.

    Args:
        calibration: Gives conformal regions (`conformal.Calibration.region`). Where None, they are highest-density
            regions: the densest cells until they hold the level's mass, which leave out less than 1 less the level.
    """
    return tuple(1.0 - level if calibration is None else calibration.threshold(level) for level in LEVELS)


def levels_of(mass: Float64[np.ndarray, " c"], ground: RegionCells, thresholds: Sequence[float | None]) -> Levels:
    """The regions of a posterior.

    Args:
        mass: (C,) mass of each cell, summing to 1.
        ground: The cells.
        thresholds: Of each level, `thresholds_of`.

    Example:
        >>> ground = RegionCells.of([[51.5, -0.1]], resolution=11)
        >>> one = np.zeros(len(ground))
        >>> one[0] = 1.0
        >>> [region.cells for region in levels_of(one, ground, thresholds_of(None)).regions[:2]]
        [1, 1]
    """
    asked = np.array([value for value in thresholds if value is not None] + [1.0 - _LISTED_MASS])
    cuts, areas = density_cuts(mass, ground.area_km2, asked)
    density = cell_density(mass, ground.area_km2)
    listed = np.flatnonzero(density >= cuts.min())
    order = listed[np.argsort(-density[listed], kind="stable")]
    sizes = np.searchsorted(-density[order], -cuts, side="right")
    found = iter(zip(sizes.tolist(), areas.tolist(), strict=True))
    from_level = np.full(len(order), np.nan)
    regions = []
    for level, threshold in zip(LEVELS, thresholds, strict=True):
        if threshold is None:
            regions.append(LevelRegion(level, None, None, True))
            continue
        size, area_km2 = next(found)
        own = from_level[:size]
        own[np.isnan(own)] = level
        silent = bool(is_uninformative(area_km2, level, ground.total_area_km2))
        regions.append(LevelRegion(level, size, area_km2, silent))
    return Levels(order, from_level, tuple(regions))
