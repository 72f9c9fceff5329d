"""Read another tool's embeddings: vectors with ids, positions and roles, from a file or a data frame."""

from __future__ import annotations

import os
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from jaxtyping import Float32, Float64
from numpy.typing import ArrayLike

from swclip.errors import ConfigError, InputError, SwclipWarning, first_line
from swclip.external.prediction_columns import (
    COMMON_ROLES,
    TRUE,
    ExternalTable,
    Synonyms,
    column_flag,
    find_roles,
    open_table,
    plain_names,
    require_columns,
    require_positions,
)
from swclip.geo.projections import projected_to_deg, projection_problem
from swclip.ingest.column_names import LAT_FIRST_NAMES, PAIR_NAMES, plain_name
from swclip.ingest.columns import listed
from swclip.ingest.source_table import RawTable
from swclip.ingest.sources import GEOJSON, PARQUET, TEXT_TABLES
from swclip.ingest.vpr_names import PlaceNameError, is_vpr_name, parse_name

ROLES: Synonyms = {
    **COMMON_ROLES,
    "easting": (plain_names("easting eastingm utmeasting utmeast utme east"), ()),
    "northing": (plain_names("northing northingm utmnorthing utmnorth utmn north"), ()),
    "role": (plain_names("role split subset part"), ()),
}
"""Roles of the columns other than the vectors, with their usual names."""

_ROLE_WORDS = {
    "query": ("query", "queries", "q", "test"),
    "gallery": ("gallery", "database", "db", "train", "training", "reference", "map"),
    "val": ("val", "validation", "valid", "dev"),
}
_ROLE_OF = {word: role for role, synonyms in _ROLE_WORDS.items() for word in synonyms}


@dataclass(frozen=True)
class VectorSet:
    """Another tool's vectors of photographs, with their metadata.

    Attributes:
        name: The file, for messages and the report.
        ids: N ids, unique within a role.
        vectors: (N, D) finite vectors, not normalised.
        positions_deg: (N, 2) latitude, longitude, degrees; None where only the ids are used.
        roles: N roles of query, gallery and val.
        cities: N names, None where unknown.
        places: N place ids, None where unknown.
        blocks: N blocks, None where unknown.
        rows: N row numbers of the source, for messages.
    """

    name: str
    ids: list[str]
    vectors: Float32[np.ndarray, "n d"]
    positions_deg: Float64[np.ndarray, "n 2"] | None
    roles: list[str]
    cities: list[str | None]
    places: list[str | None]
    blocks: list[str | None]
    rows: list[int]


def read_vectors(
    source: Source,
    *,
    role: str | None = None,
    crs: str | None = None,
    columns: Mapping[str, str] | None = None,
    with_positions: bool = True,
) -> VectorSet:
    """Read vectors and their metadata.

    Args:
        source: .npz; Parquet with a column of lists; .npy or .safetensors with a table of the same name beside it; a
            data frame with a column of vectors; or a mapping of arrays.
        role: Role of all rows, query or gallery; None to read a column.
        crs: Projection of the columns easting and northing, or of file names without a UTM zone.
        columns: {role: column} for columns with other names than those of `ROLES`.
        with_positions: Whether positions and roles are read; otherwise the ids are matched with a manifest.

    Returns:
        The vectors. Positions come from latitude and longitude, else from easting and northing, else from ids in the
        form @easting@northing@...

    Raises:
        InputError: A column is missing, lengths differ, a value is not finite, or an id repeats.
        ConfigError: The projection is unknown, or missing where it is needed.
    """
    raw, vectors = open_vectors(source)
    table = find_roles(raw, ROLES, columns)
    require_columns(table, ["image_id"], "")
    ids = [name if name is not None else _raise_empty_id(table, at) for at, name in enumerate(table.texts("image_id"))]
    _check_vectors(table, vectors, ids)
    roles = _roles(table, role) if with_positions else ["query"] * len(ids)
    _check_ids(table, ids, roles)
    return VectorSet(
        raw.name,
        ids,
        vectors,
        _positions(table, ids, crs) if with_positions else None,
        roles,
        table.texts("city"),
        table.texts("place"),
        table.texts("block"),
        raw.rows,
    )


