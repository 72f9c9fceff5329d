"""The columns of a manifest: their types, and their way between Arrow and pandas."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from swclip.errors import ArtefactError, InputError
from swclip.geo.coordinates import NO_FIX_DEG, valid_positions

FLOAT_COLUMNS = ("lat_deg", "lon_deg", "accuracy_m", "heading_deg")
TEXT_COLUMNS = (
    "image_id", "image_path", "city", "place_id", "sequence_id", "licence", "source", "caption", "map_path",
    "author", "source_url",
)  # fmt: skip
PATH_COLUMNS = ("image_path", "map_path")
REQUIRED_COLUMNS = ("image_id", "image_path", "lat_deg", "lon_deg")
COLUMNS = (
    "image_id",
    "image_path",
    "lat_deg",
    "lon_deg",
    "accuracy_m",
    "heading_deg",
    "captured_at",
    "city",
    "place_id",
    "sequence_id",
    "licence",
    "source",
)
"""The columns of every manifest, in order. Further ones may follow and are kept."""

OPTIONAL_COLUMNS = ("caption", "map_path", "author", "source_url")
"""Columns that a manifest may have after those: a text about the photograph, a map tile around it, who must be named
where it is shown, and the address of its page or record. A value is null where a photograph has none."""

_TYPES = {
    **dict.fromkeys(FLOAT_COLUMNS, pa.float64()),
    **dict.fromkeys(TEXT_COLUMNS, pa.string()),
    "captured_at": pa.timestamp("ms"),
}

_WKB_POINT = np.dtype([("order", "u1"), ("kind", "<u4"), ("x", "<f8"), ("y", "<f8")])


_AGAIN = "make it again with: swclip prepare"


def check_names(names: Sequence[str], file: Path) -> None:
    """Raise ArtefactError if a column of the schema is missing, or a column is there twice."""
    counts = Counter(names)
    for name in (*COLUMNS, *names):
        if counts[name] != 1:
            problem = f"lacks the column {name!r}" if counts[name] == 0 else f"has {counts[name]} columns {name!r}"
            raise ArtefactError(f"{file}: {problem}; {_AGAIN}")


def of_the_schema(name: str, column: pa.ChunkedArray, file: Path) -> pa.ChunkedArray:
    """A column with the type of the schema, where another program wrote an equivalent one.

    Raises:
        ArtefactError: It is of another type.
    """
    kind = _TYPES.get(name)
    if kind is None or column.type == kind:
        return column
    try:
        if not _equivalent(column.type, kind):
            raise pa.ArrowInvalid("another type")
        return column.cast(kind, safe=kind == pa.float64())
    except pa.ArrowException as error:
        raise ArtefactError(f"{file}: the column {name!r} is of type {column.type}, not {kind}; {_AGAIN}") from error


def _equivalent(kind: pa.DataType, wanted: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_null(kind):
        return True
    if wanted == pa.string():
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
    if wanted == pa.float64():
        return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def tidy_frame(frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The columns in order and of the right types, null where one is missing; paths relative and with slashes."""
    columns: dict[str, Any] = {}
    for name in COLUMNS:
        if name in FLOAT_COLUMNS:
            values = frame[name] if name in frame else np.full(len(frame), np.nan)
            columns[name] = np.asarray(pd.to_numeric(values), dtype=np.float64)
        elif name == "captured_at":
            columns[name] = _times(frame[name] if name in frame else pd.Series([None] * len(frame)))
        else:
            columns[name] = _texts(frame[name]) if name in frame else np.full(len(frame), None, dtype=object)
    for name in OPTIONAL_COLUMNS:
        if name in frame:
            columns[name] = _texts(frame[name])
    for name in PATH_COLUMNS:
        if name in columns:
            columns[name] = _objects([_relative(path, folder) for path in columns[name]])
    for name in frame.columns:
        if name not in COLUMNS + OPTIONAL_COLUMNS and name != "geometry":
            columns[str(name)] = frame[name].array  # to_numpy would make floats of integers with nulls
    return pd.DataFrame(columns, index=pd.RangeIndex(len(frame)))


def _times(values: pd.Series[Any]) -> Any:
    zoned = getattr(values.dtype, "tz", None) is not None
    times = pd.to_datetime(values.reset_index(drop=True), format="ISO8601", utc=zoned)
    if times.dt.tz is not None:
        times = times.dt.tz_convert("UTC").dt.tz_localize(None)
    return times.astype("datetime64[ms]").to_numpy()


def _texts(values: pd.Series[Any]) -> Any:
    return _objects([None if pd.isna(value) else str(value) for value in values])


def _objects(values: list[Any]) -> Any:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _relative(name: str | None, folder: Path) -> str | None:
    if name is None or not os.path.isabs(name):
        return None if name is None else Path(name).as_posix()
    try:
        return Path(os.path.relpath(name, folder)).as_posix()
    except ValueError:  # another drive of a Windows machine has no relative path
        return Path(name).as_posix()


