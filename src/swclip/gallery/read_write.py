"""Read and write galleries: between a gallery in memory and its entries on disk.

The order of a gallery read from disk depends on its entries alone, not on the history of the table: candidates by
latitude, longitude and id, photographs by candidate and id. Appending, merging and compacting in any order give the
same gallery.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float32, Int64

from swclip.calibration.conformal import Calibration, write_calibration
from swclip.errors import ArtefactError, InputError
from swclip.gallery.assign_candidates import positions_of
from swclip.gallery.filters import EntryFilter
from swclip.gallery.gallery import Gallery
from swclip.gallery.hubness import Bank, write_bank
from swclip.gallery.patches import PatchSource, PatchTable
from swclip.gallery.schema import (
    ATTRIBUTION,
    DETAILS,
    PATCHES,
    Description,
    attribution_of,
    entry_schema,
    matrix,
    photograph_key,
    position_key,
    vectors,
)
from swclip.gallery.store import GalleryStore
from swclip.models.patches import patches_to_bytes

if TYPE_CHECKING:
    from swclip.models.locator_model import LocatorModel

COLUMNS = (
    "image_id",
    "candidate_id",
    "lat_deg",
    "lon_deg",
    "city",
    "location_embedding",
    "image_embedding",
    "image_hubness",
    *ATTRIBUTION,
)
"""The columns that answers need, beside whitened features."""

Thumbnails = Callable[[Sequence[str]], list[bytes | None]]
"""JPEG bytes of photographs by id, None for those that cannot be read."""

_DERIVED = ("version", "dim", "counts", "fingerprint")
_BATCH_ROWS = 4096  # with patch features about 64 MB


def load_gallery(path: str | os.PathLike[str], where: EntryFilter | None = None) -> Gallery:
    """Read a gallery's positions and embeddings into memory (not its model).

    Args:
        path: The gallery's folder or URL.
        where: Read only these entries.

    Returns:
        The gallery, candidates ordered by latitude, longitude and id, photographs by candidate and id.

    Raises:
        ArtefactError: Something is missing, damaged, of another version, or entries of one candidate contradict.
        InputError: No entry meets the conditions.
    """
    return gallery_of(GalleryStore.open(path), where)


def gallery_of(store: GalleryStore, where: EntryFilter | None = None) -> Gallery:
    """Read an open store into memory; see `load_gallery`."""
    columns = (*COLUMNS, "image_whitened") if store.description.whitened else COLUMNS
    gallery = gallery_from_table(store.read(columns, where), store.description, store.path)
    return replace(gallery, verifier=PatchTable.of_store(store))


def save_gallery(
    gallery: Gallery,
    path: str | os.PathLike[str],
    model: LocatorModel,
    calibration: Calibration | None = None,
    *,
    bank: Bank | None = None,
    details: pa.Table | None = None,
    thumbnails: Thumbnails | None = None,
) -> None:
    """Write a self-contained gallery: a table of entries and its model.

    Args:
        gallery: The gallery.
        path: Its folder, where an existing gallery is replaced whole; or an object store's URL.
        model: The model that made the embeddings.
        calibration: Calibration of the model's regions, for model/regions.json; None for uncalibrated regions.
        bank: The photographs that hubness was measured with, for model/bank.safetensors: appending entries needs them.
        details: Metadata of the photographs, from `swclip.gallery.schema.manifest_details`. A gallery in memory does
            not carry it: to change a gallery on disk, use `swclip.gallery.store.GalleryStore`.
        thumbnails: Makes thumbnails of photographs by id, stored with them.

    Raises:
        MismatchError: Another model made the gallery.
        DiskFullError: The disk is full; an existing gallery is unchanged.
        InputError: The folder exists and is not a gallery, or cannot be written.
    """
    gallery.check_model(model.fingerprint, "the model to be saved with it", os.fspath(path))
    write_files = partial(write_model, model, calibration, bank)
    GalleryStore.create(path, description_of(gallery), entries_of(gallery, details, thumbnails), write_files)


def write_model(model: LocatorModel, calibration: Calibration | None, bank: Bank | None, folder: Path) -> None:
    """Write the model of a gallery, with its calibration and bank of queries, as `model/` in a folder."""
    model.save(folder / "model")
    if calibration is not None:
        write_calibration(folder / "model", calibration)
    if bank is not None:
        write_bank(folder / "model", bank)


def description_of(gallery: Gallery) -> Description:
    """The description to keep with a gallery's table."""
    meta = {name: value for name, value in gallery.meta.items() if name not in _DERIVED}
    whitened = 0 if gallery.image_whitened is None else gallery.image_whitened.shape[1]
    source = gallery.verifier
    patches = None
    if isinstance(source, PatchSource):
        patches = {"fingerprint": source.fingerprint, "dimensions": source.dimensions}
    hubness = gallery.image_hubness is not None
    return Description(str(gallery.meta["fingerprint"]), gallery.dim, hubness, whitened, meta, patches)


