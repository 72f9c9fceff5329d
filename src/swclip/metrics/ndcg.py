"""Graded relevance: what an answer is worth that is near and not exact. nDCG of the ranking, GeoScore of the point."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike

from swclip.errors import InputError
from swclip.geo.kernels import KernelName, kernel_weight
from swclip.metrics.localization_error import RECALL_KS, checked_errors

RELEVANCE_KERNEL: KernelName = "exponential"
RELEVANCE_BANDWIDTH_M = 25.0
"""A candidate at the radius of recall, 25 m from the truth, is worth 1/e of one that stands on it."""

GEOSCORE_MOST = 5_000.0
GEOSCORE_SCALE_KM = 1_492.7


def relevance_gain(
    distance_m: ArrayLike, bandwidth_m: float = RELEVANCE_BANDWIDTH_M, kernel: KernelName = RELEVANCE_KERNEL
) -> Float64[np.ndarray, " ..."]:
    """What a candidate at a distance from the truth is worth: gain = K(d; h), 1 on the spot.

    Args:
        distance_m: Distances from the query's true position to candidates, metres, any shape.
        bandwidth_m: Bandwidth h, metres.
        kernel: One of the kernels of the loss.

    Returns:
        Gains in [0, 1], same shape.

    Raises:
        InputError: A value is no distance.
        ConfigError: The kernel is not known, or the bandwidth is not positive.

    Example:
        >>> relevance_gain([0.0, 25.0, 250.0]).round(4).tolist()
        [1.0, 0.3679, 0.0]
    """
    distance = np.asarray(distance_m, dtype=np.float64)
    checked_errors(distance if distance.size else np.zeros(1))
    gain: Float64[np.ndarray, " ..."] = kernel_weight(distance, bandwidth_m, kernel)
    return gain


def ndcg_by_query(top_gain: ArrayLike, ideal_gain: ArrayLike, k: int) -> Float64[np.ndarray, " q"]:
    """Normalised discounted cumulative gain of each query's first k candidates.

        DCG@k  = sum_{r = 1..k} gain_r / log2(r + 1)        nDCG@k = DCG@k / (DCG@k of the best possible list)

    A query whose best possible list is worth nothing counts 0.

    Args:
        top_gain: (Q, K) gains of the candidates as the system ranks them, best first. Where K < k (a gallery that
            small) there are no more candidates to count.
        ideal_gain: (Q, K) gains of the K candidates nearest to the truth, of the whole gallery, nearest first.
        k: Length of the list.

    Returns:
        (Q,) values from 0 to 1.

    Raises:
        InputError: Gains that do not belong together, are negative or not finite; or an ideal list that is worth less
            than the system's, and so is not the ideal one.

    References:
        K. Järvelin, J. Kekäläinen, "Cumulated gain-based evaluation of IR techniques", ACM TOIS 20 (2002), with the
        logarithm from rank 1 on, as in C. Burges et al., "Learning to rank using gradient descent", ICML 2005.

    Example:
        >>> ndcg_by_query([[0.5, 1.0]], [[1.0, 0.5]], k=2).round(4).tolist()
        [0.8597]
    """
    top, ideal = _checked_gains(top_gain, ideal_gain)
    if k < 1:
        raise InputError(f"a list of {k} candidates cannot be measured; give k of 1 or more.")
    found, best = _discounted(top, k), _discounted(ideal, k)
    bad = np.flatnonzero(found > best * (1.0 + 1e-6))
    if bad.size:
        row = int(bad[0])
        raise InputError(
            f"query {row}: its first {k} candidates are worth {found[row]}, more than the nearest ones of the gallery "
            f"({best[row]}); take the ideal from all candidates, with the same distance."
        )
    share = np.zeros_like(best)
    np.divide(np.minimum(found, best), best, out=share, where=best > 0.0)
    return share


def ndcg_at_k(top_gain: ArrayLike, ideal_gain: ArrayLike, ks: Sequence[int] = RECALL_KS) -> dict[str, float]:
    """Mean over the queries of `ndcg_by_query`, for each length of the list.

    Args:
        top_gain: (Q, K) gains of the candidates as ranked, best first.
        ideal_gain: (Q, K) gains of the K candidates nearest to the truth, nearest first.
        ks: Lengths of the list.

    Returns:
        k as text, nDCG@k.

    Raises:
        InputError: There are no queries, or as `ndcg_by_query`.

    Example:
        >>> ndcg_at_k([[0.0, 1.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]], ks=(1, 2))
        {'1': 0.0, '2': 0.31546487678572877}
    """
    if len(np.asarray(top_gain)) == 0:
        raise InputError("there are no queries to measure; check the split.")
    return {str(k): float(ndcg_by_query(top_gain, ideal_gain, k).mean()) for k in ks}


def geoscore_by_query(error_m: ArrayLike) -> Float64[np.ndarray, " q"]:
    """The points of the game GeoGuessr for each answer: 5000 exp(-error / 1492.7 km).

    Args:
        error_m: (Q,) localization errors in metres.

    Returns:
        (Q,) points from 0 to 5000.

    Raises:
        InputError: There are no errors, or one is no distance.

    References:
        L. Haas, M. Skreta, S. Alberti, C. Finn, "PIGEON: Predicting image geolocations", CVPR 2024 (the game's
        formula). G. Astruc et al., "OpenStreetView-5M: The many roads to global visual geolocation", CVPR 2024.

    Example:
        >>> geoscore_by_query([0.0, 1_492_700.0]).round(2).tolist()
        [5000.0, 1839.4]
    """
    return GEOSCORE_MOST * np.exp(checked_errors(error_m) / (-1_000.0 * GEOSCORE_SCALE_KM))


def geoscore(error_m: ArrayLike) -> float:
    """The mean of `geoscore_by_query`. Made for errors of countries: within one city it is above 4,900 for all.

    Example:
        >>> round(geoscore([0.0, 100.0]), 2)
        4999.83
    """
    return float(geoscore_by_query(error_m).mean())


def _discounted(gain: Float64[np.ndarray, "q k"], k: int) -> Float64[np.ndarray, " q"]:
    first = gain[:, :k]
    total: Float64[np.ndarray, " q"] = first @ (1.0 / np.log2(np.arange(first.shape[1]) + 2.0))
    return total


def _checked_gains(
    top_gain: ArrayLike, ideal_gain: ArrayLike
) -> tuple[Float64[np.ndarray, "q k"], Float64[np.ndarray, "q k"]]:
    top, ideal = (np.asarray(gain, dtype=np.float64) for gain in (top_gain, ideal_gain))
    if top.ndim != 2 or ideal.shape != top.shape:
        raise InputError(
            f"gains of shape {top.shape} need ideal gains of the same shape (queries, candidates), not {ideal.shape}."
        )
    for name, gain in (("candidates", top), ("nearest candidates", ideal)):
        bad = np.argwhere(~(np.isfinite(gain) & (gain >= 0.0)))
        if len(bad):
            row, rank = bad[0]
            raise InputError(f"query {row}: gain {gain[row, rank]} of its {name} is no gain; give 0 or more.")
    return top, ideal
