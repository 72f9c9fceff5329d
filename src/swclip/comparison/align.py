"""Reports made apart brought to the same queries in the same order, or refused with what differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from swclip.errors import MismatchError
from swclip.evaluation.report import Report
from swclip.evaluation.result import Evaluation
from swclip.geo.distance import geodesic_m
from swclip.metrics.baselines import BaselineFigures, Baselines
from swclip.metrics.district_errors import district_gap, errors_by_district
from swclip.metrics.error_report import error_report
from swclip.metrics.localization_error import mean_reciprocal_rank, recall_at_k
from swclip.metrics.parts import Figures
from swclip.reporting.units import metres

_NAMED = 3
# Positions that went through a file of numbers written with six decimals are still the same position.
_SAME_M = 0.2

Runs = Mapping[str, Mapping[str, Evaluation]]


@dataclass(frozen=True)
class Aligned:
    """Evaluations of the same queries.

    Attributes:
        runs: System, seed, evaluation; queries sorted by image_id.
        left_out: System, seed, queries that the report has and the comparison has not.
        notes: What was done to bring them together; sentences.
    """

    runs: dict[str, dict[str, Evaluation]]
    left_out: dict[str, dict[str, int]]
    notes: list[str]


def align(runs: Runs, sources: Mapping[str, Mapping[str, str]], *, common: bool = False) -> Aligned:
    """Bring evaluations to the same queries, sorted by image_id, with the regions and blocks of the first.

    Args:
        runs: System, seed, evaluation.
        sources: System, seed, what a message calls the report.
        common: Compare on the queries that all have. Where False, a query that one lacks is refused.

    Raises:
        MismatchError: The queries differ, none is common to all, or a query's true position differs.
    """
    names = {(system, seed): sources[system][seed] for system, of in runs.items() for seed in of}
    ids = {at: found.predictions["image_id"].astype(str).to_numpy() for at, found in _all(runs)}
    first = next(iter(ids))
    shared = set(ids[first].tolist()).intersection(*(set(own.tolist()) for own in ids.values()))
    if not common:
        for at, own in ids.items():
            _check_same(set(ids[first].tolist()), set(own.tolist()), names[first], names[at])
    if not shared:
        counts = ", ".join(f"{names[at]} has {len(own):,}" for at, own in ids.items())
        raise MismatchError(f"no query is in all of the reports ({counts}); evaluate them on one split.")
    aligned: dict[str, dict[str, Evaluation]] = {}
    left_out: dict[str, dict[str, int]] = {}
    for (system, seed), found in _all(runs):
        own = ids[system, seed]
        rows = np.argsort(own, kind="stable")
        rows = rows[[own[row] in shared for row in rows]]
        left = len(own) - len(rows)
        aligned.setdefault(system, {})[seed] = restricted(found, rows) if left else reordered(found, rows)
        left_out.setdefault(system, {})[seed] = left
    notes = _of_left_out(names, left_out, len(shared))
    one = aligned[first[0]][first[1]]
    for at, found in _all(aligned):
        _check_truth(one, found, names[first], names[at])
        found, told = _like(one, found, names[first], names[at])
        aligned[at[0]][at[1]] = found
        notes += told
    return Aligned(aligned, left_out, notes)


def _all(runs: Runs) -> Iterator[tuple[tuple[str, str], Evaluation]]:
    for system, of in runs.items():
        for seed, found in of.items():
            yield (system, seed), found


def _check_same(a: set[str], b: set[str], name_a: str, name_b: str) -> None:
    parts = [
        f"{who} lacks {len(lacking):,} of the {len(of):,} queries of {other} ({_few(lacking)})"
        for who, lacking, of, other in ((name_b, a - b, a, name_a), (name_a, b - a, b, name_b))
        if lacking
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
        truths = [found.report.truth for found in (a, b)]
        columns = ["lat_deg, lon_deg" if truth is None else truth.columns for truth in truths]
        raise MismatchError(
            f"{name_a} and {name_b} measure {wrong.size:,} of {len(apart):,} queries against different positions "
            f"({a.predictions['image_id'].iloc[row]!r} by {metres(float(apart[row]))}; columns {columns[0]} and "
            f"{columns[1]}); their errors cannot be compared. Evaluate both against the same columns of one manifest."
        )


def _truth(found: Evaluation) -> Float64[np.ndarray, "q 2"]:
    return found.predictions[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)


def _like(one: Evaluation, found: Evaluation, name_one: str, name: str) -> tuple[Evaluation, list[str]]:
    """An evaluation with the regions and the blocks of another, and a sentence for each that was not so."""
    frame, report, notes = found.predictions, found.report, []
    regions, blocks = one.predictions["region"], one.predictions["block"]
    if frame["region"].tolist() != regions.tolist():
        frame = frame.assign(region=regions)
        errors = frame["error_m"].to_numpy(dtype=np.float64)
        table = errors_by_district(errors, regions.tolist())
        report = report.model_copy(
            update={"regions": one.report.regions, "by_region": table, "regional": district_gap(table)}
        )
        notes.append(f"{name} has other regions; those of {name_one} are used for all.")
    if not np.array_equal(_partition(frame["block"]), _partition(blocks)):
        notes.append(f"{name} has other blocks; those of {name_one} are resampled for all.")
    frame = frame.assign(block=blocks)
    return replace(found, predictions=frame, report=report), notes


def _partition(blocks: Any) -> Int64[np.ndarray, " q"]:
    """Blocks by the order in which they come: the same for two namings of the same blocks."""
    import pandas as pd

    codes: Int64[np.ndarray, " q"] = pd.factorize(blocks.astype(str))[0].astype(np.int64)
    return codes


def _of_left_out(
    names: Mapping[tuple[str, str], str], left_out: Mapping[str, Mapping[str, int]], n_common: int
) -> list[str]:
    lost = [f"{left_out[system][seed]:,} of {name}" for (system, seed), name in names.items() if left_out[system][seed]]
    if not lost:
        return []
    return [
        f"Compared on the {n_common:,} queries that all reports have; left out: {', '.join(lost)}. The figures of "
        "these reports were computed again from their answers; what needs more than the answers (the blind guess, "
        "other estimators, cities and cells, calibration) is missing for them."
    ]


# What a report need not hold.
_KEPT = (
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
    errors = error_report(
        error,
        frame["region"].tolist(),
        frame["block"].tolist(),
        old.intervals.block,
        np.random.default_rng(seed),
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
        estimators={name: Figures.of(own) for name, own in kept.errors_m.items()},
        regions=old.regions,
        spatial=None,
        calibration=None,
        **{key: getattr(old, key) for key in _KEPT if key in old.model_fields_set},
    )
    return replace(kept, report=report)


def _baselines(old: Baselines, frame: pd.DataFrame) -> Baselines:
    truth = frame[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)
    constant = None
    if (guess := old.constant) is not None and guess.lat_deg is not None and guess.lon_deg is not None:
        place = np.array([guess.lat_deg, guess.lon_deg])
        constant = BaselineFigures.constant(geodesic_m(truth, np.broadcast_to(place, truth.shape)), place)
    floor = None if old.floor is None else BaselineFigures.of(frame["floor_m"].to_numpy(dtype=np.float64))
    return Baselines(floor=floor, constant=constant, random=None)
