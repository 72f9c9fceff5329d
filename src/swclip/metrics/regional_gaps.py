"""How unequally a system serves the regions: the best, the worst, the gap between them, and the Gini coefficient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from swclip.errors import InputError


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


def regional_gap(by_region: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """The regions' median errors beside one another: an average over cities can hide one that fails.

        gap = largest median - smallest median        gini = Gini coefficient of the medians

    Every region counts once, however many queries it has.

    Args:
        by_region: Region and its figures, of which `median` (metres) is read: what `metrics.by_region` gives.

    Returns:
        best, worst (names; of equals the first in the alphabet), best_median, worst_median, gap (metres), gini,
        n_regions; None where there are fewer than two regions.

    References:
        The worst group is the measure of S. Sagawa et al., "Distributionally robust neural networks for group shifts",
        ICLR 2020.

    Example:
        >>> found = regional_gap({"Leeds": {"median": 30.0}, "York": {"median": 10.0}})
        >>> found["best"], found["worst"], found["gap"], round(found["gini"], 6)
        ('York', 'Leeds', 20.0, 0.25)
    """
    if len(by_region) < 2:
        return None
    medians = {name: float(by_region[name]["median"]) for name in sorted(by_region)}
    best, worst = min(medians, key=medians.__getitem__), max(medians, key=medians.__getitem__)
    return {
        "best": best,
        "worst": worst,
        "best_median": medians[best],
        "worst_median": medians[worst],
        "gap": medians[worst] - medians[best],
        "gini": gini(list(medians.values())),
        "n_regions": len(medians),
    }
