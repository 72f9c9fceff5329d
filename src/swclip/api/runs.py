"""`swclip.recipes`, `swclip.train` and `swclip.benchmark`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from swclip.api.objects import PathLike, as_manifest, as_splits, saved_splits
from swclip.progress import run_bars, step_progress

if TYPE_CHECKING:
    from swclip.comparison.benchmark import Benchmark
    from swclip.data.manifest import Manifest
    from swclip.data.splits import Splits
    from swclip.evaluation.estimator_choice import EstimatorChoice
    from swclip.models.feature_cache import FeatureCache
    from swclip.reporting.tiles import Tiles
    from swclip.training.config import TrainingConfig
    from swclip.training.run import RunFacts

Progress = bool | Callable[[str, int, int], None] | None


def recipes() -> dict[str, str]:
    """The built-in recipes: their names, each with a one-line description.

    Example:
        >>> recipes()["sw-clip-no-text"]
        'Ablation: the grid directly to the embedding, without a text tower.'
    """
    from swclip.training.config import recipe_summaries

    return recipe_summaries()


def train(
    manifest: Manifest | PathLike,
    splits: Splits | PathLike,
    config: TrainingConfig | PathLike,
    out: PathLike,
    *,
    system: str | None = None,
    cache: FeatureCache | None = None,
    device: str = "auto",
    command: str | None = None,
    progress: Progress = None,
) -> RunFacts:
    """Train a model; an interrupted run resumes, with the same final weights as without the interruption.

    Args:
        manifest: The manifest, or its folder.
        splits: The splits, or their file. Splits in memory are saved as OUT/splits.parquet.
        config: The configuration that `swclip.load_recipe` returns, or the name or file of a recipe.
        out: The run's folder, for `load`, `evaluate` and `build_gallery`. A finished run of the same configuration is
            not changed.
        system: Name of the run in comparisons; by default the recipe's name.
        cache: Cache for features of a frozen tower; by default in the user's cache folder.
        device: auto (a GPU if there is one), cpu, cuda, ...
        command: The command line, for the record.
        progress: True for progress bars, or a callback that is called with (step, done, total).

    Returns:
        The run's record, with figures on the validation queries.

    Raises:
        InputError: No photograph is in split `train`, or one cannot be decoded.
        ConfigError: `out` contains another run, another process trains in it, the configuration is invalid, or the
            device is not available.
        MismatchError: Processes under torchrun have different data, settings or versions.
        ArtefactError: The newest checkpoint is damaged.

    Warns:
        SwclipWarning: The image tower is frozen and untrained, so that its features are meaningless.
    """
    from swclip.models.blocks import available_device
    from swclip.training.config import load_recipe
    from swclip.training.distributed import errors_in_all, join_processes
    from swclip.training.loop import train as run_training

    name = "sw-clip"
    with step_progress(progress) as report, join_processes(available_device(device)) as process:
        with errors_in_all(process):  # one machine may lack a file
            if isinstance(config, (str, os.PathLike)):
                name, config = Path(config).stem, load_recipe(config)
            manifest, splits = as_manifest(manifest), saved_splits(splits, Path(out))
        return run_training(
            manifest,
            splits,
            config,
            out,
            system=system or name,
            cache=cache,
            device=device,
            command=command,
            progress=report,
        )


def benchmark(
    manifest: Manifest | PathLike,
    splits: Splits | PathLike | Sequence[Splits | PathLike],
    out: PathLike,
    *,
    systems: Sequence[str] = ("nearest-neighbour", "nearest-neighbour-whitened", "clip", "sw-clip"),
    seeds: Sequence[int] = (0,),
    overrides: Mapping[str, Any] | None = None,
    baseline: str | None = None,
    reference: str | None = None,
    jobs: int = 1,
    estimator: EstimatorChoice = "mode",
    draws: int = 1,
    tiles: Tiles | None = None,
    cache: FeatureCache | None = None,
    device: str = "auto",
    errors: Literal["raise", "keep"] = "raise",
    command: str | None = None,
    progress: Progress = None,
) -> Benchmark:
    """Train and evaluate several systems on the same data; write benchmark.json, benchmark.html and error curves.

    Finished runs in OUT/runs are not trained again, so an interrupted benchmark resumes. With several splits, the
    results of each are in a folder in OUT; where each holds out a different city, OUT also holds a pooled comparison.

    Args:
        manifest: The manifest, or its folder.
        splits: One or several splits, as objects, files or folders.
        out: Output folder.
        systems: Recipes by name or file, and two systems without training: "nearest-neighbour" on the features of the
            image tower, and "nearest-neighbour-whitened".
        seeds: Each recipe is trained once per seed.
        overrides: Values that override those of every recipe, as for `load_recipe`. A text tower is used only in
            recipes that have one.
        baseline: The system to which the others are compared; by default "clip" if it is among the systems, else the
            first.
        reference: A second system to which the others are compared; by default "sw-clip" if it is among the systems
            and not the baseline.
        jobs: Number of runs trained in parallel, each in its own process; if above 1, the calling script needs
            `if __name__ == "__main__":`.
        estimator: How the point of every system is estimated from its posterior: "mode", "argmax" or
            "geometric-median". "validation" chooses one for all systems on the validation queries.
        draws: Number of draws of the splits, with the same parameters and the seeds that follow; every system is
            trained on each, and the claims and their intervals are over all of them.
        tiles: Map tiles below the maps of the pages, such as `Tiles.of("osm")` of `swclip.reporting.tiles`, which the
            browser of a reader loads from their provider; None for pages that load nothing.
        cache: Cache for features of frozen towers; by default in the user's cache folder.
        device: auto (a GPU if there is one), cpu, cuda, ...
        errors: "raise" raises an error for failed runs after everything else is written; "keep" records them in
            `failures`.
        command: The command line, for the record.
        progress: True for progress bars, or a callback that is called with (step, done, total).

    Returns:
        The comparisons by name of the splits, the pooled comparison, and the written `files`.

    Raises:
        ConfigError: There are no splits, systems or seeds, two have the same name, a recipe is invalid, or the
            device is not available.
        MismatchError: Splits were made from another manifest.
        SwclipError: Runs failed.
    """
    from swclip.comparison.benchmark import run_benchmarks
    from swclip.comparison.page import write_benchmarks
    from swclip.data.splits import Splits as SplitsType
    from swclip.data.splits import find_splits
    from swclip.training.config import nested

    table, folder = as_manifest(manifest), Path(out)
    items = [splits] if isinstance(splits, (str, os.PathLike, SplitsType)) else list(splits)
    all_splits = [saved_splits(item, folder) for item in items if isinstance(item, SplitsType)]
    if paths := [item for item in items if not isinstance(item, SplitsType)]:
        all_splits += [as_splits(path) for path in find_splits(paths)]
    baseline = baseline or ("clip" if "clip" in systems else None)
    if reference is None and "sw-clip" in systems and (baseline or systems[0]) != "sw-clip":
        reference = "sw-clip"
    with step_progress(progress, run_bars) as report:
        done = run_benchmarks(
            table,
            all_splits,
            systems,
            seeds,
            folder,
            overrides=nested(overrides or {}),
            baseline=baseline,
            reference=reference,
            cache=cache,
            command=command,
            jobs=jobs,
            estimator=estimator,
            draws=draws,
            device=device,
            progress=report,
        )
    done = replace(done, files=write_benchmarks(folder, done, table, all_splits, tiles=tiles))
    if errors == "raise":
        done.raise_failures()
    return done
