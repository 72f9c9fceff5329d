"""Bootstrap of several draws of the splits: draws, seeds and blocks of queries are resampled together.

Figures of one draw vary less than those of another: its intervals know other streets, not other splits or trainings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy import stats

from swclip.errors import InputError
from swclip.metrics.bootstrap import LEVEL, Interval

DRAW_RESAMPLES = 10_000
"""Resamples of the draws; the blocks within come from the resamples of each draw."""

_STEPS = 20


@dataclass(frozen=True, eq=False)
class DrawResamples:
    """Resamples of draws, of seeds within each, and of blocks within these, the same for all systems.

    Attributes:
        draws: (R, D) draws, with replacement.
        seeds: (R, D, S) seeds within them, with replacement, as a share of the number of seeds: systems with as many
            seeds are paired.
        blocks: (R, D) which of the resamples of the blocks of that draw.
    """

    draws: Int64[np.ndarray, "r d"]
    seeds: Float64[np.ndarray, "r d s"]
    blocks: Int64[np.ndarray, "r d"]

    @classmethod
    def of(cls, draws: int, seeds: int, block_resamples: int, generator: np.random.Generator) -> DrawResamples:
        """Draw them.

        Args:
            draws: Number of draws D, at least 2.
            seeds: Largest number of seeds S of a system.
            block_resamples: Resamples of the blocks of each draw.
            generator: The random generator.

        Raises:
            InputError: There are fewer than two draws.
        """
        if draws < 2:
            raise InputError(f"{draws} draw of the splits has no variation between draws; at least 2 are needed.")
        shape = (DRAW_RESAMPLES, draws)
        return cls(
            generator.integers(draws, size=shape),
            generator.random((*shape, seeds)),
            generator.integers(block_resamples, size=shape),
        )

    def means(self, statistics: Sequence[Float64[np.ndarray, "s b"]]) -> Float64[np.ndarray, " r"]:
        """The mean of a statistic over resampled draws and seeds.

        Args:
            statistics: By draw, the statistic of each seed in each resample of the blocks of the draw.
        """
        values = np.stack(statistics)
        count = values.shape[1]
        at = np.minimum((self.seeds[:, :, :count] * count).astype(np.int64), count - 1)
        return np.asarray(values[self.draws[:, :, None], at, self.blocks[:, :, None]].mean(axis=(1, 2)))


def interval_over_draws(value: float, samples: Float64[np.ndarray, " r"], draws: int, level: float = LEVEL) -> Interval:
    """Interval and p-value of a mean over draws.

        low, high = v - k (v - q_a), v + k (q_1-a - v),    a = (1 - level) / 2,    k = sqrt(D / (D - 1)) t_D-1 / z

    with q the quantiles of the resamples, and t and z those of Student's and the normal distribution at 1 - a. Few
    draws understate the variation between draws: k corrects the bias of their standard deviation, and its own
    uncertainty. The interval is conservative where most of the variation is within draws, since blocks and seeds are
    counted in the differences between draws as well. p is the level at which it would reach 0.

    Args:
        value: The mean over all draws and seeds.
        samples: (R,) its resamples, from `DrawResamples.means`.
        draws: Number of draws D.
        level: Nominal coverage.

    References:
        A. C. Davison and D. V. Hinkley, "Bootstrap Methods and their Application" (1997), section 3.8 (hierarchical
        data); A. B. Owen and D. Eckles, "Bootstrapping data arrays of arbitrary order", Annals of Applied Statistics 6
        (2012); T. Hesterberg, "What teachers should know about the bootstrap", The American Statistician 69 (2015),
        section 4.3 (small samples).
    """
    low, high = _ends(value, samples, draws, 1.0 - level)
    return Interval(value, low, high, p=_level_that_reaches_zero(value, samples, draws))


def _level_that_reaches_zero(value: float, samples: Float64[np.ndarray, " r"], draws: int) -> float:
    smallest = 2.0 / (len(samples) + 1)  # the resolution of the resamples
    reaches, excludes = smallest, 1.0
    low, high = _ends(value, samples, draws, smallest)
    if not low <= 0.0 <= high:
        return smallest
    for _ in range(_STEPS):
        middle = 0.5 * (reaches + excludes)
        low, high = _ends(value, samples, draws, middle)
        reaches, excludes = (middle, excludes) if low <= 0.0 <= high else (reaches, middle)
    return excludes


def _ends(value: float, samples: Float64[np.ndarray, " r"], draws: int, alpha: float) -> tuple[float, float]:
    tail = 0.5 * min(alpha, 1.0 - 1e-9)
    normal, student = stats.norm.isf(tail), stats.t.isf(tail, draws - 1)
    stretch = np.sqrt(draws / (draws - 1)) * student / normal
    low, high = np.quantile(samples, [tail, 1.0 - tail])
    # A skewed distribution of resamples does not exclude its own mean.
    return value - stretch * max(0.0, value - float(low)), value + stretch * max(0.0, float(high) - value)
