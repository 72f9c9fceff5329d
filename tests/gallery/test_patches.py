"""Patch features of a gallery: stored with its photographs, kept by every change, and read by row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from fixtures.models import tiny_model
from swclip.data.manifest import Manifest, write_manifest
from swclip.errors import ArtefactError, MismatchError
from swclip.gallery.build import build_gallery, insert_photographs, manifest_candidates
from swclip.gallery.export import export_points
from swclip.gallery.filters import EntryFilter
from swclip.gallery.inspect import gallery_info, verify
from swclip.gallery.patches import ComputedPatches, MemoryPatches, PatchTable
from swclip.gallery.read_write import load_gallery, save_gallery
from swclip.gallery.schema import PATCHES, manifest_details
from swclip.gallery.store import GalleryStore
from swclip.models.embed_patches import fit_patch_encoder, patch_features
from swclip.models.locator_model import LocatorModel
from swclip.models.patch_matching import patch_similarities

COUNT = 9


@pytest.fixture
def manifest(photographs: Callable[[int], list[Path]], tmp_path: Path) -> Manifest:
    frame = pd.DataFrame(
        {
            "image_id": [f"i{i}" for i in range(COUNT)],
            "image_path": [str(path) for path in photographs(COUNT)],
            "lat_deg": 51.5 + np.arange(COUNT) // 2 * 1e-3,
            "lon_deg": -0.1,
        }
    )
    return write_manifest(tmp_path / "manifest.parquet", frame)


@pytest.fixture
def model(manifest: Manifest) -> LocatorModel:
    made = tiny_model(manifest.positions_deg)
    made.patches = fit_patch_encoder(made, manifest.image_paths, 5)
    return made


def part_of(manifest: Manifest, rows: slice) -> Manifest:
    return Manifest(manifest.path, manifest.frame.iloc[rows].reset_index(drop=True))


def saved(model: LocatorModel, manifest: Manifest, path: Path, *, patches: bool = True) -> GalleryStore:
    gallery = build_gallery(model, manifest_candidates(manifest), manifest, patches=patches)
    save_gallery(gallery, path, model, details=manifest_details(manifest))
    return GalleryStore.open(path)


def stored(path: Path | str, manifest: Manifest) -> list[np.ndarray | None]:
    source = PatchTable.of_store(GalleryStore.open(path))
    assert source is not None
    return source.take(manifest.frame["image_id"].tolist())


def test_a_gallery_that_grows_and_changes_keeps_the_patch_features_of_each_photograph(
    model: LocatorModel, manifest: Manifest, tmp_path: Path
) -> None:
    expected = patch_features(model, manifest.image_paths)
    store = saved(model, part_of(manifest, slice(0, 4)), tmp_path / "a")
    insert_photographs(store, model, part_of(manifest, slice(3, 7)), commit_rows=2)
    other = saved(model, part_of(manifest, slice(7, COUNT)), tmp_path / "b")
    store.merge(other)
    store.compact()
    assert verify(store, model.fingerprint) == []
    for values, computed in zip(stored(tmp_path / "a", manifest), expected, strict=True):
        np.testing.assert_array_equal(values, computed)
    store.copy(tmp_path / "c", EntryFilter(image_ids=["i1", "i8"]))
    assert [values is None for values in stored(tmp_path / "c", manifest)] == [i not in (1, 8) for i in range(COUNT)]
    info = gallery_info(GalleryStore.open(tmp_path / "c"))
    assert (info.patch_features, info.patch_bytes) == (2, 2 * (4 + 2 * 2 * 5))


def test_similarities_from_disk_are_those_of_the_photographs(
    model: LocatorModel, manifest: Manifest, tmp_path: Path
) -> None:
    saved(model, manifest, tmp_path / "gallery")
    query, *others = patch_features(model, manifest.image_paths)
    assert query is not None
    verifier = load_gallery(tmp_path / "gallery").verifier
    assert isinstance(verifier, PatchTable)
    similarity = verifier.compare(query, ["i8", "missing", "i0"])
    np.testing.assert_allclose(similarity[[0, 2]], patch_similarities(query, [others[-1], query]), atol=1e-6)
    assert np.isnan(similarity[1])
    assert verifier.compare(query, []).shape == (0,)


def test_a_reader_keeps_the_version_that_it_opened(model: LocatorModel, manifest: Manifest, tmp_path: Path) -> None:
    store = saved(model, part_of(manifest, slice(0, 4)), tmp_path / "gallery")
    source = PatchTable.of_store(store)
    assert source is not None
    store.delete(EntryFilter(image_ids=["i0"]))
    insert_photographs(store, model, part_of(manifest, slice(4, 6)))
    assert [values is None for values in source.take(["i0", "i5"])] == [False, True]


def test_patch_features_in_memory_are_computed_once(model: LocatorModel, manifest: Manifest) -> None:
    gallery = build_gallery(model, manifest_candidates(manifest), manifest, patches=True)
    assert isinstance(gallery.verifier, ComputedPatches)
    seen: list[tuple[int, int]] = []
    memory = gallery.verifier.computed(lambda done, total: seen.append((done, total)))
    assert isinstance(memory, MemoryPatches)
    assert seen[-1] == (COUNT, COUNT)
    expected = patch_features(model, manifest.image_paths)
    for values, computed in zip(memory.take(manifest.frame["image_id"].tolist()), expected, strict=True):
        np.testing.assert_array_equal(values, computed)
    assert memory.fingerprint == gallery.verifier.fingerprint


def test_galleries_without_patch_features_are_as_before(
    model: LocatorModel, manifest: Manifest, tmp_path: Path
) -> None:
    store = saved(model, part_of(manifest, slice(0, 4)), tmp_path / "plain", patches=False)
    assert PATCHES not in store.table.schema.names
    assert load_gallery(tmp_path / "plain").verifier is None
    assert gallery_info(store).patch_features == 0
    other = saved(model, part_of(manifest, slice(4, 6)), tmp_path / "rich")
    with pytest.raises(MismatchError, match=r"--patch-features.*plain"):
        store.merge(other)
    with pytest.raises(MismatchError, match=r"--patch-features.*plain"):
        other.merge(store)


def test_the_points_of_an_export_have_no_patch_features(
    model: LocatorModel, manifest: Manifest, tmp_path: Path
) -> None:
    store = saved(model, manifest, tmp_path / "gallery")
    export_points(store, tmp_path / "points.parquet")
    assert PATCHES not in pq.read_schema(tmp_path / "points.parquet").names


def test_models_without_or_with_other_patch_features_are_refused(
    model: LocatorModel, manifest: Manifest, tmp_path: Path
) -> None:
    store = saved(model, part_of(manifest, slice(0, 4)), tmp_path / "gallery")
    model.patches = fit_patch_encoder(model, manifest.image_paths[:3], 4)
    with pytest.raises(MismatchError, match="patch features of encoder"):
        insert_photographs(store, model, part_of(manifest, slice(4, 6)))
    model.patches = None
    with pytest.raises(ArtefactError, match="no patch features"):
        insert_photographs(store, model, part_of(manifest, slice(4, 6)))
    with pytest.raises(ArtefactError, match="no patch features"):
        build_gallery(model, manifest_candidates(manifest), manifest, patches=True)
    assert store.count() == 4
