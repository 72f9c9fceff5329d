"""The fit of the posterior, against brute force over its grid."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from swclip.calibration.posterior_config import PosteriorConfig
from swclip.errors import InputError
from swclip.gallery.gallery import Gallery
from swclip.geo.distance import geodesic_m, haversine_m
from swclip.models.photograph_vectors import PhotographVectors
from swclip.retrieval.point_estimates import estimators
from swclip.retrieval.posterior import log_posterior
from swclip.retrieval.posterior_fit import fit_posterior

Make = Callable[..., Gallery]


def _noisy_world(generator: np.random.Generator, noise: float) -> tuple[Gallery, np.ndarray, np.ndarray]:
    """Embeddings fall off with ground distance by construction; queries are noisy copies of their place's."""
    places = np.array([51.5, -0.1]) + generator.uniform(-0.005, 0.005, (150, 2))
    waves = generator.normal(0, 700.0, (2, 16))
    phase = (places - [51.5, -0.1]) @ waves
    location = np.concatenate([np.sin(phase), np.cos(phase)], axis=1)
    location /= np.linalg.norm(location, axis=1, keepdims=True)
    at = generator.integers(0, 150, 120)
    query = location[at] + generator.normal(0, noise, (120, 32))
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    photographs = location + generator.normal(0, 0.02, location.shape)
    photographs /= np.linalg.norm(photographs, axis=1, keepdims=True)
    gallery = Gallery(
        [str(i) for i in range(150)],
        places,
        [None] * 150,
        location.astype(np.float32),
        photographs.astype(np.float32),
        np.arange(150),
        [str(i) for i in range(150)],
    )
    return gallery, query.astype(np.float32), places[at]


def _score_loop(p: np.ndarray, places: np.ndarray, truth: np.ndarray) -> float:
    total = 0.0
    for row, true in zip(p, truth, strict=True):
        k = np.exp(-haversine_m(places[:, 0], places[:, 1], true[0], true[1]) / 25.0)
        total -= math.log(0.99 * float(row @ k) + 0.01 * float(k.mean()))
    return total / len(p)


def test_the_fit_is_the_best_of_its_grid_by_brute_force() -> None:
    gallery, query, truth = _noisy_world(np.random.default_rng(0), noise=0.15)
    kept = gallery.image_rows % 3 > 0  # two places in three have a photograph
    gallery = replace(
        gallery,
        image_embeddings=gallery.image_embeddings[kept],
        image_rows=gallery.image_rows[kept],
        image_ids=[i for i, good in zip(gallery.image_ids, kept, strict=True) if good],
    )
    temperatures, weights, smoothings = (0.02, 0.2), (0.0, 0.5, 1.0), (0.0, 30.0)
    fit = fit_posterior(
        query, truth, gallery, temperatures=temperatures, image_weights=weights, smoothings_m=smoothings
    )
    scores = {}
    for location in temperatures:
        for image in temperatures:
            for w in weights:
                for h in smoothings:
                    config = PosteriorConfig(location, image, w, h)
                    p = np.exp(log_posterior(query, gallery, config, smooth=True).astype(np.float64))
                    scores[config] = _score_loop(p, gallery.positions_deg, truth)
    assert fit.score == pytest.approx(min(scores.values()), rel=1e-5)
    assert scores[fit.config] == pytest.approx(min(scores.values()), rel=1e-5)
    assert fit.score < fit.uniform_score


def test_whitened_features_are_used_where_they_help() -> None:
    gallery, query, truth = _noisy_world(np.random.default_rng(4), noise=0.3)
    generator = np.random.default_rng(5)
    helpful = gallery.image_embeddings[:, :20]
    at = np.array([int(np.flatnonzero((gallery.positions_deg == true).all(axis=1))[0]) for true in truth])
    noise = generator.normal(size=helpful[at].shape)
    folds = np.arange(len(query)) % 3
    grids: dict[str, Any] = {"temperatures": (0.02, 0.05, 0.1, 0.3), "image_weights": (0.0, 0.5, 1.0)}
    grids |= {"smoothings_m": (0.0, 20.0), "fold_of": folds}
    plain = fit_posterior(query, truth, gallery, **grids)
    assert plain.fast is None
    assert plain.config.fast is None
    with_whitened = replace(gallery, image_whitened=helpful)
    vectors = PhotographVectors(query, helpful[at] + 0.1 * noise.astype(np.float32))
    fit = fit_posterior(vectors, truth, with_whitened, **grids)
    assert fit.config.whitened_temperature is not None
    assert fit.config.fast == plain.config
    assert fit.fast == plain
    assert fit.score < plain.score
    assert len(fit.left_out) == len(plain.left_out) == 3

    def score(config: PosteriorConfig) -> float:
        p = np.exp(log_posterior(vectors, with_whitened, config, smooth=True).astype(np.float64))
        return _score_loop(p, gallery.positions_deg, truth)

    assert score(fit.config) == pytest.approx(fit.score, rel=1e-5)
    # No change of one value improves the score: the search by coordinates has ended at an optimum.
    names = {"location_temperature", "image_temperature", "whitened_temperature"}
    for name, value in itertools.product(names, grids["temperatures"]):
        assert score(replace(fit.config, **{name: value})) >= fit.score - 1e-4
    useless = fit_posterior(PhotographVectors(query, noise.astype(np.float32)), truth, with_whitened, **grids)
    assert useless.config.whitened_temperature in (None, 0.3), "left out, or nearly"


def test_noisier_queries_get_a_hotter_posterior() -> None:
    fits = [
        fit_posterior(
            query,
            truth,
            replace(
                gallery, image_embeddings=gallery.image_embeddings[:0], image_rows=gallery.image_rows[:0], image_ids=[]
            ),
        )
        for gallery, query, truth in (_noisy_world(np.random.default_rng(1), noise) for noise in (0.03, 0.3))
    ]
    assert fits[0].config.location_temperature < fits[1].config.location_temperature
    assert fits[0].config.image_weight == fits[1].config.image_weight == 0.0
    assert fits[0].median_error_m < 1.0 < fits[1].mean_error_m


def test_the_errors_of_a_fit_are_those_of_its_modes() -> None:
    gallery, query, truth = _noisy_world(np.random.default_rng(2), noise=0.2)
    fit = fit_posterior(query, truth, gallery)
    mode = estimators(fit.config)["mode"]
    error = geodesic_m(truth, mode(log_posterior(query, gallery, fit.config), gallery.positions_deg))
    assert (fit.median_error_m, fit.mean_error_m) == pytest.approx((np.median(error), error.mean()), rel=1e-6)


def test_a_fit_skips_smoothings_that_are_too_wide_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gallery, query, truth = _noisy_world(np.random.default_rng(3), noise=0.2)
    monkeypatch.setattr("swclip.geo.spatial_smoothing.MAX_PAIRS", 1000)
    assert fit_posterior(query, truth, gallery, smoothings_m=(500.0, 0.0, 20.0)).config.smoothing_m in (0.0, 20.0)
    assert "smoothing over 500 m and more is not tried" in caplog.text


def test_a_fit_needs_queries_with_positions(make_gallery: Make, make_queries: Make) -> None:
    with pytest.raises(InputError, match="got 3 for 11"):
        fit_posterior(make_queries(0), np.zeros((3, 2)), make_gallery(0))
    with pytest.raises(InputError, match="got 0 for 0"):
        fit_posterior(make_queries(0)[:0], np.zeros((0, 2)), make_gallery(0))
