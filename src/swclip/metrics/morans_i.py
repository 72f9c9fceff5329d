"""Moran's I: whether what is near on the ground is alike, in the errors and in the embeddings."""

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
"""With fewer points a permutation test can hardly find anything, and the moments of I do not exist below 4."""


@dataclass(frozen=True)
class GlobalMoran:
    """Moran's I of a variable.

    Attributes:
        i: Moran's I: about 1 where neighbours are alike, `expected` where they are like anybody, negative where they
            are unlike.
        expected: Its mean over all permutations, -1 / (n - 1).
        z: (i - expected) / its standard deviation over all permutations (the exact moments, not the drawn ones); None
            where permutations do not change it.
        p: Two-sided, from the permutations drawn.
        permutations: How many were drawn.
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
    """Moran's I by esda, with a p-value from permutations of the values over the points.

        I = (n / sum_ij w_ij) sum_ij w_ij z_i z_j / sum_i z_i^2,        z = values - mean

    Args:
        values: (N,) the variable.
        graph: What `neighbour_graph` made; rows sum to 1, or to 0 for points without neighbours.
        generator: Seeds the permutations. esda draws them from NumPy's global generator, whose state is put back.
        permutations: How many.

    Returns:
        The statistic; None where there is none: fewer than 8 points, all values equal, or nobody has a neighbour.

    Raises:
        InputError: A value is not finite.

    References:
        P. A. P. Moran, "Notes on continuous stochastic phenomena", Biometrika 37 (1950). A. D. Cliff, J. K. Ord,
        "Spatial Processes" (1981), ch. 2 for the moments under randomisation.

    Example:
        >>> from swclip.metrics.morans_i import nearest_neighbours, neighbour_graph
        >>> street_deg = [[0.0, 0.001 * step] for step in range(20)]
        >>> graph = neighbour_graph(nearest_neighbours(street_deg, k=2))
        >>> found = global_moran(np.arange(20.0), graph, generator=np.random.default_rng(0))
        >>> round(found.i, 3), found.p
        (0.957, 0.002)
    """
    value = np.asarray(values, dtype=np.float64).reshape(-1)
    bad = np.flatnonzero(~np.isfinite(value))
    if bad.size:
        raise InputError(f"row {bad[0]}: {value[bad[0]]} is no number; its neighbours cannot be compared with it.")
    if value.size < FEWEST_POINTS or np.ptp(value) == 0.0 or len(graph.isolates) == value.size:
        return None
    from esda import Moran

    scaled = (value - value.mean()) / np.abs(value - value.mean()).max()  # I has no unit; squares stay in range
    with _global_generator(int(generator.integers(1 << 32))), np.errstate(all="ignore"):
        found = Moran(scaled, graph, transformation="R", permutations=permutations)
    z = float(found.z_rand)
    return GlobalMoran(
        i=float(found.I),
        expected=float(found.EI),
        # Where every permutation gives the same I, its variance is zero but for rounding.
        z=z if np.isfinite(z) and float(found.VI_rand) > 1e-14 else None,
        p=two_sided_p(float(found.I), found.sim),
        permutations=permutations,
        n=value.size,
    )


def principal_components(
    embeddings: Float[np.ndarray, "n d"], count: int = COMPONENTS
) -> tuple[Float64[np.ndarray, "n c"], Float64[np.ndarray, " c"]]:
    """The directions in which embeddings differ most.

    Args:
        embeddings: (N, D) embeddings.
        count: How many; fewer where the embeddings have no more.

    Returns:
        (N, C) where each lies along each component, and (C,) the components' shares of the variance, falling.

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
    # What is left of equal embeddings is rounding.
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
    """Moran's I of each leading principal component: whether what an embedding mostly says varies smoothly in space.

    Args:
        embeddings: (N, D) embeddings.
        graph: (N) what `neighbour_graph` made of their positions.
        generator: Seeds the permutations.
        count: How many components.
        permutations: How many permutations for each.

    Returns:
        component (from 1), variance_share, i, p of each; empty where all embeddings are equal or there is no I.

    References:
        J. Thioulouse, D. Chessel, S. Champely, "Multivariate analysis of spatial patterns: a unified approach to local
        and global structures", Environmental and Ecological Statistics 2 (1995).
    """
    scores, shares = principal_components(embeddings, count)
    found = [
        global_moran(column, graph, generator=own, permutations=permutations)
        for column, own in zip(scores.T, generator.spawn(len(shares)), strict=True)
    ]
    return [
        {"component": number, "variance_share": float(share), "i": moran.i, "p": moran.p}
        for number, (share, moran) in enumerate(zip(shares, found, strict=True), start=1)
        if moran is not None
    ]


