"""Areas read from GeoJSON, and the errors for other input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.geo.areas import Area, AreaError, parse_area, read_area

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
