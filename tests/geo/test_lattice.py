"""The lattice over the Earth: spacing, joins between boxes, and the distance to the nearest point."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swclip.geo.distance import EARTH_RADIUS_M, haversine_m
from swclip.geo.lattice import line_count, line_lat_deg, line_points, lines_between


def _around(lat: float, lon: float, spacing_m: float) -> np.ndarray:
    """Return the lattice points within a few spacings of a position, on both sides of the antimeridian."""
    reach = np.degrees(4 * spacing_m / EARTH_RADIUS_M)
    lines = lines_between(max(lat - reach, -90.0), min(lat + reach, 90.0), spacing_m)
    wide = min(reach / max(np.cos(np.radians(min(abs(lat) + reach, 90.0))), 1e-9), 180.0)
    parts = [
        line_points(line, max(low, -180.0), min(high, 180.0), spacing_m)
        for line in lines
        for low, high in [(lon - wide + turn, lon + wide + turn) for turn in (-360.0, 0.0, 360.0)]
        if max(low, -180.0) <= min(high, 180.0)
    ]
    return np.concatenate(parts)


@given(st.floats(-90, 90), st.floats(-180, 180), st.sampled_from([20.0, 137.0, 5000.0]))
def test_every_position_is_near_a_lattice_point(lat: float, lon: float, spacing_m: float) -> None:
    points = _around(lat, lon, spacing_m)
    nearest = haversine_m(points[:, 0], points[:, 1], np.float64(lat), np.float64(lon)).min()
    assert nearest <= 0.72 * spacing_m


@given(st.integers(0, 10**6), st.sampled_from([20.0, 137.0, 5000.0]))
def test_points_and_lines_are_one_spacing_apart(draw: int, spacing_m: float) -> None:
    count = line_count(spacing_m)
    line = draw % count
    lat = line_lat_deg(line, spacing_m)
    circumference_m = 2 * np.pi * EARTH_RADIUS_M * np.cos(np.radians(lat))
    points = line_points(line, 179.0, 180.0, spacing_m)
    if line + 1 < count:
        step = np.radians(line_lat_deg(line + 1, spacing_m) - lat) * EARTH_RADIUS_M
        assert step == pytest.approx(spacing_m, rel=spacing_m / 1e7)
    if len(points) > 2 and circumference_m > 1000 * spacing_m:
        apart = haversine_m(points[:-1, 0], points[:-1, 1], points[1:, 0], points[1:, 1])
        np.testing.assert_allclose(apart, spacing_m, rtol=1e-3)
        # The spacing is the same across the antimeridian.
        first = line_points(line, -180.0, -179.0, spacing_m)[0]
        assert haversine_m(*points[-1], *first) == pytest.approx(apart[0], rel=1e-4)


def test_adjacent_boxes_join_without_gap_or_overlap() -> None:
    (line,) = list(lines_between(51.5, 51.5 + 1.9e-4, 20.0))[:1]
    whole = line_points(line, -0.2, 0.2, 20.0)
    halves = np.concatenate([line_points(line, -0.2, 0.05, 20.0), line_points(line, 0.05, 0.2, 20.0)])
    np.testing.assert_array_equal(whole, halves)
    assert len(line_points(line, 0.00001, 0.00002, 20.0)) in (0, 1)
    assert list(lines_between(0.5, 0.5, 1e6)) == []


def test_lattice_of_the_whole_earth() -> None:
    lines = lines_between(-90.0, 90.0, 1e6)
    assert len(lines) == line_count(1e6)
    points = np.concatenate([line_points(line, -180.0, 180.0, 1e6) for line in lines])
    assert len(points) == pytest.approx(4 * np.pi * (EARTH_RADIUS_M / 1e6) ** 2, rel=0.02)  # one point per (1000 km)^2
    assert len(np.unique(points, axis=0)) == len(points)
