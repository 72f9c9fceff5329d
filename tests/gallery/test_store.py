"""Every change of a gallery, against the same change of a dictionary."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swclip.errors import ArtefactError, DiskFullError, InputError, MismatchError
from swclip.gallery.filters import EntryFilter
from swclip.gallery.schema import Description, matrix, vectors
from swclip.gallery.store import Change, GalleryStore

from .conftest import DESCRIPTION, DIM, make_entries, make_store, unit

Ids = Callable[[GalleryStore], list[str]]


def test_a_new_gallery_has_the_given_entries(store: GalleryStore, tmp_path: Path) -> None:
    table = store.read().sort_by("entry_id")
    expected = make_entries(40)
    assert (store.count(), store.version, store.description) == (40, 1, DESCRIPTION)
    assert table["image_id"].to_pylist() == expected["image_id"].to_pylist()
    assert table["captured_at"].to_pylist() == expected["captured_at"].to_pylist()
    for name in ("location_embedding", "image_embedding"):
        np.testing.assert_array_equal(matrix(table[name], DIM), matrix(expected[name], DIM))
    assert len(set(table["candidate_id"].to_pylist())) == 10
    assert sorted(path.name for path in (tmp_path / "gallery").iterdir()) == ["entries.lance", "gallery.json", "model"]


def test_a_gallery_moves_with_its_folder(store: GalleryStore, tmp_path: Path, ids: Ids) -> None:
    before = ids(store)
    shutil.move(tmp_path / "gallery", tmp_path / "elsewhere")
    again = GalleryStore.open(tmp_path / "elsewhere")
    assert ids(again) == before
    assert again.append(make_entries(1, prefix="new")).inserted == 1


def test_append_inserts_and_refuses_existing_photographs(store: GalleryStore, ids: Ids) -> None:
    assert store.append(make_entries(3, prefix="q")) == Change(inserted=3, version=2)
    with pytest.raises(
        InputError, match=r"photographs 'p00000', 'q00000', 'q00001' and 1 more are in the gallery already.*upsert"
    ):
        store.append(pa.concat_tables([make_entries(4, prefix="q"), make_entries(1, prefix="p")]).slice(0, 5))
    assert store.version == 2
    assert store.append(make_entries(5, prefix="q"), "skip") == Change(inserted=2, skipped=3, version=3)
    assert store.append(make_entries(5, prefix="q"), "skip") == Change(skipped=5, version=3)
    with pytest.raises(InputError, match="'p00000' is given twice"):
        store.append(pa.concat_tables([make_entries(1), make_entries(1)]))
    assert len(ids(store)) == len(set(ids(store))) == 45
    assert store.append(make_entries(0)) == store.upsert(make_entries(0)) == Change(version=3)


def test_new_entries_join_the_candidate_at_their_position(store: GalleryStore) -> None:
    """Another embedding, city and a position two centimetres apart in print: the gallery's own count."""
    lat = np.array([51.5 + 4e-8, 51.5, 51.6, 51.6])
    new = make_entries(4, prefix="q", seed=9, lat_deg=lat, city=["Bath"] * 4)
    store.append(new)
    old = store.read(where=EntryFilter(image_ids=["p00000"])).to_pylist()[0]
    entries = store.read(where=EntryFilter(image_ids=[f"q0000{i}" for i in range(4)])).sort_by("image_id").to_pylist()
    for name in ("candidate_id", "lat_deg", "lon_deg", "city", "location_embedding"):
        assert [one[name] for one in entries[:2]] == [old[name]] * 2
    assert entries[2]["candidate_id"] == entries[3]["candidate_id"] == "at+51.6000000-000.1000000"
    assert (entries[2]["city"], entries[2]["lat_deg"]) == ("Bath", 51.6)


