"""Places: distinct positions, the distance to the k-th nearest place, and samples that keep neighbours."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import ArrayLike

from swclip.errors import ConfigError
from swclip.geo.neighbours import SphereIndex

_WINDOWS = 16
_ROWS_AT_ONCE = 4096
_PAIRS_AT_ONCE = 1 << 16


def place_leaders(positions_deg: ArrayLike, within_m: float) -> Int64[np.ndarray, " n"]:
    """Group positions around leaders: the first position, then each that is not within reach of an earlier leader.

    A position belongs to the first leader within reach. Chains are not followed. Only the neighbours of leaders are
    listed, and leaders are apart, so that the work is proportional to the number of positions however dense they are.

    Args:
        positions_deg: (N, 2) latitude, longitude in degrees, without many repetitions.
        within_m: Reach of a leader, metres.

    Returns:
        (N,) the index of the leader of each position.

    Example:
        >>> place_leaders([[0.0, 0.0], [0.0, 1e-6], [0.0, 1e-3]], 1.0).tolist()
        [0, 0, 2]
    """
    positions = np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2)
    index = SphereIndex(positions)
    leader = np.full(len(positions), -1, dtype=np.int64)
    start, rows = 0, _ROWS_AT_ONCE
    while start < len(positions):
        free = start + np.flatnonzero(leader[start : start + rows] < 0)
        if not len(free):
            start += rows
            continue
        counts = index.count_within(positions[free], within_m)
        taken = max(1, int(np.searchsorted(np.cumsum(counts), _PAIRS_AT_ONCE, side="right")))
        # Few rows at a time where they are dense: the first leaders take most of the others.
        rows = min(2 * rows, _ROWS_AT_ONCE) if taken >= len(free) else 4 * taken
        free, alone = free[:taken], counts[:taken] == 1
        leader[free[alone]] = free[alone]
        crowded = free[~alone]
        for centre, near in zip(crowded.tolist(), index.within(positions[crowded], within_m), strict=True):
            if leader[centre] < 0:
                leader[near[leader[near] < 0]] = centre
        start = int(free[-1]) + 1
    return leader


def distinct_places(positions_deg: ArrayLike, within_m: float = 1.0) -> Int64[np.ndarray, " p"]:
    """Select one photograph of each place.

    Photographs are visited in order; each is selected unless it is within `within_m` of an earlier selected one.

    Args:
        positions_deg: (N, 2) latitude, longitude in degrees.
        within_m: Positions within this distance are one place, metres.

    Returns:
        (P,) increasing indices of the selected photographs.

    Example:
        >>> distinct_places([[0.0, 0.0], [0.0, 1e-6], [0.0, 1e-3]]).tolist()
        [0, 2]
    """
    positions = np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2)
    # Repeated positions (the headings of a panorama) would make long lists of neighbours.
    unique, first = np.unique(positions, axis=0, return_index=True)
    order = np.argsort(first)
    selected = np.unique(place_leaders(unique[order], within_m))
    return np.sort(first[order][selected]).astype(np.int64)


def kth_place_m(positions_deg: ArrayLike, k: int, within_m: float = 1.0) -> Float64[np.ndarray, " n"]:
    """Compute the distance from each photograph to the k-th nearest other place.

    Args:
        positions_deg: (N, 2) latitude, longitude in degrees.
        k: Rank of the neighbour, from 1; the farthest place is used where there are fewer.
        within_m: Positions within this distance are one place, metres.

    Returns:
        (N,) metres; infinite where there is only one place.

    Raises:
        ConfigError: k is below 1.

    Example:
        >>> kth_place_m([[0.0, 0.0], [0.0, 0.0], [0.0, 1e-3], [0.0, 3e-3]], k=1).round().tolist()
        [111.0, 111.0, 111.0, 222.0]
    """
    if k < 1:
        raise ConfigError(f"there is no {k}-th nearest place; k is 1 or more.")
    positions = np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2)
    places = positions[distinct_places(positions, within_m)]
    if len(places) < 2:
        return np.full(len(positions), np.inf)
    distance_m, _ = SphereIndex(places).nearest(positions, k + 1)  # the nearest is the photograph's place
    return distance_m[:, -1]


def sample_with_neighbours(
    positions_deg: ArrayLike, at_most: int, generator: np.random.Generator
) -> Int64[np.ndarray, " m"]:
    """Sample photographs that represent short and long distances.

    Half of the sample is drawn uniformly; the other half consists of windows that keep every neighbour. A uniform
    sample of a few thousand among a million photographs would contain hardly any short distance.

    Args:
        positions_deg: (N, 2) latitude, longitude in degrees.
        at_most: Largest size of the sample.
        generator: Source of randomness.

    Returns:
        (M,) increasing indices; all indices where there are at most `at_most`.
    """
    positions = np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2)
    n = len(positions)
    if n <= at_most:
        return np.arange(n)
    order = generator.permutation(n)
    anchors = order[: min(_WINDOWS, at_most)]
    window = max(1, at_most // 2 // len(anchors))
    _, near = SphereIndex(positions).nearest(positions[anchors], window)
    inside = np.unique(near)
    uniform = order[~np.isin(order, inside)][: at_most - len(inside)]
    return np.sort(np.concatenate([inside, uniform]))
