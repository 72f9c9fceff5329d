"""Moran's I against published values, closed forms on lattices, nested loops, and esda itself."""

from __future__ import annotations

import itertools
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from esda import Moran
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from libpysal.graph import Graph

from swclip.errors import InputError
from swclip.metrics.morans_i import (
    component_autocorrelation,
    global_moran,
    nearest_neighbours,
    neighbour_graph,
    principal_components,
)

COLUMBUS = json.loads(Path(__file__).with_name("columbus.json").read_text())


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def moran_loop(values: list[float], weights: list[list[float]]) -> float:
    n = len(values)
    mean = sum(values) / n
    z = [value - mean for value in values]
    cross = sum(weights[i][j] * z[i] * z[j] for i in range(n) for j in range(n))
    return n / sum(map(sum, weights)) * cross / sum(own * own for own in z)


def graph_of(lists: list[list[int]]) -> Graph:
    """Neighbours by lists, through the same door as nearest neighbours."""
    width = max(map(len, lists))
    return neighbour_graph(np.array([row + [-1] * (width - len(row)) for row in lists]))


def torus(side: int) -> list[list[int]]:
    """Rook neighbours on a chequered board whose edges meet."""
    return [
        [(row + down) % side * side + (column + across) % side for down, across in ((0, 1), (0, -1), (1, 0), (-1, 0))]
        for row in range(side)
        for column in range(side)
    ]


def test_crime_in_columbus() -> None:
    """R, spdep: moran.test(columbus$CRIME, nb2listw(queen)) under randomisation."""
    found = global_moran(COLUMBUS["crime"], graph_of(COLUMBUS["queen"]), generator=generator())
    assert found is not None
    assert found.i == pytest.approx(0.500188557, abs=5e-10)
    assert found.expected == pytest.approx(-0.020833333, abs=5e-10)
    assert found.z == pytest.approx(5.5894, abs=5e-5)
    assert (found.i - found.expected) / found.z == pytest.approx(0.008689289**0.5, rel=1e-6)
    assert found.p == 0.002  # moran.mc: observed rank 1001 of 1001
    assert (found.n, found.permutations) == (49, 999)


@pytest.mark.parametrize("side", [4, 6, 10])
def test_a_chequerboard_is_minus_one(side: int) -> None:
    board = np.indices((side, side)).sum(axis=0).reshape(-1) % 2
    found = global_moran(board, graph_of(torus(side)), generator=generator())
    assert found is not None
    assert found.i == pytest.approx(-1.0, abs=1e-12)
    assert found.p == 0.002


@pytest.mark.parametrize(("side", "turns"), [(8, 1), (8, 3), (12, 2)])
def test_a_wave_on_a_torus_is_an_eigenvector(side: int, turns: int) -> None:
    """cos(2 pi f x) has neighbours' mean (1 + cos(2 pi f)) / 2 times itself: two in its row, two across it."""
    wave = np.cos(2.0 * np.pi * turns * np.indices((side, side))[1].reshape(-1) / side)
    found = global_moran(wave, graph_of(torus(side)), generator=generator())
    assert found is not None
    assert found.i == pytest.approx((1.0 + np.cos(2.0 * np.pi * turns / side)) / 2.0, abs=1e-12)


def test_two_halves_of_a_torus() -> None:
    """2 of the 6 columns of a half have one neighbour in four on the other side: I = 1 - 2 * 1/3 * 1/4."""
    halves = np.repeat([[0.0] * 6 + [1.0] * 6], 12, axis=0).reshape(-1)
    found = global_moran(halves, graph_of(torus(12)), generator=generator())
    assert found is not None
    assert found.i == pytest.approx(1.0 - 2.0 / 3.0 / 4.0, abs=1e-12)


points = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=8, max_size=24)


@settings(max_examples=50)
@given(points, st.integers(1, 5), st.sampled_from([None, 150.0]), st.data())
def test_it_is_that_of_nested_loops_and_of_esda(
    at: list[tuple[int, int]], k: int, within_m: float | None, data: st.DataObject
) -> None:
    values = data.draw(hnp.arrays(np.float64, len(at), elements=st.floats(0, 1e5).map(lambda x: round(x, 3))))
    graph = neighbour_graph(nearest_neighbours(np.array(at) * 1e-3, k, within_m))
    found = global_moran(values, graph, generator=generator(), permutations=19)
    weights = graph.sparse.toarray().tolist()
    if np.ptp(values) == 0.0 or not any(map(any, weights)):
        assert found is None
        return
    assert found is not None
    assert found.i == pytest.approx(moran_loop(values.tolist(), weights), rel=1e-9, abs=1e-9)
    with np.errstate(all="ignore"):
        theirs = Moran(values, graph, permutations=0)
    assert found.i == pytest.approx(theirs.I, rel=1e-9, abs=1e-9)
    assert found.expected == theirs.EI
    if found.z is not None and abs(found.z) < 1e3:
        assert found.z == pytest.approx(theirs.z_rand, rel=1e-6, abs=1e-6)
    assert 0.0 < found.p <= 1.0


def test_the_p_of_esda_is_one_tail_of_ours() -> None:
    at, values = generator(1).uniform(0, 0.01, (60, 2)), generator(2).lognormal(3, 1, 60)
    graph = neighbour_graph(nearest_neighbours(at, 6))
    ours = global_moran(values, graph, generator=generator(3), permutations=199)
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(int(generator(3).integers(1 << 32)))  # noqa: NPY002
    theirs = Moran(values, graph, permutations=199)
    np.random.set_state(state)  # noqa: NPY002
    assert ours is not None
    assert ours.p == pytest.approx(min(1.0, 2.0 * theirs.p_sim))


