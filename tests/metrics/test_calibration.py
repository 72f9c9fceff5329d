"""Shares with intervals, reliability and the selective curve, against loops and known values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from swclip.errors import InputError
from swclip.metrics.calibration import reliability, risk_coverage_curve, share_interval


@pytest.mark.parametrize(("hits", "n"), [(0, 7), (7, 7), (40, 40), (0, 1)])
def test_all_or_none_is_the_binomial_interval_of_the_blocks(hits: int, n: int) -> None:
    exact = binomtest(hits, n).proportion_ci(0.95, method="exact")
    hit = np.arange(n) < hits
    assert share_interval(hit, np.arange(n)) == pytest.approx((exact.low, exact.high))
    # The same with every block three queries long.
    assert share_interval(np.repeat(hit, 3), np.repeat(np.arange(n), 3)) == pytest.approx((exact.low, exact.high))


def test_queries_by_themselves_are_worth_themselves() -> None:
    """The variance with n - 1 makes n queries worth n - 1, and no more than that is lost."""
    hit = np.arange(200) < 160
    low, high = share_interval(hit, np.arange(200))
    exact = binomtest(160, 200).proportion_ci(0.95, method="exact")
    assert (low, high) == pytest.approx((exact.low, exact.high), abs=5e-4)
    assert low <= exact.low
    assert high >= exact.high


def test_blocks_that_hit_and_miss_together_count_once() -> None:
    block = np.repeat(np.arange(40), 10)
    together = np.repeat(np.arange(40) < 30, 10)
    low, high = share_interval(together, block)
    exact = binomtest(30, 40).proportion_ci(0.95, method="exact")
    assert (low, high) == pytest.approx((exact.low, exact.high), abs=0.01)
    alone = share_interval(together, np.arange(400))
    assert alone[0] > low + 0.05
    # One block says nearly nothing, and alternation within blocks no more than n queries would.
    assert share_interval([True, False, True], np.zeros(3, dtype=np.int64))[1] > 0.97
    even = share_interval(np.arange(400) % 2 == 0, block)
    half = binomtest(200, 400).proportion_ci(0.95, method="exact")
    assert even == pytest.approx((half.low, half.high))
    with pytest.raises(InputError, match="no queries"):
        share_interval([], np.zeros(0, dtype=np.int64))


def test_the_interval_holds_as_often_as_it_says() -> None:
    """Blocks of 5 with a common propensity; Clopper and Pearson's for all queries holds too seldom."""
    generator = np.random.default_rng(0)
    held = naive = 0
    block = np.repeat(np.arange(40), 5)
    for _ in range(400):
        chance = generator.beta(4.0, 1.0, 40)  # mean 0.8
        hit = generator.random(200) < np.repeat(chance, 5)
        low, high = share_interval(hit, block)
        held += low <= 0.8 <= high
        exact = binomtest(int(hit.sum()), 200).proportion_ci(0.95, method="exact")
        naive += exact.low <= 0.8 <= exact.high
    assert held / 400 >= 0.93
    assert naive < held


def test_reliability_by_loop() -> None:
    generator = np.random.default_rng(3)
    stated, hit = generator.random(103), generator.random(103) < 0.5
    found = reliability(stated, hit, np.arange(103), bins=10)
    assert [bin.n for bin in found] == [11, 10, 10, 11, 10, 10, 11, 10, 10, 10]
    start, order = 0, np.argsort(stated)
    for bin in found:
        rows = order[start : start + bin.n]
        start += bin.n
        assert bin.low == stated[rows[0]]
        assert bin.high == stated[rows[-1]]
        assert bin.mean_probability == pytest.approx(np.mean(stated[rows]))
        assert bin.coverage == pytest.approx(np.mean(hit[rows]))
        assert bin.coverage_interval[0] <= bin.coverage <= bin.coverage_interval[1]


def test_equal_probabilities_stay_together() -> None:
    stated = np.array([1.0] * 50 + [0.0] * 20)
    found = reliability(stated, stated > 0, np.arange(70), bins=10)
    assert [(bin.n, bin.coverage) for bin in found] == [(20, 0.0), (50, 1.0)]


@given(
    st.lists(st.tuples(st.floats(0.0, 5e3), st.sampled_from([0.1, 0.5, 2.0, float("inf")])), min_size=1, max_size=60)
)
def test_the_selective_curve_by_loop(queries: list[tuple[float, float]]) -> None:
    error, area = np.array(queries).T
    curve = risk_coverage_curve(error, area, points=7)
    assert curve.share[-1] == 1.0
    assert len(curve.n) <= 7
    for share, median, within, n in zip(curve.share, curve.median_m, curve.within_100_m, curve.n, strict=True):
        limit = np.sort(area)[n - 1]
        answered = [own for own, size in queries if size <= limit]  # all that are no larger: ties are not parted
        assert n == len(answered)
        assert share == pytest.approx(n / len(queries))
        assert median == pytest.approx(np.median(answered))
        assert within == pytest.approx(np.mean([own <= 100 for own in answered]))
