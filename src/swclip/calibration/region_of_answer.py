"""The region that an answer states: from a posterior over the candidates to H3 cells, or why there are none."""

from __future__ import annotations

import math
from dataclasses import dataclass

import h3
import numpy as np
from jaxtyping import Float64

from swclip.answers.record import RegionAnswer
from swclip.calibration.conformal import Calibration
from swclip.calibration.density import cell_density, density_cuts
from swclip.calibration.region import Region, check_level
from swclip.calibration.region_cells import GroundCells
from swclip.errors import ConfigError

NOT_CALIBRATED = (
    "regions hold a share of the posterior and promise nothing: the model was trained without calibrating them "
    "(model/regions.json is not there); train it again on splits with validation queries, and index again"
)
NOT_ALONE = (
    "regions hold a share of the posterior and promise nothing: they were calibrated on photographs asked one by one, "
    "without a prior"
)


@dataclass(frozen=True)
class RegionRequest:
    """What is asked of a region.

    Attributes:
        level: Probability with which it is to hold the place.
        limit_km2: Areas above this cannot tell; None for no limit but a blind region's.

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
class RegionMaker:
    """Makes the regions of posteriors over some candidates.

    Attributes:
        ground: The cells of those candidates.
        calibration: The tails that set the thresholds. None for highest-density regions, the densest cells until they
            hold the level's mass: those of a tail of at least 1 less the level, since denser cells hold the rest.
        wanted: What is asked.
        whole: These are all candidates, as when the tails were measured.
    """

    ground: GroundCells
    calibration: Calibration | None
    wanted: RegionRequest
    whole: bool = True

    def region(self, probability: Float64[np.ndarray, " m"]) -> RegionAnswer:
        """The region of one posterior over the candidates."""
        return self.region_of_mass(self.ground.mass(probability[None] / probability.sum())[0])

    def region_of_mass(self, mass: Float64[np.ndarray, " c"]) -> RegionAnswer:
        """The region of one posterior, whose mass in each cell is computed already and sums to 1."""
        if self.calibration is None:
            found = credible_region(mass, self.ground, self.wanted.level)
        else:
            found = self.calibration.region(mass, self.ground, self.wanted.level)
        reason = self._reason(found)
        cells: tuple[str, ...] = ()
        if reason is None and found.cells is not None:
            cells = tuple(sorted(h3.compact_cells([f"{cell:x}" for cell in self.ground.ids[found.cells].tolist()])))
        return RegionAnswer(
            probability=self.wanted.level,
            area_km2=round(found.area_km2, 6) if math.isfinite(found.area_km2) else None,
            cannot_tell=reason is not None,
            resolution=self.ground.resolution,
            cells=cells,
            reason=reason,
            calibrated=self.calibration is not None and self.whole,
        )

    def _reason(self, region: Region) -> str | None:
        if region.cells is None and self.calibration is not None:
            return (
                f"{len(self.calibration)} calibration queries in {self.calibration.n_blocks} blocks, "
                f"{self.calibration.unreachable} of them out of reach, are too few to promise {region.level:g}"
            )
        if region.cannot_tell():
            return (
                f"the region is {region.area_km2:.3g} km2 of {region.total_km2:.3g} km2, no smaller than a blind one "
                "with the same promise"
            )
        if region.cannot_tell(self.wanted.limit_km2):
            return f"the region is {region.area_km2:.3g} km2, above the limit of {self.wanted.limit_km2:g} km2"
        return None


def credible_region(mass: Float64[np.ndarray, " c"], ground: GroundCells, level: float) -> Region:
    """The highest-density region of a posterior: the densest cells until they hold its share.

    Args:
        mass: (C,) mass of each cell, `ground.mass`, summing to 1.
        ground: The cells.
        level: The share, between 0 and 1.

    Example:
        >>> ground = GroundCells.of([[51.5, -0.1], [51.6, -0.1]])
        >>> mass = ground.mass(np.array([[0.9, 0.1]]))[0]
        >>> region = credible_region(mass, ground, 0.5)
        >>> bool(mass[region.cells].sum() >= 0.5), region.cannot_tell()
        (True, False)
    """
    cuts, areas = density_cuts(mass, ground.area_km2, np.array([1.0 - level]))
    inside = np.flatnonzero(cell_density(mass, ground.area_km2) >= cuts[0])
    return Region(level, inside, float(areas[0]), ground.total_area_km2)
