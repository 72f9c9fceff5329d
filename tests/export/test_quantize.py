"""8-bit codes against the formula in loops, their error bound, and invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from swclip.errors import InputError
from swclip.export import quantize as module
from swclip.export.quantize import dequantize, quantize, similarity

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


def _unit(seed: int, rows: int, dim: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((rows, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("rows_at_once", [7, 16384])
def test_codes_match_the_formula_in_loops(rows_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", rows_at_once)
    embeddings = _unit(0, 50, 33)
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
    codes, scales = quantize(_unit(1, 20, 16))
    requantised, same = quantize(dequantize(codes, scales))
    np.testing.assert_array_equal(requantised, codes)
    np.testing.assert_allclose(same, scales, rtol=2e-7)


def test_cosine_of_unit_vectors_hardly_changes() -> None:
    embeddings = _unit(2, 200, 256)
    requantised = dequantize(*quantize(embeddings))
    cosine = (embeddings * requantised).sum(axis=1) / np.linalg.norm(requantised, axis=1)
    # Rounding adds noise of variance s^2 / 12 in each of D numbers: 1 - cos is about D s^2 / 24.
    expected = 1.0 - 256 * quantize(embeddings)[1].astype(np.float64) ** 2 / 24
    np.testing.assert_allclose(1.0 - cosine, 1.0 - expected, rtol=0.6)
    assert cosine.min() > 0.9999


def test_similarity_matches_the_dequantised_product(monkeypatch: pytest.MonkeyPatch) -> None:
    query, (codes, scales) = _unit(3, 4, 24), quantize(_unit(4, 37, 24))
    expected = [
        [
            math.fsum(float(q) * int(c) * float(scale) for q, c in zip(vector, row, strict=True))
            for row, scale in zip(codes, scales, strict=True)
        ]
        for vector in query
    ]
    for rows in (1, 10, 16384):
        monkeypatch.setattr(module, "_ROWS_AT_ONCE", rows)
        np.testing.assert_allclose(similarity(query, codes, scales), expected, atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rejects_values_that_are_not_finite(value: float) -> None:
    embeddings = _unit(5, 4, 8)
    embeddings[2, 3] = value
    with pytest.raises(InputError, match="embedding 2 is not finite"):
        quantize(embeddings)


def test_empty_embeddings() -> None:
    codes, scales = quantize(np.zeros((0, 8), dtype=np.float32))
    assert codes.shape == (0, 8)
    assert scales.shape == (0,)
    assert similarity(_unit(6, 2, 8), codes, scales).shape == (2, 0)
