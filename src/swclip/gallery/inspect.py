"""Verify every row of a gallery and its model; summarise its contents."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool
from PIL import Image

from swclip.data.attribution import Credit, credits_of
from swclip.gallery.assign_candidates import positions_of
from swclip.gallery.filters import EntryFilter
from swclip.gallery.folder import size_bytes
from swclip.gallery.index_build import index_state
from swclip.gallery.schema import ATTRIBUTION, EMBEDDINGS, PATCHES, attribution_of, matrix, photograph_key, position_key
from swclip.geo.coordinates import valid_positions

if TYPE_CHECKING:
    from swclip.gallery.store import GalleryStore


UNIT_TOLERANCE = 1e-3
"""How far the length of an embedding may be from 1: embeddings may have been computed in half precision."""

NAMED = 5
_CONSISTENT = ("lat_deg", "lon_deg", "city")


@dataclass(frozen=True)
class Fault:
    """Rows with one kind of fault.

    Attributes:
        problem: What is wrong.
        count: Number of rows.
        entries: The first few values of `entry_id`.
    """

    problem: str
    count: int
    entries: list[str]

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.entries) else ""
        named = f": {', '.join(self.entries)}{more}" if self.entries else ""
        return f"{self.count} {'entry' if self.count == 1 else 'entries'} {self.problem}{named}"


def verify(
    store: GalleryStore, fingerprint: str | None = None, progress: Callable[[int, int], None] | None = None
) -> list[Fault]:
    """Verify every row of a gallery.

    Args:
        store: The gallery.
        fingerprint: Fingerprint of the gallery's model, as loaded; None to skip that check.
        progress: Called with (done, total) rows.

    Returns:
        The faults; empty for a sound gallery.

    Raises:
        ArtefactError: The table cannot be read at all.
    """
    faults = _Faults()
    description = store.description
    if fingerprint is not None and fingerprint != description.fingerprint:
        faults.add(
            f"were made by model {description.fingerprint}, and the gallery's model is {fingerprint}",
            [],
            store.count(),
        )
    seen: Counter[str] = Counter()
    leaders: dict[str, tuple[Any, ...]] = {}
    done, total = 0, store.count()
    for batch in store.batches():
        _check_rows(batch, description.hubness, faults)
        seen.update(batch["entry_id"].to_pylist())
        _check_candidates(batch, description.dim, leaders, faults)
        done += len(batch)
        if progress is not None:
            progress(done, total)
    faults.add("have an entry_id that occurs more than once", [key for key, count in seen.items() if count > 1])
    return faults.all()


class _Faults:
    """Faults by problem, with the first rows of each."""

    def __init__(self) -> None:
        self._rows: dict[str, list[str]] = {}
        self._count: Counter[str] = Counter()

    def add(self, problem: str, entries: list[str], count: int | None = None) -> None:
        if entries or count:
            self._count[problem] += len(entries) if count is None else count
            named = self._rows.setdefault(problem, [])
            named.extend(entries[: NAMED - len(named)])

    def where(self, problem: str, keys: list[str], wrong: Bool[np.ndarray, " n"]) -> None:
        self.add(problem, [keys[row] for row in np.flatnonzero(wrong).tolist()])

    def all(self) -> list[Fault]:
        return [Fault(problem, self._count[problem], rows) for problem, rows in self._rows.items()]


def _check_rows(batch: pa.RecordBatch, hubness: bool, faults: _Faults) -> None:
    keys = batch["entry_id"].to_pylist()
    image_ids, candidate_ids = batch["image_id"].to_pylist(), batch["candidate_id"].to_pylist()
    photograph = np.array([image_id is not None for image_id in image_ids], dtype=bool)
    expected = [
        position_key(candidate_id) if image_id is None else photograph_key(image_id)
        for image_id, candidate_id in zip(image_ids, candidate_ids, strict=True)
    ]
    faults.where("have an entry_id of another photograph or position", keys, np.array(keys) != np.array(expected))
    positions = positions_of(batch)
    faults.where(
        "are not at a latitude and longitude in degrees", keys, ~valid_positions(positions[:, 0], positions[:, 1])
    )
    accuracy = np.asarray(batch["accuracy_m"].to_numpy(zero_copy_only=False), dtype=np.float64)
    faults.where("have an accuracy_m that is not positive and finite", keys, (accuracy <= 0.0) | np.isinf(accuracy))
    for name in (name for name in EMBEDDINGS if name in batch.schema.names):
        valid = np.asarray(batch[name].is_valid().to_numpy(zero_copy_only=False), dtype=bool)
        if name != "location_embedding":
            faults.where(f"are photographs without {name}", keys, photograph & ~valid)
            faults.where(f"are positions with an {name}", keys, ~photograph & valid)
        rows = matrix(batch[name], batch[name].type.list_size)
        finite = np.isfinite(rows).all(axis=1)
        faults.where(f"have numbers that are not finite in {name}", keys, valid & ~finite)
        length = np.linalg.norm(np.where(finite[:, None], rows, 0.0).astype(np.float64), axis=1)
        faults.where(
            f"have a {name} of another length than 1", keys, valid & finite & (np.abs(length - 1.0) > UNIT_TOLERANCE)
        )
    if PATCHES in batch.schema.names:
        valid = np.asarray(batch[PATCHES].is_valid().to_numpy(zero_copy_only=False), dtype=bool)
        faults.where("are photographs without patch_features", keys, photograph & ~valid)
    values = np.asarray(batch["image_hubness"].to_numpy(zero_copy_only=False), dtype=np.float64)
    faults.where("have no image_hubness", keys, photograph & ~np.isfinite(values) & hubness)
    faults.where(
        "have a thumbnail that is not a valid image",
        keys,
        np.array([_broken(data) for data in batch["thumbnail"]], dtype=bool),
    )


def _check_candidates(batch: pa.RecordBatch, dim: int, leaders: dict[str, tuple[Any, ...]], faults: _Faults) -> None:
    """Compare each entry with the first entry of its candidate."""
    columns = [batch[name].to_pylist() for name in _CONSISTENT]
    # Only a digest of each embedding is kept: the embeddings of a million candidates would fill the memory.
    embeddings = [hash(row.tobytes()) for row in matrix(batch["location_embedding"], dim)]
    keys, ids = batch["entry_id"].to_pylist(), batch["candidate_id"].to_pylist()
    for key, candidate_id, *values in zip(keys, ids, *columns, embeddings, strict=True):
        leader = leaders.setdefault(candidate_id, tuple(values))
        for name, value, first in zip((*_CONSISTENT, "location_embedding"), values, leader, strict=True):
            if value != first:
                faults.add(f"differ in {name} from another entry of their candidate", [key])


def _broken(thumbnail: pa.Scalar) -> bool:
    if not thumbnail.is_valid:
        return False
    try:
        with Image.open(io.BytesIO(thumbnail.as_py()), formats=["JPEG"]) as picture:
            picture.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return True
    return False


_COLUMNS = (
    "candidate_id",
    "lat_deg",
    "lon_deg",
    "city",
    "image_id",
    "accuracy_m",
    "captured_at",
    "source",
    *ATTRIBUTION,
)


@dataclass(frozen=True)
class GalleryInfo:
    """Figures of a gallery.

    Attributes:
        path: Its folder or URL.
        fingerprint: Of the model that made it.
        dim: Dimension of the embeddings.
        entries: Rows of the table.
        candidates: Positions that an answer may name.
        photographs: Entries with a photograph.
        thumbnails: Entries with a thumbnail.
        cities: Candidates of each city, the largest first; "" for those without one.
        sources: Entries of each source, the largest first.
        licences: Photographs of each licence, the largest first; "" for those that state none.
        authors: Number of different authors of photographs.
        bbox_deg: South, west, north, east; east is below west where the gallery spans the antimeridian.
        captured: First and last time (ISO 8601, UTC), None where no entry has one.
        accuracy_m: Median and 95th percentile of the stated GPS accuracy, None where no entry has one.
        hubness: Whether the photographs' hubness is measured.
        patch_features: Photographs with patch features.
        patch_bytes: Bytes of their patch features, before compression.
        bytes: Size of the whole gallery with its model.
        indices: The entries that each index for searches on disk covers, by column.
        version: Version of the table.
        versions: Number of versions that can still be read.
        meta: Posterior, provenance, photographs that were left out.
    """

    path: str
    fingerprint: str
    dim: int
    entries: int
    candidates: int
    photographs: int
    thumbnails: int
    cities: dict[str, int]
    sources: dict[str, int]
    licences: dict[str, int]
    authors: int
    bbox_deg: tuple[float, float, float, float]
    captured: tuple[str, str] | None
    accuracy_m: tuple[float, float] | None
    hubness: bool
    patch_features: int
    patch_bytes: int
    bytes: int
    indices: dict[str, str]
    version: int
    versions: int
    meta: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The values for JSON."""
        return asdict(self)


