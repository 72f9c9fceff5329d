"""What a manifest says of a photograph beside its position, as columns of a gallery."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pyarrow as pa

from swclip.data.manifest import COLUMNS, PATH_COLUMNS, Manifest
from swclip.gallery.schema import DETAILS


def manifest_details(manifest: Manifest) -> pa.Table:
    """`image_id` and the columns of `DETAILS`, one row a photograph in the manifest's order.

    Columns beyond the manifest's own are kept in `extra` as a JSON object. Paths are not: a gallery goes elsewhere.
    """
    frame = manifest.frame
    further = [name for name in frame.columns if name not in COLUMNS and name not in PATH_COLUMNS]
    extra: list[str | None] = [None] * len(frame)
    if further:
        extra = [_object(dict(zip(further, row, strict=True))) for row in frame[further].itertuples(index=False)]
    columns: dict[str, Any] = {"image_id": pa.array(frame["image_id"].tolist(), pa.string())}
    for name, kind in DETAILS.items():
        values = extra if name == "extra" else frame[name]
        columns[name] = pa.array(values, kind, from_pandas=True)
    return pa.table(columns)


def _object(values: dict[str, Any]) -> str | None:
    known = {name: _plain(value) for name, value in values.items() if not _missing(value)}
    return json.dumps(known, ensure_ascii=False) if known else None


def _missing(value: Any) -> bool:
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def _plain(value: Any) -> Any:
    """A value as JSON has it: what is no number or truth value is written as text."""
    if hasattr(value, "item"):
        value = value.item()
    return value if isinstance(value, (bool, int, float, str)) else str(value)
