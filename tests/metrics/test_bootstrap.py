"""Block bootstrap: whole blocks, coverage of intervals, paired differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from swclip.errors import InputError
from swclip.metrics.bootstrap import (
    ShareWithin,
    bootstrap_intervals,
    holm,
    mean,
    median,
    paired_differences,
    resample_blocks,
)


@given(hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(-1e6, 1e6)))
def test_the_fast_median_equals_numpys(values: np.ndarray) -> None:
    assert median(values) == pytest.approx(float(np.median(values)), rel=1e-12, abs=1e-9)


def test_blocks_are_drawn_whole() -> None:
    blocks = ["a", "b", "a", "c", "b", "a"]
    for which in resample_blocks(blocks, 200, np.random.default_rng(0)):
        counts = np.bincount(which, minlength=6)
        for block in "abc":
            block_counts = [int(counts[row]) for row in range(6) if blocks[row] == block]
            assert len(set(block_counts)) == 1
        total = counts[0] + counts[1] + counts[3]  # one row per block
        assert total == 3


def test_all_blocks_are_drawn_equally_often() -> None:
    blocks = [str(row // 5) for row in range(50)]
    resampled = resample_blocks(blocks, 2_000, np.random.default_rng(0))
    counts = np.bincount(np.concatenate(resampled), minlength=50) / len(resampled)
    np.testing.assert_allclose(counts, 1.0, atol=0.1)


def test_the_standard_error_of_a_mean_agrees_with_theory() -> None:
    values = np.random.default_rng(1).exponential(100.0, 400)
    resampled = resample_blocks(range(400), 2_000, np.random.default_rng(2))
    interval = bootstrap_intervals(values, resampled, {"mean": mean})["mean"]
    half = 1.96 * values.std() / np.sqrt(400)
    assert interval.value == values.mean()
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.1)


def test_intervals_cover_the_true_mean_at_about_the_nominal_level() -> None:
    generator = np.random.default_rng(3)
    covered = 0
    for _ in range(150):
        values = generator.normal(50.0, 10.0, 40)
        resampled = resample_blocks(range(40), 120, generator)
        interval = bootstrap_intervals(values, resampled, {"mean": mean})["mean"]
        covered += interval.low <= 50.0 <= interval.high
    assert 0.86 <= covered / 150 <= 0.99


def test_photographs_of_one_block_do_not_narrow_the_interval() -> None:
    per_block = np.random.default_rng(4).normal(50.0, 10.0, 40)
    many = np.repeat(per_block, 25)  # 25 photographs of each of 40 places, all equal
    generator = np.random.default_rng(5)
    independent = bootstrap_intervals(per_block, resample_blocks(range(40), 800, generator), {"mean": mean})["mean"]
    blocked = resample_blocks(np.repeat(np.arange(40), 25).tolist(), 800, generator)
    grouped = bootstrap_intervals(many, blocked, {"mean": mean})["mean"]
    naive = bootstrap_intervals(many, resample_blocks(range(1000), 400, generator), {"mean": mean})["mean"]
    assert grouped.high - grouped.low == pytest.approx(independent.high - independent.low, rel=0.15)
    assert naive.high - naive.low < 0.4 * (grouped.high - grouped.low)


def test_seeds_are_averaged_within_a_resample() -> None:
    runs = np.array([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])
    resampled = [np.array([0, 1, 2, 3]), np.array([0, 0, 0, 0])]
    interval = bootstrap_intervals(runs, resampled, {"mean": mean}, level=1.0)["mean"]
    assert (interval.value, interval.low, interval.high) == (4.5, 3.0, 4.5)


def test_shared_difficulty_cancels_in_a_paired_difference() -> None:
    generator = np.random.default_rng(6)
    hard = generator.exponential(200.0, 300)
    a, b = hard + 5.0, hard
    resampled = resample_blocks(range(300), 300, generator)
    difference = paired_differences(a, b, resampled, {"mean": mean})["mean"]
    assert difference.value == pytest.approx(5.0)
    assert difference.low == pytest.approx(5.0)
    assert difference.high == pytest.approx(5.0)


def test_holm_agrees_with_a_worked_example() -> None:
    # Sorted: 0.005, 0.01, 0.03, 0.04, times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04; the last is raised to the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_p_value_agrees_with_the_interval() -> None:
    generator = np.random.default_rng(3)
    for shift in (-0.4, -0.2, 0.0, 0.2, 0.4):
        a = generator.normal(shift, 1.0, 80)
        resampled = resample_blocks(range(80), 999, generator)
        one = paired_differences(a, np.zeros(80), resampled, {"mean": mean})["mean"]
        assert (one.p <= 0.05) == (one.low > 0.0 or one.high < 0.0)


def test_p_values_of_equal_systems_are_uniform() -> None:
    generator = np.random.default_rng(4)
    p_values = []
    for _ in range(100):
        resampled = resample_blocks(range(60), 99, generator)
        p_values.append(
            paired_differences(generator.normal(size=60), generator.normal(size=60), resampled, {"mean": mean})[
                "mean"
            ].p
        )
    assert 0.0 < np.mean(np.array(p_values) <= 0.05) < 0.15
    assert 0.4 < np.median(p_values) < 0.6


def test_paired_differences_are_antisymmetric() -> None:
    generator = np.random.default_rng(7)
    a, b = generator.exponential(50.0, (2, 60)), generator.exponential(80.0, (3, 60))
    resampled = resample_blocks(range(60), 100, generator)
    forward, backward = paired_differences(a, b, resampled), paired_differences(b, a, resampled)
    for name in forward:
        assert forward[name].value == pytest.approx(-backward[name].value)
        assert forward[name].low == pytest.approx(-backward[name].high)


def test_a_share_includes_its_radius() -> None:
    assert ShareWithin(25.0)(np.array([24.0, 25.0, 26.0, 100.0])) == 0.5


def test_systems_with_different_queries_cannot_be_paired() -> None:
    with pytest.raises(InputError, match="3 and 4"):
        paired_differences([1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0], [np.array([0])])


def test_no_queries_to_resample_are_refused() -> None:
    with pytest.raises(InputError):
        resample_blocks([], 10, np.random.default_rng(0))
