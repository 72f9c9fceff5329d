"""Near-duplicate pictures: perceptual hashes, and the pairs that differ in few bits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Int64, UInt64

from swclip.errors import ConfigError
from swclip.imaging.decode import PhotographError, decode_photograph
from swclip.imaging.photograph_file import in_threads, photograph_sha256

if TYPE_CHECKING:
    from PIL import Image

HASH_BITS = 64
_DECODE_PX = 64  # the hash uses 32 x 32 pixels, so a JPEG may be decoded at an eighth of its size

_SAMPLE = 512  # hashes on which the number of comparisons is estimated
_LOOKUP_COST, _GATHER_COST = 20, 4  # of one search in a part and of one candidate, in comparisons of all with all

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
    for row, result in enumerate(in_threads(_hash_one, paths, workers)):
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
        nearest: (N,) index of the first nearest of them; -1 if there are none.
        bits: (N,) Hamming distance of the nearest of them; 65 if there are none.
    """

    count: Int64[np.ndarray, " n"]
    nearest: Int64[np.ndarray, " n"]
    bits: Int64[np.ndarray, " n"]


def near_duplicates(
    a: UInt64[np.ndarray, " n"],
    b: UInt64[np.ndarray, " m"],
    max_bits: int,
    *,
    block_pairs: int = 1 << 20,
    progress: Callable[[int, int], None] | None = None,
) -> NearDuplicates:
    """Find the hashes of `b` within `max_bits` of each hash of `a`, exactly, by multi-index hashing.

    The 64 bits are divided into parts. Two hashes that differ in at most `max_bits` differ in at most one bit in one
    of the parts (or in none), so only hashes that are equal or one bit apart there are compared: about 1,000 of a
    million for 6 bits. All pairs are compared where that would be no saving (small sets, many bits).

    Args:
        a: (N,) hashes.
        b: (M,) hashes.
        max_bits: Largest Hamming distance of a near-duplicate, bits.
        block_pairs: Number of pairs that are compared at a time, about 50 bytes of memory each.
        progress: Called with the work done and its total.

    References:
        M. Norouzi, A. Punjani, D. J. Fleet, "Fast Exact Search in Hamming Space with Multi-Index Hashing" (2014).

    Example:
        >>> near = near_duplicates(np.array([0], np.uint64), np.array([255, 3], np.uint64), max_bits=4)
        >>> near.count.tolist(), near.nearest.tolist(), near.bits.tolist()
        ([1], [1], [2])
    """
    hashes, which = np.unique(a, return_inverse=True)
    others, first, repeated = np.unique(b, return_index=True, return_counts=True)
    count = np.zeros(len(hashes), dtype=np.int64)
    # Distance and first index in one number: its minimum is the first nearest.
    best = np.full(len(hashes), (HASH_BITS + 1) * max(len(b), 1), dtype=np.int64)
    for i, j, distance in _near_pairs(hashes, others, max_bits, block_pairs, progress):
        np.add.at(count, i, repeated[j])
        np.minimum.at(best, i, distance * len(b) + first[j])
    bits, nearest = np.divmod(best, max(len(b), 1))
    nearest[count == 0] = -1
    which = which.reshape(-1)
    return NearDuplicates(count[which], nearest[which], bits[which])


def first_duplicates(
    hashes: UInt64[np.ndarray, " n"], max_bits: int, *, progress: Callable[[int, int], None] | None = None
) -> Int64[np.ndarray, " n"]:
    """Return for each hash the first earlier one within `max_bits`, -1 where there is none.

    Chains are not followed, and of many equal hashes only the first is compared: a thousand black pictures cost no
    more than one.

    Args:
        hashes: (N,) hashes.
        max_bits: Largest Hamming distance of a near-duplicate, bits.
        progress: Called with the work done and its total.

    Example:
        >>> first_duplicates(np.array([0, 255, 3, 254], np.uint64), max_bits=2).tolist()
        [-1, -1, 0, 1]
    """
    distinct, first, which = np.unique(hashes, return_index=True, return_inverse=True)
    earliest = first.astype(np.int64)
    for i, j, _ in _near_pairs(distinct, distinct, max_bits, 1 << 20, progress):
        np.minimum.at(earliest, i, first[j])
    found = earliest[which.reshape(-1)]
    return np.where(found < np.arange(len(hashes)), found, -1)


Pairs = tuple[Int64[np.ndarray, " p"], Int64[np.ndarray, " p"], Int64[np.ndarray, " p"]]


