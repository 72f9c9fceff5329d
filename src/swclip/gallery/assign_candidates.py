"""Where new entries belong: at a candidate that the gallery has at their position, or at a new one.

Two positions are one where they agree after rounding to 1e-7 degrees, about a centimetre. A new candidate without a
name of its own is named by its position, so that two processes that meet at one place name it alike.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float64, Int64

from swclip.data.grouping import STEPS_PER_DEG, position_name, position_steps
from swclip.errors import InputError
from swclip.gallery.schema import matrix, photograph_key, position_key

SHARED = ("candidate_id", "lat_deg", "lon_deg", "city", "location_embedding", "location_hubness")
"""Columns that entries of one candidate share."""


def settle(entries: pa.Table, known: pa.Table, taken: Collection[str] = ()) -> pa.Table:
    """Give entries their candidates and their keys.

    Args:
        entries: Rows of a gallery's columns; candidate_id may be null.
        known: `SHARED` of the gallery's candidates at these positions; others may be among them.
        taken: Candidate ids that the gallery has at other positions: an entry that brings one is renamed.

    Returns:
        The entries with `SHARED` of the candidate they are at. A position without photograph is left out where the
        gallery has the candidate already, or where it is there twice.
    """
    names = entries["candidate_id"].to_pylist()
    steps = position_steps(positions_of(entries))
    groups, first, which = np.unique(position_keys(positions_of(entries)), return_index=True, return_inverse=True)
    known = known.select(list(SHARED)).sort_by("candidate_id")
    # Backwards: of several candidates at one position the first by name is taken.
    row_of = {key: row for row, key in reversed(list(enumerate(position_keys(positions_of(known)).tolist())))}
    leader = np.empty(len(groups), dtype=np.int64)
    own: list[str | None] = [None] * len(groups)  # the names of new candidates
    for group, key in enumerate(groups.tolist()):
        row = row_of.get(key)
        leader[group] = len(known) + first[group] if row is None else row
        if row is None:
            name = names[first[group]]
            own[group] = position_name(*steps[first[group]].tolist()) if name is None or name in taken else name
    both = pa.concat_tables([known, _named(entries.select(list(SHARED))).cast(known.schema)])
    shared = both.take(leader[which])
    found = shared["candidate_id"].to_pylist()
    ids = [found[row] if own[group] is None else own[group] for row, group in enumerate(which.tolist())]
    shared = shared.set_column(0, "candidate_id", pa.array(ids, pa.string()))
    for name in SHARED:
        at = entries.schema.get_field_index(name)
        entries = entries.set_column(at, entries.schema.field(at), shared[name])
    return _with_keys(entries, [own[group] is not None for group in which.tolist()])


def renamed(entries: pa.Table, going: pa.Table) -> pa.Table:
    """Entries with the candidates' names of entries at the same position that they replace.

    Args:
        entries: Rows of a gallery's columns.
        going: candidate_id, lat_deg, lon_deg of the entries that are replaced.
    """
    name_of = dict(zip(position_keys(positions_of(going)).tolist(), going["candidate_id"].to_pylist(), strict=True))
    keys = position_keys(positions_of(entries)).tolist()
    ids = [name_of.get(key, own) for key, own in zip(keys, entries["candidate_id"].to_pylist(), strict=True)]
    at = entries.schema.get_field_index("candidate_id")
    return entries.set_column(at, "candidate_id", pa.array(ids, pa.string()))


def _named(shared: pa.Table) -> pa.Table:
    """Ids that are null as empty texts, which the columns of a gallery may hold; they are set right afterwards."""
    at = shared.schema.get_field_index("candidate_id")
    return shared.set_column(at, "candidate_id", pc.fill_null(shared["candidate_id"].cast(pa.string()), ""))


def _with_keys(entries: pa.Table, is_new: Sequence[bool]) -> pa.Table:
    photographs = entries["image_id"].to_pylist()
    candidates = entries["candidate_id"].to_pylist()
    keys: list[str] = []
    kept: list[int] = []
    seen: set[str] = set()
    for row, (image_id, candidate_id) in enumerate(zip(photographs, candidates, strict=True)):
        key = position_key(candidate_id) if image_id is None else photograph_key(image_id)
        if image_id is None and (not is_new[row] or key in seen):
            continue
        seen.add(key)
        keys.append(key)
        kept.append(row)
    entries = entries.take(pa.array(kept, pa.int64())) if len(kept) < len(photographs) else entries
    at = entries.schema.get_field_index("entry_id")
    return entries.set_column(at, entries.schema.field(at), pa.array(keys, pa.string()))


def position_keys(positions_deg: Float64[np.ndarray, "n 2"]) -> Int64[np.ndarray, " n"]:
    """(N,) one number a position, equal where two are one position."""
    steps = position_steps(positions_deg)
    return np.asarray(
        (steps[:, 0] + 90 * STEPS_PER_DEG) * (360 * STEPS_PER_DEG + 1) + steps[:, 1] + 180 * STEPS_PER_DEG
    )


def positions_of(table: pa.Table) -> Float64[np.ndarray, "n 2"]:
    """(N, 2) latitude, longitude in degrees of a table's rows."""
    return np.stack([np.asarray(pc.cast(table[name], pa.float64())) for name in ("lat_deg", "lon_deg")], axis=1)


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