def arrow_schema(frame: pd.DataFrame, further: Mapping[str, pa.DataType] | None = None) -> pa.Schema:
    """The types of columns: of the schema; of others as `further` says, else as their values are."""
    types = {**(further or {}), **_TYPES}
    return pa.schema(
        [(name, types.get(name) or pa.array(frame[name], from_pandas=True).type) for name in frame.columns]
    )


def wkb_points(frame: pd.DataFrame) -> pa.Array:
    wkb = np.zeros(len(frame), dtype=_WKB_POINT)
    wkb["order"], wkb["kind"], wkb["x"], wkb["y"] = 1, 1, frame["lon_deg"], frame["lat_deg"]
    size = _WKB_POINT.itemsize
    offsets = np.arange(0, size * (len(wkb) + 1), size, dtype=np.int64)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(wkb)]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(wkb), buffers).cast(pa.binary())


def geo_metadata(frame: pd.DataFrame) -> dict[str, Any]:
    from pyproj import CRS

    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": ["Point"],
        "crs": CRS.from_epsg(4326).to_json_dict(),
    }
    if len(frame):
        lon, lat = frame["lon_deg"], frame["lat_deg"]
        column["bbox"] = [float(lon.min()), float(lat.min()), float(lon.max()), float(lat.max())]
    return {"version": "1.0.0", "primary_column": "geometry", "columns": {"geometry": column}}


def plain_frame(columns: Iterable[tuple[str, pa.ChunkedArray]]) -> pd.DataFrame:
    """Columns as pandas without the geometry, with None for unknown text in every pandas version.

    Args:
        columns: Names and values; taken one at a time, so that a table that is read lazily is never in memory whole.
    """
    return pd.DataFrame({name: _plain_column(column) for name, column in columns if name != "geometry"}, copy=False)


def _plain_column(column: pa.ChunkedArray) -> pd.Series[Any]:
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return pd.Series(text_objects(column), dtype=object)
    if pa.types.is_integer(column.type) and column.null_count:
        # pandas would read float64, in which two ids of 17 digits are one.
        return pd.Series(pd.array(column.to_pylist(), dtype="Int64"))
    values: pd.Series[Any] = column.to_pandas()
    return values.copy()  # else it is a read-only view of Arrow's memory, which a user cannot change


def text_objects(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    """The values of a text column as Python objects, None where null; equal values are one object.

    A city of ten million rows is one string and not ten million.
    """
    # As large strings: ten million long paths have more than 2 GB.
    encoded = column.cast(pa.large_string()).dictionary_encode().unify_dictionaries().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # no chunk at all
        return np.empty(0, dtype=object)
    values = np.append(_objects(encoded.dictionary.to_pylist()), [None])
    return np.asarray(values[encoded.indices.fill_null(len(values) - 1).to_numpy(zero_copy_only=False)])


def checked_frame(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    for column in ("image_id", "image_path"):
        if frame[column].isna().any():
            row = int(np.flatnonzero(frame[column].isna())[0])
            raise InputError(f"{name}, row {row}: {column} is missing; every photograph needs one.")
    for column in PATH_COLUMNS:
        if column in frame and (zero := frame[column].str.contains("\0", regex=False, na=False)).any():
            row = int(np.flatnonzero(zero)[0])
            raise InputError(f"{name}, row {row}: {column} {frame[column][row]!r} contains a zero byte.")
    repeated = frame["image_id"].duplicated()
    if repeated.any():
        row = int(np.flatnonzero(repeated)[0])
        raise InputError(f"{name}, row {row}: image_id {frame['image_id'][row]!r} occurs twice; ids must be unique.")
    lat_deg, lon_deg = (frame[column].to_numpy(np.float64) for column in ("lat_deg", "lon_deg"))
    wrong = ~valid_positions(lat_deg, lon_deg)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        at = f"{lat_deg[row]}, {lon_deg[row]}"
        raise InputError(f"{name}, row {row}: the position ({at}) is not a latitude and longitude in degrees.")
    zero = (np.abs(lat_deg) < NO_FIX_DEG) & (np.abs(lon_deg) < NO_FIX_DEG)
    if zero.any():
        row = int(np.flatnonzero(zero)[0])
        detail = "is in the Atlantic; devices write it when they have no position: leave such rows out."
        raise InputError(f"{name}, row {row}: the position (0, 0) {detail}")
    if "accuracy_m" in frame:
        accuracy_m = frame["accuracy_m"].to_numpy(np.float64)
        wrong = ~np.isnan(accuracy_m) & ~((accuracy_m > 0.0) & np.isfinite(accuracy_m))
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            detail = "is not a positive number of metres; leave the value empty where it is unknown."
            raise InputError(f"{name}, row {row}: accuracy_m {accuracy_m[row]:g} {detail}")
    return frame
