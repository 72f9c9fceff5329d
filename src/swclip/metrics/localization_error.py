"""Localization error, accuracy, recall and city alignment as pure functions of errors, ranks and cities.

Shares are fractions from 0 to 1. Errors are metres. No function returns NaN: an undefined figure is None.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import ArrayLike

from swclip.errors import InputError

ACCURACY_RADII_M = (10, 25, 50, 100, 250, 500, 1_000, 5_000, 25_000, 200_000, 750_000, 2_500_000)
"""Radii at which accuracy is reported, metres. The last five are those of image geolocation at
world scale (street 1 km, city 25 km, region 200 km, country 750 km, continent 2,500 km)."""

DISTRICT_RADII_M = (25, 100, 500, 1_000)
"""Radii at which the accuracy of each district is reported, metres."""

RECALL_RADIUS_M = 25.0
"""Radius of recall: a candidate within this distance of the truth is a correct answer."""

RECALL_KS = (1, 5, 10, 20)

_PERCENTILES = {"median": 50, "p75": 75, "p90": 90, "p95": 95, "p99": 99}


def checked_errors(error_m: ArrayLike) -> Float64[np.ndarray, " q"]:
    """Errors as float64, checked to be finite and not negative.

    Raises:
        InputError: There are no errors, or one is not a valid distance.
    """
    error = np.asarray(error_m, dtype=np.float64).reshape(-1)
    if error.size == 0:
        raise InputError("there are no queries to measure; check the split.")
    bad = ~(np.isfinite(error) & (error >= 0.0))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InputError(f"row {row}: the error {error[row]} m is not a distance; check the positions of that query.")
    return error


def error_statistics(error_m: ArrayLike) -> dict[str, float]:
    """Quantiles, mean and mean of the worst 5 % of localization errors.

        median, p75, p90, p95, p99 = quantiles, linear between order statistics
        mean                       = sum_i e_i / n
        worst5_mean                = mean of the ceil(0.05 n) largest errors

    Args:
        error_m: (Q,) localization errors in metres.

    Returns:
        median, mean, p75, p90, p95, p99, worst5_mean; metres.

    References:
        R. J. Hyndman and Y. Fan, "Sample quantiles in statistical packages", The American Statistician 50 (1996),
        definition 7. The mean of the worst 5 % is the expected shortfall of R. T. Rockafellar and S. Uryasev,
        "Optimization of conditional value-at-risk", J. Risk 2 (2000), at level 0.95.

    Example:
        >>> statistics = error_statistics([0.0, 10.0, 20.0, 30.0, 1000.0])
        >>> statistics["median"], statistics["mean"], statistics["p75"], statistics["worst5_mean"]
        (20.0, 212.0, 30.0, 1000.0)
    """
    error = np.sort(checked_errors(error_m))
    quantiles = np.percentile(error, list(_PERCENTILES.values()))
    percentiles = {name: float(value) for name, value in zip(_PERCENTILES, quantiles, strict=True)}
    worst = error[-worst_count(error.size) :]
    return {
        "median": percentiles.pop("median"),
        "mean": float(error.mean()),
        **percentiles,
        "worst5_mean": float(worst.mean()),
    }


def worst_count(n: int) -> int:
    """Number of queries in the worst 5 %: ceil(n / 20), at least one."""
    return max(1, -(-n // 20))


def accuracy_within(error_m: ArrayLike, radii_m: Sequence[int] = ACCURACY_RADII_M) -> dict[str, float]:
    """Share of queries answered within each radius: #{i : e_i <= r} / n.

    Args:
        error_m: (Q,) localization errors in metres.
        radii_m: Radii in metres.

    Returns:
        Share by radius as text.

    References:
        N. Vo, N. Jacobs, J. Hays, "Revisiting IM2GPS in the deep learning era", ICCV 2017, section 4.

    Example:
        >>> accuracy_within([5.0, 25.0, 400.0, 90.0], radii_m=(10, 25, 100))
        {'10': 0.25, '25': 0.5, '100': 0.75}
    """
    error = checked_errors(error_m)
    return {str(radius): float(np.mean(error <= radius)) for radius in radii_m}


def first_hit_rank(scores: ArrayLike, hits: ArrayLike) -> int:
    """Rank, from 1, of the best-scored candidate that is a hit; 0 where no candidate is one.

        rank = 1 + #{j not a hit : s_j >= max_{h a hit} s_h}

    In a tie between a hit and a miss, the miss ranks first: constant scores earn no credit, and the order of the
    candidates has no effect.

    Args:
        scores: (M,) scores of the candidates, higher is better.
        hits: Indices of the correct candidates.

    Example:
        >>> first_hit_rank([0.1, 0.9, 0.5, 0.5], hits=[2])
        3
        >>> first_hit_rank([0.1, 0.9, 0.5, 0.5], hits=[])
        0
    """
    score = np.asarray(scores)
    which = np.asarray(hits, dtype=np.int64)
    if which.size == 0:
        return 0
    best = score[which].max()
    return 1 + int(np.count_nonzero(score >= best)) - int(np.count_nonzero(score[which] >= best))


def recall_at_k(ranks: ArrayLike, ks: Sequence[int] = RECALL_KS) -> dict[str, float]:
    """Share of queries with a correct candidate among the first k: #{i : 0 < rank_i <= k} / n.

    Queries without a correct candidate (rank 0) count in the denominator; the report gives their number.

    Args:
        ranks: (Q,) rank of the first correct candidate, from 1; 0 where there is none.
        ks: Lengths of the list.

    Returns:
        Share by k as text.

    References:
        R. Arandjelovic et al., "NetVLAD", CVPR 2016, section 5.1 (a hit within 25 m).

    Example:
        >>> recall_at_k([1, 3, 0, 7], ks=(1, 5, 10))
        {'1': 0.25, '5': 0.5, '10': 0.75}
    """
    rank = _checked_ranks(ranks)
    return {str(k): float(np.mean((rank > 0) & (rank <= k))) for k in ks}


def mean_reciprocal_rank(ranks: ArrayLike) -> float:
    """Mean of 1 / rank of the first correct candidate, 0 for a query without one.

    Args:
        ranks: (Q,) rank of the first correct candidate, from 1; 0 where there is none.

    References:
        E. M. Voorhees, "The TREC-8 question answering track report", TREC 1999.

    Example:
        >>> mean_reciprocal_rank([1, 2, 0, 4])
        0.4375
    """
    rank = _checked_ranks(ranks)
    return float(np.mean(np.where(rank > 0, 1.0 / np.maximum(rank, 1), 0.0)))


def city_alignment_at_k(
    query_cities: Sequence[str | None], top_cities: Sequence[Sequence[str | None]], ks: Sequence[int] = RECALL_KS
) -> dict[str, float] | None:
    """Share of the first k candidates that are in the query's city, averaged over the queries whose city is known.

    The SW-CLIP paper names this measure without defining it; this definition is an assumption. A candidate of unknown
    city does not count as in the query's city.

    Args:
        query_cities: City of each of Q queries, None where unknown.
        top_cities: Q lists: the city of each candidate, best first, at least max(ks) long or the whole gallery.
        ks: Lengths of the list.

    Returns:
        Share by k as text; None where no query's city is known.

    Example:
        >>> city_alignment_at_k(["Leeds"], [["Leeds", "Leeds", "York", None]], ks=(1, 4))
        {'1': 1.0, '4': 0.5}
    """
    with_city = [(city, top) for city, top in zip(query_cities, top_cities, strict=True) if city is not None]
    if not with_city:
        return None
    return {
        str(k): float(np.mean([np.mean([name == city for name in top[:k]]) for city, top in with_city])) for k in ks
    }


def _checked_ranks(ranks: ArrayLike) -> Int64[np.ndarray, " q"]:
    rank = np.asarray(ranks, dtype=np.int64).reshape(-1)
    if rank.size == 0:
        raise InputError("there are no queries to measure; check the split.")
    return rank
