"""The index of embeddings against an exact search, while its table grows, shrinks, is compacted and is filtered."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.gallery.test_ann import rows_of, unit, vectors

from swclip.errors import ArtefactError, ConfigError, InputError, MismatchError, PackageError
from swclip.gallery import ann, index_build, vector_index
from swclip.gallery.index_build import build_index, follow_rows, index_state, measured_recall, tune_probes
from swclip.gallery.vector_index import Effort, VectorIndex
from swclip.locks import sole_holder

COLUMN = "embedding"


@dataclass
class Indexed:
    """A table of numbered vectors, and the folder of its indices."""

    table: Any
    folder: Path

    def build(self, **options: Any) -> tuple[int, int]:
        return build_index(self.folder, self.table, COLUMN, **options)

    def open(self) -> VectorIndex:
        index = VectorIndex.open(self.folder, self.table, COLUMN, ann.row_ids_of(self.table, COLUMN))
        assert index is not None
        return index

    def numbers(self, row_ids: np.ndarray) -> list[int]:
        present = row_ids[row_ids != ann.NOTHING]
        return list(ann.take(self.table, present, ["number"])["number"].to_pylist())

    def by_loop(self, query: np.ndarray, k: int) -> list[int]:
        rows = self.table.search().select(["number", COLUMN]).to_arrow()
        scores = np.array([-np.inf if row is None else np.dot(row, query) for row in rows[COLUMN].to_pylist()])
        return list(rows["number"].to_numpy()[np.argsort(-scores)[:k]].tolist())

    def add(self, values: np.ndarray, start: int) -> None:
        self.table.add(named(rows_of(values, start=start)))


def named(rows: pa.Table) -> pa.Table:
    return rows.append_column("entry_id", pa.array([f"photo/{n}" for n in rows["number"].to_pylist()]))


@pytest.fixture
def indexed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Indexed]:
    monkeypatch.setenv("LANCE_LOG", "error")
    import lancedb

    database = lancedb.connect(tmp_path)

    def make(values: np.ndarray, null: np.ndarray | None = None) -> Indexed:
        rows = named(rows_of(values, null))
        return Indexed(
            database.create_table("entries", rows, mode="overwrite", on_bad_vectors="null"), tmp_path / "index"
        )

    return make


@pytest.fixture
def by_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small selections are searched by codes too."""
    monkeypatch.setattr(vector_index, "_EXACT_ROWS", 0)


@pytest.mark.parametrize("dim", [5, 20, 32])
def test_a_thorough_search_is_exact(indexed: Callable[..., Indexed], dim: int) -> None:
    values, queries = vectors(900, dim), vectors(6, dim, seed=1)
    made = indexed(values)
    assert made.build() == (900, 900)
    result = made.open().search(queries, 7, Effort(1000, 700))
    for row, query in enumerate(queries):
        # Vectors are of float16 in the index, so that nearly equal ones can change places.
        truth = np.sort(values @ query)[::-1][:7]
        assert result.similarities[row] == pytest.approx(truth, abs=5e-4)
        assert (values @ query)[made.numbers(result.row_ids[row])] == pytest.approx(truth, abs=5e-4)


def test_recall_equals_a_loop(indexed: Callable[..., Indexed]) -> None:
    values, queries = vectors(3000, 64), vectors(20, 64, seed=1)
    made = indexed(values)
    made.build()
    index, hasty = made.open(), Effort(probes=1, refine=1)
    result = index.search(queries, 10, hasty)
    hits = [
        len(set(made.numbers(result.row_ids[row])) & set(made.by_loop(query, 10))) / 10
        for row, query in enumerate(queries)
    ]
    recall = measured_recall(index, made.table, COLUMN, queries, [1, 10, 5000], hasty)
    assert set(recall) == {"queries", "recall_at_1", "recall_at_10"}  # there are not 5,000
    assert recall["queries"] == 20
    assert recall["recall_at_10"] == pytest.approx(np.mean(hits), abs=1e-9)
    assert recall["recall_at_10"] < 1.0, "or the search was exact after all"
    assert measured_recall(index, made.table, COLUMN, queries, [1, 10, 100])["recall_at_100"] >= 0.99
    with pytest.raises(ConfigError, match="at least one"):
        measured_recall(index, made.table, COLUMN, queries[:0])


