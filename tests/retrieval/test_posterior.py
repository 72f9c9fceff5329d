"""The posterior against plain loops, its limits, and its spatial smoothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.calibration.posterior_config import PosteriorConfig
from swclip.errors import ConfigError, MismatchError
from swclip.gallery.gallery import Gallery
from swclip.geo.distance import haversine_m
from swclip.geo.spatial_smoothing import ground_kernel, spread
from swclip.retrieval.posterior import iter_log_posterior, log_posterior

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
    log_p, log_p_smooth = log_posterior(query, gallery, config), log_posterior(query, gallery, config, smooth=True)
    for row, q in enumerate(query):
        oracle = _posterior_loop(q, gallery, config)
        np.testing.assert_allclose(np.exp(log_p[row]), oracle, rtol=1e-4, atol=1e-12)
        smooth = _smooth_loop(oracle, gallery, config)
        np.testing.assert_allclose(np.exp(log_p_smooth[row]), smooth, rtol=1e-4, atol=1e-12)


def test_the_coldest_posterior_is_the_nearest_and_the_hottest_is_uniform(
    make_gallery: Make, make_queries: Queries
) -> None:
    gallery, query = make_gallery(2), make_queries(2)
    cold = np.exp(log_posterior(query, gallery, PosteriorConfig(1e-5, 1e-5)))
    np.testing.assert_array_equal(cold.argmax(axis=1), (query @ gallery.location_embeddings.T).argmax(axis=1))
    np.testing.assert_allclose(cold.max(axis=1), 1.0, atol=1e-6)
    hot = np.exp(log_posterior(query, gallery, PosteriorConfig(1e6, 1e6)))
    np.testing.assert_allclose(hot, 1 / len(gallery), rtol=1e-5)


def test_at_full_weight_only_images_count_when_every_place_has_one(make_gallery: Make, make_queries: Queries) -> None:
    gallery, query = make_gallery(3, places=10, with_photographs=10, photographs=60), make_queries(3)
    assert len(set(gallery.image_rows)) == 10
    shuffled = replace(gallery, location_embeddings=gallery.location_embeddings[::-1].copy())
    config = PosteriorConfig(0.1, 0.1, image_weight=1.0)
    np.testing.assert_allclose(
        log_posterior(query, gallery, config), log_posterior(query, shuffled, config), rtol=1e-5, atol=1e-5
    )


def test_images_only_redistribute_the_mass_of_photographed_candidates(
    make_gallery: Make, make_queries: Queries
) -> None:
    gallery, query = make_gallery(4), make_queries(4)
    photographed = np.isin(np.arange(len(gallery)), gallery.image_rows)
    plain = np.exp(log_posterior(query, gallery, PosteriorConfig(0.1, 0.1, 0.0)))
    mixed = np.exp(log_posterior(query, gallery, PosteriorConfig(0.1, 0.1, 0.7)))
    np.testing.assert_allclose(mixed[:, ~photographed], plain[:, ~photographed], rtol=1e-5)
    np.testing.assert_allclose(mixed[:, photographed].sum(axis=1), plain[:, photographed].sum(axis=1), rtol=1e-5)
    assert np.abs(mixed[:, photographed] - plain[:, photographed]).max() > 0.05


@given(seed=st.integers(0, 10_000), data=st.data())
@settings(max_examples=25, deadline=None)
def test_the_order_of_the_gallery_has_no_effect(
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
        log_p = log_posterior(query, gallery, config, smooth=smooth)
        permuted = log_posterior(query, moved, config, smooth=smooth)
        np.testing.assert_allclose(permuted, log_p[:, order], rtol=1e-4, atol=1e-4)


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


def test_a_kernel_computed_in_blocks_equals_the_whole(make_gallery: Make, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_queries_of_another_dimension_are_refused(make_gallery: Make) -> None:
    with pytest.raises(MismatchError, match="dimension 8"):
        log_posterior(np.zeros((2, 5), dtype=np.float32), make_gallery(8), PosteriorConfig())
