"""Pool the evaluations of a system over held-out cities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float64

from swclip.errors import InputError, MismatchError
from swclip.evaluation.report import REPORT_VERSION, Report
from swclip.evaluation.result import Evaluation
from swclip.geo.distance import geodesic_m
from swclip.metrics.baselines import RANDOM_DRAWS, BaselineFigures, Baselines
from swclip.metrics.bootstrap import RESAMPLES
from swclip.metrics.error_report import error_report
from swclip.metrics.hierarchy import LevelFigures
from swclip.metrics.localization_error import mean_reciprocal_rank, recall_at_k
from swclip.metrics.parts import Figures
from swclip.metrics.spatial import spatial_report


def pool_evaluations(evaluations: Sequence[Evaluation], *, resamples: int = RESAMPLES, seed: int = 0) -> Evaluation:
    """Pool the queries of several evaluations and compute all figures for them.

    Each query keeps its answer by the model that was not trained on its city, its candidates and its baselines: the
    constant baseline is that of its training side. Figures are of all queries, not means over the parts. The interval
    resamples blocks of all parts: it describes other streets of these cities, not other cities.

    Args:
        evaluations: Evaluations of one system without common queries.
        resamples: Bootstrap resamples.
        seed: Seed of the bootstrap and of the random baseline.

    Raises:
        InputError: There are no evaluations.
        MismatchError: A query is in two of them.
    """
    if not evaluations:
        raise InputError("there are no evaluations to pool.")
    parts = [evaluation.report for evaluation in evaluations]
    frames = [
        evaluation.predictions.assign(block=[f"{at}: {block}" for block in evaluation.predictions["block"]])
        for at, evaluation in enumerate(evaluations)
    ]
    frame = pd.concat(frames, ignore_index=True)
    repeated = frame["image_id"][frame["image_id"].duplicated()]
    if len(repeated):
        raise MismatchError(
            f"photograph {repeated.iloc[0]!r} is a query of two of the evaluations; pool evaluations without "
            "common queries."
        )
    names = {part.estimator for part in parts}
    random = np.random.default_rng(seed).spawn(2)[1]
    error = frame["error_m"].to_numpy(dtype=np.float64)
    blocks = frame["block"].tolist()
    common = [name for name in parts[0].estimators if all(name in part.errors_m for part in evaluations)]
    by_estimator = {name: np.concatenate([part.errors_m[name] for part in evaluations]) for name in common}
    ranks = frame["rank_25m"].fillna(0).to_numpy(dtype=np.int64)
    spatial, frame["lisa"], frame["lisa_p"] = spatial_report(_positions(frame), error, seed=seed)
    report = Report(
        version=REPORT_VERSION,
        n_queries=len(frame),
        n_answerable=_sum([part.n_answerable for part in parts]),
        # Each query has the candidates of its part.
        gallery_size=_mean([part.gallery_size for part in parts], parts),
        gallery_photographs=_mean([part.gallery_photographs for part in parts], parts),
        estimator=names.pop() if len(names) == 1 else None,
        **dict(error_report(error, frame["region"].tolist(), blocks, parts[0].intervals.block, seed, resamples)),
        recall_at_k_25m=dict(recall_at_k(ranks)),
        mrr_25m=mean_reciprocal_rank(ranks),
        ndcg_at_k=_mean_by_k([part.ndcg_at_k for part in parts], parts),
        relevance=parts[0].relevance,
        city_alignment_at_k=_mean_by_k([part.city_alignment_at_k for part in parts], parts),
        levels=_levels(parts),
        baselines=_baselines(evaluations, frame, random),
        estimators={name: Figures.of(errors_m) for name, errors_m in by_estimator.items()},
        regions=parts[0].regions,
        # Regions were calibrated for the gallery of each part, and embeddings of different models have no common
        # space: only the errors are pooled.
        spatial=spatial,
        calibration=None,
        on=parts[0].on,
        truth=parts[0].truth,
        parts=len(parts),
    )
    candidates = pd.concat([part.candidates for part in evaluations], ignore_index=True)
    candidates = candidates.drop_duplicates(["lat_deg", "lon_deg"], ignore_index=True)
    return Evaluation(report, frame, candidates, by_estimator)


def _levels(parts: Sequence[Report]) -> dict[str, LevelFigures]:
    """Figures of the hierarchy levels over all queries, at the levels that every part has."""
    pooled: dict[str, LevelFigures] = {}
    for name in parts[0].levels:
        levels = [part.levels[name] for part in parts if name in part.levels]
        if len(levels) < len(parts):
            continue
        n, answerable = sum(level.n for level in levels), sum(level.n_answerable for level in levels)
        logs = sum(level.log_score * level.n_answerable for level in levels if level.log_score is not None)
        pooled[name] = LevelFigures(
            n=n,
            n_answerable=answerable,
            # Each query has the units of the gallery of its part.
            units=sum(level.units * level.n for level in levels) / n,
            accuracy=sum(level.accuracy * level.n for level in levels) / n,
            accuracy_of_point=sum(level.accuracy_of_point * level.n for level in levels) / n,
            mean_probability=sum(level.mean_probability * level.n for level in levels) / n,
            brier=sum(level.brier * level.n for level in levels) / n,
            log_score=logs / answerable if answerable else None,
        )
    return pooled


def _baselines(evaluations: Sequence[Evaluation], frame: pd.DataFrame, generator: np.random.Generator) -> Baselines:
    """Oracle error, constant and random baseline, for each query those of its part."""
    return Baselines(
        floor=BaselineFigures.of(frame["floor_m"].to_numpy(dtype=np.float64)),
        constant=_constant(evaluations),
        random=BaselineFigures.mean_of(_random(evaluations, generator) for _ in range(RANDOM_DRAWS)),
    )


def _constant(evaluations: Sequence[Evaluation]) -> BaselineFigures | None:
    """The constant baseline of each part for its queries; None where a part has none."""
    errors = []
    for part in evaluations:
        constant = part.report.baselines.constant
        if constant is None or constant.lat_deg is None or constant.lon_deg is None:
            return None
        truth = _positions(part.predictions)
        errors.append(geodesic_m(truth, np.broadcast_to([constant.lat_deg, constant.lon_deg], truth.shape)))
    return BaselineFigures.of(np.concatenate(errors))


def _random(evaluations: Sequence[Evaluation], generator: np.random.Generator) -> Float64[np.ndarray, " q"]:
    """Errors of one random candidate per query, from the candidates of its part."""
    errors = []
    for part in evaluations:
        rows = generator.integers(len(part.candidates), size=len(part.predictions))
        errors.append(geodesic_m(_positions(part.predictions), _positions(part.candidates)[rows]))
    return np.concatenate(errors)


def _mean_by_k(shares: Sequence[Mapping[str, float] | None], parts: Sequence[Report]) -> dict[str, float] | None:
    present = [share for share in shares if share is not None]
    if len(present) < len(shares):
        return None
    means = {k: _mean([share[k] for share in present], parts) for k in present[0]}
    return {k: float(mean) for k, mean in means.items() if mean is not None}


def _mean(values: Sequence[float | None], parts: Sequence[Report]) -> float | None:
    """Mean over queries of a value per part; None where a part has none."""
    present = [value for value in values if value is not None]
    if len(present) < len(values):
        return None
    return (
        present[0] if len(set(present)) == 1 else float(np.average(present, weights=[part.n_queries for part in parts]))
    )


def _sum(values: Sequence[int | None]) -> int | None:
    """Sum over the parts; None where a part has none."""
    present = [value for value in values if value is not None]
    return sum(present) if len(present) == len(values) else None


def _positions(frame: pd.DataFrame) -> Float64[np.ndarray, "n 2"]:
    return frame[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)
