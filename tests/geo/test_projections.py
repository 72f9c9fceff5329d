"""Projected coordinates: the same points as pyproj in the area of use, none outside it; datums and their names."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer

from swclip.errors import ConfigError
from swclip.geo.projections import WGS84, datum_code, projected_to_deg, projection_problem, to_wgs84, utm_crs


@given(st.floats(-79.5, 83.5), st.floats(-179.9, 179.9))
def test_points_of_their_utm_zone_come_back(lat: float, lon: float) -> None:
    crs = utm_crs(int((lon + 180.0) // 6.0) % 60 + 1, lat >= 0.0)
    east, north = Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
    np.testing.assert_allclose(projected_to_deg([east], [north], crs), [[lat, lon]], atol=1e-7)
    assert projection_problem(east, north, crs) is None


@pytest.mark.parametrize(
    ("lat", "lon", "crs"),
    [
        (59.9, 4.9, "EPSG:32632"),  # Norway uses zone 32 to its west coast
        (78.2, 20.5, "EPSG:32633"),  # Svalbard: zone 33 spans 12 degrees
        (-16.5, -179.9, "EPSG:3460"),  # the area of Fiji crosses the antimeridian
        (50.9, 2.3, "EPSG:27700"),  # just outside
    ],
)
def test_points_near_the_edge_are_kept(lat: float, lon: float, crs: str) -> None:
    east, north = Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
    np.testing.assert_allclose(projected_to_deg([east], [north], crs), [[lat, lon]], atol=1e-4)


def test_one_point_outside_leaves_the_others() -> None:
    positions = projected_to_deg([500_000.0, 114.3, np.nan], [3_377_950.0, 30.5, 0.0], "EPSG:32650")
    assert np.isfinite(positions).all(axis=1).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("crs", "message"),
    [("EPSG:99", "known projection"), ("EPSG:4326", "easting"), ("EPSG:2263", "metres are needed")],
)
def test_rejects_unsuitable_projections(crs: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        projected_to_deg([1.0], [1.0], crs)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("", 4326),
        ("WGS-84", 4326),
        ("wgs 84", 4326),
        ("EPSG:4301", 4301),
        ("Tokyo", 4301),
        ("TOKYO MEAN", 4301),
        ("JGD2011", 6668),
        ("NAD-27", 4267),
        ("European 1950", 4230),
        ("OSGB36", 4277),
        ("Pulkovo 1942", 4284),
        ("GDA94", 4283),
        ("GCJ-02", None),
        ("EPSG:27700", None),  # a projection, not a datum of latitudes and longitudes
        ("unknown", None),
    ],
)
def test_names(name: str, code: int | None) -> None:
    assert datum_code(name) == code


@pytest.mark.parametrize("code", [4301, 4267, 4230, 4277])
def test_conversion_can_be_undone(code: int) -> None:
    lat, lon = {4301: (35.6, 139.7), 4267: (40.0, -100.0), 4230: (48.0, 2.0), 4277: (53.8, -1.5)}[code]
    converted = to_wgs84(lat, lon, code)
    assert converted is not None
    moved_m = np.hypot((converted[0] - lat) * 111e3, (converted[1] - lon) * 111e3 * np.cos(np.radians(lat)))
    assert 10.0 < moved_m < 1000.0
    back = Transformer.from_crs(WGS84, code, allow_ballpark=False).transform(*converted)
    np.testing.assert_allclose(back, [lat, lon], atol=1e-7)


def test_wgs84_is_unchanged() -> None:
    assert to_wgs84(53.8008, -1.5491, WGS84) == (53.8008, -1.5491)
