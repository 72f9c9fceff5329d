"""Positions in tables as people have reported them: each row is a table, its right positions, or why it is refused.

A case states its source where the report is public. Positions are made up.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from PIL import Image

from swclip.cli.app import run
from swclip.data.manifest import read_manifest, write_manifest
from swclip.errors import ArtefactError, InputError
from swclip.ingest.columns import ColumnNames
from swclip.ingest.prepare import PrepareResult, prepare
from swclip.ingest.source_table import SourceTable
from swclip.ingest.sources import read_source

LEEDS = (53.8008, -1.5491)
SYDNEY = (-33.858333, 151.2094)
WUHAN = (30.5066, 114.3339)
POINT = shapely.Point(LEEDS[1], LEEDS[0])
NONE = (None, None)


@dataclass(frozen=True)
class Case:
    """A table and its right positions.

    Attributes:
        source: The public report that the case is from, or its kind.
        table: {column: cells}, without the images.
        right: Latitude and longitude of each row; a text is the reason why the row is refused, NONE states no position.
        named: Columns that the user names.
    """

    source: str
    table: dict[str, list[Any]]
    right: list[Any]
    named: dict[str, str] = field(default_factory=dict)


def case(source: str, table: dict[str, list[Any]], *right: Any, **named: str) -> Any:
    return pytest.param(Case(source, table, [*right], named), id=f"{source}: {', '.join(table)}"[:70])


def one(source: str, *right: Any, **columns: Any) -> Any:
    return case(source, {name: [value] for name, value in columns.items()}, *right)


LETTERS = [
    one("fselect 97", LEEDS, GPSLatitude="53.8008", GPSLatitudeRef="N", GPSLongitude="1.5491", GPSLongitudeRef="W"),
    one("GPSBabel PR 288", LEEDS, lat="53.8008", lat_dir="N", lon="1.5491", lon_dir="W"),
    one("NMEA heads", LEEDS, lat="53.8008", ns="N", lon="1.5491", ew="W"),
    one(
        "ExifTool words",
        LEEDS,
        GPSLatitude="53.8008",
        GPSLatitudeRef="North",
        GPSLongitude="1.5491",
        GPSLongitudeRef="West",
    ),
    one("agreeing sign", LEEDS, lat="53.8008", lat_ref="N", lon="-1.5491", lon_ref="W"),
    one("contradicting sign", "coordinate-letter", lat="53.8008", lat_ref="N", lon="-1.5491", lon_ref="E"),
    one("contradicting plus", "coordinate-letter", lat="53.8008", lat_ref="N", lon="+1.5491", lon_ref="W"),
    one("a letter of the other axis", "coordinate-letter", lat="53.8008", lat_ref="E", lon="1.5491", lon_ref="N"),
    one("an unknown letter", "coordinate-letter", lat="53.8008", lat_ref="N", lon="1.5491", lon_ref="Q"),
    one("two letters", "coordinate-letter", lat="53.8008", lat_ref="N", lon="1.5491E", lon_ref="W"),
    one("O is east or west", "coordinate-letter", lat="53.8008", lat_ref="N", lon="1.5491", lon_ref="O"),
    case(
        "a letter is empty",
        {"lat": ["53.8008"] * 2, "lon": ["1.5491"] * 2, "lon_ref": ["W", ""]},
        LEEDS,
        "coordinate-letter",
    ),
    case(
        "one of the signs is lost",
        {"lat": ["53.8008"] * 2, "lon": ["-1.5491", "1.5491"], "lon_ref": ["W", "W"]},
        LEEDS,
        "coordinate-letter",
    ),
    case(
        "one row contradicts itself",
        {"lat": ["53.8008"] * 2, "lon": ["1.5491", "-1.5491"], "lon_ref": ["W", "E"]},
        LEEDS,
        "coordinate-letter",
    ),
    case("words are no letters", {"lat": ["53.8008"], "lon": ["-1.5491"], "we": ["ourselves"]}, LEEDS),
    one("words in a column of letters", "coordinate-letter", lat="53.8008", lat_ref="up", lon="-1.5491"),
    case("nanoseconds are no letters", {"lat": [53.8008], "lon": [-1.5491], "ns": [17]}, LEEDS),
    case("empty letters", {"lat": ["53.8008"], "lon": ["-1.5491"], "lon_ref": [""]}, LEEDS),
    one("degrees west", LEEDS, **{"Latitude (°N)": "53.8008", "Longitude (°W)": "1.5491"}),
    case("letters that are named", {"lat": ["53.8008"], "lon": ["1.5491"], "half": ["W"]}, LEEDS, lon_ref="half"),
]

# Letters in columns of other names: used where the name holds that of the numbers, else noted or refused.
OTHER_LETTERS = [
    one("a name of its own", LEEDS, lat="53.8008", lat_cardinal="N", lon="1.5491", lon_cardinal="W"),
    one("German", (-33.8, -1.5491), Breite="33,8", Breite_NS="S", Länge="1,5491", Länge_OW="W"),
    one("German, O for east", "coordinate-letter", Breite="33,8", Breite_NS="S", Länge="1,5491", Länge_OW="O"),
    one("hemi", LEEDS, lat="53.8008", hemi_1="N", lon="1.5491", hemi_2="W"),
    case(
        "the user's word", {"lat": ["33.8"], "lon": ["1.5"], "a": ["S"], "b": ["W"]}, (33.8, 1.5), lat="lat", lon="lon"
    ),
    case("signs are there", {"lat": ["-33.8"], "lon": ["-1.5"], "a": ["S"], "b": ["W"]}, (-33.8, -1.5)),
    case(
        "directions of travel",
        {"lat": ["53.8", "53.9"], "lon": ["1.5", "1.6"], "zone": ["N", "S"], "towards": ["E", "W"]},
        (53.8, 1.5),
        (53.9, 1.6),
    ),
    case("a side of the street", {"lat": ["53.8008"], "lon": ["1.5"], "side": ["S"]}, (53.8008, 1.5)),
]

DATUMS = [
    one("ExifTool CSV", (35.664740, 139.738169), GPSLatitude="35.6615", GPSLongitude="139.7414", GPSMapDatum="TOKYO"),
    one("a code", (35.664740, 139.738169), lat="35.6615", lon="139.7414", crs="EPSG:4301"),
    one("a number", (35.664740, 139.738169), coordinates="35.6615, 139.7414", srid="4301"),
    one("WGS-84", LEEDS, lat="53.8008", lon="-1.5491", GPSMapDatum="WGS-84"),
    one("GCJ-02", (30.5, 114.3), lat="30.5", lon="114.3", datum="GCJ-02"),
    one("the date in German", LEEDS, Breite="53,8008", Länge="-1,5491", Datum="05.11.2019"),
]

TEXTS = [
    one("NMEA without a space", "coordinate-nan", lat="0048.0480", lon="00032.9460"),
    one("NMEA with letters", "coordinate-nan", lat="0048.0480N", lon="00032.9460W"),
    one("zeros before the number", (5.8, -1.5491), lat="05.8", lon="-001.5491"),
    one("letters in the cell", LEEDS, lat="53.8008N", lon="1.5491W"),
    one("ExifTool", LEEDS, lat="53 deg 48' 2.88\" N", lon="1 deg 32' 56.76\" W"),
    one("signs of minutes", LEEDS, lat="53°48'2.88\"N", lon="1°32'56.76\"W"),
    one("typographic signs", LEEDS, lat="53\u00b0 48\u2032 2.88\u2033 N", lon="1\u00ba 32\u2019 56.76\u201d W"),
    one("geocaching", LEEDS, lat="N 53 48.048", lon="W 001 32.946"),
    one("colons", LEEDS, lat="+53:48:2.88", lon="-1:32:56.76"),
    one("a minus of typography", LEEDS, lat="53.8008", lon="\u22121.5491"),
    one("decimal commas", LEEDS, lat="53,8008", lon="-1,5491"),
    one("decimal commas and letters", LEEDS, lat="53,8008 N", lon="1,5491 W"),
    one("minus before minutes", (-0.5, -0.25), lat="-0 30", lon="-0 15 0"),
    one("seconds without their point", "coordinate-nan", lat="53 48 288 N", lon="1 32 56.76 W"),
    one("minutes without their point", "coordinate-nan", lat="53 48048 N", lon="1 32 W"),
    one("a fraction and minutes", "coordinate-nan", lat="53.8 48 N", lon="1.5 W"),
    one("sixty by rounding", (54.0, -2.0), lat="53 59 60 N", lon="1 60 W"),
    one("minutes without a letter", "coordinate-letter", lat="53 48 2.88", lon="1 32 56.76"),
    one("s for seconds or south", "coordinate-nan", lat="53d48m2.88s", lon="1.5491"),
    one("two points", "coordinate-nan", lat="53.0008.5", lon="1.5491"),
    one("words", "coordinate-nan", lat="north", lon="1.5491"),
    one("infinity", "coordinate-nan", lat="inf", lon="1.5491"),
]

ONE_COLUMN = [
    one("geopandas to_csv: WKT", LEEDS, geometry="POINT (-1.5491 53.8008)"),
    one("PostGIS: EWKT", LEEDS, geom="SRID=4326;POINT(-1.5491 53.8008)"),
    one(
        "PostGIS: hexadecimal EWKB",
        LEEDS,
        the_geom=shapely.to_wkb(shapely.set_srid(POINT, 4326), hex=True, include_srid=True),
    ),
    one("PostGIS in metres", (53.792454, -1.546086), geom="SRID=27700;POINT(430000 433000)"),
    one("geopandas 2976: WKB without geo metadata", LEEDS, geometry=POINT.wkb),
    one("hexadecimal WKB", LEEDS, wkb=POINT.wkb_hex),
    one("GeoArrow", LEEDS, geometry={"x": LEEDS[1], "y": LEEDS[0]}),
    one("GeoJSON in a cell", LEEDS, geojson='{"type": "Point", "coordinates": [-1.5491, 53.8008]}'),
    one("WKT under any name", LEEDS, where="POINT (-1.5491 53.8008)"),
    one("an object under any name", LEEDS, spot={"latitude": 53.8008, "longitude": -1.5491}),
    one("MultiPoint of one: WKT", LEEDS, geometry="MULTIPOINT ((-1.5491 53.8008))"),
    one("uMap PR 2788: names of order", LEEDS, latlng="53.8008, -1.5491"),
    one("names of order", LEEDS, lon_lat="-1.5491,53.8008"),
    one("OpenDataSoft", LEEDS, geo_point_2d="53.8008, -1.5491"),
    one("ExifTool GPSPosition", LEEDS, GPSPosition="53 deg 48' 2.88\" N, 1 deg 32' 56.76\" W"),
    one("letters give the order", LEEDS, coordinates="1.5491W 53.8008N"),
    one("the range gives the order", WUHAN, coordinates="30.5066, 114.3339"),
    one("the range gives the order", WUHAN, coordinates="114.3339 30.5066"),
    one("a list of GeoJSON's order", WUHAN, coordinates=[114.3339, 30.5066]),
    one("an object", LEEDS, location={"lat": 53.8008, "lon": -1.5491}),
    one("decimal commas", LEEDS, latlon="53,8008; -1,5491"),
    one("an altitude", LEEDS, latlon="53.8008, -1.5491, 63.0"),
    case(
        "the halves are named", {"coordinates": ["53.8008, -1.5491"]}, LEEDS, lat="coordinates[0]", lon="coordinates[1]"
    ),
    case("a column is named", {"where": ["POINT (-1.5491 53.8008)"]}, LEEDS, position="where"),
    case(
        "lines and empty cells",
        {"geometry": ["POINT (-1.5491 53.8008)", "LINESTRING (0 0, 1 1)", "", "MULTIPOINT ((1 2), (3 4))"]},
        LEEDS,
        "geometry-not-a-point",
        NONE,
        "geometry-not-a-point",
    ),
    case(
        "an empty geometry beside latitude and longitude",
        {"geometry": ["POINT (-1.5491 53.8008)", ""], "lat": ["", "53.8008"], "lon": ["", "-1.5491"]},
        LEEDS,
        LEEDS,
    ),
]

LANGUAGES = [
    one("German", LEEDS, Breite="53,8008", Laenge="-1,5491"),
    one("German", LEEDS, Breitengrad="53,8008", Längengrad="-1,5491", x="50", y="34", w="20", h="30"),
    one("Spanish", LEEDS, Latitud="53.8008", Longitud="-1.5491"),
    one("Italian", LEEDS, Latitudine="53.8008", Longitudine="-1.5491"),
    one("Dutch", LEEDS, breedtegraad="53.8008", lengtegraad="-1.5491"),
    one("Polish", LEEDS, **{"szerokość geograficzna": "53.8008", "długość geograficzna": "-1.5491"}),
    one("Russian", LEEDS, Широта="53.8008", Долгота="-1.5491"),
    one("Chinese", LEEDS, 纬度="53.8008", 经度="-1.5491"),
    one("Japanese", LEEDS, 緯度="53.8008", 経度="-1.5491"),
    one("Korean", LEEDS, 위도="53.8008", 경도="-1.5491"),
    one("Turkish", LEEDS, enlem="53.8008", boylam="-1.5491"),
    one("Vietnamese", WUHAN, **{"Vĩ độ": "30.5066", "Kinh độ": "114.3339"}),
    one("Arabic", WUHAN, **{"خط العرض": "30.5066", "خط الطول": "114.3339"}),
    one("Hindi", WUHAN, अक्षांश="30.5066", देशांतर="114.3339"),
    one("French pair", LEEDS, coordonnées="53.8008N 1.5491W"),
]

NO_POSITIONS = [
    one("pixel boxes", x="50", y="34", w="20", h="30"),
    one("local metres", x="12.5", y="33.1", z="2.0"),
    one("width and height", Breite="50", Höhe="34"),
    one("shape of a picture", shape="(480, 640, 3)"),
    one("pixels of a click", position="640, 480"),
    one("a place by name", location="Leeds, West Yorkshire"),
    one("a position in a list", position="3"),
]


def read(folder: Path, case: Case) -> SourceTable:
    """Write the table as Parquet, or as CSV if all cells are text, and read it."""
    n = len(next(iter(case.table.values())))
    frame = pd.DataFrame({"image": [f"{k}.jpg" for k in range(n)], **case.table})
    texts = all(isinstance(cell, str) for cells in case.table.values() for cell in cells)
    path = folder / ("t.csv" if texts else "t.parquet")
    if texts:
        frame.to_csv(path, index=False, sep=";")
    else:
        frame.to_parquet(path)
    return read_source(path, ColumnNames(**case.named))


@pytest.mark.parametrize("case", [*LETTERS, *OTHER_LETTERS, *DATUMS, *TEXTS, *ONE_COLUMN, *LANGUAGES])
def test_positions_are_right_or_refused(tmp_path: Path, case: Case) -> None:
    positions = read(tmp_path, case).positions
    assert positions is not None
    for row, right in enumerate(case.right):
        if isinstance(right, str):
            problem = positions.problems.get(row)
            if problem is None:  # refused by its range
                assert not np.isfinite([positions.lat_deg[row], positions.lon_deg[row]]).all()
                assert right == "coordinate-nan"
            else:
                assert problem.reason == right
                assert problem.column in case.table
        else:
            assert row not in positions.problems
            expected = [np.nan if value is None else value for value in right]
            np.testing.assert_allclose([positions.lat_deg[row], positions.lon_deg[row]], expected, atol=2e-6)


@pytest.mark.parametrize("case", NO_POSITIONS)
def test_other_numbers_are_no_positions(tmp_path: Path, case: Case) -> None:
    assert read(tmp_path, case).positions is None


def test_x_and_y_are_degrees_if_named(tmp_path: Path) -> None:
    table = read(tmp_path, Case("QGIS", {"x": ["-1.5491"], "y": ["53.8008"]}, [], {"lat": "y", "lon": "x"}))
    assert table.positions is not None
    assert (table.positions.lat_deg[0], table.positions.lon_deg[0]) == LEEDS


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"coordinates": ["53.8008, -1.5491"]}, r'not evident; .*--lat-column "coordinates\[0\]" --lon-column'),
        ({"lat (rad)": ["0.939"], "lon (rad)": ["-0.027"]}, r"'lat \(rad\)' is not used as the latitude.*degrees are"),
        ({"geometry": [b"\x00\x01\x02 a notation of one program"]}, "'geometry' has no point that can be read"),
        ({"geom": ["SRID=27700;POINT(-1.5491 53.8008)"]}, "look like degrees, and it is in OSGB36"),
        ({"where": ["Leeds"]}, "'where' has no position that can be read"),
        (
            {"lat": ["33.8"], "lon": ["1.5"], "a": ["S"], "b": ["W"]},
            "'a' and 'b' may have the letters of 'lat' and 'lon'",
        ),
        (
            {"lat_deg": ["53"], "lat_min": ["48.048"], "lon_deg": ["-1"], "lon_min": ["32"]},
            "'lat_min' may be their min",
        ),
        (
            {"latitude": [53], "latitude_minutes": [48.0], "longitude": [-1], "longitude_minutes": [32.9]},
            "whole degrees",
        ),
        ({"lat": ["53.8008"]}, "'lat' for lat but none for lon"),
        ({"lat": ["53.8"], "Latitude": ["53.8"], "lon": ["-1.5"]}, "could each be the latitude"),
    ],
)
def test_doubtful_columns_are_refused(tmp_path: Path, table: dict[str, list[Any]], message: str) -> None:
    named = {"position": "where"} if "where" in table else {}
    with pytest.raises(InputError, match=message):
        read(tmp_path, Case("doubt", table, [], named))


@pytest.mark.parametrize(
    ("table", "note"),
    [
        ({"lat": ["53.8"], "lon": ["1.5"], "side": ["S"]}, "letters-not-read"),
        ({"lat": ["35.6615"], "lon": ["139.7414"], "GPSMapDatum": ["TOKYO"]}, "datum-converted"),
        ({"lat": ["35.6615"], "lon": ["139.7414"], "GPSMapDatum": ["GCJ-02"]}, "datum-unknown"),
    ],
)
def test_what_may_be_meant_otherwise_is_noted(tmp_path: Path, table: dict[str, list[Any]], note: str) -> None:
    assert [code for code, _, _ in read(tmp_path, Case("note", table, [])).notes] == [note]


def test_geoparquet_of_degrees_with_a_projection(tmp_path: Path) -> None:
    import geopandas

    frame = geopandas.GeoDataFrame({"image": ["a.jpg"]}, geometry=[POINT], crs=27700)
    frame.to_parquet(tmp_path / "t.parquet")
    positions = read_source(tmp_path / "t.parquet").positions
    assert positions is not None
    assert "look like degrees" in positions.problems[0].detail


def test_two_positions_of_a_row_that_disagree_are_noted(tmp_path: Path) -> None:
    table = {"geometry": ["POINT (-1.5491 53.8008)"], "lat": ["53.8108"], "lon": ["-1.5491"]}
    notes = read(tmp_path, Case("copies", table, [])).notes
    assert [(code, count) for code, count, _ in notes] == [("positions-disagree", 1)]
    assert "1,1" in notes[0][2]


def test_parquet_of_duckdb_without_metadata(tmp_path: Path) -> None:
    """geopandas 2976."""
    table = pa.table({"image": ["a.jpg", "b.jpg"], "geom": pa.array([POINT.wkb, None], pa.binary())})
    pq.write_table(table, tmp_path / "t.parquet")
    positions = read_source(tmp_path / "t.parquet").positions
    assert positions is not None
    assert (positions.lat_deg[0], positions.lon_deg[0]) == LEEDS
    assert positions.stated.tolist() == [True, False]


def feature(geometry: Any, number: Any = None, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "id": number, "properties": properties, "geometry": geometry}


def test_geojson_multipoints_ids_and_empty_geometries(tmp_path: Path) -> None:
    """GeoParquet 256, geopandas 1208."""
    one_point = {"type": "MultiPoint", "coordinates": [[LEEDS[1], LEEDS[0]]]}
    two_points = {"type": "MultiPoint", "coordinates": [[0, 1], [2, 3]]}
    features = [
        feature(one_point, "way/7", image="a.jpg", lat=None, lon=None),
        feature(None, "way/8", image="b.jpg", lat=LEEDS[0], lon=LEEDS[1]),
        feature(two_points, "way/9", image="c.jpg", lat=None, lon=None),
    ]
    (tmp_path / "t.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    table = read_source(tmp_path / "t.geojson")
    assert table.values("image_id") == ["way/7", "way/8", "way/9"]
    assert table.positions is not None
    assert [*zip(table.positions.lat_deg[:2], table.positions.lon_deg[:2], strict=True)] == [LEEDS, LEEDS]
    assert table.positions.problems[2].detail.endswith("a MultiPoint of 2 points")
    assert [note[:2] for note in table.notes] == [("position-filled", 1)]


def test_running_numbers_of_features_are_no_ids(tmp_path: Path) -> None:
    features = [feature({"type": "Point", "coordinates": [k, 50]}, str(k), image=f"{k}.jpg") for k in range(3)]
    (tmp_path / "t.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    table = read_source(tmp_path / "t.geojson")
    assert table.values("image_id") is None
    assert table.frame["feature_number"].tolist() == ["0", "1", "2"]


def prepared(folder: Path, table: dict[str, list[Any]], exif: bool = True) -> PrepareResult:
    """Prepare a CSV of photographs, whose EXIF says Sydney."""
    n = len(next(iter(table.values())))
    gps = {1: "S", 2: (33.0, 51.0, 30.0), 3: "E", 4: (151.0, 12.0, 33.84)}
    for k in range(n):
        block = Image.Exif()
        if exif:
            block[0x8825] = gps
        pixels = np.random.default_rng(k).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{k}.png", exif=block)
    pd.DataFrame({"image": [f"{k}.png" for k in range(n)], **table}).to_csv(folder / "t.csv", index=False)
    return prepare(folder / "t.csv", folder / "out")


@pytest.mark.parametrize(
    "columns", [["x", "y", "w", "h"], ["x", "y", "z"], ["utm_easting", "utm_northing"], ["geohash"]]
)
def test_exif_in_place_of_unread_columns_is_counted_and_names_them(tmp_path: Path, columns: list[str]) -> None:
    result = prepared(tmp_path, {name: [50 + k, 34] for k, name in enumerate(columns)})
    note = next(note for note in result.notes if note.code == "position-from-exif")
    assert note.count == 2
    assert repr(columns[0]) in note.detail
    assert "--lat-column" in note.detail
    assert result.columns == {"image": "image", "position": "EXIF"}
    np.testing.assert_allclose(result.manifest.positions_deg[0], SYDNEY, atol=1e-6)


def test_without_exif_the_error_names_the_unread_columns(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Not read as positions: 'x', 'y'"):
        prepared(tmp_path, {"x": [50.0], "y": [34.0]}, exif=False)


def test_the_columns_that_were_used_are_printed_and_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = {"Breite": ["53,8008"], "Länge": ["1,5491"], "GPSLongitudeRef": ["W"], "Stadt": ["Leeds"]}
    result = prepared(tmp_path, table)
    np.testing.assert_allclose(result.manifest.positions_deg, [LEEDS])
    roles = {"image": "image", "lat": "Breite", "lon": "Länge", "lon_ref": "GPSLongitudeRef"}
    assert result.columns == roles
    metadata = pq.read_schema(tmp_path / "out" / "manifest.parquet").metadata
    assert json.loads(metadata[b"swclip.manifest"])["made_with"]["columns"] == roles
    assert run(["prepare", str(tmp_path / "t.csv"), "--out", str(tmp_path / "again")]) == 0
    assert (
        "Columns: image = 'image', lat = 'Breite', lon = 'Länge', lon_ref = 'GPSLongitudeRef'"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("accuracy_m", [-5.0, 0.0, float("inf")])
def test_an_accuracy_is_positive_and_finite(tmp_path: Path, accuracy_m: float) -> None:
    result = prepared(tmp_path, {"lat": [53.8, 53.8], "lon": [-1.5, -1.6], "accuracy_m": [3.0, accuracy_m]})
    assert [(note.code, note.count) for note in result.notes if "accuracy" in note.code] == [("accuracy-unusable", 1)]
    np.testing.assert_array_equal(result.manifest.accuracy_m, [3.0, np.nan])
    frame = result.manifest.frame.assign(accuracy_m=[3.0, accuracy_m])
    with pytest.raises(InputError, match=r"row 1: accuracy_m .* is not a positive number of metres"):
        write_manifest(tmp_path / "other", frame)
    file = tmp_path / "out" / "manifest.parquet"
    table = pq.read_table(file)
    damaged = table.set_column(table.schema.get_field_index("accuracy_m"), "accuracy_m", [[3.0, accuracy_m]])
    pq.write_table(damaged, file)
    with pytest.raises(ArtefactError, match="row 1: accuracy_m"):
        read_manifest(file)
