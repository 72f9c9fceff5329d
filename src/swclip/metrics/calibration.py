"""`calibration` of a report, and its figures of probabilities: reliability bins and the risk-coverage curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy.typing import ArrayLike
from pydantic import Field
from scipy.stats import beta, t

from swclip.errors import InputError
from swclip.metrics.bootstrap import LEVEL as INTERVAL_LEVEL
from swclip.metrics.parts import Metres, Part, Range, Share

WITHIN_M = 100.0
"""The risk-coverage curve gives the share of answered queries within this distance."""


class ReliabilityBin(Part):
    """Queries of similar predicted probability, and how many of them were correct."""

    low: Share
    high: Share
    n: int
    mean_probability: Share
    coverage: Share
    coverage_interval: Range | None


class Reliability(Part):
    """Stated probabilities of some queries, and how many of them were correct."""

    n: int
    mean_probability: Share
    coverage: Share
    coverage_interval: Range | None
    bins: list[ReliabilityBin]


class StatedProbability(Part):
    """The stated probability that the true position is within a distance of the answer, against what happened."""

    within_m: float
    calibrated: bool = Field(description="whether it is calibrated on validation queries; else it is posterior mass")
    overall: Reliability
    by_region: dict[str, Reliability]


class RiskCoverage(Part):
    """Risk-coverage curve: errors when only the most confident share of the queries is answered."""

    by: str
    share: list[Share]
    median_m: list[Metres]
    within_100_m: list[Share]
    n: list[int]


class RegionAreas(Part):
    """Areas of prediction regions in km2."""

    median: float | None
    mean: float | None
    p90: float | None


class DistrictCoverage(Part):
    """Coverage among the queries of one district."""

    n: int
    coverage: Share
    coverage_interval: Range | None
    median_area_km2: float | None
    expected: Range | None = Field(
        default=None,
        description="95 % interval of the coverage of infinitely many queries, for a district that is an area "
        "calibrated on its own queries; null: unknown",
    )


class CityCoverage(Part):
    """Coverage of a class-conditional variant, with a threshold for each city, that was measured before version 0.3."""

    n: int
    coverage: Share
    coverage_interval: Range | None
    area_km2: RegionAreas
    by_region: dict[str, DistrictCoverage]
    cannot_tell: Share


class LevelCoverage(Part):
    """Coverage of the prediction regions of one nominal coverage."""

    level: Share
    threshold: float | None = Field(description="smallest tail mass of a cell in the region; null: no threshold exists")
    n: int
    coverage: Share
    coverage_interval: Range | None
    area_km2: RegionAreas
    by_region: dict[str, DistrictCoverage]
    expected: Range | None = Field(
        description="95 % interval of the coverage of infinitely many queries like the calibration ones; null: unknown"
    )
    cannot_tell: Share = Field(
        description="share of queries whose region is no smaller than a random one of the same coverage"
    )
    by_city: CityCoverage | None = Field(
        description="null: regions are calibrated by area, and no other variant is measured"
    )


class Cells(Part):
    """The H3 cells that regions are made of."""

    resolution: int
    across_m: float
    spread_m: float = Field(description="least spread of a candidate, of all areas")


class AreaCurve(Part):
    """Share of true positions covered against the mean area of the regions."""

    area_km2: list[float]
    recall: list[Share]


class AreaCalibration(Part):
    """What the regions of the answers of one area were calibrated on."""

    n: int = Field(description="calibration queries of the area")
    units: int = Field(description="their exchangeable units")
    unreachable: int = Field(description="those whose true cell no candidate reaches")
    spread_m: float | None = Field(description="spread of its candidates; null: the gallery has none of them")
    calibrated_on: Literal["area", "small areas", "all areas"]


class CalibrationMethod(Part):
    """What the regions were calibrated on."""

    source: Literal["validation", "halves of the queries"]
    n: int
    units: int = Field(description="number of exchangeable units (places or blocks) of these queries")
    unreachable: int = Field(description="calibration queries whose true cell no candidate reaches")
    by_city: bool = Field(description="whether thresholds are by area")
    own_cities: list[str] = Field(description="areas with a separate threshold")
    areas: dict[str, AreaCalibration] = Field(
        default_factory=dict, description="by area; empty for halves, and for calibrations without areas"
    )


class CalibrationReport(Part):
    """Calibration of prediction regions and probabilities."""

    method: CalibrationMethod
    cells: Cells
    total_area_km2: float
    levels: list[LevelCoverage]
    reliability: list[ReliabilityBin]
    area_curve: AreaCurve
    selective: RiskCoverage
    stated: StatedProbability | None = Field(
        default=None, description="of the probability that answers state, within 50 m"
    )


def share_interval(
    hits: ArrayLike, blocks: Int64[np.ndarray, " q"], level: float = INTERVAL_LEVEL
) -> tuple[float, float]:
    """Interval of a share of queries in blocks: the exact binomial interval at the effective sample size.

    The variance of the share is computed from the sums over blocks of (hit - share). The effective sample size n / deff
    is the number of independent queries with that variance, and the interval is Clopper and Pearson's for that number.
    With all n queries it would be too short where the queries of a block are correlated, and a block bootstrap would
    collapse to a point where all queries hit. In that case each block counts as one query.

    Args:
        hits: (Q,) True where the query counts for the share; Q >= 1.
        blocks: (Q,) number of each query's block.
        level: Nominal coverage of the interval.

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
        raise InputError("there are no queries to compute a share of; check the split.")
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
    """Observed frequency of correct answers by predicted probability, in bins of about equal size.

    Queries with the same probability are in one bin.

    Args:
        probability: (Q,) predicted probabilities.
        hits: (Q,) True where the answer was correct.
        blocks: (Q,) number of each query's block.
        bins: Maximum number of bins.

    Returns:
        The bins by increasing probability; low and high are the smallest and the largest probability of each, coverage
        is the share of hits.

    References:
        A. Niculescu-Mizil, R. Caruana, "Predicting good probabilities with supervised learning", ICML 2005.
    """
    predicted, hit = np.asarray(probability, dtype=np.float64), np.asarray(hits, dtype=np.bool_)
    order = np.argsort(predicted, kind="stable")
    ends = _ends(predicted[order], bins)
    reliability_bins = []
    for rows in np.split(order, ends[:-1]):
        probabilities = predicted[rows]
        reliability_bins.append(
            ReliabilityBin(
                low=float(probabilities.min()),
                high=float(probabilities.max()),
                n=len(rows),
                mean_probability=float(probabilities.mean()),
                coverage=float(hit[rows].mean()),
                coverage_interval=list(share_interval(hit[rows], blocks[rows])),
            )
        )
    return reliability_bins


