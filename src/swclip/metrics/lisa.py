"""Local indicators of spatial association: where on the map the errors cluster."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import ArrayLike
from scipy.stats import false_discovery_control

from swclip.errors import InputError
from swclip.metrics.morans_i import FEWEST_POINTS, NO_NEIGHBOUR, TIE, neighbour_graph

Label = Literal["high-high", "low-low", "high-low", "low-high", "not significant"]

LABELS: tuple[Label, ...] = ("high-high", "low-low", "high-low", "low-high", "not significant")
"""Own value, then the neighbours'; high is above the mean."""

ALPHA = 0.05
PERMUTATIONS = 9_999
"""The smallest p that permutations can give is 2 / 10,000: after the correction for many tests, a cluster of 0.4 % of
the points can then be seen. With 999 it would have to hold 4 %."""

_DRAWS_AT_ONCE = 1 << 22
_QUADRANTS = {1: "high-high", 2: "low-high", 3: "low-low", 4: "high-low"}  # esda's numbers


@dataclass(frozen=True, eq=False)
class Lisa:
    """Local Moran's I of each point.

    Attributes:
        local_i: (N,) local I; 0 for a point without neighbours.
        p: (N,) two-sided, before the correction; NaN for a point without neighbours.
        labels: N of `LABELS`, None for a point without neighbours.
        threshold: Largest p that counts as a cluster; None where none does.
        alpha: Share of the clusters that may be false.
        permutations: How many.
    """

    local_i: Float64[np.ndarray, " n"]
    p: Float64[np.ndarray, " n"]
    labels: list[str | None]
    threshold: float | None
    alpha: float
    permutations: int

    def counts(self) -> Mapping[Label, int]:
        """How many points have each label."""
        return {label: self.labels.count(label) for label in LABELS}


def local_moran(
    values: ArrayLike,
    neighbours: Int64[np.ndarray, "n k"],
    *,
    generator: np.random.Generator,
    permutations: int = PERMUTATIONS,
    alpha: float = ALPHA,
) -> Lisa | None:
    """Where neighbours are more alike, or less, than chance would have it.

        I_i = (n - 1) z_i sum_j w_ij z_j / sum_i z_i^2

    I_i and the quadrant are esda's; a point is in one of the four quadrants where its p passes the procedure of
    Benjamini and Hochberg at `alpha`, for with a test for each point one in twenty would be a cluster by chance.

    Args:
        values: (N,) the variable.
        neighbours: (N, K) what `nearest_neighbours` found; each weighs the same. K should be at most half of N - 1,
            or the permutations have little to choose from.
        generator: Draws the permutations.
        permutations: How many.
        alpha: Share of the clusters that may be false.

    Returns:
        The statistics; None where there are none: fewer than 8 points, all values equal, or nobody has a neighbour.

    Raises:
        InputError: A value is not finite.

    References:
        L. Anselin, "Local indicators of spatial association - LISA", Geographical Analysis 27 (1995). M. C. de Castro,
        B. H. Singer, "Controlling the false discovery rate: a new application to account for multiple and dependent
        tests in local statistics of spatial association", Geographical Analysis 38 (2006).

    Example:
        >>> from swclip.metrics.morans_i import nearest_neighbours
        >>> street_deg = [[0.0, 0.001 * step] for step in range(40)]
        >>> lost = np.where(np.arange(40) < 8, 500.0, 10.0) + np.arange(40)
        >>> found = local_moran(lost, nearest_neighbours(street_deg, 4), generator=np.random.default_rng(0))
        >>> found.labels[3], found.labels[30], found.counts()["high-high"]
        ('high-high', 'not significant', 6)
    """
    value = np.asarray(values, dtype=np.float64).reshape(-1)
    bad = np.flatnonzero(~np.isfinite(value))
    if bad.size:
        raise InputError(f"row {bad[0]}: {value[bad[0]]} is no number; its neighbours cannot be compared with it.")
    alone = (neighbours == NO_NEIGHBOUR).all(axis=1)
    if value.size < FEWEST_POINTS or np.ptp(value) == 0.0 or alone.all():
        return None
    from esda import Moran_Local

    z = value - value.mean()
    z = z / np.abs(z).max()
    z = z / z.std()
    with warnings.catch_warnings():  # esda changes the filters
        found = Moran_Local(z, neighbour_graph(neighbours), transformation="R", permutations=0)
    p = conditional_p(z, neighbours, generator=generator, permutations=permutations)
    cluster = np.zeros(value.size, dtype=np.bool_)
    cluster[~alone] = false_discovery_control(p[~alone], method="bh") <= alpha
    labels: list[str | None] = [
        None if island else _QUADRANTS[quadrant] if significant else LABELS[-1]
        for island, quadrant, significant in zip(alone, found.q.tolist(), cluster, strict=True)
    ]
    threshold = float(p[cluster].max()) if cluster.any() else None
    return Lisa(np.asarray(found.Is, dtype=np.float64), p, labels, threshold, alpha, permutations)