def test_ties_at_k_do_not_count_as_misses(indexed: Callable[..., Indexed]) -> None:
    made = indexed(np.repeat(vectors(40), 50, axis=0))  # entries at one position have one embedding
    made.build()
    recall = measured_recall(made.open(), made.table, COLUMN, vectors(9, seed=1), [10], Effort(1000, 1900))
    assert recall["recall_at_10"] == 1.0


def test_as_many_partitions_are_searched_as_recall_needs(indexed: Callable[..., Indexed]) -> None:
    generator = np.random.default_rng(0)
    diffuse = unit(generator.normal(size=(6000, 64)))  # no partition has the neighbours of a query
    made = indexed(diffuse)
    made.build()
    index = made.open()
    probes, recall = tune_probes(made.folder, index, made.table, COLUMN, diffuse[:20], [1, 10, 100])
    assert Effort.probes < probes <= index.partitions
    assert recall["recall_at_100"] >= 0.99
    assert measured_recall(index, made.table, COLUMN, diffuse[:20])["recall_at_100"] < 0.99
    assert measured_recall(made.open(), made.table, COLUMN, diffuse[:20])["recall_at_100"] >= 0.99
    made.add(vectors(5, 64), 6000)
    made.build()
    assert made.open().effort.probes == probes  # an extension keeps it


def test_the_index_follows_its_table(indexed: Callable[..., Indexed]) -> None:
    values, more = vectors(600), vectors(30, seed=2)
    made = indexed(values)
    made.build()
    made.add(more, 600)
    for state in ((600, 30), (630, 0)):  # before and after they are in the index
        assert index_state(made.folder, made.table, COLUMN) == state
        result = made.open().search(more, 1)
        assert made.numbers(result.row_ids[:, 0]) == list(range(600, 630))
        assert made.build() == (630, state[1])
    made.table.delete("number < 10 OR number = 605")
    changed = named(rows_of(more[:1], start=20))
    made.table.merge_insert("number").when_matched_update_all().execute(changed)
    every = made.open().search(values[:1], 630).row_ids[0]
    assert sorted(made.numbers(every)) == [*range(10, 605), *range(606, 630)]
    result = made.open().search(np.stack([values[20], more[0]]), 2)
    assert 20 not in made.numbers(result.row_ids[0])[:1]
    assert sorted(made.numbers(result.row_ids[1])) == [20, 600]
    before = ann.rows(made.table, ["entry_id"])
    assert index_state(made.folder, made.table, COLUMN) == (618, 1)
    made.table.optimize()
    after = ann.rows(made.table, ["entry_id"])
    assert not set(before["_rowid"].to_pylist()) & set(after["_rowid"].to_pylist()), "or nothing was moved"
    follow_rows(made.folder, before, after)
    assert index_state(made.folder, made.table, COLUMN) == (618, 1)
    assert sorted(made.numbers(made.open().search(more[:1], 2).row_ids[0])) == [20, 600]
    # Most rows are gone, or there are many more: the index is trained anew.
    made.table.delete("number >= 250")
    assert made.build() == (240, 240)
    made.add(vectors(1000, seed=3), 1000)
    assert made.build() == (1240, 1240)
    assert made.build(rebuild=True) == (1240, 1240)
    assert len(list(made.folder.iterdir())) == 4


def test_a_search_among_some_rows_finds_only_them(indexed: Callable[..., Indexed], by_codes: None) -> None:
    values = vectors(3000, 64)
    made = indexed(values[:2900])
    made.build()
    made.add(values[2900:], 2900)
    ids = ann.row_ids_of(made.table, COLUMN)
    for allowed in (ids[::3], ids[2950:], ids[[7, 500, 2999]]):
        result = made.open().among(allowed).search(values[:5], 10, Effort(64, 300))
        for row in range(5):
            order = np.argsort(-(values[np.searchsorted(ids, allowed)] @ values[row]))[:10]
            assert result.row_ids[row][result.row_ids[row] != ann.NOTHING].tolist() == allowed[order].tolist()