def stated_probability(
    probability: ArrayLike,
    hits: ArrayLike,
    blocks: Int64[np.ndarray, " q"],
    districts: Sequence[str],
    *,
    within_m: float,
    calibrated: bool,
) -> StatedProbability:
    """Reliability of a stated probability, of all queries and by district.

    Args:
        probability: (Q,) stated probabilities.
        hits: (Q,) True where the error was within the distance.
        blocks: (Q,) number of each query's block.
        districts: Q districts.
        within_m: The distance, metres.
        calibrated: Whether it is calibrated.
    """
    predicted, hit = np.asarray(probability, dtype=np.float64), np.asarray(hits, dtype=np.bool_)
    names = np.asarray(districts, dtype=object)

    def of(rows: Int64[np.ndarray, " k"]) -> Reliability:
        return Reliability(
            n=len(rows),
            mean_probability=float(predicted[rows].mean()),
            coverage=float(hit[rows].mean()),
            coverage_interval=list(share_interval(hit[rows], blocks[rows])),
            bins=reliability(predicted[rows], hit[rows], blocks[rows]),
        )

    return StatedProbability(
        within_m=within_m,
        calibrated=calibrated,
        overall=of(np.arange(len(hit))),
        by_region={name: of(np.flatnonzero(names == name)) for name in sorted(set(districts))},
    )


def risk_coverage_curve(
    error_m: ArrayLike, area_km2: ArrayLike, points: int = 20, by: str = "area of the region"
) -> RiskCoverage:
    """Errors when queries with large prediction regions are left unanswered.

    Queries are answered by increasing area of their regions; queries of equal area together.

    Args:
        error_m: (Q,) errors in metres.
        area_km2: (Q,) areas, infinite where the region is unbounded.
        points: Maximum number of points.
        by: Description of the areas, for the report.

    Returns:
        Share and number of the answered queries, and their errors.

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
        median_m=[float(np.median(errors)) for errors in answered],
        within_100_m=[float(np.mean(errors <= WITHIN_M)) for errors in answered],
        n=[int(end) for end in ends],
    )


def _ends(ordered: Float64[np.ndarray, " q"], parts: int) -> Int64[np.ndarray, " p"]:
    """Ends of parts of about equal size of ordered values, such that equal values are in one part."""
    n = len(ordered)
    targets = np.unique(np.ceil(np.linspace(0.0, n, parts + 1)[1:]).astype(np.int64))
    increases: Bool[np.ndarray, " q"] = np.append(ordered[1:] > ordered[:-1], True)
    allowed = np.flatnonzero(increases) + 1
    return np.unique(allowed[np.searchsorted(allowed, targets)])
