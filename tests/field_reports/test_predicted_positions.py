"""Positions of predictions, embeddings and priors as people reported them: right, or refused with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import shapely

from swclip.errors import ConfigError, InputError, SwclipError
from swclip.external.embeddings import read_vectors
from swclip.external.predicted_coordinates import read_predicted_coordinates
from swclip.ingest.vpr_names import PlaceNameError, parse_name

LEEDS = (53.8008, -1.5491)
POINT = shapely.Point(LEEDS[1], LEEDS[0])

# Predictions of other tools and their truth.
PREDICTIONS: list[Any] = [
    pytest.param(
        {"lat": 53.8008, "lat_ref": "N", "lon": 1.5491, "lon_ref": "W", "pred_lat": 53.8, "pred_lon": -1.55},
        id="letters of the truth (GPSBabel PR 288)",
    ),
    pytest.param(
        {"lat": 53.8008, "lon": -1.5491, "pred_lat": 53.8, "pred_lat_ref": "N", "pred_lon": 1.55, "pred_lon_ref": "W"},
        id="letters of the prediction",
    ),
    pytest.param({"lat": "53.8008N", "lon": "1.5491W", "pred_lat": "53 48 N", "pred_lon": "1 33 W"}, id="text"),
    pytest.param({"Breitengrad": "53,8008", "Längengrad": "-1,5491", "pred_lat": 53.8, "pred_lon": -1.55}, id="German"),
    pytest.param({"lat": 53.8008, "lon": -1.5491, "geometry": "POINT (-1.55 53.8)"}, id="WKT is the prediction"),
    pytest.param({"geometry": POINT.wkb, "pred_lat": 53.8, "pred_lon": -1.55}, id="WKB is the truth"),
    pytest.param(
        {
            "lat": 53.8008,
            "lon": -1.5491,
            "predicted_latitude": 53.8,
            "predicted_latitude_dir": "N",
            "predicted_longitude": 1.55,
            "predicted_longitude_dir": "W",
        },
        id="letters in columns of other names",
    ),
    pytest.param({"latlon": "53.8008, -1.5491", "pred_latlon": "53.8 -1.55"}, id="pairs"),
]


@pytest.mark.parametrize("row", PREDICTIONS)
def test_predictions_and_their_truth(row: dict[str, Any]) -> None:
    predicted = read_predicted_coordinates(pd.DataFrame([{"image_id": "a", **row}]))
    np.testing.assert_allclose(predicted.queries[["lat_deg", "lon_deg"]].to_numpy()[0], LEEDS, atol=1e-9)
    np.testing.assert_allclose(predicted.answers_deg[0, 0], (53.8, -1.55), atol=1e-9)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"lat": 53.8, "lon": -1.5, "pred_lat": 53.8, "pred_lon": -1.5, "pred_lon_ref": "E"},
            "'pred_lon'.*contradicts",
        ),
        ({"lat": 53.8, "lon": -1.5, "x": 3.0, "y": 4.0}, "'predicted_lat'.*x and y may be pixels"),
        (
            {"lat": 53.8, "lon": -1.5, "pred_lat": 53.8, "pred_lon": 1.5, "pred_ns": "N", "pred_ew": "W"},
            "'pred_ns' and 'pred_ew' may have the letters",
        ),
        (
            {"lat": 53.8, "lon": -1.5, "pred_lat": 53.8, "pred_lon": 1.5},
            "signs of the longitude differ.*predicted_lon_ref",
        ),
        ({"lat": "33.8S", "lon": "151E", "pred_lat": 33.8, "pred_lon": 151.0}, "signs of the latitude differ"),
        ({"lat": 0.0, "lon": 0.0, "pred_lat": 53.8, "pred_lon": -1.5}, "the true position .*Atlantic"),
        ({"latlon": "53.8, -1.5", "pred_lat": 53.8, "pred_lon": 190}, "'pred_lon': .*longitude 190"),
        ({"coordinates": "53.8, -1.5", "pred_lat": 53.8, "pred_lon": 1}, r'--column lat="coordinates\[0\]"'),
    ],
)
def test_doubtful_predictions_are_refused(row: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_predicted_coordinates(pd.DataFrame([{"image_id": "a", **row}]))


# File names and columns in a projection.
@pytest.mark.parametrize(
    ("name", "crs", "message"),
    [
        ("@118.51@24.03@.jpg", "EPSG:32651", "look like degrees"),  # AerialVL 4
        ("@118.51@24.03@.jpg", "EPSG:3857", "look like degrees"),
        ("@1.5@53.8@.jpg", "EPSG:27700", "look like degrees"),
        ("@118.51@24.03@50@R@@@@@@@@@@@.jpg", None, "look like degrees"),
        ("@2000000@300000@.jpg", "EPSG:27700", "outside the area of use"),
        ("@34000.0@3377950.2@50@R@@@@@@@@@@@.jpg", None, "outside the area of use"),
    ],
)
def test_eastings_outside_the_projection_are_refused(name: str, crs: str | None, message: str) -> None:
    with pytest.raises(PlaceNameError, match=message):
        parse_name(name, crs)
    if crs is None:
        return
    east, north = (float(part) for part in name.split("@")[1:3])
    arrays = {"ids": np.array(["a"]), "easting": np.array([east]), "northing": np.array([north])}
    with pytest.raises(InputError, match=message):
        read_vectors({**arrays, "role": np.array(["query"]), "embeddings": np.ones((1, 2), np.float32)}, crs=crs)


def test_a_projection_made_for_a_site_may_have_small_coordinates() -> None:
    site = "+proj=tmerc +lat_0=53.8008 +lon_0=-1.5491 +units=m"
    place = parse_name("@10.0@0.0@.jpg", site)
    assert place.lat_deg == pytest.approx(LEEDS[0], abs=1e-6)
    assert place.lon_deg == pytest.approx(LEEDS[1] + 10.0 / 65_800.0, abs=1e-6)


def test_vectors_with_pairs(tmp_path: Path) -> None:
    arrays = {
        "ids": np.array(["a", "b"]),
        "embeddings": np.eye(2, 4, dtype=np.float32),
        "role": np.array(["query"] * 2),
    }
    known = read_vectors({**arrays, "gps": np.array([[114.3, 30.5], [114.4, 30.6]])})
    assert known.positions_deg is not None
    np.testing.assert_array_equal(known.positions_deg, [[30.5, 114.3], [30.6, 114.4]])
    with pytest.raises(SwclipError, match=r"'gps' has pairs .* not evident"):
        read_vectors({**arrays, "gps": np.array([[53.8, -1.5], [53.9, -1.5]])})


def test_a_rough_position_follows_the_same_rule() -> None:
    from swclip.cli.options import prior_of
    from swclip.retrieval.prior import Prior

    prior = prior_of(None, None, "53.8008N 1.5491W", 500.0)
    assert prior is not None
    assert prior.near_deg == LEEDS
    for near in ((0.0, 0.0), (114.3, 30.5), (float("nan"), 0.0)):
        with pytest.raises(ConfigError, match="rough position"):
            Prior(near_deg=near, radius_m=500.0)
    with pytest.raises(ConfigError, match="contradicts"):
        prior_of(None, None, "53.8N, -1.5E", 500.0)
