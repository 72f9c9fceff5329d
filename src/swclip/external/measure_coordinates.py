"""Measuring answers that are coordinates alone: the figures of a report that need no posterior, the others null."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64
from numpy.typing import ArrayLike

from swclip.data.grouping import text_or_none
from swclip.errors import InputError
from swclip.evaluation.measure import MeasureConfig
from swclip.evaluation.predictions import COLUMNS
from swclip.evaluation.report import REPORT_VERSION, Confidence, Report, ConfidenceCurve, Unanswered
from swclip.evaluation.result import Evaluation
from swclip.evaluation.retrieval_task import hits_within
from swclip.external.predicted_coordinates import Predicted
from swclip.geo.distance import geodesic_m
from swclip.metrics.baselines import Baselines, baselines
from swclip.metrics.districts import district_labels, resampling_blocks
from swclip.metrics.error_report import error_report
from swclip.metrics.localization_error import RECALL_KS, RECALL_RADIUS_M, recall_at_k
from swclip.metrics.ndcg import geoscore_by_query
from swclip.metrics.parts import Figures
from swclip.metrics.spatial import spatial_report

ESTIMATOR = "as given"
"""The estimator's name in a report of answers: another tool's own way from a photograph to a point."""

_NO_CANDIDATES = ("candidate_id", "lat_deg", "lon_deg", "city", "image_ids")
_SHARES = (0.25, 0.5, 0.75, 1.0)


def measure_answers(
    predicted: Predicted,
    config: MeasureConfig | None = None,
    *,
    candidates: pd.DataFrame | None = None,
    training_deg: ArrayLike = (),
) -> Evaluation:
    """Measure answers against the truth.

    Errors, regions and intervals are of the answered queries. How many were asked and not answered stands beside them
    (`unanswered`), with the accuracy where those count as wrong. What a posterior, embeddings or an unknown gallery
    would be needed for is null.

    Args:
        predicted: The queries and their answers.
        config: Regions, bootstrap and seed; an estimator has no meaning here.
        candidates: The gallery where it is known: candidate_id, lat_deg, lon_deg, city, image_ids. It gives the floor,
            the random guess and how many queries are answerable.
        training_deg: (N, 2) positions of the training photographs, for one guess for all; the candidates' where empty.

    Returns:
        Report (without `made_with`), predictions (a row an answered query, with `confidence` where there was such) and
        candidates.

    Raises:
        InputError: No query was answered.
    """
    config = config or MeasureConfig()
    answered = predicted.answered
    if not answered.any():
        raise InputError(f"{predicted.name}: none of the {len(answered)} queries has an answer; check its columns.")
    queries = predicted.queries[answered].reset_index(drop=True)
    truth = queries[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)
    answers = predicted.answers_deg[answered]
    error = geodesic_m(truth, answers[:, 0])
    cities = text_or_none(queries["city"])
    regions = district_labels(cities, truth, config.regions)
    blocks, block_kind = resampling_blocks(queries, truth)
    # As `measure` spawns them, so that the same errors get the same intervals.
    generator_bootstrap, generator_random = np.random.default_rng(config.seed).spawn(2)
    ranks = first_answer_rank(truth, answers)
    floor = np.full(len(queries), np.nan)
    guesses = Baselines(floor=None, constant=None, random=None)
    answerable = None
    if candidates is not None:
        places = candidates[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)
        guesses, floor = baselines(truth, places, training_deg, generator_random)
        answerable = sum(len(hit) > 0 for hit in hits_within(truth, places, RECALL_RADIUS_M))
    errors = error_report(error, regions, blocks, block_kind, generator_bootstrap, config.resamples)
    spatial, lisa, lisa_p = spatial_report(truth, error, seed=config.seed)
    report = Report(
        version=REPORT_VERSION,
        n_queries=len(queries),
        n_answerable=answerable,
        gallery_size=None if candidates is None else len(candidates),
        gallery_photographs=None if candidates is None else int(sum(len(ids) for ids in candidates["image_ids"])),
        unanswered=unanswered(predicted, errors.accuracy_within_m),
        estimator=ESTIMATOR,
        **dict(errors),
        recall_at_k_25m=recall_of_answers(ranks, answers),
        mrr_25m=None,
        ndcg_at_k=None,
        relevance=None,
        city_alignment_at_k=None,
        levels={},
        baselines=guesses,
        estimators={ESTIMATOR: Figures.of(error)},
        regions=config.regions,
        spatial=spatial,
        calibration=None,
        confidence=confidence_figures(predicted, answered, error),
        truth=predicted.truth,
        posterior=None,
    )
    frame = _predictions(queries, answers[:, 0], error, floor, regions, blocks, ranks)
    frame["lisa"], frame["lisa_p"] = pd.Series(lisa, dtype=object), pd.array(lisa_p, dtype="Float64")
    if predicted.confidence is not None:
        frame["confidence"] = predicted.confidence[answered]
    empty = pd.DataFrame({name: pd.Series(dtype=object) for name in _NO_CANDIDATES})
    kept = empty if candidates is None else candidates.reset_index(drop=True)
    return Evaluation(report, frame, kept, {ESTIMATOR: error})


def first_answer_rank(
    truth_deg: Float64[np.ndarray, "q 2"], answers_deg: Float64[np.ndarray, "q k 2"]
) -> Int64[np.ndarray, " q"]:
    """Rank, from 1, of the first answer within 25 m of the truth; 0 where there is none.

    Args:
        truth_deg: (Q, 2) latitude, longitude, degrees.
        answers_deg: (Q, K, 2) ranked answers, NaN where there are no more.
    """
    there = ~np.isnan(answers_deg[:, :, 0])
    row, column = np.nonzero(there)
    near = np.zeros(there.shape, dtype=bool)
    near[row, column] = geodesic_m(truth_deg[row], answers_deg[row, column]) <= RECALL_RADIUS_M
    return np.where(near.any(axis=1), near.argmax(axis=1) + 1, 0).astype(np.int64)


def recall_of_answers(
    ranks: Int64[np.ndarray, " q"], answers_deg: Float64[np.ndarray, "q k 2"]
) -> dict[str, float | None]:
    """recall@k of the ranked answers; null beyond the longest list, where nothing is known."""
    longest = int((~np.isnan(answers_deg[:, :, 0])).sum(axis=1).max())
    recall = recall_at_k(ranks, RECALL_KS)
    return {key: value if int(key) <= longest else None for key, value in recall.items()}


def unanswered(predicted: Predicted, accuracy: Mapping[str, float]) -> Unanswered:
    """How many were asked and not answered and why, and the accuracy where they count as wrong."""
    answered = predicted.answered
    ids = predicted.queries["image_id"].tolist()
    missing = [[name, reason] for name, reason in zip(ids, predicted.reasons, strict=True) if reason is not None]
    share = float(answered.mean())
    return Unanswered(
        n_asked=len(answered),
        n=int((~answered).sum()),
        share_answered=share,
        reasons=dict(Counter(reason for reason in predicted.reasons if reason is not None)),
        queries=missing,
        accuracy_within_m_of_asked={radius: value * share for radius, value in accuracy.items()},
    )


def confidence_figures(
    predicted: Predicted, answered: np.ndarray[Any, Any], error_m: Float64[np.ndarray, " q"]
) -> Confidence | None:
    """Whether the answers that a tool was sure of are the better ones: errors of the surest share of them.

    Only the order of the confidences counts, so they need not be probabilities. Of equal ones the larger error comes
    first: a tool that is always equally sure gains nothing.

    Returns:
        How many answers have a confidence, and the errors of the surest of them; None without confidences.
    """
    if predicted.confidence is None:
        return None
    confidence = predicted.confidence[answered]
    known = np.flatnonzero(np.isfinite(confidence))
    if not len(known):
        return None
    order = known[np.lexsort((-error_m[known], -confidence[known]))]
    counts = [max(1, round(share * len(order))) for share in _SHARES]
    return Confidence(
        n=len(order),
        selective=ConfidenceCurve(
            share=list(_SHARES),
            n=counts,
            median_m=[float(np.median(error_m[order[:count]])) for count in counts],
            within_100_m=[float(np.mean(error_m[order[:count]] <= 100.0)) for count in counts],
        ),
    )


def _predictions(
    queries: pd.DataFrame,
    answers_deg: Float64[np.ndarray, "q 2"],
    error_m: Float64[np.ndarray, " q"],
    floor_m: Float64[np.ndarray, " q"],
    regions: list[str],
    blocks: list[str],
    ranks: Int64[np.ndarray, " q"],
) -> pd.DataFrame:
    """The table of predictions with its usual columns; what cannot be known is null."""
    known: dict[str, Any] = {
        "image_id": queries["image_id"].astype(str),
        "lat_deg": queries["lat_deg"],
        "lon_deg": queries["lon_deg"],
        "predicted_lat_deg": answers_deg[:, 0],
        "predicted_lon_deg": answers_deg[:, 1],
        "error_m": error_m,
        "geoscore": geoscore_by_query(error_m),
        "floor_m": floor_m,
        "region": regions,
        "city": pd.Series(text_or_none(queries["city"]), dtype=object),
        "rank_25m": pd.array([int(rank) if rank else None for rank in ranks], dtype="Int64"),
        "probability": np.full(len(queries), np.nan),
        "split": queries["split"],
        "block": blocks,
        "city_probability": pd.array([None] * len(queries), dtype="Float64"),
    }
    none = pd.Series([None] * len(queries), dtype=object)
    return pd.DataFrame({name: known.get(name, none) for name in COLUMNS})
