"""Training: `swclip.recipes`, `swclip.train`, `swclip.benchmark`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from swclip.api.objects import PathLike, as_manifest, as_splits, kept_splits
from swclip.progress import run_bars, step_progress

if TYPE_CHECKING:
    from swclip.comparison.benchmark import Benchmark
    from swclip.data.manifest import Manifest
    from swclip.data.splits import Splits
    from swclip.models.feature_cache import FeatureCache
    from swclip.training.config import TrainingConfig
    from swclip.training.run import RunFacts

Progress = bool | Callable[[str, int, int], None] | None


def recipes() -> dict[str, str]:
    """The recipes that ship with the package: their names, each with a line that says what it is for.

    Example:
        >>> recipes()["sw-clip-no-text"]
        'The grid straight to the embedding: what does the text tower give?'
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
    command: str | None = None,
    progress: Progress = None,
) -> RunFacts:
    """Train a model; an interrupted run resumes, and its final weights are the same either way.

    Args:
        manifest: The photographs, or the folder of their manifest.
        splits: Their splits, or the file. Splits in memory are kept as OUT/splits.parquet.
        config: What `swclip.load_recipe` gives, or a recipe's name or file.
        out: The run's folder, which `load`, `evaluate` and `build_gallery` take. One that holds a finished run of the
            same configuration is left as it is.
        system: What the run is called in comparisons; the recipe's name if not given.
        cache: Where features of a frozen tower are kept; the user's cache folder if not given.
        command: The command line, for the record.
        progress: True for bars, or a callback that is called with (step, done, total).

    Returns:
        The run's record, with the figures on the validation queries.

    Raises:
        InputError: No photograph is in split `train`, or one cannot be decoded.
        ConfigError: `out` holds another run, another process trains in it, or the configuration cannot work.
        ArtefactError: The newest checkpoint is damaged.

    Warns:
        SwclipWarning: The image tower is frozen and was never trained, so that its features mean nothing.
    """
    from swclip.training.config import load_recipe
    from swclip.training.loop import train as run_training

    name = "sw-clip"
    if isinstance(config, (str, os.PathLike)):
        name, config = Path(config).stem, load_recipe(config)
    with step_progress(progress) as report:
        return run_training(
            as_manifest(manifest),
            kept_splits(splits, Path(out)),
            config,
            out,
            system=system or name,
            cache=cache,
            command=command,
            progress=report,
        )


def benchmark(
    manifest: Manifest | PathLike,
    splits: Splits | PathLike | Sequence[Splits | PathLike],
    out: PathLike,
    *,
    systems: Sequence[str] = ("nearest-neighbour", "clip", "sw-clip"),
    seeds: Sequence[int] = (0,),
    overrides: Mapping[str, Any] | None = None,
    baseline: str | None = None,
    reference: str | None = None,
    jobs: int = 1,
    cache: FeatureCache | None = None,
    errors: Literal["raise", "keep"] = "raise",
    command: str | None = None,
    progress: Progress = None,
) -> Benchmark:
    """Train and evaluate systems side by side; write benchmark.json, benchmark.html and error curves.

    Runs that are finished already (OUT/runs) are not trained again, so an interrupted benchmark resumes. With several
    splits each has its folder in OUT; where each leaves out another city, a pooled comparison is written to OUT itself.

    Args:
        manifest: The photographs, or the folder of their manifest.
        splits: One or several, by object, file or folder.
        out: The benchmark's folder.
        systems: Recipes by name or file, and "nearest-neighbour".
        seeds: Each recipe is trained once a seed.
        overrides: Values that replace those of every recipe, as for `load_recipe`. A text tower replaces that of
            recipes that read text.
        baseline: The system that differences are taken from: "clip" if it is there, else the first.
        reference: A second such system: "sw-clip" if it is there and not the baseline.
        jobs: Runs trained at once, each in a process of its own; the calling script then needs
            `if __name__ == "__main__":`.
        cache: Where features of frozen towers are kept; the user's cache folder if not given.
        errors: "raise" raises after everything else was written where runs failed; "keep" leaves them in `failures`.
        command: The command line, for the record.
        progress: True for bars, or a callback that is called with (step, done, total).

    Returns:
        The comparisons by name of the splits, the pooled one, and the `files` that were written.

    Raises:
        ConfigError: No splits, systems or seeds, two of one name, or a recipe that cannot work.
        MismatchError: Splits were made from another manifest.
        SwclipError: Runs failed.
    """
    from swclip.comparison.benchmark import run_benchmarks
    from swclip.comparison.page import write_benchmarks
    from swclip.data.splits import Splits as SplitsKind
    from swclip.data.splits import find_splits
    from swclip.training.config import nested

    table, folder = as_manifest(manifest), Path(out)
    several = [splits] if isinstance(splits, (str, os.PathLike, SplitsKind)) else list(splits)
    held = [kept_splits(one, folder) for one in several if isinstance(one, SplitsKind)]
    if paths := [one for one in several if not isinstance(one, SplitsKind)]:
        held += [as_splits(path) for path in find_splits(paths)]
    baseline = baseline or ("clip" if "clip" in systems else None)
    if reference is None and "sw-clip" in systems and (baseline or systems[0]) != "sw-clip":
        reference = "sw-clip"
    with step_progress(progress, run_bars) as report:
        done = run_benchmarks(
            table,
            held,
            systems,
            seeds,
            folder,
            overrides=nested(overrides or {}),
            baseline=baseline,
            reference=reference,
            cache=cache,
            command=command,
            jobs=jobs,
            progress=report,
        )
    done = replace(done, files=write_benchmarks(folder, done, table, held))
    if errors == "raise":
        done.raise_failures()
    return done
