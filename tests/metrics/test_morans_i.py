"""Moran's I, spatial weights and permutation tests against published values, closed forms, loops, esda and SciPy."""

from __future__ import annotations

import itertools
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from esda import Moran
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from libpysal.graph import Graph
from scipy.stats import kstest, spearmanr

from swclip.errors import ConfigError, InputError
from swclip.geo.distance import haversine_m, pairwise_haversine_m
from swclip.metrics.morans_i import (
    centred_ranks,
    component_autocorrelation,
    global_moran,
    nearest_neighbours,
    neighbour_graph,
    principal_components,
    spearman,
    two_sided_p,
    unit_deviation,
)

COLUMBUS = json.loads(Path(__file__).with_name("columbus.json").read_text())


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def moran_loop(values: list[float], weights: list[list[float]]) -> float:
    n = len(values)
    mean = sum(values) / n
    z = [value - mean for value in values]
    cross = sum(weights[i][j] * z[i] * z[j] for i in range(n) for j in range(n))
    return n / sum(map(sum, weights)) * cross / sum(deviation * deviation for deviation in z)


def graph_of(lists: list[list[int]]) -> Graph:
    """The graph of neighbours given as lists."""
    width = max(map(len, lists))
    return neighbour_graph(np.array([row + [-1] * (width - len(row)) for row in lists]))


def torus(side: int) -> list[list[int]]:
    """Rook neighbours on a lattice with periodic boundaries."""
    return [
        [(row + down) % side * side + (column + across) % side for down, across in ((0, 1), (0, -1), (1, 0), (-1, 0))]
        for row in range(side)
        for column in range(side)
    ]


def test_morans_i_of_crime_in_columbus() -> None:
    """R, spdep: moran.test(columbus$CRIME, nb2listw(queen)) under randomisation."""
    moran = global_moran(COLUMBUS["crime"], graph_of(COLUMBUS["queen"]), generator=generator())
    assert moran is not None
    assert moran.i == pytest.approx(0.500188557, abs=5e-10)
    assert moran.expected == pytest.approx(-0.020833333, abs=5e-10)
    assert moran.z == pytest.approx(5.5894, abs=5e-5)
    assert (moran.i - moran.expected) / moran.z == pytest.approx(0.008689289**0.5, rel=1e-6)
    assert moran.p == 0.002  # moran.mc: observed rank 1001 of 1001
    assert (moran.n, moran.permutations) == (49, 999)


@pytest.mark.parametrize("side", [4, 6, 10])
def test_morans_i_of_a_chequerboard_is_minus_one(side: int) -> None:
    board = np.indices((side, side)).sum(axis=0).reshape(-1) % 2
    moran = global_moran(board, graph_of(torus(side)), generator=generator())
    assert moran is not None
    assert moran.i == pytest.approx(-1.0, abs=1e-12)
    assert moran.p == 0.002


@pytest.mark.parametrize(("side", "turns"), [(8, 1), (8, 3), (12, 2)])
def test_a_wave_on_a_torus_is_an_eigenvector(side: int, turns: int) -> None:
    """The neighbours of cos(2 pi f x) have the mean (1 + cos(2 pi f)) / 2 times its value."""
    wave = np.cos(2.0 * np.pi * turns * np.indices((side, side))[1].reshape(-1) / side)
    moran = global_moran(wave, graph_of(torus(side)), generator=generator())
    assert moran is not None
    assert moran.i == pytest.approx((1.0 + np.cos(2.0 * np.pi * turns / side)) / 2.0, abs=1e-12)


def test_two_halves_of_a_torus() -> None:
    """2 of the 6 columns of a half have one neighbour in four on the other side: I = 1 - 2 * 1/3 * 1/4."""
    halves = np.repeat([[0.0] * 6 + [1.0] * 6], 12, axis=0).reshape(-1)
    moran = global_moran(halves, graph_of(torus(12)), generator=generator())
    assert moran is not None
    assert moran.i == pytest.approx(1.0 - 2.0 / 3.0 / 4.0, abs=1e-12)


points = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=8, max_size=24)


@settings(max_examples=50)
@given(points, st.integers(1, 5), st.sampled_from([None, 150.0]), st.data())
def test_morans_i_equals_loops_and_esda(
    at: list[tuple[int, int]], k: int, within_m: float | None, data: st.DataObject
) -> None:
    values = data.draw(hnp.arrays(np.float64, len(at), elements=st.floats(0, 1e5).map(lambda x: round(x, 3))))
    graph = neighbour_graph(nearest_neighbours(np.array(at) * 1e-3, k, within_m))
    moran = global_moran(values, graph, generator=generator(), permutations=19)
    weights = graph.sparse.toarray().tolist()
    if np.ptp(values) == 0.0 or not any(map(any, weights)):
        assert moran is None
        return
    assert moran is not None
    assert moran.i == pytest.approx(moran_loop(values.tolist(), weights), rel=1e-9, abs=1e-9)
    with np.errstate(all="ignore"):
        esda_moran = Moran(values, graph, permutations=0)
    assert moran.i == pytest.approx(esda_moran.I, rel=1e-9, abs=1e-9)
    assert moran.expected == esda_moran.EI
    if moran.z is not None and abs(moran.z) < 1e3:
        assert moran.z == pytest.approx(esda_moran.z_rand, rel=1e-6, abs=1e-6)
    assert 0.0 < moran.p <= 1.0


