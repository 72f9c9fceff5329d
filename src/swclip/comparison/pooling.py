"""One system's evaluations on several sets of queries as one: cities that were left out one after another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

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
    """Put the queries of several evaluations together, each counted once, and measure them anew.

    Each query keeps the answer of the system that did not see its city, its own candidates, and its own guesses:
    a constant guess is that of its own training side. Figures are of all queries, not means of the parts' figures.
    The interval resamples blocks of all parts: it says how far a figure would move on other streets of these cities,
    and nothing of other cities.

    Args:
        evaluations: One system's, on queries that none of the others has.
        resamples: Bootstrap resamples.
        seed: Of the bootstrap and of the random guesses.

    Raises:
        InputError: There are none.
        MismatchError: A query is in two of them.
    """
    if not evaluations:
        raise InputError("there are no evaluations to pool.")
    parts = [found.report for found in evaluations]
    frames = [
        found.predictions.assign(block=[f"{at}: {block}" for block in found.predictions["block"]])
        for at, found in enumerate(evaluations)
    ]
    frame = pd.concat(frames, ignore_index=True)
    twice = frame["image_id"][frame["image_id"].duplicated()]
    if len(twice):
        raise MismatchError(
            f"photograph {twice.iloc[0]!r} is a query of two of the evaluations; pool what shares none."
        )
    names = {part.estimator for part in parts}
    draws, guesses = np.random.default_rng(seed).spawn(2)
    error = frame["error_m"].to_numpy(dtype=np.float64)
    blocks = frame["block"].tolist()
    known = [name for name in parts[0].estimators if all(name in found.errors_m for found in evaluations)]
    by_estimator = {name: np.concatenate([found.errors_m[name] for found in evaluations]) for name in known}
    ranks = frame["rank_25m"].fillna(0).to_numpy(dtype=np.int64)
    spatial, frame["lisa"], frame["lisa_p"] = spatial_report(_positions(frame), error, seed=seed)
    report = Report(
        version=REPORT_VERSION,
        n_queries=len(frame),
        n_answerable=_sum([part.n_answerable for part in parts]),
        # Each query had the candidates of its own part.
        gallery_size=_mean([part.gallery_size for part in parts], parts),
        gallery_photographs=_mean([part.gallery_photographs for part in parts], parts),
        estimator=names.pop() if len(names) == 1 else None,
        **dict(error_report(error, frame["region"].tolist(), blocks, parts[0].intervals.block, draws, resamples)),
        recall_at_k_25m=dict(recall_at_k(ranks)),
        mrr_25m=mean_reciprocal_rank(ranks),
        ndcg_at_k=_mean_by_k([part.ndcg_at_k for part in parts], parts),
        relevance=parts[0].relevance,
        city_alignment_at_k=_mean_by_k([part.city_alignment_at_k for part in parts], parts),
        levels=_levels(parts),
        baselines=_baselines(evaluations, frame, guesses),
        estimators={name: Figures.of(own) for name, own in by_estimator.items()},
        regions=parts[0].regions,
        # The regions of each part were calibrated for its own gallery, and embeddings of different models have no
        # common space: what is left to look at is the errors.
        spatial=spatial,
        calibration=None,
        on=parts[0].on,
        truth=parts[0].truth,
        parts=len(parts),
    )
    candidates = pd.concat([found.candidates for found in evaluations], ignore_index=True)
    candidates = candidates.drop_duplicates(["lat_deg", "lon_deg"], ignore_index=True)
    return Evaluation(report, frame, candidates, by_estimator)


def _levels(parts: Sequence[Report]) -> dict[str, LevelFigures]:
    """The figures of city and cells over all queries, at the levels that every part has."""
    pooled: dict[str, LevelFigures] = {}
    for name in parts[0].levels:
        own = [part.levels[name] for part in parts if name in part.levels]
        if len(own) < len(parts):
            continue
        n, answerable = sum(level.n for level in own), sum(level.n_answerable for level in own)
        logs = sum(level.log_score * level.n_answerable for level in own if level.log_score is not None)
        pooled[name] = LevelFigures(
            n=n,
            n_answerable=answerable,
            # Each query had the units of its own part's gallery.
            units=sum(level.units * level.n for level in own) / n,
            accuracy=sum(level.accuracy * level.n for level in own) / n,
            accuracy_of_point=sum(level.accuracy_of_point * level.n for level in own) / n,
            mean_probability=sum(level.mean_probability * level.n for level in own) / n,
            brier=sum(level.brier * level.n for level in own) / n,
            log_score=logs / answerable if answerable else None,
        )
    return pooled


def _baselines(evaluations: Sequence[Evaluation], frame: pd.DataFrame, generator: np.random.Generator) -> Baselines:
    """Floor, constant and random guesses, each query with those of its own part."""
    return Baselines(
        floor=BaselineFigures.of(frame["floor_m"].to_numpy(dtype=np.float64)),
        constant=_constant(evaluations),
        random=BaselineFigures.mean_of(_blind(evaluations, generator) for _ in range(RANDOM_DRAWS)),
    )


def _constant(evaluations: Sequence[Evaluation]) -> BaselineFigures | None:
    """Each part's constant guess for its own queries; None where a part has none."""
    errors = []
    for found in evaluations:
        guess = found.report.baselines.constant
        if guess is None or guess.lat_deg is None or guess.lon_deg is None:
            return None
        truth = _positions(found.predictions)
        errors.append(geodesic_m(truth, np.broadcast_to([guess.lat_deg, guess.lon_deg], truth.shape)))
    return BaselineFigures.of(np.concatenate(errors))


