"""Decoding: every mode to upright RGB, and a reason for every kind of defective file."""

from __future__ import annotations

import io
import pickle
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swclip.imaging.decode import MAX_PIXELS, PhotographError, decode_photograph


def street(width: int = 640, height: int = 320) -> Image.Image:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (16, 32, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def as_bytes(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def png_with_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def reason(source: str | Path | bytes, **options: int) -> str:
    with pytest.raises(PhotographError) as raised:
        decode_photograph(source, **options)
    assert str(raised.value).startswith(raised.value.name)
    return raised.value.reason


def test_path_and_bytes_give_equal_pictures(tmp_path: Path) -> None:
    data = as_bytes(street())
    (tmp_path / "a.jpg").write_bytes(data)
    from_path, from_bytes = decode_photograph(tmp_path / "a.jpg"), decode_photograph(data)
    assert from_path.mode == "RGB"
    assert from_path.tobytes() == from_bytes.tobytes()


def test_reasons_of_defective_files(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("Dear all, please find the photographs attached.\n")
    (tmp_path / "folder.jpg").mkdir()
    assert reason(tmp_path / "none.jpg") == "missing"
    assert reason(tmp_path / "empty.jpg") == "empty"
    assert reason(b"") == "empty"
    assert reason(tmp_path / "text.jpg") == "not-an-image"
    assert reason(tmp_path / "folder.jpg") == "not-an-image"
    assert reason("bad\0name.jpg") == "missing"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
@pytest.mark.parametrize("share", [0.999, 0.6, 0.2])
def test_detects_truncation_in_every_format(kind: str, share: float) -> None:
    # 0.999 of a PNG lacks only the end marker, and of a GIF only the trailer: all their pixels are complete.
    data = as_bytes(street(), kind)
    if kind in ("PNG", "GIF") and share == 0.999:
        share = 0.9
    assert reason(data[: int(len(data) * share)]) == "truncated"


@pytest.mark.parametrize("size_px", [None, 64])
def test_detects_jpeg_truncated_anywhere_after_the_header(size_px: int | None) -> None:
    data = as_bytes(street(256, 128))
    for end in range(2, len(data) - 200, 97):
        with pytest.raises(PhotographError):
            decode_photograph(data[:end], size_px=size_px)


def test_jpeg_ending_in_zeros_is_truncated() -> None:
    data = as_bytes(street())
    half = data[: len(data) // 2]
    assert reason(half + b"\0" * (len(data) - len(half))) == "truncated"
    assert decode_photograph(data + b"\0" * 4096).size == (640, 320)  # only padded: the picture is complete


def test_detects_truncated_progressive_jpeg() -> None:
    data = as_bytes(street(), progressive=True)
    assert reason(data[: int(len(data) * 0.7)]) == "truncated"


def test_rejects_decompression_bomb_from_its_header() -> None:
    assert reason(png_with_header(60_000, 60_000)) == "too-large"
    assert reason(png_with_header(65_535, 1)) == "truncated"  # within the limits, but its data end early
    assert reason(png_with_header(65_536, 1)) == "too-large"


def test_max_pixels_replaces_pillows_limit() -> None:
    data = as_bytes(street(100, 100))
    assert decode_photograph(data, max_pixels=10_000).size == (100, 100)
    assert reason(data, max_pixels=9_999) == "too-large"
    # No warning between Pillow's limit (89 megapixels) and ours; a raised limit applies above Pillow's error.
    assert reason(png_with_header(9_990, 10_000)) == "truncated"
    assert reason(png_with_header(20_000, 20_000), max_pixels=500_000_000) == "truncated"
    assert Image.MAX_IMAGE_PIXELS is not None
    assert Image.MAX_IMAGE_PIXELS < MAX_PIXELS


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    upright = Image.new("RGB", (64, 32), "white")
    upright.paste((200, 0, 0), (0, 0, 32, 16))  # red top left, blue bottom right: the eight orientations differ
    upright.paste((0, 0, 200), (48, 16, 64, 32))
    # The orientation tag turns the stored picture into `upright`; derived from the EXIF specification.
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = upright if undo is None else upright.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
    picture = decode_photograph(as_bytes(stored, kind, exif=exif, **options))
    assert picture.size == (64, 32)
    error = np.abs(np.asarray(picture, dtype=int) - np.asarray(upright, dtype=int))
    assert np.median(error) <= 4
    assert error.mean() < 8


def test_draft_is_at_least_the_required_size() -> None:
    data = as_bytes(street(1280, 640))
    for size_px in (32, 80, 160, 224, 320, 600):
        full, fast = decode_photograph(data), decode_photograph(data, size_px=size_px)
        assert min(fast.size) >= min(size_px, min(full.size))
        assert fast.size[0] * full.size[1] == pytest.approx(fast.size[1] * full.size[0], rel=0.02)
    assert decode_photograph(data, size_px=160).size == (320, 160)


def test_sixteen_bit_grey_is_scaled() -> None:
    ramp = np.linspace(0, 65_535, 256 * 4).astype(np.uint16).reshape(4, 256)
    for kind in ("PNG", "TIFF"):
        picture = np.asarray(decode_photograph(as_bytes(Image.fromarray(ramp), kind)))
        assert np.abs(picture[..., 0].astype(int) - (ramp >> 8)).max() <= 1
        assert (picture[..., 0] == picture[..., 2]).all()


def test_float_and_wide_integer_tiff() -> None:
    for values in (np.linspace(0, 1, 64, dtype=np.float32), np.arange(0, 65_536, 1024).astype(np.int32)):
        picture = np.asarray(decode_photograph(as_bytes(Image.fromarray(values.reshape(8, 8)), "TIFF")))[..., 0].ravel()
        assert (np.diff(picture.astype(int)) >= 0).all()
        assert picture[0] == 0
        assert picture[-1] >= 250


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "LA", "RGBA", "YCbCr", "I;16"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = Image.new("I;16", (8, 8), 30_000) if mode == "I;16" else street(8, 8).convert(mode)
    kind = {"CMYK": "JPEG", "YCbCr": "JPEG"}.get(mode, "PNG")
    picture = decode_photograph(as_bytes(image, kind))
    assert (picture.mode, picture.size) == ("RGB", (8, 8))


def test_cmyk_colours_are_preserved() -> None:
    red = Image.new("RGB", (16, 16), (220, 30, 30)).convert("CMYK")
    picture = np.asarray(decode_photograph(as_bytes(red, quality=95)))
    assert np.abs(picture.reshape(-1, 3).mean(0) - (220, 30, 30)).max() < 6


def test_transparent_parts_are_white() -> None:
    clear = Image.new("RGBA", (4, 4), (10, 200, 10, 0))
    assert decode_photograph(as_bytes(clear, "PNG")).getpixel((1, 1)) == (255, 255, 255)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 200, 10] + [0] * 765)
    data = as_bytes(palette, "PNG", transparency=b"\0")
    assert decode_photograph(data).getpixel((1, 1)) == (255, 255, 255)


def test_decodes_pictures_with_broken_exif() -> None:
    data = as_bytes(street(64, 64), exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert decode_photograph(data).size == (64, 64)


def test_rejects_postscript() -> None:
    assert reason(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n") == "not-an-image"


def test_error_can_be_pickled() -> None:
    error = PhotographError("a.jpg", "truncated", "is cut short.")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.name, copy.reason, copy.detail, str(copy)) == ("a.jpg", "truncated", "is cut short.", str(error))


def test_threads_restore_warning_filters() -> None:
    data, before = as_bytes(street(64, 64)), list(warnings.filters)
    threads = [threading.Thread(target=lambda: [decode_photograph(data) for _ in range(40)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before
