"""Vector search in a Lance table: exact by reading it all, or approximate by an index whose recall is measured.

Vectors are split into partitions by k-means, and a query searches the nearest `probes` of them (inverted file).
There are two kinds of index (docs/results/search.md has both measured):

- `vectors` keeps the vectors: as large on disk as the column, exact within the searched partitions, and several times
  faster where hundreds of rows are requested.
- `bits` keeps one bit a dimension of each vector (RaBitQ): 80 MB for a million vectors of 512 numbers. The best by
  those bits, `refine` times as many as requested, are read from the table and ordered by their true inner product.
  Equal vectors have equal bits: where many rows share one, request as many times more.

Behaviour of Lance, measured with lancedb 0.40 and checked by the tests: rows without a vector are never returned; rows
appended later are compared one by one until `refresh_index`; deleted rows are never returned again; an index
trained for one metric is silently ignored for another. Rows are named by Lance's row ids, which are valid for one
version of a table: check the table out at a version before keeping them.

References:
    J. Gao, C. Long, "RaBitQ: quantizing high-dimensional vectors with a theoretical error bound for approximate
    nearest neighbor search", SIGMOD 2024.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int64

from swclip.errors import ConfigError, InputError, MismatchError

if TYPE_CHECKING:
    from lancedb.table import Table

IndexKind = Literal["bits", "vectors"]

ROW_ID = "_rowid"
NOTHING = -1
"""The row id where a table holds fewer vectors than requested."""

_DISTANCE = "_distance"
_METRIC: Literal["dot"] = "dot"
_ROWS_A_PARTITION = 2048
_TRAINED_ON, _ROUNDS = 64, 10  # vectors a partition that k-means sees, and its rounds; Lance takes 256 and 50
_BITS = 8
_BATCH_ROWS = 8192
_NAMED_KS = (1, 10, 100)


@dataclass(frozen=True)
class Effort:
    """Thoroughness of an approximate search.

    Attributes:
        probes: Partitions that a query searches.
        refine: This many times the requested vectors are compared by their true inner product.

    Raises:
        ConfigError: One of them is below 1.
    """

    probes: int = 32
    refine: int = 4

    def __post_init__(self) -> None:
        if self.probes < 1 or self.refine < 1:
            raise ConfigError(f"probes is {self.probes} and refine {self.refine}; both must be 1 or more.")


@dataclass(frozen=True)
class IndexState:
    """State of an index.

    Attributes:
        kind: Lance's name for it.
        indexed: Rows that it covers, those without a vector among them.
        unindexed: Rows appended later; a search compares them one by one.
    """

    kind: str
    indexed: int
    unindexed: int


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The most similar rows of each query, best first.

    Attributes:
        row_ids: (Q, k) Lance's row ids; `NOTHING` where there are fewer vectors.
        similarities: (Q, k) inner products; -inf where there are fewer vectors.
    """

    row_ids: Int64[np.ndarray, "q k"]
    similarities: Float32[np.ndarray, "q k"]


