"""How well answers tell photographs of the gallery's area from those of elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64
from pydantic import Field
from scipy.stats import rankdata

from swclip.calibration.in_area import KEPT_M, KEPT_SHARE
from swclip.metrics.bootstrap import LEVEL
from swclip.metrics.parts import Number, Part, Range, Share


class OutsideFigures(Part):
    """Queries of the gallery's area against photographs of elsewhere, by their probability of being in the area."""

    n_outside: int
    auroc: Share = Field(description="probability that a query ranks above a photograph of elsewhere")
    answered_when_95_kept: Share | None = Field(
        description="share of the photographs of elsewhere that are answered at the probability that keeps 95 % of the "
        "queries placed within 100 m; null where none is"
    )
    threshold: Share = Field(description="answers with a smaller probability abstain, as calibrated on validation")
    answered_outside: Share = Field(description="share of the photographs of elsewhere above the threshold")
    answered_queries: Share = Field(description="share of the queries above the threshold")
    auroc_interval: Range
    answered_when_95_kept_interval: Range | None
    resamples: Number
    manifest: str = Field(description="the photographs of elsewhere")


def auroc(inside: Float64[np.ndarray, " q"], outside: Float64[np.ndarray, " k"]) -> float:
    """Area under the ROC curve: the share of pairs of which the first is larger; ties count half.

    Args:
        inside: (Q,) values of queries.
        outside: (K,) values of photographs of elsewhere.

    Example:
        >>> auroc(np.array([0.9, 0.5]), np.array([0.5, 0.1]))
        0.875
    """
    ranks = rankdata(np.concatenate([inside, outside]))[: len(inside)]
    q, k = len(inside), len(outside)
    return float((ranks.sum() - q * (q + 1) / 2.0) / (q * k))


def answered_when_kept(
    inside: Float64[np.ndarray, " q"], error_m: Float64[np.ndarray, " q"], outside: Float64[np.ndarray, " k"]
) -> float | None:
    """Share of the photographs of elsewhere that are answered at the threshold that keeps 95 % of the queries placed
    within 100 m; None where no query is.

    Args:
        inside: (Q,) probabilities of the queries.
        error_m: (Q,) errors of their answers, metres.
        outside: (K,) probabilities of the photographs of elsewhere.
    """
    near = inside[error_m <= KEPT_M]
    if not len(near):
        return None
    return float(np.mean(outside >= np.quantile(near, 1.0 - KEPT_SHARE, method="lower")))


def outside_figures(
    inside: Float64[np.ndarray, " q"],
    error_m: Float64[np.ndarray, " q"],
    outside: Float64[np.ndarray, " k"],
    resampled: Sequence[Int64[np.ndarray, " m"]],
    resampled_outside: Sequence[Int64[np.ndarray, " m"]],
    threshold: float,
    manifest: str,
) -> OutsideFigures:
    """Figures with percentile intervals.

    Args:
        inside: (Q,) probabilities of the queries.
        error_m: (Q,) errors of their answers, metres.
        outside: (K,) probabilities of the photographs of elsewhere.
        resampled: R resamples of the queries, by blocks.
        resampled_outside: R resamples of the photographs of elsewhere.
        threshold: The calibrated threshold.
        manifest: Name of the manifest of elsewhere.
    """
    curves, shares = [], []
    for rows, others in zip(resampled, resampled_outside, strict=True):
        curves.append(auroc(inside[rows], outside[others]))
        shares.append(answered_when_kept(inside[rows], error_m[rows], outside[others]))
    defined = [share for share in shares if share is not None]
    return OutsideFigures(
        n_outside=len(outside),
        auroc=auroc(inside, outside),
        answered_when_95_kept=answered_when_kept(inside, error_m, outside),
        threshold=threshold,
        answered_outside=float(np.mean(outside >= threshold)),
        answered_queries=float(np.mean(inside >= threshold)),
        auroc_interval=_ends(curves),
        answered_when_95_kept_interval=_ends(defined) if defined else None,
        resamples=len(curves),
        manifest=manifest,
    )


def _ends(values: Sequence[float]) -> list[float]:
    return [float(end) for end in np.quantile(values, [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])]
