"""The leakage report of every split: what queries share with the training side.

The training side of the queries is `train` and `val`, since validation chooses the model and its photographs may be
candidates; the training side of the validation queries is `train`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from swclip.data.grouping import group_numbers, place_numbers, text_or_none
from swclip.data.manifest import Manifest
from swclip.data.splits import SPLIT_NAMES, QuerySplit, Splits, candidates_for, check_same_manifest
from swclip.geo.distance import haversine_m
from swclip.geo.neighbours import SphereIndex, distinct_rows, nearest_m
from swclip.imaging.phash import HASH_BITS, PictureHashes, check_bits, near_duplicates
from swclip.progress import Count, Steps

WITHIN_M = (5, 10, 25, 50)
NEAR_DUPLICATE_BITS = 6
"""Pictures whose perceptual hashes differ in at most this many of 64 bits are near-duplicates."""

SAME_DRIVE_RADIUS_M = 25.0
SAME_DRIVE_S = 600.0
_EXAMPLES = 20
_COMPARING: dict[str, str] = {"query": "Comparing queries", "val": "Comparing validation queries"}
_TRAINING_SIDE: dict[str, tuple[str, ...]] = {"val": ("train",), "query": ("train", "val")}


def leakage_report(
    manifest: Manifest,
    splits: Splits,
    hashes: PictureHashes | None = None,
    *,
    near_duplicate_bits: int = NEAR_DUPLICATE_BITS,
    progress: Steps | None = None,
) -> dict[str, Any]:
    """Measure what the queries, and the validation queries, share with their training side.

    Args:
        manifest: The photographs.
        splits: Their splits.
        hashes: Hashes of the manifest's photographs, in its order; None skips the pictures, which the report states.
        near_duplicate_bits: The largest Hamming distance of a near-duplicate, in bits of 64.
        progress: Called with (step, done, total) of the comparison of hashes.

    Returns:
        A report for JSON: protocol, query and val (each with n, n_training, nearest_training_m, within_m,
        shared_places, shared_sequences, nearby_captures, candidates, near_duplicates, exact_duplicates), pictures,
        warnings and notes. Distances are great-circle metres, shares are fractions of the queries.

    Raises:
        MismatchError: The splits were made from another manifest.
        ConfigError: The number of bits is not between 0 and 64.
    """
    check_same_manifest(splits, manifest)
    check_bits(near_duplicate_bits)
    split_of = pd.Series(splits.frame["split"].to_numpy(dtype=object), index=splits.frame["image_id"].to_numpy())
    labels = split_of.reindex(manifest.frame["image_id"].to_numpy()).to_numpy(dtype=object)
    report: dict[str, Any] = {
        "version": "1",
        "protocol": splits.meta.get("protocol"),
        "seed": splits.meta.get("seed"),
        "manifest_digest": manifest.digest,
        "counts": {name: int((labels == name).sum()) for name in SPLIT_NAMES},
    }
    place = place_numbers(
        manifest.positions_deg, text_or_none(manifest.frame["city"]), text_or_none(manifest.frame["place_id"])
    )
    query_splits: tuple[QuerySplit, ...] = ("query", "val")
    for name in query_splits:
        query_rows = np.flatnonzero(labels == name)
        training = np.flatnonzero(np.isin(labels, _TRAINING_SIDE[name]))
        part = _positions(manifest, query_rows, training)
        part["shared_places"] = _shared(place, query_rows, training)
        part["shared_sequences"] = _shared(_sequence_numbers(manifest), query_rows, training)
        part["nearby_captures"] = _nearby_captures(manifest, query_rows, training)
        part["candidates"] = _candidates(manifest, query_rows, candidates_for(splits, name))
        part["near_duplicates"] = part["exact_duplicates"] = None
        if hashes is not None:
            count = None if progress is None else partial(progress, _COMPARING[name])
            part["near_duplicates"] = _near(manifest, query_rows, training, hashes, near_duplicate_bits, count)
            part["exact_duplicates"] = _exact(manifest, query_rows, training, hashes)
        report[name] = part
    report["pictures"] = _pictures(manifest, hashes, near_duplicate_bits)
    report["warnings"] = warnings_of(report, splits.meta.get("parameters", {}))
    report["notes"] = list(splits.meta.get("notes", []))
    return report


def warnings_of(report: dict[str, Any], parameters: dict[str, Any]) -> list[str]:
    """Warn of what violates the protocol or makes the figures optimistically biased.

    Args:
        report: The report, without its warnings.
        parameters: The parameters of the split.

    Returns:
        One sentence or more for each warning.
    """
    part, protocol = report["query"], report["protocol"]
    n = part["n"]
    if n == 0:
        return ["There are no queries."]
    warnings: list[str] = []
    nearest, buffer_m = part["nearest_training_m"], float(parameters.get("buffer_m", 0.0))
    if protocol in ("new-streets", "new-city"):
        if nearest is not None and nearest["min"] <= buffer_m:
            warnings.append(
                f"Protocol {protocol} is violated: a query is {nearest['min']:.1f} m from a training photograph, "
                f"within the buffer of {buffer_m:g} m."
            )
        if shared := part["shared_places"]["count"]:
            warnings.append(
                f"{part['shared_places']['share']:.0%} of the queries show one of {shared} places that training also "
                "shows (the same place_id): a place is larger than the buffer, or the ids are not places."
            )
    drive = part["nearby_captures"]
    if protocol == "known-places" and drive["same_drive_only"] >= 0.5 * n:
        warnings.append(
            f"{drive['same_drive_only'] / n:.0%} of the queries have training photographs of the same drive within "
            f"{SAME_DRIVE_RADIUS_M:g} m and none of another: no place was passed twice, so this split measures how "
            f"well frames of one sequence match (median distance to the nearest {nearest['median']:.1f} m), not how "
            "well a place is recognised. Use new-streets, or photographs of a second pass."
        )
    near = part["near_duplicates"]
    if near is not None and near["queries"]["share"] >= 0.01:
        # Near-duplicates far apart are the same picture twice or a repetitive scene, not a neighbouring frame.
        warnings.append(
            f"{near['queries']['share']:.1%} of the queries have a near-duplicate picture in training (perceptual hash "
            f"within {near['max_bits']} of {HASH_BITS} bits): their errors are optimistically biased."
        )
    if part["exact_duplicates"] is not None and part["exact_duplicates"]["queries"]["count"]:
        warnings.append(
            f"{part['exact_duplicates']['queries']['count']} queries are in training byte for byte; remove the "
            "duplicates from the source and run `swclip prepare` again."
        )
    oracle = part["candidates"]["nearest_m"]
    if oracle is not None and part["candidates"]["within_25m"]["share"] < 0.95:
        warnings.append(
            f"Only {part['candidates']['within_25m']['share']:.0%} of the queries have a candidate within 25 m (the "
            f"nearest: median {oracle['median']:.1f} m): the oracle error of the others is larger for every model. "
            "Use --gallery positions or a finer grid."
        )
    if n < 100:
        warnings.append(
            f"There are only {n} queries; differences of a few per cent between systems may be sampling error."
        )
    return warnings


def _positions(
    manifest: Manifest, query_rows: Int64[np.ndarray, " q"], training: Int64[np.ndarray, " t"]
) -> dict[str, Any]:
    part: dict[str, Any] = {
        "n": len(query_rows),
        "n_training": len(training),
        "nearest_training_m": None,
        "within_m": None,
    }
    if len(query_rows) and len(training):
        positions = manifest.positions_deg
        nearest = nearest_m(positions[training], positions[query_rows])
        part["nearest_training_m"] = {
            "min": float(nearest.min()),
            "p5": float(np.percentile(nearest, 5)),
            "median": float(np.median(nearest)),
            "p95": float(np.percentile(nearest, 95)),
        }
        part["within_m"] = {str(limit): _count(int((nearest <= limit).sum()), len(query_rows)) for limit in WITHIN_M}
    return part


def _shared(
    group: Int64[np.ndarray, " n"], query_rows: Int64[np.ndarray, " q"], training: Int64[np.ndarray, " t"]
) -> dict[str, Any]:
    """Count the groups on both sides (-1: unknown), and the queries in them."""
    grouped = group[query_rows] >= 0
    both = np.intersect1d(group[query_rows][grouped], group[training])
    inside = int(np.isin(group[query_rows], both).sum())
    return {
        "count": len(both),
        "queries": inside,
        "share": inside / len(query_rows) if len(query_rows) else 0.0,
        "unknown": int((~grouped).sum()),
    }


def _sequence_numbers(manifest: Manifest) -> Int64[np.ndarray, " n"]:
    names = text_or_none(manifest.frame["sequence_id"])
    numbers = group_numbers([name or "" for name in names])
    return np.where([name is None for name in names], -1, numbers)


def _nearby_captures(
    manifest: Manifest, query_rows: Int64[np.ndarray, " q"], training: Int64[np.ndarray, " t"]
) -> dict[str, Any]:
    """Count queries by whether the training photographs near them are from another drive, or all from the same one.

    Two photographs are from one drive if they have the same sequence_id or, where one has none, if their times differ
    by at most `SAME_DRIVE_S`; without times either it is unknown.
    """
    counts = {"other_drive": 0, "same_drive_only": 0, "unknown": 0, "none_near": 0}
    if len(query_rows) and len(training):
        every_sequence, every_time_s = _sequence_numbers(manifest), _times_s(manifest)
        near = _near_extremes(manifest.positions_deg, query_rows, training, every_sequence, every_time_s)
        sequence, time_s = every_sequence[query_rows], every_time_s[query_rows]
        told = sequence >= 0
        # A query with a sequence is compared by time with the photographs without one, another query with all.
        earliest_s = np.where(told, near["time_without_sequence"], near["time"])
        latest_s = -np.where(told, near["-time_without_sequence"], near["-time"])
        other = (time_s - earliest_s > SAME_DRIVE_S) | (latest_s - time_s > SAME_DRIVE_S)
        other |= told & ((near["sequence"] < sequence) | (-near["-sequence"] > sequence))
        untimed = np.where(told, near["untimed_without_sequence"], near["untimed"])
        undecided = np.where(np.isnan(time_s), np.where(told, near["without_sequence"], 0.0), untimed) == 0.0
        none_near = np.isinf(near["sequence"]) & np.isinf(near["without_sequence"])
        counts["none_near"] = int(none_near.sum())
        counts["other_drive"] = int((~none_near & other).sum())
        counts["same_drive_only"] = int((~none_near & ~other & ~undecided).sum())
        counts["unknown"] = int((~none_near & ~other & undecided).sum())
    return {"radius_m": SAME_DRIVE_RADIUS_M, **counts}


def _near_extremes(
    positions_deg: Float64[np.ndarray, "n 2"],
    query_rows: Int64[np.ndarray, " q"],
    training: Int64[np.ndarray, " t"],
    sequence: Int64[np.ndarray, " n"],
    time_s: Float64[np.ndarray, " n"],
) -> dict[str, Float64[np.ndarray, " q"]]:
    """The smallest values among the training photographs near each query, infinite where there are none.

    Smallest and largest values of each position decide the same as all its photographs, which would be billions of
    pairs where many share a position.
    """
    sequence, time_s = sequence[training], time_s[training]
    told, timed = sequence >= 0, np.isfinite(time_s)
    columns = {
        "sequence": np.where(told, sequence, np.inf),
        "-sequence": np.where(told, -sequence, np.inf),
        "time": np.where(timed, time_s, np.inf),
        "-time": np.where(timed, -time_s, np.inf),
        "time_without_sequence": np.where(timed & ~told, time_s, np.inf),
        "-time_without_sequence": np.where(timed & ~told, -time_s, np.inf),
        "untimed": np.where(timed, np.inf, 0.0),
        "untimed_without_sequence": np.where(timed | told, np.inf, 0.0),
        "without_sequence": np.where(told, np.inf, 0.0),
    }
    places, place_of_row = distinct_rows(positions_deg[training])
    order = np.argsort(place_of_row, kind="stable")
    starts = np.searchsorted(place_of_row[order], np.arange(len(places)))
    of_place = np.minimum.reduceat(np.stack(list(columns.values()), axis=1)[order], starts, axis=0)
    spots, spot_of_query = distinct_rows(positions_deg[query_rows])
    near = np.full((len(spots), len(columns)), np.inf)
    for spot, place in SphereIndex(places).pairs_within(spots, SAME_DRIVE_RADIUS_M):
        starts = np.flatnonzero(np.diff(spot, prepend=-1))
        near[spot[starts]] = np.minimum.reduceat(of_place[place], starts, axis=0)
    return dict(zip(columns, near[spot_of_query].T, strict=True))


def _times_s(manifest: Manifest) -> Float64[np.ndarray, " n"]:
    times = pd.to_datetime(manifest.frame["captured_at"], utc=True).to_numpy(dtype="datetime64[ms]")
    seconds: Float64[np.ndarray, " n"] = times.astype(np.int64) / 1000.0
    return np.where(np.isnat(times), np.nan, seconds)


def _candidates(manifest: Manifest, query_rows: Int64[np.ndarray, " q"], places: pd.DataFrame) -> dict[str, Any]:
    part: dict[str, Any] = {"n": len(places), "nearest_m": None, "within_25m": None}
    if len(query_rows) and len(places):
        candidates_deg = places[["lat_deg", "lon_deg"]].to_numpy(np.float64)
        nearest = nearest_m(candidates_deg, manifest.positions_deg[query_rows])
        part["nearest_m"] = {"median": float(np.median(nearest)), "p95": float(np.percentile(nearest, 95))}
        part["within_25m"] = _count(int((nearest <= 25.0).sum()), len(query_rows))
    return part


def _near(
    manifest: Manifest,
    query_rows: Int64[np.ndarray, " q"],
    training: Int64[np.ndarray, " t"],
    hashes: PictureHashes,
    max_bits: int,
    progress: Count | None,
) -> dict[str, Any]:
    left, right = query_rows[hashes.readable[query_rows]], training[hashes.readable[training]]
    near = near_duplicates(hashes.perceptual[left], hashes.perceptual[right], max_bits, progress=progress)
    matched = np.flatnonzero(near.count > 0)
    best = matched[np.argsort(near.bits[matched], kind="stable")[:_EXAMPLES]]
    return {
        "max_bits": max_bits,
        "pairs": int(near.count.sum()),
        "queries": _count(len(matched), len(query_rows)),
        "examples": _examples(manifest, left[best], right[near.nearest[best]], near.bits[best].tolist()),
    }


def _exact(
    manifest: Manifest, query_rows: Int64[np.ndarray, " q"], training: Int64[np.ndarray, " t"], hashes: PictureHashes
) -> dict[str, Any]:
    first: dict[str, int] = {}
    for row in training.tolist():
        if hashes.readable[row]:
            first.setdefault(hashes.content[row], row)
    pairs = [
        (row, first[hashes.content[row]])
        for row in query_rows.tolist()
        if hashes.readable[row] and hashes.content[row] in first
    ]
    shown = np.array(pairs[:_EXAMPLES], dtype=np.int64).reshape(-1, 2)
    return {
        "queries": _count(len(pairs), len(query_rows)),
        "examples": _examples(manifest, shown[:, 0], shown[:, 1], [0] * len(shown)),
    }


def _examples(
    manifest: Manifest, query_rows: Int64[np.ndarray, " e"], training: Int64[np.ndarray, " e"], bits: Sequence[int]
) -> list[dict[str, Any]]:
    ids, positions = manifest.frame["image_id"].to_numpy(dtype=object), manifest.positions_deg
    a, b = positions[query_rows], positions[training]
    distance_m = haversine_m(a[:, 0], a[:, 1], b[:, 0], b[:, 1])
    return [
        {"query": str(ids[q]), "training": str(ids[t]), "bits": int(bit), "distance_m": round(float(d), 2)}
        for q, t, bit, d in zip(query_rows.tolist(), training.tolist(), bits, distance_m.tolist(), strict=True)
    ]


def _pictures(manifest: Manifest, hashes: PictureHashes | None, max_bits: int) -> dict[str, Any]:
    if hashes is None:
        return {"hashed": 0, "skipped": "the pictures were not compared, as configured"}
    ids = manifest.frame["image_id"].to_numpy(dtype=object)
    return {
        "hashed": int(hashes.readable.sum()),
        "near_duplicate_bits": max_bits,
        "unreadable": [{"image_id": str(ids[row]), "reason": reason} for row, reason in hashes.failures.items()],
    }


def _count(count: int, of: int) -> dict[str, Any]:
    return {"count": count, "share": count / of if of else 0.0}
