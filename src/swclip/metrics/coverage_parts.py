"""`calibration` of a report: what regions and probabilities promise, and whether they keep it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from swclip.metrics.calibration import ReliabilityBin, RiskCoverage
from swclip.metrics.parts import Part, Range, Share


class Area(Part):
    """Areas of regions in km2."""

    median: float | None
    mean: float | None
    p90: float | None


class DistrictCoverage(Part):
    """Coverage among the queries of one region."""

    n: int
    coverage: Share
    coverage_interval: Range | None
    median_area_km2: float | None


class CityCoverage(Part):
    """The class-conditional variant: a threshold for each city."""

    n: int
    coverage: Share
    coverage_interval: Range | None
    area_km2: Area
    by_region: dict[str, DistrictCoverage]
    cannot_tell: Share


class LevelCoverage(Part):
    """The regions that promise to hold the truth with one probability."""

    level: Share
    threshold: float | None = Field(description="least tail mass of a cell in the region; null: no threshold exists")
    n: int
    coverage: Share
    coverage_interval: Range | None
    area_km2: Area
    by_region: dict[str, DistrictCoverage]
    expected: Range | None = Field(
        description="where coverage lies with 95 % for endless queries like the calibration ones; null: not known"
    )
    cannot_tell: Share = Field(description="queries whose region is no better than a blind one")
    by_city: CityCoverage | None


class Cells(Part):
    """The H3 cells that regions are made of."""

    resolution: int
    across_m: float
    spread_m: float


class AreaCurve(Part):
    """Share of truths held against the mean area of the regions."""

    area_km2: list[float]
    recall: list[Share]


class CalibrationMethod(Part):
    """What the regions were calibrated on."""

    source: Literal["validation", "halves of the queries"]
    n: int
    units: int = Field(description="places or blocks that these queries are of: what was dealt as one")
    unreachable: int = Field(description="calibration queries whose true cell no candidate reaches")
    by_city: bool
    own_cities: list[str] = Field(description="cities with a threshold of their own")


class CalibrationReport(Part):
    """How sure answers are, and whether that is true."""

    method: CalibrationMethod
    cells: Cells
    total_area_km2: float
    levels: list[LevelCoverage]
    reliability: list[ReliabilityBin]
    area_curve: AreaCurve
    selective: RiskCoverage
