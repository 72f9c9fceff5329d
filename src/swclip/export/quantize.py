"""Quantisation of embeddings to 8-bit integers, a quarter of the size.

Each vector has a separate scale, so that its largest component becomes 127 or -127:

    s_i = max_d |x_id| / 127,        q_id = round(x_id / s_i),        x_id ~ s_i q_id

No component changes by more than s_i / 2. Integers are for storage; cosines are computed in float32, because NumPy has
no fast matrix product of integers.

References:
    B. Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference",
    CVPR 2018, eq. 1, with the zero point at 0.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int8

from swclip.errors import InputError

_MAX_CODE = 127
_ROWS_AT_ONCE = 16384


def quantize(
    embeddings: Float32[np.ndarray, "n d"],
) -> tuple[Int8[np.ndarray, "n d"], Float32[np.ndarray, " n"]]:
    """Quantise embeddings.

    Args:
        embeddings: (N, D), finite.

    Returns:
        (N, D) codes from -127 to 127, and (N,) scales; the scale of a zero vector is 0.

    Raises:
        InputError: A vector is not finite.

    Example:
        >>> codes, scales = quantize(np.array([[1.0, -0.5, 0.0]], dtype=np.float32))
        >>> codes.tolist(), round(float(scales[0]) * 127, 6)
        ([[127, -64, 0]], 1.0)
    """
    finite = np.isfinite(embeddings).all(axis=1)
    if not finite.all():
        raise InputError(f"embedding {int(np.argmin(finite))} is not finite, so it has no 8-bit form; make it again.")
    scales = (np.abs(embeddings).max(axis=1, initial=0.0) / _MAX_CODE).astype(np.float32)
    # Subnormal scales have lost digits, and the division could exceed the range of codes.
    scales[scales < np.finfo(np.float32).tiny] = 0.0
    codes = np.zeros(embeddings.shape, dtype=np.int8)
    for start in range(0, len(embeddings), _ROWS_AT_ONCE):  # float64 for all rows would need eight times the memory
        part = slice(start, start + _ROWS_AT_ONCE)
        divisor = np.where(scales[part] > 0, scales[part], np.inf).astype(np.float64)
        codes[part] = np.clip(np.rint(embeddings[part] / divisor[:, None]), -_MAX_CODE, _MAX_CODE)
    return codes, scales


def dequantize(codes: Int8[np.ndarray, "n d"], scales: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, "n d"]:
    """Convert codes to embeddings, each component within half a scale of the original."""
    return np.asarray(codes.astype(np.float32) * scales[:, None])


def similarity(
    query: Float32[np.ndarray, "q d"], codes: Int8[np.ndarray, "n d"], scales: Float32[np.ndarray, " n"]
) -> Float32[np.ndarray, "q n"]:
    """Compute inner products of queries and quantised embeddings; codes are converted to float32 in blocks.

    Args:
        query: (Q, D) embeddings.
        codes: (N, D) codes.
        scales: (N,) scales.

    Returns:
        (Q, N) inner products.

    Example:
        >>> codes, scales = quantize(np.eye(2, dtype=np.float32))
        >>> similarity(np.array([[0.6, 0.8]], dtype=np.float32), codes, scales).round(3).tolist()
        [[0.6000000238418579, 0.800000011920929]]
    """
    products = np.empty((len(query), len(codes)), dtype=np.float32)
    for start in range(0, len(codes), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        products[:, part] = (query @ codes[part].astype(np.float32).T) * scales[part]
    return products
