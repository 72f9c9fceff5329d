"""Point estimates: from a posterior over candidates to one position."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Float64, Int64
from numpy.typing import ArrayLike
from scipy import sparse

from swclip.calibration.posterior_config import PosteriorConfig
from swclip.errors import ConfigError
from swclip.geo.coordinates import unit_vectors
from swclip.geo.distance import EARTH_RADIUS_M
from swclip.geo.kernels import KernelName
from swclip.geo.spatial_smoothing import ground_kernel, weigh

Estimator = Callable[[Float[np.ndarray, "q m"], Float64[np.ndarray, "m 2"]], Float64[np.ndarray, "q 2"]]

TOP_MASS = 0.9
"""The geometric median is taken over the most probable candidates with this share of the posterior together."""

_SORTED_AT_FIRST = 1024
_START_POINTS = 1024
_AT_M = 1e-6
"""Points within this distance are the same."""


def argmax(scores: Float[np.ndarray, "q m"], positions_deg: ArrayLike) -> Float64[np.ndarray, "q 2"]:
    """The position of the highest score, the first of equals.

    Args:
        scores: (Q, M) similarities to the location embeddings (the paper's answer) or log probabilities.
        positions_deg: (M, 2) latitude, longitude in degrees.

    Returns:
        (Q, 2) degrees.
    """
    positions = np.asarray(positions_deg, dtype=np.float64)
    return np.asarray(positions[np.argmax(scores, axis=1)])


def top_k(scores: Float[np.ndarray, "q m"], k: int) -> Int64[np.ndarray, "q k"]:
    """The k best candidates of each query, best first; ties by row.

    Args:
        scores: (Q, M), more is better.
        k: Number of candidates; at most M are returned.

    Returns:
        (Q, min(k, M)) rows of candidates.
    """
    rows, count = np.arange(len(scores))[:, None], scores.shape[1]
    if k >= count:
        return np.argsort(-scores, axis=1, kind="stable").astype(np.int64)
    # A partition takes a tenth of the time of a sort. Its choice among ties at rank k is arbitrary, so that rows with
    # such ties are sorted.
    best = np.sort(np.argpartition(-scores, k, axis=1)[:, : k + 1], axis=1)
    order = np.argsort(-scores[rows, best], axis=1, kind="stable")
    best = best[rows, order]
    tied = np.flatnonzero(scores[rows[:, 0], best[:, k - 1]] == scores[rows[:, 0], best[:, k]])
    best[tied, :k] = np.argsort(-scores[tied], axis=1, kind="stable")[:, :k]
    return best[:, :k].astype(np.int64)


def spatial_density(
    log_posterior: Float[np.ndarray, "q m"], kernel_matrix: sparse.csr_array
) -> Float64[np.ndarray, "q m"]:
    """Spatial density of the posterior at each candidate: f(n) = sum_m p_m K(d_mn; h), up to a constant.

    It differs from `posterior.smoothed`, which splits probability among the candidates, so that those of a dense street
    have less each. The density does not depend on the number of candidates around the mass.

    Args:
        log_posterior: (Q, M) log probabilities, not smoothed.
        kernel_matrix: (M, M) `ground_kernel` of the candidates.

    Returns:
        (Q, M) densities.
    """
    return weigh(np.exp(np.asarray(log_posterior, dtype=np.float64)), kernel_matrix)


def mode(
    log_posterior: Float[np.ndarray, "q m"],
    positions_deg: ArrayLike,
    smoothing_m: float = 20.0,
    kernel: KernelName = "gaussian",
) -> Float64[np.ndarray, "q 2"]:
    """The candidate where the spatially smoothed posterior is densest.

    Among candidates it is the Bayes decision for a gain that decreases with the error like the kernel.

    Args:
        log_posterior: (Q, M) log probabilities, not smoothed.
        positions_deg: (M, 2) latitude, longitude in degrees.
        smoothing_m: Bandwidth in metres; 0 gives the most probable candidate.
        kernel: Name of the kernel.

    Returns:
        (Q, 2) degrees.
    """
    return argmax(spatial_density(log_posterior, ground_kernel(positions_deg, smoothing_m, kernel)), positions_deg)


def geometric_median(
    log_posterior: Float[np.ndarray, "q m"],
    positions_deg: ArrayLike,
    top_mass: float = TOP_MASS,
    *,
    tolerance_m: float = 0.01,
    max_steps: int = 200,
) -> Float64[np.ndarray, "q 2"]:
    """The point with the smallest expected distance to the truth, over the most probable candidates.

    Newton's and Weiszfeld's steps are computed on the chords between points of the sphere, which within a city equal
    the arcs for all practical purposes. This needs no map projection, and works everywhere on the Earth.

    Args:
        log_posterior: (Q, M) log probabilities.
        positions_deg: (M, 2) latitude, longitude in degrees.
        top_mass: Share of the posterior that the candidates must contain together, above 0 and up to 1.
        tolerance_m: Length of a step at which the iteration stops, metres.
        max_steps: Largest number of steps.

    Returns:
        (Q, 2) degrees.

    Raises:
        ConfigError: top_mass is out of range.

    References:
        Y. Vardi, C.-H. Zhang, "The multivariate L1-median and associated data depth", PNAS 97 (2000): the condition
        for a median that is one of the points.
    """
    if not 0 < top_mass <= 1:
        raise ConfigError(f"top_mass is {top_mass}; it is a share above 0 and up to 1.")
    scores = np.asarray(log_posterior, dtype=np.float64)
    vectors = unit_vectors(positions_deg)
    points = np.empty((len(scores), 2))
    for row, log_p in enumerate(scores):
        which = _top(log_p, top_mass)
        weights = np.exp(log_p[which] - log_p[which[0]])
        # Metres from the most probable candidate: small numbers, which preserve centimetres.
        points_m = (vectors[which] - vectors[which[0]]) * EARTH_RADIUS_M
        offset_m = _least_distance_point(points_m, weights, tolerance_m, max_steps)
        x, y, z = vectors[which[0]] + offset_m / EARTH_RADIUS_M
        points[row] = np.degrees(np.arctan2(z, np.hypot(x, y))), np.degrees(np.arctan2(y, x))
    return points


def estimators(config: PosteriorConfig) -> dict[str, Estimator]:
    """All estimators, as functions of a log posterior (not smoothed) and the candidates' positions.

    The kernel of `mode` is cached between calls with the same array of positions.
    """
    cached: list[tuple[ArrayLike, sparse.csr_array]] = []

    def cached_mode(
        log_posterior: Float[np.ndarray, "q m"], positions_deg: Float64[np.ndarray, "m 2"]
    ) -> Float64[np.ndarray, "q 2"]:
        if not cached or cached[0][0] is not positions_deg:
            cached[:] = [(positions_deg, ground_kernel(positions_deg, config.smoothing_m, config.kernel))]
        return argmax(spatial_density(log_posterior, cached[0][1]), positions_deg)

    return {"mode": cached_mode, "argmax": argmax, "geometric-median": geometric_median}


def _top(log_p: Float64[np.ndarray, " m"], top_mass: float) -> Int64[np.ndarray, " t"]:
    """The most probable candidates, best first, until they contain the mass."""
    # Slightly less than requested, so that rounding does not decide whether one more candidate is taken.
    target = top_mass * np.exp(log_p - log_p.max()).sum() * (1 - 1e-9)
    count = _SORTED_AT_FIRST
    while True:
        order = _best(log_p, count)
        mass = np.cumsum(np.exp(log_p[order] - log_p[order[0]]))
        if mass[-1] >= target or len(order) == len(log_p):
            return order[: int(np.searchsorted(mass, target)) + 1]
        count *= 8


def _best(values: Float64[np.ndarray, " m"], k: int) -> Int64[np.ndarray, " t"]:
    """The k largest and all that equal the smallest of them, largest first, ties by row."""
    if k >= values.size:
        return np.argsort(-values, kind="stable").astype(np.int64)
    # A partition takes a tenth of the time of a sort.
    largest = np.flatnonzero(values >= np.partition(values, values.size - k)[values.size - k])
    return largest[np.argsort(-values[largest], kind="stable")].astype(np.int64)


def _least_distance_point(
    points_m: Float64[np.ndarray, "t 3"], weights: Float64[np.ndarray, " t"], tolerance_m: float, max_steps: int
) -> Float64[np.ndarray, " 3"]:
    """The point with the least weighted sum of distances: Newton's steps, and Weiszfeld's where those increase it.

    Weiszfeld's steps always decrease it, but slowly: a wide posterior needs a hundred of them, and ten of Newton's.
    """
    weights = weights / weights.sum()
    if len(weights) > 2 * _START_POINTS:
        # The most probable points are first: their median is close to that of all, and cheap to compute.
        first = slice(_START_POINTS)
        point = _least_distance_point(points_m[first], weights[first], tolerance_m, max_steps)
    else:
        point = np.asarray(weights @ points_m)
    away, distance = _away(points_m, point)
    total = float(weights @ distance)
    for _ in range(max_steps):
        # A point at the current position has no direction; the test at the end accounts for it.
        pull = np.divide(weights, distance, out=np.zeros_like(weights), where=distance >= _AT_M)
        strength = float(pull.sum())
        if strength == 0.0:
            return point
        force = pull @ away
        unit_pull = np.divide(pull, distance**2, out=np.zeros_like(pull), where=distance >= _AT_M)
        curvature = strength * np.eye(3) - (away * unit_pull[:, None]).T @ away
        # Along a line that contains all points the curvature is 0; a small addition keeps the step finite.
        step = np.linalg.solve(curvature + 1e-9 * strength * np.eye(3), force)
        ahead = _away(points_m, point + step)
        if not float(weights @ ahead[1]) <= total:
            step = force / strength
            ahead = _away(points_m, point + step)
        point = point + step
        away, distance = ahead
        total = float(weights @ distance)
        if float(np.linalg.norm(step)) < tolerance_m:
            break
    # The iteration only approaches a median that is one of the points. It is one if the pull of the others is smaller
    # than its own weight (Vardi and Zhang).
    nearest = points_m[int(np.argmin(distance))]
    away, distance = _away(points_m, nearest)
    at = distance < _AT_M
    pull_on_it = float(np.linalg.norm((weights[~at] / distance[~at]) @ away[~at]))
    return np.asarray(nearest if pull_on_it <= weights[at].sum() else point)


def _away(
    points_m: Float64[np.ndarray, "t 3"], point: Float64[np.ndarray, " 3"]
) -> tuple[Float64[np.ndarray, "t 3"], Float64[np.ndarray, " t"]]:
    away = points_m - point
    return away, np.sqrt(np.einsum("ij,ij->i", away, away))
