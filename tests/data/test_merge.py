"""Several manifests as one: paths, ids, places and sequences, columns, duplicates, licences."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import swclip
from swclip.cli.app import run
from swclip.data.manifest import Manifest, read_manifest, write_manifest
from swclip.data.merge import merge_manifests
from swclip.data.splits import candidates_for
from swclip.errors import ConfigError, InputError


def picture(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path, "BMP")
    return path


def data(folder: Path, n: int = 3, lat: float = 51.5, seed: int = 0, **columns: Any) -> Manifest:
    """A manifest of n photographs 10 m apart, with ids 0, 1, ...; all files have one size, so all are compared."""
    frame = {
        "image_id": [str(k) for k in range(n)],
        "image_path": [str(picture(folder / f"images/{k}.bmp", seed + k)) for k in range(n)],
        "lat_deg": [lat + 1e-4 * k for k in range(n)],
        "lon_deg": -0.1,
    }
    return write_manifest(folder, pd.DataFrame({**frame, **columns}))


def test_paths_columns_and_ids(tmp_path: Path) -> None:
    a = data(tmp_path / "deep/a", licence="CC0", height=[1, 2, 3], night=[True, False, True], code=[1, 2, 3])
    b = data(tmp_path / "b", lat=53.0, seed=50, source="Panoramax", code=["x", None, "z"], speed=[0.5, None, 1.5])
    result = merge_manifests([a, b], tmp_path / "out")
    merged = read_manifest(tmp_path / "out")
    frame = merged.frame
    assert frame["image_id"].tolist() == ["a/0", "a/1", "a/2", "b/0", "b/1", "b/2"]
    assert merged.image_paths == [*a.image_paths, *b.image_paths]
    assert all(path.is_file() for path in merged.image_paths)
    assert frame["image_path"][0] == "../deep/a/images/0.bmp"
    assert frame["merged_from"].tolist() == ["a"] * 3 + ["b"] * 3
    assert frame["licence"].tolist() == ["CC0"] * 3 + [None] * 3
    assert frame["source"].tolist() == [None] * 3 + ["Panoramax"] * 3
    assert frame["height"].tolist()[:3] == [1, 2, 3]
    assert frame["height"].isna().tolist() == [False] * 3 + [True] * 3
    assert frame["height"].dtype == "Int64"
    assert frame["night"].tolist() == [True, False, True, None, None, None]
    assert frame["code"].tolist() == ["1", "2", "3", "x", None, "z"]
    assert frame["speed"].tolist()[3::2] == [0.5, 1.5]
    assert len(result.duplicates) == 0
    assert result.renamed == {"image_id": 3}
    assert len(result.notes) == 1
    assert "'code' has other types" in result.notes[0]
    backwards = merge_manifests([b, a], tmp_path / "backwards").manifest.frame
    assert sorted(backwards["image_id"]) == sorted(frame["image_id"])


def test_ids_that_are_unique_are_kept(tmp_path: Path) -> None:
    a = data(tmp_path / "a")
    b = data(tmp_path / "b", lat=53.0, seed=50, image_id=["2", "x", "y"])
    frame = merge_manifests([a, b], tmp_path / "out").manifest.frame
    assert frame["image_id"].tolist() == ["0", "1", "a/2", "b/2", "x", "y"]
    c = data(tmp_path / "c", n=1, lat=40.0, seed=90, image_id=["z"])
    again = merge_manifests([read_manifest(tmp_path / "out"), c], tmp_path / "more").manifest.frame
    assert again["image_id"].tolist() == ["0", "1", "a/2", "b/2", "x", "y", "z"]
    assert again["merged_from"].tolist() == ["a"] * 3 + ["b"] * 3 + ["c"]


def test_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    a, b = data(tmp_path / "london/data"), data(tmp_path / "leeds/data", lat=53.0, seed=50)
    frame = merge_manifests([a, b], tmp_path / "out").manifest.frame
    assert frame["image_id"][0] == "london/data/0"


def test_places_and_sequences_are_the_same_where_they_meet(tmp_path: Path) -> None:
    times = pd.to_datetime(["2020-05-01T10:00:00"] * 3)
    common = {"place_id": ["1", "2", "own"], "sequence_id": ["s", "s", "t"]}
    a = data(tmp_path / "a", captured_at=times, **common)
    near = data(tmp_path / "near", lat=51.503, seed=50, captured_at=times, place_id="1", sequence_id="s")
    frame = merge_manifests([a, near], tmp_path / "one").manifest.frame
    assert frame["place_id"].tolist() == ["1", "2", "own", "1", "1", "1"]
    assert frame["sequence_id"].tolist() == ["s", "s", "t", "s", "s", "s"]
    far = data(tmp_path / "far", lat=53.0, seed=80, captured_at=times, place_id="1", sequence_id="s")
    result = merge_manifests([a, far], tmp_path / "two")
    assert result.manifest.frame["place_id"].tolist() == ["a/1", "2", "own", "far/1", "far/1", "far/1"]
    assert result.renamed == {"image_id": 3, "place_id": 1, "sequence_id": 1}
    later = data(tmp_path / "later", lat=51.503, seed=110, captured_at=times + pd.Timedelta("3D"), sequence_id="s")
    assert merge_manifests([a, later], tmp_path / "three").renamed["sequence_id"] == 1


def test_the_same_photograph_is_kept_once_and_reported(tmp_path: Path) -> None:
    a = data(tmp_path / "a", n=4)
    b = data(tmp_path / "b", n=4, seed=50)
    shutil.copy(a.image_paths[1], b.image_paths[1])  # the same place
    moved = b.frame.assign(image_path=[str(path) for path in b.image_paths])
    moved.loc[3, "lat_deg"] = 60.0
    b = write_manifest(tmp_path / "b", moved)
    shutil.copy(a.image_paths[3], b.image_paths[3])  # another place
    linked = a.frame.iloc[[0]].assign(image_id="link", image_path=str(a.image_paths[0]))
    c = write_manifest(tmp_path / "c", linked)
    calls: list[tuple[int, int]] = []
    result = merge_manifests([a, b, c], tmp_path / "out", progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (9, 9)
    written = pd.read_csv(tmp_path / "out/duplicates.csv")
    assert written[["image_id", "manifest", "reason", "of_manifest"]].astype(str).to_numpy().tolist() == [
        ["link", "c", "same-photograph", "a"],
        ["1", "b", "same-photograph", "a"],
        ["3", "a", "same-bytes-other-place", "b"],
        ["3", "b", "same-bytes-other-place", "a"],
    ]
    assert written["distance_m"].tolist()[:2] == [0.0, 0.0]
    assert written["distance_m"].tolist()[2] > 900_000
    assert result.sources[["photographs", "kept"]].to_numpy().tolist() == [[4, 3], [4, 2], [1, 0]]
    assert len(result.manifest) == 5
    elsewhere = a.frame.assign(image_path=[str(path) for path in a.image_paths], lat_deg=10.0)
    far = write_manifest(tmp_path / "far", elsewhere)
    with pytest.raises(InputError, match="no photograph remains"):
        merge_manifests([a, far], tmp_path / "none")


def test_photographs_that_are_away_are_compared_by_their_paths(tmp_path: Path) -> None:
    a, b = data(tmp_path / "a"), data(tmp_path / "b", lat=53.0, seed=50)
    for path in (*a.image_paths, *b.image_paths[:1]):
        path.unlink()
    twin = write_manifest(tmp_path / "twin", a.frame.assign(image_path=[str(path) for path in a.image_paths]))
    result = merge_manifests([a, b, twin], tmp_path / "out")
    assert len(result.manifest) == 6
    assert result.duplicates["reason"].eq("same-photograph").all()
    assert result.notes == ["7 photographs cannot be read and were compared by their paths alone."]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data(tmp_path / "a", licence="CC-BY-4.0")
    b = data(tmp_path / "b", seed=50)
    shutil.copy(tmp_path / "a/images/0.bmp", b.image_paths[0])
    assert run(["merge", str(tmp_path / "a"), str(tmp_path / "b"), f"--out={tmp_path / 'out'}"]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(tmp_path / "out/manifest.parquet")
    assert "Left out: 1 same-photograph, such as 0 of b (0 of a)" in said.err
    assert "Licences: CC-BY-4.0 (3), not stated (2)" in said.err
    splits = swclip.split(tmp_path / "out", "known-places", query_share=0.4, hold_out="place", picture_hash=False)
    assert splits.meta["counts"]["query"] >= 1
    with pytest.raises(ConfigError, match="is a packed data set; merge the manifests"):
        swclip.merge([tmp_path / "a", replace(b, path=tmp_path / "photographs.lance")], tmp_path / "packed")
    assert run(["merge", str(tmp_path / "a"), f"--out={tmp_path / 'out'}"]) == ConfigError.exit_code
    assert run(["merge", str(tmp_path / "a"), str(tmp_path / "a/manifest.parquet"), f"--out={tmp_path}"]) == 5
    assert run(["merge", str(tmp_path / "a"), str(tmp_path / "b"), f"--out={tmp_path / 'b'}"]) == 5


def test_published_test_photographs_are_merged_with_others_to_train_on(tmp_path: Path) -> None:
    test = data(tmp_path / "test", published_split="test")
    train = data(tmp_path / "train", n=4, lat=51.6, seed=50)
    merged = merge_manifests([train, test], tmp_path / "out").manifest
    splits = swclip.split(merged, "published", val_share=0.25, picture_hash=False)
    counts = splits.meta["counts"]
    assert {name: counts[name] for name in ("train", "val", "query")} == {"train": 3, "val": 1, "query": 3}
    assert "4 photographs without a published split are for training." in splits.meta["notes"]
    # Beside a data set with a database, queries of both are answered from what each publishes.
    vpr = data(tmp_path / "vpr", lat=51.7, seed=80, published_split=["test/queries", "test/database", "train/queries"])
    both = merge_manifests([train, test, vpr], tmp_path / "both").manifest
    mixed = swclip.split(both, "published", val_share=0.0, picture_hash=False)
    assert mixed.meta["counts"]["query"] == 4
    ids = {name for names in candidates_for(mixed, "query")["image_ids"] for name in names}
    assert ids == {"train/0", "train/1", "train/2", "3", "vpr/1"}
    with pytest.raises(InputError, match="no photograph of the part train can be used"):
        swclip.split(test, "published")
    wrong = write_manifest(tmp_path / "wrong", test.frame.assign(published_split="testing"))
    with pytest.raises(InputError, match="row 0: published_split is 'testing'"):
        swclip.split(wrong, "published")
    with pytest.raises(InputError, match="has no column published_split"):
        swclip.split(train, "published")
