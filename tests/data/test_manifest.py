"""The manifest: writing and reading, other tools, and errors."""

from __future__ import annotations

import errno
import hashlib
import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from swclip.data import manifest as module
from swclip.data.manifest import COLUMNS, METADATA_KEY, Manifest, read_manifest, write_manifest
from swclip.errors import ArtefactError, DiskFullError, InputError


def table(n: int = 3) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_id": [f"i{k}" for k in range(n)],
            "image_path": [f"images/{k}.jpg" for k in range(n)],
            "lat_deg": np.linspace(51.5, 51.6, n),
            "lon_deg": np.linspace(-0.1, 0.1, n),
            "heading_deg": [10.0, np.nan, 350.0][:n],
            "city": ["London", None, "Łódź"][:n],
            "captured_at": pd.to_datetime(["2019-12-29T05:35:13.170", None, "2020-01-01"][:n], format="ISO8601"),
            "true_lat_deg": np.linspace(51.5, 51.6, n),
            "district": ["a", "b", None][:n],
        }
    )


def test_round_trip(tmp_path: Path) -> None:
    written = write_manifest(tmp_path, table())
    got = read_manifest(tmp_path)
    assert got.path == tmp_path / "manifest.parquet"
    assert list(got.frame.columns) == [*COLUMNS, "true_lat_deg", "district"]
    pd.testing.assert_frame_equal(got.frame, written.frame)
    assert got.frame["city"].tolist() == ["London", None, "Łódź"]
    assert got.frame["licence"].tolist() == [None] * 3
    assert got.frame["district"].tolist() == ["a", "b", None]
    assert got.frame["captured_at"].dtype == np.dtype("datetime64[ms]")
    assert got.frame["captured_at"][0] == pd.Timestamp("2019-12-29T05:35:13.170")
    assert pd.isna(got.frame["captured_at"][1])
    np.testing.assert_array_equal(got.positions_deg, table()[["lat_deg", "lon_deg"]])
    assert np.isnan(got.accuracy_m).all()
    assert got.image_paths[1] == tmp_path / "images/1.jpg"
    assert len(got) == 3


def test_times_with_a_zone_become_utc(tmp_path: Path) -> None:
    frame = table(1)
    frame["captured_at"] = pd.to_datetime(["2019-12-29T13:35:13+08:00"])
    assert write_manifest(tmp_path, frame).frame["captured_at"][0] == pd.Timestamp("2019-12-29T05:35:13")


def test_geopandas_reads_a_manifest_with_longitude_first(tmp_path: Path) -> None:
    write_manifest(tmp_path, table())
    frame = geopandas.read_parquet(tmp_path / "manifest.parquet")
    assert frame.crs.to_epsg() == 4326
    np.testing.assert_array_equal(frame.geometry.x, table()["lon_deg"])
    np.testing.assert_array_equal(frame.geometry.y, table()["lat_deg"])
    geo = json.loads(pq.ParquetFile(tmp_path / "manifest.parquet").schema_arrow.metadata[b"geo"])
    assert geo["columns"]["geometry"]["bbox"] == [-0.1, 51.5, 0.1, 51.6]


def test_absolute_paths_are_stored_relative_and_restored(tmp_path: Path) -> None:
    frame = table(1)
    frame["image_path"] = [str(tmp_path / "photos" / "a b.jpg")]
    got = write_manifest(tmp_path / "out" / "deep", frame)
    assert got.frame["image_path"][0] == "../../photos/a b.jpg"
    assert got.image_paths == [tmp_path / "photos" / "a b.jpg"]


def test_paths_are_valid_through_a_symbolic_link(tmp_path: Path) -> None:
    frame = table(1)
    frame["image_path"] = [str(tmp_path / "photos" / "a.jpg")]
    write_manifest(tmp_path / "real" / "out", frame)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "out")
    assert read_manifest(tmp_path / "link").image_paths == [tmp_path / "photos" / "a.jpg"]


def test_captions_and_map_tiles_are_read_back(tmp_path: Path) -> None:
    maps = [str(tmp_path / "tiles" / "a b.png"), None, "maps/2.png"]
    # The order they are given in does not matter, and null may be NaN as pandas writes it.
    frame = table().assign(map_path=pd.Series(maps), caption=["Elm Street, by Café", np.nan, ""])
    written = write_manifest(tmp_path / "out", frame)
    got = read_manifest(tmp_path / "out")
    assert list(got.frame.columns) == [*COLUMNS, "caption", "map_path", "true_lat_deg", "district"]
    pd.testing.assert_frame_equal(got.frame, written.frame)
    assert got.frame["map_path"].tolist() == ["../tiles/a b.png", None, "maps/2.png"]
    assert got.map_paths == [tmp_path / "tiles/a b.png", None, tmp_path / "out/maps/2.png"]
    assert got.captions == ["Elm Street, by Café", None, None]
    assert got.digest == write_manifest(tmp_path / "out", table()).digest  # splits made without them stay valid


