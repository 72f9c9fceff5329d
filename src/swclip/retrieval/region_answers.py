"""The region that an answer states: from a posterior over the candidates to H3 cells, or why there are none."""

from __future__ import annotations

import math
from dataclasses import dataclass

import h3
import numpy as np
from jaxtyping import Float64

from swclip.errors import ConfigError
from swclip.retrieval.answers import RegionAnswer
from swclip.retrieval.conformal import Calibration
from swclip.retrieval.ground_cells import GroundCells
from swclip.retrieval.region import Region

NO_REGIONS = (
    "answers state no regions: the model was trained without calibrating them (model/regions.json is not there); train "
    "it again on splits with validation queries, and index again"
)


@dataclass(frozen=True)
class RegionRequest:
    """What is asked of a region.

    Attributes:
        level: Probability with which it is to hold the place.
        limit_km2: Areas above this cannot tell; None for no limit but a blind region's.

    Raises:
        ConfigError: The limit is not above 0.
    """

    level: float
    limit_km2: float | None = None

    def __post_init__(self) -> None:
        if self.limit_km2 is not None and not (math.isfinite(self.limit_km2) and self.limit_km2 > 0):
            raise ConfigError(f"the limit of a region is {self.limit_km2} km2; give an area above 0.")


@dataclass(frozen=True, eq=False)
class RegionMaker:
    """Makes the regions of posteriors over some candidates.

    Attributes:
        ground: The cells of those candidates.
        calibration: The tails that set the thresholds.
        wanted: What is asked.
    """

    ground: GroundCells
    calibration: Calibration
    wanted: RegionRequest

    @classmethod
    def of(
        cls, positions_deg: Float64[np.ndarray, "m 2"], calibration: Calibration, wanted: RegionRequest
    ) -> RegionMaker:
        """Lay out the ground of candidates as the calibration has it."""
        resolution, spread_m = calibration.resolution, calibration.spread_m
        return cls(GroundCells.of(positions_deg, resolution=resolution, spread_m=spread_m), calibration, wanted)

    def region(self, probability: Float64[np.ndarray, " m"]) -> RegionAnswer:
        """The region of one posterior over the candidates."""
        mass = self.ground.mass(probability[None] / probability.sum())[0]
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
        )

    def _reason(self, region: Region) -> str | None:
        if region.cells is None:
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