def check_dimensions(queries: VectorSet, gallery: VectorSet) -> None:
    """Raise InputError unless both have vectors of the same dimension."""
    if queries.vectors.shape[1] != gallery.vectors.shape[1]:
        raise InputError(
            f"{queries.name} has vectors of {queries.vectors.shape[1]} dimensions and {gallery.name} of "
            f"{gallery.vectors.shape[1]}: they come from different models; embed both with one."
        )


def _raise_empty_id(table: ExternalTable, at: int) -> str:
    raise InputError(f"{table.where(at, 'image_id')}: the id is empty; every vector needs one.")


def _check_vectors(table: ExternalTable, vectors: Float32[np.ndarray, "n d"], ids: list[str]) -> None:
    bad = ~np.isfinite(vectors).all(axis=1)
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"{table.where(at)}: the vector of {ids[at]!r} contains NaN or infinity "
            f"({int(bad.sum())} of {len(ids)} do); "
            "embed these photographs again."
        )


def _roles(table: ExternalTable, role: str | None) -> list[str]:
    values = table.texts("role")
    if "role" not in table.columns:
        if role is None:
            raise InputError(
                f"{table.raw.name}: no column gives the roles of the rows; add a column `role` "
                f"(query, gallery, val), name it with {column_flag('role')}COLUMN, or give two files."
            )
        return [role] * len(values)
    roles = []
    for at, value in enumerate(values):
        row_role = _ROLE_OF.get((value or "").lower())
        if row_role is None:
            allowed = "; ".join(f"{name}: {', '.join(synonyms)}" for name, synonyms in _ROLE_WORDS.items())
            raise InputError(f"{table.where(at, 'role')}: {value!r} is not a role; write one of ({allowed}).")
        if role == "gallery" and row_role != "gallery":
            raise InputError(f"{table.where(at, 'role')}: role {value!r} in the gallery's file; move the row.")
        roles.append(row_role)
    return roles


def _check_ids(table: ExternalTable, ids: list[str], roles: list[str]) -> None:
    first: dict[tuple[str, str], int] = {}
    for at, key in enumerate(zip(roles, ids, strict=True)):
        if key in first:
            raise InputError(
                f"{table.where(at, 'image_id')}: {ids[at]!r} occurs twice (row {table.raw.rows[first[key]]}); ids "
                "must be unique, such as whole paths."
            )
        first[key] = at


def _positions(table: ExternalTable, ids: list[str], crs: str | None) -> Float64[np.ndarray, "n 2"]:
    table = table.with_positions(TRUE)
    for note in table.position_notes():
        warnings.warn(f"{table.raw.name}: {note}", SwclipWarning, stacklevel=2)
    problem = ""
    if TRUE in table.positions_of:
        positions = table.positions(TRUE, "position")
    elif "easting" in table.columns and "northing" in table.columns:
        if crs is None:
            raise ConfigError(
                f"{table.raw.name}: {table.columns['easting']!r} and {table.columns['northing']!r} are metres of a "
                "projection; give it, for example --crs EPSG:32650."
            )
        east, north = table.numbers("easting"), table.numbers("northing")
        positions = projected_to_deg(east, north, crs)
        if (outside := np.isinf(positions[:, 0]) & ~np.isnan(east + north)).any():
            at = int(np.flatnonzero(outside)[0])
            problem = f": {projection_problem(east[at], north[at], crs)}"
    elif all(is_vpr_name(Path(name).name) for name in ids):
        positions = np.array([_name_position(table, at, name, crs) for at, name in enumerate(ids)])
    else:
        hint = ", or easting and northing with --crs, or ids in the form @easting@northing@..."
        require_positions(table, TRUE, hint)
    missing = ~np.isfinite(positions).all(axis=1)
    if missing.any():
        at = int(np.flatnonzero(missing)[0])
        raise InputError(f"{table.where(at)}: {ids[at]!r} has no valid position{problem}; every vector needs one.")
    return positions