def entries_of(
    gallery: Gallery, details: pa.Table | None = None, thumbnails: Thumbnails | None = None
) -> Iterator[pa.RecordBatch]:
    """A gallery's entries: each photograph, and each candidate without one.

    Args:
        gallery: The gallery.
        details: image_id and `DETAILS` of photographs; null for those that are missing in it.
        thumbnails: Makes thumbnails; None for none.
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
    """Entries as one batch; `photograph` is -1 for a candidate without one."""
    has_photograph = photograph >= 0
    image_ids = [gallery.image_ids[row] if row >= 0 else None for row in photograph.tolist()]
    candidate_ids = [gallery.candidate_ids[row] for row in candidate.tolist()]
    columns: dict[str, Any] = {
        "entry_id": [
            position_key(candidate_id) if image_id is None else photograph_key(image_id)
            for image_id, candidate_id in zip(image_ids, candidate_ids, strict=True)
        ],
        "image_id": image_ids,
        "candidate_id": candidate_ids,
        "lat_deg": gallery.positions_deg[candidate, 0],
        "lon_deg": gallery.positions_deg[candidate, 1],
        "city": [gallery.cities[row] for row in candidate.tolist()],
        "location_embedding": vectors(gallery.location_embeddings[candidate]),
        "image_embedding": vectors(_rows(gallery.image_embeddings, photograph, gallery.dim), has_photograph),
    }
    if details is not None:
        rows = pa.array([None if name is None else row_of.get(name) for name in image_ids], pa.int64())
        columns.update({name: details[name].take(rows).combine_chunks() for name in DETAILS})
    if gallery.image_hubness is not None:
        hubness = _rows(gallery.image_hubness[:, None], photograph, 1)[:, 0]
        columns["image_hubness"] = pa.array(hubness, pa.float32(), mask=~has_photograph)
    if gallery.image_whitened is not None:
        rows = _rows(gallery.image_whitened, photograph, gallery.image_whitened.shape[1])
        columns["image_whitened"] = vectors(rows, has_photograph, np.float16)
    if isinstance(gallery.verifier, PatchSource):
        patches = iter(gallery.verifier.take([name for name in image_ids if name is not None]))
        present = (None if name is None else next(patches) for name in image_ids)
        columns[PATCHES] = [None if values is None else patches_to_bytes(values) for values in present]
    if thumbnails is not None:
        pictures = iter(thumbnails([name for name in image_ids if name is not None]))
        columns["thumbnail"] = [None if name is None else next(pictures) for name in image_ids]
    arrays = [
        pa.nulls(len(candidate), field.type)
        if columns.get(field.name) is None
        else _array(columns[field.name], field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    return values.cast(kind) if isinstance(values, pa.Array) else pa.array(values, kind)


def _rows(values: Float32[np.ndarray, "p d"], rows: Int64[np.ndarray, " n"], width: int) -> Float32[np.ndarray, "n d"]:
    """Rows of a matrix, zeros where the row is -1."""
    taken = np.zeros((len(rows), width), dtype=np.float32)
    taken[rows >= 0] = values[rows[rows >= 0]]
    return taken


def gallery_from_table(table: pa.Table, description: Description, name: str) -> Gallery:
    """Put a gallery together from its entries.

    Args:
        table: Rows of `COLUMNS`, and of `image_whitened` where the description has it, in any order.
        description: The table's description.
        name: The gallery's name in messages.

    Raises:
        ArtefactError: Entries of one candidate contradict, or hubness is missing.
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
    candidate_entries, photograph_entries = order[starts], order[photographs]
    cities = sorted_table["city"].to_pylist()
    counts = {
        "candidates": len(starts),
        "photographs": len(photographs),
        "cities": len({cities[row] for row in starts.tolist()} - {None}),
    }
    return Gallery(
        candidate_ids=names[starts].tolist(),
        positions_deg=positions_of(sorted_table)[starts],
        cities=[cities[row] for row in starts.tolist()],
        location_embeddings=_taken(table["location_embedding"], candidate_entries, description.dim),
        image_embeddings=_taken(table["image_embedding"], photograph_entries, description.dim),
        image_rows=candidate[photographs].astype(np.int64),
        image_ids=[image_ids[row] for row in photographs.tolist()],
        meta={**description.meta, "fingerprint": description.fingerprint, "dim": description.dim, "counts": counts},
        image_hubness=_hubness(table["image_hubness"], photograph_entries, name) if description.hubness else None,
        image_whitened=(
            _taken(table["image_whitened"], photograph_entries, description.whitened) if description.whitened else None
        ),
        image_attribution=attribution_of(table.select(ATTRIBUTION).take(photograph_entries)),
    )


def _taken(column: pa.ChunkedArray, rows: Int64[np.ndarray, " m"], dim: int) -> Float32[np.ndarray, "m d"]:
    values = matrix(column, dim)
    # A gallery that was never changed is already in order, which saves a second copy of the embeddings.
    return values if len(rows) == len(values) and bool((rows == np.arange(len(rows))).all()) else values[rows]


def _hubness(column: pa.ChunkedArray, rows: Int64[np.ndarray, " p"], name: str) -> Float32[np.ndarray, " p"]:
    values = column.take(pa.array(rows))
    if values.null_count:
        raise ArtefactError(f"{name}: {values.null_count} entries have no hubness; see: swclip gallery verify {name}")
    return np.asarray(values, dtype=np.float32)
