"""The folder layout of visual place recognition (VPR) data sets: queries, databases, and their splits.

    FOLDER/[images/][train|val|test/]{database, queries}/@east@north@...jpg

`gallery` is a synonym of `database`. Positions are in the file names; see `vpr_names`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from swclip.data.candidates import GalleryRule, candidates_at
from swclip.data.grouping import block_ids, text_or_none
from swclip.data.manifest import Manifest
from swclip.data.protocols import SplitDraft
from swclip.data.split_files import report_leakage
from swclip.data.splits import Splits, leakage_path
from swclip.errors import InputError
from swclip.ingest.folders import PHOTOGRAPH_SUFFIXES, LeftOut, files_below
from swclip.ingest.position_columns import TablePositions
from swclip.ingest.rejections import Rejection
from swclip.ingest.source_table import SourceTable
from swclip.ingest.vpr_names import PlaceNameError, parse_name

FOLDER_COLUMN = "vpr_folder"
"""Column of a manifest with the folder of each photograph, such as test/queries."""

BLOCK_M = 100.0
_PARTS = {"train": "train", "val": "val", "validation": "val", "test": "test"}
_KINDS = {"database": "database", "gallery": "database", "queries": "queries", "query": "queries"}
_LAYOUT = "FOLDER/[train|val|test/]database/ and .../queries/, with photographs named @easting@northing@..."


def read_vpr_folder(
    folder: str | os.PathLike[str], crs: str | None = None, *, excluded: Path | None = None
) -> SourceTable:
    """Read the photographs of a folder in the VPR layout.

    Args:
        folder: The folder; a subfolder `images` between it and the parts is allowed.
        crs: Projection of names without a zone, such as EPSG:32650.
        excluded: A folder inside it that is not searched.

    Returns:
        One row per photograph: image, lat, lon, heading, time, place (the panorama's id), and the further columns
        vpr_folder, tile, pitch_deg, roll_deg, height_m, timestamp and note, if any name has them. Names that cannot
        be parsed are in `rejected`.

    Raises:
        InputError: There is no such folder, or it has no folder called database, gallery or queries.
        ConfigError: The projection is not known.
    """
    base = Path(folder)
    if not base.is_dir():
        raise InputError(f"{base}: there is no such folder; the layout vpr is {_LAYOUT}.")
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    rejected: list[Rejection] = []
    outside_layout, not_images = 0, 0
    left_out = LeftOut()
    for file in files_below(base, left_out, excluded):
        name = Path(file).as_posix()
        if Path(name).suffix.lower() not in PHOTOGRAPH_SUFFIXES:
            not_images += 1
            continue
        role = folder_role(name)
        if role is None:
            outside_layout += 1
            continue
        number = len(numbers) + len(rejected) + 1
        try:
            place = parse_name(Path(name).name, crs)
        except PlaceNameError as error:
            rejected.append(Rejection(number, name, error.reason, error.detail, "image", name))
            continue
        numbers.append(number)
        rows.append({"image": name, "lat": place.lat_deg, "lon": place.lon_deg, **_name_values(place.values, role)})
    notes = []
    if outside_layout:
        notes.append(
            ("file-not-looked-at", outside_layout, "photographs in no folder called database, gallery or queries.")
        )
    if not_images:
        notes.append(("file-not-looked-at", not_images, "files without an image's suffix."))
    notes.extend(left_out.notes())
    if not rows:
        raise InputError(_no_rows_message(base, rejected))
    frame = pd.DataFrame(rows, dtype=object).astype(object)
    frame = frame.where(frame.notna(), None)
    roles = ("image", "lat", "lon", "heading", "time", "place")
    columns = {role: role for role in roles if role in frame}
    lat, lon = (frame[name].to_numpy(dtype=np.float64) for name in ("lat", "lon"))
    positions = TablePositions(lat, lon, np.ones(len(frame), dtype=np.bool_), {}, {"lat": "lat", "lon": "lon"})
    return SourceTable(str(base), "folder", base, frame, numbers, columns, positions, notes=notes, rejected=rejected)


def folder_role(name: str) -> str | None:
    """Return the part and kind of a photograph from its folders, or None if they do not match the layout.

    Args:
        name: Path relative to the folder of the layout, with slashes.

    Example:
        >>> folder_role("images/test/queries/@1@2@.jpg"), folder_role("gallery/paris/@1@2@.jpg"), folder_role("a/b.jpg")
        ('test/queries', 'test/database', None)
    """
    part: str | None = None
    for word in name.lower().split("/")[:-1]:
        if word in _KINDS:
            return f"{part or 'test'}/{_KINDS[word]}"
        part = _PARTS.get(word, part)
    return None


def vpr_splits(manifest: Manifest, seed: int = 0) -> SplitDraft:
    """Derive splits from the folders.

    test/queries are the queries, val/queries the validation queries. With a part train, all its photographs are used
    for training, and the databases of val and test are not (split `gallery`): they are the candidates of their queries,
    and answers may use their photographs. Without it, the database of test is the training split, as in known-places.

    Args:
        manifest: Manifest that `prepare` made from the folders.
        seed: Seed for the offset of the blocks that intervals resample.

    Raises:
        InputError: The manifest has no column of folders, or the test part has no queries or no database.
    """
    if FOLDER_COLUMN not in manifest.frame:
        raise InputError(f"{manifest.path}: has no column {FOLDER_COLUMN}; make it with `swclip prepare --layout vpr`.")
    role = manifest.frame[FOLDER_COLUMN].to_numpy(dtype=object)
    for required, kind in (("test/queries", "queries"), ("test/database", "database")):
        if not np.any(role == required):
            counts = ", ".join(f"{count} in {name}" for name, count in sorted(Counter(role.tolist()).items()))
            raise InputError(
                f"{manifest.path}: no photograph of the {kind} of the test part can be used ({counts}); the layout vpr "
                f"is {_LAYOUT}."
            )
    with_train = bool(np.any(np.char.startswith(role.astype(str), "train/")))
    # Without a validation database, validation queries use the candidates of the test queries.
    val_database = "val/database" if np.any(role == "val/database") else "test/database"
    labels = np.full(len(role), "train", dtype=object)
    labels[role == "test/queries"] = "query"
    labels[role == "val/queries"] = "val"
    if with_train:
        labels[np.isin(role, ["test/database", "val/database"])] = "gallery"
    candidates = candidates_at(manifest.frame, role == "test/database", role == val_database)
    order = np.argsort(manifest.frame["image_id"].to_numpy(dtype=object), kind="stable")
    cities = text_or_none(manifest.frame["city"].iloc[order])
    blocks = block_ids(manifest.positions_deg[order], cities, BLOCK_M, np.random.default_rng(seed))
    frame = pd.DataFrame(
        {
            "image_id": pd.Series(manifest.frame["image_id"].tolist(), dtype=object),
            "split": pd.Series(labels.tolist(), dtype=object),
            "block_id": pd.Series([blocks[at] for at in np.argsort(order, kind="stable")], dtype=object),
        }
    )
    notes = [
        "Splits as in the folders. "
        + (
            "The databases of val and test are not trained on, and their photographs may be used in answers."
            if with_train
            else "There is no folder train, so the database is the training split."
        )
    ]
    meta = {
        "protocol": "vpr",
        "seed": seed,
        "parameters": {"gallery": str(GalleryRule("photographs")), "block_m": BLOCK_M, "buffer_m": 0.0},
        "manifest_digest": manifest.digest,
        "answers_may_use": {"query": ["gallery"], "val": ["gallery"]} if with_train else {},
    }
    return SplitDraft(frame, candidates, meta, notes)


def write_vpr_splits(manifest: Manifest) -> Splits:
    """Write the folders' own splits beside their manifest, as splits.parquet with the leakage report.

    Raises:
        InputError: The manifest is of no such folders, or one of their parts has no photograph.
    """
    target = manifest.path.with_name("splits.parquet")
    leakage_path(target).unlink(missing_ok=True)  # a report of earlier splits must not stand beside what follows
    return report_leakage(vpr_splits(manifest), manifest, target)


def _name_values(values: dict[str, str], role: str) -> dict[str, Any]:
    stamp = values.get("timestamp", "")
    # YYYYMMDD or YYYYMMDD_hhmmss is a time; a year or a month alone is kept as text.
    complete = len(stamp.replace("_", "")) in (8, 12, 14)
    fields: dict[str, tuple[str, Callable[[str], Any]]] = {
        "pano": ("place", str),
        "tile": ("tile", str),
        "heading": ("heading", str),
        "pitch": ("pitch_deg", _number),
        "roll": ("roll_deg", _number),
        "height": ("height_m", _number),
        "note": ("note", str),
    }
    parsed = {column: read(values[key]) for key, (column, read) in fields.items() if key in values}
    if stamp:
        parsed["time" if complete else "timestamp"] = stamp.replace("_", "") if complete else stamp
    return {FOLDER_COLUMN: role, **parsed}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _no_rows_message(base: Path, rejected: list[Rejection]) -> str:
    if not rejected:
        return f"{base}: holds no photographs in folders of the layout vpr, which is {_LAYOUT}."
    counts = Counter(rejection.reason for rejection in rejected)
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
    first = rejected[0]
    return f"{base}: no name of its {len(rejected)} photographs can be used: {reasons}. {first.image}: {first.detail}"
