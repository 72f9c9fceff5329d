"""Between a gallery in memory and its entries on disk.

The order of a gallery read from disk depends on its entries alone, not on how they came to be there: candidates by
latitude, longitude and id, photographs by candidate and id. Appending, merging and compacting in whatever order give
the same gallery.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float32, Int64

from swclip.errors import ArtefactError, InputError
from swclip.gallery.assign_candidates import positions_of
from swclip.gallery.hubness import Hubness
from swclip.gallery.schema import DETAILS, Description, entry_schema, matrix, photograph_key, position_key, vectors

if TYPE_CHECKING:
    from swclip.gallery.gallery import Gallery

COLUMNS = (
    "image_id",
    "candidate_id",
    "lat_deg",
    "lon_deg",
    "city",
    "location_embedding",
    "image_embedding",
    "location_hubness",
    "image_hubness",
)
"""The columns that answers need."""

Thumbnails = Callable[[Sequence[str]], list[bytes | None]]
"""JPEG bytes of photographs by id, None for those that cannot be read."""

_DERIVED = ("version", "dim", "counts", "fingerprint")
_BATCH_ROWS = 4096


def description_of(gallery: Gallery) -> Description:
    """What holds for a gallery as a whole."""
    meta = {name: value for name, value in gallery.meta.items() if name not in _DERIVED}
    return Description(str(gallery.meta["fingerprint"]), gallery.dim, gallery.hubness is not None, meta)


def entries_of(
    gallery: Gallery, details: pa.Table | None = None, thumbnails: Thumbnails | None = None
) -> Iterator[pa.RecordBatch]:
    """A gallery's entries: each photograph, and each candidate without one.

    Args:
        gallery: The gallery.
        details: image_id and `DETAILS` of photographs; unknown where None, and of those it has not.
        thumbnails: Makes thumbnails of some photographs; none where None.
    """
    schema = entry_schema(description_of(gallery))
    bare = np.setdiff1d(np.arange(len(gallery)), gallery.image_rows)
    candidate = np.concatenate([gallery.image_rows, bare])
    photograph = np.concatenate([np.arange(len(gallery.image_ids)), np.full(len(bare), -1)]).astype(np.int64)
    order = np.lexsort((photograph, candidate))
    row_of = {} if details is None else {name: row for row, name in enumerate(details["image_id"].to_pylist())}
    for start in range(0, len(order), _BATCH_ROWS):
        rows = order[start : start + _BATCH_ROWS]
        yield _batch(gallery, candidate[rows], photograph[rows], details, row_of, thumbnails, schema)


def _batch(
    gallery: Gallery,
    candidate: Int64[np.ndarray, " n"],
    photograph: Int64[np.ndarray, " n"],
    details: pa.Table | None,
    row_of: Mapping[str, int],
    thumbnails: Thumbnails | None,
    schema: pa.Schema,
) -> pa.RecordBatch:
    there = photograph >= 0
    image_ids = [gallery.image_ids[row] if row >= 0 else None for row in photograph.tolist()]
    candidate_ids = [gallery.candidate_ids[row] for row in candidate.tolist()]
    columns: dict[str, Any] = {
        "entry_id": [
            position_key(own) if image_id is None else photograph_key(image_id)
            for image_id, own in zip(image_ids, candidate_ids, strict=True)
        ],
        "image_id": image_ids,
        "candidate_id": candidate_ids,
        "lat_deg": gallery.positions_deg[candidate, 0],
        "lon_deg": gallery.positions_deg[candidate, 1],
        "city": [gallery.cities[row] for row in candidate.tolist()],
        "location_embedding": vectors(gallery.location_embeddings[candidate]),
        "image_embedding": vectors(_rows(gallery.image_embeddings, photograph, gallery.dim), there),
    }
    if details is not None:
        rows = pa.array([None if name is None else row_of.get(name) for name in image_ids], pa.int64())
        columns.update({name: details[name].take(rows).combine_chunks() for name in DETAILS})
    if gallery.hubness is not None:
        columns["location_hubness"] = gallery.hubness.locations[candidate]
        columns["image_hubness"] = pa.array(
            _rows(gallery.hubness.photographs[:, None], photograph, 1)[:, 0], pa.float32(), mask=~there
        )
    if thumbnails is not None:
        made = iter(thumbnails([name for name in image_ids if name is not None]))
        columns["thumbnail"] = [None if name is None else next(made) for name in image_ids]
    arrays = [
        pa.nulls(len(candidate), own.type) if columns.get(own.name) is None else _array(columns[own.name], own.type)
        for own in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    return values.cast(kind) if isinstance(values, pa.Array) else pa.array(values, kind)


def _rows(values: Float32[np.ndarray, "p d"], rows: Int64[np.ndarray, " n"], width: int) -> Float32[np.ndarray, "n d"]:
    """Rows of a matrix, zeros where the row is -1."""
    found = np.zeros((len(rows), width), dtype=np.float32)
    found[rows >= 0] = values[rows[rows >= 0]]
    return found


def gallery_parts(table: pa.Table, description: Description, name: str) -> dict[str, Any]:
    """What `Gallery` is made of, from its entries.

    Args:
        table: Rows of `COLUMNS`, in any order.
        description: What holds for the gallery as a whole.
        name: What to call the gallery in a message.

    Raises:
        ArtefactError: Entries of one candidate do not agree, or hubness is missing.
        InputError: There are no entries.
    """
    if not len(table):
        raise InputError(f"{name}: no entry meets the conditions.")
    keys = ("lat_deg", "lon_deg", "candidate_id", "image_id")
    order = pc.sort_indices(table.select(keys), sort_keys=[(key, "ascending") for key in keys]).to_numpy()
    sorted_table = table.select(["image_id", "candidate_id", "lat_deg", "lon_deg", "city"]).take(order)
    names = np.asarray(sorted_table["candidate_id"].to_pylist(), dtype=object)
    starts = np.flatnonzero(np.concatenate([[True], names[1:] != names[:-1]]))
    candidate = np.cumsum(np.isin(np.arange(len(names)), starts)) - 1
    if len(starts) != len(set(names[starts].tolist())):
        raise ArtefactError(
            f"{name}: entries of one candidate are at several positions; see: swclip gallery verify {name}"
        )
    image_ids = sorted_table["image_id"].to_pylist()
    photographs = np.flatnonzero(np.array([image_id is not None for image_id in image_ids], dtype=bool))
    first, own = order[starts], order[photographs]
    hubness = None
    if description.hubness:
        hubness = Hubness(_numbers(table["location_hubness"], first, name), _numbers(table["image_hubness"], own, name))
    cities = sorted_table["city"].to_pylist()
    counts = {
        "candidates": len(starts),
        "photographs": len(photographs),
        "cities": len({cities[row] for row in starts.tolist()} - {None}),
    }
    return {
        "candidate_ids": names[starts].tolist(),
        "positions_deg": positions_of(sorted_table)[starts],
        "cities": [cities[row] for row in starts.tolist()],
        "location_embeddings": _taken(table["location_embedding"], first, description.dim),
        "image_embeddings": _taken(table["image_embedding"], own, description.dim),
        "image_rows": candidate[photographs].astype(np.int64),
        "image_ids": [image_ids[row] for row in photographs.tolist()],
        "meta": {
            **description.meta,
            "fingerprint": description.fingerprint,
            "dim": description.dim,
            "counts": counts,
        },
        "hubness": hubness,
    }


def _taken(column: pa.ChunkedArray, rows: Int64[np.ndarray, " m"], dim: int) -> Float32[np.ndarray, "m d"]:
    values = matrix(column, dim)
    # A gallery that was never changed is in order already: a second copy of the embeddings is then spared.
    return values if len(rows) == len(values) and bool((rows == np.arange(len(rows))).all()) else values[rows]


def _numbers(column: pa.ChunkedArray, rows: Int64[np.ndarray, " m"], name: str) -> Float32[np.ndarray, " m"]:
    found = column.take(pa.array(rows))
    if found.null_count:
        raise ArtefactError(f"{name}: {found.null_count} entries have no hubness; see: swclip gallery verify {name}")
    return np.asarray(found, dtype=np.float32)
