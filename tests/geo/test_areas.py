"""Areas read from GeoJSON, and the errors for other input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from swclip.errors import ConfigError
from swclip.geo.areas import Area, AreaError, parse_area, read_area, read_areas
from swclip.geo.boxes import Box, parse_bbox
from swclip.geo.coordinates import displaced

SQUARE = [[0.0, 50.0], [1.0, 50.0], [1.0, 51.0], [0.0, 51.0], [0.0, 50.0]]
HOLE = [[0.4, 50.4], [0.6, 50.4], [0.6, 50.6], [0.4, 50.6], [0.4, 50.4]]


def polygon(*rings: Any) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


def test_reads_every_geojson_form() -> None:
    feature = {"type": "Feature", "properties": {"name": "x"}, "geometry": polygon(SQUARE)}
    far = [[lon, lat + 2.0] for lon, lat in SQUARE]
    for value, size in (
        (polygon(SQUARE), 1.0),
        (polygon(SQUARE, HOLE), 0.96),
        (feature, 1.0),
        ({"type": "MultiPolygon", "coordinates": [[SQUARE, HOLE], [far]]}, 1.96),
        ({"type": "FeatureCollection", "features": [feature, {**feature, "geometry": polygon(far)}]}, 2.0),
        ({"type": "FeatureCollection", "features": [feature, feature]}, 1.0),
        (polygon([[*corner, 12.0] for corner in SQUARE]), 1.0),  # with heights
    ):
        assert parse_area(json.dumps(value)).geometry.area == pytest.approx(size)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "must be a GeoJSON"),
        ('"Polygon"', "must be a GeoJSON"),
        ('{"type": "Point", "coordinates": [0, 0]}', "must be a GeoJSON"),
        ('{"type": "Feature"}', "must be a GeoJSON"),
        ('{"type": "Polygon", "coordinates": []}', "at least one ring"),
        ('{"type": "MultiPolygon", "coordinates": [7]}', "at least one ring"),
        (json.dumps(polygon(7)), "four corners"),
        (json.dumps(polygon(SQUARE[:-1])), "the last the same as the first"),
        (json.dumps(polygon([[0, 0], [1, 1], [0, 0]])), "four corners"),
        (json.dumps(polygon([["a", 0], [1, 1], [1, 0], ["a", 0]])), "pair of numbers"),
        (json.dumps(polygon([[True, 0], [1, 1], [1, 0], [True, 0]])), "pair of numbers"),
        (json.dumps(polygon([[0, 95], [1, 1], [1, 0], [0, 95]])), "outside the Earth"),
        ('{"type": "Polygon", "coordinates": [[[NaN, 0], [1, 1], [1, 0], [NaN, 0]]]}', "outside the Earth"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [1, Infinity], [1, 0], [0, 0]]]}', "outside the Earth"),
        (json.dumps(polygon([[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]])), "not a simple polygon"),
        (json.dumps(polygon([[0, 0], [1, 1], [2, 2], [0, 0]])), "not a simple polygon"),
        (json.dumps(polygon([[i / 1e4, 0] for i in range(6000)])), "more than 5000 corners"),
        ('{"type": "FeatureCollection", "features": []}', "no area"),
        (json.dumps({"type": "Feature", "geometry": {"type": "Feature", "geometry": {"type": "Feature"}}}), "must be"),
    ],
)
def test_rejects_geojson_that_is_not_an_area(text: str, words: str) -> None:
    with pytest.raises(AreaError, match=words) as raised:
        parse_area(text, "leeds.geojson", max_corners=5000)
    assert str(raised.value) == f"leeds.geojson: {raised.value.detail}"


def test_reads_a_file_and_rejects_unreadable_ones(tmp_path: Path) -> None:
    path = tmp_path / "area.geojson"
    path.write_text("\ufeff" + json.dumps(polygon(SQUARE)), encoding="utf-8")
    assert read_area(path).geometry.area == pytest.approx(1.0)
    path.write_bytes(b"\xff\xfe\x00")
    for broken, words in ((path, "is not JSON"), (tmp_path / "none", "no such file"), (tmp_path, "cannot be read")):
        with pytest.raises(AreaError, match=words) as raised:
            read_area(broken)
        assert str(broken) in str(raised.value)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (shapely.Point(0, 0), "is a Point"),
        ("leeds", "is a str"),
        (shapely.Polygon(), "no area"),
        (shapely.Polygon([(0, 0), (1, 1), (1, 0), (0, 1)]), "not a simple polygon"),
        (shapely.box(50, -2, 95, 2), None),
        (shapely.box(-2, 50, 2, 95), "outside the Earth"),
    ],
)
def test_validates_shapely_geometries(shape: Any, words: str | None) -> None:
    if words is None:
        Area(shape)
        return
    with pytest.raises(AreaError, match=words):
        Area(shape)


KINDS = st.sampled_from(["Polygon", "MultiPolygon", "Feature", "FeatureCollection"])
KEYS = st.sampled_from(["type", "coordinates", "features", "geometry"])
ANYTHING = st.recursive(
    st.none() | st.floats() | st.text() | st.booleans(),
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner | KINDS),
)


@settings(max_examples=40)
@given(ANYTHING)
def test_any_json_is_an_area_or_an_area_error(value: Any) -> None:
    raised = None
    try:
        assert parse_area(json.dumps(value)).geometry.area > 0
    except AreaError as error:
        raised = error.detail
    assert raised is None or raised.endswith(".")


TWO = {
    "city": ["Leeds", None],
    "geometry": [shapely.box(-1.56, 53.79, -1.53, 53.81), shapely.box(-1.5, 53.79, -1.48, 53.81)],
}


@pytest.mark.parametrize("name", ["a.gpkg", "a.shp", "a.fgb", "a.parquet"])
def test_reads_other_files_of_polygons_in_any_coordinate_system(tmp_path: Path, name: str) -> None:
    frame = geopandas.GeoDataFrame(TWO, crs=4326).to_crs(27700)
    frame.to_parquet(tmp_path / name) if name.endswith("parquet") else frame.to_file(tmp_path / name)
    areas = sorted(read_areas(tmp_path / name), key=lambda pair: pair[0].geometry.bounds)
    assert [properties["city"] for _, properties in areas] == ["Leeds", None]
    for (area, _), shape in zip(areas, TWO["geometry"], strict=True):
        assert area.geometry.bounds == pytest.approx(shape.bounds, abs=1e-6)  # 0.1 m
    assert read_area(tmp_path / name).area_km2 == pytest.approx(7.30245, rel=1e-4)


def test_layer_of_a_file_with_several_is_named(tmp_path: Path) -> None:
    frame, path = geopandas.GeoDataFrame(TWO, crs=4326), tmp_path / "two.gpkg"
    frame.to_file(path, layer="first")
    frame.set_geometry(frame.representative_point()).to_file(path, layer="points")
    assert len(read_areas(path)) == 2  # a layer of points is no area
    frame.head(1).to_file(path, layer="second")
    with pytest.raises(AreaError, match=r"several layers: first, second. Name one: '.*\|layername=first'"):
        read_areas(path)
    assert len(read_areas(f"{path}|layername=second")) == 1
    with pytest.raises(AreaError, match=r"two.gpkg: cannot be read .*third"):
        read_areas(f"{path}|layername=third")


def test_rejects_files_without_usable_polygons(tmp_path: Path) -> None:
    frame = geopandas.GeoDataFrame(TWO, crs=4326)
    frame.set_geometry(frame.representative_point()).to_file(tmp_path / "points.gpkg")
    frame.set_geometry(frame.representative_point()).to_parquet(tmp_path / "points.parquet")
    frame.to_file(tmp_path / "plain.shp")
    (tmp_path / "plain.prj").unlink()
    frame.head(0).to_parquet(tmp_path / "none.parquet")
    (tmp_path / "broken.gpkg").write_bytes(b"SQLite format 3\0 and no more")
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    for name, words in (
        ("points.gpkg", r"no layer of polygons.*points \(Point\)"),
        ("points.parquet", "is a Point"),
        ("plain.shp", "names no coordinate system"),
        ("none.parquet", "contains no polygon"),
        ("broken.gpkg", "cannot be read as a file of polygons"),
        ("table.csv", "has no geometry"),
    ):
        with pytest.raises(AreaError, match=words) as raised:
            read_area(tmp_path / name)
        assert str(raised.value).startswith(str(tmp_path / name))


@given(st.floats(-80, 80), st.floats(-180, 180), st.floats(1.0, 20_000.0), st.floats(0.0, 1.2), st.floats(0.0, 360.0))
def test_circle_contains_what_is_within_its_radius(
    lat: float, lon: float, radius_m: float, share: float, bearing_deg: float
) -> None:
    assume(abs(lat) > 1e-3)
    step = share * radius_m * np.array([[np.sin(np.radians(bearing_deg)), np.cos(np.radians(bearing_deg))]])
    inside = bool(Area.around((lat, lon), radius_m).contains(displaced([[lat, lon]], step))[0])
    assert inside == (share <= 1.0) or 1.0 < share < 1.001


def test_circles_that_are_none() -> None:
    for centre, radius_m, words in (
        ((114.3, 30.5), 500.0, "look swapped"),
        ((53.8, -1.55), 0.0, "not a positive number"),
        ((53.8, -1.55), float("nan"), "not a positive number"),
        ((89.9, 0.0), 20_000.0, "contains a pole"),
    ):
        with pytest.raises(ConfigError, match=words):
            Area.around(centre, radius_m)


def test_area_in_square_kilometres() -> None:
    assert Area.around((53.8, -1.55), 1000.0).area_km2 == pytest.approx(np.pi, rel=2e-3)
    holed = parse_area(json.dumps(polygon(SQUARE, HOLE)))
    whole, hole = (parse_area(json.dumps(polygon(ring))) for ring in (SQUARE, HOLE))
    assert holed.area_km2 == pytest.approx(whole.area_km2 - hole.area_km2)
    assert whole.area_km2 == pytest.approx(Box(50.0, 0.0, 51.0, 1.0).area_km2, rel=1e-9)


def test_quarters_that_the_area_does_not_touch_are_left_out() -> None:
    triangle = parse_area(json.dumps(polygon([[0, 0], [4, 0], [0, 4], [0, 0]])))
    box = triangle.boxes_deg[0]
    assert len(triangle.quarters(box)) == 4  # the diagonal touches the corner of the last
    assert len(triangle.quarters(Box(1.9, 1.9, 4.0, 4.0))) == 1
    fiji = Area.of_box(parse_bbox("179,-18,-179,-16"))
    assert [box.bbox for box in fiji.boxes_deg] == [(179.0, -18.0, 180.0, -16.0), (-180.0, -18.0, -179.0, -16.0)]
    assert all(len(fiji.quarters(box)) == 4 for box in fiji.boxes_deg)
    assert not fiji.touches(Box(-18.0, -178.0, -16.0, 178.0))


def test_geojson_of_an_area_is_read_back() -> None:
    area = parse_area(json.dumps(polygon(SQUARE, HOLE)))
    assert parse_area(json.dumps(area.to_geojson())).geometry.equals(area.geometry)
