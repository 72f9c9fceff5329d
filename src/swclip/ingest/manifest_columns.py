"""The columns of a manifest from accepted rows."""

from __future__ import annotations

import json
import math
import os
import re
import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from swclip.data.manifest import COLUMNS, OPTIONAL_COLUMNS
from swclip.ingest.rejections import Ledger, Row
from swclip.ingest.source_table import SourceTable

_HASH_LENGTH = 12
_INTEGER = re.compile(r"(?:0|-?[1-9]\d{0,17})$", re.ASCII)  # within 64 bits
_DECIMAL = re.compile(r"-?\d+(?:\.\d+)?$", re.ASCII)
_QUANTITIES = ("_deg", "_m", "_px", "_s")
_TEXT_ROLES = (
    ("city", "city"),
    ("place", "place_id"),
    ("sequence", "sequence_id"),
    ("licence", "licence"),
    ("source", "source"),
)


def manifest_frame(table: SourceTable, rows: list[Row], city: str | None, ledger: Ledger) -> pd.DataFrame:
    """Build the table of a manifest: its standard columns with absolute image paths, then the source's other columns.

    Args:
        table: Source of the rows.
        rows: The accepted rows.
        city: City of all rows, which replaces the city of the source; None to keep it.
        ledger: Collects notes.
    """
    index = [row.index for row in rows]
    columns: dict[str, Any] = {
        "image_id": _ids(table, rows, ledger),
        "image_path": [str(row.path) for row in rows],
        "lat_deg": [row.lat_deg for row in rows],
        "lon_deg": [row.lon_deg for row in rows],
        "accuracy_m": np.array([row.accuracy_m for row in rows], dtype=np.float64),
        "heading_deg": np.array([row.heading_deg for row in rows], dtype=np.float64),
        "captured_at": _times(rows, ledger),
    }
    for role, name in _TEXT_ROLES:
        values = table.values(role)
        columns[name] = [None] * len(rows) if values is None else [_text(values[i]) for i in index]
    if city is not None:
        columns["city"] = [city] * len(rows)
    for role in ("caption", "author", "source_url"):
        texts = table.values(role)
        if texts is not None:
            columns[role] = [_text(texts[i]) for i in index]
    if any(row.captured_month is not None for row in rows):
        columns["captured_month"] = [row.captured_month for row in rows]
    if "map" in table.columns:
        columns["map_path"] = [None if row.map is None else str(row.map) for row in rows]
    used = set(table.columns.values())
    for name in table.frame.columns:
        if name in used or name == "geometry" or str(name).startswith("__index_level_"):
            continue
        if (
            name in columns
            or name in COLUMNS + OPTIONAL_COLUMNS
            or list(table.frame.columns).count(name) > 1
            or not name
        ):
            ledger.note("column-left-out", f"the column {name!r} was not copied: its name is in use or not unique.")
            continue
        values = table.frame[name].tolist()
        columns[str(name)] = _typed_column(str(name), [values[i] for i in index], table.kind)
    return pd.DataFrame(columns)


def _ids(table: SourceTable, rows: list[Row], ledger: Ledger) -> list[str]:
    values = table.values("image_id")
    if values is not None:
        ids = [text for text in (_text(values[row.index]) for row in rows) if text is not None]
        if len(ids) == len(rows) == len(set(ids)):
            return ids
        ledger.note(
            "ids-not-unique",
            f"the column {table.columns['image_id']!r} has empty or repeated values; ids are made from paths.",
        )
    folder = table.folder.absolute()
    with_and_without_suffix = [_ids_of_path(row, folder) for row in rows]
    for choice in (1, 0):
        ids = [pair[choice] for pair in with_and_without_suffix]
        if len(set(ids)) == len(ids):
            return ids
    return [f"{pair[0]}-{row.sha256[:_HASH_LENGTH]}" for pair, row in zip(with_and_without_suffix, rows, strict=True)]


def _ids_of_path(row: Row, folder: Path) -> tuple[str, str]:
    """Return ids with and without the file's suffix, which are the same on every machine.

    They are the name relative to the folder of the table, without leading "..". An absolute name tells of folders of
    this machine: its id is the file's name and the start of the SHA-256 of its bytes, which the photographs that are
    kept do not share.
    """
    path = Path(os.path.relpath(row.path, folder))
    if os.path.isabs(row.image.strip()):
        path = Path(f"{row.path.stem}-{row.sha256[:_HASH_LENGTH]}{row.path.suffix}")
    # macOS and tables spell accents in different ways.
    name = unicodedata.normalize("NFC", re.sub(r"^(\.\./)+", "", path.as_posix()))
    return name, name[: -len(path.suffix)] if path.suffix else name


def _times(rows: list[Row], ledger: Ledger) -> Any:
    """Convert times to milliseconds without a zone: UTC if the zone is known, local time if not."""
    moments = [row.captured_at for row in rows if row.captured_at is not None]
    zoned = sum(moment.tzinfo is not None for moment in moments)
    if 0 < zoned < len(moments):
        detail = "times state no UTC offset and are kept as written, while others of this source are UTC."
        ledger.note("time-without-zone", detail, len(moments) - zoned)
    plain = [None if row.captured_at is None else _naive(row.captured_at) for row in rows]
    return np.array(plain, dtype="datetime64[ms]")


def _naive(moment: datetime) -> datetime:
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


def _text(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NaT:
        return None
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
    return text or None


def _typed_column(name: str, values: list[Any], kind: str) -> Any:
    """Type another column of the source. Text tables have no types; see `_numbers_or_texts`."""
    text_alone = all(value is None or isinstance(value, str) for value in values)
    if not (kind == "text" or (kind == "layout" and text_alone)):  # layouts read text tables, and JSON with types
        # Lists and objects may differ in shape between rows; JSON text can hold them all.
        nested = any(isinstance(value, (dict, list)) for value in values)
        plain = [None if value is None else json.dumps(value, default=str) for value in values] if nested else values
        try:
            pa.array(plain, from_pandas=True)
        except (pa.ArrowException, OverflowError):  # a column of mixed types, or of integers beyond 64 bits
            return [_text(value) for value in plain]
        return pd.Series(plain, dtype=object).infer_objects()
    texts = [None if value is None or not value.strip() else value.strip() for value in values]
    return _numbers_or_texts(texts, name.endswith(_QUANTITIES))


def _numbers_or_texts(texts: list[str | None], quantity: bool) -> Any:
    """Convert a column of text to numbers if every value comes back as it was: 007, 1e5, 2019_05 and 1.50 do not.

    Args:
        texts: The values without spaces at their ends; None for empty cells.
        quantity: The column's name states a unit, so that 1.50 is no code but a measured 1.5.
    """
    distinct = {text for text in texts if text is not None}
    if not distinct:
        return texts
    if all(_INTEGER.match(text) for text in distinct):
        integers = [None if text is None else int(text) for text in texts]
        return pd.array(integers, dtype="Int64") if None in integers else np.array(integers, dtype=np.int64)
    decimals = distinct - {"nan", "NaN"}
    if not decimals or not all(_DECIMAL.match(text) for text in decimals):
        return texts
    same = all(_as_written(float(text), text) for text in decimals) and len(set(map(float, decimals))) == len(decimals)
    if not (same or quantity):
        return texts
    return np.array([math.nan if text is None else float(text) for text in texts], dtype=np.float64)


def _as_written(number: float, text: str) -> bool:
    return text in (repr(number), np.format_float_positional(number, trim="-"))
