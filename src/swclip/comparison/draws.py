"""Several draws of one splits file: the same protocol and parameters with other seeds, compared together.

Figures of one draw vary less than those of another: its intervals know other streets, not other splits or trainings.
The bootstrap therefore resamples draws, seeds and blocks of queries together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64
from scipy import stats

from swclip.comparison.comparison import Comparison
from swclip.comparison.document import Difference, DrawnFigure, DrawnSystem, Draws, SystemDifference
from swclip.data.manifest import Manifest
from swclip.data.protocols import SplitConfig, split
from swclip.data.splits import Splits, read_splits
from swclip.errors import ConfigError, InputError
from swclip.metrics.bootstrap import (
    ERROR_STATISTICS,
    LEVEL,
    RESAMPLES,
    BlockResamples,
    Interval,
    resample_blocks,
    resample_statistics,
)

DRAWS = "draws"
"""Folder of the further draws, in that of the benchmark."""


def draw_splits(manifest: Manifest, first: Splits, draws: int, folder: Path) -> list[Splits]:
    """Split again with the protocol and parameters of a splits file, and the seeds that follow its own.

    Files of an earlier call with the same parameters are read.

    Args:
        manifest: The photographs.
        first: The splits of the first draw.
        draws: Number of draws, with the first.
        folder: Each further draw is FOLDER/seed-SEED/splits.parquet.

    Returns:
        The splits of all draws, the first one first.

    Raises:
        ConfigError: The splits were not drawn by `swclip split`, hold out a city, or a file of another draw is there.
    """
    protocol, parameters, seed = (first.meta.get(key) for key in ("protocol", "parameters", "seed"))
    if protocol not in ("known-places", "new-streets") or not isinstance(parameters, Mapping) or seed is None:
        raise ConfigError(
            f"{first.path}: --draws splits again with other seeds, which needs splits that `swclip split` drew with "
            f"known-places or new-streets, not {protocol}; `swclip split --all-cities` leaves cities out in turn."
        )
    if missing := {one.name for one in fields(SplitConfig)} - {"protocol", "seed", *parameters}:
        raise ConfigError(
            f"{first.path}: does not record {', '.join(sorted(missing))} among its parameters, so that it cannot be "
            "drawn again; split again with `swclip split`."
        )
    drawn = [first]
    for number in range(1, draws):
        draft = split(manifest, protocol, **parameters, seed=int(seed) + number)
        path = folder / f"seed-{int(seed) + number}" / "splits.parquet"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            drawn.append(draft.write(path))
            continue
        present = read_splits(path)
        if any(present.meta.get(key) != value for key, value in draft.meta.items()):
            raise ConfigError(f"{path}: is a draw with other parameters than {first.path}; use another --out.")
        drawn.append(present)
    return drawn


def compare_draws(comparisons: Sequence[Comparison], seeds: Sequence[int], *, seed: int = 0) -> Draws:
    """Figures and differences over several draws, with intervals that hold draws, seeds and blocks together.

    Queries differ between draws: systems are paired within each. See `DrawResamples`.

    Args:
        comparisons: The comparison of each draw, all of the same systems.
        seeds: Seed of the splits of each draw.
        seed: Seed of the bootstrap.
    """
    document = comparisons[0].document
    blocks = [_resampled(one, seed) for one in comparisons]
    most = max(len(runs) for runs in comparisons[0].evaluations.values())
    resamples = DrawResamples.of(len(comparisons), most, RESAMPLES, np.random.default_rng(seed))
    by_draw = {name: [_values(one.errors_m(name)) for one in comparisons] for name in document.systems}
    drawn = {name: _over_draws(comparisons, name, blocks, resamples) for name in document.systems}

    def difference(name: str, other: str | None) -> SystemDifference | None:
        if other is None or name == other:
            return None
        figures = {}
        for figure in ERROR_STATISTICS:
            apart = [a[figure] - b[figure] for a, b in zip(by_draw[name], by_draw[other], strict=True)]
            samples = drawn[name][figure] - drawn[other][figure]
            interval = interval_over_draws(float(np.mean(apart)), samples, len(apart))
            most_possible = _largest(figure)
            figures[figure] = Difference(
                value=interval.value,
                low=max(-most_possible, interval.low),
                high=min(most_possible, interval.high),
                p=interval.p,
                by_draw=apart,
            )
        return SystemDifference.model_validate({"from": other, **figures})

    systems = {}
    for name in document.systems:
        figures = {}
        for figure in ERROR_STATISTICS:
            values = [of_draw[figure] for of_draw in by_draw[name]]
            interval = interval_over_draws(float(np.mean(values)), drawn[name][figure], len(values))
            figures[figure] = DrawnFigure(
                value=interval.value,
                low=max(0.0, interval.low),
                high=min(_largest(figure), interval.high),
                by_draw=values,
            )
        systems[name] = DrawnSystem(
            figures=figures,
            difference=difference(name, document.baseline),
            difference_from_reference=difference(name, document.reference),
        )
    queries = [len(next(iter(one.evaluations[one.baseline].values())).predictions) for one in comparisons]
    return Draws(seeds=list(seeds), n_queries=queries, resamples=DRAW_RESAMPLES, systems=systems)


def _largest(figure: str) -> float:
    """The largest value of a figure, which an interval that was stretched can exceed."""
    return 1.0 if figure.startswith("within") else float("inf")


def _resampled(comparison: Comparison, seed: int) -> BlockResamples:
    first = next(iter(comparison.evaluations[comparison.baseline].values()))
    return resample_blocks(first.predictions["block"].tolist(), RESAMPLES, np.random.default_rng(seed))


def _values(errors_m: Float64[np.ndarray, "s q"]) -> dict[str, float]:
    return {name: float(np.mean([statistic(run) for run in errors_m])) for name, statistic in ERROR_STATISTICS.items()}


def _over_draws(
    comparisons: Sequence[Comparison], name: str, blocks: Sequence[BlockResamples], resamples: DrawResamples
) -> dict[str, Float64[np.ndarray, " r"]]:
    """Resamples of each figure of a system over all draws."""
    statistics: dict[str, list[Float64[np.ndarray, "s b"]]] = {figure: [] for figure in ERROR_STATISTICS}
    for comparison, resampled in zip(comparisons, blocks, strict=True):
        runs = [resample_statistics(run, resampled).resampled for run in comparison.errors_m(name)]
        for figure, of_draws in statistics.items():
            of_draws.append(np.stack([run[figure] for run in runs]))
    return {figure: resamples.means(of_draws) for figure, of_draws in statistics.items()}


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
