"""The prediction regions of a posterior at all coverage levels, and the cells to draw them."""

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
"""Coverage levels, 0.5 to 0.95."""

_LISTED_MASS = 0.999


@dataclass(frozen=True, eq=False)
class LevelRegion:
    """The region of one coverage level.

    Attributes:
        level: The nominal coverage.
        cells: Number of cells; None where the region covers everything.
        area_km2: Area of the cells; None where the region covers everything.
        cannot_tell: Whether the region is too large to be informative, so that the answer abstains.
    """

    level: float
    cells: int | None
    area_km2: float | None
    cannot_tell: bool


@dataclass(frozen=True, eq=False)
class PosteriorRegions:
    """All regions of one posterior; each contains those of lower levels.

    Attributes:
        order: (K,) cells, densest first: those of all bounded regions, and further ones until they contain nearly all
            of the mass.
        from_level: (K,) the lowest level whose region contains the cell; NaN for none.
        regions: The regions, one per level of `LEVELS`.
    """

    order: Int64[np.ndarray, " k"]
    from_level: Float64[np.ndarray, " k"]
    regions: tuple[LevelRegion, ...]


def nearest_level(level: float) -> float:
    """The lowest of `LEVELS` that is at least `level`."""
    return LEVELS[int(np.searchsorted(np.array(LEVELS), level - 1e-9))]


def level_thresholds(calibration: Calibration | None, area: str | None = None) -> tuple[float | None, ...]:
    """The minimum tail of a cell in the region of each level; None where the region covers everything.

    Args:
        calibration: The calibration of conformal regions (`conformal.Calibration.region`). Where None, the regions are
            highest-density regions: the densest cells until their mass reaches the level.
        area: The area of the posterior; None for the thresholds of all areas together.
    """
    return tuple(1.0 - level if calibration is None else calibration.threshold(level, area) for level in LEVELS)


def regions_by_level(
    mass: Float64[np.ndarray, " c"], cells: RegionCells, thresholds: Sequence[float | None]
) -> PosteriorRegions:
    """The regions of a posterior.

    Args:
        mass: (C,) mass of each cell, with a sum of 1.
        cells: The cells.
        thresholds: The thresholds of `level_thresholds`.

    Example:
        >>> cells = RegionCells.of([[51.5, -0.1]], resolution=11)
        >>> mass = np.zeros(len(cells))
        >>> mass[0] = 1.0
        >>> [region.cells for region in regions_by_level(mass, cells, level_thresholds(None)).regions[:2]]
        [1, 1]
    """
    tails = np.array([value for value in thresholds if value is not None] + [1.0 - _LISTED_MASS])
    cuts, areas = density_cuts(mass, cells.area_km2, tails)
    density = cell_density(mass, cells.area_km2)
    listed = np.flatnonzero(density >= cuts.min())
    order = listed[np.argsort(-density[listed], kind="stable")]
    sizes = np.searchsorted(-density[order], -cuts, side="right")
    extents = iter(zip(sizes.tolist(), areas.tolist(), strict=True))
    from_level = np.full(len(order), np.nan)
    regions = []
    for level, threshold in zip(LEVELS, thresholds, strict=True):
        if threshold is None:
            regions.append(LevelRegion(level, None, None, True))
            continue
        size, area_km2 = next(extents)
        inside = from_level[:size]
        inside[np.isnan(inside)] = level
        abstains = bool(is_uninformative(area_km2, level, cells.total_area_km2))
        regions.append(LevelRegion(level, size, area_km2, abstains))
    return PosteriorRegions(order, from_level, tuple(regions))
