"""Embeddings in one file: exact, or in 8 bits with a stated error; and invalid files."""

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


def _assert_equal_except_embeddings(actual: Gallery, expected: Gallery) -> None:
    for name in ("candidate_ids", "cities", "image_ids", "meta"):
        assert getattr(actual, name) == getattr(expected, name)
    np.testing.assert_array_equal(actual.positions_deg, expected.positions_deg)
    np.testing.assert_array_equal(actual.image_rows, expected.image_rows)


def test_float32_round_trip_is_exact(gallery: Gallery, tmp_path: Path) -> None:
    assert write_embeddings(tmp_path / "g.safetensors", gallery, "float32") == 0.0
    again = read_embeddings(tmp_path / "g.safetensors")
    _assert_equal_except_embeddings(again, gallery)
    np.testing.assert_array_equal(again.location_embeddings, gallery.location_embeddings)
    np.testing.assert_array_equal(again.image_embeddings, gallery.image_embeddings)
    assert again.posterior == gallery.posterior
    assert again.image_hubness is None


def test_int8_round_trip_matches_the_codes(gallery: Gallery, tmp_path: Path) -> None:
    error = write_embeddings(tmp_path / "g.safetensors", gallery, "int8")
    read = read_embeddings(tmp_path / "g.safetensors")
    _assert_equal_except_embeddings(read, gallery)
    errors = []
    for embeddings, original in (
        (read.location_embeddings, gallery.location_embeddings),
        (read.image_embeddings, gallery.image_embeddings),
    ):
        np.testing.assert_array_equal(embeddings, dequantize(*quantize(original)))
        errors.append(np.abs(embeddings - original).max())
    assert 0.0 < error == max(errors)
    tensors = load_file(tmp_path / "g.safetensors")
    assert tensors["location_embeddings"].dtype == tensors["image_embeddings"].dtype == np.int8


def test_hubness_goes_with_it(gallery: Gallery, tmp_path: Path) -> None:
    hubness = np.random.default_rng(1).random(4, dtype=np.float32)
    write_embeddings(tmp_path / "g.safetensors", dataclasses.replace(gallery, image_hubness=hubness))
    again = read_embeddings(tmp_path / "g.safetensors").image_hubness
    assert again is not None
    np.testing.assert_array_equal(again, hubness)


def test_gallery_without_photographs(gallery: Gallery, tmp_path: Path) -> None:
    bare = dataclasses.replace(
        gallery, image_embeddings=gallery.image_embeddings[:0], image_rows=gallery.image_rows[:0], image_ids=[]
    )
    write_embeddings(tmp_path / "g.safetensors", bare, "int8")
    assert read_embeddings(tmp_path / "g.safetensors").image_embeddings.shape == (0, 16)


def test_rejects_nan_and_keeps_the_old_file(gallery: Gallery, tmp_path: Path) -> None:
    path = tmp_path / "g.safetensors"
    write_embeddings(path, gallery)
    before = path.read_bytes()
    gallery.image_embeddings[2, 1] = np.nan
    with pytest.raises(InputError, match="embedding 2 is not finite"):
        write_embeddings(path, gallery, "int8")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_rejects_missing_and_invalid_files(gallery: Gallery, tmp_path: Path) -> None:
    path = tmp_path / "g.safetensors"
    with pytest.raises(ArtefactError, match="there are no exported embeddings"):
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
    with pytest.raises(ArtefactError, match="version '9', but this swclip reads '1'"):
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