def _near_pairs(
    a: UInt64[np.ndarray, " n"],
    b: UInt64[np.ndarray, " m"],
    max_bits: int,
    block_pairs: int,
    progress: Callable[[int, int], None] | None,
) -> Iterator[Pairs]:
    """Yield each pair of distinct hashes within `max_bits` once, in blocks: index in a, index in b, distance."""
    parts = _parts(max_bits)
    lookups = [(part, flip) for part in range(len(parts)) for flip in parts[part].flips()]
    orders = [np.argsort(part.of(b), kind="stable") for part in parts]
    ordered = [b[order] for order in orders]
    keys = [part.of(hashes) for part, hashes in zip(parts, ordered, strict=True)]

    def candidates(lookup: tuple[int, np.uint64], hashes: UInt64[np.ndarray, " k"]) -> tuple[Any, Any]:
        wanted = parts[lookup[0]].of(hashes) ^ lookup[1]
        return np.searchsorted(keys[lookup[0]], wanted), np.searchsorted(keys[lookup[0]], wanted, side="right")

    sample = a[:: max(1, len(a) // _SAMPLE)]
    compared = 0
    for lookup in lookups:
        starts, ends = candidates(lookup, sample)
        compared += int((ends - starts).sum()) + _LOOKUP_COST * len(sample)
    if compared * _GATHER_COST > len(sample) * len(b):
        yield from _all_pairs(a, b, max_bits, block_pairs, progress)
        return
    for step, lookup in enumerate(lookups):
        part = lookup[0]
        starts, ends = candidates(lookup, a)
        for block in _blocks(ends - starts, block_pairs):
            length = (ends - starts)[block]
            i = np.repeat(np.arange(block.start, block.stop), length)
            at = np.arange(len(i)) + np.repeat(starts[block] - (np.cumsum(length) - length), length)
            differ = a[i] ^ ordered[part][at]
            kept = np.flatnonzero(bit_count(differ) <= max_bits)
            for earlier in parts[:part]:  # a pair that an earlier part has yielded
                kept = kept[bit_count(earlier.of(differ[kept])) > earlier.radius]
            yield i[kept], orders[part][at[kept]], bit_count(differ[kept]).astype(np.int64)
        if progress is not None:
            progress(step + 1, len(lookups))


def _all_pairs(
    a: UInt64[np.ndarray, " n"],
    b: UInt64[np.ndarray, " m"],
    max_bits: int,
    block_pairs: int,
    progress: Callable[[int, int], None] | None,
) -> Iterator[Pairs]:
    rows = max(1, block_pairs // max(len(b), 1))
    for start in range(0, len(a), rows):
        distance = bit_count(a[start : start + rows, None] ^ b[None, :])
        i, j = np.nonzero(distance <= max_bits)
        yield i + start, j, distance[i, j].astype(np.int64)
        if progress is not None:
            progress(min(start + rows, len(a)), len(a))


@dataclass(frozen=True)
class _Part:
    """Adjacent bits of a hash, and in how many of them near-duplicates may differ to be found by this part."""

    shift: int
    width: int
    radius: int

    def of(self, hashes: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
        part: UInt64[np.ndarray, " n"] = (hashes >> np.uint64(self.shift)) & np.uint64((1 << self.width) - 1)
        return part

    def flips(self) -> list[np.uint64]:
        return [np.uint64(0), *(np.uint64(1 << bit) for bit in range(self.width) if self.radius)]


def _parts(max_bits: int) -> list[_Part]:
    """Parts with a radius r of 0 or 1 each and a sum of r + 1 of max_bits + 1.

    A pair that is beyond the radius in every part differs in at least that sum of bits, hence in more than `max_bits`.
    """
    count = min(max_bits // 2 + 1, HASH_BITS)
    edges = [HASH_BITS * part // count for part in range(count + 1)]
    radii = [1 if part < max_bits + 1 - count else 0 for part in range(count)]
    return [_Part(low, high - low, radius) for (low, high), radius in zip(pairwise(edges), radii, strict=True)]


def _blocks(lengths: Int64[np.ndarray, " n"], at_most: int) -> Iterator[slice]:
    """Yield consecutive rows whose lengths sum to at most `at_most`, or one row."""
    ends = np.cumsum(lengths)
    start = 0
    while start < len(lengths):
        limit = at_most + (int(ends[start - 1]) if start else 0)
        stop = max(start + 1, int(np.searchsorted(ends, limit, side="right")))
        yield slice(start, stop)
        start = stop


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
