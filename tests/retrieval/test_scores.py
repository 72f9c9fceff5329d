"""The evidence about a candidate: against loops over its neighbours, its photographs and the formula."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from swclip.calibration.posterior_config import PosteriorConfig
from swclip.errors import MismatchError
from swclip.gallery.gallery import Gallery
from swclip.geo.spatial_smoothing import ground_kernel, outflow
from swclip.models.photograph_vectors import PhotographVectors, Vectors
from swclip.retrieval.evidence import CandidateEvidence, Evidence
from swclip.retrieval.posterior import smoothed
from swclip.retrieval.scores import Photographed, check_queries, log_probability

Galleries, Queries = Callable[..., Gallery], Callable[..., np.ndarray]


def evidence_about(gallery: Gallery, query: Vectors, config: PosteriorConfig, rows: np.ndarray) -> CandidateEvidence:
    photographed = Photographed.of(gallery)
    evidence = Evidence.of(query, gallery, config, photographed)
    kernel = ground_kernel(gallery.positions_deg, config.smoothing_m, config.kernel)
    return CandidateEvidence.of(evidence, rows, gallery, photographed, config, kernel, outflow(kernel))


def with_whitened(gallery: Gallery, query: np.ndarray, seed: int = 0) -> tuple[Gallery, PhotographVectors]:
    """Random whitened features of a gallery's photographs and of queries."""
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(len(gallery.image_ids) + len(query), 5))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    count = len(gallery.image_ids)
    return replace(gallery, image_whitened=rows[:count]), PhotographVectors(query, rows[count:])


@pytest.mark.parametrize("smoothing_m", [0.0, 200.0])
@pytest.mark.parametrize("image_weight", [0.3, 1.0])
@pytest.mark.parametrize("whitened_temperature", [None, 0.3])
def test_location_and_images_give_the_stated_probability(
    make_gallery: Galleries,
    make_queries: Queries,
    smoothing_m: float,
    image_weight: float,
    whitened_temperature: float | None,
) -> None:
    gallery, query, rows = make_gallery(1), make_queries(1, 3), np.array([20, 3, 11, 0])
    gallery, vectors = with_whitened(gallery, query)
    assert gallery.image_whitened is not None
    assert vectors.whitened is not None
    config = PosteriorConfig(0.2, 0.1, image_weight, smoothing_m, whitened_temperature=whitened_temperature)
    result = evidence_about(gallery, vectors, config, rows)
    kernel = ground_kernel(gallery.positions_deg, smoothing_m, "gaussian").toarray()
    with_photographs = sorted(set(gallery.image_rows.tolist()))
    for at, vector in enumerate(query.astype(np.float64)):
        located = np.exp(gallery.location_embeddings.astype(np.float64) @ vector / 0.2)
        located /= located.sum()
        seen = np.zeros(len(gallery))
        for row in with_photographs:
            images = gallery.image_embeddings[gallery.image_rows == row].astype(np.float64)
            logit = (images @ vector).max() / 0.1
            if whitened_temperature is not None:
                whitened = gallery.image_whitened[gallery.image_rows == row].astype(np.float64)
                logit += (whitened @ vectors.whitened[at]).max() / whitened_temperature
            seen[row] = np.exp(logit)
        seen *= located[with_photographs].sum() / seen.sum()
        keeps = np.where(np.isin(np.arange(len(gallery)), with_photographs), 1.0 - image_weight, 1.0)
        for column, row in enumerate(rows):
            by_location = by_image = 0.0
            for other in range(len(gallery)):
                handed = kernel[other, row] / kernel[other].sum()
                by_location += handed * keeps[other] * located[other]
                by_image += handed * image_weight * seen[other]
            assert result.probability[at, column] == pytest.approx(by_location + by_image, rel=1e-4)
            assert result.image_share[at, column] == pytest.approx(by_image / (by_location + by_image), abs=1e-4)


def test_the_probability_is_that_of_the_smoothed_posterior(make_gallery: Galleries, make_queries: Queries) -> None:
    gallery, query, config = make_gallery(2), make_queries(2, 4), PosteriorConfig(0.1, 0.1, 0.4, 150.0)
    every = np.arange(len(gallery))
    log_p = Evidence.of(query, gallery, config, Photographed.of(gallery)).log_p
    whole = np.exp(smoothed(log_p, ground_kernel(gallery.positions_deg, 150.0)))
    np.testing.assert_allclose(evidence_about(gallery, query, config, every).probability, whole, rtol=1e-9)


