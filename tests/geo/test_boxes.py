"""Boxes of degrees: reading, quarters, areas and enclosing circles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swclip.errors import ConfigError
from swclip.geo.boxes import Box, parse_bbox
from swclip.geo.distance import EARTH_RADIUS_M, haversine_m


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    south, west = draw(st.floats(-85.0, 80.0)), draw(st.floats(-180.0, 170.0))
    return Box(south, west, south + draw(st.floats(1e-5, 5.0)), west + draw(st.floats(1e-5, 10.0)))


@given(boxes(), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_quarters_cover_the_box_and_its_area(box: Box, up: float, right: float) -> None:
    quarters = box.quarters()
    lat, lon = box.south + up * (box.north - box.south), box.west + right * (box.east - box.west)
    lat, lon = min(lat, box.north), min(lon, box.east)
    assert any(part.south <= lat <= part.north and part.west <= lon <= part.east for part in quarters)
    assert sum(part.area_km2 for part in quarters) == pytest.approx(box.area_km2, rel=1e-6)


@given(boxes(), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_circle_around_a_box_covers_it(box: Box, up: float, right: float) -> None:
    at = np.float64(box.south + up * (box.north - box.south)), np.float64(box.west + right * (box.east - box.west))
    centre = (np.float64(value) for value in box.centre_deg)
    assert float(haversine_m(*centre, *at)) <= box.radius_m * (1.0 + 1e-9) + 1e-3


def test_area_of_the_whole_globe_is_that_of_the_sphere() -> None:
    assert Box(-90.0, -180.0, 90.0, 180.0).area_km2 == pytest.approx(4e-6 * np.pi * EARTH_RADIUS_M**2)


def test_reads_a_bbox() -> None:
    assert parse_bbox("-1.56, 53.79, -1.53, 53.81").bbox == (-1.56, 53.79, -1.53, 53.81)
    assert parse_bbox("179.5,-18,-179.5,-16").bbox == (179.5, -18.0, 180.5, -16.0)  # RFC 7946, section 5.2
    assert parse_bbox("-180,-90,180,90").area_km2 == pytest.approx(510_065_881, rel=1e-6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must be MINLON"),
        ("1,2,3", "must be MINLON"),
        ("1,2,3,4,5", "must be MINLON"),
        ("a,2,3,4", "must be MINLON"),
        ("nan,2,3,4", "not a finite number"),
        ("53.7,-101.6,53.9,-101.4", "latitude -101.6 is not within -90 to 90; longitude comes first, and the two look"),
        ("0,95,1,96", "latitude 95 is not within"),
        ("0,50,200,51", "longitude 200 is not within"),
        ("0,51,1,50", "MINLAT 51 is above MAXLAT 50"),
        ("-1.5,53.7,-1.6,53.8", "MINLON -1.5 is above MAXLON -1.6.*swap the two"),
        ("1,50,1,51", "has no area"),
        ("1,50,2,50", "has no area"),
    ],
)
def test_rejects_other_boxes(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_bbox(text)
