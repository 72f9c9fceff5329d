"""Align separate reports: the same queries in the same order, or an error that names the differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from swclip.calibration.posterior_config import ESTIMATOR, ESTIMATOR_NAMES
from swclip.errors import MismatchError
from swclip.evaluation.report import Report
from swclip.evaluation.result import Evaluation, answer_columns
from swclip.external.measure_coordinates import ESTIMATOR as AS_GIVEN
from swclip.geo.distance import geodesic_m
from swclip.metrics.baselines import BaselineFigures, Baselines
from swclip.metrics.error_report import district_gap, error_report, errors_by_district
from swclip.metrics.localization_error import mean_reciprocal_rank, recall_at_k
from swclip.metrics.ndcg import geoscore_by_query
from swclip.metrics.parts import Figures
from swclip.reporting.units import metres

_NAMED = 3
# Tolerance for positions that were written with six decimals.
_SAME_M = 0.2

Runs = Mapping[str, Mapping[str, Evaluation]]


@dataclass(frozen=True)
class Aligned:
    """Evaluations of the same queries.

    Attributes:
        runs: System, seed, evaluation; queries sorted by image_id.
        left_out: System, seed, number of queries of the report that are not compared.
        notes: Changes made by the alignment, as sentences.
    """

    runs: dict[str, dict[str, Evaluation]]
    left_out: dict[str, dict[str, int]]
    notes: list[str]


def align(runs: Runs, sources: Mapping[str, Mapping[str, str]], *, common: bool = False) -> Aligned:
    """Reduce evaluations to the same queries, sorted by image_id, with the districts and blocks of the first.

    Args:
        runs: System, seed, evaluation.
        sources: System, seed, name of the report in messages.
        common: Compare on the queries that all reports have. If False, all reports must have the same queries.

    Raises:
        MismatchError: The queries differ, none is common to all, or the true position of a query differs.
    """
    names = {(system, seed): sources[system][seed] for system, seeds in runs.items() for seed in seeds}
    ids = {key: evaluation.predictions["image_id"].astype(str).to_numpy() for key, evaluation in _all(runs)}
    first = next(iter(ids))
    shared = set(ids[first].tolist()).intersection(*(set(image_ids.tolist()) for image_ids in ids.values()))
    if not common:
        for key, image_ids in ids.items():
            _check_same(set(ids[first].tolist()), set(image_ids.tolist()), names[first], names[key])
    if not shared:
        counts = ", ".join(f"{names[key]} has {len(image_ids):,}" for key, image_ids in ids.items())
        raise MismatchError(f"no query is in all of the reports ({counts}); evaluate them on one split.")
    aligned: dict[str, dict[str, Evaluation]] = {}
    left_out: dict[str, dict[str, int]] = {}
    for (system, seed), evaluation in _all(runs):
        image_ids = ids[system, seed]
        rows = np.argsort(image_ids, kind="stable")
        rows = rows[[image_ids[row] in shared for row in rows]]
        count = len(image_ids) - len(rows)
        aligned.setdefault(system, {})[seed] = restricted(evaluation, rows) if count else reordered(evaluation, rows)
        left_out.setdefault(system, {})[seed] = count
    notes = _left_out_note(names, left_out, len(shared))
    model = aligned[first[0]][first[1]]
    for key, evaluation in _all(aligned):
        _check_truth(model, evaluation, names[first], names[key])
        aligned[key[0]][key[1]], changes = _with_districts_of(model, evaluation, names[first], names[key])
        notes += changes
    return Aligned(aligned, left_out, notes)


def _all(runs: Runs) -> Iterator[tuple[tuple[str, str], Evaluation]]:
    for system, seeds in runs.items():
        for seed, evaluation in seeds.items():
            yield (system, seed), evaluation


def _check_same(a: set[str], b: set[str], name_a: str, name_b: str) -> None:
    parts = [
        f"{name} lacks {len(missing):,} of the {len(total):,} queries of {of} ({_few(missing)})"
        for name, missing, total, of in ((name_b, a - b, a, name_a), (name_a, b - a, b, name_b))
        if missing
    ]
    if parts:
        raise MismatchError(
            f"{'; '.join(parts)}. Evaluate all on one manifest and one splits file, or compare on the queries that all "
            "have (--common, common=True)."
        )


def _few(image_ids: set[str]) -> str:
    named = sorted(image_ids)[:_NAMED]
    return ", ".join(map(repr, named)) + (", ..." if len(image_ids) > _NAMED else "")


def _check_truth(a: Evaluation, b: Evaluation, name_a: str, name_b: str) -> None:
    apart = geodesic_m(_truth(a), _truth(b))
    wrong = np.flatnonzero(~(apart <= _SAME_M))
    if wrong.size:
        row = int(wrong[np.argmax(apart[wrong])])
        truths = [evaluation.report.truth for evaluation in (a, b)]
        columns = ["lat_deg, lon_deg" if truth is None else truth.columns for truth in truths]
        raise MismatchError(
            f"{name_a} and {name_b} measure {wrong.size:,} of {len(apart):,} queries against different positions "
            f"({a.predictions['image_id'].iloc[row]!r} by {metres(float(apart[row]))}; columns {columns[0]} and "
            f"{columns[1]}); their errors cannot be compared. Evaluate both against the same columns of one manifest."
        )


def _truth(evaluation: Evaluation) -> Float64[np.ndarray, "q 2"]:
    return evaluation.predictions[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)


def _with_districts_of(
    model: Evaluation, evaluation: Evaluation, model_name: str, name: str
) -> tuple[Evaluation, list[str]]:
    """Give an evaluation the districts and blocks of another; returns it with a sentence per change."""
    frame, report, notes = evaluation.predictions, evaluation.report, []
    districts, blocks = model.predictions["region"], model.predictions["block"]
    if frame["region"].tolist() != districts.tolist():
        frame = frame.assign(region=districts)
        errors = frame["error_m"].to_numpy(dtype=np.float64)
        table = errors_by_district(errors, districts.tolist())
        report = report.model_copy(
            update={"regions": model.report.regions, "by_region": table, "regional": district_gap(table)}
        )
        notes.append(f"{name} has other districts; those of {model_name} are used for all.")
    if not np.array_equal(_partition(frame["block"]), _partition(blocks)):
        notes.append(f"{name} has other blocks; those of {model_name} are resampled for all.")
    frame = frame.assign(block=blocks)
    return replace(evaluation, predictions=frame, report=report), notes


def _partition(blocks: Any) -> Int64[np.ndarray, " q"]:
    """Number blocks by first occurrence, independent of their names."""
    codes: Int64[np.ndarray, " q"] = pd.factorize(blocks.astype(str))[0].astype(np.int64)
    return codes


def _left_out_note(
    names: Mapping[tuple[str, str], str], left_out: Mapping[str, Mapping[str, int]], n_common: int
) -> list[str]:
    counts = [
        f"{left_out[system][seed]:,} of {name}" for (system, seed), name in names.items() if left_out[system][seed]
    ]
    if not counts:
        return []
    return [
        f"Compared on the {n_common:,} queries that all reports have; left out: {', '.join(counts)}. The figures of "
        "these reports are recomputed from their answers. Figures that need more than the answers (random baseline, "
        "other estimators, hierarchy levels, calibration) are missing for them."
    ]


# Optional keys of a report that are copied.
_KEPT = (
    "on",
    "truth",
    "posterior",
    "made_with",
)


def reordered(evaluation: Evaluation, rows: Int64[np.ndarray, " q"]) -> Evaluation:
    """The same evaluation with its queries in another order, without optional details of the queries.

    Args:
        evaluation: Q queries.
        rows: (Q,) a permutation of the rows.
    """
    errors = {name: error[rows] for name, error in evaluation.errors_m.items()}
    frame = evaluation.predictions.iloc[rows].reset_index(drop=True)
    return Evaluation(evaluation.report, frame, evaluation.candidates, errors)


def restricted(evaluation: Evaluation, rows: Int64[np.ndarray, " q"], seed: int = 0) -> Evaluation:
    """The evaluation of a subset of the queries.

    Errors, accuracies, recall, districts, oracle error and constant baseline are recomputed from the answers. Figures
    that need scores or candidates are left out of the report: random baseline, hierarchy levels, calibration, spatial
    statistics, and other estimators where their errors are not in memory.

    Args:
        evaluation: The evaluation of all queries.
        rows: Rows of the queries to keep, in their new order.
        seed: Seed of the bootstrap.
    """
    kept, old = reordered(evaluation, rows), evaluation.report
    frame = kept.predictions
    error = frame["error_m"].to_numpy(dtype=np.float64)
    ranks = frame["rank_25m"].astype("Int64").fillna(0).to_numpy(dtype=np.int64)
    errors = error_report(
        error,
        frame["region"].tolist(),
        frame["block"].tolist(),
        old.intervals.block,
        seed,
        old.intervals.resamples,
    )
    report = Report(
        version=old.version,
        n_queries=len(frame),
        n_answerable=int((ranks > 0).sum()),
        gallery_size=old.gallery_size,
        gallery_photographs=old.gallery_photographs,
        estimator=old.estimator,
        **dict(errors),
        recall_at_k_25m=dict(recall_at_k(ranks)),
        mrr_25m=mean_reciprocal_rank(ranks),
        ndcg_at_k={"20": float(frame["ndcg_20"].mean())} if "ndcg_20" in frame else None,
        relevance=old.relevance,
        city_alignment_at_k=None,
        levels={},
        baselines=_baselines(old.baselines, frame),
        estimators={name: Figures.of(errors_m) for name, errors_m in kept.errors_m.items()},
        regions=old.regions,
        spatial=None,
        calibration=None,
        **{key: getattr(old, key) for key in _KEPT if key in old.model_fields_set},
    )
    return replace(kept, report=report)


def with_common_estimator(
    runs: Runs, sources: Mapping[str, Mapping[str, str]], estimator: str | None = None
) -> tuple[dict[str, dict[str, Evaluation]], list[str]]:
    """Give all evaluations the answers of one estimator.

    Coordinates of another tool (`as given`) have no estimator and are not changed.

    Args:
        runs: System, seed, evaluation.
        sources: System, seed, name of the report in messages.
        estimator: The estimator; None for that of the reports where they agree, else the mode, else another that all
            have.

    Returns:
        The evaluations, and the changes as sentences.

    Raises:
        MismatchError: A report does not have the answers of the estimator, or the reports have none in common.
    """
    answered = {key: one for key, one in _all(runs) if one.report.estimator != AS_GIVEN}
    names = {key: sources[key[0]][key[1]] for key in answered}
    current = {str(one.report.estimator) for one in answered.values()}
    if estimator is None and len(current) < 2:
        return {system: dict(seeds) for system, seeds in runs.items()}, []
    available = {key: _estimators_of(one) for key, one in answered.items()}
    again = "evaluate again: reports of this version have the answers of all estimators"
    if estimator is not None:
        if lacking := [names[key] for key, of_report in available.items() if estimator not in of_report]:
            raise MismatchError(f"no answers by estimator {estimator!r} in {', '.join(lacking)}; {again}.")
    else:
        common = [name for name in ESTIMATOR_NAMES if all(name in of_report for of_report in available.values())]
        if not common:
            texts = "; ".join(f"{names[key]}: {', '.join(of_report)}" for key, of_report in available.items())
            raise MismatchError(
                f"the reports answer by different estimators, and have none in common ({texts}); their difference "
                f"could be that of the estimators. Evaluate all with one --estimator ({ESTIMATOR} by default), or "
                f"{again}."
            )
        estimator = common[0]
    changed: dict[str, dict[str, Evaluation]] = {}
    notes = []
    for key, evaluation in _all(runs):
        old = evaluation.report.estimator
        if key in answered and old != estimator:
            notes.append(
                f"Compared by {estimator}: {names[key]}, whose report is by {old}. Its figures are recomputed from "
                "these answers; those that need more (hierarchy levels, calibration, spatial statistics) are missing."
            )
        changed.setdefault(key[0], {})[key[1]] = (
            _with_estimator(evaluation, estimator) if key in answered and old != estimator else evaluation
        )
    return changed, notes


def _estimators_of(evaluation: Evaluation) -> list[str]:
    """Estimators whose answers an evaluation has."""
    columns = set(evaluation.predictions.columns)
    others = [name for name in evaluation.report.estimators if set(answer_columns(name)) <= columns]
    return list(dict.fromkeys([str(evaluation.report.estimator), *others]))


def _with_estimator(evaluation: Evaluation, estimator: str) -> Evaluation:
    frame, (lat, lon) = evaluation.predictions, answer_columns(estimator)
    errors = geodesic_m(_truth(evaluation), frame[[lat, lon]].to_numpy(dtype=np.float64))
    changed = frame.assign(
        predicted_lat_deg=frame[lat],
        predicted_lon_deg=frame[lon],
        error_m=errors,
        geoscore=geoscore_by_query(errors),
        probability=np.nan,  # it was that of the other answer
    )
    report = evaluation.report.model_copy(update={"estimator": estimator})
    rows = np.arange(len(frame), dtype=np.int64)
    return restricted(replace(evaluation, predictions=changed, report=report), rows)


def _baselines(old: Baselines, frame: pd.DataFrame) -> Baselines:
    truth = frame[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)
    constant = None
    if (figures := old.constant) is not None and figures.lat_deg is not None and figures.lon_deg is not None:
        place = np.array([figures.lat_deg, figures.lon_deg])
        constant = BaselineFigures.constant(geodesic_m(truth, np.broadcast_to(place, truth.shape)), place)
    oracle = None if old.floor is None else BaselineFigures.of(frame["floor_m"].to_numpy(dtype=np.float64))
    return Baselines(floor=oracle, constant=constant, random=None)
