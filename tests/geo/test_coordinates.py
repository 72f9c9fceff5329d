"""Positions: validity, unit vectors, centroids, the local frame and displacement."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swclip.geo.coordinates import (
    NO_FIX_DEG,
    LocalFrame,
    centroid_deg,
    displaced,
    position_problem,
    unit_vectors,
    valid_positions,
)
from swclip.geo.distance import EARTH_RADIUS_M, haversine_m

LAT, LON = st.floats(-90.0, 90.0), st.floats(-180.0, 180.0)


def test_valid_positions_are_finite_and_on_the_earth() -> None:
    lat = [0.0, 90.0, -90.0, 90.001, np.nan, 0.0, np.inf, 10.0]
    lon = [0.0, 180.0, -180.0, 0.0, 0.0, 180.5, 0.0, np.nan]
    assert valid_positions(lat, lon).tolist() == [True, True, True, False, False, False, False, False]


@given(LAT | st.floats(), LON | st.floats())
def test_a_position_has_no_problem_if_it_is_valid_and_not_zero(lat: float, lon: float) -> None:
    valid = bool(valid_positions(lat, lon))
    zero = abs(lat) < NO_FIX_DEG and abs(lon) < NO_FIX_DEG
    problem = position_problem(lat, lon)
    assert (problem is None) == (valid and not zero)
    assert (problem is not None and problem.reason == "coordinate-zero") == zero


@pytest.mark.parametrize(
    ("lat", "lon", "reason", "axis"),
    [
        (None, 1.0, "coordinate-missing", "lat"),
        (1.0, None, "coordinate-missing", "lon"),
        (1.0, np.nan, "coordinate-nan", "lon"),
        (91.0, 1.0, "coordinate-out-of-range", "lat"),
        (1.0, 181.0, "coordinate-out-of-range", "lon"),
    ],
)
def test_a_problem_names_its_axis(lat: float | None, lon: float | None, reason: str, axis: str) -> None:
    problem = position_problem(lat, lon)
    assert problem is not None
    assert (problem.reason, problem.axis) == (reason, axis)


def test_unit_vectors_of_known_positions() -> None:
    vectors = unit_vectors([[0.0, 0.0], [0.0, 90.0], [90.0, 77.0], [0.0, -180.0], [-90.0, 0.0]])
    expected = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0], [0, 0, -1]]
    np.testing.assert_allclose(vectors, expected, atol=1e-15)


@given(LAT, LON, LAT, LON)
def test_angle_between_unit_vectors_is_the_great_circle(lat1: float, lon1: float, lat2: float, lon2: float) -> None:
    a, b = unit_vectors([[lat1, lon1], [lat2, lon2]])
    assert np.linalg.norm(a) == pytest.approx(1.0, abs=1e-15)
    angle = np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b)
    assert angle * EARTH_RADIUS_M == pytest.approx(
        float(haversine_m(np.float64(lat1), lon1, lat2, lon2)), abs=0.2 if angle > 3.1 else 1e-6
    )


def test_centroid_at_the_antimeridian_and_the_pole() -> None:
    np.testing.assert_allclose(np.abs(centroid_deg([[10.0, 179.0], [10.0, -179.0]])[1]), 180.0)
    np.testing.assert_allclose(centroid_deg([[80.0, 0.0], [80.0, 180.0]])[0], 90.0)
    np.testing.assert_allclose(centroid_deg([[51.5, -0.1]]), [51.5, -0.1])


@given(st.lists(st.tuples(LAT, LON), min_size=1, max_size=8), st.floats(-360.0, 360.0))
def test_centroid_rotates_with_the_points(points: list[tuple[float, float]], turn_deg: float) -> None:
    if np.linalg.norm(unit_vectors(points).mean(axis=0)[:2]) < 1e-3:
        return  # the longitude of points that cancel out, or of the pole, is undefined
    rotated = centroid_deg([(lat, lon + turn_deg) for lat, lon in points])
    unrotated = centroid_deg(points)
    assert rotated[0] == pytest.approx(unrotated[0], abs=1e-8)
    assert (rotated[1] - unrotated[1] - turn_deg + 180.0) % 360.0 - 180.0 == pytest.approx(0.0, abs=1e-8)


@given(
    st.floats(-85.0, 85.0),
    LON,
    st.lists(st.tuples(st.floats(-2e4, 2e4), st.floats(-2e4, 2e4)), min_size=1, max_size=8),
)
def test_local_frame_round_trip(lat: float, lon: float, xy_m: list[tuple[float, float]]) -> None:
    frame = LocalFrame(lat, lon)
    positions = frame.to_deg(xy_m)
    assert valid_positions(positions[:, 0], positions[:, 1]).all()
    np.testing.assert_allclose(frame.to_xy_m(positions), xy_m, atol=1e-5)


def test_local_frame_axes_are_east_and_north() -> None:
    frame = LocalFrame(60.0, 179.9999)
    xy = frame.to_xy_m([[60.0, -179.9999], [60.001, 179.9999], [60.0, 179.9999]])
    np.testing.assert_allclose(xy[0], [np.radians(0.0002) * EARTH_RADIUS_M * 0.5, 0.0], atol=1e-6)
    np.testing.assert_allclose(xy[1], [0.0, np.radians(0.001) * EARTH_RADIUS_M], atol=1e-6)
    np.testing.assert_allclose(xy[2], [0.0, 0.0], atol=1e-9)


@pytest.mark.parametrize(
    ("lat_deg", "tolerance"), [(0.0, 1e-5), (30.0, 0.003), (59.9, 0.003), (-59.9, 0.003), (70.0, 0.0045)]
)
def test_local_frame_distances_are_within_the_documented_error(lat_deg: float, tolerance: float) -> None:
    rng = np.random.default_rng(0)
    angle, radius_m = rng.uniform(0, 2 * np.pi, 500), 10_000 * np.sqrt(rng.uniform(0.5, 1, 500))
    xy = np.stack([radius_m * np.cos(angle), radius_m * np.sin(angle)], axis=1)
    positions = LocalFrame(lat_deg, 10.0).to_deg(xy)
    a, b = positions[:-1], positions[1:]
    flat_m = np.linalg.norm(xy[1:] - xy[:-1], axis=1)
    sphere_m = haversine_m(a[:, 0], a[:, 1], b[:, 0], b[:, 1])
    assert np.abs(flat_m / sphere_m - 1.0).max() < tolerance


def test_frame_around_points_has_its_origin_at_their_centroid() -> None:
    frame = LocalFrame.around([[51.0, 0.0], [51.0, 0.002]])
    assert frame.lon_deg == pytest.approx(0.001)
    assert frame.lat_deg == pytest.approx(51.0, abs=1e-6)


@given(st.floats(-90, 90), st.floats(-180, 180), st.floats(-5000, 5000), st.floats(-5000, 5000))
def test_displacement_length_is_the_distance(lat: float, lon: float, east_m: float, north_m: float) -> None:
    reached = displaced([[lat, lon]], [[east_m, north_m]])[0]
    assert haversine_m(lat, lon, *reached) == pytest.approx(np.hypot(east_m, north_m), abs=0.01)
    assert -90.0 <= reached[0] <= 90.0
    assert -180.0 <= reached[1] <= 180.0


@given(st.floats(-60, 60), st.floats(-180, 180), st.floats(-300, 300), st.floats(-300, 300))
def test_displacement_directions_are_east_and_north(lat: float, lon: float, east_m: float, north_m: float) -> None:
    reached = displaced([[lat, lon]], [[east_m, north_m]])
    np.testing.assert_allclose(LocalFrame(lat, lon).to_xy_m(reached)[0], [east_m, north_m], atol=0.05)


def test_displacement_along_the_equator_and_across_the_pole() -> None:
    quarter_m = np.pi / 2 * EARTH_RADIUS_M
    np.testing.assert_allclose(displaced([[0, 10]], [[quarter_m, 0]]), [[0, 100]], atol=1e-9)
    np.testing.assert_allclose(displaced([[80, 10]], [[0, quarter_m * 2 / 9]]), [[80, -170]], atol=1e-9)


@given(st.floats(-90, 90), st.floats(-180, 180))
def test_zero_displacement_is_exact(lat: float, lon: float) -> None:
    assert displaced([[lat, lon]], [[0.0, 0.0]]).tolist() == [[lat, lon]]
