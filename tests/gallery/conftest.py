"""Galleries of generated vectors, without a model."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from swclip.gallery.assign_candidates import assign_candidates
from swclip.gallery.schema import Description, entry_schema, vectors
from swclip.gallery.store import GalleryStore

DIM = 12  # ten and more are what lancedb takes for vectors, and it is strict with those
DESCRIPTION = Description("tiny-0", DIM, meta={"posterior": None})


def unit(seed: int, count: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def make_entries(count: int, *, prefix: str = "p", seed: int = 0, bare: bool = False, **columns: Any) -> pa.Table:
    """Entries 100 m apart on a meridian, four to a place; `columns` replace those made here."""
    place = np.arange(count) // (1 if bare else 4)
    embeddings = unit(seed + 1, int(place.max()) + 1 if count else 0)[place]
    made: dict[str, Any] = {
        "entry_id": [""] * count,
        "image_id": [None if bare else f"{prefix}{i:05d}" for i in range(count)],
        "candidate_id": [None] * count,
        "lat_deg": 51.5 + place * 9e-4,
        "lon_deg": np.full(count, -0.1),
        "city": [("York", "Leeds")[i % 2] for i in place],
        "captured_at": [datetime(2020, 1, 1) + timedelta(days=i) for i in range(count)],
        "source": [("panoramax", None)[i % 2] for i in range(count)],
        "location_embedding": vectors(embeddings),
        "image_embedding": vectors(unit(seed + 2, count), np.full(count, not bare)),
        **columns,
    }
    fields = [field.with_nullable(True) for field in entry_schema(DESCRIPTION)]
    arrays = [_array(made.get(field.name), field.type, count) for field in fields]
    return pa.table(arrays, schema=pa.schema(fields))


def _array(values: Any, kind: pa.DataType, count: int) -> pa.Array:
    if values is None:
        return pa.nulls(count, kind)
    return values if isinstance(values, pa.Array) else pa.array(values, kind)


def write_model(folder: Path) -> None:
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")


def make_store(path: str | Path, entries: pa.Table, description: Description = DESCRIPTION) -> GalleryStore:
    schema = entry_schema(description)
    ready = assign_candidates(entries, schema.empty_table()).cast(schema)
    return GalleryStore.create(path, description, ready.to_batches(), write_model)


@pytest.fixture
def store(tmp_path: Path) -> GalleryStore:
    """Forty photographs at ten places."""
    return make_store(tmp_path / "gallery", make_entries(40))


@pytest.fixture
def ids() -> Callable[[GalleryStore], list[str]]:
    return lambda store: sorted(store.read(["entry_id"])["entry_id"].to_pylist())
