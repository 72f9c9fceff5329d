"""The files that vectors come in, taken apart into a table and a matrix."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from jaxtyping import Float32
from numpy.typing import ArrayLike

from swclip.external.prediction_columns import open_table, words
from swclip.ingest.columns import listed, plain_name
from swclip.ingest.raw_tables import GEOJSON, PARQUET, TEXT_TABLES
from swclip.ingest.source_table import RawTable, first_line
from swclip.errors import InputError

Source = str | os.PathLike[str] | pd.DataFrame | Mapping[str, ArrayLike]
"""A file, a data frame with a column of vectors, or a mapping of arrays as an .npz file holds them."""

KINDS = "an .npz or .parquet file, or .npy or .safetensors with a table of the same name beside it"
_VECTORS = (
    words("embeddings embedding"),
    words("vectors vector descriptors descriptor features feature"),
    words("imageembeddings queryembeddings galleryembeddings queriesdescriptors databasedescriptors x"),
)
# Arrays of two columns that tools keep positions in.
_PAIRS = {
    "lat_deg lon_deg": words("positionsdeg positions latlon latlng latlons gps coordinatesdeg"),
    "easting northing": words("utm utms utmcoordinates"),
}


def open_vectors(source: Source) -> tuple[RawTable, Float32[np.ndarray, "n d"]]:
    """A table without the vectors, and the vectors in the order of its rows.

    Args:
        source: See `Source`.

    Raises:
        InputError: It cannot be read, or has no vectors, or not as many as rows, or vectors of different lengths.
    """
    if isinstance(source, Mapping):
        return _of_arrays("the arrays", {str(name): np.asarray(value) for name, value in source.items()})
    if isinstance(source, pd.DataFrame):
        return _of_table(open_table(source, "the table of vectors"))
    path = Path(source)
    if not path.is_file():
        raise InputError(f"{path}: the vectors are not there; check the path. They are {KINDS}.")
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return _of_arrays(str(path), _npz(path))
    if suffix in PARQUET:
        return _of_table(open_table(path, "the table of vectors"))
    if suffix in (".npy", ".safetensors"):
        table = open_table(_beside(path), "the table of the vectors")
        matrix = _matrix(np.asarray(_npy(path) if suffix == ".npy" else _safetensors(path)), str(path))
        if len(matrix) != len(table.frame):
            raise InputError(
                f"{path}: holds {len(matrix)} vectors, and {table.name} has {len(table.frame)} rows; they must be in "
                "the same order, one row a vector."
            )
        return table, matrix
    raise InputError(f"{path}: vectors are not read from files of this kind ({suffix or 'no suffix'}); give {KINDS}.")


def _npz(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    try:
        # Opened here: numpy would leave the file of a broken archive open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except ValueError as error:
        if "pickle" in str(error):
            raise InputError(
                f"{path}: holds Python objects, which are not opened; save ids as text: "
                "np.savez(FILE, ids=np.array(ids, dtype=str), ...)."
            ) from error
        raise InputError(f"{path}: cannot be read as .npz ({first_line(error)}).") from error
    except (OSError, EOFError, BadZipFile, zlib.error, TypeError, AttributeError) as error:
        raise InputError(f"{path}: cannot be read as .npz, it may be cut short ({first_line(error)}).") from error


def _npy(path: Path) -> np.ndarray[Any, Any]:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path}: cannot be read as .npy ({first_line(error)}).") from error


def _safetensors(path: Path) -> np.ndarray[Any, Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, TypeError, KeyError) as error:
        raise InputError(f"{path}: cannot be read as safetensors ({first_line(error)}).") from error
    return np.asarray(tensors[_vector_name(list(tensors), str(path))])


def _beside(path: Path) -> Path:
    """The table that goes with a file of bare vectors."""
    found = [path.with_suffix(suffix) for suffix in (*PARQUET, *TEXT_TABLES, *GEOJSON)]
    there = [table for table in found if table.is_file()]
    if not there:
        raise InputError(
            f"{path}: ids and positions are looked for in a table beside it, and there is no "
            f"{path.with_suffix('.csv').name} or {path.with_suffix('.parquet').name}; write one, a row a vector."
        )
    return there[0]


def _vector_name(names: list[str], where: str) -> str:
    plain = {name: plain_name(name) for name in names}
    for group in _VECTORS:
        found = [name for name in names if plain[name] in group]
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(f"{where}: {listed(found)} could each be the vectors; call one `embeddings`.")
    if len(names) == 1:
        return names[0]
    raise InputError(f"{where}: none of {listed(names)} is called `embeddings`, `vectors` or `descriptors`.")


def _of_arrays(name: str, arrays: dict[str, np.ndarray[Any, Any]]) -> tuple[RawTable, Float32[np.ndarray, "n d"]]:
    matrices = [key for key, value in arrays.items() if value.ndim == 2 and not _pair_of(key, value)]
    if not matrices:
        shapes = ", ".join(f"{key} {value.shape}" for key, value in arrays.items())
        raise InputError(f"{name}: none of its arrays is a matrix of vectors, a row each ({shapes or 'it is empty'}).")
    chosen = _vector_name(matrices, name)
    matrix = _matrix(arrays.pop(chosen), f"{name}, {chosen}")
    columns: dict[str, Any] = {}
    for key, value in arrays.items():
        if pair := _pair_of(key, value):
            columns.update(dict(zip(pair.split(), value.T, strict=True)))
        elif value.ndim == 1 and len(value) == len(matrix):
            columns[key] = [item.decode() if isinstance(item, bytes) else item for item in value.tolist()]
        elif value.ndim == 1 and plain_name(key) in words("ids imageids names paths latdeg londeg lat lon role split"):
            raise InputError(f"{name}: {key!r} has {len(value)} values, and there are {len(matrix)} vectors.")
    if not columns:
        raise InputError(f"{name}: there are vectors, and no array of {len(matrix)} ids or positions with them.")
    frame = pd.DataFrame({key: pd.Series(list(value), dtype=object) for key, value in columns.items()})
    return RawTable(name, "parquet", frame, list(range(1, len(frame) + 1))), matrix


def _pair_of(name: str, array: np.ndarray[Any, Any]) -> str | None:
    if array.ndim != 2 or array.shape[1] != 2:
        return None
    return next((columns for columns, names in _PAIRS.items() if plain_name(name) in names), None)


def _of_table(raw: RawTable) -> tuple[RawTable, Float32[np.ndarray, "n d"]]:
    listy = [str(name) for name in raw.frame.columns if _holds_lists(raw.frame[name].iloc[0])]
    if not listy:
        header = listed([str(name) for name in raw.frame.columns])
        raise InputError(f"{raw.name}: none of its columns holds lists of numbers ({header}); give {KINDS}.")
    chosen = _vector_name(listy, raw.name)
    values = raw.frame[chosen].tolist()
    for at, value in enumerate(values):
        if not _holds_lists(value) or len(value) != len(values[0]):
            length = len(value) if _holds_lists(value) else "no"
            raise InputError(
                f"{raw.name}, row {raw.rows[at]}, column {chosen!r}: holds {length} numbers, and the first row "
                f"{len(values[0])}; all vectors must come from one model."
            )
    frame = raw.frame.drop(columns=[chosen])
    if raw.lat_lon is not None and not {"lat_deg", "lon_deg"} & set(map(str, frame.columns)):
        frame = frame.assign(lat_deg=[pair[0] for pair in raw.lat_lon], lon_deg=[pair[1] for pair in raw.lat_lon])
    table = RawTable(raw.name, raw.kind, frame.reset_index(drop=True), raw.rows, None, raw.malformed, raw.notes)
    return table, _matrix(np.stack([np.asarray(value) for value in values]), f"{raw.name}, column {chosen!r}")


def _holds_lists(value: Any) -> bool:
    return isinstance(value, list | tuple | np.ndarray) and np.ndim(value) == 1


def _matrix(values: np.ndarray[Any, Any], where: str) -> Float32[np.ndarray, "n d"]:
    if values.ndim != 2 or 0 in values.shape:
        raise InputError(f"{where}: has shape {values.shape}; vectors are a matrix, a row each.")
    if values.dtype.kind not in "fiu":
        raise InputError(f"{where}: holds {values.dtype}, and numbers are needed.")
    return np.ascontiguousarray(values, dtype=np.float32)
