"""From posteriors over the candidates to a report: everything about an evaluation that needs no model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32, Float64, Int64
from numpy.typing import ArrayLike

from swclip.errors import ConfigError, InputError
from swclip.evaluation.answering import Estimator, Smoothing, answer
from swclip.evaluation.baselines import baselines
from swclip.evaluation.bootstrap import LEVEL, RESAMPLES, Interval, bootstrap_intervals, resample_blocks
from swclip.evaluation.details import GroundPosterior, TopCandidates
from swclip.evaluation.levels import LevelMeter
from swclip.evaluation.metrics import (
    RECALL_RADIUS_M,
    accuracy_within,
    by_region,
    city_alignment_at_k,
    error_statistics,
    mean_reciprocal_rank,
    recall_at_k,
)
from swclip.evaluation.regions import region_labels, resampling_blocks
from swclip.geo.distance import geodesic_m
from swclip.geo.neighbours import SphereIndex
from swclip.retrieval.hierarchy import RESOLUTIONS

REPORT_VERSION = "1"

# Geodesic and haversine distances differ by less than this share.
_ELLIPSOID_SHARE = 1.006


@dataclass(frozen=True)
class Evaluation:
    """What a system did on the queries of a split.

    Attributes:
        report: The figures, ready for report.json.
        predictions: One row a query, in the manifest's order: image_id; lat_deg, lon_deg (the truth);
            predicted_lat_deg, predicted_lon_deg; error_m; floor_m (distance to the nearest candidate); region; city;
            rank_25m (rank of the first candidate within 25 m of the truth, null where none is); top1_candidate_id;
            probability (posterior mass within 25 m of the answer); split; block;
            city_predicted (the most probable city, null where no candidate's is known); city_probability.
        candidates: One row a candidate: candidate_id, lat_deg, lon_deg, city, image_ids.
        errors_m: Errors in metres by estimator, in the order of the predictions; that of the report is among them.
        top: The most probable candidates of each query, in the order of the predictions; None where not kept.
        ground: The posterior of each query on the ground, in the order of the predictions; None where not kept.
    """

    report: dict[str, Any]
    predictions: pd.DataFrame
    candidates: pd.DataFrame
    errors_m: Mapping[str, Float64[np.ndarray, " q"]] = field(default_factory=dict)
    top: TopCandidates | None = None
    ground: GroundPosterior | None = None


@dataclass(frozen=True)
class MeasureConfig:
    """How answers are measured.

    Attributes:
        estimator: The estimator whose answers the report is about; the others are reported beside it. Where None, the
            one that the posterior names, or the mode where there is no posterior to ask.
        regions: "city", or "cells:RES".
        resamples: Bootstrap resamples.
        seed: Of the bootstrap and of the random guesses.
        resolutions: H3 resolutions of the cells whose probabilities are measured beside the city's.
    """

    estimator: str | None = None
    regions: str = "city"
    resamples: int = RESAMPLES
    seed: int = 0
    resolutions: tuple[int, ...] = RESOLUTIONS


def measure(
    queries: pd.DataFrame,
    candidates: pd.DataFrame,
    log_posteriors: Iterable[Float32[np.ndarray, "q m"]],
    estimators: Mapping[str, Estimator],
    training_deg: ArrayLike,
    config: MeasureConfig | None = None,
    stated: Smoothing | None = None,
) -> Evaluation:
    """Answer the queries from their posteriors and measure the answers.

    Args:
        queries: One row a query: image_id, lat_deg, lon_deg (what the error is measured against), city; block_id,
            place_id and split where there are such.
        candidates: One row a candidate, in the order of the posterior's columns: candidate_id, lat_deg, lon_deg,
            city, image_ids.
        log_posteriors: Chunks (q, M) of the log posterior over the candidates, rows in the order of the queries.
        estimators: Name and function; all are reported, `config.estimator` in full.
        training_deg: (N, 2) positions of the training photographs, degrees, for the constant baseline.
        config: How to measure.
        stated: From a posterior to the one whose sums answers state as probabilities of cities and cells: the
            smoothing on the ground. The posterior itself where None.

    Returns:
        Report, predictions and candidates. The report lacks `made_with`, which only the caller knows.

    Raises:
        ConfigError: The estimator is not among the estimators.
        InputError: There are no queries or no candidates.
        ArtefactError: A posterior holds values that are not numbers, or has other rows or columns than expected.
    """
    config = config or MeasureConfig()
    chosen = config.estimator or "mode"
    if chosen not in estimators:
        raise ConfigError(f"estimator {chosen!r} is not known; choose one of {', '.join(estimators)}.")
    if len(queries) == 0:
        raise InputError("there are no queries to answer; check the split.")
    queries, candidates = queries.reset_index(drop=True), candidates.reset_index(drop=True)
    truth, places = _positions(queries), _positions(candidates)
    answerable = hits_within(truth, places, RECALL_RADIUS_M)
    cities, candidate_cities = _texts(queries, "city"), np.asarray(_texts(candidates, "city"), dtype=object)
    meter = LevelMeter(truth, cities, places, candidate_cities.tolist(), config.resolutions)
    answers = answer(log_posteriors, places, answerable, estimators, chosen, stated, [meter])

    generator_bootstrap, generator_random = np.random.default_rng(config.seed).spawn(2)
    found = answers.positions_deg
    errors = {name: geodesic_m(truth, position) for name, position in found.items()}
    error = errors[chosen]
    regions = region_labels(cities, truth, config.regions)
    blocks, block_kind = resampling_blocks(queries, truth)
    guesses, floor = baselines(truth, places, training_deg, generator_random)
    ranks, top = answers.ranks, answers.top
    alignment = None
    if any(city is not None for city in candidate_cities):
        alignment = city_alignment_at_k(cities, candidate_cities[top.rows].tolist())
    resampled = resample_blocks(blocks, config.resamples, generator_bootstrap)
    intervals = {
        **nested_intervals(bootstrap_intervals(error, resampled)),
        "level": LEVEL,
        "resamples": config.resamples,
        "block": block_kind,
        "blocks": len(set(blocks)),
    }
    report = {
        "version": REPORT_VERSION,
        "n_queries": len(queries),
        "n_answerable": sum(len(hit) > 0 for hit in answerable),
        "gallery_size": len(candidates),
        "gallery_photographs": int(sum(len(ids) for ids in candidates["image_ids"])),
        "estimator": chosen,
        **_figures(error),
        "recall_at_k_25m": recall_at_k(ranks),
        "mrr_25m": mean_reciprocal_rank(ranks),
        "city_alignment_at_k": alignment,
        "levels": meter.report(found[chosen]),
        "baselines": guesses,
        "estimators": {name: _figures(own) for name, own in errors.items()},
        "regions": config.regions,
        "by_region": by_region(error, regions),
        "intervals": intervals,
    }
    city_predicted, city_probability = meter.cities()
    predictions = pd.DataFrame(
        {
            "image_id": queries["image_id"].astype(str),
            "lat_deg": truth[:, 0],
            "lon_deg": truth[:, 1],
            "predicted_lat_deg": found[chosen][:, 0],
            "predicted_lon_deg": found[chosen][:, 1],
            "error_m": error,
            "floor_m": floor,
            "region": regions,
            "city": cities,
            "rank_25m": pd.arrays.IntegerArray(ranks, ranks == 0),
            "top1_candidate_id": candidates["candidate_id"].to_numpy()[top.rows[:, 0]],
            "probability": answers.probability,
            "split": _texts(queries, "split"),
            "block": blocks,
            "city_predicted": pd.array(city_predicted, dtype=object),
            "city_probability": pd.array(city_probability, dtype="Float64"),
        }
    )
    return Evaluation(report, predictions, candidates, errors)


def hits_within(truth_deg: ArrayLike, candidates_deg: ArrayLike, radius_m: float) -> list[Int64[np.ndarray, " h"]]:
    """For each query the candidates within a geodesic radius of the truth, edge included."""
    truth = np.asarray(truth_deg, dtype=np.float64).reshape(-1, 2)
    places = np.asarray(candidates_deg, dtype=np.float64).reshape(-1, 2)
    if len(places) == 0:
        raise InputError("there are no candidates to answer with; check the gallery of the split.")
    near = SphereIndex(places).within(truth, radius_m * _ELLIPSOID_SHARE)
    return [
        which[geodesic_m(np.broadcast_to(query, (len(which), 2)), places[which]) <= radius_m] if len(which) else which
        for query, which in zip(truth, near, strict=True)
    ]


def nested_intervals(intervals: Mapping[str, Interval]) -> dict[str, dict[str, list[float]]]:
    """Intervals laid out as the figures they belong to: error_m.median, accuracy_within_m.25, each [low, high]."""
    nested: dict[str, dict[str, list[float]]] = {"error_m": {}, "accuracy_within_m": {}}
    for name, interval in intervals.items():
        group, key = ("accuracy_within_m", name[7:]) if name.startswith("within_") else ("error_m", name)
        nested[group][key] = [interval.low, interval.high]
    return nested


def _figures(error_m: Float64[np.ndarray, " q"]) -> dict[str, Any]:
    return {"error_m": error_statistics(error_m), "accuracy_within_m": accuracy_within(error_m)}


def _positions(frame: pd.DataFrame) -> Float64[np.ndarray, "n 2"]:
    return frame[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)


def _texts(frame: pd.DataFrame, column: str) -> list[str | None]:
    if column not in frame:
        return [None] * len(frame)
    return [None if pd.isna(value) else str(value) for value in frame[column]]