def gallery_info(store: GalleryStore) -> GalleryInfo:
    """Summarise a gallery, without reading its embeddings."""
    table = store.read(_COLUMNS)
    _, first = np.unique(np.asarray(table["candidate_id"].to_pylist(), dtype=object).astype(str), return_index=True)
    places = table.take(first)
    times = pc.min_max(table["captured_at"]).as_py()
    accuracy = np.asarray(table["accuracy_m"].drop_null().to_numpy(), dtype=np.float64)
    accuracy = accuracy[np.isfinite(accuracy)]
    versions = store.versions()
    patch_features, patch_bytes = _patches(store)
    photographs = table.filter(table["image_id"].is_valid())
    attribution = attribution_of(photographs)
    return GalleryInfo(
        path=store.path,
        fingerprint=store.description.fingerprint,
        dim=store.description.dim,
        entries=len(table),
        candidates=len(places),
        photographs=len(table) - table["image_id"].null_count,
        thumbnails=len(store.with_thumbnail()),
        cities=_counts(places["city"].to_pylist()),
        sources=_counts(table["source"].to_pylist()),
        licences=_counts(photographs["licence"].to_pylist()),
        authors=0 if attribution is None else len(attribution["author"].drop_null().unique()),
        bbox_deg=_bbox_deg(positions_of(places)),
        captured=None if times["min"] is None else (times["min"].isoformat(), times["max"].isoformat()),
        accuracy_m=(float(np.median(accuracy)), float(np.quantile(accuracy, 0.95))) if len(accuracy) else None,
        hubness=store.description.hubness,
        patch_features=patch_features,
        patch_bytes=patch_bytes,
        bytes=size_bytes(store.path),
        indices=_indices(store),
        version=store.version,
        versions=len(versions),
        meta=dict(store.description.meta),
    )


