"""Global Moran's I of errors and embeddings, spatial weights, and permutation tests."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int64
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from swclip.errors import ConfigError, InputError
from swclip.geo.neighbours import SphereIndex

PERMUTATIONS = 999
COMPONENTS = 5

FEWEST_POINTS = 8
"""With fewer points a permutation test has hardly any power, and the moments of I do not exist below 4."""


@dataclass(frozen=True)
class GlobalMoran:
    """Moran's I of a variable.

    Attributes:
        i: Moran's I: about 1 where neighbours are similar, `expected` without autocorrelation, negative where
            neighbours are dissimilar.
        expected: Mean of I over all permutations, -1 / (n - 1).
        z: (i - expected) / standard deviation of I over all permutations (exact moments, not those of the sample); None
            where permutations do not change I.
        p: Two-sided p-value from the permutations drawn.
        permutations: Number of permutations drawn.
        n: Number of points.
    """

    i: float
    expected: float
    z: float | None
    p: float
    permutations: int
    n: int


def global_moran(
    values: ArrayLike, graph: Any, *, generator: np.random.Generator, permutations: int = PERMUTATIONS
) -> GlobalMoran | None:
    """Moran's I, computed by esda, with a p-value from permutations of the values over the points.

        I = (n / sum_ij w_ij) sum_ij w_ij z_i z_j / sum_i z_i^2,        z = values - mean

    Args:
        values: (N,) the variable.
        graph: Graph from `neighbour_graph`; rows sum to 1, or to 0 for points without neighbours.
        generator: Seeds the permutations. esda uses NumPy's global generator, whose state is restored afterwards.
        permutations: Number of permutations.

    Returns:
        The statistic; None with fewer than 8 points, where all values are equal, or where no point has a neighbour.

    Raises:
        InputError: A value is not finite.

    References:
        P. A. P. Moran, "Notes on continuous stochastic phenomena", Biometrika 37 (1950). A. D. Cliff, J. K. Ord,
        "Spatial Processes" (1981), ch. 2 for the moments under randomisation.

    Example:
        >>> from swclip.metrics.morans_i import nearest_neighbours, neighbour_graph
        >>> street_deg = [[0.0, 0.001 * step] for step in range(20)]
        >>> graph = neighbour_graph(nearest_neighbours(street_deg, k=2))
        >>> moran = global_moran(np.arange(20.0), graph, generator=np.random.default_rng(0))
        >>> round(moran.i, 3), moran.p
        (0.957, 0.002)
    """
    value = np.asarray(values, dtype=np.float64).reshape(-1)
    bad = np.flatnonzero(~np.isfinite(value))
    if bad.size:
        raise InputError(f"row {bad[0]}: {value[bad[0]]} is not finite; Moran's I needs finite values.")
    if value.size < FEWEST_POINTS or np.ptp(value) == 0.0 or len(graph.isolates) == value.size:
        return None
    from esda import Moran

    scaled = (value - value.mean()) / np.abs(value - value.mean()).max()  # I is scale-invariant; squares stay in range
    with _global_generator(int(generator.integers(1 << 32))), np.errstate(all="ignore"):
        moran = Moran(scaled, graph, transformation="R", permutations=permutations)
    z = float(moran.z_rand)
    return GlobalMoran(
        i=float(moran.I),
        expected=float(moran.EI),
        # Where every permutation gives the same I, its variance is zero up to rounding.
        z=z if np.isfinite(z) and float(moran.VI_rand) > 1e-14 else None,
        p=two_sided_p(float(moran.I), moran.sim),
        permutations=permutations,
        n=value.size,
    )


def principal_components(
    embeddings: Float[np.ndarray, "n d"], count: int = COMPONENTS
) -> tuple[Float64[np.ndarray, "n c"], Float64[np.ndarray, " c"]]:
    """The leading principal components of embeddings.

    Args:
        embeddings: (N, D) embeddings.
        count: Number of components; fewer are returned where the rank is lower.

    Returns:
        (N, C) scores, and (C,) the shares of the variance in decreasing order.

    References:
        K. Pearson, "On lines and planes of closest fit to systems of points in space", Phil. Mag. 2 (1901).

    Example:
        >>> scores, share = principal_components(np.array([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0]]))
        >>> np.abs(scores).round(6).tolist(), share.tolist()
        ([[2.0], [0.0], [2.0]], [1.0])
    """
    centred = np.asarray(embeddings, dtype=np.float64)
    centred = centred - centred.mean(axis=0)
    left, length, _ = np.linalg.svd(centred, full_matrices=False)
    total = float((length**2).sum())
    # Components of equal embeddings are rounding errors only.
    kept = length[:count] > 1e-12 * max(1.0, float(np.abs(embeddings).max(initial=0.0))) * np.sqrt(max(len(centred), 1))
    share = length[:count][kept] ** 2 / total if total > 0.0 else np.zeros(0)
    return (left[:, :count] * length[:count])[:, kept], share


def component_autocorrelation(
    embeddings: Float[np.ndarray, "n d"],
    graph: Any,
    *,
    generator: np.random.Generator,
    count: int = COMPONENTS,
    permutations: int = PERMUTATIONS,
) -> list[dict[str, Any]]:
    """Moran's I of each leading principal component of an embedding.

    Args:
        embeddings: (N, D) embeddings.
        graph: Graph of their N positions from `neighbour_graph`.
        generator: Seeds the permutations.
        count: Number of components.
        permutations: Number of permutations for each.

    Returns:
        component (from 1), variance_share, i, p of each; empty where all embeddings are equal or I does not exist.

    References:
        J. Thioulouse, D. Chessel, S. Champely, "Multivariate analysis of spatial patterns: a unified approach to local
        and global structures", Environmental and Ecological Statistics 2 (1995).
    """
    scores, shares = principal_components(embeddings, count)
    figures = [
        global_moran(column, graph, generator=component_generator, permutations=permutations)
        for column, component_generator in zip(scores.T, generator.spawn(len(shares)), strict=True)
    ]
    return [
        {"component": number, "variance_share": float(share), "i": moran.i, "p": moran.p}
        for number, (share, moran) in enumerate(zip(shares, figures, strict=True), start=1)
        if moran is not None
    ]


@contextmanager
def _global_generator(seed: int) -> Iterator[None]:
    """Seed NumPy's global generator for a library, and restore its state and the warning filters afterwards."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        with warnings.catch_warnings():
            yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


