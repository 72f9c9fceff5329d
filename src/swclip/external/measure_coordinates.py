"""Measure predicted coordinates: the figures of a report that need no posterior; the others are null."""

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
from swclip.evaluation.report import REPORT_VERSION, Confidence, ConfidenceCurve, Report, Unanswered
from swclip.evaluation.result import COLUMNS, Evaluation
from swclip.evaluation.retrieval_task import hits_within
from swclip.external.predicted_coordinates import PredictedCoordinates
from swclip.geo.distance import geodesic_m
from swclip.metrics.baselines import Baselines, baselines
from swclip.metrics.districts import district_labels, resampling_blocks
from swclip.metrics.error_report import error_report
from swclip.metrics.localization_error import RECALL_KS, RECALL_RADIUS_M, recall_at_k
from swclip.metrics.ndcg import geoscore_by_query
from swclip.metrics.parts import Figures
from swclip.metrics.spatial import spatial_report

ESTIMATOR = "as given"
"""Name of the estimator in a report of another tool's predicted coordinates."""

_CANDIDATE_COLUMNS = ("candidate_id", "lat_deg", "lon_deg", "city", "image_ids")
_SHARES = (0.25, 0.5, 0.75, 1.0)


def measure_coordinates(
    predicted: PredictedCoordinates,
    config: MeasureConfig | None = None,
    *,
    candidates: pd.DataFrame | None = None,
    training_deg: ArrayLike = (),
) -> Evaluation:
    """Measure predicted coordinates against the truth.

    Errors, districts and intervals are of the answered queries. `unanswered` has the number of queries without an
    answer, and the accuracy where these count as wrong. Figures that need a posterior, embeddings or an unknown gallery
    are null.

    Args:
        predicted: The queries and their answers.
        config: Districts, bootstrap and seed; the estimator is ignored.
        candidates: The gallery, where known: candidate_id, lat_deg, lon_deg, city, image_ids. It is used for the oracle
            error, the random baseline and the number of answerable queries.
        training_deg: (N, 2) positions of the training photographs, for the constant baseline; where empty, those of the
            candidates.

    Returns:
        Report (without `made_with`), predictions (one row per answered query, with `confidence` where available) and
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
    districts = district_labels(cities, truth, config.regions)
    blocks, block_kind = resampling_blocks(queries, truth)
    for_baselines = np.random.default_rng(config.seed).spawn(2)[1]  # as in `measure`
    ranks = first_answer_rank(truth, answers)
    oracle_m = np.full(len(queries), np.nan)
    baseline_figures = Baselines(floor=None, constant=None, random=None)
    answerable = None
    if candidates is not None:
        candidates_deg = candidates[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)
        baseline_figures, oracle_m = baselines(truth, candidates_deg, training_deg, for_baselines)
        answerable = sum(len(hits) > 0 for hits in hits_within(truth, candidates_deg, RECALL_RADIUS_M))
    errors = error_report(error, districts, blocks, block_kind, config.seed, config.resamples)
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
        baselines=baseline_figures,
        estimators={ESTIMATOR: Figures.of(error)},
        regions=config.regions,
        spatial=spatial,
        calibration=None,
        confidence=confidence_figures(predicted, answered, error),
        truth=predicted.truth,
        posterior=None,
    )
    frame = _predictions(queries, answers[:, 0], error, oracle_m, districts, blocks, ranks)
    frame["lisa"], frame["lisa_p"] = pd.Series(lisa, dtype=object), pd.array(lisa_p, dtype="Float64")
    if predicted.confidence is not None:
        frame["confidence"] = predicted.confidence[answered]
    no_candidates = pd.DataFrame({name: pd.Series(dtype=object) for name in _CANDIDATE_COLUMNS})
    table = no_candidates if candidates is None else candidates.reset_index(drop=True)
    return Evaluation(report, frame, table, {ESTIMATOR: error})


def first_answer_rank(
    truth_deg: Float64[np.ndarray, "q 2"], answers_deg: Float64[np.ndarray, "q k 2"]
) -> Int64[np.ndarray, " q"]:
    """Rank, from 1, of the first answer within 25 m of the truth; 0 where there is none.

    Args:
        truth_deg: (Q, 2) latitude, longitude, degrees.
        answers_deg: (Q, K, 2) ranked answers, NaN where there are no more.
    """
    present = ~np.isnan(answers_deg[:, :, 0])
    row, column = np.nonzero(present)
    near = np.zeros(present.shape, dtype=bool)
    near[row, column] = geodesic_m(truth_deg[row], answers_deg[row, column]) <= RECALL_RADIUS_M
    return np.where(near.any(axis=1), near.argmax(axis=1) + 1, 0).astype(np.int64)


def recall_of_answers(
    ranks: Int64[np.ndarray, " q"], answers_deg: Float64[np.ndarray, "q k 2"]
) -> dict[str, float | None]:
    """recall@k of the ranked answers; None for k above the longest list."""
    longest = int((~np.isnan(answers_deg[:, :, 0])).sum(axis=1).max())
    recall = recall_at_k(ranks, RECALL_KS)
    return {key: value if int(key) <= longest else None for key, value in recall.items()}


def unanswered(predicted: PredictedCoordinates, accuracy: Mapping[str, float]) -> Unanswered:
    """Number of queries without an answer and the reasons, and the accuracy where they count as wrong."""
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
    predicted: PredictedCoordinates, answered: np.ndarray[Any, Any], error_m: Float64[np.ndarray, " q"]
) -> Confidence | None:
    """Risk-coverage curve of another tool's confidences: errors of its most confident answers.

    Only the order of the confidences matters, so they need not be probabilities. Among ties the larger error comes
    first, so that constant confidences earn no credit.

    Returns:
        Number of answers with a confidence, and the errors of the most confident ones; None without confidences.
    """
    if predicted.confidence is None:
        return None
    confidence = predicted.confidence[answered]
    rows = np.flatnonzero(np.isfinite(confidence))
    if not len(rows):
        return None
    order = rows[np.lexsort((-error_m[rows], -confidence[rows]))]
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
    oracle_m: Float64[np.ndarray, " q"],
    districts: list[str],
    blocks: list[str],
    ranks: Int64[np.ndarray, " q"],
) -> pd.DataFrame:
    """The table of predictions with its usual columns; unknown values are null."""
    columns: dict[str, Any] = {
        "image_id": queries["image_id"].astype(str),
        "lat_deg": queries["lat_deg"],
        "lon_deg": queries["lon_deg"],
        "predicted_lat_deg": answers_deg[:, 0],
        "predicted_lon_deg": answers_deg[:, 1],
        "error_m": error_m,
        "geoscore": geoscore_by_query(error_m),
        "floor_m": oracle_m,
        "region": districts,
        "city": pd.Series(text_or_none(queries["city"]), dtype=object),
        "rank_25m": pd.array([int(rank) if rank else None for rank in ranks], dtype="Int64"),
        "probability": np.full(len(queries), np.nan),
        "split": queries["split"],
        "block": blocks,
        "city_probability": pd.array([None] * len(queries), dtype="Float64"),
    }
    empty = pd.Series([None] * len(queries), dtype=object)
    return pd.DataFrame({name: columns.get(name, empty) for name in COLUMNS})
