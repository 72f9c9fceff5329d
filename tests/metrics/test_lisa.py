"""Local Moran's I against esda, all possible draws, published values, and data without clusters."""

from __future__ import annotations

import itertools
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from esda import Moran_Local
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from swclip.errors import InputError
from swclip.metrics.lisa import LABELS, conditional_p, local_moran
from swclip.metrics.morans_i import nearest_neighbours, neighbour_graph

COLUMBUS = json.loads(Path(__file__).with_name("columbus.json").read_text())


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def standard(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std()


def padded(lists: list[list[int]]) -> np.ndarray:
    width = max(map(len, lists))
    return np.array([row + [-1] * (width - len(row)) for row in lists])


def esda_local(values: np.ndarray, neighbours: np.ndarray, permutations: int) -> Moran_Local:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Moran_Local(values, neighbour_graph(neighbours), permutations=permutations, seed=1)


def test_local_moran_of_crime_in_columbus() -> None:
    """The local values sum to the global I (R, spdep: sum(localmoran(...)[, "Ii"]) / Szero = 0.5001886)."""
    lisa = local_moran(COLUMBUS["crime"], padded(COLUMBUS["queen"]), generator=generator())
    assert lisa is not None
    # spdep divides by n, esda by n - 1.
    assert lisa.local_i.sum() / 48 == pytest.approx(0.5001886, abs=5e-8)
    esda_lisa = esda_local(np.array(COLUMBUS["crime"]), padded(COLUMBUS["queen"]), 9_999)
    assert lisa.local_i == pytest.approx(esda_lisa.Is)
    assert lisa.p == pytest.approx(2.0 * esda_lisa.p_sim, abs=0.03)
    assert np.abs(lisa.p - np.minimum(1.0, 2.0 * esda_lisa.p_sim)).mean() < 0.01


@given(hnp.arrays(np.float64, (14, 2), elements=st.integers(0, 3)), st.integers(1, 5), st.data())
def test_local_values_and_quadrants_equal_loops(at: np.ndarray, k: int, data: st.DataObject) -> None:
    values = data.draw(hnp.arrays(np.float64, 14, elements=st.integers(0, 50)))
    neighbours = nearest_neighbours(at * 1e-3, k)
    lisa = local_moran(values, neighbours, generator=generator(), permutations=39, alpha=1.0)
    if np.ptp(values) == 0.0:
        assert lisa is None
        return
    assert lisa is not None
    z = (values - values.mean()).tolist()
    for i, row in enumerate(neighbours.tolist()):
        lag = sum(z[j] for j in row) / len(row)
        assert lisa.local_i[i] == pytest.approx(13 * z[i] * lag / sum(focal * focal for focal in z), abs=1e-9)
        focal, others = ("high" if focal > 1e-9 else "low" if focal < -1e-9 else "" for focal in (z[i], lag))
        if focal and others:  # at alpha 1 all are significant
            assert lisa.labels[i] == f"{focal}-{others}"


def exact_p(z: np.ndarray, neighbours: np.ndarray, i: int) -> float:
    row = [j for j in neighbours[i] if j >= 0]
    others = [z[j] for j in range(len(z)) if j != i]
    observed = np.mean(z[row])
    all_means = np.array([np.mean(drawn) for drawn in itertools.combinations(others, len(row))])
    return 2.0 * min(np.mean(all_means >= observed - 1e-10), np.mean(all_means <= observed + 1e-10))


@pytest.mark.parametrize("ties", [False, True])
def test_p_equals_all_draws(ties: bool) -> None:
    """All possible sets of neighbours, for points with 1 to 3 neighbours, including the first and the last."""
    values = generator(4).lognormal(2, 1, 11)
    if ties:
        values = np.floor(values / 8.0)
    z = standard(values)
    neighbours = nearest_neighbours(generator(5).uniform(0, 1e-2, (11, 2)), 3)
    neighbours[4, 1:] = -1
    neighbours[7, 2:] = -1
    p = conditional_p(z, neighbours, generator=generator(6), permutations=39_999)
    for i in range(11):
        exact = min(1.0, exact_p(z, neighbours, i))
        assert p[i] == pytest.approx(exact, abs=0.012)


def test_p_in_chunks_equals_p_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    z = standard(generator(1).lognormal(2, 1, 300))
    neighbours = nearest_neighbours(generator(2).uniform(0, 1e-2, (300, 2)), 6)
    neighbours[::7, 3:] = -1
    at_once = conditional_p(z, neighbours, generator=generator(3), permutations=999)
    monkeypatch.setattr("swclip.metrics.lisa._DRAWS_AT_ONCE", 5_000)
    assert conditional_p(z, neighbours, generator=generator(3), permutations=999).tolist() == at_once.tolist()


def test_p_of_continuous_values_equals_esda() -> None:
    """With 4,999 draws each, p differs by at most 0.01 near 5 %, almost always."""
    values = generator(1).lognormal(2, 1, 250)
    neighbours = nearest_neighbours(generator(2).uniform(0, 1e-2, (250, 2)), 8)
    p_values = conditional_p(standard(values), neighbours, generator=generator(3), permutations=4_999)
    esda_lisa = np.minimum(1.0, 2.0 * esda_local(values, neighbours, 4_999).p_sim)
    assert np.abs(p_values - esda_lisa).max() < 0.08
    tail = esda_lisa < 0.1
    assert np.abs(p_values - esda_lisa)[tail].max() < 0.02


def test_ties_are_not_significant() -> None:
    """With almost all errors 0, neighbours of 0 around a large error are expected, not an outlier."""
    values = np.zeros(120)
    values[::20] = 5.0
    neighbours = nearest_neighbours(np.stack([np.zeros(120), np.arange(120) * 1e-3], axis=1), 8)
    lisa = local_moran(values, neighbours, generator=generator())
    assert lisa is not None
    assert lisa.p[20] > 0.5
    assert set(lisa.labels) == {"not significant"}


def test_random_data_have_few_clusters() -> None:
    """With the correction, random data have a cluster in about one case of twenty, not in almost all."""
    with_cluster = uncorrected = 0
    for seed in range(40):
        neighbours = nearest_neighbours(generator(seed).uniform(0, 1e-2, (100, 2)), 6)
        values = generator(100 + seed).lognormal(2, 1, 100)
        lisa = local_moran(values, neighbours, generator=generator(seed), permutations=1_999)
        assert lisa is not None
        with_cluster += lisa.threshold is not None
        uncorrected += bool((lisa.p <= 0.05).any())
    assert with_cluster <= 8
    assert uncorrected >= 30


def test_a_cluster_of_large_errors() -> None:
    at = np.indices((20, 20)).reshape(2, -1).T * 1e-3
    in_cluster = (at < 6e-3).all(axis=1)
    values = generator(1).normal(3.0, 0.3, 400) + 3.0 * in_cluster
    values[200] = 6.0  # a single outlier
    lisa = local_moran(values, nearest_neighbours(at, 8), generator=generator())
    assert lisa is not None
    counts = lisa.counts()
    assert list(counts) == list(LABELS)
    assert sum(counts.values()) == 400
    inner = (at < 5e-3).all(axis=1)
    assert {lisa.labels[i] for i in np.flatnonzero(inner)} == {"high-high"}
    assert lisa.threshold is not None
    assert lisa.p[inner].max() <= lisa.threshold <= 0.05
    assert all((label == LABELS[-1]) == (p > lisa.threshold) for label, p in zip(lisa.labels, lisa.p, strict=True))


def test_a_point_without_neighbours_has_no_label() -> None:
    at = np.vstack([generator().uniform(0, 1e-2, (30, 2)), [[50.0, 50.0]]])
    lisa = local_moran(generator(1).normal(size=31), nearest_neighbours(at, 4, within_m=5_000), generator=generator())
    assert lisa is not None
    assert lisa.labels[30] is None
    assert np.isnan(lisa.p[30])
    assert lisa.local_i[30] == 0.0
    assert not np.isnan(lisa.p[:30]).any()
    assert sum(lisa.counts().values()) == 30


def test_only_the_generator_matters() -> None:
    neighbours = nearest_neighbours(generator().uniform(0, 1e-2, (50, 2)), 6)
    values = generator(1).lognormal(2, 1, 50)
    np.random.seed(11)  # noqa: NPY002
    expected = np.random.random(3)  # noqa: NPY002
    filters = list(warnings.filters)
    np.random.seed(11)  # noqa: NPY002
    first, again, other = (local_moran(values, neighbours, generator=generator(seed)) for seed in (2, 2, 3))
    assert np.random.random(3).tolist() == expected.tolist()  # noqa: NPY002
    assert warnings.filters == filters
    assert first is not None
    assert again is not None
    assert other is not None
    assert first.p.tolist() == again.p.tolist() != other.p.tolist()


@pytest.mark.parametrize(("n", "value"), [(7, None), (20, 3.3)])
def test_few_or_equal_values_have_no_statistic(n: int, value: float | None) -> None:
    values = generator(1).normal(size=n) if value is None else np.full(n, value)
    neighbours = nearest_neighbours(generator().uniform(0, 1e-2, (n, 2)), 3)
    assert local_moran(values, neighbours, generator=generator()) is None
    assert local_moran(np.arange(9.0), np.full((9, 3), -1), generator=generator()) is None


def test_non_finite_values_are_refused() -> None:
    neighbours = nearest_neighbours(generator().uniform(0, 1e-2, (9, 2)), 3)
    with pytest.raises(InputError, match="row 2: inf"):
        local_moran([0.0, 1.0, np.inf, *range(6)], neighbours, generator=generator())
