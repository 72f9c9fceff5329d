"""Oracle error, constant baseline and random baseline against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.errors import InputError
from swclip.geo.distance import geodesic_m
from swclip.metrics.baselines import baselines, geometric_median_deg, oracle_error_m


def random_positions(generator: np.random.Generator, count: int, spread_deg: float = 0.01) -> np.ndarray:
    return np.array([53.8, -1.55]) + generator.normal(0, spread_deg, (count, 2))


def test_the_oracle_error_is_0_where_the_gallery_contains_the_truth() -> None:
    positions = random_positions(np.random.default_rng(0), 50)
    assert oracle_error_m(positions[::3], positions).max() == 0.0


@pytest.mark.parametrize("spread_deg", [0.01, 20.0])
def test_the_oracle_error_is_the_smallest_geodesic_distance(spread_deg: float) -> None:
    generator = np.random.default_rng(1)
    truth, candidates = random_positions(generator, 20, spread_deg), random_positions(generator, 200, spread_deg)
    expected = [min(geodesic_m(np.tile(query, (200, 1)), candidates)) for query in truth]
    np.testing.assert_allclose(oracle_error_m(truth, candidates), expected, rtol=1e-12)


def test_no_answer_that_is_a_candidate_is_below_the_oracle_error() -> None:
    generator = np.random.default_rng(2)
    truth, candidates = random_positions(generator, 40), random_positions(generator, 60)
    oracle_m = oracle_error_m(truth, candidates)
    for _ in range(20):
        answer = candidates[generator.integers(60, size=40)]
        assert (geodesic_m(truth, answer) >= oracle_m - 1e-9).all()


def test_the_geometric_median_has_the_least_mean_distance() -> None:
    generator = np.random.default_rng(3)
    positions = np.concatenate([random_positions(generator, 30), random_positions(generator, 9) + 0.2])
    median = geometric_median_deg(positions)

    def cost(point: np.ndarray) -> float:
        return float(geodesic_m(positions, np.tile(point, (len(positions), 1))).mean())

    best = cost(median)
    for step in (1e-4, 1e-3, 1e-2):
        for direction in np.array([[1, 0], [-1, 0], [0, 1], [0, -1], [1, 1], [-1, 1]]):
            assert cost(median + step * direction) > best - 0.01


def test_the_geometric_median_stays_on_a_point_that_outweighs_the_others() -> None:
    heavy = np.tile([[52.0, 0.1]], (6, 1))
    others = np.array([[52.1, 0.1], [52.0, 0.3], [51.9, 0.0]])
    np.testing.assert_allclose(geometric_median_deg(np.concatenate([others, heavy])), [52.0, 0.1], atol=1e-7)


def test_the_geometric_median_across_the_antimeridian() -> None:
    lat, lon = geometric_median_deg([[0.0, 179.9], [0.0, -179.9], [0.0, 180.0]])
    assert abs(lat) < 1e-9
    assert abs(abs(lon) - 180.0) < 1e-6


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_the_baselines_do_not_depend_on_the_order_of_queries_and_candidates(seed: int) -> None:
    generator = np.random.default_rng(seed)
    truth, candidates, training = (random_positions(generator, count) for count in (15, 25, 30))
    figures, oracle_m = baselines(truth, candidates, training, np.random.default_rng(0), draws=2)
    order = generator.permutation(15)
    moved, moved_oracle_m = baselines(
        truth[order],
        candidates[generator.permutation(25)],
        training[generator.permutation(30)],
        np.random.default_rng(0),
        draws=2,
    )
    np.testing.assert_allclose(moved_oracle_m, oracle_m[order], rtol=1e-12)
    assert moved.floor.mean == pytest.approx(figures.floor.mean, rel=1e-9)
    assert moved.floor.accuracy_within_m == figures.floor.accuracy_within_m
    assert moved.constant.median == pytest.approx(figures.constant.median, abs=1e-3)


def test_the_random_baseline_is_the_mean_of_all_pairs() -> None:
    generator = np.random.default_rng(5)
    truth, candidates = random_positions(generator, 30), random_positions(generator, 40)
    figures, _ = baselines(truth, candidates, truth, np.random.default_rng(0), draws=400)
    expected = np.mean([geodesic_m(np.tile(query, (40, 1)), candidates).mean() for query in truth])
    assert figures.random.mean == pytest.approx(expected, rel=0.02)


def test_without_training_positions_the_constant_baseline_uses_the_candidates() -> None:
    candidates = np.array([[52.0, 0.1]] * 3)
    figures, _ = baselines([[52.0, 0.1]], candidates, np.zeros((0, 2)), np.random.default_rng(0), draws=1)
    assert figures.constant.median == pytest.approx(0.0, abs=1e-4)


def test_an_empty_gallery_is_refused() -> None:
    with pytest.raises(InputError, match="no candidates"):
        oracle_error_m([[0.0, 0.0]], np.zeros((0, 2)))
