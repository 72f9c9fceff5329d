"""Report folders read back, named, and refused with what is there in their place."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyarrow import parquet

from swclip.comparison.reports_on_disk import named_folders, read_report, report_folders
from swclip.errors import ArtefactError, ConfigError, SwclipError


@pytest.fixture
def folder(made_up: Any, saved: Any, tmp_path: Path) -> Path:
    return Path(saved(made_up(1), tmp_path / "report"))


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    report = json.loads((folder / "report.json").read_text())
    change(report)
    (folder / "report.json").write_text(json.dumps(report))


def test_a_report_is_read_as_it_was_written(made_up: Any, folder: Path) -> None:
    evaluation, found = made_up(1), read_report(folder)
    assert found.report == evaluation.report
    pd.testing.assert_frame_equal(found.predictions[list(evaluation.predictions)], evaluation.predictions)
    assert len(found.candidates) == 0
    assert found.errors_m["mode"].tolist() == evaluation.predictions["error_m"].tolist()


@pytest.mark.parametrize("version", ["1", "2"])
def test_columns_and_keys_of_other_versions_are_no_obstacle(folder: Path, version: str) -> None:
    edit(folder, lambda report: report.update(version=version, geoscore=4321.0))
    path = folder / "predictions.parquet"
    table = parquet.read_table(path).drop_columns(["split", "top1_candidate_id", "lisa"])
    parquet.write_table(table.append_column("of_a_later_version", [np.linspace(0, 1, len(table))]), path)
    found = read_report(folder)
    assert found.report.geoscore == 4321.0
    assert found.predictions["of_a_later_version"].iloc[-1] == 1.0
    assert "geometry" not in found.predictions


def test_a_report_of_version_1_has_what_follows_from_its_errors(folder: Path) -> None:
    written = read_report(folder).report
    later = ("geoscore", "regional", "ndcg_at_k", "relevance", "levels", "spatial", "calibration")
    edit(folder, lambda report: [report.update(version="1"), *(report.pop(key) for key in later)])
    found = read_report(folder).report
    assert found.version == "1"
    assert found.geoscore == pytest.approx(written.geoscore)
    assert found.regional == written.regional
    assert (found.levels, found.spatial, found.calibration, found.ndcg_at_k) == ({}, None, None, None)
    assert found.error_m == written.error_m


def cut_short(folder: Path) -> None:
    path = folder / "predictions.parquet"
    path.write_bytes(path.read_bytes()[:-200])


def without_a_row(folder: Path) -> None:
    table = parquet.read_table(folder / "predictions.parquet")
    parquet.write_table(table.slice(1), folder / "predictions.parquet")


def with_a_row_twice(folder: Path) -> None:
    table = parquet.read_table(folder / "predictions.parquet").to_pandas()
    table.loc[3, "image_id"] = table.loc[0, "image_id"]
    table.to_parquet(folder / "predictions.parquet")


def without_an_error(folder: Path) -> None:
    table = parquet.read_table(folder / "predictions.parquet").to_pandas()
    table.loc[2, "error_m"] = np.nan
    table.to_parquet(folder / "predictions.parquet")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "report.json").unlink(), "this evaluation was interrupted"),
        (lambda folder: (folder / "predictions.parquet").unlink(), "the file of predictions is missing"),
        (lambda folder: (folder / "report.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "report.json").write_text("[]"), "of version None"),
        (lambda folder: edit(folder, lambda report: report.update(version="9")), "a report of version 9"),
        (lambda folder: edit(folder, lambda report: report.pop("baselines")), "'baselines' is missing"),
        (lambda folder: edit(folder, lambda report: report.pop("spatial")), "'spatial' is missing"),
        (cut_short, "the predictions cannot be read"),
        (without_a_row, "has 44 queries and report.json 45"),
        (with_a_row_twice, "query 'photo-00000' is there twice"),
        (without_an_error, "row 2: error_m of query 'photo-00008' is nan"),
    ],
)
def test_a_damaged_report_is_refused(folder: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(folder)
    with pytest.raises(ArtefactError, match=re.escape(message)) as refused:
        read_report(folder)
    assert str(folder) in str(refused.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (None, "there is no such folder"),
        ("anything.txt", "no report.json is there"),
        ("run.json", "this is a run, not a report; evaluate it first"),
        ("benchmark.json", "this is a benchmark, which compares by itself"),
    ],
)
def test_a_folder_that_is_something_else_says_what_it_is(tmp_path: Path, name: str | None, message: str) -> None:
    folder = tmp_path / "other"
    if name is not None:
        folder.mkdir()
        (folder / name).write_text("{}")
    with pytest.raises(ArtefactError, match=message):
        report_folders(folder)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("clip/s0", "clip/s1", "a/report", "b/report", "lr=0.1", "c"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "report.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["x=a/report", "c"], {"x": ["a/report"], "c": ["c"]}),
        (["clip=clip", "c"], {"clip": ["clip/s0", "clip/s1"], "c": ["c"]}),
        (["clip=clip/s1", "c", "clip=clip/s0"], {"clip": ["clip/s1", "clip/s0"], "c": ["c"]}),
        (["clip", "c"], {"s0": ["clip/s0"], "s1": ["clip/s1"], "c": ["c"]}),
        (["a/report", "b/report"], {"a": ["a/report"], "b": ["b/report"]}),
        (["lr=0.1", "c"], {"lr=0.1": ["lr=0.1"], "c": ["c"]}),
        (["low=lr=0.1", "c/"], {"low": ["lr=0.1"], "c": ["c"]}),
    ],
)
def test_names(tree: Path, arguments: list[str], expected: dict[str, list[str]]) -> None:
    found = named_folders(arguments)
    assert list(found) == list(expected)
    assert found == {name: [Path(folder) for folder in folders] for name, folders in expected.items()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["=c", "a/report"], "write NAME=FOLDER"),
        (["x=", "a/report"], "write NAME=FOLDER"),
        (["c", "./c"], "this report is given twice"),
        (["x=c", "y=c"], "this report is given twice"),
        (["c=a/report", "c"], "two systems would be called 'c'"),
        (["c", "c=a/report"], "two systems would be called 'c'"),
        (["c", "nowhere"], "nowhere: there is no such folder"),
        (["x=nowhere", "c"], "nowhere: there is no such folder"),
    ],
)
def test_names_that_cannot_work(tree: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(SwclipError, match=message) as refused:
        named_folders(arguments)
    assert isinstance(refused.value, ArtefactError if "nowhere" in message else ConfigError)
