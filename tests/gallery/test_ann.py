"""Search in a Lance table: the index against a loop, also after rows are added and deleted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from swclip.errors import ConfigError, InputError, MismatchError
from swclip.gallery.ann import (
    NOTHING,
    Effort,
    build_index,
    exact_search,
    index_state,
    matrix,
    measured_recall,
    refresh_index,
    search,
    take,
)

THOROUGH = Effort(probes=1000, refine=1000)
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
    assert search(table, "embedding", queries, 7).row_ids.tolist() == result.row_ids.tolist()  # there is no index


@pytest.mark.parametrize("kind", ["bits", "vectors"])
def test_a_thorough_search_by_the_index_is_exact(make: Make, kind: Any) -> None:
    values, queries = vectors(900), vectors(6, seed=1)
    table = make(values)
    state = build_index(table, "embedding", kind, partitions=9)
    assert state is not None
    assert (state.kind, state.indexed, state.unindexed) == ({"bits": "IVF_RQ", "vectors": "IVF_FLAT"}[kind], 900, 0)
    for k in (1, 10, 900):
        result, truth = (
            search(table, "embedding", queries, k, effort=THOROUGH),
            exact_search(table, "embedding", queries, k),
        )
        assert result.row_ids.tolist() == truth.row_ids.tolist()
        assert result.similarities == pytest.approx(truth.similarities, abs=1e-6)


def test_the_index_is_used_and_its_recall_equals_a_loop(make: Make) -> None:
    values, queries = vectors(3000, 64), vectors(20, 64, seed=1)
    table = make(values)
    build_index(table, "embedding", "bits", partitions=30)
    hasty = Effort(probes=1, refine=1)
    result = search(table, "embedding", queries, 10, effort=hasty)
    hits = [
        len(set(numbers(table, result.row_ids[row])) & set(by_loop(values, query, 10))) / 10
        for row, query in enumerate(queries)
    ]
    measured = measured_recall(table, "embedding", queries, [1, 10, 5000], hasty)
    assert measured["recall_at_10"] == pytest.approx(np.mean(hits), abs=1e-9)
    assert measured["recall_at_10"] < 1.0, "or the search was exact after all"
    assert set(measured) == {"queries", "recall_at_1", "recall_at_10"}  # there are not 5,000
    assert measured["queries"] == 20
    thorough = measured_recall(table, "embedding", queries, [1, 10], THOROUGH)
    # The index draws its partitions by chance.
    assert min(thorough["recall_at_1"], thorough["recall_at_10"]) >= 0.95


def test_ties_at_k_do_not_count_as_misses(make: Make) -> None:
    table = make(np.repeat(vectors(40), 50, axis=0))  # entries at one position have one embedding
    build_index(table, "embedding", "vectors", partitions=2)
    assert measured_recall(table, "embedding", vectors(9, seed=1), [10], THOROUGH)["recall_at_10"] == 1.0


@pytest.mark.parametrize("kind", ["bits", "vectors"])
def test_rows_without_a_vector_are_never_returned(make: Make, kind: Any) -> None:
    values, null = vectors(300), np.arange(300) % 3 == 0
    table = make(values, null)
    for _ in range(2):
        result = search(table, "embedding", values[:4], 300, effort=THOROUGH)
        assert ((result.row_ids != NOTHING).sum(axis=1) == 200).all()
        assert np.isneginf(result.similarities[:, 200:]).all()
        assert numbers(table, result.row_ids[1])[0] == 1
        assert not {n for n in numbers(table, result.row_ids[0]) if n % 3 == 0}
        build_index(table, "embedding", kind)


@pytest.mark.parametrize("kind", ["bits", "vectors"])
def test_added_and_deleted_rows(make: Make, kind: Any) -> None:
    values, more = vectors(600), vectors(30, seed=2)
    table = make(values)
    build_index(table, "embedding", kind, partitions=6)
    table.add(rows_of(more, start=600))
    state = index_state(table, "embedding")
    assert state is not None
    assert (state.indexed, state.unindexed) == (600, 30)
    for _ in range(2):  # before and after they are in the index
        result = search(table, "embedding", more, 1, effort=THOROUGH)
        assert numbers(table, result.row_ids[:, 0]) == list(range(600, 630))
        refresh_index(table)
    state = index_state(table, "embedding")
    assert state is not None
    assert (state.indexed, state.unindexed) == (630, 0)
    table.delete("number < 10 OR number = 605")
    all_ids = search(table, "embedding", values[:1], 630, effort=THOROUGH).row_ids[0]
    assert sorted(numbers(table, all_ids)) == [*range(10, 605), *range(606, 630)]
    refresh_index(table)
    all_ids = search(table, "embedding", values[:1], 630, effort=THOROUGH).row_ids[0]
    assert sorted(numbers(table, all_ids)) == [*range(10, 605), *range(606, 630)]
    changed = rows_of(more[:1], start=20)
    table.merge_insert("number").when_matched_update_all().execute(changed)
    result = search(table, "embedding", np.stack([values[20], more[0]]), 2, effort=THOROUGH)
    assert 20 not in numbers(table, result.row_ids[0])[:1]
    assert sorted(numbers(table, result.row_ids[1])) == [20, 600]


def test_conditions_are_met_and_narrow_ones_find_all_rows(make: Make) -> None:
    values = vectors(1000)
    table = make(values)
    for _ in range(2):
        result = search(table, "embedding", values[:3], 5, where="city = 'York'", effort=THOROUGH)
        for row in range(3):
            assert numbers(table, result.row_ids[row]) == by_loop(values, values[row], 5, lambda n: n % 2 == 1)
        rare = search(table, "embedding", values[:1], 5, where="number IN (3, 500, 901)", effort=Effort(1, 1))
        assert sorted(numbers(table, rare.row_ids[0])) == [3, 500, 901]
        build_index(table, "embedding", partitions=10)


@pytest.mark.parametrize("kind", ["bits", "vectors"])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_tiny_tables(make: Make, count: int, kind: Any) -> None:
    values = vectors(count)
    table = make(values)
    state = build_index(table, "embedding", kind, partitions=50)
    assert state is not None
    assert state.indexed == count
    result = search(table, "embedding", values, count + 3, effort=THOROUGH)
    assert result.row_ids.shape == (count, count + 3)
    assert [numbers(table, row)[0] for row in result.row_ids] == list(range(count))
    assert (result.row_ids[:, count:] == NOTHING).all()


def test_a_column_without_vectors_has_no_index(make: Make) -> None:
    table = make(vectors(50), np.ones(50, dtype=bool))
    assert build_index(table, "embedding") is None
    assert index_state(table, "embedding") is None
    assert (search(table, "embedding", vectors(2), 3).row_ids == NOTHING).all()
    odd = make(vectors(500, 20))
    state = build_index(odd, "embedding", "bits")  # 20 is no multiple of 8
    assert state is not None
    assert state.kind == "IVF_FLAT"


def test_an_index_can_be_rebuilt(make: Make) -> None:
    table = make(vectors(500))
    build_index(table, "embedding", "bits")
    state = build_index(table, "embedding", "vectors")
    assert state is not None
    assert state.kind == "IVF_FLAT"
    assert len(table.list_indices()) == 1


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


def test_invalid_searches_are_refused(make: Make) -> None:
    table = make(vectors(20))
    with pytest.raises(ConfigError, match="k is 0"):
        search(table, "embedding", vectors(1), 0)
    with pytest.raises(MismatchError, match="dimension 32"):
        search(table, "embedding", vectors(1, 16), 1)
    with pytest.raises(InputError, match="no column 'number' of float vectors"):
        build_index(table, "number")
    with pytest.raises(InputError, match="no column 'vector'"):
        exact_search(table, "vector", vectors(1), 1)
    with pytest.raises(ConfigError, match="partitions is 0"):
        build_index(table, "embedding", partitions=0)
    with pytest.raises(ConfigError, match="'hnsw' is unknown"):
        build_index(table, "embedding", "hnsw")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least one"):
        measured_recall(table, "embedding", vectors(3)[:0])
    with pytest.raises(ConfigError, match="probes is 0"):
        Effort(probes=0)
