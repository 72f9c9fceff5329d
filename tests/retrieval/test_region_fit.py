"""Calibration on validation queries: whole blocks, and tails by a posterior that was fitted without the query."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from swclip.calibration.posterior_config import PosteriorConfig
from swclip.calibration.region import tail_mass
from swclip.calibration.region_cells import RegionCells, adapted_cells
from swclip.gallery.gallery import Gallery
from swclip.geo.coordinates import LocalFrame
from swclip.retrieval.posterior import log_posterior
from swclip.retrieval.posterior_fit import fit_posterior
from swclip.retrieval.region_fit import calibrate, split_blocks

GRID = {"temperatures": (0.05, 0.2, 0.5), "image_weights": (0.0, 0.5), "smoothings_m": (0.0, 30.0)}


@pytest.fixture
def queries(
    make_gallery: Callable[..., Gallery], make_queries: Callable[..., np.ndarray]
) -> tuple[Gallery, np.ndarray, np.ndarray]:
    gallery, query = make_gallery(4), make_queries(4, 24)
    at = (query @ gallery.location_embeddings.T).argmax(axis=1)
    noise = np.random.default_rng(0).normal(0, 40.0, (24, 2))
    places = LocalFrame.around(gallery.positions_deg)
    return gallery, query, places.to_deg(places.to_xy_m(gallery.positions_deg[at]) + noise)


def test_blocks_are_not_split_and_parts_are_of_similar_size() -> None:
    blocks = [f"b{at}" for at in np.random.default_rng(0).integers(0, 30, 300)]
    part_of = split_blocks(blocks, 5, np.random.default_rng(1))
    assert all(
        len({part for part, refit in zip(part_of, blocks, strict=True) if refit == block}) == 1 for block in set(blocks)
    )
    sizes = np.bincount(part_of, minlength=5)
    assert sizes.max() - sizes.min() <= max(blocks.count(block) for block in set(blocks))
    assert not np.array_equal(part_of, split_blocks(blocks, 5, np.random.default_rng(2)))
    assert sorted(split_blocks(["a", "b"], 5, np.random.default_rng(0)).tolist()) == [0, 1]


def test_a_fold_is_left_out_of_the_fit(queries: tuple[Gallery, np.ndarray, np.ndarray]) -> None:
    gallery, query, truth = queries
    fold_of = np.arange(24) % 3
    fit = fit_posterior(query, truth, gallery, fold_of=fold_of, **GRID)
    alone = fit_posterior(query, truth, gallery, **GRID)
    assert (fit.config, fit.score) == (alone.config, alone.score)
    assert alone.left_out == fit_posterior(query, truth, gallery, fold_of=fold_of * 0, **GRID).left_out == ()
    for fold, config in enumerate(fit.left_out):
        others = fold_of != fold
        refit = fit_posterior(query[others], truth[others], gallery, **GRID).config
        assert {**config.to_dict(), "estimator": None} == {**refit.to_dict(), "estimator": None}
    assert len(fit.left_out) == 3


def _tails(gallery: Gallery, query: np.ndarray, truth: np.ndarray, config: PosteriorConfig) -> np.ndarray:
    ground = adapted_cells(gallery.positions_deg, gallery.cities)
    p = np.exp(log_posterior(query, gallery, config, smooth=True).astype(np.float64))
    return tail_mass(ground.mass(p), ground.area_km2, ground.index_of(truth))


def test_tails_use_the_posterior_fitted_without_the_query(queries: tuple[Gallery, np.ndarray, np.ndarray]) -> None:
    gallery, query, truth = queries
    truth = truth + np.where(np.arange(24) == 5, 0.05, 0.0)[:, None]
    fold_of = np.arange(24) % 3
    fit = fit_posterior(query, truth, gallery, fold_of=fold_of, **GRID)
    result = calibrate(query, truth, gallery, fit, fold_of, np.arange(24) // 2)
    assert result.n_blocks == 12
    expected = np.array([_tails(gallery, query[[q]], truth[[q]], fit.left_out[fold_of[q]])[0] for q in range(24)])
    np.testing.assert_allclose(result.tails, expected, rtol=1e-4)
    assert np.flatnonzero(result.tails == 0.0).tolist() == [5], "which is out of reach"
    for q, area in enumerate(result.areas):
        p = np.exp(log_posterior(query[[q]], gallery, fit.left_out[fold_of[q]], smooth=True).astype(np.float64))[0]
        sums: dict[str | None, float] = {}
        for city, mass in zip(gallery.cities, p, strict=True):
            sums[city] = sums.get(city, 0.0) + mass
        most = max(sums, key=lambda city: sums[city])
        assert area == most or most is None
    plain = fit_posterior(query, truth, gallery, **GRID)
    whole = calibrate(query, truth, gallery, plain, fold_of)
    np.testing.assert_allclose(whole.tails, _tails(gallery, query, truth, plain.config), rtol=1e-4)


def test_two_queries_of_one_photograph_count_once_with_the_smaller_tail(
    queries: tuple[Gallery, np.ndarray, np.ndarray],
) -> None:
    gallery, query, truth = queries
    fit = fit_posterior(query, truth, gallery, **GRID)
    both = np.concatenate([query, query[::-1]])
    result = calibrate(both, np.tile(truth, (2, 1)), gallery, fit, np.zeros(48, dtype=np.int64), variants=2)
    one, other = (calibrate(q, truth, gallery, fit, np.zeros(24, dtype=np.int64)) for q in (query, query[::-1]))
    np.testing.assert_array_equal(result.tails, np.minimum(one.tails, other.tails))
    assert result.areas == tuple(
        (first if first_tail <= second_tail else second)
        for first, second, first_tail, second_tail in zip(one.areas, other.areas, one.tails, other.tails, strict=True)
    )


def test_a_sparse_city_costs_the_others_no_certainty() -> None:
    """A fault from use: one city 122 m apart, with truths beyond 100 m of it, made the regions of all unbounded."""
    generator = np.random.default_rng(0)
    frames = {"dense": LocalFrame(52.2, 0.12), "sparse": LocalFrame(52.6, 0.12)}
    spacing, count = {"dense": 12.0, "sparse": 122.0}, 150
    positions, cities, embeddings, query, truth = [], [], [], [], []
    for name, frame in frames.items():
        east = np.arange(count) * spacing[name]
        directions = generator.normal(size=(count, 32)).astype(np.float32)
        positions.append(frame.to_deg(np.stack([east, np.zeros(count)], axis=1)))
        cities += [name] * count
        embeddings.append(directions / np.linalg.norm(directions, axis=1, keepdims=True))
        at = generator.permutation(count)[:60]
        noisy = embeddings[-1][at] + 0.1 * generator.normal(size=(60, 32)).astype(np.float32)
        query.append(noisy / np.linalg.norm(noisy, axis=1, keepdims=True))
        # Beside the street: up to one spacing from the nearest candidate.
        aside = spacing[name] * generator.uniform(-1.0, 1.0, 60)
        truth.append(frame.to_deg(np.stack([east[at], aside], axis=1)))
    none = np.zeros((0, 32), dtype=np.float32)
    places = Gallery(
        [str(at) for at in range(2 * count)], np.concatenate(positions), cities, np.concatenate(embeddings), none,
        np.zeros(0, dtype=np.int64), [],
    )  # fmt: skip
    queries, truths = np.concatenate(query).astype(np.float32), np.concatenate(truth)
    fit = fit_posterior(queries, truths, places, **GRID)
    result = calibrate(queries, truths, places, fit, np.zeros(120, dtype=np.int64))
    assert result.areas == ("dense",) * 60 + ("sparse",) * 60
    assert result.spread_m == pytest.approx({"dense": 25.0, "sparse": 61.0}, rel=5e-3)
    assert result.unreachable == 0
    fixed = RegionCells.of(places.positions_deg, cities, spread_m=25.0)
    lost = fixed.index_of(truths) < 0
    assert lost[60:].sum() >= 10, "the former reach of 100 m loses more of them than a coverage of 90 % allows"
    assert not lost[:60].any()
    cells = result.cells(places.positions_deg, cities)
    p = np.exp(log_posterior(queries, places, fit.config, smooth=True).astype(np.float64))
    alone = calibrate(queries[:60], truths[:60], places, fit, np.zeros(60, dtype=np.int64))
    for level in (0.5, 0.8, 0.9):
        for area in frames:
            assert result.threshold(level, area) is not None
        assert result.threshold(level, "dense") == alone.threshold(level)
        region = result.region(cells.mass(p[:1])[0], cells, level, "dense")
        assert region.area_km2 < 0.3 * sum(cells.area_km2[cells.centres_deg[:, 0] < 52.4])
