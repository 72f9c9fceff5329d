"""Assign new entries to candidates: to the gallery's candidate at their position, or to a new one.

Two positions are the same where they agree after rounding to 1e-7 degrees, about a centimetre. A new candidate without
a name is named by its position, so that two processes that add the same position give it the same name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float64, Int64

from swclip.data.grouping import STEPS_PER_DEG, position_name, position_steps
from swclip.errors import InputError
from swclip.gallery.filters import box_sql, is_in
from swclip.gallery.schema import EMBEDDINGS, matrix, photograph_key, position_key

SHARED = ("candidate_id", "lat_deg", "lon_deg", "city", "location_embedding")
"""Columns that entries of one candidate share."""


MAX_IDS_IN_SQL = 20_000
"""With more ids than this, reading a whole column is faster than a predicate that lists them."""

Scan = Callable[[Sequence[str], str | None], pa.Table]
"""Reads columns of a gallery's table where a predicate in SQL holds, None for all rows."""


def assign_to_table(entries: pa.Table, scan: Scan, *, replacing: bool = False) -> pa.Table:
    """Assign entries to the candidates of a table; see `assign_candidates`.

    Entries that are to be replaced do not count: a candidate all of whose photographs are replaced takes the new
    entries' city and embedding, and keeps its id.

    Args:
        entries: Rows of a gallery's columns; candidate_id may be null.
        scan: Reads the table.
        replacing: The entries replace those of the same photographs.
    """
    positions = positions_of(entries)
    box = box_sql(*positions.min(axis=0).tolist(), *positions.max(axis=0).tolist())
    nearby = scan(["candidate_id", "lat_deg", "lon_deg", "image_id"], box)
    nearby = nearby.filter(pa.array(np.isin(position_keys(positions_of(nearby)), position_keys(positions))))
    ids_here = set(nearby["candidate_id"].to_pylist())
    replaced: set[str] = set()
    if replacing:
        replaced = set(entries["image_id"].drop_null().to_pylist())
        outgoing = holding(nearby, replaced)
        entries = renamed(entries, nearby.filter(outgoing))
        nearby = nearby.filter(pc.invert(outgoing))
    ids = sorted(set(nearby["candidate_id"].to_pylist()))
    candidates = scan([*SHARED, "image_id"], is_in("candidate_id", ids) if len(ids) <= MAX_IDS_IN_SQL else box)
    if replacing:
        candidates = candidates.filter(pc.invert(holding(candidates, replaced)))
    new_ids = sorted({name for name in entries["candidate_id"].to_pylist() if name is not None} - ids_here)
    same_ids = scan(["candidate_id"], is_in("candidate_id", new_ids) if len(new_ids) <= MAX_IDS_IN_SQL else None)
    return assign_candidates(entries, candidates, set(same_ids["candidate_id"].to_pylist()) - ids_here)


def assign_candidates(entries: pa.Table, candidates: pa.Table, used_ids: Collection[str] = ()) -> pa.Table:
    """Set the candidate and the key of each entry.

    Args:
        entries: Rows of a gallery's columns; candidate_id may be null.
        candidates: `SHARED` of the gallery's candidates at these positions; candidates elsewhere are ignored.
        used_ids: Candidate ids that the gallery uses at other positions: an entry with one of them is renamed.

    Returns:
        The entries with `SHARED` of their candidate. A position without a photograph is left out where the gallery has
        the candidate already, or where it is repeated.
    """
    names = entries["candidate_id"].to_pylist()
    steps = position_steps(positions_of(entries))
    groups, first, which = np.unique(position_keys(positions_of(entries)), return_index=True, return_inverse=True)
    candidates = candidates.select(list(SHARED)).sort_by("candidate_id")
    # Backwards: of several candidates at one position the first by name is taken.
    row_of = {key: row for row, key in reversed(list(enumerate(position_keys(positions_of(candidates)).tolist())))}
    leader = np.empty(len(groups), dtype=np.int64)
    new_ids: list[str | None] = [None] * len(groups)
    for group, key in enumerate(groups.tolist()):
        row = row_of.get(key)
        leader[group] = len(candidates) + first[group] if row is None else row
        if row is None:
            name = names[first[group]]
            unusable = name is None or name in used_ids
            new_ids[group] = position_name(*steps[first[group]].tolist()) if unusable else name
    both = pa.concat_tables([candidates, _with_text_ids(entries.select(list(SHARED))).cast(candidates.schema)])
    shared = both.take(leader[which])
    old_ids = shared["candidate_id"].to_pylist()
    ids = [old_ids[row] if new_ids[group] is None else new_ids[group] for row, group in enumerate(which.tolist())]
    shared = shared.set_column(0, "candidate_id", pa.array(ids, pa.string()))
    for name in SHARED:
        at = entries.schema.get_field_index(name)
        entries = entries.set_column(at, entries.schema.field(at), shared[name])
    return _with_keys(entries, [new_ids[group] is not None for group in which.tolist()])


def renamed(entries: pa.Table, outgoing: pa.Table) -> pa.Table:
    """Entries with the candidate ids of the entries that they replace at the same position.

    Args:
        entries: Rows of a gallery's columns.
        outgoing: candidate_id, lat_deg, lon_deg of the entries that are replaced.
    """
    keys_out = position_keys(positions_of(outgoing)).tolist()
    id_at = dict(zip(keys_out, outgoing["candidate_id"].to_pylist(), strict=True))
    keys = position_keys(positions_of(entries)).tolist()
    ids = [id_at.get(key, old_id) for key, old_id in zip(keys, entries["candidate_id"].to_pylist(), strict=True)]
    at = entries.schema.get_field_index("candidate_id")
    return entries.set_column(at, "candidate_id", pa.array(ids, pa.string()))


def _with_text_ids(shared: pa.Table) -> pa.Table:
    """Null ids as empty texts, since the column of a gallery is not nullable; the final ids are set afterwards."""
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
"""How lancedb treats null vectors, which it takes for bad ones from ten dimensions on. It would make vectors that are
not numbers null too: `check_finite` refuses them before."""

_NAMED = 3


def check_unique(entries: pa.Table, name: str) -> None:
    """Raise InputError where a photograph occurs twice."""
    counts = pc.value_counts(entries["image_id"].drop_null())
    twice = [count["values"] for count in counts.to_pylist() if count["counts"] > 1]
    if twice:
        raise InputError(f"{name}: {naming(twice)} given twice; ids must be unique.")


def check_finite(entries: pa.Table | pa.RecordBatch, name: str) -> None:
    """Raise InputError where an embedding is not finite."""
    for column in (name for name in EMBEDDINGS if name in entries.schema.names):
        values = entries[column]
        bad = np.asarray(values.is_valid()) & ~np.isfinite(matrix(values, values.type.list_size)).all(axis=1)
        if bad.any():
            keys = [entries["entry_id"][row].as_py() or f"row {row}" for row in np.flatnonzero(bad)[:_NAMED].tolist()]
            raise InputError(
                f"{name}: {column} of {', '.join(keys)} ({int(bad.sum())} in all) has values that are not finite; "
                "the model's training diverged, train it again."
            )


def holding(table: pa.Table, image_ids: Collection[str]) -> pa.Array:
    """Whether each row is of one of these photographs."""
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
