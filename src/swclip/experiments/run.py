"""A whole experiment: fetched, merged, split, trained, compared and reported; every stage resumes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swclip.api.objects import as_manifest
from swclip.api.photographs import merge, split_each_city
from swclip.api.photographs import split as split_photographs
from swclip.api.runs import benchmark
from swclip.connectors.dataset import FETCH_NAME
from swclip.connectors.fetch import Politeness
from swclip.data.manifest import Manifest
from swclip.data.protocols import split as draw_split
from swclip.data.splits import Splits, leakage_path, read_splits
from swclip.errors import ConfigError, InputError, ServiceError
from swclip.experiments.description import Experiment, SplitTable, read_experiment
from swclip.experiments.page import write_experiment_page
from swclip.experiments.plan import DATA, ExperimentPlan, check_models, fetch_area, plan_experiment
from swclip.files import file_stem, read_json, write_json
from swclip.locks import sole_holder
from swclip.progress import step_progress
from swclip.versions import versions

if TYPE_CHECKING:
    from swclip.comparison.benchmark import Benchmark
    from swclip.models.feature_cache import FeatureCache

RECORD_NAME = "experiment.json"
PAGE_NAME = "experiment.html"
_VERSION = 1

Announce = Callable[[str], None]


@dataclass(frozen=True)
class ExperimentResult:
    """Result of an experiment.

    Attributes:
        plan: What would be fetched and how long it takes; None unless only a plan was made.
        manifest: The photographs of all cities; None of a plan.
        benchmarks: The comparison of the systems on each split, by its name.
        page: The page that leads to all results; None of a plan.
    """

    plan: ExperimentPlan | None = None
    manifest: Manifest | None = None
    benchmarks: dict[str, Benchmark] | None = None
    page: Path | None = None


def experiment(
    name: Experiment | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    endpoint: str | None = None,
    dry_run: bool = False,
    partial: bool = False,
    jobs: int = 1,
    device: str = "auto",
    politeness: Politeness | None = None,
    cache: FeatureCache | None = None,
    command: str | None = None,
    progress: bool = False,
    announce: Announce | None = None,
) -> ExperimentResult:
    """Run a whole experiment: fetch the photographs of its areas, merge and split them, train, compare and report.

    The same call resumes an interrupted experiment: no area is searched, no photograph downloaded, no split made and no
    model trained twice. A split or a system that was added to the description is added to the results.

    Args:
        name: The name of a shipped experiment (`uk8`), the path of a TOML file, or a description.
        out: Output folder: data/CITY, merged, splits, results/SPLIT, experiment.json and experiment.html.
        endpoint: Address of an instance of the service, or of a stand-in.
        dry_run: Search, and return the plan with photographs, bytes and hours.
        partial: Accept that the service refuses a part of the photographs; the record states what is missing.
        jobs: Number of runs that are trained in parallel, as for `benchmark`.
        device: auto (a GPU if there is one), cpu, cuda, ...
        politeness: How the service is asked.
        cache: Cache for features of frozen towers; by default in the user's cache folder.
        command: The command line, for the record.
        progress: Show progress bars.
        announce: Called with a sentence before each stage.

    Raises:
        ConfigError: The description is invalid, or the folder has another experiment.
        InputError: An area has no photograph, or a protocol cannot split these.
        ServiceError: The service refuses; what was fetched is kept.
        SwclipError: Runs failed; the others are in the results.
    """
    described = name if isinstance(name, Experiment) else read_experiment(name)
    folder, announce = Path(out), announce or _silent
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; --out names a folder.")
    options: dict[str, Any] = {"endpoint": endpoint, "partial": partial, "politeness": politeness}
    with sole_holder(folder, InputError(f"{folder}: another swclip experiment is writing there.")):
        if dry_run:
            announce(f"Plan of {len(described.areas)} areas")
            with step_progress(progress) as report:
                return ExperimentResult(plan_experiment(described, folder, device=device, progress=report, **options))
        record: dict[str, Any] = {
            "version": _VERSION,
            "made_with": {**versions(), "command": command, "endpoint": endpoint},
            "experiment": described.model_dump(mode="json"),
        }
        check_models(described)
        manifests = _fetched(described, folder, record, progress, announce, options)
        manifest = _merged(manifests, folder, progress, announce)
        record["photographs"] = {"number": len(manifest), "digest": manifest.digest}
        write_json(folder / RECORD_NAME, record)
        splits = {one.title: _split(one, manifest, folder, progress, announce) for one in described.splits}
        record["splits"] = {title: [one.meta["counts"] for one in parts] for title, parts in splits.items()}
        benchmarks: dict[str, Benchmark] = {}
        systems = described.systems
        for one in described.splits:
            announce(f"Training and comparing on {one.title}: {len(systems.names)} systems")
            benchmarks[one.title] = benchmark(
                manifest,
                splits[one.title],
                folder / "results" / one.title,
                systems=systems.names,
                seeds=systems.seeds,
                overrides=described.overrides,
                baseline=systems.baseline,
                reference=systems.reference,
                jobs=jobs,
                device=device,
                estimator=systems.estimator,
                draws=one.draws,
                cache=cache,
                errors="keep",
                command=command,
                progress=progress,
            )
        record["failures"] = [f"{title}: {one}" for title, done in benchmarks.items() for one in done.failures]
        write_json(folder / RECORD_NAME, record)
        write_experiment_page(folder / PAGE_NAME, described, record, splits, benchmarks)
    for done in benchmarks.values():
        done.raise_failures()
    return ExperimentResult(None, manifest, benchmarks, folder / PAGE_NAME)


def _silent(_sentence: str) -> None:
    """Without anybody to tell."""


def _fetched(
    described: Experiment,
    folder: Path,
    record: dict[str, Any],
    progress: bool,
    announce: Announce,
    options: dict[str, Any],
) -> dict[str, Manifest]:
    """The photographs of each city. A city that fails does not stop the others; then all failures are one error."""
    manifests: dict[str, Manifest] = {}
    problems: dict[str, InputError | ServiceError] = {}
    record["areas"] = {}
    for area in described.areas:
        announce(f"Fetching {area.city}")
        try:
            with step_progress(progress) as report:
                result = fetch_area(described, area, folder, progress=report, **options)
        except (InputError, ServiceError) as error:
            problems[area.city] = error
            continue
        assert result.manifest is not None  # only a dry run has none
        manifests[area.city] = result.manifest
        document = read_json(folder / DATA / file_stem(area.city) / FETCH_NAME, "the record of a download")
        kept = ("photographs", "bytes", "area_km2", "licences", "years", "sequences", "left_out", "missing")
        record["areas"][area.city] = {key: document[key] for key in kept}
    ExperimentPlan({}, {**problems}, []).raise_problems()
    return manifests


def _merged(manifests: dict[str, Manifest], folder: Path, progress: bool, announce: Announce) -> Manifest:
    """One manifest of all cities; kept where it was merged from the same ones."""
    if len(manifests) == 1:
        return next(iter(manifests.values()))
    target, beside = folder / "merged", folder / "merged" / "sources.json"
    sources = {city: manifest.digest for city, manifest in manifests.items()}
    if beside.is_file() and read_json(beside, "the record of a merge") == sources:
        return as_manifest(target)
    announce(f"Merging {len(manifests)} manifests")
    merged = merge(list(manifests.values()), target, progress=progress).manifest
    write_json(beside, sources)
    return merged


def _split(one: SplitTable, manifest: Manifest, folder: Path, progress: bool, announce: Announce) -> list[Splits]:
    """The splits of one entry: a file, or one per city that is left out; files of the same photographs are kept.

    Raises:
        ConfigError: The files are of other photographs or parameters.
    """
    target = folder / "splits" / one.title
    if one.protocol != "new-city":
        file = target.with_suffix(".parquet")
        if (present := _present(one, manifest, file, None)) is not None:
            return [present]
        announce(f"Splitting: {one.title}")
        return [split_photographs(manifest, one.protocol, file, progress=progress, **one.options)]
    cities = sorted({str(city) for city in manifest.frame["city"].dropna()})
    chosen = one.cities or cities
    kept = [_present(one, manifest, target / f"{file_stem(city)}.parquet", city) for city in chosen]
    if all(present is not None for present in kept):
        return [present for present in kept if present is not None]
    announce(f"Splitting: {one.title}, each city left out once")
    made = split_each_city(manifest, target, progress=progress, **one.options)
    return [split for split in made if split.meta["parameters"]["city"] in chosen]


def _present(one: SplitTable, manifest: Manifest, file: Path, city: str | None) -> Splits | None:
    """The splits of an earlier run; None where they were not finished."""
    if not leakage_path(file).is_file():  # it is written last
        return None
    present = read_splits(file)
    draft = draw_split(manifest, one.protocol, city=city, **one.options)
    if any(present.meta.get(key) != value for key, value in draft.meta.items()):
        raise ConfigError(
            f"{file}: was split from other photographs or with other parameters than those of the experiment; choose "
            "another --out, or remove it together with its results."
        )
    return present
