"""Embeddings in a Lance table: an exact search that reads all of them, and rows by id.

Rows are named by Lance's row ids, which are valid for one version of a table: check the table out at a version before
keeping them. Behaviour of Lance, measured with lancedb 0.40 and checked by the tests: rows without a vector are never
returned; a changed row has a new id, which no other row had before; `take_row_ids` returns rows in an arbitrary order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float32, Int64

from swclip.errors import ConfigError, InputError, MismatchError

if TYPE_CHECKING:
    from lancedb.table import Table

ROW_ID = "_rowid"
NOTHING = -1
"""The row id where a table holds fewer vectors than requested."""

_BATCH_ROWS = 8192


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The most similar rows of each query, best first.

    Attributes:
        row_ids: (Q, k) Lance's row ids; `NOTHING` where there are fewer vectors.
        similarities: (Q, k) inner products; -inf where there are fewer vectors.
    """

    row_ids: Int64[np.ndarray, "q k"]
    similarities: Float32[np.ndarray, "q k"]


def exact_search(
    table: Table, column: str, queries: Float32[np.ndarray, "q d"], k: int, where: str | None = None
) -> Neighbours:
    """Find the rows most similar to each query by comparing all rows; the table is read once for all queries.

    It is read in batches, so that it need not fit into memory.

    Args:
        table: The table.
        column: A column of unit vectors.
        queries: (Q, D).
        k: Number of rows.
        where: A predicate in SQL that rows must meet.

    Raises:
        ConfigError: k is below 1.
        InputError: The table has no such column of vectors.
        MismatchError: The queries have another dimension.

    Example:
        ```python
        neighbours = exact_search(table, "image_embedding", queries, 10, where="city = 'Leeds'")
        rows = take(table, neighbours.row_ids[0], ["image_id", "lat_deg", "lon_deg"])
        ```
    """
    queries = _checked(table, column, queries, k)
    ids = np.full((len(queries), k), NOTHING, dtype=np.int64)
    similarities = np.full((len(queries), k), -np.inf, dtype=np.float32)
    for row_ids, vectors in vector_batches(table, column, where):
        both = np.concatenate([similarities, queries @ vectors.T], axis=1)
        both_ids = np.concatenate([ids, np.broadcast_to(row_ids, (len(queries), len(row_ids)))], axis=1)
        best = np.argpartition(-both, k - 1, axis=1)[:, :k]
        similarities, ids = np.take_along_axis(both, best, axis=1), np.take_along_axis(both_ids, best, axis=1)
    order = np.lexsort((ids, -similarities), axis=1)
    return Neighbours(np.take_along_axis(ids, order, axis=1), np.take_along_axis(similarities, order, axis=1))


def row_ids_of(table: Table, column: str) -> Int64[np.ndarray, " r"]:
    """Row ids of all rows with a vector, increasing."""
    dimension(table, column)
    query = table.search().where(_not_null(column)).select({"present": "true"})
    return np.sort(query.with_row_id(True).to_arrow()[ROW_ID].to_numpy().astype(np.int64))


def positions_in(
    increasing: Int64[np.ndarray, " n"], row_ids: Int64[np.ndarray, "*s"]
) -> tuple[Int64[np.ndarray, "*s"], Bool[np.ndarray, "*s"]]:
    """Where row ids are in an increasing array of ids, and whether they are: positions mean nothing where they are not.

    np.isin would sort both together, which takes 17 s of ten million ids instead of 0.3 s where they are in order.
    """
    if not len(increasing):
        return np.zeros(row_ids.shape, dtype=np.int64), np.zeros(row_ids.shape, dtype=bool)
    at = np.minimum(np.searchsorted(increasing, row_ids), len(increasing) - 1)
    return at, increasing[at] == row_ids


