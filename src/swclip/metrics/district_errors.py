"""The errors of each region, and how far regions lie apart: an average over cities can hide one that fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from swclip.errors import InputError
from swclip.metrics.localization_error import DISTRICT_RADII_M, accuracy_within, checked_errors, error_statistics
from swclip.metrics.parts import ByRadius, Metres, Part, Share


class DistrictErrors(Part):
    """The errors of one region."""

    n: int
    median: Metres
    mean: Metres
    p95: Metres
    accuracy_within_m: ByRadius


class DistrictGap(Part):
    """How far regions lie apart."""

    best: str
    worst: str
    best_median: Metres
    worst_median: Metres
    gap: Metres = Field(description="worst_median less best_median")
    gini: Share = Field(description="Gini coefficient of the regions' medians; 0 is equality")
    n_regions: int


def errors_by_district(
    error_m: ArrayLike, regions: Sequence[str], radii_m: Sequence[int] = DISTRICT_RADII_M
) -> dict[str, DistrictErrors]:
    """The errors of each region apart: an average over cities can hide one that fails.

    Args:
        error_m: (Q,) localization errors in metres.
        regions: Region of each query.
        radii_m: Radii of the accuracy, metres.

    Returns:
        The figures by region, in alphabetical order.

    Example:
        >>> table = errors_by_district([10.0, 20.0, 300.0], ["York", "York", "Leeds"])
        >>> list(table), table["York"].median, table["York"].n
        (['Leeds', 'York'], 15.0, 2)
    """
    error = checked_errors(error_m)
    names = np.asarray(list(regions), dtype=object)
    if names.shape != error.shape:
        raise InputError(f"{error.size} errors need as many regions, not {names.size}.")
    table: dict[str, DistrictErrors] = {}
    for name in sorted(set(names.tolist())):
        own = error[names == name]
        statistics = error_statistics(own)
        table[name] = DistrictErrors(
            n=int(own.size),
            median=statistics["median"],
            mean=statistics["mean"],
            p95=statistics["p95"],
            accuracy_within_m=accuracy_within(own, radii_m),
        )
    return table


def district_gap(regions: Mapping[str, DistrictErrors]) -> DistrictGap | None:
    """The regions' median errors beside one another: an average over cities can hide one that fails.

        gap = largest median - smallest median        gini = Gini coefficient of the medians

    Every region counts once, however many queries it has.

    Args:
        regions: Region and its figures, as `by_region` gives them.

    Returns:
        The best and the worst region (of equals the first in the alphabet), their medians and gap in metres, and the
        Gini coefficient; None where there are fewer than two regions.

    References:
        The worst group is the measure of S. Sagawa et al., "Distributionally robust neural networks for group shifts",
        ICLR 2020.

    Example:
        >>> found = district_gap(errors_by_district([30.0, 10.0], ["Leeds", "York"]))
        >>> found.best, found.worst, found.gap, round(found.gini, 6)
        ('York', 'Leeds', 20.0, 0.25)
    """
    if len(regions) < 2:
        return None
    medians = {name: regions[name].median for name in sorted(regions)}
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
    """Gini coefficient: half the mean difference between two of the values, by their mean.

        G = sum_i sum_j |x_i - x_j| / (2 n^2 mean(x))

    Args:
        values: (N,) numbers that are not negative.

    Returns:
        0 where all are equal (all 0 included), (n - 1) / n where one has all.

    Raises:
        InputError: There are none, or one is negative or not finite.

    References:
        C. Gini, "Variabilità e mutabilità" (1912). In sorted form, A. Sen, "On Economic Inequality" (1973), ch. 2.

    Example:
        >>> round(gini([1.0, 2.0, 3.0, 4.0, 5.0]), 4), gini([0.0, 0.0, 0.0, 1.0])
        (0.2667, 0.75)
    """
    x = np.sort(np.asarray(values, dtype=np.float64).reshape(-1))
    if x.size == 0 or not np.isfinite(x).all() or x[0] < 0.0:
        raise InputError(f"the Gini coefficient is of numbers from 0 on, at least one, not of {x.tolist()}.")
    largest = float(x[-1])
    if largest == 0.0:
        return 0.0
    x = x / largest  # as a share of the largest, so that no sum overflows
    order = 2.0 * np.arange(1, x.size + 1) - x.size - 1.0
    return max(0.0, float(order @ x / (x.size * x.sum())))
