"""The leakage report against nested loops, and its warnings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from swclip.data.candidates import GalleryRule, build_candidates
from swclip.data.leakage import leakage_report
from swclip.data.manifest import Manifest
from swclip.data.protocols import split
from swclip.data.splits import Splits
from swclip.errors import ConfigError, MismatchError
from swclip.geo.coordinates import LocalFrame
from swclip.geo.distance import haversine_m
from swclip.imaging.phash import PictureHashes


def manifest_of(xy_m: Any, **columns: Any) -> Manifest:
    """Photographs at (east, north) metres from a point in Ely."""
    positions = LocalFrame(52.4, 0.26).to_deg(xy_m)
    n = len(positions)
    frame = pd.DataFrame({"image_id": pd.Series([f"i{k:03d}" for k in range(n)], dtype=object)})
    frame["image_path"] = frame["image_id"] + ".jpg"
    frame["lat_deg"], frame["lon_deg"] = positions[:, 0], positions[:, 1]
    for name in ("city", "place_id", "sequence_id"):
        frame[name] = pd.Series(columns.get(name, [None] * n), dtype=object)
    frame["captured_at"] = pd.Series(columns.get("captured_at", [None] * n), dtype="datetime64[ms]")
    return Manifest(Path("manifest.parquet"), frame)


def splits_of(manifest: Manifest, names: Any, rule: str = "photographs", **meta: Any) -> Splits:
    """Splits with a name for each row, rows deliberately in another order than the manifest's."""
    names = np.asarray(names, dtype=object)
    rows = pd.DataFrame({"image_id": manifest.frame["image_id"], "split": names, "block_id": None})
    candidates = build_candidates(manifest.frame, names, GalleryRule(rule))  # type: ignore[arg-type]
    full = {"protocol": "known-places", "seed": 0, "manifest_digest": manifest.digest, "parameters": {}, **meta}
    return Splits(Path("splits.parquet"), rows.iloc[::-1].reset_index(drop=True), candidates, full)


def hashes_of(bits: list[int], content: list[str] | None = None, unreadable: tuple[int, ...] = ()) -> PictureHashes:
    readable = np.array([row not in unreadable for row in range(len(bits))])
    return PictureHashes(
        np.array(bits, dtype=np.uint64),
        content or [f"file{row}" for row in range(len(bits))],
        readable,
        dict.fromkeys(unreadable, "is an empty file."),
    )


@pytest.mark.parametrize("seed", range(5))
def test_every_number_equals_that_of_nested_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 60
    manifest = manifest_of(
        rng.uniform(-60, 60, size=(n, 2)),
        place_id=[f"p{k}" if k < 15 else None for k in rng.integers(20, size=n)],
        sequence_id=[f"s{k}" if k < 3 else None for k in rng.integers(4, size=n)],
    )
    names = rng.choice(["train", "train", "val", "query", "gallery"], size=n)
    hashed = [int(bits) for bits in rng.integers(0, 2**12, size=n)]
    content = [f"file{k}" for k in rng.integers(70, size=n)]
    splits = splits_of(manifest, names)
    report = leakage_report(manifest, splits, hashes_of(hashed, content, unreadable=(4,)), near_duplicate_bits=2)
    frame = manifest.frame
    for name, seen in (("query", ("train", "val")), ("val", ("train",))):
        part = report[name]
        queries = [row for row in range(n) if names[row] == name]
        training = [row for row in range(n) if names[row] in seen]
        nearest = []
        for q in queries:
            nearest.append(
                min(
                    float(
                        haversine_m(
                            *(np.float64(frame.loc[row, axis]) for row in (q, t) for axis in ("lat_deg", "lon_deg"))
                        )
                    )
                    for t in training
                )
            )
        assert part["n"] == len(queries)
        assert part["n_training"] == len(training)
        assert part["nearest_training_m"]["min"] == pytest.approx(min(nearest), abs=1e-6)
        assert part["nearest_training_m"]["median"] == pytest.approx(np.median(nearest), abs=1e-6)
        assert part["nearest_training_m"]["p5"] == pytest.approx(np.percentile(nearest, 5), abs=1e-6)
        assert part["nearest_training_m"]["p95"] == pytest.approx(np.percentile(nearest, 95), abs=1e-6)
        for limit in (5, 10, 25, 50):
            count = sum(distance <= limit for distance in nearest)
            assert part["within_m"][str(limit)] == {"count": count, "share": count / len(queries)}
        for column, key in (("place_id", "shared_places"), ("sequence_id", "shared_sequences")):
            trained = {frame.loc[t, column] for t in training} - {None}
            both = [frame.loc[q, column] for q in queries if frame.loc[q, column] in trained]
            assert part[key]["count"] == len(set(both))
            assert part[key]["queries"] == len(both)
            assert part[key]["share"] == pytest.approx(len(both) / len(queries))
        pairs = [
            (q, t) for q in queries for t in training if 4 not in (q, t) and (hashed[q] ^ hashed[t]).bit_count() <= 2
        ]
        assert part["near_duplicates"]["pairs"] == len(pairs)
        assert part["near_duplicates"]["queries"]["count"] == len({q for q, _ in pairs})
        by_id = {(frame.loc[q, "image_id"], frame.loc[t, "image_id"]) for q, t in pairs}
        examples = part["near_duplicates"]["examples"]
        assert len(examples) == min(20, len({q for q, _ in pairs}))
        assert {(pair["query"], pair["training"]) for pair in examples} <= by_id
        assert [pair["bits"] for pair in examples] == sorted(pair["bits"] for pair in examples)
        same = [q for q in queries if q != 4 and content[q] in {content[t] for t in training if t != 4}]
        assert part["exact_duplicates"]["queries"]["count"] == len(same)
        # The candidates of known-places are the training side's positions.
        assert part["candidates"]["nearest_m"]["median"] == pytest.approx(np.median(nearest), abs=0.02)
    assert report["counts"] == {name: int((names == name).sum()) for name in ("train", "val", "gallery", "query")}
    assert report["pictures"]["unreadable"] == [{"image_id": "i004", "reason": "is an empty file."}]
    json.dumps(report, allow_nan=False)


