"""Measure answers: from posteriors over the candidates to a report, without a model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float32, Float64, Int32
from numpy.typing import ArrayLike

from swclip.calibration.conformal import Calibration
from swclip.calibration.posterior_config import ESTIMATOR
from swclip.errors import ConfigError
from swclip.evaluation.answer_queries import TOP, Answers, Estimator, Smoothing, answer
from swclip.evaluation.report import REPORT_VERSION, Relevance, Report
from swclip.evaluation.result import Embeddings, Evaluation, answer_columns
from swclip.evaluation.retrieval_task import Meters, RetrievalTask, texts
from swclip.geo.distance import geodesic_m, haversine_m
from swclip.geo.neighbours import SphereIndex
from swclip.metrics.baselines import Baselines, baselines
from swclip.metrics.bootstrap import RESAMPLES
from swclip.metrics.error_report import error_report
from swclip.metrics.localization_error import RECALL_RADIUS_M, city_alignment_at_k, mean_reciprocal_rank, recall_at_k
from swclip.metrics.ndcg import (
    RELEVANCE_BANDWIDTH_M,
    RELEVANCE_KERNEL,
    geoscore_by_query,
    ndcg_at_k,
    ndcg_by_query,
    relevance_gain,
)
from swclip.metrics.parts import Figures
from swclip.metrics.query_details import TopCandidates
from swclip.metrics.spatial import SpatialReport, spatial_report
from swclip.retrieval.hierarchy import RESOLUTIONS

SHOWN = 10
"""Number of candidates per query in the table of predictions."""


@dataclass(frozen=True)
class MeasureConfig:
    """How answers are measured.

    Attributes:
        estimator: The main estimator of the report; the others are reported in brief. "validation" for the one with the
            least loss on the validation queries; see `swclip.evaluation.estimator_choice`.
        regions: Districts to report by: "city", or "cells:RES" for H3 cells.
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap, the random baseline and the permutations.
        resolutions: H3 resolutions of the hierarchy levels below the city.
    """

    estimator: str = ESTIMATOR
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
    smoothing: Smoothing | None = None,
    *,
    calibration: Calibration | None = None,
    units: Sequence[str] | None = None,
    embeddings: Embeddings | None = None,
) -> Evaluation:
    """Answer the queries from their posteriors and measure the answers.

    Args:
        queries: One row per query: image_id, lat_deg, lon_deg (the true position), city; optionally block_id, place_id,
            split and image_path.
        candidates: One row per candidate, in the order of the posterior's columns: candidate_id, lat_deg, lon_deg,
            city, image_ids.
        log_posteriors: Chunks (q, M) of the log posterior over the candidates, rows in the order of the queries.
        estimators: Estimators by name; all are reported, `config.estimator` in full.
        training_deg: (N, 2) positions of the training photographs, degrees, for the constant baseline.
        config: Estimator, districts, bootstrap.
        smoothing: Spatial smoothing of a posterior for the probabilities of cities and cells; None for none.
        calibration: Calibration of the prediction regions; None for cross-calibration by halves of the queries.
        units: Exchangeable units of the queries (`exchangeable_units`), for the halves; None for the blocks.
        embeddings: Embeddings for spatial statistics.

    Returns:
        Report, predictions and candidates. The caller adds `on`, `truth`, `posterior` and `made_with` to the report.

    Raises:
        ConfigError: The estimator or the districts are unknown.
        InputError: There are no queries or no candidates.
        ArtefactError: A posterior contains NaN, or the number of its rows or columns is wrong.
        MismatchError: The calibration was computed on other cells.
    """
    config = config or MeasureConfig()
    estimator = config.estimator
    if estimator not in estimators:
        raise ConfigError(f"estimator {estimator!r} is not known; choose one of {', '.join(estimators)}.")
    task = RetrievalTask.of(queries, candidates, config.regions)
    meters = Meters.of(task, config.resolutions, config.seed, calibration, units)
    answers = answer(
        log_posteriors,
        task.candidates_deg,
        task.answerable,
        estimators,
        estimator,
        smoothing,
        [meters.levels, meters.regions],
    )
    errors = {name: geodesic_m(task.truth_deg, position) for name, position in answers.positions_deg.items()}
    measured = _Measured(
        task,
        meters,
        answers,
        estimator,
        errors,
        gain=relevance_gain(_distances_m(task.truth_deg, task.candidates_deg, answers.top.rows)),
        ideal_gain=relevance_gain(SphereIndex(task.candidates_deg).nearest(task.truth_deg, TOP)[0]),
        spatial=_spatial(task, errors[estimator], embeddings, config.seed),
    )
    for_baselines = np.random.default_rng(config.seed).spawn(2)[1]
    baseline_figures, oracle_m = baselines(task.truth_deg, task.candidates_deg, training_deg, for_baselines)
    report = _report(measured, baseline_figures, config)
    predictions = _predictions(measured, oracle_m)
    return Evaluation(report, predictions, task.candidates, errors, measured.top, meters.cells.posterior())


@dataclass(frozen=True, eq=False)
class _Measured:
    """The answers to a task with their errors and gains.

    Attributes:
        task: The queries and candidates.
        meters: Accumulated figures of the posteriors.
        answers: The answers of all estimators.
        estimator: The main estimator.
        errors_m: (Q,) errors by estimator, metres.
        gain: (Q, K) graded relevance of the most probable candidates.
        ideal_gain: (Q, K) graded relevance of the nearest candidates.
        spatial: Spatial statistics of the estimator's errors and of the embeddings.
    """

    task: RetrievalTask
    meters: Meters
    answers: Answers
    estimator: str
    errors_m: Mapping[str, Float64[np.ndarray, " q"]]
    gain: Float64[np.ndarray, "q k"]
    ideal_gain: Float64[np.ndarray, "q k"]
    spatial: SpatialReport

    @property
    def error_m(self) -> Float64[np.ndarray, " q"]:
        return self.errors_m[self.estimator]

    @property
    def points_deg(self) -> Float64[np.ndarray, "q 2"]:
        return self.answers.positions_deg[self.estimator]

    @property
    def top(self) -> TopCandidates:
        """The candidates in the table of predictions."""
        return TopCandidates(self.answers.top.rows[:, :SHOWN], self.answers.top.probability[:, :SHOWN])


def _spatial(
    task: RetrievalTask, error_m: Float64[np.ndarray, " q"], embeddings: Embeddings | None, seed: int
) -> SpatialReport:
    location = None
    if embeddings is not None and embeddings.locations is not None:
        location = (task.candidates_deg, embeddings.locations)
    return spatial_report(
        task.truth_deg, error_m, None if embeddings is None else embeddings.queries, location, seed=seed
    )


def _report(measured: _Measured, baseline_figures: Baselines, config: MeasureConfig) -> Report:
    task, answers, meters = measured.task, measured.answers, measured.meters
    errors = error_report(measured.error_m, task.districts, task.blocks, task.block_kind, config.seed, config.resamples)
    return Report(
        version=REPORT_VERSION,
        n_queries=len(task.queries),
        n_answerable=sum(len(hits) > 0 for hits in task.answerable),
        gallery_size=len(task.candidates),
        gallery_photographs=int(sum(len(ids) for ids in task.candidates["image_ids"])),
        estimator=measured.estimator,
        **dict(errors),
        recall_at_k_25m=dict(recall_at_k(answers.ranks)),
        mrr_25m=mean_reciprocal_rank(answers.ranks),
        ndcg_at_k=ndcg_at_k(measured.gain, measured.ideal_gain),
        relevance=Relevance(kernel=RELEVANCE_KERNEL, bandwidth_m=RELEVANCE_BANDWIDTH_M),
        city_alignment_at_k=_city_alignment(measured),
        levels=meters.levels.report(measured.points_deg),
        baselines=baseline_figures,
        estimators={name: Figures.of(error_m) for name, error_m in measured.errors_m.items()},
        regions=config.regions,
        spatial=measured.spatial.report,
        calibration=meters.regions.report(task.districts, measured.error_m, answers.mass),
    )


def _city_alignment(measured: _Measured) -> dict[str, float] | None:
    names = measured.task.candidate_cities
    if all(name is None for name in names):
        return None
    return city_alignment_at_k(measured.task.cities, names[measured.answers.top.rows].tolist())


def _predictions(measured: _Measured, oracle_m: Float64[np.ndarray, " q"]) -> pd.DataFrame:
    """The table of predictions; see `Evaluation`."""
    task, answers, top = measured.task, measured.answers, measured.top
    queries, truth, points = task.queries, task.truth_deg, measured.points_deg
    candidate_ids = task.candidates["candidate_id"].to_numpy()
    city_predicted, city_probability = measured.meters.levels.cities()
    return pd.DataFrame(
        {
            "image_id": queries["image_id"].astype(str),
            "lat_deg": truth[:, 0],
            "lon_deg": truth[:, 1],
            "predicted_lat_deg": points[:, 0],
            "predicted_lon_deg": points[:, 1],
            "error_m": measured.error_m,
            "floor_m": oracle_m,
            "region": task.districts,
            "city": task.cities,
            "rank_25m": pd.arrays.IntegerArray(answers.ranks, answers.ranks == 0),
            "top1_candidate_id": candidate_ids[top.rows[:, 0]],
            "probability": measured.meters.regions.stated(answers.mass[RECALL_RADIUS_M], RECALL_RADIUS_M),
            "split": texts(queries, "split"),
            "block": task.blocks,
            "city_predicted": pd.array(city_predicted, dtype=object),
            "city_probability": pd.array(city_probability, dtype="Float64"),
            "ndcg_20": ndcg_by_query(measured.gain, measured.ideal_gain, TOP),
            "geoscore": geoscore_by_query(measured.error_m),
            "lisa": pd.array(measured.spatial.lisa, dtype=object),
            "lisa_p": pd.array(measured.spatial.lisa_p, dtype="Float64"),
            **measured.meters.regions.columns(),
            "top_candidate_ids": candidate_ids[top.rows].tolist(),
            "top_probabilities": top.probability.astype(np.float64).tolist(),
            "image_path": pd.array(_paths_to_state(queries), dtype=object),
            **{
                column: position[:, axis]
                for name, position in answers.positions_deg.items()
                for axis, column in enumerate(answer_columns(name))
            },
        }
    )


def _paths_to_state(queries: pd.DataFrame) -> list[str | None]:
    """Paths of photographs below the manifest as they are, of others the last two names."""
    return [
        path if path is None or not (os.path.isabs(path) or path.startswith("../")) else "/".join(path.split("/")[-2:])
        for path in texts(queries, "image_path")
    ]


def _distances_m(
    truth_deg: Float64[np.ndarray, "q 2"], candidates_deg: Float64[np.ndarray, "m 2"], rows: Int32[np.ndarray, "q k"]
) -> Float64[np.ndarray, "q k"]:
    """Haversine distances, as in the search for the nearest: ellipsoidal ones could exceed the ideal gains slightly."""
    positions = candidates_deg[rows]
    return np.asarray(haversine_m(truth_deg[:, :1], truth_deg[:, 1:], positions[..., 0], positions[..., 1]))
