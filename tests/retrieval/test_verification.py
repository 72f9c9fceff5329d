"""Verification: what it changes of a posterior and what it keeps, when it is fitted, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.calibration.conformal import Calibration
from swclip.calibration.posterior_config import PosteriorConfig
from swclip.errors import ArtefactError, ConfigError, MismatchError
from swclip.gallery.gallery import Gallery
from swclip.models.photograph_vectors import PhotographVectors
from swclip.retrieval.evidence import Evidence
from swclip.retrieval.pooling import combine_evidence
from swclip.retrieval.posterior import log_posterior
from swclip.retrieval.posterior_fit import fit_posterior
from swclip.retrieval.prior import Prior
from swclip.retrieval.scores import Photographed, log_probability
from swclip.retrieval.verification import Verified, log_factors, with_verification
from swclip.retrieval.verification_fit import fit_verification

Make = Callable[..., Gallery]
PLAIN = PosteriorConfig(0.1, 0.07, 0.4, smoothing_m=50.0)
VERIFIED = replace(PLAIN, verified_candidates=6, verified_temperature=0.2, balanced=PLAIN)


class Table:
    """A verifier with a similarity for each query and photograph; NaN where a photograph is missing in it."""

    def __init__(self, similarity: dict[tuple[Any, str], float]) -> None:
        self.similarity = similarity
        self.compared: list[tuple[Any, str]] = []

    def compare(self, query: Any, image_ids: Sequence[str]) -> np.ndarray:
        self.compared += [(query, name) for name in image_ids]
        return np.array([self.similarity.get((query, name), np.nan) for name in image_ids])


def verifiable(gallery: Gallery, queries: np.ndarray, seed: int = 0) -> tuple[Gallery, PhotographVectors]:
    """A gallery with a similarity for most of its photographs."""
    generator = np.random.default_rng(seed)
    table = {
        (row, name): float(generator.uniform(0.2, 0.8))
        for row in range(len(queries))
        for name in gallery.image_ids
        if generator.random() < 0.8
    }
    return replace(gallery, verifier=Table(table)), PhotographVectors(queries, details=tuple(range(len(queries))))


def by_loops(log_p: np.ndarray, gallery: Gallery, query: int, count: int, temperature: float) -> np.ndarray:
    """The formula of `swclip.retrieval.verification`, candidate by candidate."""
    best = sorted(range(len(log_p)), key=lambda row: (-log_p[row], row))[:count]
    similarity = {}
    for row in best:
        known = [
            gallery.verifier.similarity[query, name]  # type: ignore[union-attr]
            for name in gallery.image_ids_of(row)
            if (query, name) in gallery.verifier.similarity  # type: ignore[union-attr]
        ]
        if known:
            similarity[row] = max(known)
    p = np.exp(log_p)
    if not similarity:
        return p
    mean = sum(similarity.values()) / len(similarity)
    weighted = {row: p[row] * np.exp(similarity.get(row, mean) / temperature) for row in best}
    scale = sum(p[row] for row in best) / sum(weighted.values())
    for row, value in weighted.items():
        p[row] = value * scale
    return p


@given(seed=st.integers(0, 10_000), count=st.integers(1, 40), temperature=st.floats(0.01, 3.0))
@settings(max_examples=40, deadline=None)
def test_a_verified_posterior_is_the_formula(
    make_gallery: Make, make_queries: Callable[..., np.ndarray], seed: int, count: int, temperature: float
) -> None:
    queries = make_queries(seed, 3)
    gallery, vectors = verifiable(make_gallery(seed), queries, seed)
    config = replace(PLAIN, verified_candidates=count, verified_temperature=temperature)
    before = log_probability(queries, gallery, PLAIN, Photographed.of(gallery))
    after = np.exp(log_probability(vectors, gallery, config, Photographed.of(gallery)))
    np.testing.assert_allclose(after.sum(axis=1), 1.0, rtol=1e-12)
    for row in range(3):
        np.testing.assert_allclose(after[row], by_loops(before[row], gallery, row, count, temperature), rtol=1e-9)


def test_only_the_best_candidates_are_compared(make_gallery: Make, make_queries: Callable[..., np.ndarray]) -> None:
    gallery, vectors = verifiable(make_gallery(3), make_queries(3, 1))
    log_p = log_probability(vectors.embeddings, gallery, PLAIN, Photographed.of(gallery))
    log_probability(vectors, gallery, VERIFIED, Photographed.of(gallery))
    best = set(np.argsort(-log_p[0])[:6].tolist())
    expected = {(0, name) for row in best for name in gallery.image_ids_of(row)}
    assert set(gallery.verifier.compared) == expected  # type: ignore[union-attr]


def test_queries_and_candidates_that_cannot_be_compared_change_nothing(
    make_gallery: Make, make_queries: Callable[..., np.ndarray]
) -> None:
    gallery = replace(make_gallery(4), verifier=Table({}))
    queries, photographed = make_queries(4, 2), Photographed.of(gallery)
    before = log_probability(queries, gallery, PLAIN, photographed)
    for details in ((0, 1), (None, None)):
        after = log_probability(PhotographVectors(queries, details=details), gallery, VERIFIED, photographed)
        np.testing.assert_array_equal(before, after)


def test_excluded_candidates_are_not_compared(make_gallery: Make) -> None:
    gallery, _ = verifiable(make_gallery(5), np.zeros((1, 8)))
    log_p = np.full(len(gallery), -np.inf)
    log_p[[2, 5]] = np.log([0.25, 0.75])
    verified = Verified.of(log_p, 0, gallery, Photographed.of(gallery).of_candidate, 4)
    assert verified.rows.tolist() == [5, 2]
    assert np.exp(log_p[verified.rows] + verified.log_factor(log_p, 0.1)).sum() == pytest.approx(1.0)


def test_a_prior_comes_before_verification_and_photographs_together_after(
    make_gallery: Make, make_queries: Callable[..., np.ndarray]
) -> None:
    queries = make_queries(6, 2)
    gallery, vectors = verifiable(make_gallery(6), queries)
    weights = Prior(city="city 1").weights(gallery.positions_deg, gallery.cities)
    assert weights.rows is not None
    part = gallery.take(weights.rows)
    of_candidate = Photographed.of(part).of_candidate

    def verify(evidence: Evidence) -> np.ndarray:
        return log_factors(evidence.log_p, evidence.vectors.details, part, VERIFIED, of_candidate)

    evidence = Evidence.of(vectors, gallery, PLAIN, Photographed.of(gallery))
    log_p, each = combine_evidence(evidence, False, weights, verify)
    for row in range(2):
        restricted = evidence.take(weights.rows).log_p[row]
        expected = by_loops(restricted, part, row, 6, 0.2)
        np.testing.assert_allclose(np.exp(log_p[row]), expected, rtol=1e-9)
        np.testing.assert_allclose(np.exp(each[row].log_p[0]), expected, rtol=1e-9)
        assert (each[row].log_location <= each[row].log_p + 1e-12).all()
    both, _ = combine_evidence(evidence, True, weights, verify)
    expected = np.exp(log_p.sum(axis=0) / 2**0.7)
    np.testing.assert_allclose(np.exp(both[0]), expected / expected.sum(), rtol=1e-9)


def fitted_on(gallery: Gallery, similarity: Callable[[int, float], float]) -> tuple[Any, Any, np.ndarray]:
    """Fits on queries near the gallery's photographs, whose similarity depends on the distance in candidates."""
    generator = np.random.default_rng(8)
    rows = generator.choice(len(gallery.image_ids), 60)
    queries = gallery.image_embeddings[rows] + 0.6 * generator.normal(size=(60, gallery.dim))
    queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
    truth = gallery.positions_deg[gallery.image_rows[rows]]
    table = {
        (query, name): similarity(query, float(np.hypot(*(gallery.positions_deg[row] - truth[query])) * 111e3))
        for query in range(60)
        for name, row in zip(gallery.image_ids, gallery.image_rows.tolist(), strict=True)
    }
    fold_of = np.arange(60) % 5
    fit = fit_posterior(queries, truth, gallery, temperatures=(0.05, 0.2), smoothings_m=(0.0, 20.0), fold_of=fold_of)
    vectors = PhotographVectors(queries, details=tuple(range(60)))
    verified = fit_verification(vectors, truth, replace(gallery, verifier=Table(table)), fit, 8, fold_of=fold_of)
    return fit, verified, truth


