"""Embeddings as 8-bit integers: a quarter of the bytes.

Each vector has a scale of its own, so that its largest number becomes 127 or -127:

    s_i = max_d |x_id| / 127,        q_id = round(x_id / s_i),        x_id ~ s_i q_id

No number moves by more than s_i / 2. Vectors are kept so; cosines are computed in float32, since NumPy multiplies
matrices of integers without the processor's fast routines.

References:
    B. Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference",
    CVPR 2018, eq. 1, with the zero point at 0.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int8

from swclip.errors import InputError

_MOST = 127
_ROWS_AT_ONCE = 16384


def quantize(
    embeddings: Float32[np.ndarray, "n d"],
) -> tuple[Int8[np.ndarray, "n d"], Float32[np.ndarray, " n"]]:
    """Codes and scales of embeddings.

    Args:
        embeddings: (N, D), finite.

    Returns:
        (N, D) codes from -127 to 127, and (N,) scales; 0 of a vector of zeros.

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
    scales = (np.abs(embeddings).max(axis=1, initial=0.0) / _MOST).astype(np.float32)
    # A scale that is subnormal has lost digits, and the division could leave the range of a code.
    scales[scales < np.finfo(np.float32).tiny] = 0.0
    codes = np.zeros(embeddings.shape, dtype=np.int8)
    for start in range(0, len(embeddings), _ROWS_AT_ONCE):  # in float64 all at once would take eight times the memory
        part = slice(start, start + _ROWS_AT_ONCE)
        divisor = np.where(scales[part] > 0, scales[part], np.inf).astype(np.float64)
        codes[part] = np.clip(np.rint(embeddings[part] / divisor[:, None]), -_MOST, _MOST)
    return codes, scales


def dequantize(codes: Int8[np.ndarray, "n d"], scales: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, "n d"]:
    """Embeddings of codes, each number within half a scale of what it was."""
    return np.asarray(codes.astype(np.float32) * scales[:, None])


def similarity(
    query: Float32[np.ndarray, "q d"], codes: Int8[np.ndarray, "n d"], scales: Float32[np.ndarray, " n"]
) -> Float32[np.ndarray, "q n"]:
    """Inner products of queries and quantised embeddings; codes become float32 a few at a time, and never all.

    Args:
        query: (Q, D).
        codes: (N, D).
        scales: (N,).

    Example:
        >>> codes, scales = quantize(np.eye(2, dtype=np.float32))
        >>> similarity(np.array([[0.6, 0.8]], dtype=np.float32), codes, scales).round(3).tolist()
        [[0.6000000238418579, 0.800000011920929]]
    """
    found = np.empty((len(query), len(codes)), dtype=np.float32)
    for start in range(0, len(codes), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        found[:, part] = (query @ codes[part].astype(np.float32).T) * scales[part]
    return found
