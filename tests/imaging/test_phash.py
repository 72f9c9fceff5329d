"""Perceptual hashes against the imagehash library, near-duplicates against plain loops, and unreadable files."""

from __future__ import annotations

from pathlib import Path

import imagehash
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from swclip.errors import ConfigError
from swclip.imaging import phash
from swclip.imaging.phash import (
    HASH_BITS,
    bit_count,
    check_bits,
    first_duplicates,
    hash_photographs,
    near_duplicates,
    perceptual_hash,
)

HASHES = st.lists(st.integers(0, 2**64 - 1), max_size=12)


def scene(seed: int, size: int = 200) -> Image.Image:
    """Return a picture with structure at several scales, like a photograph."""
    rng = np.random.default_rng(seed)
    picture = Image.new("RGB", (size, size))
    for cells in (3, 6, 12):
        layer = Image.fromarray(rng.integers(0, 256, size=(cells, cells, 3), dtype=np.uint8))
        picture = Image.blend(picture, layer.resize((size, size), Image.Resampling.BICUBIC), 0.5)
    return picture


def test_hash_matches_the_imagehash_library() -> None:
    image = scene(0)
    assert f"{perceptual_hash(image):016x}" == str(imagehash.phash(image))


@pytest.mark.parametrize("gather_cost", [0, 1 << 40], ids=["by parts", "all pairs"])
@given(
    a=HASHES, b=HASHES, near=HASHES, changed=st.lists(st.integers(0, HASH_BITS - 1), max_size=12),
    max_bits=st.integers(0, HASH_BITS), block_pairs=st.sampled_from([1, 7, 1 << 20]),
)  # fmt: skip
def test_near_duplicates_match_plain_loops(
    gather_cost: int, a: list[int], b: list[int], near: list[int], changed: list[int], max_bits: int, block_pairs: int
) -> None:
    flip = sum(1 << bit for bit in set(changed))
    a, b = a + near, b + [value ^ flip for value in near] + near[:1]  # random hashes alone are never near
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phash, "_GATHER_COST", gather_cost)
        patch.setattr(phash, "_LOOKUP_COST", gather_cost)
        result = near_duplicates(np.array(a, np.uint64), np.array(b, np.uint64), max_bits, block_pairs=block_pairs)
    for i, first in enumerate(a):
        bits = [(first ^ second).bit_count() for second in b]
        assert result.count[i] == sum(distance <= max_bits for distance in bits)
        if b and min(bits) <= max_bits:
            assert result.bits[i] == min(bits)
            assert result.nearest[i] == bits.index(min(bits))
        else:
            assert (result.nearest[i], result.bits[i]) == (-1, 65)


@pytest.mark.parametrize("max_bits", [0, 1, 2, 3, 6, 7])
def test_near_duplicates_of_many_hashes_by_either_way(max_bits: int) -> None:
    rng = np.random.default_rng(max_bits)
    scenes = rng.integers(0, 2**64, size=500, dtype=np.uint64)
    hashes = scenes[rng.integers(500, size=6_000)]
    for _ in range(8):
        changed = (rng.random(6_000) < 0.3).astype(np.uint64)
        hashes = hashes ^ (changed << rng.integers(0, 64, size=6_000).astype(np.uint64))
    by_parts = near_duplicates(hashes[:2_000], hashes[2_000:], max_bits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phash, "_GATHER_COST", 1 << 40)
        all_pairs = near_duplicates(hashes[:2_000], hashes[2_000:], max_bits)
    assert by_parts.count.tolist() == all_pairs.count.tolist()
    assert by_parts.nearest.tolist() == all_pairs.nearest.tolist()
    assert by_parts.bits.tolist() == all_pairs.bits.tolist()
    assert by_parts.count.sum() > 0


