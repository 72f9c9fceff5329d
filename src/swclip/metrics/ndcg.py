"""Graded relevance: nDCG of the ranking, GeoScore of the point estimate."""

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
"""At the radius of recall, 25 m, the gain is 1/e."""

GEOSCORE_MOST = 5_000.0
GEOSCORE_SCALE_KM = 1_492.7


def relevance_gain(
    distance_m: ArrayLike, bandwidth_m: float = RELEVANCE_BANDWIDTH_M, kernel: KernelName = RELEVANCE_KERNEL
) -> Float64[np.ndarray, " ..."]:
    """Gain of a candidate by its distance to the truth: K(d; h), 1 at distance 0.

    Args:
        distance_m: Distances from the query's true position to candidates, metres, any shape.
        bandwidth_m: Bandwidth h, metres.
        kernel: One of the kernels of the loss.

    Returns:
        Gains in [0, 1], same shape.

    Raises:
        InputError: A value is not a valid distance.
        ConfigError: The kernel is unknown, or the bandwidth is not positive.

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

    The value is 0 where all gains of the best possible list are 0.

    Args:
        top_gain: (Q, K) gains of the candidates as the system ranks them, best first. K < k where the gallery
            has only K candidates.
        ideal_gain: (Q, K) gains of the K candidates nearest to the truth, of the whole gallery, nearest first.
        k: Length of the list.

    Returns:
        (Q,) values from 0 to 1.

    Raises:
        InputError: The shapes differ, a gain is negative or not finite, or the ideal list has a lower DCG than the
            system's list.

    References:
        K. Järvelin, J. Kekäläinen, "Cumulated gain-based evaluation of IR techniques", ACM TOIS 20 (2002), with the
        logarithm from rank 1 on, as in C. Burges et al., "Learning to rank using gradient descent", ICML 2005.

    Example:
        >>> ndcg_by_query([[0.5, 1.0]], [[1.0, 0.5]], k=2).round(4).tolist()
        [0.8597]
    """
    top, ideal = _checked_gains(top_gain, ideal_gain)
    if k < 1:
        raise InputError(f"k is {k}; give 1 or more candidates.")
    dcg, best = _discounted(top, k), _discounted(ideal, k)
    bad = np.flatnonzero(dcg > best * (1.0 + 1e-6))
    if bad.size:
        row = int(bad[0])
        raise InputError(
            f"query {row}: the DCG of its first {k} candidates is {dcg[row]}, above that of the nearest candidates "
            f"({best[row]}); compute the ideal gains from all candidates, with the same distance."
        )
    share = np.zeros_like(best)
    np.divide(np.minimum(dcg, best), best, out=share, where=best > 0.0)
    return share


def ndcg_at_k(top_gain: ArrayLike, ideal_gain: ArrayLike, ks: Sequence[int] = RECALL_KS) -> dict[str, float]:
    """Mean over the queries of `ndcg_by_query`, for each length of the list.

    Args:
        top_gain: (Q, K) gains of the candidates as ranked, best first.
        ideal_gain: (Q, K) gains of the K candidates nearest to the truth, nearest first.
        ks: Lengths of the list.

    Returns:
        nDCG@k by k as text.

    Raises:
        InputError: There are no queries; see also `ndcg_by_query`.

    Example:
        >>> ndcg_at_k([[0.0, 1.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]], ks=(1, 2))
        {'1': 0.0, '2': 0.31546487678572877}
    """
    if len(np.asarray(top_gain)) == 0:
        raise InputError("there are no queries to measure; check the split.")
    return {str(k): float(ndcg_by_query(top_gain, ideal_gain, k).mean()) for k in ks}


def geoscore_by_query(error_m: ArrayLike) -> Float64[np.ndarray, " q"]:
    """GeoScore of each answer, the score of the game GeoGuessr: 5000 exp(-error / 1492.7 km).

    Args:
        error_m: (Q,) localization errors in metres.

    Returns:
        (Q,) scores from 0 to 5000.

    Raises:
        InputError: There are no errors, or one is not a valid distance.

    References:
        L. Haas, M. Skreta, S. Alberti, C. Finn, "PIGEON: Predicting image geolocations", CVPR 2024 (the game's
        formula). G. Astruc et al., "OpenStreetView-5M: The many roads to global visual geolocation", CVPR 2024.

    Example:
        >>> geoscore_by_query([0.0, 1_492_700.0]).round(2).tolist()
        [5000.0, 1839.4]
    """
    return GEOSCORE_MOST * np.exp(checked_errors(error_m) / (-1_000.0 * GEOSCORE_SCALE_KM))


def geoscore(error_m: ArrayLike) -> float:
    """Mean of `geoscore_by_query`. It is designed for global localization: within one city it is always above 4,900.

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
            raise InputError(f"query {row}: gain {gain[row, rank]} of its {name} is not valid; give 0 or more.")
    return top, ideal
