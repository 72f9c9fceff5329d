"""Distances of pairs against the haversine and the cosine, one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swclip.errors import InputError
from swclip.geo.distance import haversine_m
from swclip.metrics.embedding_smoothness import Pairs


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(
    st.lists(st.tuples(st.floats(-90, 90), st.floats(-180, 180)), min_size=0, max_size=12), st.integers(0, 2**32 - 1)
)
def test_each_pair_once_with_its_distances(at: list[tuple[float, float]], seed: int) -> None:
    n = len(at)
    embeddings = generator(seed).normal(size=(n, 3)) + 0.01
    pairs = Pairs.of(np.array(at).reshape(-1, 2), embeddings, generator=generator())
    assert len(pairs) == n
    assert list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == [
        (i, j) for i in range(n) for j in range(i + 1, n)
    ]
    for i, j, ground_m in zip(pairs.first, pairs.second, pairs.ground_m, strict=True):
        # Near the antipode a chord of the sphere says little of the angle.
        assert ground_m == pytest.approx(float(haversine_m(*np.float64(at[i]), *np.float64(at[j]))), rel=1e-7, abs=1.0)
        a, b = embeddings[i].tolist(), embeddings[j].tolist()
        cosine = sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)
        assert pairs.distances[i, j] == pytest.approx(1.0 - cosine, abs=1e-9)
    assert (pairs.distances == pairs.distances.T).all()
    assert not np.diag(pairs.distances).any()


def test_metres_apart_are_metres() -> None:
    """Where a cosine of two positions would be 1 but for rounding."""
    step_deg = 0.5 / 111_195.08
    pairs = Pairs.of([[51.5, 0.0], [51.5 + step_deg, 0.0]], np.ones((2, 1)), generator=generator())
    assert pairs.ground_m[0] == pytest.approx(0.5, rel=1e-6)


def test_equal_embeddings_are_equally_far() -> None:
    """Whatever their lengths, in float32 too: ties are ties."""
    rng = generator()
    three = rng.normal(size=(3, 64))
    embeddings = (three[rng.integers(3, size=40)] * rng.uniform(0.5, 2.0, (40, 1))).astype(np.float32)
    repeated = np.vstack([embeddings[:5]] * 8)
    pairs = Pairs.of(rng.uniform(0, 1, (40, 2)), repeated, generator=generator())
    assert len(np.unique(pairs.distances)) <= 1 + 5 * 4 // 2
    assert (pairs.distances >= 0.0).all()


def test_a_sample_of_many() -> None:
    at, embeddings = generator(1).uniform(0, 1, (50, 2)), generator(2).normal(size=(50, 4))
    pairs = Pairs.of(at, embeddings, generator=generator(3), most=20)
    assert (len(pairs), len(pairs.ground_m)) == (20, 190)
    rows = [at.tolist().index(own) for own in pairs.positions_deg.tolist()]
    assert rows == sorted(set(rows))
    assert pairs.embeddings == pytest.approx(embeddings[rows] / np.linalg.norm(embeddings[rows], axis=1, keepdims=True))
    again = Pairs.of(at, embeddings, generator=generator(3), most=20)
    assert again.positions_deg.tolist() == pairs.positions_deg.tolist()


@pytest.mark.parametrize(
    ("at", "embeddings", "message"),
    [
        ([[0, 0], [0, 1]], np.ones((3, 2)), "2 positions and embeddings of shape"),
        ([[0, 0], [0, 1]], np.ones(2), "2 positions and embeddings of shape"),
        ([[0, 0], [91, 1]], np.ones((2, 2)), r"row 1: position \[91.0, 1.0\]"),
        ([[0, 0], [0, 1]], np.array([[1.0, 0.0], [0.0, 0.0]]), "row 1: an embedding of length 0.0"),
        ([[0, 0], [0, 1]], np.array([[np.nan, 0.0], [0.0, 1.0]]), "row 0: an embedding of length nan"),
    ],
)
def test_what_cannot_be_compared_is_refused(at: object, embeddings: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Pairs.of(at, embeddings, generator=generator())  # type: ignore[arg-type]
