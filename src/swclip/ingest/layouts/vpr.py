"""The folder layout of visual place recognition (VPR) data sets: queries, databases, and their splits.

    FOLDER/[images/][train|val|test/]{database, queries}/@east@north@...jpg

`gallery` is a synonym of `database`. Positions are in the file names; see `vpr_names`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from swclip.data.published_splits import PUBLISHED_COLUMN
from swclip.errors import InputError
from swclip.ingest.folders import PHOTOGRAPH_SUFFIXES, LeftOut, files_below
from swclip.ingest.layouts.layout import Layout, LayoutSource
from swclip.ingest.position_columns import TablePositions
from swclip.ingest.rejections import Rejection
from swclip.ingest.source_table import SourceTable
from swclip.ingest.vpr_names import PlaceNameError, is_vpr_name, parse_name

_PARTS = {"train": "train", "val": "val", "validation": "val", "test": "test"}
_KINDS = {"database": "database", "gallery": "database", "queries": "queries", "query": "queries"}
_LAYOUT = "FOLDER/[train|val|test/]database/ and .../queries/, with photographs named @easting@northing@..."


def _is_vpr(path: Path, names: Sequence[str]) -> bool:
    return any(folder_role(name) is not None and is_vpr_name(name.rpartition("/")[2]) for name in names)


def read_vpr_folder(source: LayoutSource) -> SourceTable:
    """Read the photographs of a folder in the VPR layout; a subfolder `images` before the parts is allowed.

    Returns:
        One row per photograph: image, lat, lon, heading, time, place (the panorama's id), and the further columns
        published_split, tile, pitch_deg, roll_deg, height_m, timestamp and note, if any name has them. Names that
        cannot be parsed are in `rejected`.

    Raises:
        InputError: There is no such folder, or it has no folder called database, gallery or queries.
        ConfigError: The projection is not known.
    """
    base, crs, excluded = source.path, source.crs, source.excluded
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
    return {PUBLISHED_COLUMN: role, **parsed}


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


VPR = Layout("vpr", _LAYOUT, _is_vpr, read_vpr_folder, frozenset({"crs"}))