def _name_position(table: ExternalTable, at: int, name: str, crs: str | None) -> tuple[float, float]:
    try:
        place = parse_name(Path(name).name, crs)
    except PlaceNameError as error:
        raise InputError(f"{table.where(at, 'image_id')}: {name!r}: {error.detail}") from error
    return place.lat_deg, place.lon_deg


Source = str | os.PathLike[str] | pd.DataFrame | Mapping[str, ArrayLike]
"""A file, a data frame with a column of vectors, or a mapping of arrays as in an .npz file."""

KINDS = "an .npz or .parquet file, or .npy or .safetensors with a table of the same name beside it"
_VECTORS = (
    plain_names("embeddings embedding"),
    plain_names("vectors vector descriptors descriptor features feature"),
    plain_names("imageembeddings queryembeddings galleryembeddings queriesdescriptors databasedescriptors x"),
)
# Names of arrays with two columns that contain positions.
_PAIRS = {
    "lat_deg lon_deg": LAT_FIRST_NAMES,
    "position": PAIR_NAMES,
    "easting northing": plain_names("utm utms utmcoordinates"),
}


def open_vectors(source: Source) -> tuple[RawTable, Float32[np.ndarray, "n d"]]:
    """Open a source as a table without the vectors, and the vectors in the order of its rows.

    Args:
        source: See `Source`.

    Raises:
        InputError: It cannot be read, has no vectors, or their number or dimensions differ.
    """
    if isinstance(source, Mapping):
        return _open_arrays("the arrays", {str(name): np.asarray(value) for name, value in source.items()})
    if isinstance(source, pd.DataFrame):
        return _open_frame(open_table(source, "the table of vectors"))
    path = Path(source)
    if not path.is_file():
        raise InputError(f"{path}: the file of vectors does not exist; check the path. It can be {KINDS}.")
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return _open_arrays(str(path), _npz(path))
    if suffix in PARQUET:
        return _open_frame(open_table(path, "the table of vectors"))
    if suffix in (".npy", ".safetensors"):
        table = open_table(_beside(path), "the table of the vectors")
        matrix = _matrix(np.asarray(_npy(path) if suffix == ".npy" else _safetensors(path)), str(path))
        if len(matrix) != len(table.frame):
            raise InputError(
                f"{path}: contains {len(matrix)} vectors, and {table.name} has {len(table.frame)} rows; they must be "
                "in the same order, one row per vector."
            )
        return table, matrix
    raise InputError(f"{path}: vectors cannot be read from files of this kind ({suffix or 'no suffix'}); give {KINDS}.")


