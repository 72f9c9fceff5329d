"""Galleries made from a manifest, and extended on disk: the same as one made of all photographs at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from swclip.calibration.posterior_config import PosteriorConfig
from swclip.data.attribution import credits_of
from swclip.data.manifest import Manifest, write_manifest
from swclip.errors import ArtefactError, InputError, MismatchError
from swclip.gallery.build import build_gallery, candidates_of, insert_photographs, manifest_candidates, thumbnails_of
from swclip.gallery.filters import EntryFilter
from swclip.gallery.gallery import Gallery
from swclip.gallery.hubness import Bank, read_bank
from swclip.gallery.inspect import gallery_info, photograph_credits, verify
from swclip.gallery.read_write import gallery_from_table, load_gallery, save_gallery
from swclip.gallery.schema import manifest_details
from swclip.gallery.store import GalleryStore
from swclip.models.embed import embed_photographs, embed_positions
from swclip.retrieval.shortlist import Shortlister

COUNT = 24


@pytest.fixture
def manifest(photographs: Callable[[int], list[Path]], tmp_path: Path) -> Manifest:
    """Two photographs a place, some of them without a city."""
    place = np.arange(COUNT) // 2
    frame = pd.DataFrame(
        {
            "image_id": [f"i{i:02d}" for i in range(COUNT)],
            "image_path": [str(path) for path in photographs(COUNT)],
            "lat_deg": 51.5 + place * 1e-3,
            "lon_deg": -0.1,
            "city": [None if i % 3 else "Leeds" for i in place],
            "accuracy_m": np.where(place % 2, 3.5, np.nan),
            "captured_at": pd.date_range("2021-03-04", periods=COUNT, freq="h"),
            "licence": "CC0",
            "seasons": [{"leaf": "on"} if i == 1 else None for i in range(COUNT)],
            "floor": [float(i) if i == 2 else np.nan for i in range(COUNT)],
        }
    )
    return write_manifest(tmp_path / "manifest.parquet", frame)


@pytest.fixture
def bank() -> Bank:
    rows = np.random.default_rng(3).normal(size=(40, 8))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Bank(rows.astype(np.float16), [f"i{i:02d}" for i in range(40)])


def _some(manifest: Manifest, rows: slice) -> Manifest:
    return Manifest(manifest.path, manifest.frame.iloc[rows].reset_index(drop=True))


def _same(actual: Gallery, expected: Gallery) -> None:
    assert actual.image_ids == expected.image_ids
    assert actual.cities == expected.cities
    np.testing.assert_array_equal(actual.positions_deg, expected.positions_deg)
    np.testing.assert_array_equal(actual.image_rows, expected.image_rows)
    np.testing.assert_allclose(actual.location_embeddings, expected.location_embeddings, atol=1e-6)
    np.testing.assert_allclose(actual.image_embeddings, expected.image_embeddings, atol=1e-6)
    assert (actual.image_hubness is None) == (expected.image_hubness is None)
    if actual.image_hubness is not None and expected.image_hubness is not None:
        np.testing.assert_allclose(actual.image_hubness, expected.image_hubness, atol=1e-6)


def test_attribution_is_that_of_the_manifest_however_the_gallery_is_made(
    manifest: Manifest, tmp_path: Path, model: Any
) -> None:
    frame = manifest.frame.assign(
        author=[None if i % 4 == 3 else f"Ada {i % 4}" for i in range(COUNT)],
        source_url=[f"https://example.org/{i}" for i in range(COUNT)],
    )
    manifest = write_manifest(tmp_path / "credited.parquet", frame)
    in_memory = build_gallery(model, manifest_candidates(manifest), manifest)
    folder = tmp_path / "gallery"
    first = build_gallery(model, candidates_of(_some(manifest, slice(0, 7))), _some(manifest, slice(0, 7)))
    save_gallery(first, folder, model, details=manifest_details(_some(manifest, slice(0, 7))))
    insert_photographs(GalleryStore.open(folder), model, manifest)
    expected = frame.set_index("image_id")
    on_disk = load_gallery(folder)
    shortlister = Shortlister(GalleryStore.open(folder).table, on_disk.meta)
    rows = np.array([1, 4, 9])
    for gallery in (in_memory, on_disk, on_disk.take(rows), shortlister.read(rows)):
        assert gallery.image_attribution is not None
        for name in ("licence", "author", "source_url"):
            values = [None if pd.isna(value) else value for value in expected[name][gallery.image_ids]]
            assert gallery.image_attribution[name].to_pylist() == values
    info = gallery_info(GalleryStore.open(folder))
    assert (info.licences, info.authors) == ({"CC0": COUNT}, 3)
    assert photograph_credits(GalleryStore.open(folder)) == credits_of(frame)


@pytest.mark.parametrize("with_bank", [True, False])
def test_a_gallery_extended_in_parts_equals_one_made_at_once(
    manifest: Manifest, model: object, bank: Bank, tmp_path: Path, with_bank: bool
) -> None:
    bank_used = bank if with_bank else None
    save_gallery(
        build_gallery(model, manifest_candidates(manifest), manifest, bank=bank_used),
        tmp_path / "whole",
        model,
        bank=bank_used,
    )
    first = _some(manifest, slice(0, 7))
    save_gallery(
        build_gallery(model, manifest_candidates(first), first, bank=bank_used),
        tmp_path / "grown",
        model,
        bank=bank_used,
        details=manifest_details(first),
    )
    store = GalleryStore.open(tmp_path / "grown")
    seen: list[tuple[int, int]] = []
    kept = read_bank(tmp_path / "grown")
    assert (kept is None) == (bank_used is None)
    change = insert_photographs(
        store, model, manifest, bank=kept, commit_rows=5, progress=lambda done, total: seen.append((done, total))
    )
    assert (change.inserted, change.skipped, change.version) == (17, 7, 5)
    assert seen[-1] == (17, 17)
    assert seen == sorted(seen)
    _same(load_gallery(tmp_path / "grown"), load_gallery(tmp_path / "whole"))
    assert verify(store, "tiny-0") == []
    rows = {row["image_id"]: row for row in store.read().to_pylist()}
    for number, row in enumerate(manifest.frame.itertuples()):
        entry = rows[row.image_id]
        assert entry["captured_at"] == row.captured_at.to_pydatetime()
        assert entry["licence"] == "CC0"
        assert entry["accuracy_m"] == (None if np.isnan(row.accuracy_m) else 3.5)
        extra = {1: {"seasons": "{'leaf': 'on'}"}, 2: {"floor": 2.0}}.get(number)
        assert (json.loads(entry["extra"]) if entry["extra"] else None) == extra


def test_replacing_updates_every_photograph(manifest: Manifest, model: object, tmp_path: Path) -> None:
    save_gallery(build_gallery(model, manifest_candidates(manifest), manifest), tmp_path / "gallery", model)
    store, seen = GalleryStore.open(tmp_path / "gallery"), model.seen
    assert insert_photographs(store, model, manifest).skipped == COUNT
    assert model.seen == seen  # existing photographs are not embedded again
    thumbnails = [store.thumbnail(f"i{i:02d}") for i in range(2)]
    assert thumbnails == [None, None]
    change = insert_photographs(store, model, _some(manifest, slice(0, 6)), replacing=True, thumbnails_px=8)
    assert (change.inserted, change.updated, model.seen) == (0, 6, seen + 6)
    assert store.with_thumbnail() == [f"i{i:02d}" for i in range(6)]
    _same(load_gallery(tmp_path / "gallery"), build_gallery(model, candidates_of(manifest), manifest))


def test_a_gallery_with_hubness_needs_its_bank(manifest: Manifest, model: object, bank: Bank, tmp_path: Path) -> None:
    save_gallery(build_gallery(model, manifest_candidates(manifest), manifest, bank=bank), tmp_path / "gallery", model)
    store = GalleryStore.open(tmp_path / "gallery")
    with pytest.raises(ArtefactError, match=r"no bank\.safetensors"):
        insert_photographs(store, model, manifest)
    with pytest.raises(MismatchError, match="was made by model tiny-0"):
        insert_photographs(store, type(model)(seed=1), manifest, bank=bank)


def test_an_unreadable_photograph_keeps_its_candidate(manifest: Manifest, model: object, tmp_path: Path) -> None:
    first = _some(manifest, slice(0, 4))
    save_gallery(build_gallery(model, manifest_candidates(first), first), tmp_path / "gallery", model)
    manifest.image_paths[9].write_text("no picture")
    failures: list[tuple[Path, str]] = []
    store = GalleryStore.open(tmp_path / "gallery")
    change = insert_photographs(store, model, manifest, failures=failures, commit_rows=6)
    assert (change.inserted, [path.name for path, _ in failures]) == (19, ["009.png"])
    assert len(load_gallery(tmp_path / "gallery")) == 12
    assert insert_photographs(store, model, manifest, failures=[]).inserted == 0
    assert thumbnails_of(manifest, 8)(["i09", "i08"])[0] is None


def test_a_subset_of_a_gallery_is_read(manifest: Manifest, model: object, tmp_path: Path) -> None:
    whole = build_gallery(model, manifest_candidates(manifest), manifest)
    save_gallery(whole, tmp_path / "gallery", model)
    part = load_gallery(tmp_path / "gallery", EntryFilter(cities=["Leeds"]))
    assert len(part) == 4
    assert part.image_ids == [name for name in whole.image_ids if int(name[1:]) // 2 % 3 == 0]
    assert part.meta["counts"] == {"candidates": 4, "photographs": 8, "cities": 1}


def test_the_order_of_rows_does_not_matter(manifest: Manifest, model: object, bank: Bank, tmp_path: Path) -> None:
    save_gallery(build_gallery(model, manifest_candidates(manifest), manifest, bank=bank), tmp_path / "gallery", model)
    store = GalleryStore.open(tmp_path / "gallery")
    table, expected_gallery = store.read(), load_gallery(tmp_path / "gallery")
    for seed in range(5):
        shuffled = table.take(pa.array(np.random.default_rng(seed).permutation(len(table))))
        _same(gallery_from_table(shuffled, store.description, "shuffled"), expected_gallery)


def test_inconsistent_entries_are_refused(manifest: Manifest, model: object, tmp_path: Path) -> None:
    save_gallery(build_gallery(model, manifest_candidates(manifest), manifest), tmp_path / "gallery", model)
    store = GalleryStore.open(tmp_path / "gallery")
    store.table.update(where="image_id = 'i04'", values={"lat_deg": 60.0})
    with pytest.raises(ArtefactError, match=r"at several positions; see: swclip gallery verify"):
        load_gallery(tmp_path / "gallery")


@pytest.fixture
def town(photographs: Callable[[int], list[Path]], tmp_path: Path) -> object:
    paths = photographs(8)
    lat = 51.5 + np.array([0, 0, 1, 2, 3, 4, 5, 6]) * 1e-3  # the first two at one place
    frame = pd.DataFrame(
        {
            "image_id": [f"i{i}" for i in range(8)],
            "image_path": [str(path) for path in paths],
            "lat_deg": lat,
            "lon_deg": np.full(8, -0.1),
            "city": ["Leeds"] * 4 + [None] * 4,
        }
    )
    return write_manifest(tmp_path / "manifest.parquet", frame)


def test_a_gallery_is_built_from_a_manifest(town: object, model: object) -> None:
    posterior = PosteriorConfig(0.03)
    gallery = build_gallery(model, manifest_candidates(town), town, posterior=posterior)
    assert len(gallery) == 7
    assert sorted(gallery.image_ids_of(0)) == ["i0", "i1"]
    np.testing.assert_allclose(gallery.location_embeddings, embed_positions(model, gallery.positions_deg), atol=1e-6)
    rows = [int(image_id[1:]) for image_id in gallery.image_ids]
    expected = embed_photographs(model, [town.image_paths[row] for row in rows])
    np.testing.assert_allclose(gallery.image_embeddings, expected, atol=1e-6)
    np.testing.assert_allclose(town.positions_deg[rows], gallery.positions_deg[gallery.image_rows], atol=1e-7)
    assert gallery.posterior == posterior
    assert gallery.meta["manifest_digest"] == town.digest
    assert gallery.cities[0] == "Leeds"


def test_positions_alone_and_a_grid_need_no_photograph(town: object, model: object) -> None:
    for path in town.image_paths:
        path.unlink()
    bare = build_gallery(model, manifest_candidates(town, photographs=False), town)
    assert (len(bare), len(bare.image_ids)) == (7, 0)
    grid = build_gallery(model, manifest_candidates(town, 100.0), town)
    assert len(grid) > 7
    assert not grid.image_ids


def test_unreadable_photographs_are_left_out_and_listed(town: object, model: object) -> None:
    town.image_paths[3].write_text("no picture")
    with pytest.raises(InputError, match=r"003\.png"):
        build_gallery(model, manifest_candidates(town), town)
    failures: list[tuple[Path, str]] = []
    gallery = build_gallery(model, manifest_candidates(town), town, failures=failures)
    assert "i3" not in gallery.image_ids
    assert (len(gallery), len(gallery.image_ids)) == (7, 7)
    assert [path.name for path, _ in failures] == ["003.png"]
    assert gallery.meta["left_out"][0]["path"].endswith("003.png")


def test_a_photograph_of_another_manifest_is_refused(town: object, model: object) -> None:
    candidates = manifest_candidates(town)
    candidates.at[2, "image_ids"] = ["elsewhere"]
    with pytest.raises(MismatchError, match="'elsewhere'"):
        build_gallery(model, candidates, town)
