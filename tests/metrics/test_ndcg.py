"""nDCG and GeoScore against published examples, loops and invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swclip.errors import ConfigError, InputError
from swclip.metrics.ndcg import geoscore, geoscore_by_query, ndcg_at_k, ndcg_by_query, relevance_gain

distances = st.lists(st.floats(0, 500), min_size=1, max_size=30)


def ndcg_loop(top: list[float], gallery: list[float], k: int) -> float:
    ideal = sorted(gallery, reverse=True)
    dcg = sum(gain / math.log2(rank + 1) for rank, gain in enumerate(top[:k], start=1))
    best = sum(gain / math.log2(rank + 1) for rank, gain in enumerate(ideal[:k], start=1))
    return dcg / best if best else 0.0


def test_a_textbook_example() -> None:
    """Relevance 3 2 3 0 1 2 of six documents, with one of 3 and one of 2 not retrieved: DCG 6.861, ideal 8.740."""
    top, ideal = [[3.0, 2.0, 3.0, 0.0, 1.0, 2.0]], [[3.0, 3.0, 3.0, 2.0, 2.0, 2.0]]
    assert ndcg_by_query(top, ideal, 6)[0] == pytest.approx(6.861 / 8.740, abs=1e-4)
    assert ndcg_at_k(top, ideal, ks=(6,))["6"] == pytest.approx(0.785, abs=5e-4)


@given(distances, st.data())
def test_ndcg_equals_a_loop(distance: list[float], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(distance))))
    gains = [math.exp(-d / 25.0) for d in distance]
    top = relevance_gain([[distance[at] for at in order]])
    ideal = relevance_gain([sorted(distance)])
    for k, value in ndcg_at_k(top, ideal).items():
        assert value == pytest.approx(ndcg_loop([gains[at] for at in order], gains, int(k)), abs=1e-12)
        assert 0.0 <= value <= 1.0


@given(distances)
def test_ranking_by_distance_is_perfect(distance: list[float]) -> None:
    gain = relevance_gain([sorted(distance)])
    assert set(ndcg_at_k(gain, gain).values()) == {1.0}


@given(st.lists(st.floats(0, 500), min_size=2, max_size=20, unique=True), st.data())
def test_swapping_the_nearer_candidate_up_never_lowers_ndcg(distance: list[float], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(distance) - 2))
    better = list(distance)
    better[at], better[at + 1] = sorted(distance[at : at + 2])
    ideal = relevance_gain([sorted(distance)])
    original, swapped = (ndcg_by_query(relevance_gain([ranking]), ideal, 20)[0] for ranking in (distance, better))
    assert swapped >= original - 1e-12


def test_a_query_without_near_candidates_scores_0() -> None:
    far = relevance_gain([[30_000.0, 40_000.0]])  # exp underflows
    assert ndcg_by_query(far, far, 2).tolist() == [0.0]
    near = relevance_gain([[0.0, 10.0]])
    assert ndcg_at_k(np.vstack([far, near]), np.vstack([far, near]), ks=(2,)) == {"2": 0.5}


def test_a_gallery_smaller_than_the_list() -> None:
    assert ndcg_at_k([[0.2]], [[0.2]]) == {"1": 1.0, "5": 1.0, "10": 1.0, "20": 1.0}


def test_ideal_gains_below_the_ranking_are_refused() -> None:
    with pytest.raises(InputError, match=r"query 1: the DCG of its first 1 candidates is 1\.0"):
        ndcg_by_query([[0.5], [1.0]], [[0.5], [0.9]], 1)


@pytest.mark.parametrize(
    ("top", "ideal", "message"),
    [
        ([[0.5, 0.1]], [[0.5]], "same shape"),
        ([0.5], [0.5], "same shape"),
        ([[-0.5]], [[0.5]], "query 0: gain -0.5 of its candidates"),
        ([[0.5]], [[math.nan]], "query 0: gain nan of its nearest candidates"),
        (np.zeros((0, 3)), np.zeros((0, 3)), "no queries"),
    ],
)
def test_invalid_gains_are_refused(top: object, ideal: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ndcg_at_k(top, ideal)  # type: ignore[arg-type]


def test_a_list_of_no_candidates_is_refused() -> None:
    with pytest.raises(InputError, match="k is 0"):
        ndcg_by_query([[1.0]], [[1.0]], 0)


def test_gains_equal_the_kernel() -> None:
    assert relevance_gain(25.0) == pytest.approx(math.exp(-1.0))
    assert relevance_gain([[0.0, 50.0]], bandwidth_m=50.0, kernel="gaussian")[0] == pytest.approx([1, math.exp(-0.5)])
    assert relevance_gain(np.zeros((3, 0))).shape == (3, 0)
    with pytest.raises(InputError, match=r"-1\.0 m is not a distance"):
        relevance_gain([-1.0])
    with pytest.raises(ConfigError):
        relevance_gain([1.0], bandwidth_m=0.0)


def test_geoscore_by_the_formula() -> None:
    assert geoscore([0.0]) == 5000.0
    half_way_m = 1_492_700.0 * math.log(2.0)
    assert geoscore_by_query([half_way_m, 2.0 * half_way_m]) == pytest.approx([2500.0, 1250.0])
    assert geoscore([0.0, half_way_m]) == pytest.approx(3750.0)


@given(st.lists(st.floats(0, 2e7), min_size=1, max_size=20))
def test_geoscore_equals_a_loop(errors: list[float]) -> None:
    expected = sum(5000.0 * math.exp(-error / 1000.0 / 1492.7) for error in errors) / len(errors)
    assert geoscore(errors) == pytest.approx(expected, rel=1e-12)


def test_geoscore_of_invalid_distances_is_refused() -> None:
    with pytest.raises(InputError):
        geoscore([math.nan])
