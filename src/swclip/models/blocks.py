"""Rows in blocks of one shape, so that the value of a row does not depend on the rows that are computed with it.

A matrix product chooses its kernels, and with them the order of its sums, by the shapes of the matrices: the same
photograph in batches of 1 and of 50 has embeddings that differ in their last digits, and a posterior of small
temperature magnifies that. Here every call has the same shape; the last block is filled up with copies of its last row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from swclip.errors import ConfigError

_QUERIES = 8


def available_device(name: str) -> torch.device:
    """The device of a name.

    Args:
        name: cpu, cuda, cuda:1, mps, ...; auto for the GPU of CUDA if there is one, else the CPU.

    Raises:
        ConfigError: The device is not available.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device {name!r} cannot be used ({str(error).splitlines()[0]}); try --device cpu."
        ) from error


def picture_rows(device: torch.device) -> int:
    """Number of pictures in one pass of an image tower: one on a CPU, which a single picture occupies already."""
    return 1 if device.type == "cpu" else 32


def vector_rows(device: torch.device) -> int:
    """Number of rows in one pass of a head or of a text tower."""
    return 16 if device.type == "cpu" else 256


def in_blocks(encode: Callable[[Tensor], Tensor], rows: Tensor, size: int) -> Tensor:
    """Encode rows in blocks of one shape.

    Args:
        encode: Encodes a tensor (size, ...) row by row.
        rows: (B, ...) the rows.
        size: Rows in a block.

    Returns:
        (B, ...) the encoded rows.
    """
    return in_blocks_of_one_length(lambda numbers: encode(rows[numbers]), [0] * len(rows), size)


def in_blocks_of_one_length(encode: Callable[[list[int]], Tensor], lengths: Sequence[Hashable], size: int) -> Tensor:
    """Encode sequences in blocks of one shape, each of sequences of one length, so that none is padded.

    Args:
        encode: Encodes the rows with these numbers, `size` of them.
        lengths: B lengths; of pictures their shapes.
        size: Rows in a block.

    Returns:
        (B, ...) the encoded rows.
    """
    if not lengths:
        return encode([])
    of_length: defaultdict[Hashable, list[int]] = defaultdict(list)
    for number, length in enumerate(lengths):
        of_length[length].append(number)
    encoded: list[Tensor] = []
    for numbers in of_length.values():
        for start in range(0, len(numbers), size):
            block = numbers[start : start + size]
            encoded.append(encode(block + block[-1:] * (size - len(block)))[: len(block)])
    if len(of_length) == 1:
        return torch.cat(encoded)
    order = [number for numbers in of_length.values() for number in numbers]
    return torch.cat(encoded)[np.argsort(order)]


def encode_readable(encode: Callable[..., Tensor], batch: Any, device: torch.device, size: int) -> Any:
    """Encode the readable rows of a batch (neither None nor NaN); the other rows are NaN.

    Args:
        encode: Encodes a tensor of readable rows; with several towers, one tensor for each.
        batch: B rows: an array (B, ...), or a list of pictures, each None, an array (3, H, W), or a tuple of arrays,
            one for each of several towers. Pictures may have different shapes; those of one shape are encoded together.
        device: Device of the encoder.
        size: Rows in one pass of the encoder, so that no row depends on the others.

    Returns:
        (B, D) embeddings, or only B where no row is readable and D is therefore unknown; `stacked` accepts both.
    """
    if isinstance(batch, np.ndarray):
        readable = np.isfinite(batch.reshape(len(batch), -1)[:, 0]) if batch.size else np.zeros(len(batch), dtype=bool)
    else:
        readable = np.array([row is not None for row in batch], dtype=bool)
    if not readable.any():
        return len(batch)
    if isinstance(batch, np.ndarray):
        rows = torch.from_numpy(batch[readable].astype(np.float32, copy=False)).to(device)
        encoded = in_blocks(encode, rows, size)
    else:
        pictures = [row if isinstance(row, tuple) else (row,) for row in batch if row is not None]

        def encode_pictures(numbers: list[int]) -> Tensor:
            inputs = zip(*(pictures[number] for number in numbers), strict=True)
            return encode(*(torch.from_numpy(np.stack(parts)).to(device) for parts in inputs))

        shapes = [tuple(part.shape for part in picture) for picture in pictures]
        encoded = in_blocks_of_one_length(encode_pictures, shapes, size)
    values = encoded.float().cpu().numpy()
    if readable.all():
        return values
    filled = np.full((len(batch), values.shape[1]), np.nan, dtype=np.float32)
    filled[readable] = values
    return filled


def stacked(rows: Sequence[Any]) -> Float32[np.ndarray, "n d"]:
    """Stack batches; a batch without readable photographs is given by its length, since its width is unknown."""
    width = next((batch.shape[1] for batch in rows if not isinstance(batch, int)), 0)
    blank = [np.full((b, width), np.nan, dtype=np.float32) if isinstance(b, int) else b for b in rows]
    return np.concatenate(blank) if blank else np.zeros((0, 0), dtype=np.float32)


def cosines(query: Float32[np.ndarray, "q d"], others: Float32[np.ndarray, "m d"]) -> Float32[np.ndarray, "q m"]:
    """Inner products (Q, M) of unit vectors; those of a query do not depend on the other queries.

    Args:
        query: (Q, D) unit vectors.
        others: (M, D) unit vectors.
    """
    products = np.empty((len(query), len(others)), dtype=np.float32)
    block = np.zeros((_QUERIES, query.shape[1]), dtype=np.float32)
    for start in range(0, len(query), _QUERIES):
        part = query[start : start + _QUERIES]
        block[: len(part)] = part
        products[start : start + len(part)] = (block @ others.T)[: len(part)]
    return products
