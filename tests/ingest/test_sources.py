"""Readers of folders and tables in every format, and errors for other sources."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
from shapely.geometry import LineString, Point

from swclip.data.manifest import write_manifest
from swclip.errors import InputError
from swclip.ingest.columns import ColumnNames
from swclip.ingest.source_table import SourceTable
from swclip.ingest.sources import read_source

LATS, LONS = [51.5, 51.6], [-0.1, -0.2]


def positions(table: SourceTable) -> list[tuple[float, float]]:
    assert table.positions is not None
    return [*zip(table.positions.lat_deg.tolist(), table.positions.lon_deg.tolist(), strict=True)]


def frame() -> pd.DataFrame:
    return pd.DataFrame({"image": ["a.jpg", "b.jpg"], "lat": LATS, "lon": LONS, "street": ["High St", None]})


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_reads_text_tables(tmp_path: Path, mark: str, encoding: str) -> None:
    file = tmp_path / "t.csv"
    lines = [
        ["Photo", "Latitude", "Longitude", "town"],
        ["a.jpg", "51.5", "-0.1", "Łódź"],
        ["b.jpg", "51.6", "-0.2", ""],
    ]
    file.write_text("\r\n".join(mark.join(line) for line in lines) + "\r\n\r\n", encoding=encoding)
    table = read_source(file)
    assert positions(table) == list(zip(LATS, LONS, strict=True))
    assert table.values("city") == ["Łódź", ""]
    assert table.rows == [2, 3]
    assert table.folder == tmp_path


def test_reads_tables_in_other_encodings_with_a_note(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("image,lat,lon,city\na.jpg,1,2,Köln\n".encode("cp1252"))
    table = read_source(tmp_path / "t.csv")
    assert table.values("city") == ["Köln"]
    assert table.notes[0][0] == "encoding"


def test_lines_of_other_length_are_malformed(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('image,lat,lon\na.jpg,1,2\n"b,\nc.jpg",1,2\nd.jpg,1\ne.jpg,1,2,3\n')
    table = read_source(tmp_path / "t.csv")
    assert table.values("image") == ["a.jpg", "b,\nc.jpg"]
    assert table.malformed == [(4, "has 2 fields, the header has 3"), (5, "has 4 fields, the header has 3")]


def test_reads_parquet(tmp_path: Path) -> None:
    frame().to_parquet(tmp_path / "t.parquet")
    table = read_source(tmp_path / "t.parquet")
    assert positions(table) == list(zip(LATS, LONS, strict=True))
    assert table.rows == [1, 2]
    assert table.positions is not None
    assert not table.positions.geometry


@pytest.mark.parametrize("crs", [4326, 27700, 3857])
def test_reads_geoparquet_in_any_projection(tmp_path: Path, crs: int) -> None:
    points = [Point(lon, lat) for lat, lon in zip(LATS, LONS, strict=True)]
    geo = geopandas.GeoDataFrame(frame().drop(columns=["lat", "lon"]), geometry=points, crs=4326).to_crs(crs)
    geo.rename_geometry("where").to_parquet(tmp_path / "t.parquet")
    table = read_source(tmp_path / "t.parquet")
    assert table.positions is not None
    assert table.positions.geometry
    for position, expected in zip(positions(table), zip(LATS, LONS, strict=True), strict=True):
        assert position == pytest.approx(expected, abs=1e-6)
    assert "where" not in table.frame.columns


def test_named_columns_take_precedence_over_the_geometry(tmp_path: Path) -> None:
    geo = geopandas.GeoDataFrame(frame(), geometry=[Point(9, 9), Point(9, 9)], crs=4326)
    geo.to_parquet(tmp_path / "t.parquet")
    assert positions(read_source(tmp_path / "t.parquet")) == [(9.0, 9.0)] * 2
    named = read_source(tmp_path / "t.parquet", ColumnNames(lat="lat", lon="lon"))
    assert positions(named) == list(zip(LATS, LONS, strict=True))


def test_reads_a_manifest(tmp_path: Path) -> None:
    table = {"image_id": ["a"], "image_path": ["a.jpg"], "lat_deg": [51.5], "lon_deg": [-0.1], "city": ["London"]}
    write_manifest(tmp_path, pd.DataFrame(table))
    source = read_source(tmp_path / "manifest.parquet")
    assert positions(source) == [(51.5, -0.1)]
    assert source.values("image_id") == ["a"]


def test_reads_geojson(tmp_path: Path) -> None:
    point = {"type": "Point", "coordinates": [-0.1, 51.5, 9]}
    line = LineString([(0, 0), (1, 1)]).__geo_interface__
    features = [
        {"type": "Feature", "properties": {"file": "a.jpg"}, "geometry": point},
        {"type": "Feature", "properties": {"file": "b.jpg"}, "geometry": None},
        {"type": "Feature", "properties": {"file": "c.jpg", "tags": {"a": 1}}, "geometry": line},
    ]
    (tmp_path / "t.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    table = read_source(tmp_path / "t.geojson")
    assert table.values("image") == ["a.jpg", "b.jpg", "c.jpg"]
    assert table.positions is not None
    np.testing.assert_array_equal(table.positions.lat_deg, [51.5, np.nan, np.nan])
    np.testing.assert_array_equal(table.positions.lon_deg, [-0.1, np.nan, np.nan])
    assert table.positions.problems[2].detail == "its geometry cannot be used: it is a LineString"


def test_reads_geojson_written_by_geopandas(tmp_path: Path) -> None:
    geo = geopandas.GeoDataFrame(frame(), geometry=[Point(-0.1, 51.5), Point(-0.2, 51.6)], crs=4326)
    geo.drop(columns=["lat", "lon"]).to_file(tmp_path / "t.geojson", driver="GeoJSON")
    assert positions(read_source(tmp_path / "t.geojson")) == list(zip(LATS, LONS, strict=True))


def test_rejects_geojson_in_another_projection(tmp_path: Path) -> None:
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::27700"}}
    (tmp_path / "t.geojson").write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": []}))
    with pytest.raises(InputError, match="27700"):
        read_source(tmp_path / "t.geojson")


def test_searches_folders_recursively_and_counts_other_files(tmp_path: Path) -> None:
    for name in (
        "b.JPG",
        "deep/er/a.png",
        "c.HEIC",
        ".hidden.jpg",
        ".git/x.jpg",
        "film.mp4",
        "out/old.jpg",
        "notes.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    table = read_source(tmp_path, excluded=tmp_path / "out")
    assert table.values("image") == ["b.JPG", "c.HEIC", "deep/er/a.png"]
    assert table.notes[0][:2] == ("file-not-looked-at", 2)
    assert "1 .mp4, 1 .txt" in table.notes[0][2]


def test_images_is_the_base_of_relative_paths(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "pictures").mkdir()
    assert read_source(tmp_path / "t.csv", images=tmp_path / "pictures").folder == tmp_path / "pictures"
    with pytest.raises(InputError, match="no such folder of images"):
        read_source(tmp_path / "t.csv", images=tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "the file is empty"),
        ("t.csv", b"\n\n  \n", "nothing but blank lines"),
        ("t.csv", b"image,lat,lon\n", "a header but no rows"),
        ("t.csv", b"place,lat,lon\nx,1,2\n", "no column of image paths .*--image-column"),
        ("t.csv", b"image,lat\na.jpg,1\n", "'lat' for lat but none for lon .*--lon-column"),
        ("t.csv", b"a.jpg,51.5,-0.1\nb.jpg,51.6,-0.2\n", "the first line looks like data"),
        ("t.csv", b"image,lat,latitude,lon\na,1,1,1\n", "'lat' and 'latitude'.*--lat-column lat"),
        ("t.csv", b'image,lat,lon\n"a.jpg,1,2\n' + b"x,1,2\n" * 40_000, "line .*quotation mark"),
        ("t.csv", b"PAR1....", "is not a text table"),
        ("t.parquet", b"image,lat,lon\na.jpg,1,2\n", "cannot be read as Parquet"),
        ("t.geojson", b"{", "cannot be read as GeoJSON"),
        ("t.geojson", b"[1]", "not a GeoJSON FeatureCollection"),
        ("t.xlsx", b"PK", r"of a kind \(.xlsx\) that cannot be read; SOURCE is a folder"),
        ("t.jpg", b"x", "a single photograph; give its folder"),
    ],
)
def test_rejects_invalid_sources(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as raised:
        read_source(tmp_path / name)
    assert str(raised.value).startswith(str(tmp_path / name))


def test_rejects_missing_paths_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        read_source(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no photographs"):
        read_source(tmp_path)
    (tmp_path / "metadata.csv").write_text("image,lat,lon\n")
    with pytest.raises(InputError, match=r"holds the table metadata\.csv"):
        read_source(tmp_path)
