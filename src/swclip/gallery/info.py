"""What a gallery holds, in figures."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from swclip.gallery import remote
from swclip.gallery.ann import index_state
from swclip.gallery.assign_candidates import positions_of

if TYPE_CHECKING:
    from swclip.gallery.store import GalleryStore

_COLUMNS = ("candidate_id", "lat_deg", "lon_deg", "city", "image_id", "accuracy_m", "captured_at", "source")


@dataclass(frozen=True)
class GalleryInfo:
    """Figures of a gallery.

    Attributes:
        path: Its folder or URL.
        fingerprint: Of the model that made it.
        dim: Dimension of the embeddings.
        entries: Rows of the table.
        candidates: Places that an answer may name.
        photographs: Entries with a photograph.
        thumbnails: Entries with a thumbnail.
        cities: Candidates of each city, the largest first; "" for those without one.
        sources: Entries of each source, likewise.
        bbox_deg: South, west, north, east; east is below west where the gallery lies across the antimeridian.
        captured: First and last time (ISO 8601, UTC), None where no entry has one.
        accuracy_m: Median and 95th percentile of the stated GPS accuracy, None where no entry has one.
        hubness: Whether it is measured.
        bytes: Size of the whole gallery with its model.
        indices: What each index for searches on disk covers, by column; none where there is none.
        version: Of the table.
        versions: How many versions can still be read.
        meta: What its maker kept: posterior, manifest, photographs that were left out.
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
    bbox_deg: tuple[float, float, float, float]
    captured: tuple[str, str] | None
    accuracy_m: tuple[float, float] | None
    hubness: bool
    bytes: int
    indices: dict[str, str]
    version: int
    versions: int
    meta: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def gallery_info(store: GalleryStore) -> GalleryInfo:
    """Count what a gallery holds; reads its columns, not its embeddings."""
    table = store.read(_COLUMNS)
    _, first = np.unique(np.asarray(table["candidate_id"].to_pylist(), dtype=object).astype(str), return_index=True)
    places = table.take(first)
    times = pc.min_max(table["captured_at"]).as_py()
    accuracy = np.asarray(table["accuracy_m"].drop_null().to_numpy(), dtype=np.float64)
    accuracy = accuracy[np.isfinite(accuracy)]
    versions = store.versions()
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
        bbox_deg=_bbox_deg(positions_of(places)),
        captured=None if times["min"] is None else (times["min"].isoformat(), times["max"].isoformat()),
        accuracy_m=(float(np.median(accuracy)), float(np.quantile(accuracy, 0.95))) if len(accuracy) else None,
        hubness=store.description.hubness,
        bytes=size_bytes(store.path),
        indices=_indices(store),
        version=store.version,
        versions=len(versions),
        meta=dict(store.description.meta),
    )


def _indices(store: GalleryStore) -> dict[str, str]:
    states = {name: index_state(store.table, name) for name in ("location_embedding", "image_embedding")}
    return {
        name: f"{state.kind} over {state.indexed:,} entries, {state.unindexed:,} since"
        for name, state in states.items()
        if state is not None
    }


def _counts(names: list[str | None]) -> dict[str, int]:
    values, counts = np.unique(np.array([name or "" for name in names], dtype=str), return_counts=True)
    order = np.lexsort((values, -counts))
    return {str(values[row]): int(counts[row]) for row in order}


def _bbox_deg(positions: np.ndarray) -> tuple[float, float, float, float]:
    """The box whose longitudes leave out the widest gap between positions."""
    lat, lon = positions[:, 0], np.sort(positions[:, 1])
    gaps = np.append(np.diff(lon), lon[0] + 360.0 - lon[-1])
    widest = int(gaps.argmax())
    west, east = lon[(widest + 1) % len(lon)], lon[widest]
    return float(lat.min()), float(west), float(lat.max()), float(east)


def size_bytes(path: str) -> int:
    """Bytes of everything in a gallery's folder or below its URL."""
    if remote.is_url(path):
        return remote.size_bytes(path)
    return sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())