def test_a_manifest_without_captions_and_maps_has_none(tmp_path: Path) -> None:
    write_manifest(tmp_path, table())
    got = read_manifest(tmp_path)
    assert not {"caption", "map_path"} & set(got.frame.columns)
    assert [*got.captions, *got.map_paths] == [None] * 6
    one = write_manifest(tmp_path, table().assign(caption=None))  # a column of nulls keeps its type
    assert one.captions == [None] * 3
    assert pq.read_schema(one.path).field("caption").type == "string"


def test_the_digest_depends_on_ids_positions_paths_and_order(tmp_path: Path) -> None:
    def digest(frame: pd.DataFrame) -> str:
        return write_manifest(tmp_path, frame).digest

    base = digest(table())
    assert base == read_manifest(tmp_path / "manifest.parquet").digest
    assert digest(table().assign(city="Bath")) == base
    assert digest(table().iloc[::-1].reset_index(drop=True)) != base
    assert digest(table().assign(lat_deg=table()["lat_deg"] + 1e-9)) != base
    assert digest(table().assign(image_id=["i0", "i1", "x"])) != base
    assert digest(table().assign(image_path=["a", "b", "c"])) != base


def test_an_empty_manifest_is_possible(tmp_path: Path) -> None:
    assert len(write_manifest(tmp_path, table(3).iloc[:0])) == 0
    assert read_manifest(tmp_path).positions_deg.shape == (0, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": ["i0", "i0", "i2"]}, r"row 1: image_id 'i0' occurs twice"),
        ({"image_id": ["i0", None, "i2"]}, r"row 1: image_id is missing"),
        ({"lat_deg": [51.0, 91.0, 52.0]}, r"row 1: the position \(91"),
        ({"lon_deg": [0.0, 1.0, np.nan]}, r"row 2: the position"),
    ],
)
def test_invalid_rows_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_manifest(tmp_path, table().assign(**change))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lon_deg"):
        write_manifest(tmp_path, table().drop(columns="lon_deg"))


def test_a_missing_manifest_is_refused_with_a_remedy(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path / "nowhere.parquet", tmp_path):
        with pytest.raises(ArtefactError, match="swclip prepare"):
            read_manifest(path)


def test_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SCHEMA_VERSION", "7")
    write_manifest(tmp_path, table())
    monkeypatch.undo()
    with pytest.raises(ArtefactError, match="version 7, this swclip reads version 1"):
        read_manifest(tmp_path)


def test_other_parquet_files_are_refused(tmp_path: Path) -> None:
    table().to_parquet(tmp_path / "other.parquet")
    with pytest.raises(ArtefactError, match="not a swclip manifest"):
        read_manifest(tmp_path / "other.parquet")
    file = pq.read_table(tmp_path / "other.parquet").replace_schema_metadata({METADATA_KEY: b"{"})
    pq.write_table(file, tmp_path / "other.parquet")
    with pytest.raises(ArtefactError, match="version unreadable"):
        read_manifest(tmp_path / "other.parquet")


def test_truncated_files_and_other_formats_are_refused(tmp_path: Path) -> None:
    file = write_manifest(tmp_path, table()).path
    for data in (file.read_bytes()[:-50], file.read_bytes()[:20], b"", b"lat,lon\n1,2\n"):
        file.write_bytes(data)
        with pytest.raises(ArtefactError, match="cut short"):
            read_manifest(tmp_path)


def test_a_full_disk_keeps_the_old_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = write_manifest(tmp_path, table()).path.read_bytes()

    def full(_table: object, where: Path, **_: object) -> None:
        Path(where).write_bytes(b"PAR1")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(DiskFullError, match="free some space"):
        write_manifest(tmp_path, table(2))
    monkeypatch.undo()
    assert (tmp_path / "manifest.parquet").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.parquet"]


def test_digest_is_that_of_the_whole_json_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashed in parts, whose ends may be anywhere; a change would part every manifest from its splits."""
    names = ["a", 'quote" and \\', "São Paulo", "", "東京", "e", "f"]
    frame = pd.DataFrame({"image_id": names, "image_path": [f"{n}.jpg" for n in names], "lat_deg": 1.0, "lon_deg": 2.0})
    manifest = Manifest(tmp_path, frame)
    text = json.dumps([names, frame["image_path"].tolist()], ensure_ascii=False)
    expected = hashlib.sha256(text.encode() + frame[["lat_deg", "lon_deg"]].to_numpy("<f8").tobytes()).hexdigest()
    for rows in (1, 3, 7, 100):
        monkeypatch.setattr("swclip.data.manifest._ROWS_AT_ONCE", rows)
        assert Manifest(tmp_path, frame).digest == expected
    assert manifest.digest == expected


def test_equal_texts_are_one_object_and_unknown_ones_none(tmp_path: Path) -> None:
    """Of ten million rows in one city, the city is one string."""
    frame = pd.DataFrame(
        {
            "image_id": list("abcd"),
            "image_path": list("abcd"),
            "lat_deg": 1.0,
            "lon_deg": 2.0,
            "city": ["X", None, "X", "Y"],
        }
    )
    write_manifest(tmp_path, frame)
    cities = read_manifest(tmp_path).frame["city"].tolist()
    assert cities == ["X", None, "X", "Y"]
    assert cities[0] is cities[2]