@contextmanager
def _global_generator(seed: int) -> Iterator[None]:
    """Let a library draw from NumPy's global generator, and leave it and the warning filters as they were."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        with warnings.catch_warnings():
            yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


TIE = 1e-10
"""Statistics of order one that differ by less are equal but for rounding."""


def two_sided_p(observed: float, drawn: ArrayLike) -> float:
    """How often chance alone gives a statistic as far out as the observed one, on either side.

        p = min(1, 2 (1 + min(#{T_b >= T}, #{T_b <= T})) / (B + 1))

    Equal statistics count on both sides: data that no permutation changes give p = 1. (`p_sim` of esda is the smaller
    tail alone, chosen after looking, and does not count equals of the lower one.)

    Args:
        observed: The statistic of the data, T.
        drawn: (B,) the statistic under each permutation.

    Returns:
        p, at least 2 / (B + 1).

    References:
        B. Phipson, G. K. Smyth, "Permutation p-values should never be zero", Stat. Appl. Genet. Mol. Biol. 9 (2010).

    Example:
        >>> two_sided_p(3.0, [0.0] * 99), two_sided_p(0.0, [0.0] * 99)
        (0.02, 1.0)
    """
    sample = np.asarray(drawn, dtype=np.float64)
    above = int(np.count_nonzero(sample >= observed - TIE))
    below = int(np.count_nonzero(sample <= observed + TIE))
    return min(1.0, 2.0 * (1 + min(above, below)) / (sample.size + 1))


def centred_ranks(values: ArrayLike) -> Float64[np.ndarray, " n"] | None:
    """Ranks, of equals their mean, shifted and scaled to mean 0 and length 1; None where all values are equal.

    Example:
        >>> centred_ranks([3.0, 1.0, 2.0]).round(3).tolist(), centred_ranks([2.0, 2.0])
        ([0.707, -0.707, 0.0], None)
    """
    rank = rankdata(np.asarray(values, dtype=np.float64))
    return unit_deviation(rank)


def unit_deviation(values: ArrayLike) -> Float64[np.ndarray, " n"] | None:
    """Values shifted to mean 0 and scaled to length 1, so that products of two such are Pearson correlations.

    None where all are equal.

    Example:
        >>> unit_deviation([1.0, 3.0]).round(3).tolist(), unit_deviation([0.1, 0.1, 0.1])
        ([-0.707, 0.707], None)
    """
    x = np.asarray(values, dtype=np.float64)
    if x.size == 0:
        return None
    # By a power of two, which rounds nothing: the mean of the smallest numbers there are could not be written, and
    # differences of the largest neither.
    x = np.ldexp(x, -int(np.frexp(np.abs(x).max())[1]))
    if np.ptp(x) == 0.0:
        return None
    x = x - x.mean()
    x = x / np.abs(x).max()  # so that no square is too small to be written
    unit: Float64[np.ndarray, " n"] = x / np.sqrt(x @ x)
    return unit


def spearman(a: ArrayLike, b: ArrayLike) -> float | None:
    """Spearman's rank correlation; None where one side has no two different values.

    References:
        C. Spearman, "The proof and measurement of association between two things", Am. J. Psychology 15 (1904).

    Example:
        >>> round(spearman([1.0, 2.0, 3.0], [1.0, 10.0, 5.0]), 6), spearman([1.0, 1.0], [1.0, 2.0])
        (0.5, None)
    """
    one, other = centred_ranks(a), centred_ranks(b)
    if one is None or other is None:
        return None
    return float(np.clip(one @ other, -1.0, 1.0))


NO_NEIGHBOUR = -1


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
    return others if within_m is None else np.where(far_m <= within_m, others, NO_NEIGHBOUR)


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

    there = neighbours != NO_NEIGHBOUR
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