def test_z_and_p_by_all_permutations() -> None:
    """Mean and variance over all 40,320 orders of 8 values are the moments that z takes; p is near its exact one."""
    values = np.array([1.0, 2.0, 4.0, 3.0, 7.0, 9.0, 8.0, 30.0])
    graph = neighbour_graph(nearest_neighbours(np.stack([np.zeros(8), np.arange(8) * 1e-3], axis=1), 2))
    weights = graph.sparse.toarray()
    z = np.array(list(itertools.permutations(values - values.mean())))
    every = (z @ weights.T * z).sum(axis=1) / (z[0] @ z[0]) * 8 / weights.sum()
    found = global_moran(values, graph, generator=generator(), permutations=9_999)
    assert found is not None
    assert found.expected == pytest.approx(every.mean())
    assert found.z == pytest.approx((found.i - every.mean()) / every.std())
    exact = 2.0 * min(np.mean(every >= found.i - 1e-12), np.mean(every <= found.i + 1e-12))
    assert found.p == pytest.approx(exact, abs=4.0 * (exact / 9_999) ** 0.5)


def test_the_global_generator_is_as_before_and_only_the_seed_counts() -> None:
    at, values = generator(1).uniform(0, 0.01, (50, 2)), generator(2).lognormal(3, 1, 50)
    graph = neighbour_graph(nearest_neighbours(at, 6))
    np.random.seed(11)  # noqa: NPY002
    expected = np.random.random(3)  # noqa: NPY002
    filters = list(warnings.filters)
    np.random.seed(11)  # noqa: NPY002
    first = global_moran(values, graph, generator=generator(5))
    assert np.random.random(3).tolist() == expected.tolist()  # noqa: NPY002
    assert global_moran(values, graph, generator=generator(5)) == first
    assert global_moran(values, graph, generator=generator(6)) != first
    assert warnings.filters == filters


def test_the_unit_does_not_matter() -> None:
    at, values = generator(1).uniform(0, 0.01, (50, 2)), generator(2).lognormal(3, 1, 50)
    graph = neighbour_graph(nearest_neighbours(at, 6))
    one, other = (global_moran(factor * values, graph, generator=generator()) for factor in (1.0, 1e200))
    assert one is not None
    assert other is not None
    assert (other.i, other.z, other.p) == pytest.approx((one.i, one.z, one.p), rel=1e-9)


def test_where_everyone_is_everyones_neighbour_there_is_nothing_to_find() -> None:
    graph = neighbour_graph(nearest_neighbours(generator().uniform(0, 1e-2, (9, 2)), 8))
    found = global_moran(generator(1).normal(size=9), graph, generator=generator())
    assert found is not None
    assert found.i == pytest.approx(-1.0 / 8.0)
    assert (found.z, found.p) == (None, 1.0)


@pytest.mark.parametrize(("n", "value"), [(7, None), (20, 3.3)])
def test_where_there_is_no_statistic(n: int, value: float | None) -> None:
    graph = neighbour_graph(nearest_neighbours(generator().uniform(0, 1e-2, (n, 2)), 3))
    values = generator(1).normal(size=n) if value is None else np.full(n, value)
    assert global_moran(values, graph, generator=generator()) is None


def test_nobody_has_a_neighbour() -> None:
    graph = neighbour_graph(nearest_neighbours(generator().uniform(0, 1, (20, 2)), 3, within_m=0.01))
    assert global_moran(np.arange(20.0), graph, generator=generator()) is None


def test_what_is_no_number_is_refused() -> None:
    graph = neighbour_graph(nearest_neighbours(generator().uniform(0, 1, (9, 2)), 3))
    with pytest.raises(InputError, match="row 2: nan"):
        global_moran([0.0, 1.0, np.nan, *range(6)], graph, generator=generator())


@given(hnp.arrays(np.float64, (12, 4), elements=st.floats(-3, 3).map(lambda x: round(x, 3))))
def test_components_are_the_eigenvectors_of_the_covariance(embeddings: np.ndarray) -> None:
    scores, shares = principal_components(embeddings, 3)
    values = np.linalg.eigvalsh(np.cov(embeddings.T, bias=True))[::-1]
    assert shares == pytest.approx(values[: len(shares)] / max(values.sum(), 1e-300), abs=1e-9)
    assert (scores**2).mean(axis=0) == pytest.approx(values[: len(shares)], abs=1e-9)
    assert (shares > 0.0).all()
    assert scores.T @ scores == pytest.approx(np.diag((scores**2).sum(axis=0)), abs=1e-8)


def test_a_component_that_follows_the_ground_is_told_from_one_that_does_not() -> None:
    at = generator().uniform(0, 0.01, (200, 2))
    noise = generator(1).normal(size=200)
    embeddings = np.stack([3.0 * (at[:, 0] - at[:, 0].mean()) / at[:, 0].std(), noise], axis=1)
    graph = neighbour_graph(nearest_neighbours(at, 8))
    smooth, rough = component_autocorrelation(embeddings, graph, generator=generator())
    assert (smooth["component"], rough["component"]) == (1, 2)
    assert smooth["variance_share"] == pytest.approx(0.9, abs=0.03)
    assert smooth["i"] > 0.8
    assert smooth["p"] == 0.002
    assert abs(rough["i"]) < 0.15
    assert rough["p"] > 0.01


def test_equal_embeddings_have_no_components() -> None:
    graph = neighbour_graph(nearest_neighbours(generator().uniform(0, 0.01, (20, 2)), 8))
    for same in (np.ones((20, 5)), np.zeros((20, 5)), np.full((20, 5), 0.1)):
        assert component_autocorrelation(same, graph, generator=generator()) == []
