"""Spatial smoothness: whether what is alike to the model is near on the ground."""

from __future__ import annotations

from typing import Any

import numpy as np

from swclip.errors import ConfigError
from swclip.metrics.pairs import Pairs
from swclip.metrics.permutation import spearman

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
