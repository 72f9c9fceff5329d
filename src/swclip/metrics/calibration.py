"""Whether a stated probability holds: shares with intervals, reliability, and what may be left unanswered."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy.typing import ArrayLike
from scipy.stats import beta, t

from swclip.errors import InputError
from swclip.metrics.bootstrap import LEVEL as INTERVAL_LEVEL
from swclip.metrics.parts import Metres, Part, Range, Share

WITHIN_M = 100.0
"""The selective curve states the share of the answered within this."""


class ReliabilityBin(Part):
    """Queries of similar stated probability, and how many were right."""

    low: Share
    high: Share
    n: int
    mean_probability: Share
    coverage: Share
    coverage_interval: Range | None


class RiskCoverage(Part):
    """Errors when only the surest share of the queries is answered."""

    by: str
    share: list[Share]
    median_m: list[Metres]
    within_100_m: list[Share]
    n: list[int]


def share_interval(
    hits: ArrayLike, blocks: Int64[np.ndarray, " q"], level: float = INTERVAL_LEVEL
) -> tuple[float, float]:
    """Interval of a share whose queries come in blocks: the exact binomial one at the effective sample size.

    The variance of the share is taken from the sums over blocks of (hit - share); the queries are then worth as many
    independent ones as would have that variance, n / deff, and the interval is Clopper and Pearson's for so many.
    Clopper and Pearson's for all n is too short where neighbours succeed and fail together; resampling blocks collapses
    to a point where all hit, which is where coverage likes to be. There the blocks are counted, one each.

    Args:
        hits: (Q,) True where the query counts for the share; Q >= 1.
        blocks: (Q,) number of each query's block.
        level: Probability that the interval is to hold.

    Returns:
        Low, high.

    Raises:
        InputError: There are no queries.

    References:
        C. J. Clopper, E. S. Pearson, Biometrika 26 (1934). E. L. Korn, B. I. Graubard, "Confidence intervals for
        proportions with small expected number of positive counts estimated from survey data", Survey Methodology 24
        (1998).

    Example:
        >>> tuple(round(end, 4) for end in share_interval([True] * 10, np.arange(10)))
        (0.6915, 1.0)
        >>> tuple(round(end, 4) for end in share_interval([True] * 10, np.arange(10) // 2))
        (0.4782, 1.0)
    """
    hit = np.asarray(hits, dtype=np.float64)
    n = len(hit)
    if n == 0:
        raise InputError("there are no queries to state a share of; check the split.")
    share = float(hit.mean())
    present, number = np.unique(blocks, return_inverse=True)
    count = len(present)
    effective = float(count)
    if 0.0 < share < 1.0 and count > 1:
        off = np.bincount(number, weights=hit - share)
        variance = count / (count - 1) * float((off**2).sum()) / n**2
        independent = share * (1.0 - share)
        few = (t.ppf(0.5 + level / 2.0, n - 1) / t.ppf(0.5 + level / 2.0, count - 1)) ** 2
        effective = min(float(n), float(few) * independent / variance) if variance > 0.0 else float(n)
    elif 0.0 < share < 1.0:
        effective = 1.0
    successes = share * effective
    low = beta.ppf((1.0 - level) / 2.0, successes, effective - successes + 1.0) if successes > 0.0 else 0.0
    high = beta.ppf((1.0 + level) / 2.0, successes + 1.0, effective - successes) if successes < effective else 1.0
    return float(low), float(high)


def reliability(
    probability: ArrayLike, hits: ArrayLike, blocks: Int64[np.ndarray, " q"], bins: int = 10
) -> list[ReliabilityBin]:
    """How often what was said with a probability was so, in bins of about as many queries.

    Queries with the same probability stay together.

    Args:
        probability: (Q,) stated probabilities.
        hits: (Q,) True where it was so.
        blocks: (Q,) number of each query's block.
        bins: How many bins at most.

    Returns:
        The bins, least probable first; low and high are the least and the greatest probability in each, coverage is
        the share of hits.

    References:
        A. Niculescu-Mizil, R. Caruana, "Predicting good probabilities with supervised learning", ICML 2005.
    """
    stated, hit = np.asarray(probability, dtype=np.float64), np.asarray(hits, dtype=np.bool_)
    order = np.argsort(stated, kind="stable")
    ends = _ends(stated[order], bins)
    found = []
    for rows in np.split(order, ends[:-1]):
        own = stated[rows]
        found.append(
            ReliabilityBin(
                low=float(own.min()),
                high=float(own.max()),
                n=len(rows),
                mean_probability=float(own.mean()),
                coverage=float(hit[rows].mean()),
                coverage_interval=list(share_interval(hit[rows], blocks[rows])),
            )
        )
    return found


def risk_coverage_curve(
    error_m: ArrayLike, area_km2: ArrayLike, points: int = 20, by: str = "area of the region"
) -> RiskCoverage:
    """What the answers are worth when those with large regions are left unanswered.

    Queries are answered in the order of their regions' areas, smallest first; those of one area together.

    Args:
        error_m: (Q,) errors in metres.
        area_km2: (Q,) areas, infinite where the region is everything.
        points: How many points at most.
        by: What the areas are, for the record.

    Returns:
        The share of the queries that are answered, how many that are, and the errors of those.

    References:
        Y. Geifman, R. El-Yaniv, "RiskCoverage classification for deep neural networks", NeurIPS 2017.

    Example:
        >>> curve = risk_coverage_curve([5.0, 400.0, 20.0, 30.0], [0.1, 9.0, 0.2, 0.2], points=2)
        >>> curve.share, curve.median_m, curve.within_100_m, curve.n
        ([0.75, 1.0], [20.0, 25.0], [1.0, 0.75], [3, 4])
    """
    error, area = np.asarray(error_m, dtype=np.float64), np.asarray(area_km2, dtype=np.float64)
    order = np.argsort(area, kind="stable")
    ends = _ends(area[order], points)
    answered = [error[order[:end]] for end in ends]
    return RiskCoverage(
        by=by,
        share=[float(end / len(error)) for end in ends],
        median_m=[float(np.median(own)) for own in answered],
        within_100_m=[float(np.mean(own <= WITHIN_M)) for own in answered],
        n=[int(end) for end in ends],
    )


def _ends(ordered: Float64[np.ndarray, " q"], parts: int) -> Int64[np.ndarray, " p"]:
    """Where to cut ordered values into parts of about one size, such that equals are not parted."""
    n = len(ordered)
    wanted = np.unique(np.ceil(np.linspace(0.0, n, parts + 1)[1:]).astype(np.int64))
    apart: Bool[np.ndarray, " q"] = np.append(ordered[1:] > ordered[:-1], True)
    allowed = np.flatnonzero(apart) + 1
    return np.unique(allowed[np.searchsorted(allowed, wanted)])
