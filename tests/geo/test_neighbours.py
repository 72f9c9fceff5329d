"""Neighbour search against all pairwise distances, also at the poles and across the antimeridian."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.geo.distance import EARTH_RADIUS_M, pairwise_haversine_m
from swclip.geo.neighbours import SphereIndex, distinct_rows, nearest_m

# A street, the antimeridian, a pole and the whole Earth: centre and spread in degrees.
REGIONS = [((51.5, -0.1), 0.002), ((0.0, 180.0), 0.01), ((89.999, 0.0), 0.5), ((0.0, 0.0), 90.0)]


def scatter(seed: int, n: int, region: int) -> np.ndarray:
    (lat, lon), spread = REGIONS[region]
    rng = np.random.default_rng(seed)
    lats = np.clip(lat + rng.uniform(-spread, spread, n), -90.0, 90.0)
    return np.stack([lats, (lon + rng.uniform(-2 * spread, 2 * spread, n) + 180.0) % 360.0 - 180.0], axis=1)


@given(seed=st.integers(0, 10_000), n=st.integers(1, 40), k=st.integers(1, 50), region=st.integers(0, 3))
@settings(deadline=None)
def test_nearest_matches_pairwise_distances(seed: int, n: int, k: int, region: int) -> None:
    positions, queries = scatter(seed, n, region), scatter(seed + 1, 7, region)
    distances = pairwise_haversine_m(queries, positions)
    distance_m, indices = SphereIndex(positions).nearest(queries, k)
    assert distance_m.shape == indices.shape == (7, min(k, n))
    np.testing.assert_allclose(distance_m, np.sort(distances, axis=1)[:, :k], rtol=1e-7, atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(distances, indices, axis=1), distance_m, rtol=1e-7, atol=1e-6)
    assert all(len(set(row)) == len(row) for row in indices.tolist())


@given(seed=st.integers(0, 10_000), n=st.integers(1, 60), region=st.integers(0, 3), share=st.floats(0.001, 1.0))
@settings(deadline=None)
def test_within_matches_pairwise_distances(seed: int, n: int, region: int, share: float) -> None:
    positions, queries = scatter(seed, n, region), scatter(seed + 1, 7, region)
    distances = pairwise_haversine_m(queries, positions)
    radius_m = share * float(distances.max())
    for row, within in zip(distances, SphereIndex(positions).within(queries, radius_m), strict=True):
        assert within.dtype == np.int64
        assert within.tolist() == sorted(within.tolist())
        inside = np.flatnonzero(row < radius_m * (1 - 1e-9) - 1e-6)
        inside_or_on_the_edge = np.flatnonzero(row <= radius_m * (1 + 1e-9) + 1e-6)
        assert set(inside) <= set(within.tolist()) <= set(inside_or_on_the_edge)


def test_nearest_across_the_antimeridian() -> None:
    distance_m, indices = SphereIndex([[0.0, 179.9999], [0.0, 0.0]]).nearest([[0.0, -179.9999]], k=1)
    assert indices.tolist() == [[0]]
    assert distance_m[0, 0] == pytest.approx(np.radians(0.0002) * EARTH_RADIUS_M, rel=1e-6)


def test_within_half_the_circumference_returns_every_position() -> None:
    positions = scatter(0, 30, 3)
    (within,) = SphereIndex(positions).within([[10.0, 20.0]], 3e7)
    assert within.tolist() == list(range(30))


def test_within_radius_zero_returns_equal_positions() -> None:
    (within,) = SphereIndex([[51.5, -0.1], [51.5, -0.1], [51.5, -0.1001]]).within([[51.5, -0.1]], 0.0)
    assert within.tolist() == [0, 1]


def test_empty_index_and_empty_queries() -> None:
    empty, single = SphereIndex(np.zeros((0, 2))), SphereIndex([[0.0, 0.0]])
    assert len(empty) == 0
    assert [part.shape for part in empty.nearest([[0.0, 0.0], [1.0, 1.0]], k=3)] == [(2, 0), (2, 0)]
    assert [within.tolist() for within in empty.within([[0.0, 0.0]], 10.0)] == [[]]
    assert single.nearest(np.zeros((0, 2)), k=1)[0].shape == (0, 1)
    assert single.within(np.zeros((0, 2)), 10.0) == []


@given(seed=st.integers(0, 10_000), n=st.integers(0, 60), share=st.floats(0.0, 1.0), at_once=st.integers(1, 200))
@settings(deadline=None)
def test_pairs_in_blocks_are_the_lists_of_within(seed: int, n: int, share: float, at_once: int) -> None:
    positions, queries = scatter(seed, n, 0), scatter(seed + 1, 9, 0)
    index, radius_m = SphereIndex(positions), share * 500.0
    expected = [(q, p) for q, near in enumerate(index.within(queries, radius_m)) for p in near.tolist()]
    blocks = list(index.pairs_within(queries, radius_m, pairs_at_once=at_once))
    assert [pair for q, p in blocks for pair in zip(q.tolist(), p.tolist(), strict=True)] == expected
    assert all(len(q) <= at_once or len(set(q.tolist())) == 1 for q, _ in blocks)
    assert index.count_within(queries, radius_m).tolist() == [sum(q == row for q, _ in expected) for row in range(9)]


@given(seed=st.integers(0, 10_000), n=st.integers(1, 30), repeats=st.integers(1, 4))
@settings(deadline=None)
def test_nearest_distance_with_repeated_positions(seed: int, n: int, repeats: int) -> None:
    positions, queries = np.repeat(scatter(seed, n, 0), repeats, axis=0), np.tile(scatter(seed + 1, 5, 0), (repeats, 1))
    expected = SphereIndex(positions).nearest(queries, 1)[0][:, 0]
    np.testing.assert_array_equal(nearest_m(positions, queries), expected)
    at_most_m = float(np.median(expected))
    bounded = nearest_m(positions, queries, at_most_m=at_most_m)
    np.testing.assert_array_equal(bounded[expected <= at_most_m], expected[expected <= at_most_m])
    assert (bounded[expected > at_most_m] > at_most_m).all()


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), max_size=40))
def test_distinct_rows_are_those_of_numpy(rows: list[tuple[int, int]]) -> None:
    values = np.array(rows, dtype=np.int64).reshape(-1, 2)
    distinct, number = distinct_rows(values)
    expected, which = np.unique(values, axis=0, return_inverse=True)
    assert distinct.tolist() == expected.tolist()
    assert number.tolist() == which.reshape(-1).tolist()
