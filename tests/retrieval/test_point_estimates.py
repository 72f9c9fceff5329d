"""Point estimates: known medians, invariances, and the mode as a Bayes decision."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.calibration.posterior_config import PosteriorConfig
from swclip.errors import ConfigError
from swclip.geo.coordinates import LocalFrame
from swclip.geo.distance import geodesic_m, haversine_m
from swclip.geo.kernels import kernel_weight
from swclip.retrieval.point_estimates import argmax, estimators, geometric_median, mode, top_k

FRAME = LocalFrame(51.5, -0.1)


def _log(weights: list[float]) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.array([weights], dtype=np.float64) / np.sum(weights))


def _offset_m(found_deg: np.ndarray, x_m: float, y_m: float) -> float:
    return float(geodesic_m(found_deg, FRAME.to_deg([[x_m, y_m]]))[0])


@pytest.mark.parametrize(
    ("points", "weights", "expected"),
    [
        ([[0, 0], [100, 0], [100, 100], [0, 100]], [1, 1, 1, 1], [50, 50]),  # the diagonals' crossing
        ([[0, 0], [10, 0], [100, 0]], [1, 1, 1], [10, 0]),  # on a line: the middle one
        ([[0, 0], [100, 0], [0, 100]], [3, 1, 1], [0, 0]),  # more than half of the weight holds it
        ([[0, 0], [200, 0], [100, 100 * 3**0.5]], [1, 1, 1], [100, 100 / 3**0.5]),  # Fermat's point, equilateral
        ([[0, 0], [100, 0], [-50, 1], [50, -1]], [1, 0, 0, 0], [0, 0]),  # one candidate holds everything
    ],
)
def test_geometric_median_of_known_points(
    points: list[list[float]], weights: list[float], expected: list[float]
) -> None:
    result = geometric_median(_log(weights), FRAME.to_deg(points), top_mass=1.0)
    assert _offset_m(result, *expected) < 0.5


def test_a_median_at_a_point_is_exact() -> None:
    """Two unit directions at right angles, 0.7 each, pull with 0.99; the point holds with 1."""
    result = geometric_median(_log([1.0, 0.7, 0.7]), FRAME.to_deg([[0, 0], [100, 0], [0, 100]]), top_mass=1.0)
    assert _offset_m(result, 0, 0) < 1e-3


def test_geometric_median_is_the_least_expected_distance() -> None:
    generator = np.random.default_rng(3)
    places, weights = FRAME.to_deg(generator.normal(0, 200, (40, 2))), generator.exponential(size=40)
    result = geometric_median(_log(list(weights)), places, top_mass=1.0)[0]

    def cost(lat: float, lon: float) -> float:
        return float(weights @ haversine_m(places[:, 0], places[:, 1], np.float64(lat), np.float64(lon)))

    around = FRAME.to_xy_m(result[None])[0]
    for step in (1.0, 20.0):
        for angle in np.linspace(0, 2 * np.pi, 12):
            lat, lon = FRAME.to_deg([around + step * np.array([np.cos(angle), np.sin(angle)])])[0]
            assert cost(*result) <= cost(lat, lon) + 1e-3


def test_geometric_median_uses_only_the_top_mass() -> None:
    places = FRAME.to_deg([[0, 0], [10, 0], [5000, 0]])
    near = geometric_median(_log([50, 45, 5]), places, top_mass=0.9)
    assert _offset_m(near, 0, 0) < 0.5
    with pytest.raises(ConfigError, match="top_mass"):
        geometric_median(_log([1, 1, 1]), places, top_mass=0.0)


@given(seed=st.integers(0, 2**31), data=st.data())
@settings(max_examples=30, deadline=None)
def test_estimates_do_not_depend_on_the_order_of_candidates(seed: int, data: st.DataObject) -> None:
    generator = np.random.default_rng(seed)
    places, scores = FRAME.to_deg(generator.normal(0, 100, (15, 2))), generator.normal(0, 2, (2, 15))
    log_p = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    order = np.array(data.draw(st.permutations(range(15))))
    for estimate in estimators(PosteriorConfig(smoothing_m=30.0)).values():
        apart = geodesic_m(estimate(log_p, places), estimate(log_p[:, order], places[order]))
        assert apart.max() < 0.05


@given(seed=st.integers(0, 2**31), turn_deg=st.floats(-180, 180), lat_deg=st.sampled_from([0.0, 51.5, -33.0, 89.999]))
@settings(max_examples=40, deadline=None)
def test_estimates_rotate_with_the_earth(seed: int, turn_deg: float, lat_deg: float) -> None:
    """Also across the antimeridian, and near the pole."""
    generator = np.random.default_rng(seed)
    places = LocalFrame(lat_deg, 0.0).to_deg(generator.normal(0, 30, (12, 2)))
    log_p = np.log(generator.dirichlet(np.ones(12), size=2))
    turned = np.stack([places[:, 0], (places[:, 1] + turn_deg + 180) % 360 - 180], axis=1)
    for estimate in estimators(PosteriorConfig(smoothing_m=25.0)).values():
        before, after = estimate(log_p, places), estimate(log_p, turned)
        before = np.stack([before[:, 0], (before[:, 1] + turn_deg + 180) % 360 - 180], axis=1)
        assert geodesic_m(before, after).max() < 0.05


def test_mode_prefers_a_street_of_small_masses_to_a_single_larger_one() -> None:
    places = FRAME.to_deg([[0, 0], [500, 0], [510, 0], [520, 0]])
    log_p = _log([0.34, 0.2, 0.26, 0.2])
    assert _offset_m(argmax(log_p, places), 0, 0) < 0.1
    assert _offset_m(mode(log_p, places, smoothing_m=20.0), 510, 0) < 0.1
    assert _offset_m(mode(log_p, places, smoothing_m=0.0), 0, 0) < 0.1


@pytest.mark.parametrize("kernel", ["gaussian", "bisquare"])
def test_mode_is_the_candidate_of_the_greatest_expected_kernel(kernel: str) -> None:
    generator = np.random.default_rng(5)
    places = FRAME.to_deg(generator.normal(0, 60, (25, 2)))
    p = generator.dirichlet(np.ones(25), size=6)
    result = mode(np.log(p), places, 20.0, kernel)
    for masses, answer in zip(p, result, strict=True):
        gain = []
        for place in places:
            distance = haversine_m(places[:, 0], places[:, 1], place[0], place[1])
            gain.append(
                sum(w * kernel_weight(d, 20.0, kernel) for w, d in zip(masses, distance, strict=True) if d <= 80)
            )
        np.testing.assert_array_equal(answer, places[int(np.argmax(gain))])


@given(seed=st.integers(0, 2**31), k=st.integers(1, 12), levels=st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_top_k_equals_a_sort_also_with_ties(seed: int, k: int, levels: int) -> None:
    scores = np.random.default_rng(seed).integers(0, levels, (4, 9)).astype(np.float64)
    for row, result in zip(scores, top_k(scores, k), strict=True):
        assert result.tolist() == sorted(range(9), key=lambda m: (-row[m], m))[:k]
