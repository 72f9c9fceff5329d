"""Nearest neighbours on the sphere: a k-d tree on unit vectors, whose chord lengths order like great circles."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from swclip.geo.coordinates import unit_vectors
from swclip.geo.distance import EARTH_RADIUS_M


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
