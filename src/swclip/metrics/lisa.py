"""Local indicators of spatial association (LISA): spatial clusters of errors."""

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
"""Value of the point, then of its neighbours; high is above the mean."""

ALPHA = 0.05
PERMUTATIONS = 9_999
"""The smallest possible p is 2 / 10,000: after the correction for multiple tests, a cluster of 0.4 % of the points can
be significant. With 999 permutations it would need 4 %."""

_DRAWS_AT_ONCE = 1 << 22
_QUADRANTS = {1: "high-high", 2: "low-high", 3: "low-low", 4: "high-low"}  # esda's numbers


@dataclass(frozen=True, eq=False)
class Lisa:
    """Local Moran's I of each point.

    Attributes:
        local_i: (N,) local I; 0 for a point without neighbours.
        p: (N,) two-sided p-values before the correction; NaN for a point without neighbours.
        labels: N of `LABELS`, None for a point without neighbours.
        threshold: Largest significant p; None where none is significant.
        alpha: False discovery rate.
        permutations: Number of permutations.
    """

    local_i: Float64[np.ndarray, " n"]
    p: Float64[np.ndarray, " n"]
    labels: list[str | None]
    threshold: float | None
    alpha: float
    permutations: int

    def counts(self) -> Mapping[Label, int]:
        """Number of points with each label."""
        return {label: self.labels.count(label) for label in LABELS}


def local_moran(
    values: ArrayLike,
    neighbours: Int64[np.ndarray, "n k"],
    *,
    generator: np.random.Generator,
    permutations: int = PERMUTATIONS,
    alpha: float = ALPHA,
) -> Lisa | None:
    """Local Moran's I, with conditional permutation tests.

        I_i = (n - 1) z_i sum_j w_ij z_j / sum_i z_i^2

    I_i and the quadrant are computed by esda. A point has a quadrant as its label if its p-value is significant under
    the Benjamini-Hochberg procedure at `alpha`: without a correction, one in twenty points would be a false cluster.

    Args:
        values: (N,) the variable.
        neighbours: (N, K) indices from `nearest_neighbours`, with equal weights. K should be at most half of N - 1, so
            that permutations differ enough.
        generator: Draws the permutations.
        permutations: Number of permutations.
        alpha: False discovery rate.

    Returns:
        The statistics; None with fewer than 8 points, where all values are equal, or where no point has a neighbour.

    Raises:
        InputError: A value is not finite.

    References:
        L. Anselin, "Local indicators of spatial association - LISA", Geographical Analysis 27 (1995). M. C. de Castro,
        B. H. Singer, "Controlling the false discovery rate: a new application to account for multiple and dependent
        tests in local statistics of spatial association", Geographical Analysis 38 (2006).

    Example:
        >>> from swclip.metrics.morans_i import nearest_neighbours
        >>> street_deg = [[0.0, 0.001 * step] for step in range(40)]
        >>> errors = np.where(np.arange(40) < 8, 500.0, 10.0) + np.arange(40)
        >>> lisa = local_moran(errors, nearest_neighbours(street_deg, 4), generator=np.random.default_rng(0))
        >>> lisa.labels[3], lisa.labels[30], lisa.counts()["high-high"]
        ('high-high', 'not significant', 6)
    """
    value = np.asarray(values, dtype=np.float64).reshape(-1)
    bad = np.flatnonzero(~np.isfinite(value))
    if bad.size:
        raise InputError(f"row {bad[0]}: {value[bad[0]]} is not finite; Moran's I needs finite values.")
    isolates = (neighbours == NO_NEIGHBOUR).all(axis=1)
    if value.size < FEWEST_POINTS or np.ptp(value) == 0.0 or isolates.all():
        return None
    from esda import Moran_Local

    z = value - value.mean()
    z = z / np.abs(z).max()
    z = z / z.std()
    with warnings.catch_warnings():  # esda changes the filters
        local = Moran_Local(z, neighbour_graph(neighbours), transformation="R", permutations=0)
    p = conditional_p(z, neighbours, generator=generator, permutations=permutations)
    cluster = np.zeros(value.size, dtype=np.bool_)
    cluster[~isolates] = false_discovery_control(p[~isolates], method="bh") <= alpha
    labels: list[str | None] = [
        None if isolated else _QUADRANTS[quadrant] if significant else LABELS[-1]
        for isolated, quadrant, significant in zip(isolates, local.q.tolist(), cluster, strict=True)
    ]
    threshold = float(p[cluster].max()) if cluster.any() else None
    return Lisa(np.asarray(local.Is, dtype=np.float64), p, labels, threshold, alpha, permutations)


def conditional_p(
    z: Float64[np.ndarray, " n"],
    neighbours: Int64[np.ndarray, "n k"],
    *,
    generator: np.random.Generator,
    permutations: int,
) -> Float64[np.ndarray, " n"]:
    """Two-sided p-value of each point under conditional permutation: its value is fixed, its neighbours are redrawn.

    All points share the draws: m of the first n - 1 points, without repetition. Point i must not be its own neighbour,
    so in its draws the last point replaces i. The means are computed once and corrected for the few draws that contain
    i. esda either keeps points x permutations numbers in memory, or ignores ties with the observed value: where many
    errors are exactly 0, it reports false clusters.

    Args:
        z: (N,) the variable, of order one.
        neighbours: (N, K) neighbours, -1 where one is missing.
        generator: Draws the neighbours.
        permutations: Number of permutations, B.

    Returns:
        (N,) p = min(1, 2 (1 + min(number of draws >= observed, number of draws <= observed)) / (B + 1)); NaN for a
        point without neighbours.
    """
    n = z.size
    present = neighbours != NO_NEIGHBOUR
    count = present.sum(axis=1)
    lag = np.where(present, z[neighbours], 0.0).sum(axis=1) / np.maximum(count, 1)
    # One row per draw: the first m of a random order are m points without repetition.
    width = min(int(count.max()), n - 1)
    drawn = np.stack([generator.choice(n - 1, width, replace=False) for _ in range(permutations)])
    p = np.full(n, np.nan)
    for m in np.unique(count[count > 0]):
        total = z[drawn[:, :m]].sum(axis=1)
        # Draws sorted by the points that they contain, so that the draws to correct for a run of points are a slice.
        draw, _ = np.divmod(np.arange(permutations * m), m)
        member = drawn[:, :m].reshape(-1)
        order = np.argsort(member, kind="stable")
        member, draw = member[order], draw[order]
        points = np.flatnonzero(count == m)
        step = max(1, _DRAWS_AT_ONCE // permutations)
        for start in range(0, len(points), step):
            part = points[start : start + step]
            row_of = np.full(n, -1)
            row_of[part] = np.arange(len(part))
            low, high = np.searchsorted(member, [part[0], part[-1] + 1])
            rows = row_of[member[low:high]]
            affected = rows >= 0
            sums = np.repeat(total[None], len(part), axis=0)
            sums[rows[affected], draw[low:high][affected]] += z[n - 1] - z[member[low:high][affected]]
            means = sums / m
            at_least = (means >= lag[part, None] - TIE).sum(axis=1)
            at_most = (means <= lag[part, None] + TIE).sum(axis=1)
            p[part] = np.minimum(1.0, 2.0 * (1 + np.minimum(at_least, at_most)) / (permutations + 1))
    return p