def build_index(
    table: Table, column: str, kind: IndexKind = "vectors", partitions: int | None = None
) -> IndexState | None:
    """Train an index on a column of vectors, replacing an existing one.

    Args:
        table: The table.
        column: A column of vectors, FixedSizeList<float32 or float16, D>; null where a row has none.
        kind: What the index keeps; always `vectors` where the dimension is no multiple of 8, as bits need.
        partitions: Number of partitions; None for one per 2,048 vectors.

    Returns:
        The index, or None where the column holds no vector: there is nothing to train on, and a search needs none.

    Raises:
        ConfigError: The kind is unknown, or the number of partitions is below 1.
        InputError: The table has no such column of vectors.
    """
    from lancedb.index import IvfFlat, IvfRq

    dim = _dim(table, column)
    if kind not in get_args(IndexKind):
        raise ConfigError(f"index kind {kind!r} is unknown; choose one of {', '.join(get_args(IndexKind))}.")
    if partitions is not None and partitions < 1:
        raise ConfigError(
            f"partitions is {partitions}; give 1 or more, or None for one per {_ROWS_A_PARTITION} vectors."
        )
    count = table.count_rows(_not_null(column))
    if not count:
        return None
    # More partitions than vectors are refused by some kinds of index and reduced with a warning by others.
    partitions = min(count, max(1, count // _ROWS_A_PARTITION) if partitions is None else partitions)
    index_class = IvfRq if kind == "bits" and dim % _BITS == 0 else IvfFlat
    config = index_class(
        distance_type=_METRIC, num_partitions=partitions, sample_rate=_TRAINED_ON, max_iterations=_ROUNDS
    )
    table.create_index(column, config=config, replace=True)
    return index_state(table, column)


def index_state(table: Table, column: str) -> IndexState | None:
    """The index on a column; None where it has none."""
    name = next((index.name for index in table.list_indices() if index.columns == [column]), None)
    stats = None if name is None else table.index_stats(name)
    if stats is None:
        return None
    return IndexState(str(stats.index_type), int(stats.num_indexed_rows), int(stats.num_unindexed_rows))


def refresh_index(table: Table) -> None:
    """Add later rows to the indices of a table; the partitions are not trained again."""
    table.optimize()


def search(
    table: Table,
    column: str,
    queries: Float32[np.ndarray, "q d"],
    k: int,
    where: str | None = None,
    effort: Effort | None = None,
) -> Neighbours:
    """Find the rows most similar to each query, by the index where there is one, exactly otherwise.

    Args:
        table: The table.
        column: A column of unit vectors.
        queries: (Q, D).
        k: Number of rows.
        where: A predicate in SQL that rows must meet.
        effort: Thoroughness; None for the defaults.

    Raises:
        ConfigError: k is below 1.
        InputError: The table has no such column of vectors.
        MismatchError: The queries have another dimension.

    Example:
        ```python
        neighbours = search(table, "image_embedding", queries, 10, where="city = 'Leeds'")
        rows = take(table, neighbours.row_ids[0], ["image_id", "lat_deg", "lon_deg"])
        ```
    """
    queries = _checked(table, column, queries, k)
    if index_state(table, column) is None:
        return exact_search(table, column, queries, k, where)
    effort = effort or Effort()
    ids = np.full((len(queries), k), NOTHING, dtype=np.int64)
    similarities = np.full((len(queries), k), -np.inf, dtype=np.float32)
    for row, query in enumerate(queries):
        # One by one: Lance runs a list of queries as a plan of as many branches, which is no faster.
        builder: Any = table.search(query, vector_column_name=column)
        builder = builder.distance_type(_METRIC).limit(k)
        builder = builder.minimum_nprobes(effort.probes).maximum_nprobes(0).refine_factor(effort.refine)
        if where is not None:
            builder = builder.where(where)
        result = builder.select([_DISTANCE]).with_row_id(True).to_arrow()
        ids[row, : len(result)] = result[ROW_ID].to_numpy()
        similarities[row, : len(result)] = 1.0 - result[_DISTANCE].to_numpy()
    return Neighbours(ids, similarities)


def exact_search(
    table: Table, column: str, queries: Float32[np.ndarray, "q d"], k: int, where: str | None = None
) -> Neighbours:
    """Find the rows most similar to each query by comparing all rows; arguments and errors as for `search`.

    The table is read once for all queries, in batches, so that it need not fit into memory.
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


def measured_recall(
    table: Table,
    column: str,
    queries: Float32[np.ndarray, "q d"],
    ks: Sequence[int] = _NAMED_KS,
    effort: Effort | None = None,
) -> dict[str, float]:
    """Measure the share of the truly most similar rows that `search` finds.

    recall@k = mean over the queries of |R_k with s >= s_k| / k, where R_k are the rows of a search for k, and s_k is
    the true k-th largest similarity: a row as similar as the k-th is as good, so that ties, such as entries at one
    position, do not count as misses.

    Args:
        table: The table.
        column: A column of unit vectors.
        queries: (Q, D), such as embeddings of held-out photographs: similar to future queries.
        ks: The values of k; those larger than the number of vectors are left out.
        effort: Thoroughness of the search; None for the defaults.

    Returns:
        `recall_at_1` and so on, and the number of `queries`.

    Raises:
        ConfigError: There are no queries or no k.
        InputError: The table has no such column of vectors.
        MismatchError: The queries have another dimension.
    """
    if len(queries) == 0 or len(ks) == 0:
        raise ConfigError("recall is a mean over queries, at values of k: give at least one of each.")
    most = max(ks)
    truth = exact_search(table, column, queries, most).similarities
    # The index returns the true inner product, computed in another order: equal but for rounding.
    slack = np.float32(4.0 * math.sqrt(queries.shape[1])) * np.finfo(np.float32).eps
    available = int(np.isfinite(truth).sum(axis=1).min())
    recall: dict[str, float] = {}
    for k in (k for k in ks if k <= available):
        similarities = search(table, column, queries, k, effort=effort).similarities
        recall[f"recall_at_{k}"] = float((similarities >= truth[:, k - 1 : k] - slack).mean())
    return {"queries": float(len(queries)), **recall}


def vector_batches(
    table: Table, column: str, where: str | None = None
) -> Iterator[tuple[Int64[np.ndarray, " b"], Float32[np.ndarray, "b d"]]]:
    """Row ids and vectors of a column, in batches; rows without a vector are left out."""
    dim, condition = _dim(table, column), _not_null(column)
    query = table.search().where(condition if where is None else f"({where}) AND ({condition})")
    for batch in query.select([column]).with_row_id(True).to_batches(batch_size=_BATCH_ROWS):
        yield batch[ROW_ID].to_numpy().astype(np.int64), matrix(batch[column], dim)


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


def _dim(table: Table, column: str) -> int:
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
    dim, rows = _dim(table, column), np.ascontiguousarray(queries, dtype=np.float32)
    if rows.ndim != 2 or rows.shape[1] != dim:
        raise MismatchError(
            f"queries have shape {rows.shape}, and {column} has dimension {dim}: they come from different models."
        )
    return rows
