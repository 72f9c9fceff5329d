"""Embeddings in one file and their 8-bit codes: the formula in loops, error bounds, invariances; and invalid files."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import load_file, save_file

from swclip.calibration.posterior_config import PosteriorConfig
from swclip.data.attribution import attribution_table
from swclip.errors import ArtefactError, InputError
from swclip.export import embeddings as embeddings_module
from swclip.export.embeddings import dequantize, quantize, read_embeddings, similarity, write_embeddings
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


def test_attribution_goes_with_it(gallery: Gallery, tmp_path: Path) -> None:
    shown = {"licence": ["CC-BY-4.0", None, "CC-BY-4.0", None], "author": ["Ada", None, "Bo", None]}
    table = attribution_table(pd.DataFrame(shown, dtype=object))
    write_embeddings(tmp_path / "g.safetensors", dataclasses.replace(gallery, image_attribution=table))
    again = read_embeddings(tmp_path / "g.safetensors").image_attribution
    assert again is not None
    assert {name: again[name].to_pylist() for name in shown} == shown
    write_embeddings(tmp_path / "without.safetensors", gallery)
    assert read_embeddings(tmp_path / "without.safetensors").image_attribution is None


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


MATRICES = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.floats(-2.0, 2.0, width=32),
)


def _by_loops(embeddings: np.ndarray) -> tuple[list[list[int]], list[float]]:
    codes, scales = [], []
    for row in embeddings.tolist():
        scale = float(np.float32(max(abs(value) for value in row) / 127))
        scales.append(scale)
        # Python rounds half to even, like IEEE 754.
        codes.append([0 if scale == 0 else max(-127, min(127, round(value / scale))) for value in row])
    return codes, scales


def _seeded_unit(seed: int, rows: int, dim: int) -> np.ndarray:
    return _unit(np.random.default_rng(seed), rows, dim)


@pytest.mark.parametrize("rows_at_once", [7, 16384])
def test_codes_match_the_formula_in_loops(rows_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings_module, "_ROWS_AT_ONCE", rows_at_once)
    embeddings = _seeded_unit(0, 50, 33)
    codes, scales = quantize(embeddings)
    expected_codes, expected_scales = _by_loops(embeddings)
    assert codes.dtype == np.int8
    assert scales.dtype == np.float32
    assert codes.tolist() == expected_codes
    np.testing.assert_allclose(scales, expected_scales, rtol=1e-7)


def test_codes_of_a_small_example() -> None:
    codes, scales = quantize(np.array([[1.27, -0.02, 0.0, 0.005], [0.0, 0.0, 0.0, 0.0]], dtype=np.float32))
    assert codes.tolist() == [[127, -2, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(scales, [0.01, 0.0], rtol=1e-6)


@given(MATRICES)
def test_error_is_at_most_half_a_scale(embeddings: np.ndarray) -> None:
    codes, scales = quantize(embeddings)
    error = np.abs(dequantize(codes, scales).astype(np.float64) - embeddings)
    # The product and the scale are rounded to float32, too; subnormal numbers become 0.
    bound = scales.astype(np.float64)[:, None] * (0.5 + 127 * 2e-7) + 127 * float(np.finfo(np.float32).tiny)
    assert (error <= bound).all()
    largest = np.abs(embeddings).max(axis=1)
    assert (np.abs(codes.astype(int)).max(axis=1)[largest > 1e-30] == 127).all()


@given(MATRICES, st.sampled_from([0.25, 2.0, 1024.0]))
def test_codes_are_equivariant_to_sign_and_scale(embeddings: np.ndarray, factor: float) -> None:
    embeddings[np.abs(embeddings) < 1e-20] = 0.0  # so that no scale is subnormal
    codes, scales = quantize(embeddings)
    negative, same = quantize(-embeddings)
    np.testing.assert_array_equal(negative, -codes)
    np.testing.assert_array_equal(same, scales)
    longer, scaled = quantize(embeddings * np.float32(factor))
    np.testing.assert_array_equal(longer, codes)
    np.testing.assert_array_equal(scaled, scales * np.float32(factor))


def test_quantisation_is_idempotent() -> None:
    codes, scales = quantize(_seeded_unit(1, 20, 16))
    requantised, same = quantize(dequantize(codes, scales))
    np.testing.assert_array_equal(requantised, codes)
    np.testing.assert_allclose(same, scales, rtol=2e-7)


def test_cosine_of_unit_vectors_hardly_changes() -> None:
    embeddings = _seeded_unit(2, 200, 256)
    requantised = dequantize(*quantize(embeddings))
    cosine = (embeddings * requantised).sum(axis=1) / np.linalg.norm(requantised, axis=1)
    # Rounding adds noise of variance s^2 / 12 in each of D numbers: 1 - cos is about D s^2 / 24.
    expected = 1.0 - 256 * quantize(embeddings)[1].astype(np.float64) ** 2 / 24
    np.testing.assert_allclose(1.0 - cosine, 1.0 - expected, rtol=0.6)
    assert cosine.min() > 0.9999


def test_similarity_matches_the_dequantised_product(monkeypatch: pytest.MonkeyPatch) -> None:
    query, (codes, scales) = _seeded_unit(3, 4, 24), quantize(_seeded_unit(4, 37, 24))
    expected = [
        [
            math.fsum(float(q) * int(c) * float(scale) for q, c in zip(vector, row, strict=True))
            for row, scale in zip(codes, scales, strict=True)
        ]
        for vector in query
    ]
    for rows in (1, 10, 16384):
        monkeypatch.setattr(embeddings_module, "_ROWS_AT_ONCE", rows)
        np.testing.assert_allclose(similarity(query, codes, scales), expected, atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rejects_values_that_are_not_finite(value: float) -> None:
    embeddings = _seeded_unit(5, 4, 8)
    embeddings[2, 3] = value
    with pytest.raises(InputError, match="embedding 2 is not finite"):
        quantize(embeddings)


def test_empty_embeddings() -> None:
    codes, scales = quantize(np.zeros((0, 8), dtype=np.float32))
    assert codes.shape == (0, 8)
    assert scales.shape == (0,)
    assert similarity(_seeded_unit(6, 2, 8), codes, scales).shape == (2, 0)
