"""The prediction region of an answer: from a posterior over the candidates to H3 cells, or the reason for none."""

from __future__ import annotations

import math
from dataclasses import dataclass

import h3
import numpy as np
from jaxtyping import Float64

from swclip.answers.record import RegionAnswer
from swclip.calibration.conformal import LEAST_BLOCKS_OF_AN_AREA, Calibration
from swclip.calibration.region import Region, cell_density, check_level, density_cuts
from swclip.calibration.region_cells import RegionCells
from swclip.errors import ConfigError

NOT_CALIBRATED = (
    "regions contain a share of the posterior, and their coverage is not calibrated: the model was trained without "
    "calibration (model/regions.json is missing); train it again on splits with validation queries, and index again"
)
NOT_ALONE = (
    "regions contain a share of the posterior, and their coverage is not calibrated: the calibration is for single "
    "photographs without a prior"
)


def outside_area(region: RegionAnswer, probability: float) -> RegionAnswer:
    """The region of a photograph that was probably not taken in the gallery's area: the answer abstains.

    Args:
        region: The region if it was.
        probability: Probability that it was.
    """
    reason = (
        f"the photograph was probably not taken in the gallery's area (probability {probability:.2g}): it resembles "
        "the photographs of the area too little"
    )
    return region.model_copy(update={"cannot_tell": True, "cells": (), "reason": reason})


@dataclass(frozen=True)
class RegionRequest:
    """Options of a region.

    Attributes:
        level: Nominal coverage: the probability that it contains the true position.
        limit_km2: Larger regions abstain; None for no limit beside that of uninformative regions.

    Raises:
        ConfigError: The level is not between 0 and 1, or the limit not above 0.
    """

    level: float
    limit_km2: float | None = None

    def __post_init__(self) -> None:
        check_level(self.level)
        if self.limit_km2 is not None and not (math.isfinite(self.limit_km2) and self.limit_km2 > 0):
            raise ConfigError(f"the limit of a region is {self.limit_km2} km2; give an area above 0.")


@dataclass(frozen=True, eq=False)
class RegionBuilder:
    """Builds prediction regions from posteriors over a set of candidates.

    Attributes:
        cells: The cells of the candidates.
        calibration: The tails that set the thresholds. None for highest-density regions, the densest cells until they
            contain the level's mass.
        request: Level and limit.
    """

    cells: RegionCells
    calibration: Calibration | None
    request: RegionRequest

    def region(self, probability: Float64[np.ndarray, " m"]) -> RegionAnswer:
        """The region of one posterior over the candidates."""
        area = self.cells.areas.names[self.cells.areas.of_posteriors(probability[None])[0]]
        return self.region_of_mass(self.cells.mass(probability[None] / probability.sum())[0], area)

    def region_of_mass(self, mass: Float64[np.ndarray, " c"], area: str) -> RegionAnswer:
        """The region of one posterior of an area, whose mass in each cell is computed already and sums to 1."""
        if self.calibration is None:
            region = credible_region(mass, self.cells, self.request.level)
        else:
            region = self.calibration.region(mass, self.cells, self.request.level, area)
        reason = self._reason(region, area)
        cell_ids: tuple[str, ...] = ()
        if reason is None and region.cells is not None:
            cell_ids = tuple(sorted(h3.compact_cells([f"{cell:x}" for cell in self.cells.ids[region.cells].tolist()])))
        return RegionAnswer(
            probability=self.request.level,
            area_km2=round(region.area_km2, 6) if math.isfinite(region.area_km2) else None,
            cannot_tell=reason is not None,
            resolution=self.cells.resolution,
            cells=cell_ids,
            reason=reason,
            calibrated=self.calibration is not None,
            area=area,
            calibrated_on=None if self.calibration is None else self.calibration.group(area).scope,
        )

    def _reason(self, region: Region, area: str) -> str | None:
        """Why an answer abstains from this region; None where it does not."""
        if region.cells is None and self.calibration is not None:
            return _without_threshold(self.calibration, region.level, area)
        if region.cannot_tell():
            return (
                f"the region is {region.area_km2:.3g} km2 of {region.total_km2:.3g} km2, no smaller than a random one "
                "of the same coverage"
            )
        if region.cannot_tell(self.request.limit_km2):
            return f"the region is {region.area_km2:.3g} km2, above the limit of {self.request.limit_km2:g} km2"
        return None


def _without_threshold(calibration: Calibration, level: float, area: str) -> str:
    """Why the queries that an area's thresholds are taken from support no region of a level."""
    group = calibration.group(area)
    if group.scope == "area":
        whose = f"of {area}"
    else:
        whose = "of all areas" if group.scope == "all areas" else "of the areas with few of them"
        if calibration.all_areas:
            blocks = calibration.queries_of(area).blocks
            few = "no query" if blocks == 0 else f"queries in {blocks} of {LEAST_BLOCKS_OF_AN_AREA} blocks needed"
            whose += f" ({area} has {few} for a calibration by itself)"
    counted = f"the {len(group)} validation queries {whose} are in {group.blocks} blocks"
    if not group.has_blocks_for(level):
        return f"{counted}, too few for a coverage of {level:g}, which needs {math.ceil(level / (1.0 - level) - 1e-9)}"
    return (
        f"{counted}, and the true places of {group.unreachable} of them are out of reach of every candidate: too many "
        f"for a coverage of {level:g}"
    )


def credible_region(mass: Float64[np.ndarray, " c"], cells: RegionCells, level: float) -> Region:
    """The highest-density region of a posterior: the densest cells until they contain its share.

    A cell is in it if its tail is at least 1 - level, since the denser cells contain the rest.

    Args:
        mass: (C,) mass of each cell, `RegionCells.mass`, summing to 1.
        cells: The cells.
        level: The share, between 0 and 1.

    Example:
        >>> cells = RegionCells.of([[51.5, -0.1], [51.6, -0.1]])
        >>> mass = cells.mass(np.array([[0.9, 0.1]]))[0]
        >>> region = credible_region(mass, cells, 0.5)
        >>> bool(mass[region.cells].sum() >= 0.5), region.cannot_tell()
        (True, False)
    """
    cuts, areas = density_cuts(mass, cells.area_km2, np.array([1.0 - level]))
    inside = np.flatnonzero(cell_density(mass, cells.area_km2) >= cuts[0])
    return Region(level, inside, float(areas[0]), cells.total_area_km2)
