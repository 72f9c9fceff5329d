"""The Mantel test against values of others, nested loops, all permutations, and pairs that are not independent."""

from __future__ import annotations

import itertools
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform
from scipy.stats import pearsonr, rankdata

from swclip.errors import InputError
from swclip.metrics.embedding_smoothness import mantel


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def distances(seed: int, n: int, dimensions: int = 2) -> np.ndarray:
    return squareform(pdist(generator(seed).normal(size=(n, dimensions))))


def correlation_loop(a: np.ndarray, b: np.ndarray, order: tuple[int, ...]) -> float:
    n = len(a)
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    return statistics.correlation([a[order[i], order[j]] for i, j in pairs], [b[i, j] for i, j in pairs])


SMALL = np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 3.0], [2.0, 3.0, 0.0]])
OTHER = np.array([[0.0, 2.0, 7.0], [2.0, 0.0, 6.0], [7.0, 6.0, 0.0]])


def test_the_example_that_others_test_with() -> None:
    """PyCogent and scikit-bio test with these two tables: 0.755928946018, checked in R; it is 2 / sqrt(7)."""
    found = mantel(SMALL, OTHER, generator=generator(), ranks=False)
    assert found is not None
    assert found.r == pytest.approx(0.755928946018, abs=1e-12)
    itself = mantel(SMALL, SMALL, generator=generator(), permutations=5_999, ranks=False)
    assert itself is not None
    assert itself.r == pytest.approx(1.0)
    assert itself.p == pytest.approx(2.0 / 6.0, abs=0.03)  # one of the six orders, on either side


@pytest.mark.parametrize("ranks", [False, True])
def test_p_by_all_permutations(ranks: bool) -> None:
    a, b = distances(1, 6), distances(2, 6) + 0.5 * distances(1, 6)
    if ranks:
        a, b = (squareform(rankdata(squareform(table, checks=False))) for table in (a, b))
    every = np.array([correlation_loop(a, b, order) for order in itertools.permutations(range(6))])
    observed = correlation_loop(a, b, tuple(range(6)))
    exact = min(1.0, 2.0 * min(np.mean(every >= observed - 1e-12), np.mean(every <= observed + 1e-12)))
    found = mantel(a, b, generator=generator(), permutations=9_999, ranks=ranks)
    assert found is not None
    assert found.r == pytest.approx(observed)
    assert found.p == pytest.approx(exact, abs=0.02)


@given(st.integers(3, 12), st.integers(0, 1000), st.booleans())
def test_r_is_that_of_the_pairs(n: int, seed: int, ranks: bool) -> None:
    a, b = distances(seed, n), distances(seed + 1, n)
    found = mantel(a, b, generator=generator(), permutations=9, ranks=ranks)
    first, second = np.triu_indices(n, 1)
    one, other = a[first, second], b[first, second]
    expected = pearsonr(rankdata(one), rankdata(other)) if ranks else pearsonr(one, other)
    assert found is not None
    assert found.r == pytest.approx(expected.statistic, abs=1e-9)
    assert 0.2 <= found.p <= 1.0


@given(st.integers(4, 10), st.integers(0, 1000))
def test_neither_the_order_nor_which_table_is_first_changes_r(n: int, seed: int) -> None:
    a, b, order = distances(seed, n), distances(seed + 1, n), generator(seed).permutation(n)
    one = mantel(a, b, generator=generator(), permutations=9)
    other = mantel(b[order][:, order], a[order][:, order], generator=generator(), permutations=9)
    assert one is not None
    assert other is not None
    assert other.r == pytest.approx(one.r, abs=1e-12)


def test_points_that_stand_out_in_one_table_do_not_make_it_agree_with_another() -> None:
    """Some points are far from all others, in both tables but not the same points: pairs depend on one another.

    Taken as independent pairs, such tables are correlated at 5 % far more often than in one of twenty cases; with the
    points permuted, they are not.
    """
    found, naive = [], []
    for seed in range(120):
        rng = generator(seed)
        heights = rng.standard_t(2, (2, 16))
        a, b = (np.abs(np.subtract.outer(own, own)) for own in heights)
        result = mantel(a, b, generator=rng, permutations=199)
        assert result is not None
        found.append(result.p <= 0.05)
        first, second = np.triu_indices(16, 1)
        naive.append(pearsonr(rankdata(a[first, second]), rankdata(b[first, second])).pvalue <= 0.05)
    assert sum(found) <= 14
    assert sum(naive) >= 30


def test_tables_that_agree() -> None:
    a = distances(1, 40)
    found = mantel(a, a**3, generator=generator())
    assert found is not None
    assert found.r == pytest.approx(1.0)
    assert found.p == 2.0 / 500.0


def test_only_the_generator_counts() -> None:
    a, b = distances(1, 20), distances(2, 20)
    assert mantel(a, b, generator=generator(3)) == mantel(a, b, generator=generator(3))
    assert mantel(a, b, generator=generator(3)) != mantel(a, b, generator=generator(4))


def test_where_there_is_no_correlation() -> None:
    assert mantel(np.zeros((2, 2)), np.zeros((2, 2)), generator=generator()) is None
    assert mantel(np.zeros((0, 0)), np.zeros((0, 0)), generator=generator()) is None
    alike = 1.0 - np.eye(6)
    assert mantel(alike, distances(1, 6), generator=generator()) is None
    assert mantel(distances(1, 6), np.zeros((6, 6)), generator=generator(), ranks=False) is None


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros((3, 3)), np.zeros((4, 4)), "of one size"),
        (np.zeros((3, 2)), np.zeros((3, 2)), "must be square"),
        (np.zeros((3, 3)), np.triu(np.ones((3, 3))), "the same from i to j"),
        (np.full((3, 3), np.nan), np.zeros((3, 3)), "must be finite"),
    ],
)
def test_what_is_no_table_of_distances_is_refused(a: np.ndarray, b: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        mantel(a, b, generator=generator())
