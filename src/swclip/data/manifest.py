"""The manifest: one table of photographs with their positions, stored as GeoParquet.

Every step reads it; only `prepare`, `fetch`, `merge` and `synth` write it. geopandas and QGIS can open the file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float64
from pyproj import CRS

from swclip.errors import ArtefactError, InputError, first_line
from swclip.files import atomic_file
from swclip.geo.coordinates import NO_FIX_DEG, valid_positions
from swclip.versions import own_version

SCHEMA_VERSION = "1"
"""Version of the columns below; a reader refuses any other."""

MANIFEST_NAME = "manifest.parquet"
METADATA_KEY = b"swclip.manifest"

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


@dataclass(frozen=True, eq=False)
class Manifest:
    """Photographs and where they were taken.

    Attributes:
        path: The file `manifest.parquet`.
        frame: One row per photograph, columns `COLUMNS` and any further ones, numbered from 0. Text that is unknown is
            None, a number that is unknown is NaN. `captured_at` has milliseconds and no zone: UTC where the source
            gave an offset, otherwise the clock time as written. `OPTIONAL_COLUMNS` may be absent.
    """

    path: Path
    frame: pd.DataFrame

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        cities = self.frame["city"].nunique()
        of = f"{cities:,} {'city' if cities == 1 else 'cities'}" if cities else "no city named"
        return f"Manifest({len(self):,} photograph{'' if len(self) == 1 else 's'}, {of}, {self.path})"

    @property
    def positions_deg(self) -> Float64[np.ndarray, "n 2"]:
        """(N, 2) latitude, longitude in degrees, WGS84."""
        return self.frame[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)

    @property
    def accuracy_m(self) -> Float64[np.ndarray, " n"]:
        """(N,) GPS accuracy, one standard deviation in metres; NaN where unknown."""
        return self.frame["accuracy_m"].to_numpy(dtype=np.float64)

    @cached_property
    def image_paths(self) -> list[Path]:
        """Absolute paths of the photographs, in the order of the rows."""
        folder = self._folder
        return [Path(os.path.normpath(os.path.join(folder, name))) for name in self.frame["image_path"]]

    @cached_property
    def map_paths(self) -> list[Path | None]:
        """Absolute paths of the map tiles, in the order of the rows; None where a photograph has none."""
        folder = self._folder
        return [
            None if name is None else Path(os.path.normpath(os.path.join(folder, name)))
            for name in self._optional("map_path")
        ]

    @cached_property
    def captions(self) -> list[str | None]:
        """Texts about the photographs, in the order of the rows; None where a photograph has none."""
        return self._optional("caption")

    @property
    def _folder(self) -> str:
        # Resolved once: ".." after a link would otherwise lead elsewhere. Resolving each file is slow.
        return str(self.path.resolve().parent)

    def _optional(self, column: str) -> list[str | None]:
        if column not in self.frame:
            return [None] * len(self.frame)
        return [None if pd.isna(value) or value == "" else str(value) for value in self.frame[column]]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over ids, positions and paths: the identity of the data in runs and reports."""
        text = json.dumps([self.frame["image_id"].tolist(), self.frame["image_path"].tolist()], ensure_ascii=False)
        hashed = hashlib.sha256(text.encode())
        hashed.update(np.ascontiguousarray(self.positions_deg, dtype="<f8").tobytes())
        return hashed.hexdigest()


