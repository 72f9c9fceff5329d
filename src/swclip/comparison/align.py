"""Reports made apart brought to the same queries in the same order, or refused with what differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from swclip.errors import MismatchError
from swclip.evaluation.measure import Evaluation
from swclip.comparison.restrict import reordered, restricted
from swclip.reporting.units import metres
from swclip.geo.distance import geodesic_m
from swclip.metrics.localization_error import by_region

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
        columns = [str(found.report.get("truth", {}).get("columns", "lat_deg, lon_deg")) for found in (a, b)]
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
        report = {**report, "regions": one.report["regions"], "by_region": by_region(errors, regions.tolist())}
        report.pop("regional", None)
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