@given(HASHES)
def test_bit_count_with_and_without_numpy_2(values: list[int]) -> None:
    expected = [value.bit_count() for value in values]
    array = np.array(values, dtype=np.uint64)
    assert bit_count(array).tolist() == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(np, "bitwise_count", raising=False)
        assert bit_count(array).tolist() == expected
        assert bit_count(array[:, None] ^ array[None, :]).shape == (len(values), len(values))


def test_recompressed_picture_is_near_and_another_is_far(tmp_path: Path) -> None:
    scene(0).save(tmp_path / "original.png")
    scene(0).resize((120, 90)).filter(ImageFilter.GaussianBlur(1)).save(tmp_path / "recompressed.jpg", quality=60)
    scene(1).save(tmp_path / "different.png")
    (tmp_path / "copy.png").write_bytes((tmp_path / "original.png").read_bytes())
    hashes = hash_photographs(
        [tmp_path / name for name in ("original.png", "recompressed.jpg", "different.png", "copy.png")]
    )
    bits = bit_count(hashes.perceptual[0] ^ hashes.perceptual)
    assert bits[1] <= 6
    assert bits[2] > 12
    assert hashes.content[0] == hashes.content[3]
    assert len(set(hashes.content)) == 3
    assert hashes.readable.all()


def test_reduced_decoding_hardly_changes_the_hash(tmp_path: Path) -> None:
    scene(3, size=1000).save(tmp_path / "large.jpg", quality=90)
    with Image.open(tmp_path / "large.jpg") as whole:
        expected = perceptual_hash(whole)
    hashes = hash_photographs([tmp_path / "large.jpg"])
    assert (int(hashes.perceptual[0]) ^ expected).bit_count() <= 2


def test_unreadable_photographs_are_recorded(tmp_path: Path) -> None:
    scene(0).save(tmp_path / "good.png")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no photograph")
    (tmp_path / "short.png").write_bytes((tmp_path / "good.png").read_bytes()[:200])
    names = ["empty.jpg", "good.png", "missing.jpg", "text.jpg", "short.png", "."]
    done: list[tuple[int, int]] = []
    hashes = hash_photographs(
        [tmp_path / name for name in names], progress=lambda *counts: done.append(counts), workers=2
    )
    assert hashes.readable.tolist() == [False, True, False, False, False, False]
    assert sorted(hashes.failures) == [0, 2, 3, 4, 5]
    assert all(reason for reason in hashes.failures.values())
    assert done == [(row, 6) for row in range(1, 7)]


def test_empty_input_gives_no_hashes() -> None:
    assert len(hash_photographs([]).perceptual) == 0


@pytest.mark.parametrize("bits", [-1, 65])
def test_rejects_impossible_distances(bits: int) -> None:
    with pytest.raises(ConfigError, match=f"within {bits} bits"):
        check_bits(bits)


def test_hash_of_uniform_pictures() -> None:
    assert perceptual_hash(Image.new("RGB", (50, 50), "white")) == perceptual_hash(Image.new("RGB", (90, 50), "grey"))
    assert phash.HASH_BITS == 64


def test_an_interruption_leaves_the_other_photographs_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene(0, 32).save(tmp_path / "one.png")
    read: list[object] = []
    monkeypatch.setattr(phash, "_hash_one", lambda path: read.append(path) or (0, ""))

    def stop(done: int, total: int) -> None:
        assert total == 5_000
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hash_photographs([tmp_path / "one.png"] * 5_000, workers=2, progress=stop)
    assert 1 <= len(read) <= 8 * 2 + 1


@given(
    hashes=st.lists(st.integers(0, 255).map(lambda low: low | (low << 40)), max_size=60),
    max_bits=st.integers(0, 6),
)
def test_first_duplicates_are_those_of_a_loop(hashes: list[int], max_bits: int) -> None:
    expected = [
        next((j for j in range(i) if (hashes[i] ^ hashes[j]).bit_count() <= max_bits), -1) for i in range(len(hashes))
    ]
    assert first_duplicates(np.array(hashes, dtype=np.uint64), max_bits).tolist() == expected
