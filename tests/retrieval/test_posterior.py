"""The posterior against plain loops, its limits, and its smoothing on the ground."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.calibration.posterior_config import PosteriorConfig, default_posterior, read_posterior, write_posterior
from swclip.errors import ArtefactError, ConfigError, InputError, MismatchError
from swclip.gallery.gallery import Gallery
from swclip.geo.distance import geodesic_m, haversine_m
from swclip.geo.spatial_smoothing import ground_kernel, spread
from swclip.retrieval.point_estimates import estimators
from swclip.retrieval.posterior import iter_log_posterior, log_posterior
from swclip.retrieval.posterior_fit import fit_posterior

Make = Callable[..., Gallery]
Queries = Callable[..., np.ndarray]


def _softmax_loop(logits: list[float]) -> list[float]:
    largest = max(logits)
    weights = [math.exp(x - largest) for x in logits]
    return [w / sum(weights) for w in weights]


def _posterior_loop(query: np.ndarray, gallery: Gallery, config: PosteriorConfig) -> list[float]:
    """One query, by the formulas in `log_probability`, with loops."""
    location = [float(np.dot(query, u)) / config.location_temperature for u in gallery.location_embeddings]
    p_loc = _softmax_loop(location)
    best: dict[int, float] = {}
    for row, v in zip(gallery.image_rows, gallery.image_embeddings, strict=True):
        best[int(row)] = max(best.get(int(row), -2.0), float(np.dot(query, v)))
    if not best:
        return p_loc
    rows = sorted(best)
    p_img = dict(zip(rows, _softmax_loop([best[m] / config.image_temperature for m in rows]), strict=True))
    reach = sum(p_loc[m] for m in rows)
    w = config.image_weight
    return [(1 - w) * p + w * reach * p_img[m] if m in p_img else p for m, p in enumerate(p_loc)]


def _smooth_loop(p: list[float], gallery: Gallery, config: PosteriorConfig) -> list[float]:
    places, out = gallery.positions_deg, [0.0] * len(p)
    for m, mass in enumerate(p):
        distance = [float(haversine_m(*map(np.float64, (*places[m], *place)))) for place in places]
        share = [math.exp(-0.5 * (d / config.smoothing_m) ** 2) if d <= 4 * config.smoothing_m else 0 for d in distance]
        for n, weight in enumerate(share):
            out[n] += mass * weight / sum(share)
    return out


@pytest.mark.parametrize("with_photographs", [0, 12, 30])
@pytest.mark.parametrize("image_weight", [0.0, 0.3, 1.0])
def test_posterior_equals_loops(
    make_gallery: Make, make_queries: Queries, with_photographs: int, image_weight: float
) -> None:
    gallery, query = make_gallery(1, with_photographs=with_photographs), make_queries(1)
    config = PosteriorConfig(0.1, 0.2, image_weight, smoothing_m=120.0)
    ours, ours_smooth = log_posterior(query, gallery, config), log_posterior(query, gallery, config, smooth=True)
    for row, q in enumerate(query):
        oracle = _posterior_loop(q, gallery, config)
        np.testing.assert_allclose(np.exp(ours[row]), oracle, rtol=1e-4, atol=1e-12)
        smooth = _smooth_loop(oracle, gallery, config)
        np.testing.assert_allclose(np.exp(ours_smooth[row]), smooth, rtol=1e-4, atol=1e-12)


def test_the_coldest_posterior_is_the_nearest_and_the_hottest_is_uniform(
    make_gallery: Make, make_queries: Queries
) -> None:
    gallery, query = make_gallery(2), make_queries(2)
    cold = np.exp(log_posterior(query, gallery, PosteriorConfig(1e-5, 1e-5)))
    np.testing.assert_array_equal(cold.argmax(axis=1), (query @ gallery.location_embeddings.T).argmax(axis=1))
    np.testing.assert_allclose(cold.max(axis=1), 1.0, atol=1e-6)
    hot = np.exp(log_posterior(query, gallery, PosteriorConfig(1e6, 1e6)))
    np.testing.assert_allclose(hot, 1 / len(gallery), rtol=1e-5)


def test_images_decide_alone_at_full_weight_when_every_place_has_one(make_gallery: Make, make_queries: Queries) -> None:
    gallery, query = make_gallery(3, places=10, with_photographs=10, photographs=60), make_queries(3)
    assert len(set(gallery.image_rows)) == 10
    shuffled = replace(gallery, location_embeddings=gallery.location_embeddings[::-1].copy())
    config = PosteriorConfig(0.1, 0.1, image_weight=1.0)
    np.testing.assert_allclose(
        log_posterior(query, gallery, config), log_posterior(query, shuffled, config), rtol=1e-5, atol=1e-5
    )


def test_images_only_deal_out_what_the_places_with_photographs_hold(make_gallery: Make, make_queries: Queries) -> None:
    gallery, query = make_gallery(4), make_queries(4)
    there = np.isin(np.arange(len(gallery)), gallery.image_rows)
    plain = np.exp(log_posterior(query, gallery, PosteriorConfig(0.1, 0.1, 0.0)))
    mixed = np.exp(log_posterior(query, gallery, PosteriorConfig(0.1, 0.1, 0.7)))
    np.testing.assert_allclose(mixed[:, ~there], plain[:, ~there], rtol=1e-5)
    np.testing.assert_allclose(mixed[:, there].sum(axis=1), plain[:, there].sum(axis=1), rtol=1e-5)
    assert np.abs(mixed[:, there] - plain[:, there]).max() > 0.05


@given(seed=st.integers(0, 10_000), data=st.data())
@settings(max_examples=25, deadline=None)
def test_the_order_of_the_gallery_does_not_matter(
    make_gallery: Make, make_queries: Queries, seed: int, data: st.DataObject
) -> None:
    gallery, query = make_gallery(seed, places=12, with_photographs=6, photographs=9), make_queries(seed, 3)
    order = np.array(data.draw(st.permutations(range(12))))
    photo_order = np.array(data.draw(st.permutations(range(9))))
    place_of = np.argsort(order)
    moved = Gallery(
        [gallery.candidate_ids[i] for i in order],
        gallery.positions_deg[order],
        [gallery.cities[i] for i in order],
        gallery.location_embeddings[order],
        gallery.image_embeddings[photo_order],
        place_of[gallery.image_rows[photo_order]],
        [gallery.image_ids[i] for i in photo_order],
    )
    config = PosteriorConfig(0.1, 0.1, 0.4, smoothing_m=150.0)
    for smooth in (False, True):
        ours = log_posterior(query, gallery, config, smooth=smooth)
        theirs = log_posterior(query, moved, config, smooth=smooth)
        np.testing.assert_allclose(theirs, ours[:, order], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("memory_bytes", [1, 3000, 10**9])
def test_chunks_equal_the_whole(make_gallery: Make, make_queries: Queries, memory_bytes: int) -> None:
    gallery, query = make_gallery(5), make_queries(5, 23)
    config = PosteriorConfig(0.1, 0.2, 0.5, smoothing_m=80.0)
    parts = list(iter_log_posterior(query, gallery, config, smooth=True, memory_bytes=memory_bytes))
    assert (len(parts) == 23) is (memory_bytes == 1)
    whole = log_posterior(query, gallery, config, smooth=True)
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernel", ["gaussian", "exponential", "bisquare", "tricube", "inverse-distance"])
def test_smoothing_conserves_mass(make_gallery: Make, make_queries: Queries, kernel: str) -> None:
    config = PosteriorConfig(0.05, 0.05, 0.5, smoothing_m=90.0, kernel=kernel)
    p = np.exp(log_posterior(make_queries(6), make_gallery(6), config, smooth=True).astype(np.float64))
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-5)


def test_smoothing_two_places_has_a_closed_form() -> None:
    """Two places 30 m apart, all mass on one, bandwidth 30 m: the shares are 1 : exp(-1/2)."""
    north = np.degrees(30.0 / 6_371_008.8)
    kernel = ground_kernel([[10.0, 20.0], [10.0 + north, 20.0]], 30.0, "gaussian")
    one = np.array([[1.0, 0.0]])
    near, far = spread(one, kernel)[0]
    assert near == pytest.approx(1 / (1 + math.exp(-0.5)), rel=1e-9)
    assert far == pytest.approx(math.exp(-0.5) / (1 + math.exp(-0.5)), rel=1e-9)


def test_a_kernel_made_in_blocks_is_the_whole(make_gallery: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    places = make_gallery(6).positions_deg
    whole = ground_kernel(places, 100.0).toarray()
    monkeypatch.setattr("swclip.geo.spatial_smoothing._ROWS_AT_ONCE", 7)
    np.testing.assert_array_equal(ground_kernel(places, 100.0).toarray(), whole)
    np.testing.assert_array_equal(whole, whole.T)


def test_a_bandwidth_too_wide_for_a_dense_gallery_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swclip.geo.spatial_smoothing.MAX_PAIRS", 100)
    places = np.array([51.5, 0.0]) + np.arange(40)[:, None] * [1e-5, 0.0]
    assert ground_kernel(places, 0.5, "bisquare").nnz == 40
    with pytest.raises(ConfigError, match="40 candidates over 100 m"):
        ground_kernel(places, 100.0)


def test_no_smoothing_is_the_identity(make_gallery: Make, make_queries: Queries) -> None:
    gallery, query, config = make_gallery(7), make_queries(7), PosteriorConfig(smoothing_m=0.0)
    np.testing.assert_array_equal(
        log_posterior(query, gallery, config, smooth=True), log_posterior(query, gallery, config)
    )
    np.testing.assert_array_equal(ground_kernel(gallery.positions_deg, 0.0).toarray(), np.eye(len(gallery)))


def test_a_posterior_survives_its_file(tmp_path: Path) -> None:
    config = PosteriorConfig(0.02, 0.1, 0.3, 12.5, "exponential")
    assert read_posterior(tmp_path) is None
    (tmp_path / "model").mkdir()
    write_posterior(tmp_path / "model", config)
    assert read_posterior(tmp_path) == config == read_posterior(tmp_path / "model")
    (tmp_path / "model" / "posterior.json").write_text('{"location_temperature": -1}')
    with pytest.raises(ArtefactError, match=r"posterior\.json.*location_temperature is -1"):
        read_posterior(tmp_path)
    (tmp_path / "model" / "posterior.json").write_text('{"warmth": 1}')
    with pytest.raises(ArtefactError, match="warmth"):
        read_posterior(tmp_path)


@pytest.mark.parametrize(
    "values",
    [
        {"location_temperature": 0.0},
        {"image_temperature": float("nan")},
        {"image_weight": 1.2},
        {"smoothing_m": -1.0},
        {"kernel": "square"},
    ],
)
def test_values_that_cannot_work_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        PosteriorConfig(**values)


def test_queries_of_another_dimension_are_refused(make_gallery: Make) -> None:
    with pytest.raises(MismatchError, match="dimension 8"):
        log_posterior(np.zeros((2, 5), dtype=np.float32), make_gallery(8), PosteriorConfig())


def test_the_default_temperature_is_the_models_own(model: object) -> None:
    assert default_posterior(model).location_temperature == pytest.approx(math.exp(-3.0))


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
    for own, true in zip(p, truth, strict=True):
        k = np.exp(-haversine_m(places[:, 0], places[:, 1], true[0], true[1]) / 25.0)
        total -= math.log(0.99 * float(own @ k) + 0.01 * float(k.mean()))
    return total / len(p)


def test_the_fit_is_the_best_of_its_grid_by_brute_force() -> None:
    gallery, query, truth = _noisy_world(np.random.default_rng(0), noise=0.15)
    some = gallery.image_rows % 3 > 0  # two places in three have a photograph
    gallery = replace(
        gallery,
        image_embeddings=gallery.image_embeddings[some],
        image_rows=gallery.image_rows[some],
        image_ids=[i for i, good in zip(gallery.image_ids, some, strict=True) if good],
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
    assert scores[replace(fit.config, estimator="mode")] == pytest.approx(min(scores.values()), rel=1e-5)
    assert fit.score < fit.uniform_score


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


def test_a_fit_names_the_estimator_that_answers_best() -> None:
    gallery, query, truth = _noisy_world(np.random.default_rng(2), noise=0.2)
    fit = fit_posterior(query, truth, gallery)
    log_p = log_posterior(query, gallery, fit.config)
    named = estimators(fit.config)
    errors = {name: geodesic_m(truth, named[name](log_p, gallery.positions_deg)) for name in named}
    heeded = {name: np.log1p(error / 10.0).mean() for name, error in errors.items()}
    assert len(set(heeded.values())) > 1
    assert fit.config.estimator == min(heeded, key=lambda name: heeded[name])
    own = errors[fit.config.estimator]
    assert (fit.median_error_m, fit.mean_error_m) == pytest.approx((np.median(own), own.mean()), rel=1e-6)


def test_a_fit_leaves_out_smoothings_too_wide_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gallery, query, truth = _noisy_world(np.random.default_rng(3), noise=0.2)
    monkeypatch.setattr("swclip.geo.spatial_smoothing.MAX_PAIRS", 1000)
    assert fit_posterior(query, truth, gallery, smoothings_m=(500.0, 0.0, 20.0)).config.smoothing_m in (0.0, 20.0)
    assert "smoothing over 500 m and more is not tried" in caplog.text


def test_a_fit_needs_queries_with_places(make_gallery: Make, make_queries: Queries) -> None:
    with pytest.raises(InputError, match="11 and 3"):
        fit_posterior(make_queries(0), np.zeros((3, 2)), make_gallery(0))
    with pytest.raises(InputError, match="0 and 0"):
        fit_posterior(make_queries(0)[:0], np.zeros((0, 2)), make_gallery(0))