def _npz(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    try:
        # Opened here, since numpy leaves the file of a broken archive open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except ValueError as error:
        if "pickle" in str(error):
            raise InputError(
                f"{path}: contains Python objects, which are not opened; save ids as text: "
                "np.savez(FILE, ids=np.array(ids, dtype=str), ...)."
            ) from error
        raise InputError(f"{path}: cannot be read as .npz ({first_line(error)}).") from error
    except (OSError, EOFError, BadZipFile, zlib.error, TypeError, AttributeError) as error:
        raise InputError(f"{path}: cannot be read as .npz, it may be truncated ({first_line(error)}).") from error


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
    """The table with the metadata of a file of vectors."""
    paths = [path.with_suffix(suffix) for suffix in (*PARQUET, *TEXT_TABLES, *GEOJSON)]
    existing = [table for table in paths if table.is_file()]
    if not existing:
        raise InputError(
            f"{path}: ids and positions are read from a table in the same folder, and there is no "
            f"{path.with_suffix('.csv').name} or {path.with_suffix('.parquet').name}; write one, a row per vector."
        )
    return existing[0]


def _vector_name(names: list[str], where: str) -> str:
    plain = {name: plain_name(name) for name in names}
    for group in _VECTORS:
        matches = [name for name in names if plain[name] in group]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise InputError(f"{where}: {listed(matches)} could each be the vectors; call one `embeddings`.")
    if len(names) == 1:
        return names[0]
    raise InputError(f"{where}: none of {listed(names)} is called `embeddings`, `vectors` or `descriptors`.")


def _open_arrays(name: str, arrays: dict[str, np.ndarray[Any, Any]]) -> tuple[RawTable, Float32[np.ndarray, "n d"]]:
    matrices = [key for key, value in arrays.items() if value.ndim == 2 and not _pair_of(key, value)]
    if not matrices:
        shapes = ", ".join(f"{key} {value.shape}" for key, value in arrays.items())
        raise InputError(f"{name}: none of its arrays is a matrix of vectors, one per row ({shapes or 'it is empty'}).")
    chosen = _vector_name(matrices, name)
    matrix = _matrix(arrays.pop(chosen), f"{name}, {chosen}")
    columns: dict[str, Any] = {}
    for key, value in arrays.items():
        if pair := _pair_of(key, value):
            # Where the name does not say which number is the latitude, the values may.
            columns.update({key: [*value]} if pair == "position" else dict(zip(pair.split(), value.T, strict=True)))
        elif value.ndim == 1 and len(value) == len(matrix):
            columns[key] = [item.decode() if isinstance(item, bytes) else item for item in value.tolist()]
        elif value.ndim == 1 and plain_name(key) in plain_names(
            "ids imageids names paths latdeg londeg lat lon role split"
        ):
            raise InputError(f"{name}: {key!r} has {len(value)} values, and there are {len(matrix)} vectors.")
    if not columns:
        raise InputError(f"{name}: there are vectors, and no array of their {len(matrix)} ids or positions.")
    frame = pd.DataFrame({key: pd.Series(list(value), dtype=object) for key, value in columns.items()})
    return RawTable(name, "parquet", frame, list(range(1, len(frame) + 1))), matrix


def _pair_of(name: str, array: np.ndarray[Any, Any]) -> str | None:
    if array.ndim != 2 or array.shape[1] != 2:
        return None
    return next((columns for columns, names in _PAIRS.items() if plain_name(name) in names), None)


def _open_frame(raw: RawTable) -> tuple[RawTable, Float32[np.ndarray, "n d"]]:
    vector_columns = [str(name) for name in raw.frame.columns if _is_list(raw.frame[name].iloc[0])]
    if not vector_columns:
        header = listed([str(name) for name in raw.frame.columns])
        raise InputError(f"{raw.name}: none of its columns contains lists of numbers ({header}); give {KINDS}.")
    chosen = _vector_name(vector_columns, raw.name)
    values = raw.frame[chosen].tolist()
    for at, value in enumerate(values):
        if not _is_list(value) or len(value) != len(values[0]):
            length = len(value) if _is_list(value) else "no"
            raise InputError(
                f"{raw.name}, row {raw.rows[at]}, column {chosen!r}: contains {length} numbers, and the first row "
                f"{len(values[0])}; all vectors must come from one model."
            )
    frame = raw.frame.drop(columns=[chosen])
    table = replace(raw, frame=frame.reset_index(drop=True))
    return table, _matrix(np.stack([np.asarray(value) for value in values]), f"{raw.name}, column {chosen!r}")


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple | np.ndarray) and np.ndim(value) == 1


def _matrix(values: np.ndarray[Any, Any], where: str) -> Float32[np.ndarray, "n d"]:
    if values.ndim != 2 or 0 in values.shape:
        raise InputError(f"{where}: has shape {values.shape}; vectors must be a matrix, one per row.")
    if values.dtype.kind not in "fiu":
        raise InputError(f"{where}: has type {values.dtype}, and numbers are needed.")
    return np.ascontiguousarray(values, dtype=np.float32)
