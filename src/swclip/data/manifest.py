"""The manifest: one table of photographs with their positions, stored as GeoParquet.

Every step reads it; only `prepare`, `fetch`, `merge` and `synth` write it. geopandas and QGIS can open the file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, overload

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float64

from swclip.data.manifest_table import COLUMNS as COLUMNS  # part of what a manifest is
from swclip.data.manifest_table import OPTIONAL_COLUMNS as OPTIONAL_COLUMNS
from swclip.data.manifest_table import PATH_COLUMNS as PATH_COLUMNS
from swclip.data.manifest_table import (
    REQUIRED_COLUMNS,
    arrow_schema,
    check_names,
    checked_frame,
    geo_metadata,
    of_the_schema,
    plain_frame,
    tidy_frame,
    wkb_points,
)
from swclip.errors import ArtefactError, InputError, first_line
from swclip.files import atomic_file
from swclip.imaging.packed import ROW, is_pack, pack_location, packed_rows, table_path
from swclip.versions import own_version

SCHEMA_VERSION = "1"
"""Version of the columns below; a reader refuses any other."""

MANIFEST_NAME = "manifest.parquet"
METADATA_KEY = b"swclip.manifest"
_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True, eq=False)
class Manifest:
    """Photographs and where they were taken.

    Attributes:
        path: The file `manifest.parquet`; of a packed data set its table, `photographs.lance`.
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
    def image_paths(self) -> Sequence[Path]:
        """Absolute paths of the photographs, in the order of the rows; made when they are used."""
        return _Paths(self._folder, self.frame["image_path"].to_numpy(dtype=object), self._packed_rows)

    @cached_property
    def map_paths(self) -> list[Path | None]:
        """Absolute paths of the map tiles, in the order of the rows; None where a photograph has none."""
        folder, packed, names = self._folder, self._packed_rows, self._optional("map_path")
        return [
            None if name is None else _path(folder, name, None if packed is None else f"{packed[row]}/map")
            for row, name in enumerate(names)
        ]

    @cached_property
    def captions(self) -> list[str | None]:
        """Texts about the photographs, in the order of the rows; None where a photograph has none."""
        return self._optional("caption")

    @property
    def _folder(self) -> str:
        # Resolved once: ".." after a link would otherwise lead elsewhere. Resolving each file is slow.
        return str(self.path.resolve().parent) if self._packed_rows is None else self.path.as_posix()

    @property
    def _packed_rows(self) -> np.ndarray[Any, Any] | None:
        """Where the photographs are in the table of a pack; None for files."""
        return self.frame[ROW].to_numpy() if self.path.suffix == ".lance" else None

    def _optional(self, column: str) -> list[str | None]:
        if column not in self.frame:
            return [None] * len(self.frame)
        return [None if pd.isna(value) or value == "" else str(value) for value in self.frame[column]]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over ids, positions and paths: the identity of the data in runs and reports."""
        hashed = hashlib.sha256()
        # The hash of json.dumps([ids, paths]), whose text would take a gigabyte at ten million rows.
        for before, name in ((b"[[", "image_id"), (b"], [", "image_path")):
            hashed.update(before)
            values = self.frame[name].to_numpy(dtype=object)
            for start in range(0, len(values), _ROWS_AT_ONCE):
                part = json.dumps(values[start : start + _ROWS_AT_ONCE].tolist(), ensure_ascii=False)
                hashed.update((", " * (start > 0) + part[1:-1]).encode())
        hashed.update(b"]]")
        hashed.update(np.ascontiguousarray(self.positions_deg, dtype="<f8").tobytes())
        return hashed.hexdigest()


@dataclass(frozen=True, eq=False)
class _Paths(Sequence[Path]):
    """Names relative to a folder as absolute paths. A path takes 300 bytes, its name 70."""

    folder: str
    names: np.ndarray[Any, Any]
    packed_rows: np.ndarray[Any, Any] | None = None

    __hash__ = None  # type: ignore[assignment]  # as a list

    def __len__(self) -> int:
        return len(self.names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    @overload
    def __getitem__(self, row: int) -> Path: ...
    @overload
    def __getitem__(self, row: slice) -> _Paths: ...
    def __getitem__(self, row: int | slice) -> Path | _Paths:
        packed = self.packed_rows
        if isinstance(row, slice):
            return _Paths(self.folder, self.names[row], None if packed is None else packed[row])
        return _path(self.folder, self.names[row], None if packed is None else f"{packed[row]}/photograph")


def _path(folder: str, name: str, packed: str | None) -> Path:
    if packed is not None:
        return Path(f"{folder}/{packed}/{PurePosixPath(name).name}")
    return Path(os.path.normpath(os.path.join(folder, name)))


def manifest_file(path: str | os.PathLike[str]) -> Path:
    """The manifest's file: `path` itself if it ends in .parquet, else `manifest.parquet` in the folder `path`."""
    target = Path(path)
    return target if target.suffix == ".parquet" and not target.is_dir() else target / MANIFEST_NAME


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Read a manifest.

    Args:
        path: The folder that contains `manifest.parquet`, or the file; or a packed data set (`swclip.data.pack`), a
            folder or a URL.

    Raises:
        ArtefactError: The file is missing, truncated, not a manifest or of another version, or a row is invalid; or a
            pack is unfinished.
        InputError: An object store does not answer, or refuses.
    """
    file = manifest_file(path)
    if not file.is_file() and is_pack(path):
        pack = pack_location(path)
        table = packed_rows(pack)
        metadata = table.schema.metadata or {}
        return _manifest_of(Path(table_path(pack)), table.column_names, metadata, lambda name: table[name])
    if not file.is_file():
        raise ArtefactError(f"{file}: there is no manifest; make one with: swclip prepare SOURCE --out {file.parent}")
    try:
        parquet = pq.ParquetFile(file)
        names, metadata = parquet.schema_arrow.names, parquet.metadata.metadata or {}
        return _manifest_of(file, names, metadata, lambda name: parquet.read([name])[name])
    except (pa.ArrowException, OSError) as error:
        raise ArtefactError(
            f"{file}: cannot be read as a manifest, it may be cut short ({first_line(error)}); make it again."
        ) from error


def _manifest_of(
    file: Path, names: Sequence[str], metadata: Mapping[bytes, bytes], read: Callable[[str], pa.ChunkedArray]
) -> Manifest:
    """The manifest of a file, read column by column: a table of ten million rows takes a gigabyte beside its frame."""
    _check_version(file, metadata)
    check_names(names, file)
    # The geometry repeats the positions.
    columns = ((name, of_the_schema(name, read(name), file)) for name in names if name != "geometry")
    frame = plain_frame(columns)
    try:
        return Manifest(file, checked_frame(frame, str(file)))
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
    tidy = tidy_frame(frame, Path(os.path.abspath(file)).parent.resolve())
    checked_frame(tidy, str(file))
    table = pa.Table.from_pandas(tidy, schema=arrow_schema(tidy), preserve_index=False)
    table = table.append_column(pa.field("geometry", pa.binary()), wkb_points(tidy))
    description = {"version": SCHEMA_VERSION, "made_with": {"swclip": own_version(), **(made_with or {})}}
    metadata = {
        METADATA_KEY: json.dumps(description, ensure_ascii=False).encode(),
        b"geo": json.dumps(geo_metadata(tidy)).encode(),
    }
    with atomic_file(file) as beside:
        pq.write_table(table.replace_schema_metadata(metadata), beside, compression="zstd")
    return Manifest(file, plain_frame(zip(table.column_names, table.columns, strict=True)))


def _check_version(file: Path, metadata: Mapping[bytes, bytes]) -> None:
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