TIE = 1e-10
"""Statistics of order one that differ by less are equal up to rounding."""


def two_sided_p(observed: float, permuted: ArrayLike) -> float:
    """Two-sided p-value of a permutation test.

        p = min(1, 2 (1 + min(#{T_b >= T}, #{T_b <= T})) / (B + 1))

    Equal statistics count on both sides: data that no permutation changes give p = 1. (`p_sim` of esda is the smaller
    tail alone, without a factor 2 for the choice of the tail, and does not count ties of the lower one.)

    Args:
        observed: The statistic of the data, T.
        permuted: (B,) the statistic under each permutation.

    Returns:
        p, at least 2 / (B + 1).

    References:
        B. Phipson, G. K. Smyth, "Permutation p-values should never be zero", Stat. Appl. Genet. Mol. Biol. 9 (2010).

    Example:
        >>> two_sided_p(3.0, [0.0] * 99), two_sided_p(0.0, [0.0] * 99)
        (0.02, 1.0)
    """
    sample = np.asarray(permuted, dtype=np.float64)
    above = int(np.count_nonzero(sample >= observed - TIE))
    below = int(np.count_nonzero(sample <= observed + TIE))
    return min(1.0, 2.0 * (1 + min(above, below)) / (sample.size + 1))


def centred_ranks(values: ArrayLike) -> Float64[np.ndarray, " n"] | None:
    """Ranks (mean ranks of ties), shifted and scaled to mean 0 and length 1; None where all values are equal.

    Example:
        >>> centred_ranks([3.0, 1.0, 2.0]).round(3).tolist(), centred_ranks([2.0, 2.0])
        ([0.707, -0.707, 0.0], None)
    """
    rank = rankdata(np.asarray(values, dtype=np.float64))
    return unit_deviation(rank)


