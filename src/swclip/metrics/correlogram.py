"""How embeddings grow apart with the ground between them, by bands of distance."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from swclip.errors import ConfigError
from swclip.metrics.pairs import Pairs
from swclip.metrics.permutation import centred_ranks, two_sided_p

EDGES_M = (0.0, 10.0, 25.0, 50.0, 100.0, 200.0, 400.0, 800.0, 1_600.0)
"""From one spot to the other end of a quarter; bands double, for what matters happens near."""

FEWEST_PAIRS = 10
MOST_PAIRS = 5_000
PERMUTATIONS = 199


def correlogram(
    pairs: Pairs,
    *,
    generator: np.random.Generator,
    edges_m: Sequence[float] = EDGES_M,
    permutations: int = PERMUTATIONS,
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
