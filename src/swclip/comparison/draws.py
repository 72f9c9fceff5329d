"""Several draws of one splits file: the same protocol and parameters with other seeds, compared together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from swclip.comparison.comparison import Comparison
from swclip.comparison.document import Difference, DrawnFigure, DrawnSystem, Draws, SystemDifference
from swclip.data.manifest import Manifest
from swclip.data.protocols import SplitConfig, split
from swclip.data.splits import Splits, read_splits
from swclip.errors import ConfigError
from swclip.metrics.bootstrap import ERROR_STATISTICS, RESAMPLES, BlockResamples, resample_blocks, resample_statistics
from swclip.metrics.hierarchical_bootstrap import DRAW_RESAMPLES, DrawResamples, interval_over_draws

DRAWS = "draws"
"""Folder of the further draws, in that of the benchmark."""


def draw_splits(manifest: Manifest, first: Splits, draws: int, folder: Path) -> list[Splits]:
    """Split anew with the protocol and parameters of a splits file, and the seeds that follow its own.

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
            f"{first.path}: --draws splits anew with other seeds, which needs splits that `swclip split` drew with "
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

    Queries differ between draws: systems are paired within each. See `metrics.hierarchical_bootstrap`.

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
