"""Intervals over several draws: their coverage on synthetic draws, seeds and blocks."""

from __future__ import annotations

import numpy as np
import pytest

from swclip.errors import InputError
from swclip.metrics.bootstrap import resample_blocks, resample_statistics
from swclip.metrics.hierarchical_bootstrap import DrawResamples, interval_over_draws

DRAWS, SEEDS, BLOCKS, RESAMPLES = 5, 2, 20, 100


def simulated(
    generator: np.random.Generator, draw_sd: float, seed_sd: float, block_sd: float
) -> tuple[float, list[np.ndarray]]:
    """The mean of a figure over draws whose true value is 0, and by draw its resamples for each seed."""
    values, statistics = [], []
    for _ in range(DRAWS):
        block = generator.normal(generator.normal(0.0, draw_sd), block_sd, BLOCKS)
        runs = block + generator.normal(0.0, seed_sd, (SEEDS, 1))
        drawn = generator.integers(BLOCKS, size=(RESAMPLES, BLOCKS))
        values.append(runs.mean())
        statistics.append(runs[:, drawn].mean(axis=2))
    return float(np.mean(values)), statistics


@pytest.mark.parametrize(
    ("draw_sd", "seed_sd", "block_sd"),
    [
        pytest.param(1.0, 0.1, 0.1, id="draws differ most"),
        pytest.param(0.1, 1.0, 0.1, id="seeds differ most"),
        pytest.param(0.3, 0.3, 2.0, id="all"),
    ],
)
def test_intervals_cover_and_p_values_keep_their_level(draw_sd: float, seed_sd: float, block_sd: float) -> None:
    generator = np.random.default_rng(11)
    resamples = DrawResamples.of(DRAWS, SEEDS, RESAMPLES, generator)
    covered, significant, agree = 0, 0, 0
    for _ in range(80):
        value, statistics = simulated(generator, draw_sd, seed_sd, block_sd)
        interval = interval_over_draws(value, resamples.means(statistics), DRAWS)
        covers = interval.low <= 0.0 <= interval.high
        covered, significant = covered + covers, significant + (interval.p <= 0.05)
        agree += covers == (interval.p > 0.05)
    assert covered >= 0.9 * 80
    assert significant <= 0.1 * 80
    assert agree >= 79  # a p-value at the threshold may round


def test_intervals_of_one_draw_alone_would_not_cover() -> None:
    generator = np.random.default_rng(12)
    covered = 0
    for _ in range(80):
        errors = generator.normal(generator.normal(0.0, 1.0), 0.1, BLOCKS)
        resampled = resample_blocks(range(BLOCKS), 60, generator)
        interval = resample_statistics(errors, resampled, {"mean": lambda values: float(values.mean())}).intervals()
        covered += interval["mean"].low <= 0.0 <= interval["mean"].high
    assert covered < 0.3 * 80


def test_a_clear_difference_is_significant_and_paired_seeds_cancel() -> None:
    generator = np.random.default_rng(13)
    resamples = DrawResamples.of(DRAWS, SEEDS, RESAMPLES, generator)
    _, statistics = simulated(generator, 5.0, 5.0, 5.0)
    better = [one - 3.0 for one in statistics]
    samples = resamples.means(better) - resamples.means(statistics)
    assert samples == pytest.approx(-3.0)
    interval = interval_over_draws(-3.0, samples, DRAWS)
    assert interval.p < 0.001
    assert interval.high < 0.0


def test_one_draw_is_refused() -> None:
    with pytest.raises(InputError, match="at least 2"):
        DrawResamples.of(1, 1, 10, np.random.default_rng(0))
