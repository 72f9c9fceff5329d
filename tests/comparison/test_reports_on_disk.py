"""Reading and naming report folders, and finding the manifest and splits of reports."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyarrow import parquet

import swclip
from swclip.comparison.comparison import Comparison
from swclip.comparison.reports_on_disk import find_comparison_data, named_folders, read_report, report_folders
from swclip.data.manifest import read_manifest, write_manifest
from swclip.data.splits import read_splits, write_splits
from swclip.errors import ArtefactError, ConfigError, MismatchError, SwclipError
from swclip.evaluation.result import Evaluation


@pytest.fixture
def folder(made_up: Any, saved: Any, tmp_path: Path) -> Path:
    return Path(saved(made_up(1), tmp_path / "report"))


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    report = json.loads((folder / "report.json").read_text())
    change(report)
    (folder / "report.json").write_text(json.dumps(report))


def test_report_round_trip(made_up: Any, folder: Path) -> None:
    evaluation, found = made_up(1), read_report(folder)
    assert found.report == evaluation.report
    pd.testing.assert_frame_equal(found.predictions[list(evaluation.predictions)], evaluation.predictions)
    assert len(found.candidates) == 0
    assert found.errors_m["mode"].tolist() == evaluation.predictions["error_m"].tolist()


@pytest.mark.parametrize("version", ["1", "2"])
def test_columns_and_keys_of_other_versions_are_accepted(folder: Path, version: str) -> None:
    edit(folder, lambda report: report.update(version=version, geoscore=4321.0))
    path = folder / "predictions.parquet"
    table = parquet.read_table(path).drop_columns(["split", "top1_candidate_id", "lisa"])
    parquet.write_table(table.append_column("of_a_later_version", [np.linspace(0, 1, len(table))]), path)
    found = read_report(folder)
    assert found.report.geoscore == 4321.0
    assert found.predictions["of_a_later_version"].iloc[-1] == 1.0
    assert "geometry" not in found.predictions


def test_report_of_version_1_gets_figures_from_its_errors(folder: Path) -> None:
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
        (without_a_row, "has 44 queries, report.json has 45"),
        (with_a_row_twice, "query 'photo-00000' has two rows"),
        (without_an_error, "row 2: error_m of query 'photo-00008' is nan"),
    ],
)
def test_damaged_report_raises(folder: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(folder)
    with pytest.raises(ArtefactError, match=re.escape(message)) as refused:
        read_report(folder)
    assert str(folder) in str(refused.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (None, "there is no such folder"),
        ("anything.txt", "there is no report.json"),
        ("run.json", "this is a run, not a report; evaluate it first"),
        ("benchmark.json", "this is a benchmark, which is already a comparison"),
    ],
)
def test_error_names_the_kind_of_another_folder(tmp_path: Path, name: str | None, message: str) -> None:
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
def test_named_folders(tree: Path, arguments: list[str], expected: dict[str, list[str]]) -> None:
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
        (["c=a/report", "c"], "two systems would be named 'c'"),
        (["c", "c=a/report"], "two systems would be named 'c'"),
        (["c", "nowhere"], "nowhere: there is no such folder"),
        (["x=nowhere", "c"], "nowhere: there is no such folder"),
    ],
)
def test_invalid_names_raise(tree: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(SwclipError, match=message) as refused:
        named_folders(arguments)
    assert isinstance(refused.value, ArtefactError if "nowhere" in message else ConfigError)


@pytest.fixture
def data_folder(town: Path, tmp_path: Path) -> Path:
    shutil.copytree(town, tmp_path / "town")
    return tmp_path / "town"


def compared(made_up: Any, data_folder: Path) -> Comparison:
    manifest, splits = read_manifest(data_folder), read_splits(data_folder)
    made = {
        "manifest": {"path": str(data_folder), "digest": manifest.digest},
        "splits": {"path": str(data_folder), **splits.meta},
    }
    size = int(splits.candidates["for_query"].sum())

    def saved(system: int) -> Evaluation:
        found = made_up(1, system=system)
        report = found.report.model_copy(update={"made_with": made, "gallery_size": size})
        return Evaluation(report, found.predictions, found.candidates.iloc[:0])

    return swclip.compare({"a": saved(0), "b": saved(1)}, resamples=10)


def candidates(comparison: Comparison) -> list[int]:
    return [len(found.candidates) for of in comparison.evaluations.values() for found in of.values()]


def test_recorded_files_are_found(made_up: Any, data_folder: Path) -> None:
    comparison = compared(made_up, data_folder)
    found = find_comparison_data(comparison)
    assert found.notes == []
    assert found.manifest is not None
    assert found.manifest.digest == read_manifest(data_folder).digest
    size = int(read_splits(data_folder).candidates["for_query"].sum())
    assert candidates(comparison) == [0, 0]
    assert candidates(found.comparison) == [size, size]
    assert found.comparison.document is comparison.document


def test_changed_files_are_left_out_with_a_note(made_up: Any, data_folder: Path) -> None:
    comparison = compared(made_up, data_folder)
    frame = read_manifest(data_folder).frame
    frame.loc[0, "lat_deg"] += 0.001
    write_manifest(data_folder / "manifest.parquet", frame)
    splits = read_splits(data_folder)
    meta = {key: value for key, value in splits.meta.items() if key not in ("version", "counts")}
    write_splits(data_folder, splits.frame, splits.candidates, {**meta, "seed": 99})
    found = find_comparison_data(comparison)
    assert found.manifest is None
    assert candidates(found.comparison) == [0, 0]
    assert [note.split(".")[0] for note in found.notes] == [
        "No photographs on the page",
        f"No candidates and no leakage report on the page: {data_folder / 'splits'}",
    ]
    with pytest.raises(MismatchError, match="not the manifest of the reports"):
        find_comparison_data(comparison, manifest=data_folder)
    with pytest.raises(MismatchError, match="not the splits of the reports"):
        find_comparison_data(comparison, splits=data_folder)


def test_reports_of_different_splits_have_no_common_gallery(made_up: Any, data_folder: Path) -> None:
    comparison = compared(made_up, data_folder)
    del comparison.document.made_with["splits"]
    assert candidates(find_comparison_data(comparison).comparison) == [0, 0]
    with pytest.raises(MismatchError, match="the reports have different splits"):
        find_comparison_data(comparison, splits=data_folder)


def test_evaluations_in_memory_need_no_files(made_up: Any) -> None:
    comparison = swclip.compare({"a": made_up(1), "b": made_up(1, system=1)}, resamples=10)
    found = find_comparison_data(comparison)
    assert (found.manifest, found.leakage, found.notes) == (None, None, [])
    assert candidates(found.comparison) == [135, 135]
