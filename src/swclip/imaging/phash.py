"""Near-duplicate pictures: perceptual hashes, and the pairs that differ in few bits."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Int64, UInt64

from swclip.errors import ConfigError
from swclip.imaging.decode import PhotographError, decode_photograph
from swclip.imaging.photograph_file import photograph_sha256

if TYPE_CHECKING:
    from PIL import Image

HASH_BITS = 64
_DECODE_PX = 64  # the hash uses 32 x 32 pixels, so a JPEG may be decoded at an eighth of its size

_BYTE_BITS = np.array([bin(value).count("1") for value in range(256)], dtype=np.uint8)


@dataclass(frozen=True)
class PictureHashes:
    """Hashes of N photographs, in their order.

    Attributes:
        perceptual: (N,) perceptual hash; 0 if the photograph could not be read.
        content: SHA-256 of the file's bytes; "" if the photograph could not be read.
        readable: (N,) whether the photograph could be read.
        failures: {row: reason} of the photographs that could not be read.
    """

    perceptual: UInt64[np.ndarray, " n"]
    content: list[str]
    readable: Bool[np.ndarray, " n"]
    failures: dict[int, str]


def perceptual_hash(image: Image.Image) -> int:
    """Compute the 64-bit perceptual hash (pHash) of a picture: its lowest frequencies, compared with their median.

    Args:
        image: Any Pillow image.

    Returns:
        An integer of 64 bits; the first bit of the hash is the most significant.

    References:
        C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010), as implemented by the
        imagehash library's `phash`.
    """
    import imagehash

    return int.from_bytes(np.packbits(np.asarray(imagehash.phash(image).hash, dtype=bool).reshape(-1)).tobytes(), "big")


def check_bits(max_bits: int) -> None:
    """Raise ConfigError unless `max_bits` is a possible Hamming distance of two hashes."""
    if not 0 <= max_bits <= HASH_BITS:
        raise ConfigError(f"near-duplicates within {max_bits} bits: a hash has {HASH_BITS}; give 0 to {HASH_BITS}.")


def hash_photographs(
    paths: Sequence[str | os.PathLike[str]],
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PictureHashes:
    """Hash the pixels and the bytes of photographs; unreadable photographs are recorded and do not raise.

    Args:
        paths: The files.
        workers: Number of threads; the number of processors if None.
        progress: Called with the number of hashed photographs and the total number.
    """
    perceptual = np.zeros(len(paths), dtype=np.uint64)
    content = [""] * len(paths)
    readable = np.zeros(len(paths), dtype=bool)
    failures: dict[int, str] = {}
    with ThreadPoolExecutor(max_workers=workers or os.cpu_count() or 1) as pool:
        for row, result in enumerate(pool.map(_hash_one, paths)):
            if isinstance(result, str):
                failures[row] = result
            else:
                perceptual[row], content[row] = result
                readable[row] = True
            if progress is not None:
                progress(row + 1, len(paths))
    return PictureHashes(perceptual, content, readable, failures)


@dataclass(frozen=True)
class NearDuplicates:
    """Near-duplicates of N hashes among M others.

    Attributes:
        count: (N,) number of other hashes within the given Hamming distance.
        nearest: (N,) index of the first nearest hash; -1 if there are no others.
        bits: (N,) Hamming distance of the nearest hash; 65 if there are no others.
    """

    count: Int64[np.ndarray, " n"]
    nearest: Int64[np.ndarray, " n"]
    bits: Int64[np.ndarray, " n"]


def near_duplicates(
    a: UInt64[np.ndarray, " n"], b: UInt64[np.ndarray, " m"], max_bits: int, *, block_pairs: int = 1 << 18
) -> NearDuplicates:
    """Compare every hash of `a` with every hash of `b`, in blocks.

    Args:
        a: (N,) hashes.
        b: (M,) hashes.
        max_bits: Largest Hamming distance of a near-duplicate, bits.
        block_pairs: Number of pairs that are compared at a time, about 10 bytes of memory each.

    Example:
        >>> near = near_duplicates(np.array([0], np.uint64), np.array([255, 3], np.uint64), max_bits=4)
        >>> near.count.tolist(), near.nearest.tolist(), near.bits.tolist()
        ([1], [1], [2])
    """
    count = np.zeros(len(a), dtype=np.int64)
    nearest = np.full(len(a), -1, dtype=np.int64)
    bits = np.full(len(a), HASH_BITS + 1, dtype=np.int64)
    if len(b) == 0:
        return NearDuplicates(count, nearest, bits)
    rows = max(1, block_pairs // len(b))
    for start in range(0, len(a), rows):
        block = slice(start, start + rows)
        distance = bit_count(a[block, None] ^ b[None, :])
        count[block] = np.count_nonzero(distance <= max_bits, axis=1)
        nearest[block] = distance.argmin(axis=1)
        bits[block] = distance.min(axis=1)
    return NearDuplicates(count, nearest, bits)


def bit_count(values: UInt64[np.ndarray, " ..."]) -> Any:
    """Count the set bits of each value, as uint8."""
    if hasattr(np, "bitwise_count"):  # NumPy 2
        return np.bitwise_count(values)
    in_bytes = np.ascontiguousarray(values)[..., None].view(np.uint8)
    return _BYTE_BITS[in_bytes].sum(axis=-1, dtype=np.uint8)


def _hash_one(path: str | os.PathLike[str]) -> tuple[int, str] | str:
    """Return the perceptual hash and the SHA-256, or the reason why the photograph cannot be read."""
    try:
        return perceptual_hash(decode_photograph(path, size_px=_DECODE_PX)), photograph_sha256(path)
    except PhotographError as error:
        return error.detail