def vector_batches(
    table: Table, column: str, where: str | None = None
) -> Iterator[tuple[Int64[np.ndarray, " b"], Float32[np.ndarray, "b d"]]]:
    """Row ids and vectors of a column, in batches; rows without a vector are left out."""
    dim, condition = dimension(table, column), _not_null(column)
    query = table.search().where(condition if where is None else f"({where}) AND ({condition})")
    for batch in query.select([column]).with_row_id(True).to_batches(batch_size=_BATCH_ROWS):
        yield batch[ROW_ID].to_numpy().astype(np.int64), matrix(batch[column], dim)


def rows(table: Table, columns: Sequence[str]) -> pa.Table:
    """Columns of all rows, and their row ids."""
    return table.search().select(list(columns)).with_row_id(True).to_arrow()


def take(table: Table, row_ids: Int64[np.ndarray, " n"], columns: Sequence[str]) -> pa.Table:
    """Rows by id, in the order of the ids; each id once.

    Raises:
        InputError: A row does not exist, as after a change of the table.
    """
    if len(row_ids) == 0:
        return pa.schema([table.schema.field(name) for name in columns]).empty_table()
    # Lance returns rows in an arbitrary order.
    rows = table.take_row_ids(row_ids.tolist()).select(list(columns)).with_row_id().to_arrow()
    taken_ids = rows[ROW_ID].to_numpy().astype(np.int64)
    order = np.argsort(taken_ids)
    at = np.minimum(np.searchsorted(taken_ids, row_ids, sorter=order), max(len(taken_ids) - 1, 0))
    if len(taken_ids) != len(row_ids) or (taken_ids[order[at]] != row_ids).any():
        raise InputError(
            f"{len(row_ids)} rows were requested and {len(taken_ids)} exist: the table changed, or an id was given "
            "twice; open it again, and keep to one version."
        )
    return rows.take(pa.array(order[at])).select(list(columns))


def vectors_of(
    table: Table, column: str, row_ids: Int64[np.ndarray, " n"]
) -> Iterator[tuple[Int64[np.ndarray, " b"], Float32[np.ndarray, "b d"]]]:
    """Row ids and vectors of rows by id, in batches; each id once."""
    dim = dimension(table, column)
    for start in range(0, len(row_ids), _BATCH_ROWS):
        part = row_ids[start : start + _BATCH_ROWS]
        yield part, matrix(take(table, part, [column])[column], dim)


def matrix(column: Any, dim: int) -> Float32[np.ndarray, "n d"]:
    """An Arrow column of vectors as rows (N, D); NaN where a value is null."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    # Nulls keep their slots in `values`, with arbitrary content.
    rows = array.values.to_numpy(zero_copy_only=False).reshape(-1, dim)[array.offset : array.offset + len(array)]
    if array.null_count:
        rows = rows.copy()
        rows[array.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return np.asarray(rows, dtype=np.float32)


def _not_null(column: str) -> str:
    return f"{column} IS NOT NULL"


def dimension(table: Table, column: str) -> int:
    """The dimension of a column of vectors.

    Raises:
        InputError: The table has no such column.
    """
    schema = table.schema
    kind = schema.field(column).type if column in schema.names else None
    if kind is None or not pa.types.is_fixed_size_list(kind) or kind.value_type not in (pa.float32(), pa.float16()):
        raise InputError(
            f"the table has no column {column!r} of float vectors ({kind}); it has {', '.join(schema.names)}."
        )
    return int(kind.list_size)


def _checked(table: Table, column: str, queries: Float32[np.ndarray, "q d"], k: int) -> Float32[np.ndarray, "q d"]:
    if k < 1:
        raise ConfigError(f"k is {k}; request at least one row.")
    dim, rows = dimension(table, column), np.ascontiguousarray(queries, dtype=np.float32)
    if rows.ndim != 2 or rows.shape[1] != dim:
        raise MismatchError(
            f"queries have shape {rows.shape}, and {column} has dimension {dim}: they come from different models."
        )
    return rows
