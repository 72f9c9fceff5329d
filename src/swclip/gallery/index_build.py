"""Build and extend the index of a column of embeddings, and measure its recall; see `swclip.gallery.vector_index`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int64

from swclip.errors import ConfigError, InputError
from swclip.files import atomic_file, write_json
from swclip.gallery import ann
from swclip.gallery.vector_index import (
    FILE,
    VERSION,
    Effort,
    VectorIndex,
    codes_file,
    columns_of,
    load_faiss,
    read_codes,
    read_rows,
    rows_file,
    vectors_file,
)
from swclip.locks import sole_holder

if TYPE_CHECKING:
    from lancedb.table import Table

Report = Callable[[int, int], None]
"""Called with (done, total) vectors."""

_CODE_BITS, _QUERY_BITS, _MULTIPLE = 512, 8, 8  # of a vector, at least; of a query's number; that faiss's blocks need
_PARTITIONS, _MOST_PARTITIONS = 2.0, 4096  # times the square root of the number of vectors; a query meets them all
_TRAINED_ON, _ROUNDS = 40, 8  # vectors a partition that k-means sees, and its rounds
_CHUNK_ROWS, _COMMIT_ROWS = 65_536, 1_000_000
_OUTGROWN = 4  # times as many vectors as at its training
_FEW = 20  # rows are read by id where they are fewer than one in 20
_NAMED_KS = (1, 10, 100)
_TUNED_K, _LEAST_RECALL = 100, 0.99


def build_index(
    folder: Path, table: Table, column: str, *, rebuild: bool = False, report: Report | None = None
) -> tuple[int, int]:
    """Index a column: extend its index by the rows that it lacks, or train one.

    Every million vectors the work is committed: after an interruption the same call resumes there. An index is trained
    again where the table has four times as many vectors as at its training, or half of the indexed rows are gone.

    Args:
        folder: The folder of the indices.
        table: The gallery's table, at its current version.
        column: A column of unit vectors, FixedSizeList<float32 or float16, D>; null where a row has none.
        rebuild: Train the index again in any case.
        report: Called with (done, total) vectors.

    Returns:
        Numbers of vectors in the index, and of those that were added now.

    Raises:
        InputError: The table has no such column of vectors, or another process builds an index.
        PackageError: faiss is not installed.
        DiskFullError: The disk is full; the index is that of the last commit.
    """
    faiss = load_faiss()
    present = ann.row_ids_of(table, column)
    with sole_holder(folder, InputError(f"{folder}: another process builds an index; wait for it.")):
        columns = columns_of(folder)
        files = None if rebuild else columns.get(column)
        indexed = np.zeros(0, dtype=np.int64)
        if files is not None:
            indexed = read_rows(folder, files)
            gone = len(indexed) - int(ann.positions_in(present, indexed)[1].sum())
            if len(present) > _OUTGROWN * int(files["trained_for"]) or 2 * gone > len(indexed):
                files, indexed = None, indexed[:0]
        at, known = ann.positions_in(present, indexed)
        missing = np.delete(present, at[known])
        if not len(present):
            _commit(folder, columns, column, None)
        if not len(missing):
            return len(indexed), 0
        dim = ann.dimension(table, column)
        if files is None:
            codes = _trained(table, column, present, dim)
            number = 1 + int(columns.get(column, {}).get("number", 0))
            name = f"{column}-{number}"
            files = {"name": name, "number": number, "dim": dim, "vectors": 0, "trained_for": len(present)}
        else:
            codes = read_codes(folder, files)
        done = len(indexed)
        for row_ids, vectors in _chunks(table, column, missing, len(present)):
            codes.add(vectors)
            _append(vectors_file(folder, files), 2 * dim * done, vectors.astype(np.float16))
            _append(rows_file(folder, files), 8 * done, row_ids)
            done += len(row_ids)
            if done - int(files["vectors"]) >= _COMMIT_ROWS or done == len(indexed) + len(missing):
                files = {**files, "vectors": done}
                with atomic_file(codes_file(folder, files)) as beside:
                    faiss.write_index(codes, str(beside))
                columns = _commit(folder, columns, column, files)
            if report is not None:
                report(done, len(present))
    return done, len(missing)


def follow_rows(folder: Path, before: pa.Table, after: pa.Table) -> None:
    """Put new row ids in place after rows were moved.

    Args:
        folder: The folder of the indices.
        before: `entry_id` and row id of all rows, before.
        after: The same, after.
    """
    both = before.join(after, "entry_id", right_suffix="_after", join_type="inner").sort_by(ann.ROW_ID)
    old, new = (both[name].to_numpy().astype(np.int64) for name in (ann.ROW_ID, f"{ann.ROW_ID}_after"))
    for files in columns_of(folder).values():
        rows = read_rows(folder, files)
        at, known = ann.positions_in(old, rows)
        moved = np.full_like(rows, ann.NOTHING)
        moved[known] = new[at[known]]
        with atomic_file(rows_file(folder, files)) as beside:
            moved.tofile(beside)


def index_state(folder: Path, table: Table, column: str) -> tuple[int, int] | None:
    """Numbers of vectors in the index of a column, and of those that were appended since; None without an index."""
    files = columns_of(folder).get(column)
    if files is None:
        return None
    present = ann.row_ids_of(table, column)
    indexed = int(ann.positions_in(present, read_rows(folder, files))[1].sum())
    return indexed, len(present) - indexed


def measured_recall(
    index: VectorIndex,
    table: Table,
    column: str,
    queries: Float32[np.ndarray, "q d"],
    ks: Sequence[int] = _NAMED_KS,
    effort: Effort | None = None,
) -> dict[str, float]:
    """Measure the share of the truly most similar rows that an index finds.

    recall@k = mean over the queries of |R_k with s >= s_k| / k, where R_k are the first k rows of one search for the
    largest k, and s_k is the true k-th largest similarity: a row as similar as the k-th is as good, so that ties, such
    as entries at one position, do not count as misses.

    Args:
        index: The index.
        table: The table that was indexed.
        column: The column.
        queries: (Q, D), such as embeddings of held-out photographs: similar to future queries.
        ks: The values of k; those larger than the number of vectors are left out.
        effort: Thoroughness of the search; None for that of the index.

    Returns:
        `recall_at_1` and so on, and the number of `queries`.

    Raises:
        ConfigError: There are no queries or no k.
    """
    if len(queries) == 0 or len(ks) == 0:
        raise ConfigError("recall is a mean over queries, at values of k: give at least one of each.")
    truth = ann.exact_search(table, column, queries, max(ks)).similarities
    return {"queries": float(len(queries)), **_recall(index, table, column, queries, truth, ks, effort)}


def tune_probes(
    folder: Path, index: VectorIndex, table: Table, column: str, queries: Float32[np.ndarray, "q d"], ks: Sequence[int]
) -> tuple[int, dict[str, float]]:
    """Double the partitions that a query searches until recall@100 is 0.99, and keep their number with the index.

    How many are needed depends on the embeddings: more where they vary in many directions.

    Args:
        folder: The folder of the indices.
        index: The index.
        table: The table that was indexed.
        column: The column.
        queries: (Q, D), similar to future queries.
        ks: The values of k at which recall is measured; an answer uses the largest.

    Returns:
        The number of partitions, and the recall with it as in `measured_recall`.
    """
    truth = ann.exact_search(table, column, queries, max(ks)).similarities
    probes = min(Effort.probes, index.partitions)
    while True:
        recall = _recall(index, table, column, queries, truth, ks, Effort(probes))
        deciding = [value for k in ks if k <= _TUNED_K and (value := recall.get(f"recall_at_{k}")) is not None]
        if probes == index.partitions or not deciding or deciding[-1] >= _LEAST_RECALL:
            break
        probes = min(2 * probes, index.partitions)
    columns = columns_of(folder)
    _commit(folder, columns, column, {**columns[column], "probes": probes})
    return probes, {"queries": float(len(queries)), **recall}


def _recall(
    index: VectorIndex,
    table: Table,
    column: str,
    queries: Float32[np.ndarray, "q d"],
    truth: Float32[np.ndarray, "q k"],
    ks: Sequence[int],
    effort: Effort | None,
) -> dict[str, float]:
    """Recall where the true similarities are known."""
    available = int(np.isfinite(truth).sum(axis=1).min())
    ks = [k for k in ks if k <= available]
    if not ks:
        return {}
    # The same product computed in another order: equal but for rounding.
    slack = np.float32(4.0 * math.sqrt(queries.shape[1])) * np.finfo(np.float32).eps
    similarities = _exact(table, column, queries, index.search(queries, max(ks), effort).row_ids)
    return {f"recall_at_{k}": float((similarities[:, :k] >= truth[:, k - 1 : k] - slack).mean()) for k in ks}


def _exact(
    table: Table, column: str, queries: Float32[np.ndarray, "q d"], row_ids: Int64[np.ndarray, "q k"]
) -> Float32[np.ndarray, "q k"]:
    """The inner products of queries and rows by the table's embeddings, which are not rounded as the index's are."""
    every = np.setdiff1d(row_ids, [ann.NOTHING])
    similarities = np.full(row_ids.shape, -np.inf, dtype=np.float32)
    for ids, vectors in ann.vectors_of(table, column, every):
        at, here = ann.positions_in(ids, row_ids)
        similarities[here] = np.take_along_axis(queries @ vectors.T, at, axis=1)[here]
    return similarities


def _commit(
    folder: Path, columns: Mapping[str, dict[str, Any]], column: str, files: dict[str, Any] | None
) -> dict[str, dict[str, Any]]:
    """Make the files of a column valid, and remove those that no longer are."""
    for path in () if files is None else (vectors_file(folder, files), rows_file(folder, files)):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    changed = {name: value for name, value in columns.items() if name != column}
    if files is not None:
        changed[column] = files
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FILE, {"format": "swclip indices", "version": VERSION, "columns": changed})
    valid = {FILE}
    for value in changed.values():
        valid |= {codes_file(folder, value).name, vectors_file(folder, value).name, rows_file(folder, value).name}
    for path in folder.iterdir():
        if path.is_file() and path.name not in valid:
            path.unlink()
    return changed


def _append(path: Path, start: int, values: np.ndarray) -> None:
    """Write values from a byte of a file on, in place of what an interrupted process left there."""
    with open(path, "r+b" if path.is_file() else "w+b") as file:
        file.truncate(start)
        file.seek(start)
        values.tofile(file)


def _trained(table: Table, column: str, present: Int64[np.ndarray, " r"], dim: int) -> Any:
    """An index without vectors, with the partitions of a sample of them."""
    faiss = load_faiss()
    partitions = min(_MOST_PARTITIONS, int(_PARTITIONS * math.sqrt(len(present))), len(present) // _TRAINED_ON)
    partitions = max(1, partitions)
    count = min(len(present), partitions * _TRAINED_ON)
    drawn = np.sort(np.random.default_rng(0).choice(len(present), count, replace=False))
    sample = np.concatenate([vectors for _, vectors in ann.vectors_of(table, column, present[drawn])])
    width = -(-dim // _MULTIPLE) * _MULTIPLE
    bits = min(8, max(1, _CODE_BITS // width))
    rotation = faiss.RandomRotationMatrix(dim, width)
    rotation.init(0)
    centroids = faiss.IndexFlatIP(width)
    codes = faiss.IndexIVFRaBitQFastScan(centroids, width, partitions, faiss.METRIC_INNER_PRODUCT, 32, True, bits)
    codes.qb = _QUERY_BITS
    codes.cp.niter, codes.cp.max_points_per_centroid, codes.cp.min_points_per_centroid = _ROUNDS, _TRAINED_ON, 1
    rotated = faiss.IndexPreTransform(rotation, codes)
    rotated.train(sample)
    return rotated


def _chunks(
    table: Table, column: str, missing: Int64[np.ndarray, " m"], total: int
) -> Iterator[tuple[Int64[np.ndarray, " b"], Float32[np.ndarray, "b d"]]]:
    """Rows that an index lacks, with their vectors."""
    few = len(missing) * _FEW < total
    source = ann.vectors_of(table, column, missing) if few else ann.vector_batches(table, column)
    ids: list[np.ndarray] = []
    parts: list[np.ndarray] = []
    for row_ids, vectors in source:
        _, lacking = ann.positions_in(missing, row_ids)
        ids.append(row_ids[lacking])
        parts.append(vectors[lacking])
        if sum(map(len, ids)) >= _CHUNK_ROWS:
            yield np.concatenate(ids), np.concatenate(parts)
            ids, parts = [], []
    if sum(map(len, ids)):
        yield np.concatenate(ids), np.concatenate(parts)