def test_positions_alone_are_added_where_no_candidate_is(store: GalleryStore) -> None:
    change = store.append(make_entries(12, bare=True))
    assert (change.inserted, change.skipped) == (2, 10)
    assert store.count(EntryFilter(photographs=False)) == 2
    assert store.append(make_entries(12, bare=True)) == Change(skipped=12, version=2)
    keys = store.read(["entry_id"], EntryFilter(photographs=False))["entry_id"].to_pylist()
    assert sorted(keys) == ["position/at+51.5090000-000.1000000", "position/at+51.5099000-000.1000000"]


def test_a_candidate_id_used_at_another_position_is_renamed(tmp_path: Path) -> None:
    store = make_store(tmp_path / "a", make_entries(2, bare=True, candidate_id=["c0", "c1"]))
    further = make_entries(2, bare=True, candidate_id=["c0", "c7"], lat_deg=np.array([52.0, 52.1]))
    store.append(further)
    names = set(store.read(["candidate_id"])["candidate_id"].to_pylist())
    assert names == {"c0", "c1", "at+52.0000000-000.1000000", "c7"}


def test_upsert_replaces_and_adds(store: GalleryStore) -> None:
    new = make_entries(6, seed=5, source=["kartaview"] * 6).slice(2)
    change = store.upsert(pa.concat_tables([new, make_entries(1, prefix="q")]))
    assert (change.inserted, change.updated, change.deleted) == (1, 4, 0)
    assert store.count() == 41
    entries = store.read(where=EntryFilter(sources=["kartaview"])).sort_by("image_id")
    assert entries["image_id"].to_pylist() == [f"p0000{i}" for i in range(2, 6)]
    np.testing.assert_array_equal(matrix(entries["image_embedding"], DIM), unit(7, 6)[2:])


def test_upsert_of_all_entries_of_a_candidate_updates_shared_columns(store: GalleryStore) -> None:
    name = store.read(["candidate_id"], EntryFilter(image_ids=["p00000"]))["candidate_id"][0].as_py()
    renewed = make_entries(4, seed=5, city=["Bath"] * 4)
    store.upsert(renewed)
    entries = store.read(where=EntryFilter(candidate_ids=[name]))
    assert set(entries["city"].to_pylist()) == {"Bath"}
    np.testing.assert_array_equal(
        matrix(entries["location_embedding"], DIM), matrix(renewed["location_embedding"], DIM)
    )
    store.upsert(make_entries(3, seed=6, city=["Hull"] * 3))  # the fourth photograph stays, and so does what it shares
    assert set(store.read(where=EntryFilter(candidate_ids=[name]))["city"].to_pylist()) == {"Bath"}


def test_upsert_moves_a_photograph(store: GalleryStore) -> None:
    store.upsert(make_entries(1, lat_deg=np.array([51.7])))
    assert store.count() == 40
    entries = store.read(["candidate_id"], EntryFilter(image_ids=["p00000"]))["candidate_id"].to_pylist()
    assert entries == ["at+51.7000000-000.1000000"]


def test_delete_removes_the_selected_entries(store: GalleryStore, ids: Ids) -> None:
    assert store.delete(EntryFilter(image_ids=["p00003", "p00004"])) == Change(deleted=2, version=2)
    assert store.delete(EntryFilter(near=(51.5, -0.1), radius_m=50.0)) == Change(deleted=3, version=3)
    assert ids(store) == [f"photo/p{i:05d}" for i in range(5, 40)]
    assert store.delete(EntryFilter(cities=["Hull"])) == Change(version=3)
    with pytest.raises(InputError, match="'p00003' is not in the gallery; nothing was deleted"):
        store.delete(EntryFilter(image_ids=["p00003", "p00005"]))
    with pytest.raises(InputError, match="give conditions for the entries"):
        store.delete(EntryFilter())
    with pytest.raises(InputError, match="all 35 entries meet"):
        store.delete(EntryFilter(until=datetime(2030, 1, 1)))
    assert store.count() == 35


