"""Embedding distance against geographic distance: spatial smoothness, Mantel test, correlogram."""

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
    """Geographic distance to the nearest neighbours in the embedding, and rank correlation of both distances.

        ratio    = mean ground distance to the k nearest in embedding / mean ground distance of all pairs
        spearman = rank correlation of 1 - cos(v_i, v_j) and d_ij over the pairs with d_ij <= within_m

    A ratio of 1 means that the embedding is independent of position, 0 that the nearest neighbours in the embedding are
    at the same position. The ratio decreases with the density of the points: compare systems on the same points only.
    Ties in the embedding share the remaining ranks among the k, so that the order of the rows has no effect.

    The SW-CLIP paper names this measure without defining it; this definition is an assumption.

    Args:
        pairs: The pairs of the points.
        generator: Draws a sample of the ranked pairs, where there are more than 500,000.
        k: Number of nearest neighbours in the embedding; at most the number of other points.
        within_m: Longest ground distance of a ranked pair, metres.

    Returns:
        k (as used), ratio (None where all points are at one position), spearman (None with fewer than two pairs, or
        where one of the distances is equal for all pairs), within_m.

    Raises:
        ConfigError: k or the range is not positive.

    References:
        S. Han et al., "Spatially-Weighted CLIP for Street-View Geo-localization", arXiv 2604.04357 (2026): the name.

    Example:
        >>> street_deg, turn = [[0.0, 1e-4 * step] for step in range(30)], 0.02 * np.arange(30)
        >>> vectors = np.stack([np.cos(turn), np.sin(turn)], axis=1)
        >>> pairs = Pairs.of(street_deg, vectors, generator=np.random.default_rng(0))
        >>> smoothness = spatial_smoothness(pairs, generator=np.random.default_rng(0), k=2)
        >>> round(smoothness["ratio"], 3), round(smoothness["spearman"], 9)
        (0.1, 1.0)
    """
    if k < 1 or not within_m > 0.0:
        raise ConfigError(f"{k} neighbours and a range of {within_m} m cannot be used; both must be positive.")
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
        distance[np.arange(len(distance)), np.arange(start, rows.stop)] = np.inf  # a point is not its own neighbour
        kth = np.partition(distance, k - 1, axis=1)[:, k - 1, None]
        nearer, tied = distance < kth, distance == kth
        share = (k - nearer.sum(axis=1)) / tied.sum(axis=1)
        total += float(((ground_m[rows] * nearer).sum(axis=1) + share * (ground_m[rows] * tied).sum(axis=1)).sum())
    return total / (n * k) / float(pairs.ground_m.mean())


PERMUTATIONS = 499


