"""How regions fare beside one another, and the paired intervals of what one system gives them against another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import ArrayLike

from swclip.errors import InputError
from swclip.evaluation.bootstrap import LEVEL, Interval, median

POOLED = ("median", "mean", "worst_region_median", "region_gap")


def regional_figures(errors_m: ArrayLike, regions: Sequence[str]) -> dict[str, float]:
    """Errors pooled and by region.

    Args:
        errors_m: (Q,) errors in metres of one run, or (S, Q) of several seeds; each figure is the mean over the seeds.
        regions: Region of each query.

    Returns:
        median and mean over all queries; worst_region_median, the largest of the regions' medians; region_gap, how far
        that is above the smallest; and `region:NAME`, each region's median. All in metres.

    Raises:
        InputError: There are no queries, or not as many regions.

    Example:
        >>> figures = regional_figures([10.0, 20.0, 300.0], ["York", "York", "Leeds"])
        >>> figures["worst_region_median"], figures["region_gap"], figures["region:York"]
        (300.0, 285.0, 15.0)
    """
    runs, names, label = _checked(errors_m, regions)
    keys = [*POOLED, *(f"region:{name}" for name in names)]
    return dict(zip(keys, _figures(runs, label, len(names)).tolist(), strict=True))


def regional_differences(
    errors_a_m: ArrayLike,
    errors_b_m: ArrayLike,
    regions: Sequence[str],
    resampled: Sequence[Int64[np.ndarray, " m"]],
    level: float = LEVEL,
) -> Mapping[str, Interval]:
    """Intervals of the differences, a less b, of `regional_figures` on the same queries.

    Args:
        errors_a_m: (Q,) or (S, Q) errors of the first system, metres.
        errors_b_m: (Q,) or (R, Q) errors of the second.
        regions: Region of each query.
        resampled: What `resample_blocks` drew. A resample that misses a region does not count for that region.
        level: Probability that the interval is to hold.

    Returns:
        Name of the figure, its difference and interval.

    Raises:
        InputError: The systems were not measured on the same number of queries.
    """
    a, names, label = _checked(errors_a_m, regions)
    b, _, _ = _checked(errors_b_m, regions)
    value = _figures(a, label, len(names)) - _figures(b, label, len(names))
    drawn = np.stack(
        [
            _figures(a[:, rows], label[rows], len(names)) - _figures(b[:, rows], label[rows], len(names))
            for rows in resampled
        ]
    )
    low, high = np.nanquantile(drawn, [(1.0 - level) / 2.0, (1.0 + level) / 2.0], axis=0)
    keys = [*POOLED, *(f"region:{name}" for name in names)]
    return {key: Interval(*map(float, figures)) for key, *figures in zip(keys, value, low, high, strict=True)}


def _checked(
    errors_m: ArrayLike, regions: Sequence[str]
) -> tuple[Float64[np.ndarray, "s q"], list[str], Int64[np.ndarray, " q"]]:
    runs = np.atleast_2d(np.asarray(errors_m, dtype=np.float64))
    if runs.shape[1] == 0 or runs.shape[1] != len(regions):
        raise InputError(f"{runs.shape[1]} errors need as many regions, at least one; there are {len(regions)}.")
    names, label = np.unique(np.asarray([str(region) for region in regions]), return_inverse=True)
    return runs, names.tolist(), label


def _figures(
    runs: Float64[np.ndarray, "s q"], label: Int64[np.ndarray, " q"], n_regions: int
) -> Float64[np.ndarray, " f"]:
    by_run = []
    for run in runs:
        medians = np.full(n_regions, np.nan)
        for region in range(n_regions):
            own = run[label == region]
            if own.size:
                medians[region] = median(own)
        worst = np.nanmax(medians)
        by_run.append([median(run), run.mean(), worst, worst - np.nanmin(medians), *medians])
    figures: Float64[np.ndarray, " f"] = np.mean(by_run, axis=0)
    return figures