def _blind(evaluations: Sequence[Evaluation], generator: np.random.Generator) -> Float64[np.ndarray, " q"]:
    """Errors of one random guess a query, from the candidates of its own part."""
    errors = []
    for found in evaluations:
        which = generator.integers(len(found.candidates), size=len(found.predictions))
        errors.append(geodesic_m(_positions(found.predictions), _positions(found.candidates)[which]))
    return np.concatenate(errors)


def _mean_by_k(shares: Sequence[Mapping[str, float] | None], parts: Sequence[Report]) -> dict[str, float] | None:
    known = [share for share in shares if share is not None]
    if len(known) < len(shares):
        return None
    means = {k: _mean([share[k] for share in known], parts) for k in known[0]}
    return {k: float(mean) for k, mean in means.items() if mean is not None}


def _mean(values: Sequence[float | None], parts: Sequence[Report]) -> float | None:
    """Mean over queries of a value that the queries of a part share; None where a part has none."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return known[0] if len(set(known)) == 1 else float(np.average(known, weights=[part.n_queries for part in parts]))


def _sum(values: Sequence[int | None]) -> int | None:
    """Sum over the parts; None where one has none."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _positions(frame: pd.DataFrame) -> Float64[np.ndarray, "n 2"]:
    return frame[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)


_SPREAD = (("error_m", ("median", "mean")), ("accuracy_within_m", ("25", "50", "100")))


def mean_report(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One report whose numbers are the means of the reports' numbers, at every depth.

    What is not a number is kept where all reports agree and is None where they do not; a key that one report lacks is
    left out.

    Args:
        reports: At least one.

    Example:
        >>> seeds = [{"error_m": {"mean": error}, "estimator": "mode"} for error in (10.0, 20.0)]
        >>> mean_report(seeds)
        {'error_m': {'mean': 15.0}, 'estimator': 'mode'}
    """
    shared = [key for key in reports[0] if all(key in report for report in reports)]
    return {key: _mean_of_figures([report[key] for report in reports]) for key in shared}


def seed_spread(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Standard deviation over seeds (n - 1) of the headline figures; None with one seed, which has no spread."""
    if len(reports) < 2:
        return None
    return {
        group: {key: float(np.std([report[group][key] for report in reports], ddof=1)) for key in keys}
        for group, keys in _SPREAD
    }


def _mean_of_figures(values: Sequence[Any]) -> Any:
    if all(isinstance(value, Mapping) for value in values):
        return mean_report(values)
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        same = all(value == values[0] for value in values)
        return values[0] if same else float(np.mean(values))
    if all(isinstance(value, list) and len(value) == len(values[0]) for value in values):
        return [_mean_of_figures(items) for items in zip(*values, strict=True)]
    return values[0] if all(value == values[0] for value in values) else None


def with_gallery(reports: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The first report whose gallery is known, and so its floor and guesses; the first of all where none is.

    Another tool's bare answers come without a gallery.
    """
    every = list(reports)
    return next((report for report in every if report["baselines"].get("floor")), every[0])


def baselines_of(mean: Mapping[str, Any]) -> Baselines:
    """The baselines of a mean report; documents of earlier versions leave out a baseline that is not known."""
    return Baselines.model_validate({**dict.fromkeys(Baselines.model_fields), **mean["baselines"]})
