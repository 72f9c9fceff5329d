"""Reports on disk: the folders that `swclip evaluate` wrote, read back, and the systems they are of."""

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
from swclip.evaluation.predictions import read_predictions
from swclip.evaluation.report import EARLIER_VERSION, REPORT_VERSION, check_version, report_of
from swclip.evaluation.result import Evaluation
from swclip.files import read_json
from swclip.metrics.district_errors import district_gap, errors_by_district
from swclip.metrics.ndcg import geoscore

VERSIONS = (EARLIER_VERSION, REPORT_VERSION)
"""Versions of reports that are read."""

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

    Reports of version 1 are read as well; of what later versions measure they have what follows from their errors. The
    candidates are not in a report: the table of the `Evaluation` is empty.

    Args:
        folder: What `swclip evaluate ... --out` wrote.

    Raises:
        ArtefactError: There is no report, it was interrupted, is of another version, or its files do not go together.
    """
    where = Path(folder)
    path = where / "report.json"
    if not path.is_file():
        raise ArtefactError(_no_report(where))
    document = read_json(path, "the report")
    check_version(document, str(path), VERSIONS)
    predictions = read_predictions(where / "predictions.parquet", _COLUMNS)
    _check(where, document, predictions)
    errors = predictions["error_m"].to_numpy(dtype=np.float64)
    if document["version"] == EARLIER_VERSION:
        document = _with_later_figures(document, errors, predictions["region"].astype(str).tolist())
    report = report_of(document, str(path), VERSIONS)
    candidates = pd.DataFrame({name: pd.Series(dtype=object) for name in _CANDIDATE_COLUMNS})
    known = {} if report.estimator is None else {report.estimator: errors}
    return Evaluation(report, predictions, candidates, known)


def _with_later_figures(
    document: Mapping[str, Any], error_m: Float64[np.ndarray, " q"], regions: Sequence[str]
) -> dict[str, Any]:
    """A report of version 1 with the keys that came after it: from the errors, or null where it takes more."""
    gap = district_gap(errors_by_district(error_m, regions))
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
    """The report folders that a path means: itself, or, where it holds no report, the folders in it that do.

    Raises:
        ArtefactError: Neither is there.
    """
    where = Path(path)
    if (where / "report.json").is_file() or (where / "predictions.parquet").is_file():
        return [where]
    inside = sorted(child.parent for child in where.glob("*/report.json"))
    if not inside:
        raise ArtefactError(_no_report(where))
    return inside


def named_folders(arguments: Sequence[str | os.PathLike[str]]) -> dict[str, list[Path]]:
    """Systems and their report folders, as a command line names them.

    Args:
        arguments: FOLDER or NAME=FOLDER. A folder of several report folders stands for all of them: with a name for
            the seeds of one system, without for a system each. A name that comes again adds seeds. Without a name a
            system is called after its folder, or the parent that tells it from the others.

    Raises:
        ArtefactError: A folder holds no report.
        ConfigError: A name is empty, or two folders cannot be told apart by name.
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
    found: dict[str, list[Path]] = {}
    own = iter(_own_names([folder for name, folder in named if name is None]))
    unnamed: set[str] = set()
    for given, folder in named:
        name = next(own) if given is None else given
        if given is None:
            unnamed.add(name)
        # A folder that was not given a name is a system of its own, never a seed of another.
        if name in found and name in unnamed:
            raise ConfigError(
                f"two systems would be called {name!r} ({found[name][0]} and {folder}); name them: "
                f"{name}-a={found[name][0]} {name}-b={folder}, or give both one NAME= if they are its seeds."
            )
        found.setdefault(name, []).append(folder)
    return found


def _own_names(folders: Sequence[Path]) -> list[str]:
    """Names of folders: their last parts, less those that all have in common at the end (a/report and b/report)."""
    parts = [folder.resolve().parts for folder in folders]
    tail = 0
    if len(set(parts)) > 1:
        while len({own[len(own) - 1 - tail] for own in parts}) == 1:
            tail += 1
    return [own[len(own) - 1 - tail] for own in parts]


def _check_once(folders: Iterable[Path]) -> None:
    seen: set[Path] = set()
    for folder in folders:
        if folder.resolve() in seen:
            raise ConfigError(f"{folder}: this report is given twice; give each once.")
        seen.add(folder.resolve())


def _check(where: Path, document: Mapping[str, Any], predictions: pd.DataFrame) -> None:
    if len(predictions) == 0 or len(predictions) != document.get("n_queries"):
        raise ArtefactError(
            f"{where}: predictions.parquet has {len(predictions)} queries and report.json {document.get('n_queries')}; "
            "they are of different evaluations, so evaluate again."
        )
    twice = predictions["image_id"][predictions["image_id"].duplicated()]
    if len(twice):
        raise ArtefactError(f"{where / 'predictions.parquet'}: query {twice.iloc[0]!r} is there twice; evaluate again.")
    wrong = ~np.isfinite(predictions["error_m"].to_numpy(dtype=np.float64))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ArtefactError(
            f"{where / 'predictions.parquet'}, row {row}: error_m of query {predictions['image_id'].iloc[row]!r} is "
            f"{predictions['error_m'].iloc[row]}, not a number of metres; evaluate again."
        )


