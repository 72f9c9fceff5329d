"""The regions of one posterior at every level a person may choose, and the cells that draw them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64

from swclip.retrieval.conformal import Calibration, says_nothing
from swclip.retrieval.ground_cells import GroundCells
from swclip.retrieval.tails import rank_cells

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
        order: (K,) cells, densest first: those of the largest region that is not all ground, and further ones until they
            hold nearly all of the mass.
        from_level: (K,) the first level whose region has the cell; NaN for none.
        regions: The regions, one for each of `LEVELS`.
    """

    order: Int64[np.ndarray, " k"]
    from_level: Float64[np.ndarray, " k"]
    regions: tuple[LevelRegion, ...]


def levels_of(mass: Float64[np.ndarray, " c"], ground: GroundCells, calibration: Calibration | None) -> Levels:
    """The regions of a posterior.

    With a calibration they are its conformal ones (`conformal.Calibration.region`). Without one, or where its promise
    does not hold, they are highest-density regions: the densest cells until they hold the level's mass.

    Args:
        mass: (C,) mass of each cell, summing to 1.
        ground: The cells.
        calibration: What the thresholds come from; None for highest-density regions.

    Example:
        >>> ground = GroundCells.of([[51.5, -0.1]], resolution=11)
        >>> one = np.zeros(len(ground))
        >>> one[0] = 1.0
        >>> [region.cells for region in levels_of(one, ground, None).regions[:2]]
        [1, 1]
    """
    density = mass / ground.area_km2
    order = np.argsort(-density, kind="stable")
    order = order[mass[order] > 0.0]
    sizes = _credible_sizes(mass, order) if calibration is None else _conformal_sizes(mass, ground, calibration)
    areas = np.concatenate([[0.0], np.cumsum(ground.area_km2[order])])
    # A threshold is above 0, so a region never reaches the cells without mass; they are not in `order`.
    regions = tuple(
        LevelRegion(level, None, None, True)
        if size is None
        else LevelRegion(level, size, float(areas[size]), bool(says_nothing(areas[size], level, ground.total_area_km2)))
        for level, size in zip(LEVELS, sizes, strict=True)
    )
    held = int(np.searchsorted(np.cumsum(mass[order]), _LISTED_MASS * mass.sum())) + 1
    kept = min(len(order), max(held, max((size for size in sizes if size is not None), default=0)))
    from_level = np.full(kept, np.nan)
    for level, size in zip(reversed(LEVELS), reversed(sizes), strict=True):
        if size is not None:
            from_level[:size] = level
    return Levels(order[:kept], from_level, regions)


def reached(ground: GroundCells) -> GroundCells:
    """The cells that some candidate reaches, of the cells of a larger gallery: what a blind region would be part of."""
    kept = np.unique(ground.spread.indices)
    return replace(
        ground,
        ids=ground.ids[kept],
        area_km2=ground.area_km2[kept],
        centres_deg=ground.centres_deg[kept],
        spread=ground.spread[:, kept],
        city_of=ground.city_of[kept],
    )


def _credible_sizes(mass: Float64[np.ndarray, " c"], order: Int64[np.ndarray, " k"]) -> list[int | None]:
    held = np.cumsum(mass[order])
    return [min(len(order), int(np.searchsorted(held, level * held[-1] * (1 - 1e-12))) + 1) for level in LEVELS]


def _conformal_sizes(
    mass: Float64[np.ndarray, " c"], ground: GroundCells, calibration: Calibration
) -> list[int | None]:
    thresholds = [calibration.threshold(level) for level in LEVELS]
    least = min((value for value in thresholds if value is not None), default=None)
    if least is None:
        return [None] * len(LEVELS)
    ranked = rank_cells(mass, ground.area_km2, least)
    return [None if value is None else len(ranked.inside(value)) for value in thresholds]