def test_the_p_of_esda_is_one_tail() -> None:
    at, values = generator(1).uniform(0, 0.01, (60, 2)), generator(2).lognormal(3, 1, 60)
    graph = neighbour_graph(nearest_neighbours(at, 6))
    moran = global_moran(values, graph, generator=generator(3), permutations=199)
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(int(generator(3).integers(1 << 32)))  # noqa: NPY002
    esda_moran = Moran(values, graph, permutations=199)
    np.random.set_state(state)  # noqa: NPY002
    assert moran is not None
    assert moran.p == pytest.approx(min(1.0, 2.0 * esda_moran.p_sim))


def test_z_and_p_equal_all_permutations() -> None:
    """Mean and variance over all 40,320 orders of 8 values are the moments that z takes; p is near its exact value."""
    values = np.array([1.0, 2.0, 4.0, 3.0, 7.0, 9.0, 8.0, 30.0])
    graph = neighbour_graph(nearest_neighbours(np.stack([np.zeros(8), np.arange(8) * 1e-3], axis=1), 2))
    weights = graph.sparse.toarray()
    z = np.array(list(itertools.permutations(values - values.mean())))
    all_i = (z @ weights.T * z).sum(axis=1) / (z[0] @ z[0]) * 8 / weights.sum()
    moran = global_moran(values, graph, generator=generator(), permutations=9_999)
    assert moran is not None
    assert moran.expected == pytest.approx(all_i.mean())
    assert moran.z == pytest.approx((moran.i - all_i.mean()) / all_i.std())
    exact = 2.0 * min(np.mean(all_i >= moran.i - 1e-12), np.mean(all_i <= moran.i + 1e-12))
    assert moran.p == pytest.approx(exact, abs=4.0 * (exact / 9_999) ** 0.5)


def test_the_global_generator_is_restored_and_only_the_seed_matters() -> None:
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


def test_morans_i_is_scale_invariant() -> None:
    at, values = generator(1).uniform(0, 0.01, (50, 2)), generator(2).lognormal(3, 1, 50)
    graph = neighbour_graph(nearest_neighbours(at, 6))
    original, scaled = (global_moran(factor * values, graph, generator=generator()) for factor in (1.0, 1e200))
    assert original is not None
    assert scaled is not None
    assert (scaled.i, scaled.z, scaled.p) == pytest.approx((original.i, original.z, original.p), rel=1e-9)


def test_a_complete_graph_has_no_z() -> None:
    graph = neighbour_graph(nearest_neighbours(generator().uniform(0, 1e-2, (9, 2)), 8))
    moran = global_moran(generator(1).normal(size=9), graph, generator=generator())
    assert moran is not None
    assert moran.i == pytest.approx(-1.0 / 8.0)
    assert (moran.z, moran.p) == (None, 1.0)


@pytest.mark.parametrize(("n", "value"), [(7, None), (20, 3.3)])
def test_few_or_equal_values_have_no_statistic(n: int, value: float | None) -> None:
    graph = neighbour_graph(nearest_neighbours(generator().uniform(0, 1e-2, (n, 2)), 3))
    values = generator(1).normal(size=n) if value is None else np.full(n, value)
    assert global_moran(values, graph, generator=generator()) is None


def test_a_graph_without_neighbours_has_no_statistic() -> None:
    graph = neighbour_graph(nearest_neighbours(generator().uniform(0, 1, (20, 2)), 3, within_m=0.01))
    assert global_moran(np.arange(20.0), graph, generator=generator()) is None


def test_non_finite_values_are_refused() -> None:
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


def test_a_spatially_smooth_component_has_a_large_i() -> None:
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


positions = st.lists(st.tuples(st.floats(-90, 90), st.floats(-180, 180)), min_size=1, max_size=25)
lattice = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=25)


@given(positions, st.integers(1, 6))
def test_no_other_point_is_nearer_than_the_neighbours(points: list[tuple[float, float]], k: int) -> None:
    neighbours = nearest_neighbours(points, k)
    n = len(points)
    assert neighbours.shape == (n, min(k, n - 1))
    distance = pairwise_haversine_m(np.array(points), np.array(points))
    for i in range(n):
        chosen = neighbours[i].tolist()
        assert i not in chosen
        assert len(set(chosen)) == len(chosen)
        far = [distance[i, j] for j in chosen]
        assert far == pytest.approx(sorted(far), abs=1e-2)
        others = [distance[i, j] for j in range(n) if j != i and j not in chosen]
        # Chord and haversine differ by rounding, most at the antipode.
        assert not others or not far or min(others) >= max(far) - 1.0


