"""What stands round reports: found where they say, noted where it has changed, refused where it was given wrong."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import swclip
from swclip.comparison.comparison import Comparison
from swclip.comparison.reports_on_disk import find_surroundings
from swclip.data.manifest import read_manifest, write_manifest
from swclip.data.splits import read_splits, write_splits
from swclip.errors import MismatchError
from swclip.evaluation.result import Evaluation


@pytest.fixture
def folder(town: Path, tmp_path: Path) -> Path:
    shutil.copytree(town, tmp_path / "town")
    return tmp_path / "town"


def compared(made_up: Any, folder: Path) -> Comparison:
    manifest, splits = read_manifest(folder), read_splits(folder)
    made = {
        "manifest": {"path": str(folder), "digest": manifest.digest},
        "splits": {"path": str(folder), **splits.meta},
    }
    size = int(splits.candidates["for_query"].sum())

    def saved(system: int) -> Evaluation:
        found = made_up(1, system=system)
        report = found.report.model_copy(update={"made_with": made, "gallery_size": size})
        return Evaluation(report, found.predictions, found.candidates.iloc[:0])

    return swclip.compare({"a": saved(0), "b": saved(1)}, resamples=10)


def candidates(comparison: Comparison) -> list[int]:
    return [len(found.candidates) for of in comparison.evaluations.values() for found in of.values()]


def test_what_is_where_the_reports_say_is_found(made_up: Any, folder: Path) -> None:
    comparison = compared(made_up, folder)
    found = find_surroundings(comparison)
    assert found.notes == []
    assert found.manifest is not None
    assert found.manifest.digest == read_manifest(folder).digest
    size = int(read_splits(folder).candidates["for_query"].sum())
    assert candidates(comparison) == [0, 0]
    assert candidates(found.comparison) == [size, size]
    assert found.comparison.document is comparison.document


def test_what_has_changed_since_is_left_out_and_noted(made_up: Any, folder: Path) -> None:
    comparison = compared(made_up, folder)
    frame = read_manifest(folder).frame
    frame.loc[0, "lat_deg"] += 0.001
    write_manifest(folder / "manifest.parquet", frame)
    splits = read_splits(folder)
    meta = {key: value for key, value in splits.meta.items() if key not in ("version", "counts")}
    write_splits(folder, splits.frame, splits.candidates, {**meta, "seed": 99})
    found = find_surroundings(comparison)
    assert found.manifest is None
    assert candidates(found.comparison) == [0, 0]
    assert [note.split(".")[0] for note in found.notes] == [
        "No photographs on the page",
        f"No candidates and no leakage report on the page: {folder / 'splits'}",
    ]
    with pytest.raises(MismatchError, match="not the manifest of the reports"):
        find_surroundings(comparison, manifest=folder)
    with pytest.raises(MismatchError, match="not the splits of the reports"):
        find_surroundings(comparison, splits=folder)


def test_reports_of_different_splits_have_no_one_gallery(made_up: Any, folder: Path) -> None:
    comparison = compared(made_up, folder)
    del comparison.document["made_with"]["splits"]
    assert candidates(find_surroundings(comparison).comparison) == [0, 0]
    with pytest.raises(MismatchError, match="the reports are of different splits"):
        find_surroundings(comparison, splits=folder)


def test_evaluations_in_memory_keep_their_candidates_and_need_no_files(made_up: Any) -> None:
    comparison = swclip.compare({"a": made_up(1), "b": made_up(1, system=1)}, resamples=10)
    found = find_surroundings(comparison)
    assert (found.manifest, found.leakage, found.notes) == (None, None, [])
    assert candidates(found.comparison) == [135, 135]