def _no_report(where: Path) -> str:
    """What is there in place of a report, and what to do about it."""
    if not where.exists():
        return f"{where}: there is no such folder; give one that `swclip evaluate --out` wrote."
    if (where / "predictions.parquet").is_file():
        return f"{where}: this evaluation was interrupted (report.json is missing); run its `swclip evaluate` again."
    if (where / "run.json").is_file():
        return f"{where}: this is a run, not a report; evaluate it first: `swclip evaluate {where} --out REPORT`."
    if (where / "benchmark.json").is_file():
        return (
            f"{where}: this is a benchmark, which compares by itself; for single reports evaluate its runs: "
            f"`swclip evaluate {where / 'runs' / 'NAME'} --out REPORT`."
        )
    return f"{where}: no report.json is there; give one that `swclip evaluate --out` wrote."


@dataclass(frozen=True)
class Surroundings:
    """What was found.

    Attributes:
        comparison: The comparison, its evaluations with their candidates where these were found.
        manifest: The photographs; None where they were not found.
        leakage: The leakage report of the splits; None where there is none.
        notes: What was not found, and how to say where it is; sentences.
    """

    comparison: Comparison
    manifest: Manifest | None
    leakage: Mapping[str, Any] | None
    notes: list[str]


def find_surroundings(
    comparison: Comparison,
    *,
    manifest: str | os.PathLike[str] | None = None,
    splits: str | os.PathLike[str] | None = None,
) -> Surroundings:
    """Find the manifest and the splits that the reports name, where they were or where they are now.

    What the reports name and is not there any more, or is another one by now, is left out and noted; what was given
    must be the right one.

    Args:
        comparison: Of reports.
        manifest: Where the manifest is now.
        splits: Where the splits are now.

    Raises:
        ArtefactError: The given manifest or splits are not there or cannot be read.
        MismatchError: They are not those that the reports were made from.
    """
    made = next(iter(comparison.evaluations[comparison.baseline].values())).report.made_with
    notes: list[str] = []
    table = _manifest(made.get("manifest") or {}, manifest, notes)
    recorded = comparison.document["made_with"].get("splits")
    if recorded is None and splits is not None:
        raise MismatchError(f"{os.fspath(splits)}: the reports are of different splits; leave --splits out.")
    found = _splits(recorded or {}, splits, notes)
    leakage = None
    if found is not None:
        leaks = leakage_path(found.path)
        leakage = read_json(leaks, "the leakage report") if leaks.is_file() else None
        comparison = _with_candidates(comparison, found)
    return Surroundings(comparison, table, leakage, notes)


def _manifest(recorded: Mapping[str, Any], given: str | os.PathLike[str] | None, notes: list[str]) -> Manifest | None:
    if given is None and not recorded.get("path"):
        return None
    try:
        table = read_manifest(str(recorded["path"]) if given is None else given)
    except SwclipError:
        if given is not None:
            raise
        notes.append(f"No photographs on the page: {recorded['path']} is not there; say where it is with --manifest.")
        return None
    digest = recorded.get("digest")
    if digest == table.digest:
        return table
    told = f"{table.path}: not the manifest of the reports (digest {table.digest[:12]}, not {str(digest)[:12]})"
    if given is not None:
        raise MismatchError(f"{told}; give theirs with --manifest, or leave it out.")
    notes.append(f"No photographs on the page. {told}; say where theirs is with --manifest.")
    return None


def _splits(recorded: Mapping[str, Any], given: str | os.PathLike[str] | None, notes: list[str]) -> Splits | None:
    if given is None and not recorded.get("path"):
        return None
    try:
        found = read_splits(str(recorded["path"]) if given is None else given)
    except SwclipError:
        if given is not None:
            raise
        notes.append(
            f"No candidates and no leakage report on the page: {recorded['path']} is not there; say where it is with "
            "--splits."
        )
        return None
    if found.meta == {name: value for name, value in recorded.items() if name != "path"}:
        return found
    if given is not None:
        raise MismatchError(f"{found.path}: not the splits of the reports; give theirs with --splits, or leave it out.")
    notes.append(
        f"No candidates and no leakage report on the page: {found.path} has changed since the reports were made."
    )
    return None


def _with_candidates(comparison: Comparison, splits: Splits) -> Comparison:
    tables: dict[QuerySplit, pd.DataFrame] = {}

    def filled(found: Evaluation) -> Evaluation:
        on: QuerySplit = "val" if found.report.on == "val" else "query"
        if on not in tables:
            tables[on] = candidates_for(splits, on)
        known = len(found.candidates) > 0 or len(tables[on]) != found.report.gallery_size
        return found if known else replace(found, candidates=tables[on])

    runs = {name: {seed: filled(found) for seed, found in of.items()} for name, of in comparison.evaluations.items()}
    return Comparison(comparison.document, runs)
