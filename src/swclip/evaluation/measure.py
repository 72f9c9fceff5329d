"""From posteriors over the candidates to a report: everything about an evaluation that needs no model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float32, Float64, Int32, Int64
from numpy.typing import ArrayLike

from swclip.calibration.conformal import Calibration
from swclip.calibration.region_cells import RegionCells
from swclip.errors import ConfigError, InputError
from swclip.evaluation.answer_queries import TOP, Estimator, Smoothing, answer
from swclip.evaluation.report_schema import REPORT_VERSION
from swclip.evaluation.result import Embeddings, Evaluation
from swclip.geo.distance import geodesic_m, haversine_m
from swclip.geo.neighbours import SphereIndex
from swclip.metrics.baselines import baselines
from swclip.metrics.bootstrap import RESAMPLES
from swclip.metrics.districts import region_labels, resampling_blocks
from swclip.metrics.error_report import error_figures, error_report
from swclip.metrics.hierarchy import LevelMeter
from swclip.metrics.localization_error import RECALL_RADIUS_M, city_alignment_at_k, mean_reciprocal_rank, recall_at_k
from swclip.metrics.ndcg import (
    RELEVANCE_BANDWIDTH_M,
    RELEVANCE_KERNEL,
    geoscore_by_query,
    ndcg_at_k,
    ndcg_by_query,
    relevance_gain,
)
from swclip.metrics.query_details import GroundMeter, TopCandidates
from swclip.metrics.region_coverage import RegionMeter
from swclip.metrics.spatial import spatial_report
from swclip.retrieval.hierarchy import RESOLUTIONS

SHOWN = 10
"""Candidates of each query that predictions name."""

# Geodesic and haversine distances differ by less than this share.
_ELLIPSOID_SHARE = 1.006


@dataclass(frozen=True)
class MeasureConfig:
    """How answers are measured.

    Attributes:
        estimator: The estimator whose answers the report is about; the others are reported beside it. Where None, the
            one that the posterior names, or the mode where there is no posterior to ask.
        regions: "city", or "cells:RES".
        resamples: Bootstrap resamples.
        seed: Of the bootstrap, of the random guesses and of the permutations.
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
    *,
    calibration: Calibration | None = None,
    units: Sequence[str] | None = None,
    embeddings: Embeddings | None = None,
) -> Evaluation:
    """Answer the queries from their posteriors and measure the answers.

    Args:
        queries: One row a query: image_id, lat_deg, lon_deg (what the error is measured against), city; block_id,
            place_id, split and image_path where there are such.
        candidates: One row a candidate, in the order of the posterior's columns: candidate_id, lat_deg, lon_deg,
            city, image_ids.
        log_posteriors: Chunks (q, M) of the log posterior over the candidates, rows in the order of the queries.
        estimators: Name and function; all are reported, `config.estimator` in full.
        training_deg: (N, 2) positions of the training photographs, degrees, for the constant baseline.
        config: How to measure.
        stated: From a posterior to the one whose sums answers state as probabilities of cities and cells: the
            smoothing on the ground. The posterior itself where None.
        calibration: Of the regions; where None the queries calibrate one another by halves.
        units: What the split dealt as one (`exchangeable_units`), for the halves; the bootstrap's blocks where None.
        embeddings: Whose spatial statistics are reported beside those of the errors.

    Returns:
        Report, predictions and candidates. The report lacks `made_with`, which only the caller knows.

    Raises:
        ConfigError: The estimator is not among the estimators.
        InputError: There are no queries or no candidates.
        ArtefactError: A posterior holds values that are not numbers, or has other rows or columns than expected.
        MismatchError: The calibration is of other cells.
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
    blocks, block_kind = resampling_blocks(queries, truth)
    level_meter = LevelMeter(truth, cities, places, candidate_cities.tolist(), config.resolutions)
    ground = _ground(places, candidate_cities.tolist(), calibration)
    kept = GroundMeter(ground, len(queries))
    region_meter = RegionMeter(
        ground, truth, calibration, cities=cities, blocks=blocks, units=units, seed=config.seed, kept=kept
    )
    answers = answer(log_posteriors, places, answerable, estimators, chosen, stated, [level_meter, region_meter])

    for_bootstrap, for_guesses = np.random.default_rng(config.seed).spawn(2)
    found, top = answers.positions_deg, answers.top
    errors = {name: geodesic_m(truth, position) for name, position in found.items()}
    error = errors[chosen]
    regions = region_labels(cities, truth, config.regions)
    guesses, floor = baselines(truth, places, training_deg, for_guesses)
    gain = relevance_gain(_distances_m(truth, places, top.rows))
    ideal = relevance_gain(SphereIndex(places).nearest(truth, TOP)[0])
    spatial, lisa, lisa_p = spatial_report(
        truth,
        error,
        None if embeddings is None else embeddings.queries,
        None if embeddings is None or embeddings.locations is None else (places, embeddings.locations),
        seed=config.seed,
    )
    alignment = None
    if any(city is not None for city in candidate_cities):
        alignment = city_alignment_at_k(cities, candidate_cities[top.rows].tolist())
    report = {
        "version": REPORT_VERSION,
        "n_queries": len(queries),
        "n_answerable": sum(len(hit) > 0 for hit in answerable),
        "gallery_size": len(candidates),
        "gallery_photographs": int(sum(len(ids) for ids in candidates["image_ids"])),
        "estimator": chosen,
        **error_report(error, regions, blocks, block_kind, for_bootstrap, config.resamples),
        "recall_at_k_25m": recall_at_k(answers.ranks),
        "mrr_25m": mean_reciprocal_rank(answers.ranks),
        "ndcg_at_k": ndcg_at_k(gain, ideal),
        "relevance": {"kernel": RELEVANCE_KERNEL, "bandwidth_m": RELEVANCE_BANDWIDTH_M},
        "city_alignment_at_k": alignment,
        "levels": level_meter.report(found[chosen]),
        "baselines": guesses,
        "estimators": {name: error_figures(own) for name, own in errors.items()},
        "regions": config.regions,
        "spatial": spatial,
        "calibration": region_meter.report(regions, error, answers.probability),
    }
    city_predicted, city_probability = level_meter.cities()
    shown = top.rows[:, :SHOWN]
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
            "rank_25m": pd.arrays.IntegerArray(answers.ranks, answers.ranks == 0),
            "top1_candidate_id": candidates["candidate_id"].to_numpy()[top.rows[:, 0]],
            "probability": answers.probability,
            "split": _texts(queries, "split"),
            "block": blocks,
            "city_predicted": pd.array(city_predicted, dtype=object),
            "city_probability": pd.array(city_probability, dtype="Float64"),
            "ndcg_20": ndcg_by_query(gain, ideal, TOP),
            "geoscore": geoscore_by_query(error),
            "lisa": pd.array(lisa, dtype=object),
            "lisa_p": pd.array(lisa_p, dtype="Float64"),
            **region_meter.columns(),
            "top_candidate_ids": candidates["candidate_id"].to_numpy()[shown].tolist(),
            "top_probabilities": top.probability[:, :SHOWN].astype(np.float64).tolist(),
            "image_path": pd.array(_texts(queries, "image_path"), dtype=object),
        }
    )
    best = TopCandidates(shown, top.probability[:, :SHOWN])
    return Evaluation(report, predictions, candidates, errors, best, kept.posterior())


def _ground(
    places_deg: Float64[np.ndarray, "m 2"], cities: list[str | None], calibration: Calibration | None
) -> RegionCells:
    """The cells that the regions were calibrated on, of these candidates."""
    if calibration is None:
        return RegionCells.of(places_deg, cities)
    return RegionCells.of(places_deg, cities, resolution=calibration.resolution, spread_m=calibration.spread_m)


def _distances_m(
    truth_deg: Float64[np.ndarray, "q 2"], places_deg: Float64[np.ndarray, "m 2"], rows: Int32[np.ndarray, "q k"]
) -> Float64[np.ndarray, "q k"]:
    """On the sphere, as the nearest are sought: else the best list could be worse by the breadth of an ellipsoid."""
    there = places_deg[rows]
    return np.asarray(haversine_m(truth_deg[:, :1], truth_deg[:, 1:], there[..., 0], there[..., 1]))


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


def _positions(frame: pd.DataFrame) -> Float64[np.ndarray, "n 2"]:
    return frame[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)


def _texts(frame: pd.DataFrame, column: str) -> list[str | None]:
    if column not in frame:
        return [None] * len(frame)
    return [None if pd.isna(value) else str(value) for value in frame[column]]
