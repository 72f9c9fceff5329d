"""Galleries as folders: round trip, refused inputs, and no partial files after a failure."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from swclip.calibration.posterior_config import PosteriorConfig
from swclip.errors import ArtefactError, InputError, MismatchError, SwclipError
from swclip.gallery.gallery import Gallery
from swclip.gallery.read_write import load_gallery, save_gallery
from swclip.gallery.schema import Description
from swclip.gallery.store import GalleryStore
from swclip.retrieval.posterior import log_posterior

Make = Callable[..., Gallery]


def _same(gallery: Gallery, other: Gallery, query: np.ndarray) -> None:
    """`other` equals `gallery` in the order of a gallery read from disk."""
    order = sorted(range(len(gallery)), key=lambda row: (*gallery.positions_deg[row], gallery.candidate_ids[row]))
    number = {row: at for at, row in enumerate(order)}
    pairs = zip(gallery.image_rows.tolist(), gallery.image_ids, strict=True)
    taken = sorted((number[row], name, at) for at, (row, name) in enumerate(pairs))
    own = [at for _, _, at in taken]
    assert other.candidate_ids == [gallery.candidate_ids[row] for row in order]
    assert other.cities == [gallery.cities[row] for row in order]
    assert other.image_ids == [name for _, name, _ in taken]
    assert other.image_rows.tolist() == [row for row, _, _ in taken]
    np.testing.assert_array_equal(gallery.positions_deg[order], other.positions_deg)
    np.testing.assert_array_equal(gallery.location_embeddings[order], other.location_embeddings)
    np.testing.assert_array_equal(gallery.image_embeddings[own], other.image_embeddings)
    config = PosteriorConfig(0.1, 0.1, 0.5)
    np.testing.assert_allclose(
        log_posterior(query, gallery, config)[:, order], log_posterior(query, other, config), atol=1e-5
    )


@pytest.mark.parametrize("photographs", [0, 25])
def test_a_gallery_survives_its_folder(
    make_gallery: Make, make_queries: Callable[..., np.ndarray], model: object, tmp_path: Path, photographs: int
) -> None:
    gallery = make_gallery(1, with_photographs=min(photographs, 12), photographs=photographs)
    save_gallery(gallery, tmp_path / "gallery", model)
    read = load_gallery(tmp_path / "gallery")
    _same(gallery, read, make_queries(1))
    assert read.meta["fingerprint"] == "tiny-0"
    assert read.meta["counts"] == {"candidates": 30, "photographs": photographs, "cities": 2}
    assert read.posterior is None
    for row in range(30):
        own = read.candidate_ids.index(gallery.candidate_ids[row])
        assert sorted(read.image_ids_of(own)) == sorted(gallery.image_ids_of(row))
    save_gallery(read, tmp_path / "gallery", model)  # over itself
    _same(gallery, load_gallery(tmp_path / "gallery"), make_queries(1))
    assert [p.name for p in tmp_path.iterdir()] == ["gallery"]


def _all_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.parent.name != "model")


@pytest.mark.parametrize("harm", ["cut", "gone"])
def test_a_damaged_gallery_is_refused(make_gallery: Make, model: object, tmp_path: Path, harm: str) -> None:
    save_gallery(make_gallery(3), tmp_path / "gallery", model)
    for path in _all_files(tmp_path / "gallery"):
        if path.suffix == ".txn" or path.name == "latest_version_hint.json":
            continue  # not needed by Lance
        whole = path.read_bytes()
        if harm == "gone":
            path.unlink()
        else:
            path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ArtefactError, match=str(tmp_path / "gallery")):
            load_gallery(tmp_path / "gallery")
        path.write_bytes(whole)
    load_gallery(tmp_path / "gallery")


def test_a_gallery_of_version_2_is_read_and_grows(
    make_gallery: Make, model: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def as_version_2(description: Description) -> str:
        names = ("fingerprint", "dim", "hubness", "meta")
        return json.dumps({"version": "2", **{name: vars(description)[name] for name in names}})

    gallery = make_gallery(4)
    with monkeypatch.context() as before:
        before.setattr(Description, "to_json", as_version_2)
        before.setattr("swclip.gallery.folder.GALLERY_VERSION", "2")
        before.setattr(GalleryStore, "open", lambda path: None)
        save_gallery(gallery, tmp_path / "old", model)
    assert json.loads((tmp_path / "old" / "gallery.json").read_text())["version"] == "2"
    save_gallery(gallery, tmp_path / "new", model)
    old, new = (load_gallery(tmp_path / name) for name in ("old", "new"))
    assert old.image_whitened is None
    assert np.array_equal(old.location_embeddings, new.location_embeddings)
    assert np.array_equal(old.image_embeddings, new.image_embeddings)
    other = replace(make_gallery(7), image_ids=[f"more-{name}" for name in make_gallery(7).image_ids])
    save_gallery(other, tmp_path / "other", model)
    change = GalleryStore.open(tmp_path / "old").merge(GalleryStore.open(tmp_path / "other"))
    assert change.inserted >= len(other.image_ids)


@pytest.mark.parametrize("version", ["1", "99"])
def test_another_version_and_no_gallery_are_refused(
    make_gallery: Make, model: object, tmp_path: Path, version: str
) -> None:
    save_gallery(make_gallery(4), tmp_path / "gallery", model)
    (tmp_path / "gallery" / "gallery.json").write_text(json.dumps({"version": version}))
    with pytest.raises(ArtefactError, match=rf"version '{version}'.*reads '3'.*swclip index RUN MANIFEST --out"):
        load_gallery(tmp_path / "gallery")
    with pytest.raises(ArtefactError, match="is not a gallery"):
        load_gallery(tmp_path)


def test_another_model_is_refused_and_both_are_named(make_gallery: Make, model: object, tmp_path: Path) -> None:
    gallery = make_gallery(5)
    with pytest.raises(MismatchError, match=r"tiny-0.*runs/b is model tiny-1.*swclip index runs/b MANIFEST"):
        gallery.check_model("tiny-1", "runs/b", "the gallery")
    with pytest.raises(MismatchError):
        save_gallery(gallery, tmp_path / "gallery", type(model)(seed=1))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_a_gallery_is_not_replaced(make_gallery: Make, model: object, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("precious")
    with pytest.raises(InputError, match=r"contains no gallery\.json"):
        save_gallery(make_gallery(6), tmp_path / "thesis", model)
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "precious"


def test_a_save_that_fails_leaves_the_old_gallery(
    make_gallery: Make, make_queries: Callable[..., np.ndarray], model: object, tmp_path: Path
) -> None:
    gallery = make_gallery(7)
    save_gallery(gallery, tmp_path / "gallery", model)

    class Full(type(model)):  # type: ignore[misc]
        def save(self, folder: str) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(SwclipError, match="disk is full"):
        save_gallery(make_gallery(8), tmp_path / "gallery", Full())
    _same(gallery, load_gallery(tmp_path / "gallery"), make_queries(1))
    assert [p.name for p in tmp_path.iterdir()] == ["gallery"]
