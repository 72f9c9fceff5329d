"""Spatial smoothness: whether what is alike to the model is near on the ground."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int64
from numpy.typing import ArrayLike
from scipy.spatial.distance import pdist

from swclip.errors import ConfigError, InputError
from swclip.geo.coordinates import unit_vectors, valid_positions
from swclip.geo.distance import EARTH_RADIUS_M
from swclip.metrics.morans_i import centred_ranks, spearman, two_sided_p, unit_deviation

NEIGHBOURS = 10
WITHIN_M = 500.0

_MOST_RANKED = 500_000
_ROWS_AT_ONCE = 256


def spatial_smoothness(
    pairs: Pairs, *, generator: np.random.Generator, k: int = NEIGHBOURS, within_m: float = WITHIN_M
) -> dict[str, Any]:
    """How near on the ground the nearest in embedding are, and whether embeddings grow apart with the ground.

        ratio    = mean ground distance to the k nearest in embedding / mean ground distance of all pairs
        spearman = rank correlation of 1 - cos(v_i, v_j) and d_ij over the pairs with d_ij <= within_m

    A ratio of 1 says that the embedding knows nothing of the ground, 0 that the nearest in embedding stand on the
    spot. It falls with the density of the points: compare systems on the same ones only. Points equally near in
    embedding share the places that are left among the k, so that the order of the rows changes nothing.

    The measure is named by the SW-CLIP paper and not defined there; this definition is an assumption.

    Args:
        pairs: The pairs of the points.
        generator: Draws the pairs that are ranked, where there are more than 500,000.
        k: Nearest in embedding; at most the others there are.
        within_m: Longest ground distance of a pair that is ranked, metres.

    Returns:
        k (as used), ratio (None where all points are at one spot), spearman (None where the pairs are all equally far,
        on the ground or in embedding, or there are fewer than two), within_m.

    Raises:
        ConfigError: k or the range cannot work.

    References:
        S. Han et al., "Spatially-Weighted CLIP for Street-View Geo-localization", arXiv 2604.04357 (2026): the name.

    Example:
        >>> street_deg, turn = [[0.0, 1e-4 * step] for step in range(30)], 0.02 * np.arange(30)
        >>> vectors = np.stack([np.cos(turn), np.sin(turn)], axis=1)
        >>> pairs = Pairs.of(street_deg, vectors, generator=np.random.default_rng(0))
        >>> found = spatial_smoothness(pairs, generator=np.random.default_rng(0), k=2)
        >>> round(found["ratio"], 3), round(found["spearman"], 9)
        (0.1, 1.0)
    """
    if k < 1 or not within_m > 0.0:
        raise ConfigError(f"{k} neighbours and a range of {within_m} m cannot work; both must be positive.")
    near = np.flatnonzero(pairs.ground_m <= within_m)
    if len(near) > _MOST_RANKED:
        near = generator.choice(near, _MOST_RANKED, replace=False)
    k = min(k, len(pairs) - 1)
    return {
        "k": max(k, 0),
        "ratio": _ratio(pairs, k),
        "spearman": spearman(pairs.distances[pairs.first[near], pairs.second[near]], pairs.ground_m[near]),
        "within_m": float(within_m),
    }


def _ratio(pairs: Pairs, k: int) -> float | None:
    n = len(pairs)
    if k < 1 or not pairs.ground_m.any():
        return None
    ground_m = np.zeros((n, n))
    ground_m[pairs.first, pairs.second] = ground_m[pairs.second, pairs.first] = pairs.ground_m
    total = 0.0
    for start in range(0, n, _ROWS_AT_ONCE):
        rows = slice(start, min(start + _ROWS_AT_ONCE, n))
        distance = pairs.distances[rows].copy()
        distance[np.arange(len(distance)), np.arange(start, rows.stop)] = np.inf  # oneself
        kth = np.partition(distance, k - 1, axis=1)[:, k - 1, None]
        nearer, tied = distance < kth, distance == kth
        share = (k - nearer.sum(axis=1)) / tied.sum(axis=1)
        total += float(((ground_m[rows] * nearer).sum(axis=1) + share * (ground_m[rows] * tied).sum(axis=1)).sum())
    return total / (n * k) / float(pairs.ground_m.mean())


PERMUTATIONS = 499


@dataclass(frozen=True)
class Mantel:
    """The correlation of two tables of distances.

    Attributes:
        r: Correlation over the pairs.
        p: Two-sided, from permutations of the points of one table.
    """

    r: float
    p: float


def mantel(
    a: Float64[np.ndarray, "n n"],
    b: Float64[np.ndarray, "n n"],
    *,
    generator: np.random.Generator,
    permutations: int = PERMUTATIONS,
    ranks: bool = True,
) -> Mantel | None:
    """Correlation of the distances of all pairs, with a p-value from permutations of the points.

        r = corr over i < j of (a_ij, b_ij)

    A point's distances to all others change together: the n (n - 1) / 2 pairs are not so many independent
    observations, and a p-value that takes them for that is far too small. So points are permuted, rows and columns
    alike, and not pairs.

    Args:
        a: (N, N) symmetric distances.
        b: (N, N) symmetric distances between the same points.
        generator: Draws the permutations.
        permutations: How many.
        ranks: Spearman's correlation, which asks only that the two rise together; Pearson's where False.

    Returns:
        r and p; None where there are fewer than three points or the distances of one table are all equal.

    Raises:
        InputError: The tables are not of one size, not symmetric, or not finite.

    References:
        N. Mantel, "The detection of disease clustering and a generalized regression approach", Cancer Research 27
        (1967). P. Legendre, L. Legendre, "Numerical Ecology", 3rd ed. (2012), section 10.5.1.

    Example:
        >>> a = np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 3.0], [2.0, 3.0, 0.0]])
        >>> b = np.array([[0.0, 2.0, 7.0], [2.0, 0.0, 6.0], [7.0, 6.0, 0.0]])
        >>> found = mantel(a, b, generator=np.random.default_rng(0), ranks=False)
        >>> round(found.r, 4), found.p > 0.3
        (0.7559, True)
    """
    for table in (a, b):
        if table.ndim != 2 or table.shape != (len(a), len(a)):
            raise InputError(f"two tables of distances must be square and of one size, not {a.shape} and {b.shape}.")
        if not (np.isfinite(table).all() and (table == table.T).all()):
            raise InputError("a table of distances must be finite, and the same from i to j as from j to i.")
    n = len(a)
    if n < 3:
        return None
    first, second = np.triu_indices(n, 1)
    scale = centred_ranks if ranks else unit_deviation
    one, other = scale(a[first, second]), scale(b[first, second])
    if one is None or other is None:
        return None
    table = np.zeros((n, n))  # ranks move with the points: they need be taken once
    table[first, second] = table[second, first] = one
    drawn = np.empty(permutations)
    for number in range(permutations):
        order = generator.permutation(n)
        drawn[number] = table[order[first], order[second]] @ other
    r = float(one @ other)
    return Mantel(float(np.clip(r, -1.0, 1.0)), two_sided_p(r, drawn))


MOST_POINTS = 3_000
"""4.5 million pairs, some 300 MB: of larger sets a sample of as many points is taken."""

_SAME, _SAME_M = 12, 6
"""Decimals of an embedding distance and of metres that are kept: beyond, equals would differ by rounding."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """N points and their N (N - 1) / 2 pairs.

    Attributes:
        positions_deg: (N, 2) latitude, longitude in degrees.
        embeddings: (N, D) the embeddings, of length 1.
        first: (P,) number of the first point of each pair.
        second: (P,) number of its second, larger.
        ground_m: (P,) great-circle distance in metres, to the micrometre.
        distances: (N, N) embedding distances, 1 - cosine, from 0 to 2; 0 on the diagonal.
    """

    positions_deg: Float64[np.ndarray, "n 2"]
    embeddings: Float64[np.ndarray, "n d"]
    first: Int64[np.ndarray, " p"]
    second: Int64[np.ndarray, " p"]
    ground_m: Float64[np.ndarray, " p"]
    distances: Float64[np.ndarray, "n n"]

    @classmethod
    def of(
        cls,
        positions_deg: ArrayLike,
        embeddings: Float[np.ndarray, "n d"],
        *,
        generator: np.random.Generator,
        most: int = MOST_POINTS,
    ) -> Pairs:
        """The pairs of all points, or of a sample of them where there are more than `most`.

        Args:
            positions_deg: (N, 2) latitude, longitude in degrees.
            embeddings: (N, D) embeddings; their lengths do not matter.
            generator: Draws the sample.
            most: Most points.

        Raises:
            InputError: Positions and embeddings do not belong together, or a row of either cannot be used.

        Example:
            >>> vectors = np.array([[1.0, 0.0], [0.0, 3.0]])
            >>> pairs = Pairs.of([[0, 0], [0, 1]], vectors, generator=np.random.default_rng(0))
            >>> pairs.ground_m.round().tolist(), pairs.distances.tolist()
            ([111195.0], [[0.0, 1.0], [1.0, 0.0]])
        """
        positions = np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2)
        vectors = np.asarray(embeddings)
        length = _lengths(positions, vectors)
        n = len(positions)
        rows = np.arange(n) if n <= most else np.sort(generator.permutation(n)[:most])
        n, positions, vectors = len(rows), positions[rows], vectors[rows].astype(np.float64) / length[rows, None]
        distances = np.round(np.clip(1.0 - vectors @ vectors.T, 0.0, 2.0), _SAME) + 0.0  # never -0.0
        distances = 0.5 * (distances + distances.T)
        np.fill_diagonal(distances, 0.0)
        first, second = np.triu_indices(n, 1)
        chord = pdist(unit_vectors(positions)) if n > 1 else np.zeros(0)
        ground_m = 2.0 * EARTH_RADIUS_M * np.arcsin(np.minimum(0.5 * chord, 1.0))
        return cls(positions, vectors, first, second, np.round(ground_m, _SAME_M), distances)

    def __len__(self) -> int:
        return len(self.positions_deg)


def _lengths(positions: Float64[np.ndarray, "n 2"], embeddings: Float[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
    if embeddings.ndim != 2 or len(embeddings) != len(positions):
        raise InputError(
            f"{len(positions)} positions and embeddings of shape {embeddings.shape}: give one row a position."
        )
    bad = np.flatnonzero(~valid_positions(positions[:, 0], positions[:, 1]))
    if bad.size:
        raise InputError(f"row {bad[0]}: position {positions[bad[0]].tolist()} is none; leave such rows out.")
    length: Float64[np.ndarray, " n"] = np.sqrt(np.einsum("nd,nd->n", embeddings, embeddings, dtype=np.float64))
    bad = np.flatnonzero(~(np.isfinite(length) & (length > 0.0)))
    if bad.size:
        raise InputError(
            f"row {bad[0]}: an embedding of length {length[bad[0]]} has no direction; the model's training diverged."
        )
    return length


EDGES_M = (0.0, 10.0, 25.0, 50.0, 100.0, 200.0, 400.0, 800.0, 1_600.0)
"""From one spot to the other end of a quarter; bands double, for what matters happens near."""

FEWEST_PAIRS = 10
MOST_PAIRS = 5_000
CORRELOGRAM_PERMUTATIONS = 199


def correlogram(
    pairs: Pairs,
    *,
    generator: np.random.Generator,
    edges_m: Sequence[float] = EDGES_M,
    permutations: int = CORRELOGRAM_PERMUTATIONS,
    most_pairs: int = MOST_PAIRS,
) -> list[dict[str, Any]]:
    """The embedding distance by bands of ground distance, and whether it still grows with the ground within a band.

        mean_distance = mean over the pairs with low <= d_ij < high of 1 - cos(v_i, v_j)
        spearman      = rank correlation, over these pairs, of 1 - cos(v_i, v_j) and d_ij

    Where the mean no longer rises and `spearman` is 0, the embedding knows nothing more of distance. p is of
    `spearman`, from permutations of the points: embeddings change places with one another, all of a point's pairs at
    once, since the pairs of a band share points and are not independent.

    Args:
        pairs: The pairs of the points.
        generator: Draws the pairs of a band that has more than `most_pairs`, and the permutations.
        edges_m: Edges of the bands, metres, increasing.
        permutations: How many, in each band.
        most_pairs: Most pairs of a band that its figures rest on.

    Returns:
        One entry a band: low_m, high_m; pairs (those that its figures rest on); mean_distance, None without pairs;
        spearman and p, None with fewer than 10 pairs, or where all are equally far on the ground or in embedding.

    Raises:
        ConfigError: The edges do not increase.

    References:
        N. L. Oden, R. R. Sokal, "Directional autocorrelation: an extension of spatial correlograms to two dimensions",
        Systematic Zoology 35 (1986), for the Mantel correlogram.

    Example:
        >>> street_deg, turn = [[0.0, 1e-4 * step] for step in range(30)], 0.02 * np.arange(30)
        >>> vectors = np.stack([np.cos(turn), np.sin(turn)], axis=1)
        >>> pairs = Pairs.of(street_deg, vectors, generator=np.random.default_rng(0))
        >>> near, far = correlogram(pairs, generator=np.random.default_rng(0), edges_m=(0, 100, 200))
        >>> near["pairs"], round(near["spearman"], 9), round(near["mean_distance"], 5), round(far["mean_distance"], 5)
        (204, 1.0, 0.00472, 0.03288)
    """
    if len(edges_m) < 2 or any(not low < high for low, high in itertools.pairwise(edges_m)):
        raise ConfigError(f"bands of distance need edges that increase, not {list(edges_m)}.")
    band = np.searchsorted(np.asarray(edges_m, dtype=np.float64), pairs.ground_m, side="right") - 1
    found = []
    for number, (low, high) in enumerate(itertools.pairwise(edges_m)):
        own = np.flatnonzero(band == number)
        if len(own) > most_pairs:
            own = np.sort(generator.choice(own, most_pairs, replace=False))
        first, second = pairs.first[own], pairs.second[own]
        distance = pairs.distances[first, second]
        ground = centred_ranks(pairs.ground_m[own]) if len(own) >= FEWEST_PAIRS else None
        rank = centred_ranks(distance) if len(own) >= FEWEST_PAIRS else None
        r = p = None
        if ground is not None and rank is not None:
            r = float(np.clip(rank @ ground, -1.0, 1.0))
            drawn = [_permuted(pairs.distances, first, second, ground, generator) for _ in range(permutations)]
            p = two_sided_p(r, drawn)
        found.append(
            {
                "low_m": float(low),
                "high_m": float(high),
                "pairs": len(own),
                "mean_distance": float(distance.mean()) if len(own) else None,
                "spearman": r,
                "p": p,
            }
        )
    return found


def _permuted(
    distances: Float64[np.ndarray, "n n"],
    first: Any,
    second: Any,
    ground: Float64[np.ndarray, " p"],
    generator: np.random.Generator,
) -> float:
    order = generator.permutation(len(distances))
    rank = centred_ranks(distances[order[first], order[second]])
    return 0.0 if rank is None else float(rank @ ground)  # embeddings that are all equal are correlated with nothing
