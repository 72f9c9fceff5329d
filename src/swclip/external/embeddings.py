"""Reading embeddings of another tool: vectors with ids, positions and roles, from one file or a frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64

from swclip.external.prediction_columns import (COMMON, BridgeTable, Synonyms, find_roles, flag, need, words)
from swclip.external.files import Source, open_vectors
from swclip.ingest.vpr_names import (PlaceNameError, is_vpr_name, parse_name, projected_to_deg)
from swclip.errors import ConfigError, InputError

ROLES: Synonyms = {
    **COMMON,
    "easting": (words("easting eastingm utmeasting utmeast utme east"), ()),
    "northing": (words("northing northingm utmnorthing utmnorth utmn north"), ()),
    "role": (words("role split subset part"), ()),
}
"""The roles of the columns beside the vectors."""

_ROLE_WORDS = {
    "query": ("query", "queries", "q", "test"),
    "gallery": ("gallery", "database", "db", "train", "training", "reference", "map"),
    "val": ("val", "validation", "valid", "dev"),
}
_ROLE_OF = {word: role for role, spoken in _ROLE_WORDS.items() for word in spoken}


@dataclass(frozen=True)
class VectorSet:
    """Photographs (or places) as another tool sees them.

    Attributes:
        name: The file, for messages and the record.
        ids: N ids, each once in its role.
        vectors: (N, D) float32, finite, as they were written.
        positions_deg: (N, 2) latitude, longitude, degrees; None where only the ids are to be used.
        roles: N of query, gallery and val.
        cities: N names, None where unknown.
        places: N place ids, likewise.
        blocks: N blocks, likewise.
        rows: What each row is called.
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
    """Read vectors and what stands beside them.

    Args:
        source: .npz; Parquet with a column of lists; .npy or .safetensors with a table of the same name beside it; a
            data frame with a column of vectors; or a mapping of arrays.
        role: The role of all rows: query or gallery. Where None a column says it.
        crs: Projection of the columns easting and northing, or of file names without a UTM zone.
        columns: {role: column} for columns whose names do not say what they hold; see `ROLES`.
        with_positions: Whether positions and roles are needed; without, the ids are matched with a manifest.

    Returns:
        The vectors. Positions come from latitude and longitude, else from easting and northing, else from ids in the
        form @easting@northing@...

    Raises:
        InputError: Something is missing, does not fit together, is no finite number, or repeats.
        ConfigError: The projection is not known, or is needed and was not given.
    """
    raw, vectors = open_vectors(source)
    table = find_roles(raw, ROLES, columns)
    need(table, ["image_id"], "")
    ids = [name if name is not None else _no_id(table, at) for at, name in enumerate(table.texts("image_id"))]
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


def check_dimensions(one: VectorSet, other: VectorSet) -> None:
    """Raise InputError unless both have vectors of one dimension."""
    if one.vectors.shape[1] != other.vectors.shape[1]:
        raise InputError(
            f"{one.name} holds vectors of {one.vectors.shape[1]} dimensions and {other.name} of "
            f"{other.vectors.shape[1]}: they come from different models; embed both with one."
        )


def _no_id(table: BridgeTable, at: int) -> str:
    raise InputError(f"{table.where(at, 'image_id')}: the id is empty; every vector needs one.")


def _check_vectors(table: BridgeTable, vectors: Float32[np.ndarray, "n d"], ids: list[str]) -> None:
    bad = ~np.isfinite(vectors).all(axis=1)
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"{table.where(at)}: the vector of {ids[at]!r} holds NaN or infinity ({int(bad.sum())} of {len(ids)} do); "
            "embed these photographs again."
        )


def _roles(table: BridgeTable, role: str | None) -> list[str]:
    spoken = table.texts("role")
    if "role" not in table.columns:
        if role is None:
            raise InputError(
                f"{table.raw.name}: nothing says which rows are queries and which the gallery; add a column `role` "
                f"(query, gallery, val), name it with {flag('role')}COLUMN, or give two files."
            )
        return [role] * len(spoken)
    found = []
    for at, word in enumerate(spoken):
        known = _ROLE_OF.get((word or "").lower())
        if known is None:
            allowed = "; ".join(f"{name}: {', '.join(also)}" for name, also in _ROLE_WORDS.items())
            raise InputError(f"{table.where(at, 'role')}: {word!r} is no role; write one of ({allowed}).")
        if role == "gallery" and known != "gallery":
            raise InputError(f"{table.where(at, 'role')}: {word!r} stands in the gallery's file; move the row.")
        found.append(known)
    return found


def _check_ids(table: BridgeTable, ids: list[str], roles: list[str]) -> None:
    first: dict[tuple[str, str], int] = {}
    for at, key in enumerate(zip(roles, ids, strict=True)):
        if key in first:
            raise InputError(
                f"{table.where(at, 'image_id')}: {ids[at]!r} is there twice (row {table.raw.rows[first[key]]}); ids "
                "must be unique, write for example the whole path."
            )
        first[key] = at


def _positions(table: BridgeTable, ids: list[str], crs: str | None) -> Float64[np.ndarray, "n 2"]:
    found = np.full((len(ids), 2), np.nan)
    if "lat" in table.columns and "lon" in table.columns:
        found = table.positions("lat", "lon", "position")
    elif "easting" in table.columns and "northing" in table.columns:
        if crs is None:
            raise ConfigError(
                f"{table.raw.name}: {table.columns['easting']!r} and {table.columns['northing']!r} are metres of a "
                "projection; say which, for example --crs EPSG:32650."
            )
        found = projected_to_deg(table.numbers("easting"), table.numbers("northing"), crs)
    elif all(is_vpr_name(Path(name).name) for name in ids):
        found = np.array([_of_name(table, at, name, crs) for at, name in enumerate(ids)])
    else:
        need(table, ["lat", "lon"], ", or easting and northing with --crs, or ids in the form @easting@northing@...")
    missing = ~np.isfinite(found).all(axis=1)
    if missing.any():
        at = int(np.flatnonzero(missing)[0])
        raise InputError(f"{table.where(at)}: {ids[at]!r} has no position on Earth; every vector needs one.")
    return found


def _of_name(table: BridgeTable, at: int, name: str, crs: str | None) -> tuple[float, float]:
    try:
        place = parse_name(Path(name).name, crs)
    except PlaceNameError as error:
        raise InputError(f"{table.where(at, 'image_id')}: {name!r}: {error.detail}") from error
    return place.lat_deg, place.lon_deg
