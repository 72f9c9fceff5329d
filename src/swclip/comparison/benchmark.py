"""Benchmark: train and evaluate several systems on the same photographs, splits, budget and seeds."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from swclip.calibration.posterior_config import ESTIMATOR, ESTIMATOR_NAMES, EstimatorName, check_estimator
from swclip.comparison.benchmark_runs import (
    NEAREST,
    UNSEEDED,
    UNTRAINED,
    Progress,
    Run,
    check_one_folder_each,
    nearest_neighbour,
    same_configuration,
    system_config,
    system_name,
)
from swclip.comparison.compare import compare
from swclip.comparison.comparison import Comparison
from swclip.comparison.draws import DRAWS, compare_draws, draw_splits
from swclip.comparison.jobs import Failure, failures_as_error, run_all
from swclip.comparison.pooling import pool_evaluations
from swclip.data.manifest import Manifest
from swclip.data.splits import Splits, check_same_manifest
from swclip.errors import ConfigError
from swclip.evaluation.estimator_choice import VALIDATION, EstimatorChoice, best_on_validation, choice_record
from swclip.evaluation.result import Evaluation
from swclip.files import stated_path
from swclip.models.blocks import available_device
from swclip.models.feature_cache import FeatureCache
from swclip.training.config import TrainingConfig
from swclip.versions import versions

__all__ = ["NEAREST", "Benchmark", "Progress", "nearest_neighbour", "run_benchmarks"]


@dataclass(frozen=True)
class Benchmark:
    """Results of the same systems on one or several splits.

    Attributes:
        comparisons: Comparison by name of the splits; splits with a failed run are missing.
        pooled: Comparison on the queries of all held-out cities; None for splits of another protocol, or where a run
            failed.
        failures: Runs that failed.
        runs: Number of runs.
        notes: Caveats, as sentences.
        draws: With several draws, the comparisons of those after the first, by name; `comparisons` has the first, with
            the figures over all in its document.
        files: The written benchmark.json files; each has its page beside it.
    """

    comparisons: dict[str, Comparison]
    pooled: Comparison | None = None
    failures: list[Failure] = field(default_factory=list)
    runs: int = 0
    notes: list[str] = field(default_factory=list)
    draws: dict[str, Comparison] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)

    def __repr__(self) -> str:
        pooled = ", pooled" if self.pooled is not None else ""
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"Benchmark({', '.join(self.comparisons) or 'nothing'}{pooled}: {self.runs} runs{failed})"

    def raise_failures(self) -> None:
        """Raise the failures as one error, if there are any.

        Raises:
            SwclipError: Runs failed; of the class of their errors where they share one.
        """
        if self.failures:
            raise failures_as_error(self.failures, self.runs)


def run_benchmarks(
    manifest: Manifest,
    splits: Sequence[Splits],
    systems: Sequence[str],
    seeds: Sequence[int],
    out: Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    baseline: str | None = None,
    reference: str | None = None,
    cache: FeatureCache | None = None,
    command: str | None = None,
    jobs: int = 1,
    estimator: EstimatorChoice = ESTIMATOR,
    draws: int = 1,
    device: str = "auto",
    progress: Progress | None = None,
) -> Benchmark:
    """Train and evaluate several systems; finished runs are not trained again.

    The runs of all splits are trained `jobs` at a time and evaluated; a failed run is reported and does not stop the
    others. Features of a frozen tower are computed when the first run that needs them starts.

    Args:
        manifest: The photographs.
        splits: One or several splits files; several are named after their files.
        systems: Recipes, by name or path, and the systems without training (`UNTRAINED`).
        seeds: Each recipe is trained once per seed.
        out: Output folder of the runs: OUT/runs/SYSTEM-SEED, for several splits OUT/SPLITS/runs/SYSTEM-SEED.
        overrides: Values that replace those of every recipe; a text tower only replaces that of recipes with one.
        baseline: The system that differences are taken from; the first where None.
        reference: A second system that differences are taken from; none where None.
        cache: Cache of the features of frozen towers.
        command: The command line, for the provenance.
        jobs: Number of runs that are trained at a time. Above 1 each is a separate process with an equal share of the
            threads, which reads manifest and splits from their files.
        estimator: The estimator by which all systems answer. "validation" for the one with the least loss on the
            validation queries, summed over the systems: one for all of them and all splits.
        draws: Number of draws of the splits: each further one has the protocol and parameters of the splits file and
            the next seed. Its runs are in OUT/draws/seed-SEED/runs.
        device: auto (a GPU if there is one), cpu, cuda, ...
        progress: Called with (task, done, total).

    Raises:
        ConfigError: There are no splits, systems or seeds, two have the same name, a recipe is invalid, the device is
            not available, or the estimator is to be chosen on validation queries and splits have none.
        MismatchError: Splits belong to another manifest.
    """
    available_device(device)
    configs = _configs(systems, seeds, overrides)
    names = _split_names(splits)
    present = list(configs)
    for role, name in (("baseline", baseline), ("reference", reference)):
        if name is not None and name not in present:
            raise ConfigError(f"{role} {name!r} is not among the systems; choose one of {', '.join(present)}.")
    if jobs > 1 and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "--jobs starts processes itself and cannot be combined with torchrun; use only one of the two."
        )
    if estimator != VALIDATION:
        check_estimator(estimator)
    if draws < 1 or (draws > 1 and len(splits) > 1):
        raise ConfigError(f"--draws {draws} with {len(splits)} splits files: give one splits file, and 1 draw or more.")
    for split in splits:
        check_same_manifest(split, manifest)
        if estimator == VALIDATION and not (split.frame["split"] == "val").any():
            raise ConfigError(
                f"{split.path}: has no validation queries, on which --estimator validation chooses; name an estimator "
                f"({', '.join(ESTIMATOR_NAMES)}), or split again with --val-share."
            )
    folders = [out] if len(splits) == 1 else [out / name for name in names]
    if draws > 1:
        splits = draw_splits(manifest, splits[0], draws, out / DRAWS)
        drawn_names = [split.path.parent.name for split in splits[1:]]
        names += drawn_names
        folders += [out / DRAWS / name for name in drawn_names]
    cache = cache or FeatureCache()
    image_config = next((by_seed[seeds[0]] for by_seed in configs.values() if by_seed is not None), None)
    image_config = image_config or system_config("clip", overrides)
    runs: list[Run] = []
    for name, split, folder in zip(names, splits, folders, strict=True):
        lead = "" if len(splits) == 1 else f"{name}, "
        data = (manifest, split, cache, command, device)
        for system, by_seed in configs.items():
            if by_seed is None:
                runs.append(Run(f"{lead}{system}", name, system, UNSEEDED, image_config, None, *data))
                continue
            for seed in seeds:
                title, run_folder = f"{lead}{system}, seed {seed}", folder / "runs" / f"{system}-{seed}"
                runs.append(Run(title, name, system, seed, by_seed[seed], run_folder, *data))
    check_one_folder_each(runs)
    chosen, choice = _estimator(estimator, runs, jobs, progress)
    results = run_all([replace(run, estimator=chosen) for run in runs], jobs, progress)

    failures = [result for result in results if isinstance(result, Failure)]
    by_split: dict[str, dict[str, dict[int | str, Evaluation]]] = {}
    failed: set[str] = set()
    for run, result in zip(runs, results, strict=True):
        if isinstance(result, Failure):
            failed.add(run.split)
        else:
            by_split.setdefault(run.split, {}).setdefault(run.system, {})[run.seed] = result
    notes = [
        f"{' and '.join(same)} have the same configuration in this benchmark, so they are the same system."
        for same in same_configuration(
            {name: None if by_seed is None else by_seed[seeds[0]] for name, by_seed in configs.items()}
        )
    ]
    facts = {
        "manifest": {"path": stated_path(manifest.path), "digest": manifest.digest},
        "seeds": list(seeds),
        "image_tower": image_config.model.image.name if any(configs.values()) else None,
        "command": command,
        **choice,
    }
    comparisons = {
        name: compare(
            by_split[name],
            {**versions(), **facts, "splits": {"path": stated_path(split.path), **split.meta}, "notes": notes},
            baseline=baseline,
            reference=reference,
        )
        for name, split in zip(names, splits, strict=True)
        if name not in failed
    }
    pooled = None
    drawn: dict[str, Comparison] = {}
    if draws > 1:
        drawn = {name: comparisons.pop(name) for name in names[1:] if name in comparisons}
        if not failures:
            document = comparisons[names[0]].document
            over_draws = compare_draws(
                [comparisons[names[0]], *drawn.values()], [int(split.meta["seed"]) for split in splits]
            )
            whole = document.model_copy(update={"draws": over_draws})
            comparisons[names[0]] = replace(comparisons[names[0]], document=whole)
    elif len(splits) > 1 and not failures and (cities := _left_out(splits)) is not None:
        evaluations = {
            system: {seed: pool_evaluations([by_split[name][system][seed] for name in names]) for seed in by_seed}
            for system, by_seed in by_split[names[0]].items()
        }
        meta = {"protocol": "new-city, each city left out once", "cities": cities, "files": names}
        pooled = compare(
            evaluations, {**versions(), **facts, "splits": meta, "notes": notes}, baseline=baseline, reference=reference
        )
    return Benchmark(comparisons, pooled, failures, len(runs), notes, drawn)


def _configs(
    systems: Sequence[str], seeds: Sequence[int], overrides: Mapping[str, Any] | None
) -> dict[str, dict[int, TrainingConfig] | None]:
    """Configurations by system and seed, None for a system without training; all are checked before the first run."""
    if not systems or not seeds:
        raise ConfigError("a benchmark needs at least one system and one seed.")
    names = [system_name(system) for system in systems]
    if len(set(names)) != len(names):
        raise ConfigError(f"two of the systems have the same name: {', '.join(names)}.")
    if len(set(seeds)) != len(seeds):
        raise ConfigError(f"a seed is repeated: {', '.join(map(str, seeds))}.")
    return {
        name: None if system in UNTRAINED else {seed: system_config(system, overrides, seed) for seed in seeds}
        for name, system in zip(names, systems, strict=True)
    }


def _estimator(
    choice: EstimatorChoice, runs: Sequence[Run], jobs: int, progress: Progress | None
) -> tuple[EstimatorName, dict[str, Any]]:
    """The estimator by which all runs answer, and what the comparisons record of a choice on validation queries."""
    if choice != "validation":
        return choice, {}
    systems: dict[str, list[Evaluation]] = {}
    for run, result in zip(runs, run_all([replace(run, on="val") for run in runs], jobs, progress), strict=True):
        if isinstance(result, Evaluation):  # a run that failed fails again when it is evaluated, and is reported there
            systems.setdefault(run.system, []).append(result)
    name, losses = best_on_validation(systems)
    return name, choice_record(losses)


def _split_names(splits: Sequence[Splits]) -> list[str]:
    if not splits:
        raise ConfigError("a benchmark needs at least one splits file.")
    names = [split.path.stem for split in splits]
    if len(set(names)) != len(names):
        raise ConfigError(
            f"two of the splits files have the same name: {', '.join(str(split.path) for split in splits)}; each "
            "gets a folder of that name, so rename one."
        )
    return names


def _left_out(splits: Sequence[Splits]) -> list[str] | None:
    """The held-out cities of new-city splits; None for other protocols, or where two splits share a query."""
    if any(split.meta.get("protocol") != "new-city" for split in splits):
        return None
    queries = [set(split.frame.loc[split.frame["split"] == "query", "image_id"]) for split in splits]
    if len(set[str]().union(*queries)) < sum(map(len, queries)):
        return None
    return [str(split.meta.get("parameters", {}).get("city")) for split in splits]