def test_verification_is_used_where_validation_queries_gain(make_gallery: Make) -> None:
    gallery = make_gallery(9, with_photographs=30, photographs=60)
    noise = np.random.default_rng(1)
    fit, verified, _ = fitted_on(gallery, lambda _, metres: float(np.exp(-metres / 100.0) + 0.1 * noise.normal()))
    assert verified.config.verified_candidates == 8
    assert verified.balanced is fit
    assert verified.score < fit.score
    assert verified.mean_error_m < fit.mean_error_m
    assert verified.config.at("balanced") == fit.config
    assert verified.config.at("best") == verified.config
    assert len(verified.left_out) == 5
    assert PosteriorConfig.from_dict(verified.config.to_dict()) == verified.config


def test_verification_is_not_used_where_they_do_not(make_gallery: Make) -> None:
    gallery = make_gallery(9, with_photographs=30, photographs=60)
    noise = np.random.default_rng(2)
    fit, verified, _ = fitted_on(gallery, lambda _, metres: float(noise.normal()))
    assert verified is fit


def test_the_fitted_score_is_that_of_the_posterior(make_gallery: Make) -> None:
    from swclip.geo.distance import haversine_m

    gallery = make_gallery(10, with_photographs=30, photographs=60)
    noise = np.random.default_rng(3)
    table: dict[tuple[int, float], float] = {}

    def similarity(query: int, metres: float) -> float:
        return table.setdefault((query, metres), float(np.exp(-metres / 100.0) + 0.1 * noise.normal()))

    _, verified, truth = fitted_on(gallery, similarity)
    generator = np.random.default_rng(8)
    rows = generator.choice(len(gallery.image_ids), 60)
    queries = gallery.image_embeddings[rows] + 0.6 * generator.normal(size=(60, gallery.dim))
    queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
    of_name = {
        (query, name): similarity(query, float(np.hypot(*(gallery.positions_deg[row] - truth[query])) * 111e3))
        for query in range(60)
        for name, row in zip(gallery.image_ids, gallery.image_rows.tolist(), strict=True)
    }
    vectors = PhotographVectors(queries, details=tuple(range(60)))
    verifiable_gallery = replace(gallery, verifier=Table(of_name))
    p = np.exp(log_posterior(vectors, verifiable_gallery, verified.config, smooth=True).astype(np.float64))
    places = gallery.positions_deg
    distance = haversine_m(truth[:, None, 0], truth[:, None, 1], places[None, :, 0], places[None, :, 1])
    kernel = np.exp(-distance / 25.0)
    expected = -np.log(0.99 * (p * kernel).sum(axis=1) + 0.01 * kernel.mean(axis=1))
    assert verified.score == pytest.approx(expected.mean(), rel=1e-4)


