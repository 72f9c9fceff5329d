"""`swclip.compare`: reports that were made apart, side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from swclip.comparison.align import align
from swclip.comparison.comparison import Comparison, Seed, compare
from swclip.comparison.reports_on_disk import named_folders, read_report, report_folders
from swclip.errors import ConfigError, MismatchError
from swclip.evaluation.result import Evaluation
from swclip.metrics.bootstrap import RESAMPLES
from swclip.reporting.units import metres
from swclip.versions import versions

Source = str | os.PathLike[str] | Evaluation


@dataclass(frozen=True)
class _Report:
    """One report, where it is from, and the name it has in messages."""

    evaluation: Evaluation
    path: Path | None

    @property
    def made_with(self) -> Mapping[str, Any]:
        return self.evaluation.report.made_with

    @property
    def told(self) -> str:
        return "in memory" if self.path is None else str(self.path)


def compare_reports(
    reports: Sequence[str | os.PathLike[str]] | Mapping[str, Source | Sequence[Source]],
    *,
    baseline: str | None = None,
    reference: str | None = None,
    common: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
    command: str | None = None,
) -> Comparison:
    """Put reports beside each other: paired differences with intervals, regions, and the queries that moved most.

    Queries are matched by image_id, in whatever order the files hold them. Several reports of one system are its seeds:
    figures are then means over them, with their spread beside the interval.

    Args:
        reports: Folders that `swclip evaluate` wrote, each FOLDER or NAME=FOLDER (see `named_folders`); or by name a
            folder, an `Evaluation` in memory, or a list of these, which are seeds of one system.
        baseline: The system that differences are taken from; the first where None.
        reference: A second system that differences are taken from; none where None.
        common: Compare on the queries that all reports have. Where False, a query that one lacks is refused.
        resamples: Bootstrap resamples.
        seed: Of the bootstrap.
        command: The command line, for the record.

    Returns:
        The comparison: data frames `systems`, `differences`, `regions` and `moved`, `document`, and `plot()`.

    Raises:
        ConfigError: There is one report only, baseline or reference are not among the systems, a name is no
            name, or there are no resamples.
        ArtefactError: A folder holds no report, or one that was interrupted or cannot be read.
        MismatchError: The queries or their true positions differ, or two seeds of a system are of one model.

    Example:
        >>> compare_reports(["clip=reports/clip", "sw-clip=reports/nowhere"])
        Traceback (most recent call last):
        ...
        swclip.errors.ArtefactError: reports/clip: there is no such folder; give one that `swclip evaluate --out` wrote.
    """
    if resamples < 1:
        raise ConfigError(f"--resamples {resamples}: an interval needs at least one resample; 1,000 are usual.")
    found = {name: _read(name, sources) for name, sources in _by_name(reports).items()}
    if sum(map(len, found.values())) < 2:
        raise ConfigError("a comparison needs two reports or more; give a further one.")
    for what, name in (("baseline", baseline), ("reference", reference)):
        if name is not None and name not in found:
            raise ConfigError(f"{what} {name!r} is not among the systems; choose one of {', '.join(found)}.")
    labelled = {name: _by_seed(name, own) for name, own in found.items()}
    sources = {name: {label: _told(name, one) for label, one in own.items()} for name, own in labelled.items()}
    runs = {name: {label: one.evaluation for label, one in own.items()} for name, own in labelled.items()}
    aligned = align(runs, sources, common=common)
    everything = [(sources[name][label], one) for name, own in labelled.items() for label, one in own.items()]
    made = {
        **versions(),
        "reports": {name: {label: one.told for label, one in own.items()} for name, own in labelled.items()},
        "left_out": aligned.left_out if common else None,
        **{key: _shared(everything, key) for key in ("manifest", "splits")},
        "command": command,
    }
    by_seed: dict[str, dict[Seed, Evaluation]] = {name: dict(own.items()) for name, own in aligned.runs.items()}
    return compare(
        by_seed,
        {key: value for key, value in made.items() if value is not None},
        baseline=baseline,
        reference=reference,
        generator=np.random.default_rng(seed),
        resamples=resamples,
        notes=[*aligned.notes, *_differences(everything)],
    )


def _by_name(
    reports: Sequence[str | os.PathLike[str]] | Mapping[str, Source | Sequence[Source]],
) -> Mapping[str, Sequence[Source]]:
    if isinstance(reports, Mapping):
        return {
            name: [given] if isinstance(given, str | os.PathLike | Evaluation) else list(given)
            for name, given in reports.items()
        }
    if isinstance(reports, str | os.PathLike):
        raise ConfigError(f"reports are a list of folders, and {reports!r} is one; give [{reports!r}, ...].")
    if any(not isinstance(given, str | os.PathLike) for given in reports):
        raise ConfigError("an evaluation in memory has no name: give {'NAME': evaluation, ...}.")
    return named_folders(reports)


def _read(name: str, sources: Sequence[Source]) -> list[_Report]:
    if not sources:
        raise ConfigError(f"system {name!r} has no report; give it one.")
    reports: list[_Report] = []
    for source in sources:
        if isinstance(source, Evaluation):
            reports.append(_Report(source, None))
        else:
            reports += [_Report(read_report(folder), folder) for folder in report_folders(source)]
    return reports


def _by_seed(name: str, reports: Sequence[_Report]) -> dict[str, _Report]:
    """The reports of a system by the seed of their run; where that is not known or not unique, by number."""
    seeds = [(report.made_with.get("run") or {}).get("seed") for report in reports]
    labels = [str(seed) for seed in seeds]
    if None in seeds or len(set(labels)) < len(labels):
        labels = [str(number) for number in range(1, len(reports) + 1)]
    of: dict[str, str] = {}
    for report in reports:
        model = report.made_with.get("model")
        if model is not None and model in of:
            raise MismatchError(
                f"{of[model]} and {report.told} are of one and the same model, so they are not two seeds of {name!r}; "
                "give them different names."
            )
        if model is not None:
            of[str(model)] = report.told
    return dict(zip(labels, reports, strict=True))


def _told(name: str, report: _Report) -> str:
    return f"{name} ({report.told})"


def _shared(reports: Sequence[tuple[str, _Report]], key: str) -> Any:
    """A part of the record that all reports share, else None; where it was read from may differ."""
    first = reports[0][1].made_with.get(key)
    same = all(_what(report, key) == _what(reports[0][1], key) for _, report in reports)
    return first if same else None


def _what(report: _Report, key: str) -> Any:
    value = report.made_with.get(key)
    return {name: own for name, own in value.items() if name != "path"} if isinstance(value, Mapping) else value


def _differences(reports: Sequence[tuple[str, _Report]]) -> list[str]:
    """What the reports do not share, beside the queries, and what that does to their figures."""
    name, first = reports[0]
    notes = []
    for key, then in (
        ("manifest", "the photographs they name alike may not be the same"),
        ("splits", "what one of them was trained on may be a query here"),
    ):
        if others := [told for told, report in reports if _what(report, key) != _what(first, key)]:
            notes.append(f"Made with other {key} than {name}: {', '.join(others)}; {then}.")
    told = _gallery(first)
    if others := [f"{other} {_gallery(report)}" for other, report in reports if _gallery(report) != told]:
        notes.append(
            f"The galleries differ ({name} {told}; {'; '.join(others)}): a difference may be the gallery's and not the "
            f"system's. The floor shown is that of the baseline."
        )
    known = {report.evaluation.report.version for _, report in reports}
    if len(known) > 1:
        old = [other for other, report in reports if report.evaluation.report.version != max(known)]
        notes.append(
            f"Reports of an earlier version, which lack some of the further figures: {', '.join(old)}; evaluate again "
            "to have them."
        )
    return notes


def _gallery(report: _Report) -> str:
    own = report.evaluation.report
    floor = own.baselines.floor
    if own.gallery_size is None or floor is None:  # the answers of a tool whose candidates nobody knows
        return "candidates not known"
    return f"{own.gallery_size:,} candidates, floor {metres(floor.median)}"