def test_merge_inserts_the_entries_of_another_gallery(store: GalleryStore, tmp_path: Path, ids: Ids) -> None:
    other = make_store(tmp_path / "other", make_entries(60, seed=8, source=["other"] * 60).slice(20))
    with pytest.raises(InputError, match="and 17 more are in the gallery already"):
        store.merge(other)
    assert store.merge(other, "ours") == Change(inserted=20, skipped=20, version=2)
    assert ids(store) == [f"photo/p{i:05d}" for i in range(60)]
    assert store.count(EntryFilter(sources=["other"])) == 20
    assert store.merge(other, "theirs") == Change(updated=40, version=3)
    assert store.count(EntryFilter(sources=["other"])) == 40
    assert other.version == 1


def test_galleries_of_two_models_are_not_merged(store: GalleryStore, tmp_path: Path) -> None:
    other = make_store(tmp_path / "other", make_entries(4), Description("tiny-1", DIM))
    with pytest.raises(MismatchError, match=r"model tiny-0.*model tiny-1.*swclip gallery append"):
        store.merge(other)
    hubs = make_store(tmp_path / "hubs", make_entries(4), Description("tiny-0", DIM, hubness=True))
    with pytest.raises(MismatchError, match=r"hubness of .*hubs is measured"):
        store.merge(hubs)


def test_a_subset_is_copied_to_a_new_gallery(store: GalleryStore, tmp_path: Path, ids: Ids) -> None:
    part = store.copy(tmp_path / "york", EntryFilter(cities=["York"]))
    assert set(part.read(["city"])["city"].to_pylist()) == {"York"}
    assert part.count() == store.count(EntryFilter(cities=["York"])) == 20
    assert (tmp_path / "york" / "model" / "config.json").is_file()
    assert part.description == store.description
    with pytest.raises(InputError, match="no entry meets"):
        store.copy(tmp_path / "hull", EntryFilter(cities=["Hull"]))
    assert not (tmp_path / "hull").exists()


def test_compacting_keeps_every_entry(store: GalleryStore, tmp_path: Path) -> None:
    for number in range(5):
        store.append(make_entries(3, prefix=f"q{number}"))
    store.delete(EntryFilter(image_ids=["p00000"]))
    before = store.read().sort_by("entry_id")
    assert [one["rows"] for one in store.versions()] == [40, 43, 46, 49, 52, 55, 54]
    store.compact()
    assert len(store.versions()) > 7  # a week is kept
    store.compact(timedelta(0))
    assert len(store.versions()) == 1
    assert len(list((tmp_path / "gallery" / "entries.lance" / "data").iterdir())) == 1
    assert store.read().sort_by("entry_id").equals(before)


def test_a_store_sees_the_commits_of_another(store: GalleryStore, tmp_path: Path) -> None:
    other = GalleryStore.open(tmp_path / "gallery")
    other.append(make_entries(2, prefix="q"))
    assert (store.count(), store.version) == (42, 2)
    assert store.append(make_entries(2, prefix="r")).version == 3
    assert other.count() == 44


def test_a_folder_without_a_gallery_is_refused(store: GalleryStore, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="is not a gallery"):
        GalleryStore.open(tmp_path)
    shutil.rmtree(tmp_path / "gallery" / "entries.lance")
    with pytest.raises(ArtefactError, match=r"entries\.lance\) is missing.*swclip index"):
        GalleryStore.open(tmp_path / "gallery")
    (tmp_path / "gallery" / "gallery.json").write_text(json.dumps({"version": "1", "dim": 8}))
    with pytest.raises(ArtefactError, match=r"version '1'.*reads '3'.*swclip index RUN MANIFEST --out GALLERY"):
        GalleryStore.open(tmp_path / "gallery")


def test_a_table_of_other_columns_is_refused(store: GalleryStore, tmp_path: Path) -> None:
    store.table.add_columns({"mine": "lat_deg * 2"})  # a user's column is left unchanged
    again = GalleryStore.open(tmp_path / "gallery")
    assert "mine" not in again.read().schema.names
    store.table.drop_columns(["source"])
    with pytest.raises(ArtefactError, match="column 'source' of its table is missing, and string is needed"):
        GalleryStore.open(tmp_path / "gallery")


