"""The mean over seeds of the reports of one system, as `mean` in benchmark.json and compare.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field, ValidationError

from swclip.errors import MismatchError
from swclip.evaluation.report import Report
from swclip.metrics.baselines import Baselines
from swclip.metrics.calibration import RegionAreas
from swclip.metrics.error_report import DistrictErrors, Intervals
from swclip.metrics.parts import ByK, ByRadius, Errors, Figures, Number, Part, Range, Share
from swclip.structure import first_error

Json = dict[str, Any]
"""A part whose figures are not compared: JSON, averaged as `averaged` does."""


class MeanGap(Part):
    """Mean over seeds of the gap between districts."""

    best: str | None
    worst: str | None
    best_median: float
    worst_median: float
    gap: float
    gini: float
    n_regions: Number


class MeanMoran(Part):
    """Mean over seeds of Moran's I of the errors."""

    i: float
    expected: float
    z: float | None
    p: Share
    permutations: Number
    neighbours: Number
    n: Number


class MeanSpatial(Part):
    """Mean over seeds of the spatial statistics."""

    errors_moran: MeanMoran | None
    lisa: Json | None
    components: list[Any] | None
    correlogram: Json | None
    mantel: Json | None
    smoothness: Json | None


class MeanCoverage(Part):
    """Mean over seeds of the coverage of the prediction regions of one nominal coverage."""

    level: Share
    threshold: float | None
    n: Number
    coverage: Share
    coverage_interval: Range | None
    area_km2: RegionAreas
    by_region: Json
    expected: Range | None
    cannot_tell: Share
    by_city: Json | None


class MeanCalibration(Part):
    """Mean over seeds of the calibration."""

    method: Json
    cells: Json
    total_area_km2: float
    levels: list[MeanCoverage] | None
    reliability: list[Any] | None
    area_curve: Json
    selective: Json
    stated: Json | None = None


class SeedDeviation(Part):
    """Standard deviations over seeds (n - 1) of the headline figures."""

    error_m: dict[str, float]
    accuracy_within_m: dict[str, float]

    @classmethod
    def of(cls, reports: Sequence[Report]) -> SeedDeviation | None:
        """Of the reports of a system; None with one seed."""
        if len(reports) < 2:
            return None
        errors = {key: [getattr(report.error_m, key) for report in reports] for key in ("median", "mean")}
        shares = {key: [report.accuracy_within_m[key] for report in reports] for key in ("25", "50", "100")}
        return SeedDeviation(
            error_m={key: float(np.std(values, ddof=1)) for key, values in errors.items()},
            accuracy_within_m={key: float(np.std(values, ddof=1)) for key, values in shares.items()},
        )


@dataclass(frozen=True)
class MeanFigure:
    """A figure, its interval (low, high) and its standard deviation over seeds; None where they are not known."""

    value: float
    interval: Sequence[float] | None
    seed_sd: float | None


class MeanReport(Part):
    """Mean over the seeds of a system of the figures of their reports.

    Numbers are averaged at every depth. Other values are null where the reports differ, and keys that a report lacks
    are left out. The intervals are those of the mean.
    """

    version: str | None
    n_queries: Number
    n_answerable: Number | None
    gallery_size: Number | None
    gallery_photographs: Number | None
    unanswered: Json | None = None
    estimator: str | None
    error_m: Errors
    accuracy_within_m: ByRadius
    geoscore: float
    by_region: dict[str, DistrictErrors]
    regional: MeanGap | None
    intervals: Intervals
    recall_at_k_25m: dict[str, Share | None] | None
    mrr_25m: float | None
    ndcg_at_k: ByK | None
    relevance: Json | None
    city_alignment_at_k: ByK | None
    levels: Json
    baselines: Baselines
    estimators: dict[str, Figures]
    regions: str | None
    spatial: MeanSpatial | None
    calibration: MeanCalibration | None
    confidence: Json | None = None
    on: str | None = None
    truth: Json | None = None
    posterior: Json | None = None
    parts: Number | None = None
    made_with: Json = Field(default_factory=dict)
    leakage: Json | None = None
    seeds: int
    seed_sd: SeedDeviation | None = Field(description="null with one seed")

    @classmethod
    def of(cls, reports: Sequence[Report], intervals: Intervals) -> MeanReport:
        """Average the reports of the seeds of a system.

        Args:
            reports: At least one.
            intervals: Intervals of the means.

        Raises:
            MismatchError: Two reports differ in a figure that all seeds of a system share.
        """
        mean = averaged([report.as_dict() for report in reports])
        seeds = {"seeds": len(reports), "seed_sd": SeedDeviation.of(reports)}
        try:
            return cls.model_validate({**mean, "intervals": intervals, **seeds})
        except ValidationError as error:
            key, _ = first_error(error)
            raise MismatchError(
                f"the reports of one system differ in {key}, which all of its seeds share; evaluate all with one "
                "version of swclip, or give them different names."
            ) from error

    def error(self, key: str) -> MeanFigure:
        """A statistic of the errors in metres, with its interval and standard deviation where they are known."""
        interval = getattr(self.intervals.error_m, key, None)
        seed_sd = None if self.seed_sd is None else self.seed_sd.error_m.get(key)
        return MeanFigure(getattr(self.error_m, key), interval, seed_sd)

    def accuracy(self, radius: str) -> MeanFigure:
        """The share of queries within a radius in metres, with interval and standard deviation where they are known."""
        seed_sd = None if self.seed_sd is None else self.seed_sd.accuracy_within_m.get(radius)
        return MeanFigure(self.accuracy_within_m[radius], self.intervals.accuracy_within_m.get(radius), seed_sd)

    def recall(self, k: int) -> float | None:
        """Recall at 25 m among the first k candidates; None where candidates were not ranked."""
        return (self.recall_at_k_25m or {}).get(str(k))

    def coverage_at(self, level: float) -> MeanCoverage | None:
        """Coverage of the regions of a nominal coverage; None where there are none."""
        levels = (self.calibration and self.calibration.levels) or []
        return next((figures for figures in levels if figures.level == level), None)


def averaged(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Average the numbers of JSON objects at every depth.

    Other values are kept where all agree and are None where they differ; keys that one of them lacks are left out.

    Args:
        reports: At least one.

    Example:
        >>> averaged([{"error_m": {"mean": error}, "estimator": "mode"} for error in (10.0, 20.0)])
        {'error_m': {'mean': 15.0}, 'estimator': 'mode'}
    """
    shared = [key for key in reports[0] if all(key in report for report in reports)]
    return {key: _averaged_values([report[key] for report in reports]) for key in shared}


def _averaged_values(values: Sequence[Any]) -> Any:
    if all(isinstance(value, Mapping) for value in values):
        return averaged(values)
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        same = all(value == values[0] for value in values)
        return values[0] if same else float(np.mean(values))
    if all(isinstance(value, list) and len(value) == len(values[0]) for value in values):
        return [_averaged_values(items) for items in zip(*values, strict=True)]
    return values[0] if all(value == values[0] for value in values) else None


def with_gallery(reports: Iterable[MeanReport]) -> MeanReport:
    """The first report with a known gallery, and so an oracle error and baselines; the first report where none has one.

    Coordinates of other tools have no gallery.
    """
    reports = list(reports)
    return next((report for report in reports if report.baselines.floor is not None), reports[0])