def photograph_credits(store: GalleryStore) -> list[Credit]:
    """What must be shown with the photographs of a gallery; see `swclip.data.attribution`."""
    photographs = store.read(("image_id", "source", *ATTRIBUTION), EntryFilter(photographs=True)).sort_by("image_id")
    attribution = attribution_of(photographs)
    columns = {} if attribution is None else {name: attribution[name] for name in attribution.column_names}
    table = {name: column.to_pylist() for name, column in (("source", photographs["source"]), *columns.items())}
    return credits_of(pd.DataFrame(table, dtype=object))


def _patches(store: GalleryStore) -> tuple[int, int]:
    """Photographs with patch features, and the bytes of these."""
    if store.description.patches is None:
        return 0, 0
    count = size = 0
    for batch in store.batches([PATCHES]):
        lengths = pc.binary_length(batch[PATCHES]).drop_null()
        count, size = count + len(lengths), size + int(pc.sum(lengths).as_py() or 0)
    return count, size


def _indices(store: GalleryStore) -> dict[str, str]:
    if store.indices is None:
        return {}
    states = {name: index_state(store.indices, store.table, name) for name in EMBEDDINGS if name in store.schema.names}
    return {
        name: f"{indexed:,} embeddings, {later:,} since"
        for name, (indexed, later) in ((name, state) for name, state in states.items() if state is not None)
    }


def _counts(names: list[str | None]) -> dict[str, int]:
    values, counts = np.unique(np.array([name or "" for name in names], dtype=str), return_counts=True)
    order = np.lexsort((values, -counts))
    return {str(values[row]): int(counts[row]) for row in order}


def _bbox_deg(positions: np.ndarray) -> tuple[float, float, float, float]:
    """The smallest box in longitude: it leaves out the widest gap between positions."""
    lat, lon = positions[:, 0], np.sort(positions[:, 1])
    gaps = np.append(np.diff(lon), lon[0] + 360.0 - lon[-1])
    widest = int(gaps.argmax())
    west, east = lon[(widest + 1) % len(lon)], lon[widest]
    return float(lat.min()), float(west), float(lat.max()), float(east)
