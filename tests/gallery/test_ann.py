"""Search in a Lance table against a loop, and rows by id."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from swclip.errors import ConfigError, InputError, MismatchError
from swclip.gallery.ann import NOTHING, exact_search, matrix, row_ids_of, take, vectors_of

Make = Callable[..., Any]


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def vectors(count: int, dim: int = 32, seed: int = 0) -> np.ndarray:
    """Clusters with structure inside, as embeddings have."""
    generator = np.random.default_rng(seed)
    centre, axes = generator.normal(size=(20, dim)), generator.normal(size=(20, 4, dim))
    own = generator.integers(0, 20, count)
    inside = np.einsum("nk,nkd->nd", generator.normal(size=(count, 4)), axes[own])
    return unit(centre[own] + 0.4 * inside + 0.05 * generator.normal(size=(count, dim)))


def rows_of(values: np.ndarray, null: np.ndarray | None = None, start: int = 0) -> pa.Table:
    column = pa.FixedSizeListArray.from_arrays(
        pa.array(values.reshape(-1)), values.shape[1], mask=None if null is None else pa.array(null)
    )
    number = np.arange(start, start + len(values))
    city = pa.array([("Leeds", "York")[int(n) % 2] for n in number])
    return pa.table({"number": number, "city": city, "embedding": column})


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setenv("LANCE_LOG", "error")
    import lancedb

    database = lancedb.connect(tmp_path)

    def table(values: np.ndarray, null: np.ndarray | None = None) -> Any:
        return database.create_table("entries", rows_of(values, null), mode="overwrite", on_bad_vectors="null")

    return table


def numbers(table: Any, row_ids: np.ndarray) -> list[int]:
    return take(table, row_ids[row_ids != NOTHING], ["number"])["number"].to_pylist()


def by_loop(values: np.ndarray, query: np.ndarray, k: int, keep: Callable[[int], bool] = lambda n: True) -> list[int]:
    scored = [(-float(np.dot(row.astype(np.float64), query)), n) for n, row in enumerate(values) if keep(n)]
    return [n for _, n in sorted(scored)[:k]]


def test_exact_search_equals_a_loop(make: Make) -> None:
    values, queries = vectors(900), vectors(5, seed=1)
    table = make(values)
    result = exact_search(table, "embedding", queries, 7)
    for row, query in enumerate(queries):
        assert numbers(table, result.row_ids[row]) == by_loop(values, query, 7)
        assert result.similarities[row] == pytest.approx(np.sort(values @ query)[::-1][:7], abs=1e-6)


def test_rows_are_taken_in_the_requested_order(make: Make) -> None:
    values = vectors(200)
    table = make(values, np.arange(200) == 7)
    scan = table.search().select(["number"]).with_row_id(True).to_arrow()
    ids = scan["_rowid"].to_numpy()[np.argsort(scan["number"].to_numpy())].astype(np.int64)
    order = np.array([5, 199, 7, 0])
    result = take(table, ids[order], ["number", "embedding"])
    assert result["number"].to_pylist() == order.tolist()
    rows = matrix(result["embedding"], 32)
    assert np.array_equal(rows[[0, 1, 3]], values[[5, 199, 0]])
    assert np.isnan(rows[2]).all()
    assert len(take(table, ids[:0], ["number"])) == 0
    assert np.array_equal(matrix(result["embedding"].slice(1, 1), 32), values[[199]])
    with pytest.raises(InputError, match="given twice"):
        take(table, ids[[3, 3]], ["number"])


def test_conditions_are_met(make: Make) -> None:
    values = vectors(1000)
    table = make(values)
    result = exact_search(table, "embedding", values[:3], 5, where="city = 'York'")
    for row in range(3):
        assert numbers(table, result.row_ids[row]) == by_loop(values, values[row], 5, lambda n: n % 2 == 1)
    few = exact_search(table, "embedding", values[:1], 5, where="number IN (3, 500, 901)")
    assert sorted(numbers(table, few.row_ids[0])) == [3, 500, 901]
    assert np.isneginf(few.similarities[0, 3:]).all()


def test_rows_without_a_vector_are_left_out(make: Make) -> None:
    values, null = vectors(300), np.arange(300) % 3 == 0
    table = make(values, null)
    result = exact_search(table, "embedding", values[:4], 300)
    assert ((result.row_ids != NOTHING).sum(axis=1) == 200).all()
    ids = row_ids_of(table, "embedding")
    assert numbers(table, ids) == np.flatnonzero(~null).tolist()
    parts = list(vectors_of(table, "embedding", ids))
    assert np.array_equal(np.concatenate([part for part, _ in parts]), ids)
    assert np.array_equal(np.concatenate([part for _, part in parts]), values[~null])


def test_invalid_searches_are_refused(make: Make) -> None:
    table = make(vectors(20))
    with pytest.raises(ConfigError, match="k is 0"):
        exact_search(table, "embedding", vectors(1), 0)
    with pytest.raises(MismatchError, match="dimension 32"):
        exact_search(table, "embedding", vectors(1, 16), 1)
    with pytest.raises(InputError, match="no column 'vector'"):
        exact_search(table, "vector", vectors(1), 1)
    with pytest.raises(InputError, match="no column 'number' of float vectors"):
        row_ids_of(table, "number")
