"""Nearest neighbours on the sphere: a k-d tree on unit vectors, whose chord lengths order like great circles."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from swclip.geo.coordinates import unit_vectors
from swclip.geo.distance import EARTH_RADIUS_M

_PAIRS_AT_ONCE = 1 << 19


def _chord(distance_m: float) -> float:
    return 2.0 * float(np.sin(min(distance_m / EARTH_RADIUS_M, np.pi) / 2.0))


def _arc_m(chord: Float64[np.ndarray, " ..."]) -> Float64[np.ndarray, " ..."]:
    arc: Float64[np.ndarray, " ..."] = 2.0 * EARTH_RADIUS_M * np.arcsin(np.minimum(chord / 2.0, 1.0))
    return arc


class SphereIndex:
    """Neighbour search among fixed positions.

    Args:
        positions_deg: (N, 2) latitude, longitude in degrees.

    Example:
        >>> index = SphereIndex([[0.0, 0.0], [0.0, 1.0]])
        >>> distance_m, indices = index.nearest([[0.0, 0.9]], k=1)
        >>> int(indices[0, 0]), round(float(distance_m[0, 0]))
        (1, 11120)
    """

    def __init__(self, positions_deg: ArrayLike) -> None:
        self._tree = cKDTree(unit_vectors(positions_deg))

    def __len__(self) -> int:
        return int(self._tree.n)

    def nearest(self, query_deg: ArrayLike, k: int) -> tuple[Float64[np.ndarray, "q k"], Int64[np.ndarray, "q k"]]:
        """Return the k nearest positions of each query, nearest first.

        Args:
            query_deg: (Q, 2) latitude, longitude in degrees.
            k: Number of neighbours; limited to the number of positions.

        Returns:
            Distances in metres (Q, k) and indices (Q, k).
        """
        k = min(k, len(self))
        if k <= 0:  # SciPy refuses to search an empty tree
            n_queries = len(unit_vectors(query_deg))
            return np.zeros((n_queries, 0)), np.zeros((n_queries, 0), dtype=np.int64)
        chord, indices = self._tree.query(unit_vectors(query_deg), k=list(range(1, k + 1)))
        return _arc_m(np.asarray(chord)), np.asarray(indices, dtype=np.int64)

    def within(self, query_deg: ArrayLike, radius_m: float) -> list[Int64[np.ndarray, " m"]]:
        """Return the increasing indices of the positions within a radius of each query."""
        neighbours = self._tree.query_ball_point(unit_vectors(query_deg), r=_chord(radius_m), return_sorted=True)
        return [np.asarray(indices, dtype=np.int64) for indices in neighbours]

    def count_within(self, query_deg: ArrayLike, radius_m: float) -> Int64[np.ndarray, " q"]:
        """Return the number of positions within a radius of each query, without listing them."""
        counts = self._tree.query_ball_point(unit_vectors(query_deg), r=_chord(radius_m), return_length=True)
        return np.asarray(counts, dtype=np.int64)

    def pairs_within(
        self, query_deg: ArrayLike, radius_m: float, *, pairs_at_once: int = _PAIRS_AT_ONCE
    ) -> Iterator[tuple[Int64[np.ndarray, " p"], Int64[np.ndarray, " p"]]]:
        """Yield all pairs of a query and a position within a radius, in blocks of bounded memory.

        Args:
            query_deg: (Q, 2) latitude, longitude in degrees.
            radius_m: Radius in metres.
            pairs_at_once: Largest number of pairs of a block, unless a single query has more.

        Yields:
            (P,) indices of the queries, increasing, and (P,) indices of the positions, increasing for each query. All
            pairs of a query are in one block; queries without a position are in none.
        """
        queries = unit_vectors(query_deg)
        counts = self.count_within(query_deg, radius_m)
        ends = np.cumsum(counts)
        start = 0
        while start < len(queries):
            limit = pairs_at_once + (int(ends[start - 1]) if start else 0)
            stop = max(start + 1, int(np.searchsorted(ends, limit, side="right")))
            inside = counts[start:stop]
            if total := int(inside.sum()):
                lists = self._tree.query_ball_point(queries[start:stop], r=_chord(radius_m), return_sorted=True)
                yield (
                    np.repeat(np.arange(start, stop), inside),
                    np.fromiter(chain.from_iterable(lists), dtype=np.int64, count=total),
                )
            start = stop


def distinct_rows(values: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], Int64[np.ndarray, " n"]]:
    """Return the distinct rows of (N, 2) numbers in their order, and the number of each row among them.

    The same as `np.unique` with `axis=0`, which takes ten times as long for a million rows.

    Example:
        >>> distinct_rows(np.array([[1.0, 2.0], [0.0, 5.0], [1.0, 2.0]]))[1].tolist()
        [1, 0, 1]
    """
    order = np.lexsort((values[:, 1], values[:, 0]))
    ordered = values[order]
    first = np.ones(len(values), dtype=bool)
    first[1:] = np.any(ordered[1:] != ordered[:-1], axis=1)
    number = np.empty(len(values), dtype=np.int64)
    number[order] = np.cumsum(first) - 1
    return ordered[first], number


def nearest_m(
    positions_deg: ArrayLike, query_deg: ArrayLike, *, at_most_m: float = np.inf
) -> Float64[np.ndarray, " q"]:
    """Return the distance in metres from each query to the nearest position.

    Repeated positions, such as the views of one panorama, are searched once: a k-d tree cannot divide them.

    Args:
        positions_deg: (N, 2) latitude, longitude in degrees, N >= 1.
        query_deg: (Q, 2) latitude, longitude in degrees.
        at_most_m: Distances beyond may be infinite: a search for close positions takes less time.
    """
    positions, queries = (np.asarray(deg, dtype=np.float64).reshape(-1, 2) for deg in (positions_deg, query_deg))
    distinct, which = distinct_rows(queries)
    tree = cKDTree(unit_vectors(distinct_rows(positions)[0]))
    # A little more than the bound, so that rounding does not decide at the bound itself.
    bound = np.inf if at_most_m == np.inf else _chord(1.001 * at_most_m + 0.001)
    chord, _ = tree.query(unit_vectors(distinct), distance_upper_bound=bound)
    distance_m: Float64[np.ndarray, " q"] = np.where(np.isinf(chord), np.inf, _arc_m(np.asarray(chord)))[which]
    return distance_m
