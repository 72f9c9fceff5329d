"""Each figure against examples by hand and plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from swclip.errors import InputError
from swclip.metrics.localization_error import (
    ACCURACY_RADII_M,
    accuracy_within,
    city_alignment_at_k,
    error_statistics,
    first_hit_rank,
    mean_reciprocal_rank,
    recall_at_k,
)

errors = hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(0, 2e7, allow_nan=False))


def percentile_loop(values: list[float], percent: float) -> float:
    ordered = sorted(values)
    at = (len(ordered) - 1) * percent / 100.0
    low, high = math.floor(at), math.ceil(at)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def test_error_statistics_by_hand() -> None:
    statistics = error_statistics([float(value) for value in range(1, 41)])  # 1, 2, ..., 40
    assert statistics["median"] == 20.5
    assert statistics["mean"] == 20.5
    assert statistics["p75"] == 30.25
    assert statistics["p90"] == pytest.approx(36.1)
    assert statistics["worst5_mean"] == 39.5  # the two largest of forty


@given(errors)
def test_error_statistics_equal_loops(error: np.ndarray) -> None:
    statistics = error_statistics(error)
    values = error.tolist()
    for name, percent in {"median": 50, "p75": 75, "p90": 90, "p95": 95, "p99": 99}.items():
        assert statistics[name] == pytest.approx(percentile_loop(values, percent), rel=1e-12, abs=1e-9)
    assert statistics["mean"] == pytest.approx(math.fsum(values) / len(values), rel=1e-12, abs=1e-9)
    worst = sorted(values)[-math.ceil(len(values) / 20) :]
    assert statistics["worst5_mean"] == pytest.approx(math.fsum(worst) / len(worst), rel=1e-12, abs=1e-9)


@given(errors, st.randoms(use_true_random=False))
def test_statistics_are_invariant_to_the_order_of_queries(error: np.ndarray, random: object) -> None:
    shuffled = error.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert error_statistics(shuffled) == pytest.approx(error_statistics(error), rel=1e-12)
    assert accuracy_within(shuffled) == accuracy_within(error)


@given(errors)
def test_accuracy_equals_a_count_and_is_monotone(error: np.ndarray) -> None:
    accuracy = accuracy_within(error)
    for radius in ACCURACY_RADII_M:
        assert accuracy[str(radius)] == sum(1 for value in error if value <= radius) / len(error)
    assert list(accuracy.values()) == sorted(accuracy.values())


def test_accuracy_includes_the_radius() -> None:
    assert accuracy_within([25.0, 25.000001], radii_m=(25,)) == {"25": 0.5}


@pytest.mark.parametrize("bad", [[], [float("nan")], [1.0, float("inf")], [-1.0]])
def test_invalid_distances_are_refused(bad: list[float]) -> None:
    with pytest.raises(InputError):
        error_statistics(bad)
    with pytest.raises(InputError):
        accuracy_within(bad)


def rank_loop(scores: list[float], hits: set[int]) -> int:
    """Rank of the first hit in the worst order of ties."""
    if not hits:
        return 0
    order = sorted(range(len(scores)), key=lambda index: (-scores[index], index in hits))
    return next(place for place, index in enumerate(order, start=1) if index in hits)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.data())
def test_first_hit_rank_equals_a_sorted_list(scores: list[int], data: st.DataObject) -> None:
    hits = data.draw(st.sets(st.integers(0, len(scores) - 1)))
    as_floats = [float(score) for score in scores]
    assert first_hit_rank(as_floats, sorted(hits)) == rank_loop(as_floats, hits)


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=12), st.data())
def test_first_hit_rank_is_invariant_to_the_order_of_candidates(scores: list[int], data: st.DataObject) -> None:
    hits = data.draw(st.sets(st.integers(0, len(scores) - 1)))
    order = data.draw(st.permutations(range(len(scores))))
    moved = [float(scores[index]) for index in order]
    assert first_hit_rank([float(score) for score in scores], sorted(hits)) == first_hit_rank(
        moved, [place for place, index in enumerate(order) if index in hits]
    )


def test_constant_scores_rank_last() -> None:
    assert first_hit_rank([0.5] * 100, [7]) == 100


@given(st.lists(st.integers(0, 30), min_size=1, max_size=50))
def test_recall_and_reciprocal_rank_equal_loops(ranks: list[int]) -> None:
    recall = recall_at_k(ranks)
    for k in (1, 5, 10, 20):
        assert recall[str(k)] == sum(1 for rank in ranks if 1 <= rank <= k) / len(ranks)
    expected = sum(1.0 / rank for rank in ranks if rank) / len(ranks)
    assert mean_reciprocal_rank(ranks) == pytest.approx(expected)


def test_city_alignment_by_hand() -> None:
    queries = ["York", "Leeds", None]
    top = [["York", "Leeds", "York", None], ["York", "York", "Leeds", "Leeds"], ["York"] * 4]
    assert city_alignment_at_k(queries, top, ks=(1, 2, 4)) == {"1": 0.5, "2": 0.25, "4": 0.5}
    assert city_alignment_at_k([None], [["York"]]) is None


def test_city_alignment_of_a_gallery_shorter_than_k() -> None:
    assert city_alignment_at_k(["York"], [["York", "Leeds"]], ks=(1, 20)) == {"1": 1.0, "20": 0.5}