@given(lattice, st.integers(1, 6))
def test_neighbours_at_one_position(points: list[tuple[int, int]], k: int) -> None:
    """With more points at one position than neighbours, no point is its own neighbour."""
    at = np.array(points, dtype=np.float64) * 1e-3
    neighbours = nearest_neighbours(at, k)
    distance = pairwise_haversine_m(at, at)
    for i, chosen in enumerate(neighbours.tolist()):
        assert i not in chosen
        assert len(set(chosen)) == len(chosen)
        expected = sorted(distance[i, j] for j in range(len(points)) if j != i)[: len(chosen)]
        assert [distance[i, j] for j in chosen] == pytest.approx(expected, abs=1e-3)


@given(lattice, st.integers(1, 4), st.sampled_from([1.0, 120.0, 170.0]))
def test_points_beyond_the_limit_are_no_neighbours(points: list[tuple[int, int]], k: int, within_m: float) -> None:
    at = np.array(points, dtype=np.float64) * 1e-3
    limited, free = nearest_neighbours(at, k, within_m), nearest_neighbours(at, k)
    for i, (limited_row, all_row) in enumerate(zip(limited.tolist(), free.tolist(), strict=True)):
        near = [j for j in all_row if haversine_m(*at[i], *at[j]) <= within_m]
        assert limited_row == near + [-1] * (len(all_row) - len(near))


def test_neighbours_across_the_antimeridian_and_the_pole() -> None:
    assert nearest_neighbours([[0.0, 179.9], [0.0, -179.9], [0.0, 170.0]], 1).tolist() == [[1], [0], [0]]
    assert nearest_neighbours([[89.9, 0.0], [89.9, 180.0], [80.0, 0.0]], 1).tolist() == [[1], [0], [0]]


def test_neighbours_of_one_point_and_of_none() -> None:
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


integers = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=30)


@given(st.integers(-5, 5), integers)
def test_two_sided_p_equals_counts(observed: int, drawn: list[float]) -> None:
    smaller = min(sum(t >= observed for t in drawn), sum(t <= observed for t in drawn))
    assert two_sided_p(observed, drawn) == min(1.0, 2 * (1 + smaller) / (len(drawn) + 1))


@given(st.integers(-5, 5), integers)
def test_two_sided_p_is_symmetric(observed: int, drawn: list[float]) -> None:
    assert two_sided_p(observed, drawn) == two_sided_p(-observed, [-t for t in drawn])


def test_two_sided_p_keeps_ties_up_to_rounding() -> None:
    assert two_sided_p(0.3, [0.1 + 0.2] * 99) == 1.0
    assert two_sided_p(0.1 + 0.2, [0.3] * 99) == 1.0


def test_two_sided_p_is_uniform_under_the_null() -> None:
    generator = np.random.default_rng(0)
    p_values = [two_sided_p(sample[0], sample[1:]) for sample in generator.normal(size=(2_000, 200))]
    assert kstest(p_values, "uniform").pvalue > 0.01


@given(hnp.arrays(np.float64, 12, elements=st.integers(-4, 4)), hnp.arrays(np.float64, 12, elements=st.integers(-4, 4)))
def test_spearman_equals_scipy(a: np.ndarray, b: np.ndarray) -> None:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        assert spearman(a, b) is None
    else:
        assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)


def test_spearman_of_a_textbook_example() -> None:
    """IQ and hours of television a week, the example of many textbooks: rho = -29 / 165."""
    iq = [106, 100, 86, 101, 99, 103, 97, 113, 112, 110]
    hours = [7, 27, 2, 50, 28, 29, 20, 12, 6, 17]
    assert spearman(iq, hours) == pytest.approx(-29 / 165)


@given(hnp.arrays(np.float64, st.integers(1, 20), elements=st.floats(allow_nan=False, allow_infinity=False)))
@example(np.array([0.0, 5e-324]))  # their mean underflows
@example(np.array([-1.7e308, 1.7e308]))  # their difference overflows
@example(np.array([1e-320, 3e-320, 7e-320]))
def test_unit_deviation_has_mean_0_and_length_1(values: np.ndarray) -> None:
    unit = unit_deviation(values)
    if unit is None:
        assert (values == values[0]).all()
    elif values.max() / 4.0 - values.min() / 4.0 > 1e-6 * np.abs(values).max():
        assert unit.mean() == pytest.approx(0.0, abs=1e-9)
        assert unit @ unit == pytest.approx(1.0)


def test_equal_values_have_no_ranks() -> None:
    assert centred_ranks([1.0]) is None
    assert centred_ranks([]) is None
    assert unit_deviation([0.1] * 7) is None
