"""Splits as files: writing and reading, and files that do not belong together."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from swclip.data.manifest import Manifest
from swclip.data.splits import (
    Splits,
    candidates_for,
    candidates_path,
    indices,
    leakage_path,
    read_splits,
    write_splits,
)
from swclip.errors import ArtefactError, ConfigError, DiskFullError, InputError, MismatchError


def _manifest(n: int = 5) -> Manifest:
    frame = pd.DataFrame(
        {
            "image_id": pd.Series([f"i{k}" for k in range(n)], dtype=object),
            "image_path": pd.Series([f"images/i{k}.jpg" for k in range(n)], dtype=object),
            "lat_deg": 52.0 + np.arange(n) * 1e-4,
            "lon_deg": 0.1,
        }
    )
    return Manifest(Path("manifest.parquet"), frame)


def _tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    frame = pd.DataFrame(
        {
            "image_id": ["i3", "i0", "i1", "i2", "i4"],
            "split": ["query", "train", "val", "train", "gallery"],
            "block_id": ["a", None, "b", "b", None],
        }
    )
    candidates = pd.DataFrame(
        {
            "candidate_id": ["c0", "c1", "c2"],
            "lat_deg": [52.0, 52.1, 52.2],
            "lon_deg": [0.1, 0.2, 0.3],
            "city": ["Ely", None, "Ely"],
            "image_ids": [["i0", "i1"], ["i1"], []],
            "for_val": [True, False, True],
            "for_query": [True, True, True],
        }
    )
    return frame, candidates


def _write(path: Path, **meta: object) -> Splits:
    frame, candidates = _tables()
    full = {"protocol": "known-places", "seed": 1, "parameters": {}, "manifest_digest": _manifest().digest, **meta}
    return write_splits(path, frame, candidates, full)


def test_splits_are_read_back(tmp_path: Path) -> None:
    written = _write(tmp_path / "splits.parquet")
    found = read_splits(tmp_path / "splits.parquet")
    assert found.meta == written.meta
    assert found.meta["counts"] == {
        "train": 2,
        "val": 1,
        "gallery": 1,
        "query": 1,
        "candidates": 3,
        "candidates_for_val": 2,
        "candidates_for_query": 3,
    }
    frame, candidates = _tables()
    assert found.frame["split"].tolist() == frame["split"].tolist()
    assert found.frame["block_id"].tolist() == ["a", None, "b", "b", None]
    assert found.candidates["city"].tolist() == ["Ely", None, "Ely"]
    assert found.candidates["image_ids"].tolist() == candidates["image_ids"].tolist()
    assert found.candidates["for_val"].tolist() == [True, False, True]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["splits.candidates.parquet", "splits.parquet"]


def test_a_folder_stands_for_its_splits_file(tmp_path: Path) -> None:
    _write(tmp_path)
    assert read_splits(tmp_path).path == tmp_path / "splits.parquet"


@pytest.mark.parametrize(
    ("name", "candidates"), [("a.parquet", "a.candidates.parquet"), ("a.b", "a.b.candidates.parquet")]
)
def test_companion_files_are_named_after_the_splits(name: str, candidates: str) -> None:
    assert candidates_path(f"x/{name}") == Path("x") / candidates
    assert leakage_path("x/a.parquet") == Path("x/a.leakage.json")


def test_indices_follow_the_manifest_and_not_the_splits_rows(tmp_path: Path) -> None:
    splits = _write(tmp_path / "s.parquet")
    assert indices(splits, _manifest(), "train").tolist() == [0, 2]
    assert indices(splits, _manifest(), "query").tolist() == [3]
    assert indices(splits, _manifest(), "train").dtype == np.int64
    parts = [indices(splits, _manifest(), name) for name in ("train", "val", "gallery", "query")]
    assert sorted(np.concatenate(parts).tolist()) == list(range(5))


def test_splits_of_another_manifest_are_refused(tmp_path: Path) -> None:
    splits = _write(tmp_path / "s.parquet")
    with pytest.raises(MismatchError, match=r"s\.parquet.*another manifest.*0 of 5.*1 of its 6"):
        indices(splits, _manifest(6), "train")
    moved = _manifest()
    moved.frame.loc[2, "lat_deg"] += 0.01
    with pytest.raises(MismatchError, match="positions or paths changed"):
        indices(splits, moved, "train")


def test_an_unknown_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'test'.*train, val, gallery, query"):
        indices(_write(tmp_path / "s.parquet"), _manifest(), "test")  # type: ignore[arg-type]


def test_candidates_never_have_the_photograph_of_the_query(tmp_path: Path) -> None:
    _write(tmp_path / "s.parquet")
    splits = read_splits(tmp_path / "s.parquet")
    for_val = candidates_for(splits, "val")
    assert for_val["candidate_id"].tolist() == ["c0", "c2"]
    assert for_val["image_ids"].tolist() == [["i0"], []], "i1 is a validation photograph"
    assert for_val.index.tolist() == [0, 1]
    for_query = candidates_for(splits, "query")
    assert for_query["image_ids"].tolist() == [["i0", "i1"], ["i1"], []]
    assert splits.candidates["image_ids"].tolist() == [["i0", "i1"], ["i1"], []], "the splits are as they were"
    with pytest.raises(ConfigError, match="'train'"):
        candidates_for(splits, "train")  # type: ignore[arg-type]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"nowhere\.parquet.*do not exist"):
        read_splits(tmp_path / "nowhere.parquet")
    _write(tmp_path / "s.parquet")
    (tmp_path / "s.candidates.parquet").unlink()
    with pytest.raises(ArtefactError, match=r"s\.candidates\.parquet.*do not exist"):
        read_splits(tmp_path / "s.parquet")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "s.parquet"
    _write(file)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ArtefactError, match=r"s\.parquet.*cannot be read.*swclip split"):
        read_splits(file)


def test_another_parquet_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "s.parquet"
    pq.write_table(pa.table({"image_id": ["a"]}), file)
    with pytest.raises(ArtefactError, match="not a file that `swclip split` wrote"):
        read_splits(file)


def test_another_version_is_refused(tmp_path: Path) -> None:
    _write(tmp_path / "s.parquet", version="0")
    with pytest.raises(ArtefactError, match="version 0, but this swclip reads version 1"):
        read_splits(tmp_path / "s.parquet")


def test_candidates_of_other_splits_are_refused(tmp_path: Path) -> None:
    _write(tmp_path / "a.parquet", seed=1)
    _write(tmp_path / "b.parquet", seed=2)
    (tmp_path / "b.candidates.parquet").replace(tmp_path / "a.candidates.parquet")
    with pytest.raises(ArtefactError, match=r"a\.candidates\.parquet.*do not belong to"):
        read_splits(tmp_path / "a.parquet")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match=r"cannot write there"):
        _write(tmp_path / "file" / "s.parquet")


def test_a_full_disk_keeps_the_earlier_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "s.parquet"
    before = _write(file, seed=1)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(DiskFullError, match=r"s\.candidates\.parquet: the disk is full"):
        _write(file, seed=2)
    assert read_splits(file).meta == before.meta
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.candidates.parquet", "s.parquet"]
