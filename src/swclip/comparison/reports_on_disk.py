"""Reports on disk: the folders that `swclip evaluate` wrote, read back, and the systems they are of."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from swclip.errors import ArtefactError, ConfigError
from swclip.evaluation.measure import Evaluation
from swclip.evaluation.predictions import read_predictions
from swclip.files import read_json

KNOWN_VERSIONS = ("1", "2")

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
_KEYS = ("error_m", "accuracy_within_m", "recall_at_k_25m", "baselines", "by_region", "intervals", "estimators")
_CANDIDATE_COLUMNS = ("candidate_id", "lat_deg", "lon_deg", "city", "image_ids")


def read_report(folder: str | os.PathLike[str]) -> Evaluation:
    """Read report.json and predictions.parquet of a folder.

    Reports of version 1 are read as well; they lack what later versions measure. The candidates are not in a report:
    the table of the `Evaluation` is empty.

    Args:
        folder: What `swclip evaluate ... --out` wrote.

    Raises:
        ArtefactError: There is no report, it was interrupted, is of another version, or its files do not go together.
    """
    where = Path(folder)
    path = where / "report.json"
    if not path.is_file():
        raise ArtefactError(_no_report(where))
    report = read_json(path, "the report")
    version = str(report.get("version")) if isinstance(report, dict) else None
    if version not in KNOWN_VERSIONS:
        raise ArtefactError(
            f"{path}: a report of version {version}, and this swclip reads {' and '.join(KNOWN_VERSIONS)}; evaluate "
            "again, or use the swclip that wrote it."
        )
    missing = [key for key in _KEYS if key not in report]
    if missing:
        raise ArtefactError(f"{path}: {missing[0]!r} is missing, so this is no whole report; evaluate again.")
    predictions = read_predictions(where / "predictions.parquet", _COLUMNS)
    _check(where, report, predictions)
    errors = predictions["error_m"].to_numpy(dtype=np.float64)
    candidates = pd.DataFrame({name: pd.Series(dtype=object) for name in _CANDIDATE_COLUMNS})
    known = {} if report["estimator"] is None else {str(report["estimator"]): errors}
    return Evaluation(report, predictions, candidates, known)


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


def _check(where: Path, report: dict[str, Any], predictions: pd.DataFrame) -> None:
    if len(predictions) == 0 or len(predictions) != report["n_queries"]:
        raise ArtefactError(
            f"{where}: predictions.parquet has {len(predictions)} queries and report.json {report['n_queries']}; they "
            "are of different evaluations, so evaluate again."
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
