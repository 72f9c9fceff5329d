"""Read report folders of `swclip evaluate`, and find the manifest and splits that they name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64

from swclip.comparison.comparison import Comparison
from swclip.data.manifest import Manifest, read_manifest
from swclip.data.splits import QuerySplit, Splits, candidates_for, leakage_path, read_splits
from swclip.errors import ArtefactError, ConfigError, MismatchError, SwclipError
from swclip.evaluation.report import EARLIER_VERSION, REPORT_VERSION, check_version, report_of
from swclip.evaluation.result import Evaluation, answer_columns, read_predictions
from swclip.files import found_path, read_json
from swclip.geo.distance import geodesic_m
from swclip.metrics.error_report import district_gap, errors_by_district
from swclip.metrics.ndcg import geoscore

VERSIONS = (EARLIER_VERSION, REPORT_VERSION)
"""Supported report versions."""

_COLUMNS = (
    "image_id",
    "lat_deg",
    "lon_deg",
    "predicted_lat_deg",
    "predicted_lon_deg",
    "error_m",
    "floor_m",
    "region",
    "city",
    "rank_25m",
    "probability",
    "block",
    "city_probability",
)
_CANDIDATE_COLUMNS = ("candidate_id", "lat_deg", "lon_deg", "city", "image_ids")


def read_report(folder: str | os.PathLike[str]) -> Evaluation:
    """Read report.json and predictions.parquet of a folder.

    Reports of version 1 get the later figures that follow from their errors. A report does not contain the candidates:
    their table in the `Evaluation` is empty.

    Args:
        folder: Output folder of `swclip evaluate ... --out`.

    Raises:
        ArtefactError: There is no report, it is incomplete, of another version, or its files do not match.
    """
    folder = Path(folder)
    path = folder / "report.json"
    if not path.is_file():
        raise ArtefactError(_no_report(folder))
    document = read_json(path, "the report")
    check_version(document, str(path), VERSIONS)
    predictions = read_predictions(folder / "predictions.parquet", _COLUMNS)
    _check(folder, document, predictions)
    errors = predictions["error_m"].to_numpy(dtype=np.float64)
    if document["version"] == EARLIER_VERSION:
        document = _with_later_figures(document, errors, predictions["region"].astype(str).tolist())
    report = report_of(document, str(path), VERSIONS)
    candidates = pd.DataFrame({name: pd.Series(dtype=object) for name in _CANDIDATE_COLUMNS})
    by_estimator = _errors_by_estimator(report.estimators, predictions)
    if report.estimator is not None:
        by_estimator[report.estimator] = errors
    return Evaluation(report, predictions, candidates, by_estimator)


def _errors_by_estimator(names: Iterable[str], predictions: pd.DataFrame) -> dict[str, Float64[np.ndarray, " q"]]:
    """Errors of the estimators whose answers the predictions have; those of earlier versions have none."""
    truth = predictions[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)
    columns = {name: list(answer_columns(name)) for name in names}
    return {
        name: geodesic_m(truth, predictions[pair].to_numpy(dtype=np.float64))
        for name, pair in columns.items()
        if set(pair) <= set(predictions.columns)
    }


def _with_later_figures(
    document: Mapping[str, Any], error_m: Float64[np.ndarray, " q"], districts: Sequence[str]
) -> dict[str, Any]:
    """Add the keys of later versions to a report of version 1: computed from the errors, else null."""
    gap = district_gap(errors_by_district(error_m, districts))
    later = {
        "geoscore": geoscore(error_m),
        "regional": None if gap is None else gap.model_dump(),
        "ndcg_at_k": None,
        "relevance": None,
        "levels": {},
        "spatial": None,
        "calibration": None,
    }
    return {**later, **document}


def report_folders(path: str | os.PathLike[str]) -> list[Path]:
    """The path itself if it is a report folder, else the report folders directly inside it.

    Raises:
        ArtefactError: There is no report folder.
    """
    folder = Path(path)
    if (folder / "report.json").is_file() or (folder / "predictions.parquet").is_file():
        return [folder]
    inside = sorted(child.parent for child in folder.glob("*/report.json"))
    if not inside:
        raise ArtefactError(_no_report(folder))
    return inside


def named_folders(arguments: Sequence[str | os.PathLike[str]]) -> dict[str, list[Path]]:
    """Parse the report arguments of a command line into systems and their report folders.

    Args:
        arguments: FOLDER or NAME=FOLDER. A folder of report folders means all of them: with a name the seeds of one
            system, without a name one system each. Repeating a name adds seeds. Without a name, a system is named
            after its folder, or after the parent folder that is unique.

    Raises:
        ArtefactError: A folder has no report.
        ConfigError: A name is empty, or two unnamed folders have the same name.
    """
    named: list[tuple[str | None, Path]] = []
    for argument in arguments:
        text = os.fspath(argument)
        name, equals, rest = text.partition("=")
        if not equals or Path(text).exists():
            named += [(None, folder) for folder in report_folders(text)]
        elif not name.strip() or not rest:
            raise ConfigError(f"{text!r}: write NAME=FOLDER, or the folder alone.")
        else:
            named += [(name.strip(), folder) for folder in report_folders(rest)]
    _check_once([folder for _, folder in named])
    systems: dict[str, list[Path]] = {}
    default_names = iter(_default_names([folder for name, folder in named if name is None]))
    unnamed: set[str] = set()
    for explicit_name, folder in named:
        name = next(default_names) if explicit_name is None else explicit_name
        if explicit_name is None:
            unnamed.add(name)
        # A folder without a name is a separate system, never a seed of another.
        if name in systems and name in unnamed:
            raise ConfigError(
                f"two systems would be named {name!r} ({systems[name][0]} and {folder}); give them names: "
                f"{name}-a={systems[name][0]} {name}-b={folder}, or the same NAME= if they are seeds of one system."
            )
        systems.setdefault(name, []).append(folder)
    return systems


def _default_names(folders: Sequence[Path]) -> list[str]:
    """Last parts of the paths, without trailing parts that all have in common (a/report and b/report)."""
    parts = [folder.resolve().parts for folder in folders]
    tail = 0
    if len(set(parts)) > 1:
        while len({path[len(path) - 1 - tail] for path in parts}) == 1:
            tail += 1
    return [path[len(path) - 1 - tail] for path in parts]


def _check_once(folders: Iterable[Path]) -> None:
    seen: set[Path] = set()
    for folder in folders:
        if folder.resolve() in seen:
            raise ConfigError(f"{folder}: this report is given twice; give each report once.")
        seen.add(folder.resolve())


def _check(folder: Path, document: Mapping[str, Any], predictions: pd.DataFrame) -> None:
    if len(predictions) == 0 or len(predictions) != document.get("n_queries"):
        raise ArtefactError(
            f"{folder}: predictions.parquet has {len(predictions)} queries, report.json has "
            f"{document.get('n_queries')}; they belong to different evaluations; evaluate again."
        )
    repeated = predictions["image_id"][predictions["image_id"].duplicated()]
    if len(repeated):
        raise ArtefactError(
            f"{folder / 'predictions.parquet'}: query {repeated.iloc[0]!r} has two rows; evaluate again."
        )
    wrong = ~np.isfinite(predictions["error_m"].to_numpy(dtype=np.float64))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ArtefactError(
            f"{folder / 'predictions.parquet'}, row {row}: error_m of query {predictions['image_id'].iloc[row]!r} is "
            f"{predictions['error_m'].iloc[row]}, not a number of metres; evaluate again."
        )


def _no_report(folder: Path) -> str:
    """Error message for a folder without a report: its content, and what to do."""
    if not folder.exists():
        return f"{folder}: there is no such folder; give an output folder of `swclip evaluate`."
    if (folder / "predictions.parquet").is_file():
        return f"{folder}: this evaluation was interrupted (report.json is missing); run its `swclip evaluate` again."
    if (folder / "run.json").is_file():
        return f"{folder}: this is a run, not a report; evaluate it first: `swclip evaluate {folder} --out REPORT`."
    if (folder / "benchmark.json").is_file():
        return (
            f"{folder}: this is a benchmark, which is already a comparison; for single reports evaluate its runs: "
            f"`swclip evaluate {folder / 'runs' / 'NAME'} --out REPORT`."
        )
    return f"{folder}: there is no report.json; give an output folder of `swclip evaluate`."


@dataclass(frozen=True)
class ComparisonData:
    """A comparison with the data that its page shows.

    Attributes:
        comparison: The comparison; its evaluations have candidates where the splits were found.
        manifest: The photographs; None where they were not found.
        leakage: The leakage report of the splits; None where there is none.
        notes: Missing files and how to give their paths, as sentences.
    """

    comparison: Comparison
    manifest: Manifest | None
    leakage: Mapping[str, Any] | None
    notes: list[str]


def find_comparison_data(
    comparison: Comparison,
    *,
    manifest: str | os.PathLike[str] | None = None,
    splits: str | os.PathLike[str] | None = None,
) -> ComparisonData:
    """Find the manifest and the splits that the reports name.

    Recorded files that are missing or have changed are left out with a note; explicit paths must be correct.

    Args:
        comparison: A comparison of reports.
        manifest: Path of the manifest, if it was moved.
        splits: Path of the splits, if they were moved.

    Raises:
        ArtefactError: The explicit manifest or splits are missing or cannot be read.
        MismatchError: They are not those of the reports.
    """
    made = next(iter(comparison.evaluations[comparison.baseline].values())).report.made_with
    notes: list[str] = []
    table = _manifest(made.get("manifest") or {}, manifest, notes)
    recorded = comparison.document.made_with.get("splits")
    if recorded is None and splits is not None:
        raise MismatchError(f"{os.fspath(splits)}: the reports have different splits; omit --splits.")
    read = _splits(recorded or {}, splits, notes)
    leakage = None
    if read is not None:
        path = leakage_path(read.path)
        leakage = read_json(path, "the leakage report") if path.is_file() else None
        comparison = _with_candidates(comparison, read)
    return ComparisonData(comparison, table, leakage, notes)


def _manifest(
    recorded: Mapping[str, Any], explicit: str | os.PathLike[str] | None, notes: list[str]
) -> Manifest | None:
    if explicit is None and not recorded.get("path"):
        return None
    try:
        table = read_manifest(found_path(str(recorded["path"])) if explicit is None else explicit)
    except SwclipError:
        if explicit is not None:
            raise
        notes.append(f"No photographs on the page: {recorded['path']} is missing; give its path with --manifest.")
        return None
    digest = recorded.get("digest")
    if digest == table.digest:
        return table
    reason = f"{table.path}: not the manifest of the reports (digest {table.digest[:12]}, not {str(digest)[:12]})"
    if explicit is not None:
        raise MismatchError(f"{reason}; give theirs with --manifest, or omit it.")
    notes.append(f"No photographs on the page. {reason}; give the path of theirs with --manifest.")
    return None


def _splits(recorded: Mapping[str, Any], explicit: str | os.PathLike[str] | None, notes: list[str]) -> Splits | None:
    if explicit is None and not recorded.get("path"):
        return None
    try:
        splits = read_splits(found_path(str(recorded["path"])) if explicit is None else explicit)
    except SwclipError:
        if explicit is not None:
            raise
        notes.append(
            f"No candidates and no leakage report on the page: {recorded['path']} is missing; give its path with "
            "--splits."
        )
        return None
    if splits.meta == {name: value for name, value in recorded.items() if name != "path"}:
        return splits
    if explicit is not None:
        raise MismatchError(f"{splits.path}: not the splits of the reports; give theirs with --splits, or omit it.")
    notes.append(f"No candidates and no leakage report on the page: {splits.path} has changed since the evaluation.")
    return None


def _with_candidates(comparison: Comparison, splits: Splits) -> Comparison:
    tables: dict[QuerySplit, pd.DataFrame] = {}

    def filled(evaluation: Evaluation) -> Evaluation:
        on: QuerySplit = "val" if evaluation.report.on == "val" else "query"
        if on not in tables:
            tables[on] = candidates_for(splits, on)
        keep = len(evaluation.candidates) > 0 or len(tables[on]) != evaluation.report.gallery_size
        return evaluation if keep else replace(evaluation, candidates=tables[on])

    runs = {name: {seed: filled(one) for seed, one in seeds.items()} for name, seeds in comparison.evaluations.items()}
    return Comparison(comparison.document, runs)
