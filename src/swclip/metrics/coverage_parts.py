"""`calibration` of a report: nominal and empirical coverage of prediction regions, reliability, risk-coverage curve."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from swclip.metrics.calibration import ReliabilityBin, RiskCoverage
from swclip.metrics.parts import Part, Range, Share


class RegionAreas(Part):
    """Areas of prediction regions in km2."""

    median: float | None
    mean: float | None
    p90: float | None


class DistrictCoverage(Part):
    """Coverage among the queries of one district."""

    n: int
    coverage: Share
    coverage_interval: Range | None
    median_area_km2: float | None


class CityCoverage(Part):
    """Coverage of the class-conditional variant, with a threshold for each city."""

    n: int
    coverage: Share
    coverage_interval: Range | None
    area_km2: RegionAreas
    by_region: dict[str, DistrictCoverage]
    cannot_tell: Share


class LevelCoverage(Part):
    """Coverage of the prediction regions of one nominal coverage."""

    level: Share
    threshold: float | None = Field(description="smallest tail mass of a cell in the region; null: no threshold exists")
    n: int
    coverage: Share
    coverage_interval: Range | None
    area_km2: RegionAreas
    by_region: dict[str, DistrictCoverage]
    expected: Range | None = Field(
        description="95 % interval of the coverage of infinitely many queries like the calibration ones; null: unknown"
    )
    cannot_tell: Share = Field(
        description="share of queries whose region is no smaller than a random one of the same coverage"
    )
    by_city: CityCoverage | None


class Cells(Part):
    """The H3 cells that regions are made of."""

    resolution: int
    across_m: float
    spread_m: float


class AreaCurve(Part):
    """Share of true positions covered against the mean area of the regions."""

    area_km2: list[float]
    recall: list[Share]


class CalibrationMethod(Part):
    """What the regions were calibrated on."""

    source: Literal["validation", "halves of the queries"]
    n: int
    units: int = Field(description="number of exchangeable units (places or blocks) of these queries")
    unreachable: int = Field(description="calibration queries whose true cell no candidate reaches")
    by_city: bool
    own_cities: list[str] = Field(description="cities with a separate threshold")


class CalibrationReport(Part):
    """Calibration of prediction regions and probabilities."""

    method: CalibrationMethod
    cells: Cells
    total_area_km2: float
    levels: list[LevelCoverage]
    reliability: list[ReliabilityBin]
    area_curve: AreaCurve
    selective: RiskCoverage
