"""Neighbours against all distances by loops, and the graph against what libpysal says of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swclip.errors import ConfigError
from swclip.geo.distance import haversine_m, pairwise_haversine_m
from swclip.metrics.morans_i import nearest_neighbours, neighbour_graph

positions = st.lists(st.tuples(st.floats(-90, 90), st.floats(-180, 180)), min_size=1, max_size=25)
lattice = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=25)


@given(positions, st.integers(1, 6))
def test_no_one_left_out_is_nearer(points: list[tuple[float, float]], k: int) -> None:
    found = nearest_neighbours(points, k)
    n = len(points)
    assert found.shape == (n, min(k, n - 1))
    distance = pairwise_haversine_m(np.array(points), np.array(points))
    for i in range(n):
        chosen = found[i].tolist()
        assert i not in chosen
        assert len(set(chosen)) == len(chosen)
        far = [distance[i, j] for j in chosen]
        assert far == pytest.approx(sorted(far), abs=1e-2)
        others = [distance[i, j] for j in range(n) if j != i and j not in chosen]
        # Chord and haversine differ by rounding, most at the antipode.
        assert not others or not far or min(others) >= max(far) - 1.0


@given(lattice, st.integers(1, 6))
def test_points_at_one_spot(points: list[tuple[int, int]], k: int) -> None:
    """More points at one spot than neighbours: a point is never its own, and the distances are the smallest."""
    at = np.array(points, dtype=np.float64) * 1e-3
    found = nearest_neighbours(at, k)
    distance = pairwise_haversine_m(at, at)
    for i, chosen in enumerate(found.tolist()):
        assert i not in chosen
        assert len(set(chosen)) == len(chosen)
        expected = sorted(distance[i, j] for j in range(len(points)) if j != i)[: len(chosen)]
        assert [distance[i, j] for j in chosen] == pytest.approx(expected, abs=1e-3)


@given(lattice, st.integers(1, 4), st.sampled_from([1.0, 120.0, 170.0]))
def test_who_is_too_far_is_nobody(points: list[tuple[int, int]], k: int, within_m: float) -> None:
    at = np.array(points, dtype=np.float64) * 1e-3
    limited, free = nearest_neighbours(at, k, within_m), nearest_neighbours(at, k)
    for i, (some, all_) in enumerate(zip(limited.tolist(), free.tolist(), strict=True)):
        near = [j for j in all_ if haversine_m(*at[i], *at[j]) <= within_m]
        assert some == near + [-1] * (len(all_) - len(near))


def test_across_the_antimeridian_and_the_pole() -> None:
    assert nearest_neighbours([[0.0, 179.9], [0.0, -179.9], [0.0, 170.0]], 1).tolist() == [[1], [0], [0]]
    assert nearest_neighbours([[89.9, 0.0], [89.9, 180.0], [80.0, 0.0]], 1).tolist() == [[1], [0], [0]]


def test_of_one_and_of_none() -> None:
    assert nearest_neighbours([[1.0, 2.0]], 3).shape == (1, 0)
    assert nearest_neighbours(np.zeros((0, 2)), 3).shape[0] == 0
    with pytest.raises(ConfigError, match="0 neighbours"):
        nearest_neighbours([[1.0, 2.0]], 0)


@given(lattice, st.integers(1, 4), st.sampled_from([None, 1.0, 120.0]))
def test_the_graph_is_row_standardised(points: list[tuple[int, int]], k: int, within_m: float | None) -> None:
    neighbours = nearest_neighbours(np.array(points) * 1e-3, k, within_m)
    graph = neighbour_graph(neighbours)
    n = len(points)
    expected = np.zeros((n, n))
    for i, row in enumerate(neighbours.tolist()):
        near = [j for j in row if j >= 0]
        for j in near:
            expected[i, j] = 1.0 / len(near)
    assert graph.sparse.toarray() == pytest.approx(expected)
    assert graph.unique_ids.tolist() == list(range(n))
    assert graph.isolates.tolist() == np.flatnonzero(expected.sum(axis=1) == 0).tolist()
    assert graph.transform("R").sparse.toarray() == pytest.approx(expected)
