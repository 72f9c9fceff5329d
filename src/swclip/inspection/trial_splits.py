"""What a manifest can bear: each protocol and block size tried on it, with what its leakage report would warn of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from swclip.data.grouping import group_numbers, pair_numbers, place_numbers, text_or_none
from swclip.data.leakage import leakage_report
from swclip.data.manifest import Manifest
from swclip.data.protocols import Protocol, SplitDraft, split
from swclip.data.published_splits import has_published_splits, published_splits
from swclip.errors import InputError
from swclip.geo.neighbours import nearest_m
from swclip.metrics.parts import Part

BLOCKS_M = (50.0, 100.0, 200.0, 500.0)
"""Block sizes that are tried; 100 m is the default of `swclip split`."""
DEFAULT_BLOCK_M = 100.0
LEAST_BLOCKS = 30
"""Blocks with queries below which intervals that resample blocks are too narrow. A. C. Cameron, J. B. Gelbach,
D. L. Miller, "Bootstrap-Based Improvements for Inference with Clustered Errors" (2008), call 5 to 30 clusters few."""
BLOCK_ACCURACIES = 4.0
"""A block should be at least so many times the median accuracy: else many photographs are in the wrong block."""


_Protocol = Protocol | Literal["published"]


class Quantiles(Part):
    """Of N values: quantiles, with the unit that the name of the field states."""

    n: int
    p5: float
    median: float
    p95: float
    max: float


def quantiles(values: Any) -> Quantiles | None:
    """Quantiles of the finite values; None where there are none."""
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        return None
    low, median, high, largest = np.percentile(finite, [5, 50, 95, 100]).round(4).tolist()
    return Quantiles(n=len(finite), p5=low, median=median, p95=high, max=largest)


class TrialSplit(Part):
    """One protocol on the photographs, split with seed 0."""

    protocol: str
    block_m: float | None
    hold_out: str | None
    training: int
    validation: int
    queries: int
    query_blocks: int
    excluded: int
    nearest_training_m: float | None
    oracle_error_m: Quantiles | None
    oracle_within_25m: float | None
    verdict: Literal["good", "weak", "impossible"]
    reasons: list[str]
    notes: list[str]
    command: list[str]


class Captures(Part):
    """Places with several captures. A capture is the photographs of a place from one sequence."""

    places: int
    with_several: int
    photographs_near_another_drive: int
    photographs_of_one_drive: int


def captures_of(manifest: Manifest, nearby: dict[str, int]) -> Captures:
    """Count places and captures.

    Args:
        manifest: The photographs.
        nearby: `nearby_captures` of all photographs among themselves.
    """
    frame = manifest.frame
    place = place_numbers(manifest.positions_deg, text_or_none(frame["city"]), text_or_none(frame["place_id"]))
    capture = pair_numbers(place, group_numbers([name or "" for name in text_or_none(frame["sequence_id"])]))
    place_of_capture = np.zeros(int(capture.max()) + 1, dtype=np.int64)
    place_of_capture[capture] = place
    counts = np.bincount(place_of_capture)
    return Captures(
        places=len(counts),
        with_several=int((counts > 1).sum()),
        photographs_near_another_drive=nearby["other_drive"],
        photographs_of_one_drive=nearby["same_drive_only"],
    )


def trial_splits(manifest: Manifest, name: str, progress: Callable[[int, int], None] | None = None) -> list[TrialSplit]:
    """Split a manifest by each protocol, by new-streets with each block size, and as published where it was.

    Args:
        manifest: The photographs.
        name: The manifest as commands name it.
        progress: Called with the number of trials done and the total number.

    Returns:
        The trials; those that are impossible say why.
    """
    cities = manifest.frame["city"].nunique()
    trials: list[tuple[_Protocol, float | None]] = [("published", None)] if has_published_splits(manifest) else []
    trials += [("known-places", None)]
    trials += [("new-streets", block_m) for block_m in BLOCKS_M]
    trials += [("new-city", None)] if cities > 1 else []
    results = []
    for number, (protocol, block_m) in enumerate(trials, start=1):
        results.append(_trial(manifest, name, protocol, block_m))
        if progress is not None:
            progress(number, len(trials))
    return results


def split_command(protocol: str, block_m: float | None, name: str) -> list[str]:
    """The command of a trial, one word each.

    Args:
        protocol: The protocol.
        block_m: Block size of new-streets, metres; None for other protocols.
        name: The folder of the manifest, as the command names it.

    Example:
        >>> " ".join(split_command("new-streets", 50.0, "data"))
        'swclip split data --protocol new-streets --block-m 50 --out data/splits.parquet'
    """
    sized = block_m is not None and block_m != DEFAULT_BLOCK_M
    block = ["--block-m", f"{block_m:g}"] if sized else []
    return ["swclip", "split", name, "--protocol", protocol, *block, "--out", f"{name}/splits.parquet"]


def _trial(manifest: Manifest, name: str, protocol: _Protocol, block_m: float | None) -> TrialSplit:
    command = split_command(protocol, block_m, name)
    try:
        if protocol == "published":
            draft = published_splits(manifest)
        else:
            draft = split(manifest, protocol, **({} if block_m is None else {"block_m": block_m}))
    except InputError as error:
        return TrialSplit(
            protocol=protocol, block_m=block_m, hold_out=None, training=0, validation=0, queries=0, query_blocks=0,
            excluded=0, nearest_training_m=None, oracle_error_m=None, oracle_within_25m=None, verdict="impossible",
            reasons=[str(error)], notes=[], command=command,
        )  # fmt: skip
    return _measured(manifest, draft, protocol, block_m, command)


def _measured(
    manifest: Manifest, draft: SplitDraft, protocol: _Protocol, block_m: float | None, command: list[str]
) -> TrialSplit:
    splits = draft.in_memory()
    report = leakage_report(manifest, splits)
    query, counts = report["query"], report["counts"]
    of_query = draft.frame["split"].to_numpy(dtype=object) == "query"
    blocks = int(draft.frame.loc[of_query, "block_id"].nunique())
    reasons = list(report["warnings"])
    if blocks < LEAST_BLOCKS:
        reasons.append(
            f"Only {blocks} {'block has' if blocks == 1 else 'blocks have'} queries: intervals that resample fewer "
            f"than {LEAST_BLOCKS} are too narrow. `swclip benchmark --draws 5` repeats the split."
        )
    if counts["train"] < counts["query"]:
        reasons.append(f"Only {counts['train']:,} photographs are left for training, fewer than the queries.")
    accuracy = quantiles(manifest.accuracy_m)
    if block_m is not None and accuracy is not None and block_m < BLOCK_ACCURACIES * accuracy.median:
        reasons.append(
            f"Blocks of {block_m:g} m are less than {BLOCK_ACCURACIES:g} times the median accuracy of the positions "
            f"({accuracy.median:.1f} m): many photographs would be in the wrong block."
        )
    return TrialSplit(
        protocol=protocol,
        block_m=block_m,
        hold_out=draft.meta["parameters"].get("hold_out") if protocol == "known-places" else None,
        training=counts["train"],
        validation=counts["val"],
        queries=counts["query"],
        query_blocks=blocks,
        excluded=counts["gallery"],
        nearest_training_m=None if query["nearest_training_m"] is None else query["nearest_training_m"]["median"],
        oracle_error_m=_oracle(manifest, splits.candidates, of_query),
        oracle_within_25m=None
        if query["candidates"]["within_25m"] is None
        else query["candidates"]["within_25m"]["share"],
        verdict="weak" if reasons else "good",
        reasons=reasons,
        notes=draft.notes,
        command=command,
    )


def _oracle(manifest: Manifest, candidates: Any, of_query: np.ndarray[Any, Any]) -> Quantiles | None:
    places = candidates.loc[candidates["for_query"], ["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)
    if not len(places) or not of_query.any():
        return None
    return quantiles(nearest_m(places, manifest.positions_deg[of_query]))


def recommended(trials: list[TrialSplit]) -> TrialSplit | None:
    """The trial to begin with; None where no protocol is possible.

    The published split where there is one, for figures that can be compared; else known-places if it is good, then
    new-streets with the good block size nearest to the default, then the one with fewest reservations.
    """

    def order(trial: TrialSplit) -> tuple[int, int, float]:
        block = trial.block_m or DEFAULT_BLOCK_M
        kind = ("published", "known-places", "new-streets", "new-city").index(trial.protocol)
        return (0 if kind == 0 else len(trial.reasons), kind, abs(float(np.log(block / DEFAULT_BLOCK_M))))

    possible = [trial for trial in trials if trial.verdict != "impossible"]
    return min(possible, key=order) if possible else None
