"""Pooling against a loop and Bayes' rule: order, copies, and priors."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swclip.calibration.posterior_config import PosteriorConfig
from swclip.gallery.gallery import Gallery
from swclip.retrieval.evidence import Evidence
from swclip.retrieval.pooling import EXPONENT, combine_evidence, pooled
from swclip.retrieval.prior import Weights
from swclip.retrieval.scores import Photographed, log_softmax

CONFIG = PosteriorConfig(0.1, 0.1, 0.4, smoothing_m=150.0)
SEEDS, COUNTS, EXPONENTS = st.integers(0, 10_000), st.integers(1, 6), st.floats(0.0, 1.0)


def posteriors(seed: int, count: int, places: int = 7) -> np.ndarray:
    return log_softmax(np.random.default_rng(seed).normal(0, 3, (count, places)))


def evidence_of(gallery: Gallery, query: np.ndarray, config: PosteriorConfig = CONFIG) -> Evidence:
    return Evidence.of(query, gallery, config, Photographed.of(gallery))


@given(SEEDS, COUNTS, EXPONENTS)
def test_pooling_follows_its_formula(seed: int, count: int, exponent: float) -> None:
    log_p, weight = posteriors(seed, count), np.random.default_rng(seed + 1).normal(0, 2, 7)
    result = np.exp(pooled(log_p, True, weight, exponent))
    expected = []
    for place in range(7):
        product = math.prod(math.exp(row[place]) for row in log_p)
        expected.append(math.exp(weight[place]) * product ** (1.0 / count**exponent))
    assert result.shape == (1, 7)
    np.testing.assert_allclose(result[0], np.array(expected) / sum(expected), rtol=1e-9)


def test_the_product_is_bayes_rule_for_independent_photographs() -> None:
    # Three places, two tellings each: p(x | m) by a table, all pairs of tellings.
    likelihood, weight = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]]), np.array([1.0, 2.0, 3.0])
    for first in (0, 1):
        for second in (0, 1):
            joint = weight * likelihood[:, first] * likelihood[:, second]
            alone = np.log(np.stack([likelihood[:, x] / likelihood[:, x].sum() for x in (first, second)]))
            result = np.exp(pooled(alone, True, np.log(weight), exponent=0.0))[0]
            np.testing.assert_allclose(result, joint / joint.sum(), rtol=1e-12)


@given(SEEDS, COUNTS, EXPONENTS, st.randoms())
def test_the_order_of_photographs_has_no_effect(seed: int, count: int, exponent: float, random: object) -> None:
    log_p = posteriors(seed, count)
    order = np.random.default_rng(seed).permutation(count)
    np.testing.assert_allclose(
        pooled(log_p[order], True, None, exponent), pooled(log_p, True, None, exponent), atol=1e-10
    )


@given(SEEDS, COUNTS)
def test_copies_of_a_photograph_add_no_evidence(seed: int, count: int) -> None:
    one = posteriors(seed, 1)
    np.testing.assert_allclose(pooled(np.repeat(one, count, axis=0), True, exponent=1.0), one, atol=1e-10)
    # With the exponent that answers have, they say a little more: the best place gains.
    several = pooled(np.repeat(one, count, axis=0), True)
    assert several.max() >= one.max() - 1e-12


@given(SEEDS, st.integers(2, 6))
def test_a_larger_exponent_is_less_confident(seed: int, count: int) -> None:
    log_p = posteriors(seed, count)
    entropies = []
    for exponent in (0.0, EXPONENT, 1.0):
        result = pooled(log_p, True, exponent=exponent)
        entropies.append(-(np.exp(result) * result).sum())
    assert entropies == sorted(entropies)


def test_single_photographs_are_not_pooled() -> None:
    log_p = posteriors(3, 4)
    assert pooled(log_p, False) is log_p
    assert pooled(log_p[:1], True) is not None
    np.testing.assert_array_equal(pooled(log_p[:1], True), log_p[:1])
    weight = np.random.default_rng(0).normal(size=7)
    for row, result in zip(log_p, np.exp(pooled(log_p, False, weight)), strict=True):
        expected = np.exp(row) * np.exp(weight)
        np.testing.assert_allclose(result, expected / expected.sum(), rtol=1e-10)


@pytest.mark.parametrize("together", [True, False])
def test_a_prior_applies_bayes_rule_to_the_posterior_of_the_whole_gallery(
    make_gallery: Callable[..., Gallery], make_queries: Callable[..., np.ndarray], together: bool
) -> None:
    gallery, query = make_gallery(4), make_queries(4, 3)
    evidence = evidence_of(gallery, query)
    rows, weight = np.arange(0, len(gallery), 2), np.random.default_rng(9).normal(0, 2, len(gallery))
    result, behind = combine_evidence(evidence, together, Weights(rows, weight))
    p, w = np.exp(evidence.log_p), np.exp(weight)
    for at in range(1 if together else 3):
        single = p.prod(axis=0) ** (1 / 3**EXPONENT) if together else p[at]
        expected = single[rows] * w[rows]
        np.testing.assert_allclose(np.exp(result[at]), expected / expected.sum(), rtol=1e-9)
    assert [len(single) for single in behind] == ([3] if together else [1, 1, 1])
    for at in range(3):
        # Behind it is what each photograph says alone, with the prior too.
        single = behind[0].rows(slice(at, at + 1)) if together else behind[at]
        expected = p[at, rows] * w[rows]
        np.testing.assert_allclose(np.exp(single.log_p[0]), expected / expected.sum(), rtol=1e-9)
        share = np.exp(evidence.log_location[at, rows] - evidence.log_p[at, rows])
        np.testing.assert_allclose(np.exp(single.log_location[0] - single.log_p[0]), share, rtol=1e-9)


@pytest.mark.parametrize("image_weight", [0.0, 0.4, 1.0])
def test_the_parts_of_the_evidence_are_those_of_the_mixture(
    make_gallery: Callable[..., Gallery], make_queries: Callable[..., np.ndarray], image_weight: float
) -> None:
    gallery, query = make_gallery(6), make_queries(6, 2)
    config = PosteriorConfig(0.1, 0.2, image_weight)
    evidence = evidence_of(gallery, query, config)
    with_photographs = set(gallery.image_rows.tolist())
    for at, single in enumerate(query.astype(np.float64)):
        logits = [math.exp(float(single @ row) / 0.1) for row in gallery.location_embeddings.astype(np.float64)]
        for place in range(len(gallery)):
            located = logits[place] / sum(logits)
            kept = 1.0 - image_weight if place in with_photographs else 1.0
            assert np.exp(evidence.log_location[at, place]) == pytest.approx(kept * located, rel=1e-5)
    np.testing.assert_allclose(np.exp(evidence.log_p).sum(axis=1), 1.0, rtol=1e-9)