def test_skipped_pictures_are_reported() -> None:
    manifest = manifest_of([[0, 0], [0, 30]])
    report = leakage_report(manifest, splits_of(manifest, ["train", "query"]))
    assert report["query"]["near_duplicates"] is None
    assert report["pictures"] == {"hashed": 0, "skipped": "the pictures were not compared, as configured"}
    assert report["val"]["n"] == 0
    assert report["val"]["nearest_training_m"] is None


def test_an_example_has_both_pictures_and_their_distance() -> None:
    manifest = manifest_of([[0, 0], [0, 30], [0, 60]])
    report = leakage_report(manifest, splits_of(manifest, ["train", "query", "train"]), hashes_of([0b111, 0, 0b1]))
    assert report["query"]["near_duplicates"]["examples"] == [
        {"query": "i001", "training": "i002", "bits": 1, "distance_m": 30.0}
    ]
    assert report["query"]["near_duplicates"]["pairs"] == 2


def _drive(n: int, passes: int, spacing_m: float = 5.0) -> Manifest:
    """A road driven several times, a frame every few metres."""
    xy = [[0.1 * drive, spacing_m * k] for drive in range(passes) for k in range(n)]
    sequence = [f"drive{drive}" for drive in range(passes) for _ in range(n)]
    return manifest_of(xy, sequence_id=sequence, place_id=[f"p{k}" for _ in range(passes) for k in range(n)])


def test_a_single_drive_gives_a_warning() -> None:
    manifest = _drive(600, 1)
    draft = split(manifest, "known-places")
    splits = Splits(Path("s.parquet"), draft.frame, draft.candidates, draft.meta)
    report = leakage_report(manifest, splits)
    assert report["query"]["nearby_captures"]["same_drive_only"] == 120
    assert any("frames of one sequence" in sentence and "new-streets" in sentence for sentence in report["warnings"])


def test_a_second_pass_gives_no_warning() -> None:
    manifest = _drive(600, 2)
    draft = split(manifest, "known-places")
    splits = Splits(Path("s.parquet"), draft.frame, draft.candidates, draft.meta)
    report = leakage_report(manifest, splits)
    assert draft.meta["parameters"]["hold_out"] == "capture"
    assert report["query"]["nearby_captures"]["other_drive"] == report["query"]["n"] == 240
    assert report["warnings"] == []


@pytest.mark.parametrize(
    ("sequences", "seconds", "expected"),
    [
        (["a", "a"], [0, 10_000], "same_drive_only"),
        (["a", "b"], [0, 1], "other_drive"),
        ([None, None], [0, 599], "same_drive_only"),
        ([None, "a"], [0, 601], "other_drive"),
        ([None, None], [None, 0], "unknown"),
    ],
)
def test_drives_are_distinguished_by_sequence_or_else_by_time(
    sequences: list[Any], seconds: list[Any], expected: str
) -> None:
    start = pd.Timestamp("2019-12-29 13:35:13")
    times = [pd.NaT if value is None else start + pd.Timedelta(seconds=value) for value in seconds]
    manifest = manifest_of([[0, 0], [0, 10]], sequence_id=sequences, captured_at=times)
    counts = leakage_report(manifest, splits_of(manifest, ["query", "train"]))["query"]["nearby_captures"]
    assert {key: counts[key] for key in ("other_drive", "same_drive_only", "unknown", "none_near")} == {
        "other_drive": 0,
        "same_drive_only": 0,
        "unknown": 0,
        "none_near": 0,
        expected: 1,
    }


