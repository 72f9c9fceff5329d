"""Embeddings in one file: to the last bit, or in 8 bits with a known error; and files that are not whole."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from swclip.calibration.posterior_config import PosteriorConfig
from swclip.errors import ArtefactError, InputError
from swclip.export.embeddings import read_embeddings, write_embeddings
from swclip.export.quantize import dequantize, quantize
from swclip.gallery.gallery import Gallery


def _unit(rng: np.random.Generator, rows: int, dim: int = 16) -> np.ndarray:
    vectors = rng.standard_normal((rows, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def gallery() -> Gallery:
    rng = np.random.default_rng(0)
    return Gallery(
        candidate_ids=[f"c{row}" for row in range(9)],
        positions_deg=np.array([51.5, -0.1]) + rng.normal(0, 0.01, (9, 2)),
        cities=["Łódź", None, *["Leeds"] * 7],
        location_embeddings=_unit(rng, 9),
        image_embeddings=_unit(rng, 4),
        image_rows=np.array([0, 0, 3, 8]),
        image_ids=["a", "b", "c", "d"],
        meta={"fingerprint": "f00d", "posterior": PosteriorConfig(0.1, 0.02, 0.5).to_dict()},
    )


def _same_but_embeddings(one: Gallery, other: Gallery) -> None:
    for name in ("candidate_ids", "cities", "image_ids", "meta"):
        assert getattr(one, name) == getattr(other, name)
    np.testing.assert_array_equal(one.positions_deg, other.positions_deg)
    np.testing.assert_array_equal(one.image_rows, other.image_rows)


def test_float32_comes_back_to_the_last_bit(gallery: Gallery, tmp_path: Path) -> None:
    assert write_embeddings(tmp_path / "g.safetensors", gallery, "float32") == 0.0
    again = read_embeddings(tmp_path / "g.safetensors")
    _same_but_embeddings(again, gallery)
    np.testing.assert_array_equal(again.location_embeddings, gallery.location_embeddings)
    np.testing.assert_array_equal(again.image_embeddings, gallery.image_embeddings)
    assert again.posterior == gallery.posterior
    assert again.image_hubness is None


def test_int8_is_what_its_codes_stand_for(gallery: Gallery, tmp_path: Path) -> None:
    error = write_embeddings(tmp_path / "g.safetensors", gallery, "int8")
    again = read_embeddings(tmp_path / "g.safetensors")
    _same_but_embeddings(again, gallery)
    moved = []
    for found, given in (
        (again.location_embeddings, gallery.location_embeddings),
        (again.image_embeddings, gallery.image_embeddings),
    ):
        np.testing.assert_array_equal(found, dequantize(*quantize(given)))
        moved.append(np.abs(found - given).max())
    assert 0.0 < error == max(moved)
    tensors = load_file(tmp_path / "g.safetensors")
    assert tensors["location_embeddings"].dtype == tensors["image_embeddings"].dtype == np.int8


def test_hubness_goes_with_it(gallery: Gallery, tmp_path: Path) -> None:
    hubness = np.random.default_rng(1).random(4, dtype=np.float32)
    write_embeddings(tmp_path / "g.safetensors", dataclasses.replace(gallery, image_hubness=hubness))
    again = read_embeddings(tmp_path / "g.safetensors").image_hubness
    assert again is not None
    np.testing.assert_array_equal(again, hubness)


def test_a_gallery_without_photographs(gallery: Gallery, tmp_path: Path) -> None:
    bare = dataclasses.replace(
        gallery, image_embeddings=gallery.image_embeddings[:0], image_rows=gallery.image_rows[:0], image_ids=[]
    )
    write_embeddings(tmp_path / "g.safetensors", bare, "int8")
    assert read_embeddings(tmp_path / "g.safetensors").image_embeddings.shape == (0, 16)


def test_what_is_not_finite_leaves_the_file_as_it_was(gallery: Gallery, tmp_path: Path) -> None:
    path = tmp_path / "g.safetensors"
    write_embeddings(path, gallery)
    before = path.read_bytes()
    gallery.image_embeddings[2, 1] = np.nan
    with pytest.raises(InputError, match="embedding 2 is not finite"):
        write_embeddings(path, gallery, "int8")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_cannot_be_used(gallery: Gallery, tmp_path: Path) -> None:
    path = tmp_path / "g.safetensors"
    with pytest.raises(ArtefactError, match="no exported embeddings are there"):
        read_embeddings(path)
    write_embeddings(path, gallery)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:4], b"no tensors"):
        path.write_bytes(damaged)
        with pytest.raises(ArtefactError, match=r"g.safetensors: the embeddings cannot be read .*make it again"):
            read_embeddings(path)
    path.write_bytes(whole)
    tensors = load_file(path)
    save_file(tensors, path, metadata={"swclip_embeddings": "9"})
    with pytest.raises(ArtefactError, match="version '9', and this swclip reads '1'"):
        read_embeddings(path)
    save_file(tensors, path)
    with pytest.raises(ArtefactError, match="version None"):
        read_embeddings(path)
    names = json.loads(tensors["names"].tobytes())
    names["candidate_ids"].pop()
    tensors["names"] = np.frombuffer(json.dumps(names).encode(), dtype=np.uint8)
    metadata = {"swclip_embeddings": "1", "fingerprint": "f00d", "posterior": "null"}
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(ArtefactError, match=r"positions_deg has shape \(9, 2\)"):
        read_embeddings(path)
