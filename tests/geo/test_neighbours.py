"""Neighbour search against all distances, at poles and across the antimeridian too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.geo.distance import EARTH_RADIUS_M, pairwise_haversine_m
from swclip.geo.neighbours import SphereIndex

# Around a street, the antimeridian, a pole and the whole Earth: centre and spread in degrees.
REGIONS = [((51.5, -0.1), 0.002), ((0.0, 180.0), 0.01), ((89.999, 0.0), 0.5), ((0.0, 0.0), 90.0)]


def scatter(seed: int, n: int, region: int) -> np.ndarray:
    (lat, lon), spread = REGIONS[region]
    rng = np.random.default_rng(seed)
    lats = np.clip(lat + rng.uniform(-spread, spread, n), -90.0, 90.0)
    return np.stack([lats, (lon + rng.uniform(-2 * spread, 2 * spread, n) + 180.0) % 360.0 - 180.0], axis=1)


@given(seed=st.integers(0, 10_000), n=st.integers(1, 40), k=st.integers(1, 50), region=st.integers(0, 3))
@settings(deadline=None)
def test_the_nearest_are_those_of_all_distances(seed: int, n: int, k: int, region: int) -> None:
    positions, queries = scatter(seed, n, region), scatter(seed + 1, 7, region)
    every = pairwise_haversine_m(queries, positions)
    distance_m, which = SphereIndex(positions).nearest(queries, k)
    assert distance_m.shape == which.shape == (7, min(k, n))
    np.testing.assert_allclose(distance_m, np.sort(every, axis=1)[:, :k], rtol=1e-7, atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(every, which, axis=1), distance_m, rtol=1e-7, atol=1e-6)
    assert all(len(set(row)) == len(row) for row in which.tolist())


@given(seed=st.integers(0, 10_000), n=st.integers(1, 60), region=st.integers(0, 3), share=st.floats(0.001, 1.0))
@settings(deadline=None)
def test_those_within_a_radius_are_those_of_all_distances(seed: int, n: int, region: int, share: float) -> None:
    positions, queries = scatter(seed, n, region), scatter(seed + 1, 7, region)
    every = pairwise_haversine_m(queries, positions)
    radius_m = share * float(every.max())
    for row, found in zip(every, SphereIndex(positions).within(queries, radius_m), strict=True):
        assert found.dtype == np.int64
        assert found.tolist() == sorted(found.tolist())
        surely = np.flatnonzero(row < radius_m * (1 - 1e-9) - 1e-6)
        perhaps = np.flatnonzero(row <= radius_m * (1 + 1e-9) + 1e-6)
        assert set(surely) <= set(found.tolist()) <= set(perhaps)


def test_a_neighbour_across_the_antimeridian_is_near() -> None:
    distance_m, which = SphereIndex([[0.0, 179.9999], [0.0, 0.0]]).nearest([[0.0, -179.9999]], k=1)
    assert which.tolist() == [[0]]
    assert distance_m[0, 0] == pytest.approx(np.radians(0.0002) * EARTH_RADIUS_M, rel=1e-6)


def test_a_radius_round_the_earth_holds_everything() -> None:
    positions = scatter(0, 30, 3)
    (found,) = SphereIndex(positions).within([[10.0, 20.0]], 3e7)
    assert found.tolist() == list(range(30))


def test_a_radius_of_nothing_holds_the_same_place() -> None:
    (found,) = SphereIndex([[51.5, -0.1], [51.5, -0.1], [51.5, -0.1001]]).within([[51.5, -0.1]], 0.0)
    assert found.tolist() == [0, 1]


def test_nothing_is_found_among_nothing() -> None:
    empty, one = SphereIndex(np.zeros((0, 2))), SphereIndex([[0.0, 0.0]])
    assert len(empty) == 0
    assert [part.shape for part in empty.nearest([[0.0, 0.0], [1.0, 1.0]], k=3)] == [(2, 0), (2, 0)]
    assert [found.tolist() for found in empty.within([[0.0, 0.0]], 10.0)] == [[]]
    assert one.nearest(np.zeros((0, 2)), k=1)[0].shape == (0, 1)
    assert one.within(np.zeros((0, 2)), 10.0) == []
