"""Moran's I: whether what is near on the ground is alike, in the errors and in the embeddings."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float64
from numpy.typing import ArrayLike

from swclip.errors import InputError
from swclip.metrics.permutation import two_sided_p

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
        >>> from swclip.metrics.spatial_weights import nearest_neighbours, neighbour_graph
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
