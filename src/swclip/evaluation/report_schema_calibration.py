"""The schema of `calibration` in report.json: what regions and probabilities promise, and whether they keep it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Metres = Annotated[float, Field(ge=0.0)]
Range = Annotated[list[float], Field(min_length=2, max_length=2, description="low, high")]
ByRadius = Annotated[dict[str, Share], Field(description="share of the queries by radius in metres")]
ByK = Annotated[dict[str, float], Field(description="by length k of the list")]


class Part(BaseModel):
    """A part of a report: no unknown keys, no other types."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Area(Part):
    """Areas of regions in km2."""

    median: float | None
    mean: float | None
    p90: float | None


class RegionCoverage(Part):
    """Coverage among the queries of one region."""

    n: int
    coverage: Share
    coverage_interval: Range | None
    median_area_km2: float | None


class ByCity(Part):
    """The class-conditional variant: a threshold for each city."""

    n: int
    cannot_tell: Share
    coverage: Share
    coverage_interval: Range | None
    area_km2: Area
    by_region: dict[str, RegionCoverage]


class Promise(Part):
    """The regions that promise to hold the truth with one probability."""

    level: Share
    threshold: float | None = Field(description="least tail mass of a cell in the region; null: no threshold exists")
    coverage: Share
    coverage_interval: Range | None
    n: int
    expected: Range | None = Field(
        description="where coverage lies with 95 % for endless queries like the calibration ones; null: not known"
    )
    area_km2: Area
    cannot_tell: Share = Field(description="queries whose region is no better than a blind one")
    by_region: dict[str, RegionCoverage]
    by_city: ByCity | None


class Cells(Part):
    """The H3 cells that regions are made of."""

    resolution: int
    across_m: float
    spread_m: float


class ReliabilityBin(Part):
    """Queries of similar stated probability, and how many were right."""

    low: Share
    high: Share
    n: int
    mean_probability: Share
    coverage: Share
    coverage_interval: Range | None


class AreaCurve(Part):
    """Share of truths held against the mean area of the regions."""

    area_km2: list[float]
    recall: list[Share]


class Selective(Part):
    """Errors when only the surest share of the queries is answered."""

    by: str
    share: list[Share]
    median_m: list[Metres]
    within_100_m: list[Share]
    n: list[int]


class Calibration(Part):
    """How sure answers are, and whether that is true."""

    method: CalibrationMethod
    cells: Cells
    total_area_km2: float
    levels: list[Promise]
    reliability: list[ReliabilityBin]
    area_curve: AreaCurve
    selective: Selective


class CalibrationMethod(Part):
    """What the regions were calibrated on."""

    source: Literal["validation", "halves of the queries"]
    n: int
    units: int = Field(description="places or blocks that these queries are of: what was dealt as one")
    unreachable: int = Field(description="calibration queries whose true cell no candidate reaches")
    by_city: bool
    own_cities: list[str] = Field(description="cities with a threshold of their own")
