"""Great circles and geodesics against PROJ, closed forms, published values and invariances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod

from swclip.geo.distance import EARTH_RADIUS_M, geodesic_m, haversine_m, pairwise_haversine_m

LAT = st.floats(-90.0, 90.0)
LON = st.floats(-180.0, 180.0)
POINT = st.tuples(LAT, LON)
HALF_ROUND_M = np.pi * EARTH_RADIUS_M


def between(a: tuple[float, float], b: tuple[float, float]) -> float:
    return float(haversine_m(*(np.float64(value) for value in (*a, *b))))


@given(POINT, POINT)
def test_haversine_matches_proj_on_a_sphere(a: tuple[float, float], b: tuple[float, float]) -> None:
    sphere = Geod(a=EARTH_RADIUS_M, b=EARTH_RADIUS_M)
    expected = sphere.inv(a[1], a[0], b[1], b[0])[2]
    # Near the antipodes the haversine is ill-conditioned: it loses half of the digits, 0.1 m in 20,000 km.
    assert between(a, b) == pytest.approx(expected, rel=1e-9, abs=0.2 if expected > 0.999 * HALF_ROUND_M else 1e-6)


@pytest.mark.parametrize(
    ("a", "b", "share_of_half_round"),
    [
        ((0.0, 0.0), (0.0, 90.0), 1 / 2),
        ((0.0, 0.0), (0.0, 180.0), 1.0),
        ((90.0, 0.0), (-90.0, 0.0), 1.0),
        ((90.0, 0.0), (90.0, 123.0), 0.0),
        ((90.0, 17.0), (0.0, -50.0), 1 / 2),
        ((0.0, 179.5), (0.0, -179.5), 1 / 180),
        ((45.0, 180.0), (45.0, -180.0), 0.0),
        ((45.0, 0.0), (45.0, 180.0), 1 / 2),
        ((10.0, 20.0), (-10.0, -160.0), 1.0),
    ],
)
def test_haversine_closed_forms(a: tuple[float, float], b: tuple[float, float], share_of_half_round: float) -> None:
    tolerance_m = 0.2 if share_of_half_round == 1.0 else 1e-6  # the haversine loses half its digits at the antipodes
    assert between(a, b) == pytest.approx(share_of_half_round * HALF_ROUND_M, abs=tolerance_m)


@given(POINT, POINT, st.floats(-720.0, 720.0))
def test_haversine_is_invariant_to_rotation_about_the_pole(
    a: tuple[float, float], b: tuple[float, float], turn_deg: float
) -> None:
    rotated = between((a[0], a[1] + turn_deg), (b[0], b[1] + turn_deg))
    unrotated = between(a, b)
    assert rotated == pytest.approx(unrotated, rel=1e-9, abs=0.2 if unrotated > 0.999 * HALF_ROUND_M else 1e-5)


@given(POINT, POINT, POINT)
def test_haversine_is_a_metric(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> None:
    assert between(a, a) == 0.0
    assert between(a, b) == between(b, a)
    assert 0.0 <= between(a, b) <= HALF_ROUND_M * (1 + 1e-15)
    assert between(a, c) <= between(a, b) + between(b, c) + 0.5


def test_haversine_of_short_distances() -> None:
    metre_deg = np.degrees(1.0 / EARTH_RADIUS_M)
    assert between((51.5, -0.1), (51.5 + metre_deg, -0.1)) == pytest.approx(1.0, abs=1e-8)
    assert between((0.0, 0.0), (0.0, metre_deg * 1e-3)) == pytest.approx(1e-3, rel=1e-12)


@given(st.lists(POINT, min_size=1, max_size=5), st.lists(POINT, min_size=1, max_size=5))
def test_pairwise_distances_match_single_distances(a: list[tuple[float, float]], b: list[tuple[float, float]]) -> None:
    distances = pairwise_haversine_m(np.array(a), np.array(b))
    assert distances.shape == (len(a), len(b))
    for i, first in enumerate(a):
        for j, second in enumerate(b):
            # Sines of an array and of a number may differ in the last bit.
            assert distances[i, j] == pytest.approx(between(first, second), rel=1e-12)


@given(st.lists(POINT, min_size=1, max_size=5), st.lists(POINT, min_size=1, max_size=5))
def test_torch_and_numpy_agree(a: list[tuple[float, float]], b: list[tuple[float, float]]) -> None:
    expected = pairwise_haversine_m(np.array(a), np.array(b))
    distances = pairwise_haversine_m(torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64))
    assert isinstance(distances, torch.Tensor)
    assert distances.dtype == torch.float64
    np.testing.assert_allclose(distances.numpy(), expected, rtol=1e-12, atol=0.2)


def test_geodesics_match_published_values() -> None:
    # One degree of latitude at the equator and at 45, and a quarter of the meridian: Snyder, "Map Projections", and the
    # definition of WGS84 (10 001 965.729 m).
    a = [[0.0, 0.0], [44.5, 0.0], [0.0, 0.0], [0.0, 0.0]]
    b = [[1.0, 0.0], [45.5, 0.0], [90.0, 0.0], [0.0, 1.0]]
    expected = [110_574.389, 111_131.778, 10_001_965.729, 111_319.491]
    np.testing.assert_allclose(geodesic_m(a, b), expected, atol=0.001)


@given(POINT, POINT)
def test_geodesic_is_near_the_great_circle(a: tuple[float, float], b: tuple[float, float]) -> None:
    geodesic = float(geodesic_m([a], [b])[0])
    assert geodesic == pytest.approx(float(geodesic_m([b], [a])[0]), rel=1e-12, abs=1e-6)
    assert geodesic == pytest.approx(between(a, b), rel=0.0057, abs=0.2)


def test_empty_points_give_no_distances() -> None:
    assert geodesic_m(np.zeros((0, 2)), np.zeros((0, 2))).shape == (0,)
    assert pairwise_haversine_m(np.zeros((0, 2)), np.zeros((3, 2))).shape == (0, 3)
