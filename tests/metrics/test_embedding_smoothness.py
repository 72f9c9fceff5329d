"""Spatial smoothness against loops, closed forms, and what must not change it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from swclip.errors import ConfigError
from swclip.geo.distance import haversine_m
from swclip.metrics import embedding_smoothness as smoothness
from swclip.metrics.embedding_smoothness import Pairs, spatial_smoothness


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pairs_of(at_deg: np.ndarray, embeddings: np.ndarray) -> Pairs:
    return Pairs.of(at_deg, embeddings, generator=generator())


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(3, 20), st.integers(1, 5))
def test_it_is_that_of_loops(seed: int, n: int, k: int) -> None:
    rng = generator(seed)
    at, embeddings = rng.uniform(0, 8e-3, (n, 2)), rng.normal(size=(n, 3))
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    found = spatial_smoothness(pairs_of(at, embeddings), generator=generator(), k=k, within_m=400.0)
    near, every, ground, apart = [], [], [], []
    for i in range(n):
        others = sorted((1.0 - float(unit[i] @ unit[j]), j) for j in range(n) if j != i)
        near += [float(haversine_m(*at[i], *at[j])) for _, j in others[:k]]
        for j in range(i + 1, n):
            metres = float(haversine_m(*at[i], *at[j]))
            every.append(metres)
            if metres <= 400.0:
                ground.append(metres)
                apart.append(1.0 - float(unit[i] @ unit[j]))
    assert found["k"] == min(k, n - 1)
    assert found["ratio"] == pytest.approx(np.mean(near) / np.mean(every))
    if len(ground) > 1:
        assert found["spearman"] == pytest.approx(spearmanr(ground, apart).statistic, abs=1e-6)
    else:
        assert found["spearman"] is None


def test_a_street_on_which_the_embedding_turns() -> None:
    """The two nearest of n points on a line are one step away, at the ends one and two: closed form."""
    n = 50
    at, turn = np.stack([np.zeros(n), np.arange(n) * 1e-4], axis=1), 0.01 * np.arange(n)
    found = spatial_smoothness(pairs_of(at, np.stack([np.cos(turn), np.sin(turn)], 1)), generator=generator(), k=2)
    near = ((n - 2) * 2 + 2 * (1 + 2)) / (2 * n)
    assert found["ratio"] == pytest.approx(near / ((n + 1) / 3))  # the mean of |i - j| over pairs is (n + 1) / 3
    assert found["spearman"] == pytest.approx(1.0)


@pytest.mark.parametrize("k", [1, 4, 29])
def test_equal_embeddings_know_nothing(k: int) -> None:
    """Equals share the places among the k, so that the ratio is 1, whatever the order."""
    found = spatial_smoothness(
        pairs_of(generator().uniform(0, 1e-2, (30, 2)), np.ones((30, 4))), generator=generator(), k=k
    )
    assert found["ratio"] == pytest.approx(1.0)
    assert found["spearman"] is None


def test_the_order_of_the_points_changes_nothing() -> None:
    rng = generator()
    at, embeddings, order = rng.uniform(0, 5e-3, (40, 2)), rng.integers(0, 2, (40, 3)) + 0.5, rng.permutation(40)
    one = spatial_smoothness(pairs_of(at, embeddings), generator=generator(), k=3)
    other = spatial_smoothness(pairs_of(at[order], embeddings[order]), generator=generator(), k=3)
    assert other == pytest.approx(one)


def test_embeddings_without_regard_to_the_ground() -> None:
    at, embeddings = generator(1).uniform(0, 1e-2, (400, 2)), generator(2).normal(size=(400, 8))
    found = spatial_smoothness(pairs_of(at, embeddings), generator=generator())
    assert found["ratio"] == pytest.approx(1.0, abs=0.05)
    assert found["spearman"] == pytest.approx(0.0, abs=0.05)


def test_by_pieces_and_with_fewer_pairs_ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    at = generator(1).uniform(0, 5e-3, (60, 2))
    embeddings = np.hstack([(at - at.mean(0)) * 1e3, generator(2).normal(size=(60, 2))])
    whole = spatial_smoothness(pairs_of(at, embeddings), generator=generator())
    monkeypatch.setattr(smoothness, "_ROWS_AT_ONCE", 7)
    monkeypatch.setattr(smoothness, "_MOST_RANKED", 600)
    pieces = spatial_smoothness(pairs_of(at, embeddings), generator=generator())
    assert pieces["ratio"] == pytest.approx(whole["ratio"], rel=1e-12)
    assert pieces["spearman"] != whole["spearman"]
    assert pieces["spearman"] == pytest.approx(whole["spearman"], abs=0.1)


def test_where_there_is_none() -> None:
    spot = spatial_smoothness(pairs_of(np.ones((5, 2)), generator().normal(size=(5, 2))), generator=generator())
    assert spot == {"k": 4, "ratio": None, "spearman": None, "within_m": 500.0}
    one = spatial_smoothness(pairs_of(np.ones((1, 2)), np.ones((1, 2))), generator=generator())
    assert one == {"k": 0, "ratio": None, "spearman": None, "within_m": 500.0}


@pytest.mark.parametrize(("k", "within_m"), [(0, 500.0), (3, 0.0), (3, float("nan"))])
def test_what_cannot_work_is_refused(k: int, within_m: float) -> None:
    with pytest.raises(ConfigError):
        spatial_smoothness(pairs_of(np.ones((5, 2)), np.ones((5, 2))), generator=generator(), k=k, within_m=within_m)
