"""Entries as they are given to a gallery: that none comes twice and all are numbers, and how messages name them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from swclip.errors import InputError
from swclip.gallery.schema import matrix

NULL_STAYS: Literal["null"] = "null"
"""What lancedb is told about null vectors, which it takes for bad ones where there are ten numbers or more. It would
make those that are not numbers null too: `check_finite` refuses them before."""

_NAMED = 3


def check_unique(entries: pa.Table, name: str) -> None:
    """Raise InputError where a photograph is given twice."""
    counts = pc.value_counts(entries["image_id"].drop_null())
    twice = [one["values"] for one in counts.to_pylist() if one["counts"] > 1]
    if twice:
        raise InputError(f"{name}: {naming(twice)} given twice; ids must be unique.")


def check_finite(entries: pa.Table | pa.RecordBatch, name: str) -> None:
    """Raise InputError where an embedding holds what is not a number."""
    for column in ("location_embedding", "image_embedding"):
        own = entries[column]
        there = np.asarray(own.is_valid())
        bad = there & ~np.isfinite(matrix(own, own.type.list_size)).all(axis=1)
        if bad.any():
            keys = [entries["entry_id"][row].as_py() or f"row {row}" for row in np.flatnonzero(bad)[:_NAMED].tolist()]
            raise InputError(
                f"{name}: {column} of {', '.join(keys)} ({int(bad.sum())} in all) is not all numbers; the model's "
                "training diverged, train it again."
            )


def holding(table: pa.Table, image_ids: Collection[str]) -> pa.Array:
    """Which rows are of one of these photographs."""
    return pa.array([image_id in image_ids for image_id in table["image_id"].to_pylist()], pa.bool_())


def naming(ids: Sequence[str]) -> str:
    """Ids as the subject of a message, the first few by name.

    Example:
        >>> naming(["a"]), naming(["a", "b", "c", "d"])
        ("photograph 'a' is", "photographs 'a', 'b', 'c' and 1 more are")
    """
    shown = ", ".join(repr(image_id) for image_id in ids[:_NAMED])
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return f"photograph {shown} is" if len(ids) == 1 else f"photographs {shown}{more} are"
