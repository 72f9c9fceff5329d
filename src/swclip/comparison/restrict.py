"""An evaluation on some of its queries: what the answers alone can say is measured anew, the rest is left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from swclip.evaluation.measure import Evaluation
from swclip.geo.distance import geodesic_m
from swclip.metrics.error_report import error_figures, error_report
from swclip.metrics.localization_error import (accuracy_within, error_statistics, mean_reciprocal_rank, recall_at_k)

_KEPT = (
    "version",
    "gallery_size",
    "gallery_photographs",
    "estimator",
    "relevance",
    "regions",
    "on",
    "truth",
    "posterior",
    "made_with",
)


def reordered(evaluation: Evaluation, rows: Int64[np.ndarray, " q"]) -> Evaluation:
    """The same evaluation with its queries in another order; what it holds of them beside answers and errors is left.

    Args:
        evaluation: Q queries.
        rows: (Q,) each row once.
    """
    errors = {name: own[rows] for name, own in evaluation.errors_m.items()}
    frame = evaluation.predictions.iloc[rows].reset_index(drop=True)
    return Evaluation(evaluation.report, frame, evaluation.candidates, errors)


def restricted(evaluation: Evaluation, rows: Int64[np.ndarray, " q"], seed: int = 0) -> Evaluation:
    """The evaluation of some of the queries.

    Errors, accuracies, recall, regions, floor and the constant guess are computed again from the answers. What needs
    the scores or the candidates is left out of the report: the blind guess, cities and cells, calibration, what
    neighbourhood has to do with the errors, and other estimators where their errors are not in memory.

    Args:
        evaluation: The whole.
        rows: Rows of the queries to keep, in the order to keep them in.
        seed: Of the bootstrap.
    """
    kept, old = reordered(evaluation, rows), evaluation.report
    frame = kept.predictions
    error = frame["error_m"].to_numpy(dtype=np.float64)
    ranks = frame["rank_25m"].astype("Int64").fillna(0).to_numpy(dtype=np.int64)
    intervals, generator = old["intervals"], np.random.default_rng(seed)
    report = {
        **{key: old[key] for key in _KEPT if key in old},
        "n_queries": len(frame),
        "n_answerable": int((ranks > 0).sum()),
        **error_report(
            error,
            frame["region"].tolist(),
            frame["block"].tolist(),
            intervals["block"],
            generator,
            intervals["resamples"],
        ),
        "recall_at_k_25m": recall_at_k(ranks),
        "mrr_25m": mean_reciprocal_rank(ranks),
        "city_alignment_at_k": None,
        "levels": {},
        "baselines": _baselines(old["baselines"], frame),
        "estimators": {name: error_figures(own) for name, own in kept.errors_m.items()},
    }
    if "ndcg_20" in frame:
        report["ndcg_at_k"] = {"20": float(frame["ndcg_20"].mean())}
    return replace(kept, report=report)


def _baselines(old: Mapping[str, Any], frame: pd.DataFrame) -> dict[str, Any]:
    truth = frame[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)
    found = {"floor": _guess(frame["floor_m"].to_numpy(dtype=np.float64))}
    place = {key: old["constant"][key] for key in ("lat_deg", "lon_deg") if key in old["constant"]}
    if len(place) == 2:
        constant = geodesic_m(truth, np.broadcast_to(list(place.values()), truth.shape))
        found["constant"] = {**_guess(constant), **place}
    return found


def _guess(error_m: Float64[np.ndarray, " q"]) -> dict[str, Any]:
    return {**error_statistics(error_m), "accuracy_within_m": accuracy_within(error_m)}