def conditional_p(
    z: Float64[np.ndarray, " n"],
    neighbours: Int64[np.ndarray, "n k"],
    *,
    generator: np.random.Generator,
    permutations: int,
) -> Float64[np.ndarray, " n"]:
    """Two-sided p of each point's neighbourhood, its own value held and its neighbours drawn from all others.

    The draws are shared: m of the first n - 1 points, without repetition. For point i, which must not be its own
    neighbour, the last point stands in for i in them; so the means need be taken once, and mended for a few draws
    each. esda keeps points x permutations numbers in memory, or else a p that leaves out the draws equal to what was
    observed: where many errors are exactly 0, it calls chance a cluster.

    Args:
        z: (N,) the variable, of order one.
        neighbours: (N, K) neighbours, -1 where there is nobody.
        generator: Where the draws come from.
        permutations: How many, B.

    Returns:
        (N,) p = min(1, 2 (1 + the smaller of the counts of draws at least and at most as high) / (B + 1)); NaN for
        a point without neighbours.
    """
    n = z.size
    there = neighbours != NO_NEIGHBOUR
    count = there.sum(axis=1)
    lag = np.where(there, z[neighbours], 0.0).sum(axis=1) / np.maximum(count, 1)
    # A row of its own for each draw: the first m of a random order are m without repetition.
    width = min(int(count.max()), n - 1)
    drawn = np.stack([generator.choice(n - 1, width, replace=False) for _ in range(permutations)])
    p = np.full(n, np.nan)
    for m in np.unique(count[count > 0]):
        total = z[drawn[:, :m]].sum(axis=1)
        # Draws sorted by the point that is in them, so that those to be mended for a run of points are a slice.
        draw, _ = np.divmod(np.arange(permutations * m), m)
        held = drawn[:, :m].reshape(-1)
        order = np.argsort(held, kind="stable")
        held, draw = held[order], draw[order]
        points = np.flatnonzero(count == m)
        step = max(1, _DRAWS_AT_ONCE // permutations)
        for start in range(0, len(points), step):
            part = points[start : start + step]
            row_of = np.full(n, -1)
            row_of[part] = np.arange(len(part))
            low, high = np.searchsorted(held, [part[0], part[-1] + 1])
            rows = row_of[held[low:high]]
            mend = rows >= 0
            sums = np.repeat(total[None], len(part), axis=0)
            sums[rows[mend], draw[low:high][mend]] += z[n - 1] - z[held[low:high][mend]]
            means = sums / m
            at_least = (means >= lag[part, None] - TIE).sum(axis=1)
            at_most = (means <= lag[part, None] + TIE).sum(axis=1)
            p[part] = np.minimum(1.0, 2.0 * (1 + np.minimum(at_least, at_most)) / (permutations + 1))
    return p
