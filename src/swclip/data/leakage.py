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
from jaxtyping import Int64

from swclip.data.grouping import place_numbers, text_or_none
from swclip.data.manifest import Manifest
from swclip.data.nearby_captures import SAME_DRIVE_RADIUS_M, nearby_captures, sequence_numbers
from swclip.data.splits import SPLIT_NAMES, QuerySplit, Splits, split_labels
from swclip.geo.distance import haversine_m
from swclip.geo.neighbours import nearest_m
from swclip.imaging.phash import HASH_BITS, PictureHashes, check_bits, near_duplicates
from swclip.progress import Count, Steps

WITHIN_M = (5, 10, 25, 50)
NEAR_DUPLICATE_BITS = 6
"""Pictures whose perceptual hashes differ in at most this many of 64 bits are near-duplicates."""

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
    check_bits(near_duplicate_bits)
    labels = split_labels(splits, manifest)
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
    sequence = sequence_numbers(manifest)
    query_splits: tuple[QuerySplit, ...] = ("query", "val")
    for name in query_splits:
        query_rows = np.flatnonzero(labels == name)
        training = np.flatnonzero(np.isin(labels, _TRAINING_SIDE[name]))
        part = _positions(manifest, query_rows, training)
        part["shared_places"] = _shared(place, query_rows, training)
        part["shared_sequences"] = _shared(sequence, query_rows, training)
        part["nearby_captures"] = nearby_captures(manifest, query_rows, training)
        part["candidates"] = _candidates(manifest, query_rows, splits.candidates[splits.candidates[f"for_{name}"]])
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