@pytest.mark.parametrize("count", [1, 2, 7])
def test_tiny_tables(indexed: Callable[..., Indexed], count: int) -> None:
    values = vectors(count)
    made = indexed(values)
    made.build()
    result = made.open().search(values, count + 3)
    assert [made.numbers(row)[0] for row in result.row_ids] == list(range(count))
    assert (result.row_ids[:, count:] == ann.NOTHING).all()
    assert np.isneginf(result.similarities[:, count:]).all()


def test_rows_without_a_vector_have_no_place_in_it(indexed: Callable[..., Indexed]) -> None:
    made = indexed(vectors(300), np.arange(300) % 3 == 0)
    assert made.build() == (200, 200)
    assert not {n for n in made.numbers(made.open().search(vectors(2), 200).row_ids[0]) if n % 3 == 0}
    made = indexed(vectors(50), np.ones(50, dtype=bool))
    assert made.build() == (0, 0)
    assert VectorIndex.open(made.folder, made.table, COLUMN, ann.row_ids_of(made.table, COLUMN)) is None


def test_an_interrupted_build_resumes(indexed: Callable[..., Indexed], monkeypatch: pytest.MonkeyPatch) -> None:
    values = vectors(2000)
    made = indexed(values)
    monkeypatch.setattr(ann, "_BATCH_ROWS", 128)
    monkeypatch.setattr(index_build, "_CHUNK_ROWS", 200)
    monkeypatch.setattr(index_build, "_COMMIT_ROWS", 500)

    def interrupt(done: int, total: int) -> None:
        if done > 1100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.build(report=interrupt)
    indexed_rows, later = index_state(made.folder, made.table, COLUMN) or (0, 0)
    assert (indexed_rows, later) == (1024, 976)
    assert made.numbers(made.open().search(values[::100], 1).row_ids[:, 0]) == list(range(0, 2000, 100))
    assert made.build() == (2000, later)
    assert made.numbers(made.open().search(values[::100], 1).row_ids[:, 0]) == list(range(0, 2000, 100))


def test_faults_are_named(indexed: Callable[..., Indexed], monkeypatch: pytest.MonkeyPatch) -> None:
    made = indexed(vectors(300))
    made.build()
    index = made.open()
    with pytest.raises(ConfigError, match="k is 0"):
        index.search(vectors(1), 0)
    with pytest.raises(MismatchError, match="dimension 32"):
        index.search(vectors(1, 16), 1)
    with pytest.raises(ConfigError, match="probes is 0"):
        Effort(probes=0)
    with pytest.raises(InputError, match="no column 'number' of float vectors"):
        build_index(made.folder, made.table, "number")
    busy = InputError("busy")
    with sole_holder(made.folder, busy), pytest.raises(InputError, match="another process builds"):
        made.build()
    monkeypatch.setattr(vector_index, "_LATER_BYTES", 100)
    made.add(vectors(30, seed=2), 300)
    with pytest.raises(ArtefactError, match=r"lacks 30 of 330 embeddings.*build-index"):
        made.open()
    made.build()
    (codes,) = made.folder.glob("*.faiss")
    codes.write_bytes(codes.read_bytes()[:100])
    with pytest.raises(ArtefactError, match=r"index of embedding is damaged.*--rebuild"):
        made.open()
    made.build(rebuild=True)
    (rows,) = made.folder.glob("*.rows")
    rows.write_bytes(rows.read_bytes()[:80])
    with pytest.raises(ArtefactError, match="do not match"):
        made.open()
    (made.folder / "index.json").write_text('{"version": "0"}')
    with pytest.raises(ArtefactError, match="is not of version 1"):
        made.open()
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(PackageError, match=r"pip install 'swclip\[faiss\]'"):
        made.build()
