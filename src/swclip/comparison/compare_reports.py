"""`swclip.compare`: compare separate evaluation reports."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swclip.calibration.posterior_config import EstimatorName
from swclip.comparison.align import align, with_common_estimator
from swclip.comparison.compare import Seed, compare
from swclip.comparison.comparison import Comparison
from swclip.comparison.reports_on_disk import named_folders, read_report, report_folders
from swclip.errors import ConfigError, MismatchError
from swclip.evaluation.result import Evaluation
from swclip.files import stated_path
from swclip.metrics.bootstrap import RESAMPLES
from swclip.reporting.units import metres
from swclip.versions import versions

Source = str | os.PathLike[str] | Evaluation


@dataclass(frozen=True)
class _Report:
    """One report and its path."""

    evaluation: Evaluation
    path: Path | None

    @property
    def made_with(self) -> Mapping[str, Any]:
        return self.evaluation.report.made_with

    @property
    def source(self) -> str:
        return "in memory" if self.path is None else str(self.path)

    @property
    def stated(self) -> str:
        """The source as the document of the comparison states it."""
        return "in memory" if self.path is None else stated_path(self.path)


def compare_reports(
    reports: Sequence[str | os.PathLike[str]] | Mapping[str, Source | Sequence[Source]],
    *,
    baseline: str | None = None,
    reference: str | None = None,
    common: bool = False,
    estimator: EstimatorName | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    command: str | None = None,
) -> Comparison:
    """Compare reports: paired differences with intervals, districts, and the largest query changes.

    Queries are matched by image_id; their order in the files does not matter. Several reports of one system are its
    seeds: figures are then means over seeds, with their standard deviation beside the interval.

    Args:
        reports: Output folders of `swclip evaluate`, each FOLDER or NAME=FOLDER (see `named_folders`); or a mapping of
            names to a folder, an `Evaluation` in memory, or a list of these, which are the seeds of one system.
        baseline: The system that differences are taken from; the first where None.
        reference: A second system that differences are taken from; none where None.
        common: Compare on the queries that all reports have. If False, all reports must have the same queries.
        estimator: The estimator by whose answers all reports are compared. None for that of the reports where they
            agree, else mode.
        resamples: Bootstrap resamples.
        seed: Seed of the bootstrap.
        command: The command line, for the provenance.

    Returns:
        The comparison: data frames `systems`, `differences`, `regions`, `query_changes`, the `document`, and `plot()`.

    Raises:
        ConfigError: There are fewer than two reports, baseline or reference is not among the systems, a name is
            invalid, or there are no resamples.
        ArtefactError: A folder has no report, or one that is incomplete or cannot be read.
        MismatchError: The queries or their true positions differ, two seeds of a system are of the same model, or the
            reports have answers by different estimators and none in common.

    Example:
        >>> compare_reports(["clip=reports/clip", "sw-clip=reports/nowhere"])
        Traceback (most recent call last):
        ...
        swclip.errors.ArtefactError: reports/clip: there is no such folder; give an output folder of `swclip evaluate`.
    """
    if resamples < 1:
        raise ConfigError(f"--resamples {resamples}: an interval needs at least one resample; 1,000 are usual.")
    read = {name: _read(name, sources) for name, sources in _by_name(reports).items()}
    if sum(map(len, read.values())) < 2:
        raise ConfigError("a comparison needs at least two reports; give another one.")
    for role, name in (("baseline", baseline), ("reference", reference)):
        if name is not None and name not in read:
            raise ConfigError(f"{role} {name!r} is not among the systems; choose one of {', '.join(read)}.")
    labelled = {name: _by_seed(name, of_system) for name, of_system in read.items()}
    sources = {
        name: {seed_: _name(name, report) for seed_, report in seeds.items()} for name, seeds in labelled.items()
    }
    runs = {name: {seed_: report.evaluation for seed_, report in seeds.items()} for name, seeds in labelled.items()}
    runs, estimator_notes = with_common_estimator(runs, sources, estimator)
    aligned = align(runs, sources, common=common)
    named = [(sources[name][seed_], report) for name, seeds in labelled.items() for seed_, report in seeds.items()]
    made = {
        **versions(),
        "reports": {
            name: {seed_: report.stated for seed_, report in seeds.items()} for name, seeds in labelled.items()
        },
        "left_out": aligned.left_out if common else None,
        **{key: _shared(named, key) for key in ("manifest", "splits")},
        "command": command,
    }
    by_seed: dict[str, dict[Seed, Evaluation]] = {name: dict(seeds.items()) for name, seeds in aligned.runs.items()}
    return compare(
        by_seed,
        {key: value for key, value in made.items() if value is not None},
        baseline=baseline,
        reference=reference,
        seed=seed,
        resamples=resamples,
        notes=[*estimator_notes, *aligned.notes, *_difference_notes(named)],
    )


def _by_name(
    reports: Sequence[str | os.PathLike[str]] | Mapping[str, Source | Sequence[Source]],
) -> Mapping[str, Sequence[Source]]:
    if isinstance(reports, Mapping):
        return {
            name: [sources] if isinstance(sources, str | os.PathLike | Evaluation) else list(sources)
            for name, sources in reports.items()
        }
    if isinstance(reports, str | os.PathLike):
        raise ConfigError(
            f"reports must be a list of folders, not the single folder {reports!r}; give [{reports!r}, ...]."
        )
    if any(not isinstance(source, str | os.PathLike) for source in reports):
        raise ConfigError("an evaluation in memory has no name: give {'NAME': evaluation, ...}.")
    return named_folders(reports)


def _read(name: str, sources: Sequence[Source]) -> list[_Report]:
    if not sources:
        raise ConfigError(f"system {name!r} has no report; give at least one.")
    reports: list[_Report] = []
    for source in sources:
        if isinstance(source, Evaluation):
            reports.append(_Report(source, None))
        else:
            reports += [_Report(read_report(folder), folder) for folder in report_folders(source)]
    return reports


def _by_seed(name: str, reports: Sequence[_Report]) -> dict[str, _Report]:
    """Reports of a system by the seed of their run; numbered where seeds are unknown or repeated."""
    seeds = [(report.made_with.get("run") or {}).get("seed") for report in reports]
    labels = [str(seed) for seed in seeds]
    if None in seeds or len(set(labels)) < len(labels):
        labels = [str(number) for number in range(1, len(reports) + 1)]
    sources: dict[str, str] = {}
    for report in reports:
        model = report.made_with.get("model")
        if model is not None and model in sources:
            raise MismatchError(
                f"{sources[model]} and {report.source} are of the same model, so they are not two seeds of {name!r}; "
                "give them different names."
            )
        if model is not None:
            sources[str(model)] = report.source
    return dict(zip(labels, reports, strict=True))


def _name(name: str, report: _Report) -> str:
    return f"{name} ({report.source})"


def _shared(reports: Sequence[tuple[str, _Report]], key: str) -> Any:
    """An entry of the provenance that all reports share, else None; paths may differ."""
    first = reports[0][1].made_with.get(key)
    same = all(_without_path(report, key) == _without_path(reports[0][1], key) for _, report in reports)
    return first if same else None


def _without_path(report: _Report, key: str) -> Any:
    value = report.made_with.get(key)
    return {name: entry for name, entry in value.items() if name != "path"} if isinstance(value, Mapping) else value


def _difference_notes(reports: Sequence[tuple[str, _Report]]) -> list[str]:
    """Differences in manifest, splits, gallery and version, and their effect on the figures."""
    name, first = reports[0]
    notes = []
    for key, effect in (
        ("manifest", "photographs with the same image_id may differ"),
        ("splits", "a model may have been trained on queries of this comparison"),
    ):
        if others := [other for other, report in reports if _without_path(report, key) != _without_path(first, key)]:
            notes.append(f"Other {key} than that of {name}: {', '.join(others)}; {effect}.")
    gallery = _gallery_text(first)
    if others := [f"{other} {_gallery_text(report)}" for other, report in reports if _gallery_text(report) != gallery]:
        notes.append(
            f"The galleries differ ({name} {gallery}; {'; '.join(others)}): this may explain differences between the "
            "systems. The oracle error shown is that of the baseline."
        )
    versions_ = {report.evaluation.report.version for _, report in reports}
    if len(versions_) > 1:
        old = [other for other, report in reports if report.evaluation.report.version != max(versions_)]
        notes.append(
            f"Reports of an earlier version, which lack some of the further figures: {', '.join(old)}; evaluate again "
            "to add them."
        )
    return notes


def _gallery_text(report: _Report) -> str:
    figures = report.evaluation.report
    oracle = figures.baselines.floor
    if figures.gallery_size is None or oracle is None:  # answers of a tool without a known gallery
        return "gallery not known"
    return f"{figures.gallery_size:,} candidates, oracle error {metres(oracle.median)}"
