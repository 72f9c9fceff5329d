"""Error statistics with intervals, overall and by district: the part of a report that needs only the errors.

An average over cities can hide one with large errors: the gap between districts states it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from swclip.errors import InputError
from swclip.metrics.bootstrap import LEVEL, RESAMPLES, Interval, bootstrap_intervals, resample_blocks
from swclip.metrics.localization_error import DISTRICT_RADII_M, accuracy_within, checked_errors, error_statistics
from swclip.metrics.ndcg import geoscore
from swclip.metrics.parts import ByRadius, Figures, Metres, Part, Range, Share


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

    @classmethod
    def of(cls, intervals: Mapping[str, Interval], resamples: int, block: str, blocks: int) -> Intervals:
        """Arrange intervals of `bootstrap_intervals` like their figures.

        Args:
            intervals: By name: median, mean, within_RADIUS.
            resamples: Number of resamples.
            block: Kind of block that was resampled.
            blocks: Number of blocks.
        """
        ends = {name: [interval.low, interval.high] for name, interval in intervals.items()}
        return Intervals(
            error_m=ErrorIntervals(median=ends["median"], mean=ends["mean"]),
            accuracy_within_m={name[7:]: pair for name, pair in ends.items() if name.startswith("within_")},
            level=LEVEL,
            resamples=resamples,
            block=block,
            blocks=blocks,
        )


class DistrictErrors(Part):
    """The errors of one district."""

    n: int
    median: Metres
    mean: Metres
    p95: Metres
    accuracy_within_m: ByRadius


class DistrictGap(Part):
    """The gap between the errors of districts."""

    best: str
    worst: str
    best_median: Metres
    worst_median: Metres
    gap: Metres = Field(description="worst_median minus best_median")
    gini: Share = Field(description="Gini coefficient of the districts' medians; 0 is equality")
    n_regions: int


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
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> ErrorReport:
    """Statistics, accuracies, GeoScore and their intervals, overall and by district.

    Args:
        error_m: (Q,) localization errors, metres.
        districts: District of each query.
        blocks: Block of each query.
        block_kind: Kind of the blocks, for the report.
        seed: Seed of the bootstrap: equal errors and blocks have equal intervals wherever they are reported.
        resamples: Number of bootstrap resamples.

    Returns:
        The figures of a report that depend on the errors alone.

    Raises:
        InputError: There are no queries, or an error is not a valid distance.
    """
    table = errors_by_district(error_m, districts)
    figures = Figures.of(error_m)
    intervals = bootstrap_intervals(error_m, resample_blocks(blocks, resamples, np.random.default_rng(seed)))
    return ErrorReport(
        error_m=figures.error_m,
        accuracy_within_m=figures.accuracy_within_m,
        geoscore=geoscore(error_m),
        by_region=table,
        regional=district_gap(table),
        intervals=Intervals.of(intervals, resamples, block_kind, len(set(blocks))),
    )


def errors_by_district(
    error_m: ArrayLike, districts: Sequence[str], radii_m: Sequence[int] = DISTRICT_RADII_M
) -> dict[str, DistrictErrors]:
    """Statistics of the errors of each district.

    Args:
        error_m: (Q,) localization errors in metres.
        districts: District of each query.
        radii_m: Radii of the accuracy, metres.

    Returns:
        The figures by district, in alphabetical order.

    Example:
        >>> table = errors_by_district([10.0, 20.0, 300.0], ["York", "York", "Leeds"])
        >>> list(table), table["York"].median, table["York"].n
        (['Leeds', 'York'], 15.0, 2)
    """
    error = checked_errors(error_m)
    names = np.asarray(list(districts), dtype=object)
    if names.shape != error.shape:
        raise InputError(f"{error.size} errors need as many districts, not {names.size}.")
    table: dict[str, DistrictErrors] = {}
    for name in sorted(set(names.tolist())):
        district_error = error[names == name]
        statistics = error_statistics(district_error)
        table[name] = DistrictErrors(
            n=int(district_error.size),
            median=statistics["median"],
            mean=statistics["mean"],
            p95=statistics["p95"],
            accuracy_within_m=accuracy_within(district_error, radii_m),
        )
    return table


def district_gap(districts: Mapping[str, DistrictErrors]) -> DistrictGap | None:
    """The gap between the median errors of districts.

        gap = largest median - smallest median        gini = Gini coefficient of the medians

    Every district has the same weight, regardless of its number of queries.

    Args:
        districts: Figures by district, from `errors_by_district`.

    Returns:
        The best and the worst district (ties in alphabetical order), their medians and gap in metres, and the Gini
        coefficient; None where there are fewer than two districts.

    References:
        Worst-group error: S. Sagawa et al., "Distributionally robust neural networks for group shifts",
        ICLR 2020.

    Example:
        >>> gap = district_gap(errors_by_district([30.0, 10.0], ["Leeds", "York"]))
        >>> gap.best, gap.worst, gap.gap, round(gap.gini, 6)
        ('York', 'Leeds', 20.0, 0.25)
    """
    if len(districts) < 2:
        return None
    medians = {name: districts[name].median for name in sorted(districts)}
    best, worst = min(medians, key=medians.__getitem__), max(medians, key=medians.__getitem__)
    return DistrictGap(
        best=best,
        worst=worst,
        best_median=medians[best],
        worst_median=medians[worst],
        gap=medians[worst] - medians[best],
        gini=gini(list(medians.values())),
        n_regions=len(medians),
    )


def gini(values: ArrayLike) -> float:
    """Gini coefficient: half the mean absolute difference of two values, divided by the mean.

        G = sum_i sum_j |x_i - x_j| / (2 n^2 mean(x))

    Args:
        values: (N,) non-negative numbers.

    Returns:
        0 where all are equal (also all 0), (n - 1) / n where one value is the whole sum.

    Raises:
        InputError: There are no values, or one is negative or not finite.

    References:
        C. Gini, "Variabilità e mutabilità" (1912). In sorted form, A. Sen, "On Economic Inequality" (1973), ch. 2.

    Example:
        >>> round(gini([1.0, 2.0, 3.0, 4.0, 5.0]), 4), gini([0.0, 0.0, 0.0, 1.0])
        (0.2667, 0.75)
    """
    x = np.sort(np.asarray(values, dtype=np.float64).reshape(-1))
    if x.size == 0 or not np.isfinite(x).all() or x[0] < 0.0:
        raise InputError(f"the Gini coefficient needs at least one value, all finite and 0 or more, not {x.tolist()}.")
    largest = float(x[-1])
    if largest == 0.0:
        return 0.0
    x = x / largest  # relative to the largest, so that no sum overflows
    order = 2.0 * np.arange(1, x.size + 1) - x.size - 1.0
    return max(0.0, float(order @ x / (x.size * x.sum())))
