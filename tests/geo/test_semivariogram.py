"""The semivariogram against nested loops, exact curves, a simulated field and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from swclip.errors import ConfigError, InputError
from swclip.geo.coordinates import LocalFrame, unit_vectors
from swclip.geo.distance import haversine_m
from swclip.geo.semivariogram import (
    EmpiricalSemivariogram,
    VariogramModel,
    empirical_semivariogram,
    fit_semivariogram,
)

MODELS: list[VariogramModel] = ["exponential", "spherical", "gaussian"]


def scattered(n: int, side_m: float, seed: int = 0, at: tuple[float, float] = (52.2, 0.12)) -> np.ndarray:
    metres = np.random.default_rng(seed).uniform(0.0, side_m, (n, 2))
    return LocalFrame(*at).to_deg(metres)


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("headed", [False, True])
def test_semivariogram_matches_nested_loops(headed: bool) -> None:
    rng = np.random.default_rng(3)
    positions, features = scattered(60, 300.0, seed=3), rng.normal(size=(60, 5))
    positions[:4] = positions[0]  # one place: these form no pairs
    heading = np.where(rng.random(60) < 0.2, np.nan, rng.uniform(0, 360, 60))
    empirical = empirical_semivariogram(
        positions,
        features,
        generator=generator(),
        max_lag_m=120.0,
        bins=6,
        min_pairs=1,
        heading_deg=heading if headed else None,
        heading_within_deg=40.0,
    )
    pairs = []
    for i in range(60):
        for j in range(i + 1, 60):
            distance = float(haversine_m(*map(np.float64, (*positions[i], *positions[j]))))
            turn = abs((heading[i] - heading[j] + 180.0) % 360.0 - 180.0)
            if 1.0 <= distance <= 120.0 and (not headed or turn <= 40.0):
                pairs.append((distance, 0.5 * sum((a - b) ** 2 for a, b in zip(features[i], features[j], strict=True))))
    assert empirical.pairs.sum() == len(pairs)
    nearest = min(distance for distance, _ in pairs)
    ratio = (120.0 / nearest) ** (1 / 6)
    for number in range(6):
        low, high = nearest * ratio**number, nearest * ratio ** (number + 1)
        inside = [pair for pair in pairs if (low < pair[0] or number == 0) and (pair[0] <= high or number == 5)]
        matching = np.flatnonzero((empirical.lag_m > low * (1 - 1e-9)) & (empirical.lag_m <= high))
        assert len(matching) == (1 if inside else 0)
        if inside:
            assert empirical.pairs[matching[0]] == len(inside)
            assert empirical.lag_m[matching[0]] == pytest.approx(np.mean([d for d, _ in inside]))
            assert empirical.gamma[matching[0]] == pytest.approx(np.mean([g for _, g in inside]))


def test_bins_with_few_pairs_are_joined() -> None:
    positions, features = scattered(80, 400.0), np.random.default_rng(1).normal(size=(80, 3))
    fine = empirical_semivariogram(positions, features, generator=generator(), bins=30, min_pairs=1)
    joined = empirical_semivariogram(positions, features, generator=generator(), bins=30, min_pairs=200)
    assert fine.pairs.min() < 200 <= joined.pairs.min()
    assert fine.pairs.sum() == joined.pairs.sum()
    assert (np.diff(joined.lag_m) > 0).all()
    assert (joined.gamma * joined.pairs).sum() == pytest.approx((fine.gamma * fine.pairs).sum())


def test_ignores_pairs_between_cities() -> None:
    cambridge, leeds = scattered(50, 300.0), scattered(50, 300.0, at=(53.8, -1.55))
    features = np.random.default_rng(2).normal(size=(100, 4))
    both = empirical_semivariogram(np.concatenate([cambridge, leeds]), features, generator=generator(), min_pairs=1)
    apart = [
        empirical_semivariogram(part, features[rows], generator=generator(), min_pairs=1).pairs.sum()
        for part, rows in ((cambridge, slice(0, 50)), (leeds, slice(50, 100)))
    ]
    assert both.pairs.sum() == sum(apart)


def test_max_pairs_is_an_unbiased_sample() -> None:
    positions, features = scattered(300, 500.0), np.random.default_rng(4).normal(size=(300, 8))
    full = empirical_semivariogram(positions, features, generator=generator())
    sampled = empirical_semivariogram(positions, features, generator=generator(), max_pairs=9_000)
    repeated = empirical_semivariogram(positions, features, generator=generator(), max_pairs=9_000)
    assert sampled.pairs.sum() < 9_000 < full.pairs.sum()
    np.testing.assert_array_equal(sampled.gamma, repeated.gamma)
    # Independent features: gamma is their variance summed over 8 dimensions, everywhere.
    assert np.average(sampled.gamma, weights=sampled.pairs) == pytest.approx(8.0, rel=0.06)
    assert np.average(full.gamma, weights=full.pairs) == pytest.approx(8.0, rel=0.03)


def test_semivariogram_of_a_linear_field_is_a_parabola() -> None:
    """f = x on a line: gamma(h) = h^2 / 2 exactly."""
    east = np.arange(101) * 5.0
    positions = LocalFrame(0.0, 30.0).to_deg(np.stack([east, np.zeros(101)], axis=1))
    empirical = empirical_semivariogram(positions, east[:, None], generator=generator(), bins=400, min_pairs=1)
    np.testing.assert_allclose(empirical.gamma[:30], empirical.lag_m[:30] ** 2 / 2.0, rtol=1e-3)


@given(seed=st.integers(0, 1000), angles=st.tuples(*[st.floats(0, 6.28)] * 3))
def test_semivariogram_is_invariant_to_rotations_of_the_sphere(seed: int, angles: tuple[float, float, float]) -> None:
    positions = scattered(40, 200.0, seed)
    features = np.random.default_rng(seed).normal(size=(40, 3))
    rotated_vectors = unit_vectors(positions) @ Rotation.from_euler("zyx", angles).as_matrix().T
    rotated_positions = np.degrees(
        np.stack(
            [
                np.arctan2(rotated_vectors[:, 2], np.hypot(rotated_vectors[:, 0], rotated_vectors[:, 1])),
                np.arctan2(rotated_vectors[:, 1], rotated_vectors[:, 0]),
            ],
            1,
        )
    )
    original = empirical_semivariogram(positions, features, generator=generator(), bins=4, min_pairs=1)
    rotated = empirical_semivariogram(rotated_positions, features, generator=generator(), bins=4, min_pairs=1)
    # A pair at the edge of a bin may change bins: one of hundreds.
    assert original.pairs.sum() == rotated.pairs.sum()
    np.testing.assert_allclose(original.lag_m, rotated.lag_m, rtol=0.02)
    np.testing.assert_allclose(original.gamma, rotated.gamma, rtol=0.05)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("position_m", [0.0, 5.0])
def test_fit_recovers_the_parameters_of_an_exact_curve(model: VariogramModel, position_m: float) -> None:
    lag = np.geomspace(2.0, 480.0, 14)
    u = lag / 70.0
    rise = {
        "exponential": 1 - np.exp(-u),
        "gaussian": 1 - np.exp(-(u**2)),
        "spherical": np.where(u < 1, 1.5 * u - 0.5 * u**3, 1.0),
    }[model]
    bins = EmpiricalSemivariogram(lag, 0.3 + 0.6 * rise, np.arange(50, 64), 500.0)
    fitted = fit_semivariogram(bins, model, position_m)
    assert (fitted.nugget, fitted.partial_sill, fitted.range_m) == pytest.approx((0.3, 0.6, 70.0), rel=1e-5)
    assert fitted.structured, fitted.statement
    assert fitted.r_squared == pytest.approx(1.0)
    np.testing.assert_allclose(fitted.gamma(lag), bins.gamma, rtol=1e-6)
    e = math.exp(-1)
    assert fitted.gamma(fitted.correlation_length_m) == pytest.approx(0.3 + 0.6 * (1 - e), rel=1e-5)
    share = 1.0 if model == "spherical" else 0.95
    assert fitted.gamma(fitted.practical_range_m) == pytest.approx(0.3 + 0.6 * share, rel=1e-5)


def test_fit_weights_near_pairs() -> None:
    """A falling curve has no range: the fit is the mean weighted by N / (h^2 + p^2)."""
    bins = EmpiricalSemivariogram(
        np.array([10.0, 20.0, 30.0, 40.0]), np.array([1.0, 0.9, 0.8, 0.7]), np.array([10, 20, 30, 40]), 50.0
    )
    fitted = fit_semivariogram(bins, "exponential", 5.0)
    weight = bins.pairs / (bins.lag_m**2 + 25.0)
    assert fitted.sill == pytest.approx((weight * bins.gamma).sum() / weight.sum())
    assert not fitted.structured


def test_fit_of_a_simulated_field_of_known_covariance() -> None:
    """64 independent Gaussian fields with C(d) = 0.7 exp(-d / 25 m) on 700 positions, and noise of variance 0.3."""
    rng = np.random.default_rng(11)
    positions = scattered(700, 600.0, seed=11)
    metres = LocalFrame.around(positions).to_xy_m(positions)
    distance = np.sqrt(((metres[:, None] - metres[None]) ** 2).sum(-1))
    root = np.linalg.cholesky(0.7 * np.exp(-distance / 25.0) + 0.3 * np.eye(700))
    fields = root @ rng.normal(size=(700, 64)) / 8.0  # a sum of 64 of variance 1/64
    empirical = empirical_semivariogram(positions, fields, generator=generator(), max_lag_m=300.0)
    fitted = fit_semivariogram(empirical)
    assert fitted.structured, fitted.statement
    assert fitted.range_m == pytest.approx(25.0, rel=0.15)
    assert fitted.nugget == pytest.approx(0.3, abs=0.06)
    assert fitted.sill == pytest.approx(1.0, abs=0.04)
    # Models agree better on the distance at which the correlation has fallen to 1/e than on their ranges.
    for model in MODELS[1:]:
        alternative = fit_semivariogram(empirical, model)
        assert alternative.correlation_length_m == pytest.approx(25.0, rel=0.35), model
        assert alternative.r_squared < fitted.r_squared


def _bins(gamma: np.ndarray, lag: np.ndarray | None = None) -> EmpiricalSemivariogram:
    lag = np.geomspace(5.0, 450.0, 12) if lag is None else lag
    return EmpiricalSemivariogram(lag, gamma, np.full(len(lag), 100), 500.0)


@pytest.mark.parametrize(
    ("gamma", "reason"),
    [
        (np.full(12, 0.8), "explains less than 20%"),
        (np.zeros(12), "explains less than 20%"),
        (np.linspace(1.0, 0.2, 12), "explains less than 20%"),
        (0.9 + 0.1 * (1 - np.exp(-np.geomspace(5.0, 450.0, 12) / 30.0)), "explains less than 20%"),
        (np.array([0.2, 1.4] * 6), "of the variation"),
        (np.geomspace(5.0, 450.0, 12) / 450.0, "is not reached within the longest lag"),
        (1.0 - 0.9 * np.exp(-np.geomspace(5.0, 450.0, 12) / 1.2), "differ at the shortest lag"),
        (np.ones(3), "only 3 bins"),
        (np.zeros(0), "only 0 bins"),
    ],
)
def test_reports_why_there_is_no_structure(gamma: np.ndarray, reason: str) -> None:
    fitted = fit_semivariogram(_bins(gamma, np.geomspace(5.0, 450.0, 12)[: len(gamma)]))
    assert not fitted.structured
    assert fitted.statement.startswith("no structure: ")
    assert reason in fitted.statement
    assert fitted.nugget >= 0.0
    assert fitted.partial_sill >= 0.0


def test_rejects_invalid_arguments() -> None:
    positions, features = scattered(5, 50.0), np.zeros((5, 2))
    with pytest.raises(InputError, match="5 positions and features of shape"):
        empirical_semivariogram(positions, features[:4], generator=generator())
    with pytest.raises(InputError, match="headings of shape"):
        empirical_semivariogram(positions, features, generator=generator(), heading_deg=[0.0])
    features[3, 1] = np.nan
    with pytest.raises(InputError, match="row 3"):
        empirical_semivariogram(positions, features, generator=generator())
    with pytest.raises(ConfigError, match="lags from 1"):
        empirical_semivariogram(positions, features[:, :1], generator=generator(), max_lag_m=0.5)
    with pytest.raises(ConfigError, match="bins 0"):
        empirical_semivariogram(positions, features[:, :1], generator=generator(), bins=0)
    with pytest.raises(ConfigError, match="choose one of"):
        fit_semivariogram(_bins(np.ones(12)), "cubic")  # type: ignore[arg-type]


def test_no_pairs_within_the_lags_give_no_bins() -> None:
    empirical = empirical_semivariogram([[0.0, 0.0], [1.0, 1.0]], np.eye(2), generator=generator())
    assert len(empirical.lag_m) == len(empirical.gamma) == len(empirical.pairs) == 0
