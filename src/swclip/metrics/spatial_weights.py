"""Who is whose neighbour on the ground, as PySAL's statistics want it: nearest neighbours, row-standardised.

The neighbours are searched here, on the sphere, and handed to libpysal: its own `metric="haversine"` takes degrees for
radians when no number of neighbours is given, and returns radians for metres when one is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy.typing import ArrayLike

from swclip.errors import ConfigError
from swclip.geo.neighbours import SphereIndex

NOBODY = -1


def nearest_neighbours(positions_deg: ArrayLike, k: int, within_m: float | None = None) -> Int64[np.ndarray, "n k"]:
    """The k other points nearest to each point.

    Points at one and the same position are neighbours like others, at distance 0. Of points equally far, those that
    the search meets first are taken: more than k at one spot are neighbours by the order of the rows.

    Args:
        positions_deg: (N, 2) latitude, longitude in degrees.
        k: How many; at most the N - 1 others are returned.
        within_m: Others further away are no neighbours, metres; no limit where None.

    Returns:
        (N, k) numbers of points, nearest first; -1 where there is nobody. No point is its own neighbour.

    Raises:
        ConfigError: k is less than 1.

    Example:
        >>> nearest_neighbours([[0.0, 0.0], [0.0, 0.001], [0.0, 0.1]], k=1, within_m=1_000).tolist()
        [[1], [0], [-1]]
    """
    if k < 1:
        raise ConfigError(f"{k} neighbours are none; give 1 or more.")
    positions = np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2)
    n = len(positions)
    distance_m, which = SphereIndex(positions).nearest(positions, min(k, max(n - 1, 0)) + 1)
    if n == 0:
        return which
    # Among many at one spot a point may not find itself; then the last found is dropped in its place.
    own = which == np.arange(n)[:, None]
    own[~own.any(axis=1), -1] = True
    others, far_m = which[~own].reshape(n, -1), distance_m[~own].reshape(n, -1)
    return others if within_m is None else np.where(far_m <= within_m, others, NOBODY)


def neighbour_graph(neighbours: Int64[np.ndarray, "n k"]) -> Any:
    """The neighbours as a `libpysal.graph.Graph`, each row's weights equal and of sum 1.

        w_ij = 1 / (number of i's neighbours)

    Args:
        neighbours: (N, K) what `nearest_neighbours` found. A point without neighbours becomes an isolate: libpysal
            writes it as a loop of weight 0, and it adds nothing to a statistic.

    Returns:
        The graph; its ids are 0 to N - 1. Transformation "R".

    References:
        S. J. Rey, L. Anselin, "PySAL: A Python library of spatial analytical methods", Review of Regional Studies 37
        (2007).

    Example:
        >>> graph = neighbour_graph(np.array([[1, 2], [0, -1], [-1, -1]]))
        >>> graph.sparse.toarray().tolist(), graph.isolates.tolist()
        ([[0.0, 0.5, 0.5], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]], [2])
    """
    from libpysal.graph import Graph

    there = neighbours != NOBODY
    count = there.sum(axis=1)
    focal, column = np.nonzero(there)
    alone = np.flatnonzero(count == 0)
    ids = np.concatenate([focal, alone])
    order = np.argsort(ids, kind="stable")
    return Graph.from_arrays(
        ids[order],
        np.concatenate([neighbours[focal, column], alone])[order],
        np.concatenate([1.0 / count[focal], np.zeros(len(alone))])[order],
        transformation="R",
    )
