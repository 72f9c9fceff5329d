"""What is known beforehand: areas as GeoJSON, rough positions, and what is no area."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.geo.distance import haversine_m
from swclip.web.prior import Prior, area_of
from swclip.web.problems import Problem

SQUARE = [[0.0, 50.0], [1.0, 50.0], [1.0, 51.0], [0.0, 51.0], [0.0, 50.0]]
HOLE = [[0.4, 50.4], [0.6, 50.4], [0.6, 50.6], [0.4, 50.6], [0.4, 50.4]]
PLACES = np.array([[50.5, 0.5], [50.2, 0.2], [50.8, 0.9], [51.5, 0.5], [0.5, 50.5]])


def polygon(*rings: Any) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


def rows(value: Any) -> list[int]:
    prior = Prior.of(PLACES, area_of(json.dumps(value)))
    assert prior is not None
    assert prior.log_weight is None
    assert prior.rows is not None
    return prior.rows.tolist()


def test_an_area_in_each_form_of_geojson() -> None:
    feature = {"type": "Feature", "properties": {"name": "x"}, "geometry": polygon(SQUARE)}
    far = [[lon + 0.0, lat + 1.0] for lon, lat in SQUARE]
    assert rows(polygon(SQUARE)) == [0, 1, 2]
    assert rows(polygon(SQUARE, HOLE)) == [1, 2]
    assert rows(feature) == [0, 1, 2]
    assert rows({"type": "MultiPolygon", "coordinates": [[SQUARE, HOLE], [far]]}) == [1, 2, 3]
    assert rows({"type": "FeatureCollection", "features": [feature, {**feature, "geometry": polygon(far)}]}) == [
        0,
        1,
        2,
        3,
    ]
    assert rows(polygon([[*corner, 12.0] for corner in SQUARE])) == [0, 1, 2]  # with heights


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
def test_what_is_no_area(text: str, words: str) -> None:
    with pytest.raises(Problem, match=words) as refused:
        area_of(text)
    assert refused.value.kind == "invalid-options"
    assert refused.value.errors is not None
    assert refused.value.errors[0].field == "prior"


def test_an_area_without_candidates() -> None:
    with pytest.raises(Problem) as refused:
        rows(polygon([[lon - 20, lat] for lon, lat in SQUARE]))
    assert refused.value.kind == "prior-excludes-all"


@given(st.floats(-80, 80), st.floats(-179, 179), st.floats(1, 1e6))
def test_a_rough_position_weighs_by_distance(lat: float, lon: float, radius_m: float) -> None:
    prior = Prior.of(PLACES, None, (lat, lon, radius_m))
    assert prior is not None
    assert prior.rows is None
    assert prior.log_weight is not None
    for place, weight in zip(PLACES, prior.log_weight, strict=True):
        away = haversine_m(np.float64(place[0]), np.float64(place[1]), np.float64(lat), np.float64(lon))
        assert weight == pytest.approx(-(away**2) / (2 * radius_m**2), rel=1e-9)


def test_nothing_known_is_no_prior() -> None:
    assert Prior.of(PLACES) is None


KINDS = st.sampled_from(["Polygon", "MultiPolygon", "Feature", "FeatureCollection"])
KEYS = st.sampled_from(["type", "coordinates", "features", "geometry"])
ANYTHING = st.recursive(
    st.none() | st.floats() | st.text() | st.booleans(),
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner | KINDS),
)


@settings(max_examples=40)
@given(ANYTHING)
def test_whatever_is_sent_is_an_area_or_a_problem(value: Any) -> None:
    refused = None
    try:
        assert area_of(json.dumps(value)).area > 0
    except Problem as problem:
        refused = problem.kind
    assert refused in (None, "invalid-options")
