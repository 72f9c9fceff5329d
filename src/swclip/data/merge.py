"""Several manifests as one: ids that stay unique, the same photograph once, and where each row is from."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from swclip.data.grouping import text_or_none
from swclip.data.manifest import MANIFEST_NAME, Manifest, manifest_file, write_manifest
from swclip.errors import ConfigError, InputError
from swclip.files import atomic_file, guarded_cell
from swclip.geo.distance import haversine_m
from swclip.geo.neighbours import nearest_m
from swclip.imaging.photograph_file import PhotographError, photograph_sha256

DUPLICATES_NAME = "duplicates.csv"
MERGED_FROM = "merged_from"
"""Column with the name of the manifest that a row is from."""

SAME_PHOTOGRAPH_M = 25.0
"""Positions of byte-identical photographs that are further apart contradict each other."""

_SAME_GROUP_M = 1_000.0
_SAME_GROUP = np.timedelta64(1, "D")
_GROUPS = ("place_id", "sequence_id")


@dataclass(frozen=True)
class MergeResult:
    """Result of `merge_manifests`.

    Attributes:
        manifest: The merged manifest, as written.
        sources: Per manifest: name, path, photographs, kept.
        duplicates: Columns image_id, manifest, reason, of_image_id, of_manifest, distance_m: the photographs that were
            left out because another manifest has them; as written to `duplicates.csv`.
        renamed: {column: number of values that several manifests use for different things, and that now begin with the
            name of their manifest}.
        notes: What a reader should know, as sentences.
    """

    manifest: Manifest
    sources: pd.DataFrame
    duplicates: pd.DataFrame
    renamed: dict[str, int]
    notes: list[str]


def merge_manifests(
    manifests: Sequence[Manifest],
    out: str | os.PathLike[str],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> MergeResult:
    """Merge manifests into one. The photographs stay where they are.

    An image_id, place_id or sequence_id that several manifests have for different things begins with the name of its
    manifest afterwards (its folder's name); all others are kept, so that they do not depend on the order. Places and
    sequences are the same if their photographs are within a kilometre of each other and, where both times are known,
    within a day. Columns are those of all manifests, empty where one lacks them.

    Of the same file, or of byte-identical photographs at one place, those of the first manifest are kept; of
    byte-identical photographs more than `SAME_PHOTOGRAPH_M` apart none is, because the correct position is unknown.

    Args:
        manifests: Two or more.
        out: Folder for `manifest.parquet` and `duplicates.csv`.
        progress: Called with the number of photographs compared by their bytes and the total number. Only files of
            the same size are.

    Raises:
        ConfigError: There are fewer than two manifests, one is given twice or is packed, or `out` is one of their
            folders.
        InputError: No photograph would remain.
    """
    target = manifest_file(out)
    _check(manifests, target)
    names = _names(manifests)
    notes: list[str] = []
    frames = [_frame(manifest, name) for manifest, name in zip(manifests, names, strict=True)]
    sources = pd.DataFrame(
        {
            "name": names,
            "path": [str(manifest.path) for manifest in manifests],
            "photographs": [len(manifest) for manifest in manifests],
        }
    )
    whole = _union(frames, notes)
    whole["of"] = np.repeat(np.arange(len(frames)), sources["photographs"])
    kept, duplicates = _without_duplicates(whole, names, notes, progress)
    if not kept.any():
        raise InputError(
            "no photograph remains: all are byte-identical with photographs elsewhere; see their manifests."
        )
    whole = whole[kept].reset_index(drop=True)
    renamed = {"image_id": _rename(whole, "image_id", names, lambda rows: False)}
    for column in _GROUPS:
        renamed[column] = _rename(whole, column, names, lambda rows: _same_group(whole, rows))
    sources["kept"] = np.bincount(whole.pop("of"), minlength=len(frames))
    made_with = {
        "merged": [
            {"name": name, "digest": manifest.digest, "photographs": len(manifest)}
            for name, manifest in zip(names, manifests, strict=True)
        ]
    }
    merged = write_manifest(target, whole, made_with=made_with)
    with atomic_file(target.with_name(DUPLICATES_NAME)) as beside:
        duplicates.map(guarded_cell).to_csv(beside, index=False)
    return MergeResult(merged, sources, duplicates, {name: count for name, count in renamed.items() if count}, notes)


def _check(manifests: Sequence[Manifest], target: Path) -> None:
    if len(manifests) < 2:
        raise ConfigError("merging needs two manifests or more; name them all before --out.")
    paths = [manifest.path.resolve() for manifest in manifests]
    for path in paths:
        if path.suffix == ".lance":
            raise ConfigError(
                f"{path}: is a packed data set; merge the manifests it was packed from, and pack the result."
            )
        if paths.count(path) > 1:
            raise ConfigError(f"{path}: is named twice.")
        if path == target.resolve():
            raise ConfigError(f"{target}: is one of the manifests that are merged; choose another --out.")


def _names(manifests: Sequence[Manifest]) -> list[str]:
    """The name of each manifest: that of its folder, or of its file; longer where two are the same."""
    paths = [manifest.path.resolve() for manifest in manifests]
    parts = [path.parent.parts if path.name == MANIFEST_NAME else (*path.parent.parts, path.stem) for path in paths]
    depth = 1
    while len({part[-depth:] for part in parts}) < len(parts):
        depth += 1
    return ["/".join(part[-depth:]).strip("/") for part in parts]


def _frame(manifest: Manifest, name: str) -> pd.DataFrame:
    frame = manifest.frame.copy()
    frame["image_path"] = [str(path) for path in manifest.image_paths]
    if "map_path" in frame:
        frame["map_path"] = [None if path is None else str(path) for path in manifest.map_paths]
    # A manifest that was merged before keeps the names of the first merge.
    earlier = text_or_none(frame[MERGED_FROM]) if MERGED_FROM in frame else [None] * len(frame)
    frame[MERGED_FROM] = [name if value is None else value for value in earlier]
    return frame


def _union(frames: list[pd.DataFrame], notes: list[str]) -> pd.DataFrame:
    """The rows of all, with the columns of all; a column of numbers in one and of texts in another becomes text."""
    columns: dict[str, pd.Series[Any]] = {}
    for name in dict.fromkeys(column for frame in frames for column in frame.columns):
        with_values = [frame[name].dropna() for frame in frames if name in frame]
        kinds = {_kind(values) for values in with_values if len(values)}
        parts = [frame[name] if name in frame else pd.Series([None] * len(frame), dtype=object) for frame in frames]
        if len(kinds) > 1 and kinds != {"int", "float"}:
            notes.append(f"The column {name!r} has other types in other manifests ({_listed(kinds)}); it is now text.")
            parts, kinds = [part.map(str, na_action="ignore") for part in parts], {"text"}
        whole = pd.Series(np.concatenate([_objects(part) for part in parts]), dtype=object)
        if kinds == {"int"}:  # pandas would make floats of integers beside missing ones
            columns[name] = whole.astype("Int64" if whole.isna().any() else "int64")
        elif kinds <= {"int", "float"} and kinds:
            columns[name] = whole.astype("float64")
        else:
            columns[name] = whole.infer_objects() if kinds == {"time"} else whole
    return pd.DataFrame(columns)


def _objects(part: pd.Series[Any]) -> np.ndarray[Any, Any]:
    plain = part.astype(object)
    return plain.where(plain.notna(), None).to_numpy(dtype=object)


def _listed(kinds: set[str]) -> str:
    return ", ".join(sorted(kinds))


def _kind(values: pd.Series[Any]) -> str:
    if pd.api.types.is_bool_dtype(values):
        return "bool"
    if pd.api.types.is_integer_dtype(values):
        return "int"
    if pd.api.types.is_float_dtype(values):
        return "float"
    return "time" if pd.api.types.is_datetime64_any_dtype(values) else "text"


def _without_duplicates(
    whole: pd.DataFrame, names: list[str], notes: list[str], progress: Callable[[int, int], None] | None
) -> tuple[np.ndarray[Any, np.dtype[np.bool_]], pd.DataFrame]:
    """Which rows are kept, and a table of the others."""
    paths, of = whole["image_path"].to_numpy(dtype=object), whole["of"].to_numpy()
    keys = _identities(paths, of, notes, progress)
    groups: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        groups.setdefault(key, []).append(row)
    kept = np.ones(len(whole), dtype=np.bool_)
    left_out: list[tuple[Any, ...]] = []
    lat, lon = (whole[column].to_numpy(np.float64) for column in ("lat_deg", "lon_deg"))
    ids = whole["image_id"].to_numpy(dtype=object)
    for rows in groups.values():
        if of[rows[0]] == of[rows[-1]]:
            continue  # `prepare` has decided about the photographs of one manifest
        away_m = haversine_m(lat[rows[0]], lon[rows[0]], lat[rows], lon[rows])
        apart = bool(away_m.max() > SAME_PHOTOGRAPH_M)
        for at, row in enumerate(rows):
            if not apart and of[row] == of[rows[0]]:
                continue
            other = rows[int(np.argmax(away_m))] if at == 0 else rows[0]
            reason = "same-bytes-other-place" if apart else "same-photograph"
            metres = round(float(haversine_m(lat[row], lon[row], lat[[other]], lon[[other]])[0]), 1)
            left_out.append((ids[row], names[of[row]], reason, ids[other], names[of[other]], metres))
            kept[row] = False
    columns = ["image_id", "manifest", "reason", "of_image_id", "of_manifest", "distance_m"]
    return kept, pd.DataFrame(left_out, columns=columns)


def _identities(
    paths: np.ndarray[Any, Any],
    of: np.ndarray[Any, Any],
    notes: list[str],
    progress: Callable[[int, int], None] | None,
) -> list[str]:
    """What says that two photographs are the same: the file on the disk, or its bytes where sizes are the same."""
    sizes = np.full(len(paths), -1, dtype=np.int64)
    keys = [str(path) for path in paths]
    for row, path in enumerate(paths):
        try:
            status = os.stat(path)
        except OSError:
            continue
        sizes[row], keys[row] = status.st_size, f"{status.st_dev}:{status.st_ino}"
    manifests_of_size: dict[int, set[int]] = {}
    for size, number in zip(sizes.tolist(), of.tolist(), strict=True):
        manifests_of_size.setdefault(size, set()).add(number)
    compared = [row for row, size in enumerate(sizes.tolist()) if size >= 0 and len(manifests_of_size[size]) > 1]
    digests: dict[str, str] = {}
    unread = int((sizes < 0).sum())
    for done, row in enumerate(compared, start=1):
        file = keys[row]
        try:
            if file not in digests:
                digests[file] = photograph_sha256(paths[row])
            keys[row] = digests[file]
        except PhotographError:
            unread += 1
        if progress is not None:
            progress(done, len(compared))
    if unread:
        notes.append(f"{unread:,} photographs cannot be read and were compared by their paths alone.")
    return keys


def _rename(
    whole: pd.DataFrame, column: str, names: list[str], same: Callable[[list[np.ndarray[Any, Any]]], bool]
) -> int:
    """Put the name of its manifest before each value that several manifests have for different things."""
    values = text_or_none(whole[column]) if column in whole else []
    rows_of: dict[str, dict[int, list[int]]] = {}
    of = whole["of"].tolist()
    for row, value in enumerate(values):
        if value is not None:
            rows_of.setdefault(value, {}).setdefault(of[row], []).append(row)
    renamed = 0
    for value, by_manifest in rows_of.items():
        if len(by_manifest) > 1 and not same([np.asarray(rows) for rows in by_manifest.values()]):
            renamed += 1
            for number, rows in by_manifest.items():
                for row in rows:
                    values[row] = f"{names[number]}/{value}"
    if renamed:
        whole[column] = pd.Series(values, dtype=object)
    if column == "image_id" and len(set(values)) < len(values):  # a/b of one manifest and b of a manifest a
        raise InputError("two photographs would have one image_id; rename the folder of one of the manifests.")
    return renamed


def _same_group(whole: pd.DataFrame, groups: list[np.ndarray[Any, Any]]) -> bool:
    """Whether photographs of several manifests are near enough in space and time to be one place or sequence."""
    positions = whole[["lat_deg", "lon_deg"]].to_numpy(np.float64)
    for first, second in pairwise(groups):
        if nearest_m(positions[first], positions[second]).min() > _SAME_GROUP_M:
            return False
        times = [whole["captured_at"].iloc[rows].dropna().to_numpy("datetime64[ms]") for rows in (first, second)]
        if all(map(len, times)) and max(part.min() for part in times) - min(part.max() for part in times) > _SAME_GROUP:
            return False
    return True
