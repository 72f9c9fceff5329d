"""Shares with intervals, reliability and the risk-coverage curve, against loops and exact values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from swclip.errors import InputError
from swclip.metrics.calibration import reliability, risk_coverage_curve, share_interval


@pytest.mark.parametrize(("hits", "n"), [(0, 7), (7, 7), (40, 40), (0, 1)])
def test_all_or_no_hits_give_the_binomial_interval_of_the_blocks(hits: int, n: int) -> None:
    exact = binomtest(hits, n).proportion_ci(0.95, method="exact")
    hit = np.arange(n) < hits
    assert share_interval(hit, np.arange(n)) == pytest.approx((exact.low, exact.high))
    # The same with every block three queries long.
    assert share_interval(np.repeat(hit, 3), np.repeat(np.arange(n), 3)) == pytest.approx((exact.low, exact.high))


def test_independent_queries_keep_their_sample_size() -> None:
    """The variance with n - 1 reduces the effective sample size to n - 1 only."""
    hit = np.arange(200) < 160
    low, high = share_interval(hit, np.arange(200))
    exact = binomtest(160, 200).proportion_ci(0.95, method="exact")
    assert (low, high) == pytest.approx((exact.low, exact.high), abs=5e-4)
    assert low <= exact.low
    assert high >= exact.high


def test_fully_correlated_blocks_count_once() -> None:
    block = np.repeat(np.arange(40), 10)
    hits = np.repeat(np.arange(40) < 30, 10)
    low, high = share_interval(hits, block)
    exact = binomtest(30, 40).proportion_ci(0.95, method="exact")
    assert (low, high) == pytest.approx((exact.low, exact.high), abs=0.01)
    as_queries = share_interval(hits, np.arange(400))
    assert as_queries[0] > low + 0.05
    # One block gives almost no information, and alternation within blocks no more than n queries.
    assert share_interval([True, False, True], np.zeros(3, dtype=np.int64))[1] > 0.97
    alternating = share_interval(np.arange(400) % 2 == 0, block)
    half = binomtest(200, 400).proportion_ci(0.95, method="exact")
    assert alternating == pytest.approx((half.low, half.high))
    with pytest.raises(InputError, match="no queries"):
        share_interval([], np.zeros(0, dtype=np.int64))


def test_the_interval_covers_at_its_nominal_level() -> None:
    """Blocks of 5 with a common probability; Clopper and Pearson's interval for all queries covers too rarely."""
    generator = np.random.default_rng(0)
    covered = naive = 0
    block = np.repeat(np.arange(40), 5)
    for _ in range(400):
        chance = generator.beta(4.0, 1.0, 40)  # mean 0.8
        hit = generator.random(200) < np.repeat(chance, 5)
        low, high = share_interval(hit, block)
        covered += low <= 0.8 <= high
        exact = binomtest(int(hit.sum()), 200).proportion_ci(0.95, method="exact")
        naive += exact.low <= 0.8 <= exact.high
    assert covered / 400 >= 0.93
    assert naive < covered


def test_reliability_equals_a_loop() -> None:
    generator = np.random.default_rng(3)
    predicted, hit = generator.random(103), generator.random(103) < 0.5
    bins = reliability(predicted, hit, np.arange(103), bins=10)
    assert [bin.n for bin in bins] == [11, 10, 10, 11, 10, 10, 11, 10, 10, 10]
    start, order = 0, np.argsort(predicted)
    for bin in bins:
        rows = order[start : start + bin.n]
        start += bin.n
        assert bin.low == predicted[rows[0]]
        assert bin.high == predicted[rows[-1]]
        assert bin.mean_probability == pytest.approx(np.mean(predicted[rows]))
        assert bin.coverage == pytest.approx(np.mean(hit[rows]))
        assert bin.coverage_interval[0] <= bin.coverage <= bin.coverage_interval[1]


def test_equal_probabilities_are_in_one_bin() -> None:
    predicted = np.array([1.0] * 50 + [0.0] * 20)
    bins = reliability(predicted, predicted > 0, np.arange(70), bins=10)
    assert [(bin.n, bin.coverage) for bin in bins] == [(20, 0.0), (50, 1.0)]


@given(
    st.lists(st.tuples(st.floats(0.0, 5e3), st.sampled_from([0.1, 0.5, 2.0, float("inf")])), min_size=1, max_size=60)
)
def test_the_risk_coverage_curve_equals_a_loop(queries: list[tuple[float, float]]) -> None:
    error, area = np.array(queries).T
    curve = risk_coverage_curve(error, area, points=7)
    assert curve.share[-1] == 1.0
    assert len(curve.n) <= 7
    for share, median, within, n in zip(curve.share, curve.median_m, curve.within_100_m, curve.n, strict=True):
        limit = np.sort(area)[n - 1]
        answered = [value for value, size in queries if size <= limit]  # all that are no larger: ties are kept together
        assert n == len(answered)
        assert share == pytest.approx(n / len(queries))
        assert median == pytest.approx(np.median(answered))
        assert within == pytest.approx(np.mean([value <= 100 for value in answered]))