def unit_deviation(values: ArrayLike) -> Float64[np.ndarray, " n"] | None:
    """Values shifted to mean 0 and scaled to length 1: dot products are Pearson correlations.

    None where all values are equal.

    Example:
        >>> unit_deviation([1.0, 3.0]).round(3).tolist(), unit_deviation([0.1, 0.1, 0.1])
        ([-0.707, 0.707], None)
    """
    x = np.asarray(values, dtype=np.float64)
    if x.size == 0:
        return None
    # Scaled by a power of two, which is exact: the mean of subnormal values would underflow, and differences of the
    # largest values would overflow.
    x = np.ldexp(x, -int(np.frexp(np.abs(x).max())[1]))
    if np.ptp(x) == 0.0:
        return None
    x = x - x.mean()
    x = x / np.abs(x).max()  # so that squares do not underflow
    unit: Float64[np.ndarray, " n"] = x / np.sqrt(x @ x)
    return unit


def spearman(a: ArrayLike, b: ArrayLike) -> float | None:
    """Spearman's rank correlation; None where all values of one side are equal.

    References:
        C. Spearman, "The proof and measurement of association between two things", Am. J. Psychology 15 (1904).

    Example:
        >>> round(spearman([1.0, 2.0, 3.0], [1.0, 10.0, 5.0]), 6), spearman([1.0, 1.0], [1.0, 2.0])
        (0.5, None)
    """
    ranks_a, ranks_b = centred_ranks(a), centred_ranks(b)
    if ranks_a is None or ranks_b is None:
        return None
    return float(np.clip(ranks_a @ ranks_b, -1.0, 1.0))


NO_NEIGHBOUR = -1
"""Index in place of a missing neighbour."""


def nearest_neighbours(positions_deg: ArrayLike, k: int, within_m: float | None = None) -> Int64[np.ndarray, "n k"]:
    """The k nearest other points of each point.

    Points at the same position are neighbours at distance 0. Ties are resolved by the order of the search: with more
    than k other points at one position, neighbours depend on the order of the rows.

    Args:
        positions_deg: (N, 2) latitude, longitude in degrees.
        k: Number of neighbours; at most N - 1 are returned.
        within_m: Longest distance between neighbours, metres; None for no limit.

    Returns:
        (N, k) indices of points, nearest first; -1 where a neighbour is missing. No point is its own neighbour.

    Raises:
        ConfigError: k is less than 1.

    Example:
        >>> nearest_neighbours([[0.0, 0.0], [0.0, 0.001], [0.0, 0.1]], k=1, within_m=1_000).tolist()
        [[1], [0], [-1]]
    """
    if k < 1:
        raise ConfigError(f"{k} neighbours cannot be used; give 1 or more.")
    positions = np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2)
    n = len(positions)
    distance_m, which = SphereIndex(positions).nearest(positions, min(k, max(n - 1, 0)) + 1)
    if n == 0:
        return which
    # Among many points at one position the result may lack the point itself; then the last neighbour is dropped.
    is_self = which == np.arange(n)[:, None]
    is_self[~is_self.any(axis=1), -1] = True
    others, far_m = which[~is_self].reshape(n, -1), distance_m[~is_self].reshape(n, -1)
    return others if within_m is None else np.where(far_m <= within_m, others, NO_NEIGHBOUR)


def neighbour_graph(neighbours: Int64[np.ndarray, "n k"]) -> Any:
    """Row-standardised spatial weights as a `libpysal.graph.Graph`, equal for all neighbours of a point.

        w_ij = 1 / (number of i's neighbours)

    Args:
        neighbours: (N, K) indices from `nearest_neighbours`. A point without neighbours becomes an isolate: libpysal
            represents it as a loop of weight 0, which adds nothing to a statistic.

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

    present = neighbours != NO_NEIGHBOUR
    count = present.sum(axis=1)
    focal, column = np.nonzero(present)
    isolates = np.flatnonzero(count == 0)
    ids = np.concatenate([focal, isolates])
    order = np.argsort(ids, kind="stable")
    return Graph.from_arrays(
        ids[order],
        np.concatenate([neighbours[focal, column], isolates])[order],
        np.concatenate([1.0 / count[focal], np.zeros(len(isolates))])[order],
        transformation="R",
    )