def test_photographs_are_ordered_by_similarity(make_gallery: Galleries, make_queries: Queries) -> None:
    gallery, query, every = make_gallery(3), make_queries(3, 2), np.arange(30)
    result = evidence_about(gallery, query, PosteriorConfig(0.1, 0.1, 0.4, 0.0), every)
    cosine = query.astype(np.float64) @ gallery.image_embeddings.T.astype(np.float64)
    for row in every:
        vector = np.flatnonzero(gallery.image_rows == row)
        for values, listed in (
            (cosine.max(axis=0), result.ranked_photographs(row, gallery.image_ids)),
            (cosine[1], result.ranked_photographs(row, gallery.image_ids, 1)),
        ):
            expected = sorted(((values[at], gallery.image_ids[at]) for at in vector), reverse=True)
            assert [name for name, _ in listed] == [name for _, name in expected]
            assert [value for _, value in listed] == pytest.approx([value for value, _ in expected], abs=1e-6)
    assert sum(len(result.ranked_photographs(row, gallery.image_ids)) for row in every) == len(gallery.image_ids)


def test_hubness_is_subtracted_as_in_the_posterior(make_gallery: Galleries, make_queries: Queries) -> None:
    gallery, query, rows = make_gallery(5), make_queries(5, 2), np.array([1, 4, 25])
    rng = np.random.default_rng(0)
    hubness = rng.uniform(size=25).astype(np.float32)
    gallery = replace(gallery, image_hubness=hubness)
    plain = evidence_about(gallery, query, PosteriorConfig(0.1, 0.1, 0.4), rows)
    less = evidence_about(gallery, query, PosteriorConfig(0.1, 0.1, 0.4, image_hubness=0.25), rows)
    np.testing.assert_array_equal(less.location_similarity, plain.location_similarity)
    for vector, before, after in zip(plain.photographs, plain.image_similarity, less.image_similarity, strict=True):
        np.testing.assert_allclose(after, before - 0.25 * hubness[vector], atol=1e-7)


def test_whitened_features_must_exist_where_the_posterior_uses_them(
    make_gallery: Galleries, make_queries: Queries
) -> None:
    gallery, query = make_gallery(5), make_queries(5, 2)
    whitened, vectors = with_whitened(gallery, query)
    config, photographed = PosteriorConfig(0.1, 0.1, 0.4, whitened_temperature=0.1), Photographed.of(gallery)
    for without, queries, names in (
        (gallery, vectors, "this gallery has none"),
        (whitened, query, "the query has none"),
    ):
        with pytest.raises(MismatchError, match=names):
            log_probability(queries, without, config, photographed)
    other = PhotographVectors(query, np.zeros((2, 3), dtype=np.float32))
    with pytest.raises(MismatchError, match=r"whitened features have shape \(2, 3\)"):
        check_queries(other, whitened)
    # Zeros are no evidence: the answer is that without whitened features.
    zeros = PhotographVectors(query, np.zeros((2, 5), dtype=np.float32))
    plain = log_probability(query, gallery, replace(config, whitened_temperature=None), photographed)
    np.testing.assert_allclose(log_probability(zeros, whitened, config, photographed), plain, rtol=1e-12)


def test_a_candidate_without_probability_has_no_share(make_gallery: Galleries, make_queries: Queries) -> None:
    gallery, query = make_gallery(7, with_photographs=0, photographs=0), make_queries(7, 1)
    result = evidence_about(gallery, query, PosteriorConfig(0.0001, smoothing_m=0.0), np.arange(30))
    nothing = result.probability[0] == 0.0
    assert nothing.any()
    for at in range(30):
        assert result.image_share_of(at, 0) == (None if nothing[at] else 0.0)
        assert result.ranked_photographs(at, gallery.image_ids) == ()


@pytest.mark.parametrize("rows", [1, 3, 8, 11])
def test_scores_of_a_query_do_not_depend_on_the_others(rows: int) -> None:
    generator = np.random.default_rng(0)

    def unit(count: int) -> np.ndarray:
        vectors = generator.normal(size=(count, 96))
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    at = np.sort(generator.integers(0, 2000, 1500))
    positions = np.array([51.5, -0.1]) + generator.normal(0, 0.01, (2000, 2))
    gallery = Gallery(
        [f"c{i}" for i in range(2000)], positions, [None] * 2000, unit(2000), unit(1500), at,
        [f"p{i}" for i in range(1500)], {"fingerprint": "x"},
    )  # fmt: skip
    queries, photographed = unit(24), Photographed.of(gallery)
    config = PosteriorConfig(location_temperature=0.01, image_temperature=0.01, image_weight=0.5)
    whole = log_probability(queries, gallery, config, photographed)
    parts = [
        log_probability(queries[start : start + rows], gallery, config, photographed) for start in range(0, 24, rows)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