def test_ids_that_repeat_are_not_written(tmp_path: Path) -> None:
    twice = pa.concat_tables([make_entries(3), make_entries(1)])
    with pytest.raises(InputError, match="'photo/p00000' occurs twice"):
        make_store(tmp_path / "gallery", twice)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_gallery_unchanged(
    store: GalleryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids: Ids
) -> None:
    from swclip.gallery import folder

    def full(*_: object, **__: object) -> None:
        raise RuntimeError(f"lance error: LanceError(IO): {os.strerror(errno.ENOSPC)} (os error {errno.ENOSPC})")

    monkeypatch.setattr(folder, "connect", full)
    with pytest.raises(DiskFullError, match="disk is full"):
        make_store(tmp_path / "gallery", make_entries(8))
    monkeypatch.undo()
    assert len(ids(GalleryStore.open(tmp_path / "gallery"))) == 40
    assert [path.name for path in tmp_path.iterdir()] == ["gallery"]


_CHANGES = st.lists(
    st.tuples(st.sampled_from(["append", "upsert", "delete", "compact"]), st.sets(st.integers(0, 25), min_size=1)),
    min_size=1,
    max_size=6,
)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_CHANGES)
def test_any_sequence_of_changes_equals_that_of_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, set[int]]]
) -> None:
    store = make_store(tmp_path_factory.mktemp("changes") / "gallery", make_entries(8))
    model = {f"p{i:05d}": 0 for i in range(8)}
    for number, (kind, rows) in enumerate(changes, start=1):
        entries = make_entries(26, accuracy_m=np.full(26, float(number))).take(sorted(rows))
        names = entries["image_id"].to_pylist()
        if kind == "append":
            change = store.append(entries, "skip")
            new = [name for name in names if name not in model]
            model.update(dict.fromkeys(new, number))
            assert (change.inserted, change.skipped) == (len(new), len(names) - len(new))
        elif kind == "upsert":
            change = store.upsert(entries)
            assert change.updated == len(set(names) & set(model))
            model.update(dict.fromkeys(names, number))
        elif kind == "delete":
            going = [name for name in names if name in model]
            if going and len(going) < len(model):
                assert store.delete(EntryFilter(image_ids=going)).deleted == len(going)
                for name in going:
                    del model[name]
        else:
            store.compact(timedelta(0))
        entries = store.read(["image_id", "accuracy_m"]).to_pylist()
        assert {one["image_id"]: int(one["accuracy_m"] or 0) for one in entries} == model
        assert len(entries) == len(model)


def test_vectors_keep_their_rows_around_nulls() -> None:
    rows, valid = unit(3, 5), np.array([True, False, True, False, True])
    column = pa.chunked_array([vectors(rows[:2], valid[:2]), vectors(rows, valid).slice(2)])
    np.testing.assert_array_equal(matrix(column, DIM)[valid], rows[valid])


@pytest.mark.parametrize("how", ["create", "append", "upsert"])
def test_a_non_finite_embedding_is_refused(store: GalleryStore, tmp_path: Path, how: str) -> None:
    rows = unit(9, 8)
    rows[5, 3] = np.nan
    bad = make_entries(8, prefix="q", image_embedding=vectors(rows))
    write = partial(make_store, tmp_path / "other") if how == "create" else getattr(store, how)
    with pytest.raises(InputError, match=r"image_embedding of .* \(1 in all\) has values that are not finite"):
        write(bad)
    assert (store.count(), store.version) == (40, 1)
    assert not (tmp_path / "other").exists()


def test_positions_have_no_image_embedding_and_keep_none(store: GalleryStore) -> None:
    elsewhere = make_entries(6, bare=True, seed=3, lon_deg=np.full(6, -0.2))
    assert store.append(elsewhere).inserted == 6
    kept = store.read(["image_embedding"], EntryFilter(photographs=False))
    assert kept["image_embedding"].null_count == len(kept) == 6