def test_requests_that_cannot_be_met(make_gallery: Make, make_queries: Callable[..., np.ndarray]) -> None:
    plain, queries = make_gallery(11), make_queries(11, 2)
    gallery, vectors = verifiable(plain, queries)
    calibration = Calibration(np.array([0.1]), (None,), 9, 30.0)
    calibrated = replace(calibration, balanced=calibration)
    assert with_verification(VERIFIED, calibrated, None, False) == (PLAIN, calibration)
    assert with_verification(VERIFIED, calibrated, None, True) == (VERIFIED, calibrated)
    assert with_verification(VERIFIED, calibrated, 0, True) == (PLAIN, calibration)
    other, uncalibrated = with_verification(VERIFIED, calibrated, 3, True)
    assert (other.verified_candidates, uncalibrated) == (3, None)
    assert with_verification(PLAIN, calibration, None, True) == (PLAIN, calibration)
    with pytest.raises(ConfigError, match=r"no patch features.*--patch-features"):
        with_verification(VERIFIED, None, 5, False)
    with pytest.raises(ConfigError, match=r"--verify 20"):
        with_verification(PLAIN, None, 5, True)
    with pytest.raises(ConfigError, match="verify is -1"):
        with_verification(VERIFIED, None, -1, True)
    with pytest.raises(MismatchError, match="patches=True"):
        log_probability(queries, gallery, VERIFIED, Photographed.of(gallery))
    with pytest.raises(MismatchError, match="--patch-features"):
        log_probability(vectors, plain, VERIFIED, Photographed.of(plain))
    with pytest.raises(ConfigError, match="verified_temperature"):
        replace(PLAIN, verified_candidates=5)
    with pytest.raises(ArtefactError, match="verified_candidates"):
        PosteriorConfig.from_dict({"verified_candidates": -3})
