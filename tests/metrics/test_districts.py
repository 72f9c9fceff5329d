"""DistrictGap figures against plain medians, and their paired intervals."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from swclip.errors import InputError
from swclip.metrics.bootstrap import ERROR_STATISTICS, paired_differences, resample_blocks
from swclip.metrics.districts import district_differences, district_figures


def errors(seed: int, seeds: int = 2, n: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).lognormal(4.0, 1.0, (seeds, n))


REGIONS = ["York"] * 30 + ["Leeds"] * 20 + ["Hull"] * 10


def test_figures_against_plain_medians() -> None:
    runs = errors(0)
    figures = district_figures(runs, REGIONS)
    by_run = []
    for run in runs.tolist():
        own = {name: statistics.median(run[i] for i in range(60) if REGIONS[i] == name) for name in set(REGIONS)}
        by_run.append((own, max(own.values()), max(own.values()) - min(own.values())))
    for name in set(REGIONS):
        assert figures[f"region:{name}"] == pytest.approx(statistics.mean(own[name] for own, _, _ in by_run))
    assert figures["worst_region_median"] == pytest.approx(statistics.mean(worst for _, worst, _ in by_run))
    assert figures["region_gap"] == pytest.approx(statistics.mean(gap for _, _, gap in by_run))
    assert figures["median"] == pytest.approx(statistics.mean(statistics.median(run) for run in runs.tolist()))
    assert figures["mean"] == pytest.approx(runs.mean())


def test_pooled_differences_are_those_of_every_comparison() -> None:
    a, b = errors(0), errors(1, seeds=3)
    resampled = resample_blocks([str(i // 4) for i in range(60)], 200, np.random.default_rng(0))
    mine = district_differences(a, b, REGIONS, resampled)
    theirs = paired_differences(a, b, resampled, {key: ERROR_STATISTICS[key] for key in ("median", "mean")})
    for key, interval in theirs.items():
        found = mine[key]
        assert (found.value, found.low, found.high) == pytest.approx((interval.value, interval.low, interval.high))


def test_a_region_that_gains_shows_and_the_others_do_not() -> None:
    b = errors(2)
    a = b.copy()
    a[:, 50:] /= 3.0
    resampled = resample_blocks([str(i) for i in range(60)], 300, np.random.default_rng(0))
    found = district_differences(a, b, REGIONS, resampled)
    assert found["region:Hull"].high < 0.0
    assert (found["region:York"].value, found["region:York"].low, found["region:York"].high) == (0.0, 0.0, 0.0)


def test_a_resample_without_a_region_does_not_count_for_it() -> None:
    a, b = np.array([1.0, 2.0, 3.0, 9.0]), np.array([2.0, 3.0, 4.0, 4.0])
    resampled = [np.array([0, 1, 2]), np.array([0, 1, 3]), np.array([2, 3, 3])]
    found = district_differences(a, b, ["x", "x", "x", "y"], resampled)
    assert (found["region:y"].low, found["region:y"].high) == (5.0, 5.0)


def test_as_many_regions_as_errors() -> None:
    with pytest.raises(InputError, match="60 errors need as many regions"):
        district_figures(errors(0), REGIONS[:-1])
