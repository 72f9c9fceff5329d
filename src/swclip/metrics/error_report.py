"""Error statistics with intervals: the part of a report that needs only errors, districts and blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from swclip.metrics.bootstrap import LEVEL, RESAMPLES, Interval, bootstrap_intervals, resample_blocks
from swclip.metrics.district_errors import DistrictErrors, DistrictGap, district_gap, errors_by_district
from swclip.metrics.ndcg import geoscore
from swclip.metrics.parts import Figures, Part, Range, Share


class ErrorIntervals(Part):
    """Intervals of errors, metres."""

    median: Range
    mean: Range


class Intervals(Part):
    """Percentile bootstrap over blocks of queries."""

    error_m: ErrorIntervals
    accuracy_within_m: dict[str, Range]
    level: Share
    resamples: int
    block: str = Field(description="kind of block that was resampled")
    blocks: int


class ErrorReport(Figures):
    """Statistics of the errors and their intervals, overall and by district: keys of a report."""

    geoscore: float = Field(description="0 to 5000")
    by_region: dict[str, DistrictErrors]
    regional: DistrictGap | None
    intervals: Intervals


def error_report(
    error_m: ArrayLike,
    districts: Sequence[str],
    blocks: Sequence[str],
    block_kind: str,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
) -> ErrorReport:
    """Statistics, accuracies, GeoScore and their intervals, overall and by district.

    Args:
        error_m: (Q,) localization errors, metres.
        districts: District of each query.
        blocks: Block of each query.
        block_kind: Kind of the blocks, for the report.
        generator: Generator of the bootstrap.
        resamples: Number of bootstrap resamples.

    Returns:
        The figures of a report that depend on the errors alone.

    Raises:
        InputError: There are no queries, or an error is not a valid distance.
    """
    table = errors_by_district(error_m, districts)
    figures = Figures.of(error_m)
    nested = nested_intervals(bootstrap_intervals(error_m, resample_blocks(blocks, resamples, generator)))
    return ErrorReport(
        error_m=figures.error_m,
        accuracy_within_m=figures.accuracy_within_m,
        geoscore=geoscore(error_m),
        by_region=table,
        regional=district_gap(table),
        intervals=Intervals(
            error_m=ErrorIntervals(**nested["error_m"]),
            accuracy_within_m=nested["accuracy_within_m"],
            level=LEVEL,
            resamples=resamples,
            block=block_kind,
            blocks=len(set(blocks)),
        ),
    )


def nested_intervals(intervals: Mapping[str, Interval]) -> dict[str, dict[str, list[float]]]:
    """Intervals nested like their figures: error_m.median, accuracy_within_m.25, each [low, high]."""
    nested: dict[str, dict[str, list[float]]] = {"error_m": {}, "accuracy_within_m": {}}
    for name, interval in intervals.items():
        group, key = ("accuracy_within_m", name[7:]) if name.startswith("within_") else ("error_m", name)
        nested[group][key] = [interval.low, interval.high]
    return nested