@pytest.mark.parametrize("extent_m", [8, 60], ids=["a place with many neighbours", "a few streets"])
@pytest.mark.parametrize("seed", range(8))
def test_drives_nearby_are_those_of_nested_loops(seed: int, extent_m: float) -> None:
    rng = np.random.default_rng(seed)
    n = 120
    xy_m = rng.uniform(-extent_m, extent_m, size=(n // 2, 2))[rng.integers(n // 2, size=n)]  # with repeated positions
    sequence = [f"s{k}" if k < 2 + seed % 3 else None for k in rng.integers(6, size=n)]
    start = pd.Timestamp("2019-12-29 13:35:13")
    seconds = rng.integers(0, 700 + 300 * (seed % 2), size=n).tolist()
    times = [pd.NaT if rng.random() < 0.3 else start + pd.Timedelta(seconds=value) for value in seconds]
    manifest = manifest_of(xy_m, sequence_id=sequence, captured_at=times)
    names = rng.choice(["train", "train", "query", "gallery"], p=[0.1, 0.1, 0.4, 0.4], size=n)
    counts = leakage_report(manifest, splits_of(manifest, names))["query"]["nearby_captures"]
    expected = {"other_drive": 0, "same_drive_only": 0, "unknown": 0, "none_near": 0}
    positions = manifest.positions_deg
    for q in np.flatnonzero(names == "query"):
        drives = []
        for t in np.flatnonzero(names == "train"):
            if haversine_m(*positions[q], *positions[t]) <= 25.0:
                if sequence[q] is not None and sequence[t] is not None:
                    drives.append("same" if sequence[q] == sequence[t] else "other")
                elif times[q] is pd.NaT or times[t] is pd.NaT:
                    drives.append("unknown")
                else:
                    drives.append("same" if abs((times[q] - times[t]).total_seconds()) <= 600 else "other")
        if not drives:
            expected["none_near"] += 1
        elif "other" in drives:
            expected["other_drive"] += 1
        else:
            expected["unknown" if "unknown" in drives else "same_drive_only"] += 1
    assert {key: counts[key] for key in expected} == expected


def test_a_violated_buffer_gives_a_warning() -> None:
    manifest = manifest_of([[0, 0], [0, 10], [0, 200]])
    splits = splits_of(
        manifest, ["query", "train", "train"], "positions", protocol="new-streets", parameters={"buffer_m": 20.0}
    )
    (warning,) = [line for line in leakage_report(manifest, splits)["warnings"] if "violated" in line]
    assert "new-streets is violated: a query is 10.0 m from a training photograph, within the buffer of 20 m" in warning


def test_drawn_splits_satisfy_the_protocol() -> None:
    rng = np.random.default_rng(0)
    manifest = manifest_of(rng.uniform(-500, 500, size=(900, 2)))
    draft = split(manifest, "new-streets")
    report = leakage_report(manifest, Splits(Path("s.parquet"), draft.frame, draft.candidates, draft.meta))
    assert report["warnings"] == []
    assert report["query"]["nearest_training_m"]["min"] > 20.0
    assert report["query"]["candidates"]["nearest_m"]["p95"] < 0.02, "all positions are candidates"


def test_duplicates_distant_candidates_and_few_queries_give_warnings() -> None:
    manifest = manifest_of([[0, 0], [0, 100], [0, 300]])
    splits = splits_of(manifest, ["query", "train", "train"])
    report = leakage_report(manifest, splits, hashes_of([7, 7, 0], ["same", "same", "other"]))
    text = "\n".join(report["warnings"])
    assert "100.0% of the queries have a near-duplicate picture" in text
    assert "1 queries are in training byte for byte" in text
    assert "Only 0% of the queries have a candidate within 25 m" in text
    assert "only 1 queries" in text


def test_splits_of_another_manifest_are_refused() -> None:
    manifest = manifest_of([[0, 0], [0, 100]])
    splits = splits_of(manifest, ["query", "train"], manifest_digest="another")
    with pytest.raises(MismatchError, match="another manifest"):
        leakage_report(manifest, splits)


def test_an_impossible_number_of_bits_is_refused() -> None:
    manifest = manifest_of([[0, 0], [0, 100]])
    with pytest.raises(ConfigError, match="within 65 bits"):
        leakage_report(manifest, splits_of(manifest, ["query", "train"]), near_duplicate_bits=65)
