"""Coarse-to-fine search: the bound is one, the whole beam is the exhaustive search, and what is left out is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from swclip.errors import ConfigError, MismatchError
from swclip.gallery.gallery import Gallery
from swclip.retrieval.coarse import Caps, CoarseIndex, part_of
from swclip.retrieval.locator import Locator
from swclip.retrieval.posterior import PosteriorConfig, log_posterior

Make = Callable[..., Gallery]
PLAIN = PosteriorConfig(0.05, smoothing_m=0.0)
MIXED = PosteriorConfig(0.1, 0.07, 0.4, smoothing_m=60.0)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def structured(seed: int, places: int = 1500, dim: int = 16, photographs: int = 400) -> Gallery:
    """A town whose embeddings change smoothly over the ground, as those of a trained location encoder do."""
    generator = np.random.default_rng(seed)
    ground = generator.uniform(-0.02, 0.02, (places, 2))
    waves = ground @ generator.normal(0, 150.0, (2, dim)) + generator.uniform(0, 6, dim)
    embeddings = unit(np.sin(waves) + 0.1 * generator.normal(size=(places, dim)))
    rows = np.sort(generator.choice(places, photographs))
    return Gallery(
        [f"c{row}" for row in range(places)],
        np.array([53.8, -1.55]) + ground,
        [("Leeds", "York", None)[row % 3] for row in range(places)],
        embeddings,
        unit(embeddings[rows] + 0.3 * generator.normal(size=(photographs, dim)) / np.sqrt(dim)),
        rows,
        [f"p{row}" for row in range(photographs)],
        {"fingerprint": "tiny-0"},
    )


def asked(gallery: Gallery, seed: int, count: int = 12) -> np.ndarray:
    generator = np.random.default_rng([seed, 1])
    rows = generator.choice(len(gallery), count)
    return unit(gallery.location_embeddings[rows] + 0.1 * generator.normal(size=(count, gallery.dim)))


@settings(deadline=None, max_examples=40)
@example(3440, 2, 1.0)  # a query at the far pole of a cap of more than 90 degrees, where rounding is magnified
@given(st.integers(0, 10_000), st.integers(2, 20), st.sampled_from([0.0, 1e-4, 0.05, 1.0]))
def test_no_member_exceeds_its_cells_bound(seed: int, dim: int, spread: float) -> None:
    generator = np.random.default_rng(seed)
    cell_of = generator.integers(0, 6, 50)
    cell_of[cell_of == 3] = 4  # an empty cell
    rows = unit(generator.normal(size=(6, dim))[cell_of] + spread * generator.normal(size=(50, dim)))
    caps = Caps.of(rows, cell_of, 6)
    for query in [*unit(generator.normal(size=(5, dim))), rows[0], -rows[0], caps.centre[cell_of[7]]]:
        bound, scores = caps.bound(query), rows @ query
        assert (scores <= bound[cell_of]).all()
        assert bound[3] == -np.inf
        if spread == 0.0:  # and it is not a bound that is always 1
            assert (bound[cell_of] - scores).max() < 5e-3


def test_members_that_cancel_out_have_a_cap_all_the_same() -> None:
    rows = np.array([[1.0, 0.0], [-1.0, 0.0]], dtype=np.float32)
    caps = Caps.of(rows, np.zeros(2, dtype=np.int64), 1)
    assert caps.bound(np.array([0.0, 1.0], dtype=np.float32))[0] >= 0.0
    assert np.isfinite(caps.centre).all()


@pytest.mark.parametrize("config", [PLAIN, MIXED])
def test_branch_and_bound_finds_what_the_exhaustive_search_finds(config: PosteriorConfig) -> None:
    gallery = structured(0)
    index = CoarseIndex.of(gallery)
    assert len(gallery) / len(index) >= 32
    shares = []
    for query in asked(gallery, 0, 20):
        found = index.search(query, config, top_k=5)
        best = np.argsort(-(gallery.location_embeddings @ query), kind="stable")[:5]
        assert set(best) <= set(found.rows.tolist())
        assert found.proven
        if config.image_weight > 0:
            photographs = np.argsort(-(gallery.image_embeddings @ query), kind="stable")[:5]
            assert set(gallery.image_rows[photographs]) <= set(found.rows.tolist())
        assert found.scored_share == len(found.rows) / len(gallery)
        assert (np.diff(found.rows) > 0).all()
        shares.append(found.scored_share)
    assert np.mean(shares) < 0.7, "or nothing was pruned"


@pytest.mark.parametrize("config", [PLAIN, MIXED, replace(MIXED, image_weight=1.0)])
def test_what_is_left_out_is_never_more_than_is_said(config: PosteriorConfig) -> None:
    gallery = structured(1)
    index = CoarseIndex.of(gallery)
    queries = asked(gallery, 1)
    posterior = np.exp(log_posterior(queries, gallery, config).astype(np.float64))
    said = []
    for row, query in enumerate(queries):
        before = 1.0
        for beam in (1, 4, 12, len(index)):
            found = index.search(query, config, beam=beam, top_k=3)
            outside = 1.0 - posterior[row, found.rows].sum()
            assert outside <= found.left_out_at_most + 1e-5
            assert found.left_out_at_most <= before + 1e-9
            before = found.left_out_at_most
            said.append(before)
            if found.proven:
                best = np.argsort(-(gallery.location_embeddings @ query), kind="stable")[:3]
                assert set(best) <= set(found.rows.tolist())
        assert (found.proven, found.left_out_at_most, found.scored_share) == (True, 0.0, 1.0)
    if config.image_weight < 1.0:
        assert any(0.0 < value < 0.9 for value in said), "or the bound says nothing"


def test_a_wider_beam_recalls_more() -> None:
    gallery = structured(2)
    index, queries = CoarseIndex.of(gallery), asked(gallery, 2, 60)
    best = (queries @ gallery.location_embeddings.T).argmax(axis=1)
    recall = []
    for beam in (1, 4, 16, len(index)):
        rows = [set(index.search(query, PLAIN, beam=beam).rows.tolist()) for query in queries]
        recall.append(float(np.mean([truth in own for truth, own in zip(best, rows, strict=True)])))
    assert recall == sorted(recall)
    assert recall[2] > 0.9
    assert recall[-1] == 1.0


def test_the_whole_beam_gives_the_exhaustive_answer(
    make_gallery: Make, model: object, photographs: Callable[[int], list[Path]]
) -> None:
    gallery = make_gallery(1, places=80)
    locator, paths = Locator(gallery, model, replace(MIXED, smoothing_m=150.0)), photographs(5)
    for estimator in ("mode", "argmax", "geometric-median"):
        for path in paths:  # one at a time: a product of matrices rounds otherwise than one of a matrix and a vector
            whole = locator.locate(path, estimator=estimator)
            assert locator.locate(path, estimator=estimator, beam=10_000) == whole
    narrow = Locator(structured(3, 300, 8, 0), model, PLAIN).locate(paths, beam=1)
    assert all(0.0 < answer.scored_share < 1.0 and answer.left_out_at_most > 0.0 for answer in narrow)
    for answer in narrow:
        assert sum(c.probability for c in answer.candidates) <= 1.0 + 1e-9
        assert answer.cells[0].probability <= 1.0


def test_a_part_is_a_gallery_of_its_own(make_gallery: Make) -> None:
    gallery = make_gallery(4)
    rows = np.array([1, 3, 4, 9, 20])
    part = part_of(gallery, rows)
    assert part.candidate_ids == [f"c{row}" for row in rows]
    for new, row in enumerate(rows):
        assert part.image_ids_of(new) == gallery.image_ids_of(int(row))
        assert part.cities[new] == gallery.cities[row]
    whole = part_of(gallery, np.arange(len(gallery)))
    assert whole.image_ids == gallery.image_ids
    assert np.array_equal(whole.image_embeddings, gallery.image_embeddings)


def test_what_cannot_be_searched_is_refused(make_gallery: Make, model: object) -> None:
    gallery = make_gallery(1)
    index = CoarseIndex.of(gallery, resolution=9)
    assert index.resolution == 9
    query = gallery.location_embeddings[0]
    with pytest.raises(ConfigError, match="beam is 0"):
        index.search(query, PLAIN, beam=0)
    with pytest.raises(ConfigError, match="beam is 0"):
        Locator(gallery, model, PLAIN).locate([], beam=0)
    with pytest.raises(ConfigError, match="resolution 16"):
        CoarseIndex.of(gallery, resolution=16)
    with pytest.raises(MismatchError, match="dimension"):
        index.search(query[:-1], PLAIN)
