"""Bands of distance against loops, closed forms, and p where pairs share points."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from swclip.errors import ConfigError
from swclip.metrics.embedding_smoothness import Pairs, correlogram


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pairs_of(at_deg: np.ndarray, embeddings: np.ndarray) -> Pairs:
    return Pairs.of(at_deg, embeddings, generator=generator())


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(2, 25))
def test_bands_are_those_of_loops(seed: int, n: int) -> None:
    rng = generator(seed)
    at = np.round(rng.uniform(0, 4e-3, (n, 2)), 4)  # some at one spot
    embeddings = rng.normal(size=(n, 3))
    edges = (0, 50, 150, 400)
    pairs = pairs_of(at, embeddings)
    metres = dict(zip(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True), pairs.ground_m, strict=True))
    found = correlogram(pairs, generator=generator(), edges_m=edges, permutations=9)
    for band, low, high in zip(found, edges[:-1], edges[1:], strict=True):
        ground, apart = [], []
        for i in range(n):
            for j in range(i + 1, n):
                if low <= metres[i, j] < high:
                    ground.append(metres[i, j])
                    apart.append(pairs.distances[i, j])
        assert (band["low_m"], band["high_m"], band["pairs"]) == (low, high, len(ground))
        if ground:
            assert band["mean_distance"] == pytest.approx(np.mean(apart))
        else:
            assert band["mean_distance"] is None
        if len(ground) >= 10 and np.ptp(ground) > 0:
            assert band["spearman"] == pytest.approx(spearmanr(ground, apart).statistic, abs=1e-9)
            assert 0.0 < band["p"] <= 1.0
        elif len(ground) < 10:
            assert (band["spearman"], band["p"]) == (None, None)


def test_a_street_on_which_the_embedding_turns() -> None:
    """Embeddings at an angle of 0.01 a step: the distance of pairs m steps apart is 1 - cos(0.01 m), everywhere."""
    steps = np.arange(200)
    at, turn = np.stack([np.zeros(200), steps * 1e-4], axis=1), 0.01 * steps  # 11.12 m a step
    found = correlogram(pairs_of(at, np.stack([np.cos(turn), np.sin(turn)], axis=1)), generator=generator())
    by_hand = {
        10.0: (199 + 198, (199 * (1 - np.cos(0.01)) + 198 * (1 - np.cos(0.02))) / (199 + 198)),
        25.0: (197 + 196, (197 * (1 - np.cos(0.03)) + 196 * (1 - np.cos(0.04))) / (197 + 196)),
    }
    for band in found[1:3]:
        pairs, mean = by_hand[band["low_m"]]
        assert band["pairs"] == pairs
        assert band["mean_distance"] == pytest.approx(mean)
    assert found[0]["pairs"] == 0
    assert found[0]["mean_distance"] is None
    for band in found[1:]:
        assert band["spearman"] == pytest.approx(1.0)
        assert band["p"] == 0.01
    means = [band["mean_distance"] for band in found[1:]]
    assert means == sorted(means)


def test_the_order_of_the_points_changes_no_figure_but_p() -> None:
    at, embeddings = generator(1).uniform(0, 5e-3, (40, 2)), generator(2).normal(size=(40, 4))
    order = generator(3).permutation(40)
    one = correlogram(pairs_of(at, embeddings), generator=generator(), permutations=19)
    other = correlogram(pairs_of(at[order], embeddings[order]), generator=generator(), permutations=19)
    for a, b in zip(one, other, strict=True):
        for key in ("pairs", "mean_distance", "spearman"):
            assert b[key] == pytest.approx(a[key])


def test_p_respects_that_pairs_share_points() -> None:
    """Embeddings that have nothing to do with the ground, some of them far from all others: few p are small.

    With the pairs of the band taken as independent, many more would be.
    """
    small, naive = 0, 0
    for seed in range(80):
        rng = generator(seed)
        at = np.stack([np.zeros(14), rng.standard_t(2, 14) * 1e-3], axis=1)
        turn = np.clip(rng.standard_t(2, 14) * 0.05, -1.5, 1.5)
        pairs = pairs_of(at, np.stack([np.cos(turn), np.sin(turn)], axis=1))
        (band,) = correlogram(pairs, generator=rng, edges_m=(0, 1e6), permutations=99)
        assert band["pairs"] == 91
        small += band["p"] <= 0.05
        naive += spearmanr(pairs.ground_m, pairs.distances[pairs.first, pairs.second]).pvalue <= 0.05
    assert small <= 9
    assert naive >= 12


def test_at_most_so_many_pairs() -> None:
    at, embeddings = generator(1).uniform(0, 5e-3, (60, 2)), generator(2).normal(size=(60, 4)) + 500 * 0.1
    pairs = pairs_of(at, embeddings)
    whole = correlogram(pairs, generator=generator(), edges_m=(0, 1000), permutations=9)[0]
    drawn = correlogram(pairs, generator=generator(), edges_m=(0, 1000), permutations=9, most_pairs=400)[0]
    assert whole["pairs"] > 1000
    assert drawn["pairs"] == 400
    assert drawn["mean_distance"] == pytest.approx(whole["mean_distance"], rel=0.2)


def test_where_all_are_equal_there_is_no_correlation() -> None:
    spot = correlogram(pairs_of(np.ones((20, 2)), generator().normal(size=(20, 3))), generator=generator())
    assert spot[0]["pairs"] == 190
    assert spot[0]["mean_distance"] > 0.0
    assert (spot[0]["spearman"], spot[0]["p"]) == (None, None)
    alike = correlogram(pairs_of(generator().uniform(0, 1e-3, (20, 2)), np.ones((20, 3))), generator=generator())
    assert {band["mean_distance"] for band in alike} <= {0.0, None}
    assert {(band["spearman"], band["p"]) for band in alike} == {(None, None)}


@pytest.mark.parametrize("edges", [(0.0,), (0.0, 10.0, 10.0), (5.0, 1.0), (0.0, float("nan"))])
def test_edges_must_increase(edges: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="edges that increase"):
        correlogram(pairs_of(np.ones((3, 2)), np.ones((3, 2))), generator=generator(), edges_m=edges)
