"""Spatial smoothness, Mantel test, correlogram and pairs against loops, closed forms and published values."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform
from scipy.stats import pearsonr, rankdata, spearmanr

from swclip.errors import ConfigError, InputError
from swclip.geo.distance import haversine_m
from swclip.metrics import embedding_smoothness as smoothness
from swclip.metrics.embedding_smoothness import Pairs, correlogram, mantel, spatial_smoothness


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pairs_of(at_deg: np.ndarray, embeddings: np.ndarray) -> Pairs:
    return Pairs.of(at_deg, embeddings, generator=generator())


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(3, 20), st.integers(1, 5))
def test_smoothness_equals_loops(seed: int, n: int, k: int) -> None:
    rng = generator(seed)
    at, embeddings = rng.uniform(0, 8e-3, (n, 2)), rng.normal(size=(n, 3))
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    result = spatial_smoothness(pairs_of(at, embeddings), generator=generator(), k=k, within_m=400.0)
    near, all_distances, ground, embedding_distance = [], [], [], []
    for i in range(n):
        others = sorted((1.0 - float(unit[i] @ unit[j]), j) for j in range(n) if j != i)
        near += [float(haversine_m(*at[i], *at[j])) for _, j in others[:k]]
        for j in range(i + 1, n):
            metres = float(haversine_m(*at[i], *at[j]))
            all_distances.append(metres)
            if metres <= 400.0:
                ground.append(metres)
                embedding_distance.append(1.0 - float(unit[i] @ unit[j]))
    assert result["k"] == min(k, n - 1)
    assert result["ratio"] == pytest.approx(np.mean(near) / np.mean(all_distances))
    if len(ground) > 1:
        assert result["spearman"] == pytest.approx(spearmanr(ground, embedding_distance).statistic, abs=1e-6)
    else:
        assert result["spearman"] is None


def test_smoothness_of_an_embedding_that_turns_along_a_street() -> None:
    """The two nearest of n points on a line are one step away, at the ends one and two: closed form."""
    n = 50
    at, turn = np.stack([np.zeros(n), np.arange(n) * 1e-4], axis=1), 0.01 * np.arange(n)
    result = spatial_smoothness(pairs_of(at, np.stack([np.cos(turn), np.sin(turn)], 1)), generator=generator(), k=2)
    near = ((n - 2) * 2 + 2 * (1 + 2)) / (2 * n)
    assert result["ratio"] == pytest.approx(near / ((n + 1) / 3))  # the mean of |i - j| over pairs is (n + 1) / 3
    assert result["spearman"] == pytest.approx(1.0)


@pytest.mark.parametrize("k", [1, 4, 29])
def test_smoothness_of_equal_embeddings(k: int) -> None:
    """Ties share the ranks among the k, so that the ratio is 1 in any order."""
    result = spatial_smoothness(
        pairs_of(generator().uniform(0, 1e-2, (30, 2)), np.ones((30, 4))), generator=generator(), k=k
    )
    assert result["ratio"] == pytest.approx(1.0)
    assert result["spearman"] is None


def test_smoothness_is_invariant_to_the_order_of_the_points() -> None:
    rng = generator()
    at, embeddings, order = rng.uniform(0, 5e-3, (40, 2)), rng.integers(0, 2, (40, 3)) + 0.5, rng.permutation(40)
    original = spatial_smoothness(pairs_of(at, embeddings), generator=generator(), k=3)
    permuted = spatial_smoothness(pairs_of(at[order], embeddings[order]), generator=generator(), k=3)
    assert permuted == pytest.approx(original)


def test_smoothness_of_embeddings_independent_of_position() -> None:
    at, embeddings = generator(1).uniform(0, 1e-2, (400, 2)), generator(2).normal(size=(400, 8))
    result = spatial_smoothness(pairs_of(at, embeddings), generator=generator())
    assert result["ratio"] == pytest.approx(1.0, abs=0.05)
    assert result["spearman"] == pytest.approx(0.0, abs=0.05)


def test_smoothness_in_chunks_and_with_sampled_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    at = generator(1).uniform(0, 5e-3, (60, 2))
    embeddings = np.hstack([(at - at.mean(0)) * 1e3, generator(2).normal(size=(60, 2))])
    whole = spatial_smoothness(pairs_of(at, embeddings), generator=generator())
    monkeypatch.setattr(smoothness, "_ROWS_AT_ONCE", 7)
    monkeypatch.setattr(smoothness, "_MOST_RANKED", 600)
    pieces = spatial_smoothness(pairs_of(at, embeddings), generator=generator())
    assert pieces["ratio"] == pytest.approx(whole["ratio"], rel=1e-12)
    assert pieces["spearman"] != whole["spearman"]
    assert pieces["spearman"] == pytest.approx(whole["spearman"], abs=0.1)


def test_smoothness_is_undefined_for_one_position() -> None:
    same_position = spatial_smoothness(
        pairs_of(np.ones((5, 2)), generator().normal(size=(5, 2))), generator=generator()
    )
    assert same_position == {"k": 4, "ratio": None, "spearman": None, "within_m": 500.0}
    original = spatial_smoothness(pairs_of(np.ones((1, 2)), np.ones((1, 2))), generator=generator())
    assert original == {"k": 0, "ratio": None, "spearman": None, "within_m": 500.0}


@pytest.mark.parametrize(("k", "within_m"), [(0, 500.0), (3, 0.0), (3, float("nan"))])
def test_invalid_smoothness_arguments_are_refused(k: int, within_m: float) -> None:
    with pytest.raises(ConfigError):
        spatial_smoothness(pairs_of(np.ones((5, 2)), np.ones((5, 2))), generator=generator(), k=k, within_m=within_m)


def distances(seed: int, n: int, dimensions: int = 2) -> np.ndarray:
    return squareform(pdist(generator(seed).normal(size=(n, dimensions))))


def correlation_loop(a: np.ndarray, b: np.ndarray, order: tuple[int, ...]) -> float:
    n = len(a)
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    return statistics.correlation([a[order[i], order[j]] for i, j in pairs], [b[i, j] for i, j in pairs])


SMALL = np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 3.0], [2.0, 3.0, 0.0]])
OTHER = np.array([[0.0, 2.0, 7.0], [2.0, 0.0, 6.0], [7.0, 6.0, 0.0]])


def test_mantel_of_a_published_example() -> None:
    """PyCogent and scikit-bio test with these matrices: 0.755928946018, checked in R; it is 2 / sqrt(7)."""
    test = mantel(SMALL, OTHER, generator=generator(), ranks=False)
    assert test is not None
    assert test.r == pytest.approx(0.755928946018, abs=1e-12)
    itself = mantel(SMALL, SMALL, generator=generator(), permutations=5_999, ranks=False)
    assert itself is not None
    assert itself.r == pytest.approx(1.0)
    assert itself.p == pytest.approx(2.0 / 6.0, abs=0.03)  # one of the six orders, on either side


@pytest.mark.parametrize("ranks", [False, True])
def test_mantel_p_equals_all_permutations(ranks: bool) -> None:
    a, b = distances(1, 6), distances(2, 6) + 0.5 * distances(1, 6)
    if ranks:
        a, b = (squareform(rankdata(squareform(table, checks=False))) for table in (a, b))
    all_r = np.array([correlation_loop(a, b, order) for order in itertools.permutations(range(6))])
    observed = correlation_loop(a, b, tuple(range(6)))
    exact = min(1.0, 2.0 * min(np.mean(all_r >= observed - 1e-12), np.mean(all_r <= observed + 1e-12)))
    test = mantel(a, b, generator=generator(), permutations=9_999, ranks=ranks)
    assert test is not None
    assert test.r == pytest.approx(observed)
    assert test.p == pytest.approx(exact, abs=0.02)


@given(st.integers(3, 12), st.integers(0, 1000), st.booleans())
def test_mantel_r_equals_the_correlation_of_the_pairs(n: int, seed: int, ranks: bool) -> None:
    a, b = distances(seed, n), distances(seed + 1, n)
    test = mantel(a, b, generator=generator(), permutations=9, ranks=ranks)
    first, second = np.triu_indices(n, 1)
    x, y = a[first, second], b[first, second]
    expected = pearsonr(rankdata(x), rankdata(y)) if ranks else pearsonr(x, y)
    assert test is not None
    assert test.r == pytest.approx(expected.statistic, abs=1e-9)
    assert 0.2 <= test.p <= 1.0


@given(st.integers(4, 10), st.integers(0, 1000))
def test_mantel_r_is_symmetric_and_invariant_to_order(n: int, seed: int) -> None:
    a, b, order = distances(seed, n), distances(seed + 1, n), generator(seed).permutation(n)
    r_forward = mantel(a, b, generator=generator(), permutations=9)
    r_permuted = mantel(b[order][:, order], a[order][:, order], generator=generator(), permutations=9)
    assert r_forward is not None
    assert r_permuted is not None
    assert r_permuted.r == pytest.approx(r_forward.r, abs=1e-12)


def test_mantel_accounts_for_outlying_points() -> None:
    """In each matrix some points, not the same ones, are far from all others: pairs are not independent.

    A test of independent pairs rejects at 5 % far too often; with permuted points it does not.
    """
    significant, naive = [], []
    for seed in range(120):
        rng = generator(seed)
        heights = rng.standard_t(2, (2, 16))
        a, b = (np.abs(np.subtract.outer(values, values)) for values in heights)
        result = mantel(a, b, generator=rng, permutations=199)
        assert result is not None
        significant.append(result.p <= 0.05)
        first, second = np.triu_indices(16, 1)
        naive.append(pearsonr(rankdata(a[first, second]), rankdata(b[first, second])).pvalue <= 0.05)
    assert sum(significant) <= 14
    assert sum(naive) >= 30


def test_mantel_of_monotone_distances() -> None:
    a = distances(1, 40)
    test = mantel(a, a**3, generator=generator())
    assert test is not None
    assert test.r == pytest.approx(1.0)
    assert test.p == 2.0 / 500.0


def test_mantel_depends_only_on_the_generator() -> None:
    a, b = distances(1, 20), distances(2, 20)
    assert mantel(a, b, generator=generator(3)) == mantel(a, b, generator=generator(3))
    assert mantel(a, b, generator=generator(3)) != mantel(a, b, generator=generator(4))


def test_mantel_is_undefined_for_constant_distances() -> None:
    assert mantel(np.zeros((2, 2)), np.zeros((2, 2)), generator=generator()) is None
    assert mantel(np.zeros((0, 0)), np.zeros((0, 0)), generator=generator()) is None
    constant = 1.0 - np.eye(6)
    assert mantel(constant, distances(1, 6), generator=generator()) is None
    assert mantel(distances(1, 6), np.zeros((6, 6)), generator=generator(), ranks=False) is None


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros((3, 3)), np.zeros((4, 4)), "of one size"),
        (np.zeros((3, 2)), np.zeros((3, 2)), "must be square"),
        (np.zeros((3, 3)), np.triu(np.ones((3, 3))), "symmetric"),
        (np.full((3, 3), np.nan), np.zeros((3, 3)), "must be finite"),
    ],
)
def test_invalid_distance_matrices_are_refused(a: np.ndarray, b: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        mantel(a, b, generator=generator())


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(2, 25))
def test_correlogram_equals_loops(seed: int, n: int) -> None:
    rng = generator(seed)
    at = np.round(rng.uniform(0, 4e-3, (n, 2)), 4)  # some at one position
    embeddings = rng.normal(size=(n, 3))
    edges = (0, 50, 150, 400)
    pairs = pairs_of(at, embeddings)
    metres = dict(zip(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True), pairs.ground_m, strict=True))
    bands = correlogram(pairs, generator=generator(), edges_m=edges, permutations=9)
    for band, low, high in zip(bands, edges[:-1], edges[1:], strict=True):
        ground, embedding_distance = [], []
        for i in range(n):
            for j in range(i + 1, n):
                if low <= metres[i, j] < high:
                    ground.append(metres[i, j])
                    embedding_distance.append(pairs.distances[i, j])
        assert (band["low_m"], band["high_m"], band["pairs"]) == (low, high, len(ground))
        if ground:
            assert band["mean_distance"] == pytest.approx(np.mean(embedding_distance))
        else:
            assert band["mean_distance"] is None
        if len(ground) >= 10 and np.ptp(ground) > 0:
            assert band["spearman"] == pytest.approx(spearmanr(ground, embedding_distance).statistic, abs=1e-9)
            assert 0.0 < band["p"] <= 1.0
        elif len(ground) < 10:
            assert (band["spearman"], band["p"]) == (None, None)


def test_correlogram_of_an_embedding_that_turns_along_a_street() -> None:
    """Embeddings at an angle of 0.01 a step: pairs m steps apart have the distance 1 - cos(0.01 m)."""
    steps = np.arange(200)
    at, turn = np.stack([np.zeros(200), steps * 1e-4], axis=1), 0.01 * steps  # 11.12 m a step
    bands = correlogram(pairs_of(at, np.stack([np.cos(turn), np.sin(turn)], axis=1)), generator=generator())
    by_hand = {
        10.0: (199 + 198, (199 * (1 - np.cos(0.01)) + 198 * (1 - np.cos(0.02))) / (199 + 198)),
        25.0: (197 + 196, (197 * (1 - np.cos(0.03)) + 196 * (1 - np.cos(0.04))) / (197 + 196)),
    }
    for band in bands[1:3]:
        pairs, mean = by_hand[band["low_m"]]
        assert band["pairs"] == pairs
        assert band["mean_distance"] == pytest.approx(mean)
    assert bands[0]["pairs"] == 0
    assert bands[0]["mean_distance"] is None
    for band in bands[1:]:
        assert band["spearman"] == pytest.approx(1.0)
        assert band["p"] == 0.01
    means = [band["mean_distance"] for band in bands[1:]]
    assert means == sorted(means)


def test_correlogram_is_invariant_to_the_order_of_the_points() -> None:
    at, embeddings = generator(1).uniform(0, 5e-3, (40, 2)), generator(2).normal(size=(40, 4))
    order = generator(3).permutation(40)
    original = correlogram(pairs_of(at, embeddings), generator=generator(), permutations=19)
    permuted = correlogram(pairs_of(at[order], embeddings[order]), generator=generator(), permutations=19)
    for a, b in zip(original, permuted, strict=True):
        for key in ("pairs", "mean_distance", "spearman"):
            assert b[key] == pytest.approx(a[key])


def test_correlogram_p_accounts_for_pairs_that_share_points() -> None:
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


def test_correlogram_samples_at_most_most_pairs() -> None:
    at, embeddings = generator(1).uniform(0, 5e-3, (60, 2)), generator(2).normal(size=(60, 4)) + 500 * 0.1
    pairs = pairs_of(at, embeddings)
    all_pairs = correlogram(pairs, generator=generator(), edges_m=(0, 1000), permutations=9)[0]
    sampled = correlogram(pairs, generator=generator(), edges_m=(0, 1000), permutations=9, most_pairs=400)[0]
    assert all_pairs["pairs"] > 1000
    assert sampled["pairs"] == 400
    assert sampled["mean_distance"] == pytest.approx(all_pairs["mean_distance"], rel=0.2)


def test_correlogram_of_equal_distances_has_no_correlation() -> None:
    same_position = correlogram(pairs_of(np.ones((20, 2)), generator().normal(size=(20, 3))), generator=generator())
    assert same_position[0]["pairs"] == 190
    assert same_position[0]["mean_distance"] > 0.0
    assert (same_position[0]["spearman"], same_position[0]["p"]) == (None, None)
    constant = correlogram(pairs_of(generator().uniform(0, 1e-3, (20, 2)), np.ones((20, 3))), generator=generator())
    assert {band["mean_distance"] for band in constant} <= {0.0, None}
    assert {(band["spearman"], band["p"]) for band in constant} == {(None, None)}


@pytest.mark.parametrize("edges", [(0.0,), (0.0, 10.0, 10.0), (5.0, 1.0), (0.0, float("nan"))])
def test_correlogram_edges_must_increase(edges: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="edges that increase"):
        correlogram(pairs_of(np.ones((3, 2)), np.ones((3, 2))), generator=generator(), edges_m=edges)


@given(
    st.lists(st.tuples(st.floats(-90, 90), st.floats(-180, 180)), min_size=0, max_size=12), st.integers(0, 2**32 - 1)
)
def test_pairs_contain_each_pair_once_with_its_distances(at: list[tuple[float, float]], seed: int) -> None:
    n = len(at)
    embeddings = generator(seed).normal(size=(n, 3)) + 0.01
    pairs = Pairs.of(np.array(at).reshape(-1, 2), embeddings, generator=generator())
    assert len(pairs) == n
    assert list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == [
        (i, j) for i in range(n) for j in range(i + 1, n)
    ]
    for i, j, ground_m in zip(pairs.first, pairs.second, pairs.ground_m, strict=True):
        # Near the antipode the chord determines the angle poorly.
        assert ground_m == pytest.approx(float(haversine_m(*np.float64(at[i]), *np.float64(at[j]))), rel=1e-7, abs=1.0)
        a, b = embeddings[i].tolist(), embeddings[j].tolist()
        cosine = sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)
        assert pairs.distances[i, j] == pytest.approx(1.0 - cosine, abs=1e-9)
    assert (pairs.distances == pairs.distances.T).all()
    assert not np.diag(pairs.distances).any()


def test_pairs_resolve_short_distances() -> None:
    """Short distances, where the cosine of two positions is 1 up to rounding."""
    step_deg = 0.5 / 111_195.08
    pairs = Pairs.of([[51.5, 0.0], [51.5 + step_deg, 0.0]], np.ones((2, 1)), generator=generator())
    assert pairs.ground_m[0] == pytest.approx(0.5, rel=1e-6)


def test_equal_embeddings_have_equal_distances() -> None:
    """Equal directions are ties for any length, also in float32."""
    rng = generator()
    embeddings_of = rng.normal(size=(3, 64))
    embeddings = (embeddings_of[rng.integers(3, size=40)] * rng.uniform(0.5, 2.0, (40, 1))).astype(np.float32)
    repeated = np.vstack([embeddings[:5]] * 8)
    pairs = Pairs.of(rng.uniform(0, 1, (40, 2)), repeated, generator=generator())
    assert len(np.unique(pairs.distances)) <= 1 + 5 * 4 // 2
    assert (pairs.distances >= 0.0).all()


def test_pairs_of_a_sample() -> None:
    at, embeddings = generator(1).uniform(0, 1, (50, 2)), generator(2).normal(size=(50, 4))
    pairs = Pairs.of(at, embeddings, generator=generator(3), most=20)
    assert (len(pairs), len(pairs.ground_m)) == (20, 190)
    rows = [at.tolist().index(position) for position in pairs.positions_deg.tolist()]
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
def test_invalid_pairs_are_refused(at: object, embeddings: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Pairs.of(at, embeddings, generator=generator())  # type: ignore[arg-type]