@dataclass(frozen=True)
class Mantel:
    """The correlation of two distance matrices.

    Attributes:
        r: Correlation over the pairs.
        p: Two-sided p-value from permutations of the points of one matrix.
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
    """Mantel test: correlation of two distance matrices, with a p-value from permutations of the points.

        r = corr over i < j of (a_ij, b_ij)

    The distances of one point to all others are correlated: the n (n - 1) / 2 pairs are not independent observations,
    and a p-value that assumes so is far too small. So points are permuted (rows and columns together), not pairs.

    Args:
        a: (N, N) symmetric distances.
        b: (N, N) symmetric distances between the same points.
        generator: Draws the permutations.
        permutations: Number of permutations.
        ranks: True for Spearman's correlation, False for Pearson's.

    Returns:
        r and p; None with fewer than three points, or where the distances of one matrix are all equal.

    Raises:
        InputError: The matrices differ in size, or are not symmetric or not finite.

    References:
        N. Mantel, "The detection of disease clustering and a generalized regression approach", Cancer Research 27
        (1967). P. Legendre, L. Legendre, "Numerical Ecology", 3rd ed. (2012), section 10.5.1.

    Example:
        >>> a = np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 3.0], [2.0, 3.0, 0.0]])
        >>> b = np.array([[0.0, 2.0, 7.0], [2.0, 0.0, 6.0], [7.0, 6.0, 0.0]])
        >>> test = mantel(a, b, generator=np.random.default_rng(0), ranks=False)
        >>> round(test.r, 4), test.p > 0.3
        (0.7559, True)
    """
    for distances in (a, b):
        if distances.ndim != 2 or distances.shape != (len(a), len(a)):
            raise InputError(f"two distance matrices must be square and of one size, not {a.shape} and {b.shape}.")
        if not (np.isfinite(distances).all() and (distances == distances.T).all()):
            raise InputError("a distance matrix must be finite and symmetric.")
    n = len(a)
    if n < 3:
        return None
    first, second = np.triu_indices(n, 1)
    scale = centred_ranks if ranks else unit_deviation
    scaled_a, scaled_b = scale(a[first, second]), scale(b[first, second])
    if scaled_a is None or scaled_b is None:
        return None
    matrix_a = np.zeros((n, n))  # ranks are permuted with the points: they are computed once
    matrix_a[first, second] = matrix_a[second, first] = scaled_a
    permuted = np.empty(permutations)
    for number in range(permutations):
        order = generator.permutation(n)
        permuted[number] = matrix_a[order[first], order[second]] @ scaled_b
    r = float(scaled_a @ scaled_b)
    return Mantel(float(np.clip(r, -1.0, 1.0)), two_sided_p(r, permuted))


MOST_POINTS = 3_000
"""4.5 million pairs, about 300 MB; larger sets are sampled."""

_DECIMALS, _DECIMALS_M = 12, 6
"""Decimals of embedding distances and of metres, so that rounding errors do not break ties."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """N points and their N (N - 1) / 2 pairs.

    Attributes:
        positions_deg: (N, 2) latitude, longitude in degrees.
        embeddings: (N, D) the embeddings, of length 1.
        first: (P,) index of the first point of each pair.
        second: (P,) index of the second point, larger.
        ground_m: (P,) great-circle distance in metres, rounded to the micrometre.
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
        """The pairs of all points, or of a sample where there are more than `most`.

        Args:
            positions_deg: (N, 2) latitude, longitude in degrees.
            embeddings: (N, D) embeddings of any length above 0.
            generator: Draws the sample.
            most: Maximum number of points.

        Raises:
            InputError: The numbers of positions and embeddings differ, or a row of either is invalid.

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
        distances = np.round(np.clip(1.0 - vectors @ vectors.T, 0.0, 2.0), _DECIMALS) + 0.0  # never -0.0
        distances = 0.5 * (distances + distances.T)
        np.fill_diagonal(distances, 0.0)
        first, second = np.triu_indices(n, 1)
        chord = pdist(unit_vectors(positions)) if n > 1 else np.zeros(0)
        ground_m = 2.0 * EARTH_RADIUS_M * np.arcsin(np.minimum(0.5 * chord, 1.0))
        return cls(positions, vectors, first, second, np.round(ground_m, _DECIMALS_M), distances)

    def __len__(self) -> int:
        return len(self.positions_deg)


def _lengths(positions: Float64[np.ndarray, "n 2"], embeddings: Float[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
    if embeddings.ndim != 2 or len(embeddings) != len(positions):
        raise InputError(
            f"{len(positions)} positions and embeddings of shape {embeddings.shape}: give one row per position."
        )
    bad = np.flatnonzero(~valid_positions(positions[:, 0], positions[:, 1]))
    if bad.size:
        raise InputError(f"row {bad[0]}: position {positions[bad[0]].tolist()} is not valid; leave such rows out.")
    length: Float64[np.ndarray, " n"] = np.sqrt(np.einsum("nd,nd->n", embeddings, embeddings, dtype=np.float64))
    bad = np.flatnonzero(~(np.isfinite(length) & (length > 0.0)))
    if bad.size:
        raise InputError(
            f"row {bad[0]}: an embedding of length {length[bad[0]]} has no direction; the model's training diverged."
        )
    return length


EDGES_M = (0.0, 10.0, 25.0, 50.0, 100.0, 200.0, 400.0, 800.0, 1_600.0)
"""Edges of the bands, metres. Widths double, since embedding distance changes fastest at short range."""

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
    """Mean embedding distance by bands of ground distance, and rank correlation of both distances within each band.

        mean_distance = mean over the pairs with low <= d_ij < high of 1 - cos(v_i, v_j)
        spearman      = rank correlation, over these pairs, of 1 - cos(v_i, v_j) and d_ij

    Where the mean no longer increases and `spearman` is 0, the embedding does not depend on distance beyond the band. p
    is the p-value of `spearman`, from permutations of the embeddings over the points (all pairs of a point together),
    since the pairs of a band share points and are not independent.

    Args:
        pairs: The pairs of the points.
        generator: Draws a sample of the pairs of a band with more than `most_pairs`, and the permutations.
        edges_m: Edges of the bands, metres, increasing.
        permutations: Number of permutations per band.
        most_pairs: Maximum number of pairs used per band.

    Returns:
        One entry per band: low_m, high_m; pairs (number used); mean_distance, None without pairs; spearman and p, None
        with fewer than 10 pairs, or where one of the distances is equal for all pairs.

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
    bands = []
    for number, (low, high) in enumerate(itertools.pairwise(edges_m)):
        rows = np.flatnonzero(band == number)
        if len(rows) > most_pairs:
            rows = np.sort(generator.choice(rows, most_pairs, replace=False))
        first, second = pairs.first[rows], pairs.second[rows]
        distance = pairs.distances[first, second]
        ground = centred_ranks(pairs.ground_m[rows]) if len(rows) >= FEWEST_PAIRS else None
        rank = centred_ranks(distance) if len(rows) >= FEWEST_PAIRS else None
        r = p = None
        if ground is not None and rank is not None:
            r = float(np.clip(rank @ ground, -1.0, 1.0))
            permuted = [_permuted(pairs.distances, first, second, ground, generator) for _ in range(permutations)]
            p = two_sided_p(r, permuted)
        bands.append(
            {
                "low_m": float(low),
                "high_m": float(high),
                "pairs": len(rows),
                "mean_distance": float(distance.mean()) if len(rows) else None,
                "spearman": r,
                "p": p,
            }
        )
    return bands


def _permuted(
    distances: Float64[np.ndarray, "n n"],
    first: Any,
    second: Any,
    ground: Float64[np.ndarray, " p"],
    generator: np.random.Generator,
) -> float:
    order = generator.permutation(len(distances))
    rank = centred_ranks(distances[order[first], order[second]])
    return 0.0 if rank is None else float(rank @ ground)  # without variation the correlation is taken as 0