def manifest_file(path: str | os.PathLike[str]) -> Path:
    """The manifest's file: `path` itself if it ends in .parquet, else `manifest.parquet` in the folder `path`."""
    target = Path(path)
    return target if target.suffix == ".parquet" and not target.is_dir() else target / MANIFEST_NAME


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Read a manifest.

    Args:
        path: The folder that contains `manifest.parquet`, or the file.

    Raises:
        ArtefactError: The file is missing, truncated, not a manifest or of another version, or a row is invalid.
    """
    file = manifest_file(path)
    if not file.is_file():
        raise ArtefactError(f"{file}: there is no manifest; make one with: swclip prepare SOURCE --out {file.parent}")
    try:
        table = pq.ParquetFile(file).read()
    except (pa.ArrowException, OSError) as error:
        raise ArtefactError(
            f"{file}: cannot be read as a manifest, it may be cut short ({first_line(error)}); make it again."
        ) from error
    _check_version(file, table.schema.metadata or {})
    frame = _plain_frame(_of_the_schema(table, file))
    try:
        return Manifest(file, _checked(frame, str(file)))
    except InputError as error:
        raise ArtefactError(str(error)) from error


def write_manifest(
    path: str | os.PathLike[str], frame: pd.DataFrame, *, made_with: dict[str, Any] | None = None
) -> Manifest:
    """Write a manifest as GeoParquet, whole or not at all.

    Args:
        path: The `.parquet` file, or the folder for `manifest.parquet`.
        frame: At least `image_id`, `image_path`, `lat_deg`, `lon_deg`. Columns of the schema that are missing are
            filled with nulls; further ones follow them. Absolute paths of photographs and map tiles are made
            relative to the file.
        made_with: Further metadata of the file beside the version of swclip, such as the command or a seed.

    Returns:
        The manifest as `read_manifest` returns it.

    Raises:
        InputError: A required column is missing, an id repeats, or a position is not a latitude and longitude.
        DiskFullError: The disk filled; no incomplete file is left.
    """
    file = manifest_file(path)
    for name in REQUIRED_COLUMNS:
        if name not in frame.columns:
            raise InputError(f"{file}: the table to write lacks the column {name!r}.")
    tidy = _tidy(frame, Path(os.path.abspath(file)).parent.resolve())
    _checked(tidy, str(file))
    table = pa.Table.from_pandas(tidy, schema=_schema(tidy), preserve_index=False)
    table = table.append_column(pa.field("geometry", pa.binary()), _points(tidy))
    description = {"version": SCHEMA_VERSION, "made_with": {"swclip": own_version(), **(made_with or {})}}
    metadata = {
        METADATA_KEY: json.dumps(description, ensure_ascii=False).encode(),
        b"geo": json.dumps(_geo_metadata(tidy)).encode(),
    }
    with atomic_file(file) as beside:
        pq.write_table(table.replace_schema_metadata(metadata), beside, compression="zstd")
    return Manifest(file, _plain_frame(table))


def _check_version(file: Path, metadata: dict[bytes, bytes]) -> None:
    if METADATA_KEY not in metadata:
        raise ArtefactError(
            f"{file}: is a Parquet file but not a swclip manifest; import it with: swclip prepare {file} --out DIR"
        )
    try:
        version = str(json.loads(metadata[METADATA_KEY])["version"])
    except (ValueError, KeyError, TypeError):
        version = "unreadable"
    if version != SCHEMA_VERSION:
        raise ArtefactError(
            f"{file}: manifest schema version {version}, this swclip reads version {SCHEMA_VERSION}; "
            "make the manifest again with this swclip, or install the one that made it."
        )


def _of_the_schema(table: pa.Table, file: Path) -> pa.Table:
    """The table with the types of the schema, where another program wrote equivalent ones.

    Raises:
        ArtefactError: A column is missing, is there twice, or is of another type.
    """
    again = "make it again with: swclip prepare"
    counts = Counter(table.column_names)
    for name in (*COLUMNS, *table.column_names):
        if counts[name] != 1:
            problem = f"lacks the column {name!r}" if counts[name] == 0 else f"has {counts[name]} columns {name!r}"
            raise ArtefactError(f"{file}: {problem}; {again}")
    for at, field in enumerate(table.schema):
        kind = _TYPES.get(field.name)
        if kind is None or field.type == kind:
            continue
        try:
            if not _equivalent(field.type, kind):
                raise pa.ArrowInvalid("another type")
            table = table.set_column(
                at, pa.field(field.name, kind), table.column(at).cast(kind, safe=kind == pa.float64())
            )
        except pa.ArrowException as error:
            raise ArtefactError(
                f"{file}: the column {field.name!r} is of type {field.type}, not {kind}; {again}"
            ) from error
    return table


def _equivalent(kind: pa.DataType, wanted: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_null(kind):
        return True
    if wanted == pa.string():
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
    if wanted == pa.float64():
        return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def _tidy(frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Columns in order and of the right types, null where one is missing; paths relative and with slashes."""
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


def _schema(frame: pd.DataFrame) -> pa.Schema:
    return pa.schema(
        [(name, _TYPES.get(name) or pa.array(frame[name], from_pandas=True).type) for name in frame.columns]
    )


def _points(frame: pd.DataFrame) -> pa.Array:
    wkb = np.zeros(len(frame), dtype=_WKB_POINT)
    wkb["order"], wkb["kind"], wkb["x"], wkb["y"] = 1, 1, frame["lon_deg"], frame["lat_deg"]
    return pa.array([point.tobytes() for point in wkb], type=pa.binary())


def _geo_metadata(frame: pd.DataFrame) -> dict[str, Any]:
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": ["Point"],
        "crs": CRS.from_epsg(4326).to_json_dict(),
    }
    if len(frame):
        lon, lat = frame["lon_deg"], frame["lat_deg"]
        column["bbox"] = [float(lon.min()), float(lat.min()), float(lon.max()), float(lat.max())]
    return {"version": "1.0.0", "primary_column": "geometry", "columns": {"geometry": column}}


def _plain_frame(table: pa.Table) -> pd.DataFrame:
    """The table as pandas without the geometry, with None for unknown text in every pandas version."""
    if "geometry" in table.column_names:
        table = table.drop_columns(["geometry"])
    table = table.replace_schema_metadata(None)
    frame: pd.DataFrame = table.to_pandas(types_mapper=None)
    for field in table.schema:
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            frame[field.name] = pd.Series(_objects(table[field.name].to_pylist()), index=frame.index, dtype=object)
        elif pa.types.is_integer(field.type) and table[field.name].null_count:
            # pandas would read float64, in which two ids of 17 digits are one.
            frame[field.name] = pd.array(table[field.name].to_pylist(), dtype="Int64")
    return frame


def _checked(frame: pd.DataFrame, name: str) -> pd.DataFrame:
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
