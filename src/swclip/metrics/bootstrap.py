"""Block bootstrap: intervals from resampling blocks of queries, since photographs of one street are correlated."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np
from jaxtyping import Float64, Int32, Int64
from numpy.typing import ArrayLike

from swclip.errors import InputError

Statistic = Callable[[Float64[np.ndarray, " q"]], float]

LEVEL = 0.95
RESAMPLES = 1_000
_ROUNDING = 1e-9


def median(values: Float64[np.ndarray, " q"]) -> float:
    """The median. np.median takes five times as long on a short array."""
    n = values.size
    half = n // 2
    if n % 2:
        return float(np.partition(values, half)[half])
    middle = np.partition(values, (half - 1, half))
    return float(0.5 * (middle[half - 1] + middle[half]))


def mean(values: Float64[np.ndarray, " q"]) -> float:
    """The mean."""
    return float(values.mean())


@dataclass(frozen=True)
class ShareWithin:
    """Share of values at most `radius_m`: accuracy within a radius as a statistic."""

    radius_m: float

    def __call__(self, values: Float64[np.ndarray, " q"]) -> float:
        return float(np.count_nonzero(values <= self.radius_m) / values.size)


ERROR_STATISTICS: Mapping[str, Statistic] = {
    "median": median,
    "mean": mean,
    "within_25": ShareWithin(25.0),
    "within_50": ShareWithin(50.0),
    "within_100": ShareWithin(100.0),
}
"""The figures of a report that have an interval."""


@dataclass(frozen=True)
class Interval:
    """A figure and its interval.

    Attributes:
        value: The figure.
        low: Lower end.
        high: Upper end.
        p: Of a difference: two-sided p-value of the hypothesis that it is 0; see `two_sided_p`.
    """

    value: float
    low: float
    high: float
    p: float | None = None


@dataclass(frozen=True)
class ResampledStatistics:
    """Statistics of one system's errors, on all queries and in each resample.

    Intervals are computed separately, so that a system that is compared with several others is resampled once.

    Attributes:
        values: Statistic of all errors by name.
        resampled: (R,) statistic in each resample by name.
    """

    values: Mapping[str, float]
    resampled: Mapping[str, Float64[np.ndarray, " r"]]

    def intervals(self, level: float = LEVEL) -> dict[str, Interval]:
        """Percentile intervals of the statistics."""
        return {name: _interval(value, self.resampled[name], level) for name, value in self.values.items()}

    def minus(self, other: ResampledStatistics, level: float = LEVEL) -> dict[str, Interval]:
        """Intervals and p-values of the difference, this minus the other; both must be of the same resamples."""
        differences = {name: self.resampled[name] - other.resampled[name] for name in self.values}
        return {
            name: replace(
                _interval(value - other.values[name], differences[name], level), p=two_sided_p(differences[name])
            )
            for name, value in self.values.items()
        }


@dataclass(frozen=True, eq=False)
class BlockResamples(Sequence[Int64[np.ndarray, " m"]]):
    """Resamples of queries by blocks, each built on access: 1,000 resamples of 50,000 queries would take 400 MB.

    Attributes:
        members: The queries of each block.
        draws: (R, B) the blocks of each resample.
    """

    members: list[Int64[np.ndarray, " b"]]
    draws: Int32[np.ndarray, "r b"]

    def __len__(self) -> int:
        return len(self.draws)

    @overload
    def __getitem__(self, at: int) -> Int64[np.ndarray, " m"]: ...
    @overload
    def __getitem__(self, at: slice) -> BlockResamples: ...
    def __getitem__(self, at: int | slice) -> Int64[np.ndarray, " m"] | BlockResamples:
        if isinstance(at, slice):
            return BlockResamples(self.members, self.draws[at])
        return np.concatenate([self.members[block] for block in self.draws[at]])


def resample_blocks(blocks: Sequence[Hashable], resamples: int, generator: np.random.Generator) -> BlockResamples:
    """Draw whole blocks with replacement, as many as there are, `resamples` times.

    Args:
        blocks: Block of each of Q queries.
        resamples: Number of resamples.
        generator: Draws the blocks.

    Returns:
        Indices of the queries in each resample; a query occurs as many times as its block was drawn.

    References:
        A. C. Davison and D. V. Hinkley, "Bootstrap Methods and their Application" (1997), section 3.8.
    """
    if len(blocks) == 0:
        raise InputError("there are no queries to resample; check the split.")
    _, label = np.unique(np.asarray([str(block) for block in blocks]), return_inverse=True)
    order = np.argsort(label, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(label[order])) + 1)
    draws = generator.integers(len(members), size=(resamples, len(members)))
    return BlockResamples(members, draws.astype(np.int32))


def resample_statistics(
    errors_m: ArrayLike,
    resampled: Sequence[Int64[np.ndarray, " m"]],
    statistics: Mapping[str, Statistic] = ERROR_STATISTICS,
) -> ResampledStatistics:
    """Statistics of the errors, on all queries and in each resample.

    Args:
        errors_m: (Q,) errors of one run, or (S, Q) of S runs with different seeds on the same queries.
        resampled: Resamples from `resample_blocks`.
        statistics: Function of (Q,) errors by name.
    """
    runs = np.atleast_2d(np.asarray(errors_m, dtype=np.float64))
    values = {name: _of_runs(runs, statistic) for name, statistic in statistics.items()}
    return ResampledStatistics(values, _over_resamples(runs, resampled, statistics))


def two_sided_p(samples: Float64[np.ndarray, " r"]) -> float:
    """Two-sided p-value of the hypothesis that a difference is 0, from its R resamples: the inverse of the interval.

        p = min(1, 2 (1 + min(#{d <= 0}, #{d >= 0})) / (R + 1))

    It is at least 2 / (R + 1): the resolution of R resamples.

    Args:
        samples: (R,) the difference in each resample.

    References:
        A. C. Davison and D. V. Hinkley, "Bootstrap Methods and their Application" (1997), sections 4.2.5 and 5.4.

    Example:
        >>> two_sided_p(np.arange(1.0, 100.0)), two_sided_p(np.arange(-50.0, 51.0))
        (0.02, 1.0)
    """
    opposite = int(min(np.count_nonzero(samples <= _ROUNDING), np.count_nonzero(samples >= -_ROUNDING)))
    return min(1.0, 2.0 * (1 + opposite) / (len(samples) + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for multiple comparisons by Holm's step-down method.

        adjusted (i) = max over j <= i of min(1, (m - j + 1) p(j)),    p(1) <= ... <= p(m)

    Args:
        p_values: m p-values of one family of hypotheses.

    Returns:
        Adjusted p-values in the same order; those at most alpha are significant with a family-wise error of alpha.

    References:
        S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statistics 6 (1979).

    Example:
        >>> [round(p, 6) for p in holm([0.01, 0.04, 0.03, 0.005])]
        [0.03, 0.06, 0.06, 0.02]
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = largest
    return adjusted


def bootstrap_intervals(
    errors_m: ArrayLike,
    resampled: Sequence[Int64[np.ndarray, " m"]],
    statistics: Mapping[str, Statistic] = ERROR_STATISTICS,
    level: float = LEVEL,
) -> dict[str, Interval]:
    """Percentile intervals of statistics of the errors.

    Args:
        errors_m: (Q,) errors of one run, or (S, Q) of S runs with different seeds on the same queries: the figure is
            then the mean over runs of each run's statistic, and a resample draws the same queries for all.
        resampled: Resamples from `resample_blocks`.
        statistics: Function of (Q,) errors by name.
        level: Nominal coverage of the interval.

    Returns:
        Interval by name.

    References:
        B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap" (1993), section 13.3.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> resampled = resample_blocks(["a", "a", "b", "c"], 200, generator)
        >>> interval = bootstrap_intervals([1.0, 3.0, 10.0, 20.0], resampled)["mean"]
        >>> interval.value, interval.low >= 2.0, interval.high <= 20.0
        (8.5, True, True)
    """
    return resample_statistics(errors_m, resampled, statistics).intervals(level)


def paired_differences(
    errors_a_m: ArrayLike,
    errors_b_m: ArrayLike,
    resampled: Sequence[Int64[np.ndarray, " m"]],
    statistics: Mapping[str, Statistic] = ERROR_STATISTICS,
    level: float = LEVEL,
) -> dict[str, Interval]:
    """Intervals of the difference, a minus b, of two systems' statistics on the same queries.

    Both systems are evaluated on the same resampled queries, so that the difficulty that they share cancels out.

    Args:
        errors_a_m: (Q,) or (S, Q) errors of the first system, metres.
        errors_b_m: (Q,) or (R, Q) errors of the second.
        resampled: Resamples from `resample_blocks`.
        statistics: Function of (Q,) errors by name.
        level: Nominal coverage of the interval.

    Returns:
        Interval by name. If it excludes 0, the systems differ significantly.

    References:
        P. Koehn, "Statistical significance tests for machine translation evaluation", EMNLP 2004, section 4.
    """
    a, b = (np.shape(np.atleast_2d(errors))[1] for errors in (errors_a_m, errors_b_m))
    if a != b:
        raise InputError(f"systems measured on {a} and {b} queries cannot be paired.")
    first, second = (resample_statistics(errors, resampled, statistics) for errors in (errors_a_m, errors_b_m))
    return first.minus(second, level)


def _of_runs(runs: Float64[np.ndarray, "s q"], statistic: Statistic) -> float:
    return float(np.mean([statistic(run) for run in runs]))


def _over_resamples(
    runs: Float64[np.ndarray, "s q"],
    resampled: Sequence[Int64[np.ndarray, " m"]],
    statistics: Mapping[str, Statistic],
) -> dict[str, Float64[np.ndarray, " r"]]:
    samples: dict[str, list[float]] = {name: [] for name in statistics}
    for which in resampled:
        sample = runs[:, which]
        for name, statistic in statistics.items():
            samples[name].append(_of_runs(sample, statistic))
    return {name: np.asarray(values) for name, values in samples.items()}


def _interval(value: float, samples: Float64[np.ndarray, " r"], level: float) -> Interval:
    low, high = np.quantile(samples, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(value, float(low), float(high))
