"""Decoding of photographs to upright RGB pictures, with a reason for each file that cannot be decoded."""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from swclip.errors import first_line
from swclip.imaging.file_structure import JpegLayout, jpeg_layout, png_is_overlong, with_end_marker
from swclip.imaging.photograph_file import PhotographError as PhotographError  # what decoding raises
from swclip.imaging.photograph_file import Reason, photograph_file
from swclip.imaging.rgb import to_rgb

MAX_PIXELS = 100_000_000
"""Limit of pixels, checked in the header: a small file can declare a picture of many gigabytes."""
MAX_SIDE_PX = 65_535
"""Limit of each side: the longest that a JPEG can have. Rows of decoders are buffered whole, whatever their length."""

# Formats of cameras and archives. Pillow reads more, but passes EPS to Ghostscript, which is unsafe for user files.
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIF")
_JPEG_START, _PNG_START = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_OVERLONG = "has more parts before its picture than a photograph has; save it again as a photograph."
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_READ_WHOLE_BYTES = 64 * 2**20
_MAX_JPEG_BYTES = 512 * 2**20
# Each scan of a JPEG passes over the whole picture, at about 1 ms per megapixel, even if it holds a few bytes. Encoders
# write 10, or 18 for CMYK; the limits allow 32 scans of any picture and 100 of one of 20 megapixels.
_MIN_SCANS, _MAX_SCANS, _MAX_SCANNED_PIXELS = 32, 100, 2_000_000_000
# Warning filters and Pillow's bomb limit are global to the process. Headers are parsed one at a time so that two
# threads never restore each other's settings; pixels, which take most of the time, are decoded in parallel.
_HEADER_LOCK = threading.Lock()


def decode_photograph(
    source: str | os.PathLike[str] | bytes, *, size_px: int | None = None, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Decode a photograph completely, upright and as RGB.

    Args:
        source: A path, or the file's bytes.
        size_px: Required length of the shorter side, pixels. If given, a JPEG is decoded at 1/2, 1/4 or 1/8 of its size
            as long as both sides have at least this length: about twice as fast. The result may be larger.
        max_pixels: Pictures with more pixels are rejected from the header, before decoding.

    Returns:
        The picture, mode RGB. EXIF orientation is applied, 16-bit values are scaled to 8, transparent parts are white.

    Raises:
        PhotographError: The file is missing, empty, truncated, not an image or too large; see `reason`.

    Example:
        >>> picture = io.BytesIO()
        >>> Image.new("L", (8, 4)).save(picture, "PNG")
        >>> decode_photograph(picture.getvalue()).mode
        'RGB'
    """
    with open_photograph(source, max_pixels=max_pixels) as image:
        return decode_opened(image, name_of(source), size_px)


def decode_opened(image: Image.Image, name: str, size_px: int | None = None) -> Image.Image:
    """Decode what `open_photograph` opened, as `decode_photograph` does: for readers of the header and the pixels.

    Args:
        image: The opened image.
        name: Name of the photograph in messages.
        size_px: As in `decode_photograph`.

    Raises:
        PhotographError: The file is truncated or cannot be decoded.
    """
    if size_px is not None and image.format in ("JPEG", "MPO"):
        image.draft(None, (size_px, size_px))
    load_pixels(image, name)
    upright = _UPRIGHT.get(image_orientation(image))  # after loading, which already rotates a TIFF
    picture = to_rgb(image)
    return picture if upright is None else picture.transpose(upright)


@contextmanager
def open_photograph(source: str | os.PathLike[str] | bytes, *, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Open a photograph and check its header, without decoding pixels.

    Args:
        source: A path, or the file's bytes.
        max_pixels: Pictures with more pixels are rejected.

    Yields:
        Pillow's image, closed afterwards.

    Raises:
        PhotographError: The file is missing, empty, not an image or too large.
    """
    name = name_of(source)
    stream = _stream(source, name)
    try:
        layout = _checked_layout(stream, name)
        image = _parse_header(stream, name)
        _check_size(image, name, max_pixels)
        if layout is not None:
            whole = _whole_jpeg(stream, layout, image, name)
            if whole is not stream:
                image.close()
                stream = whole
                image = _parse_header(stream, name)
        with image:
            yield image
    finally:
        stream.close()


def image_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 (upright) if it is absent or cannot be read."""
    with quiet_pillow():
        try:
            return int(image.getexif().get(_ORIENTATION_TAG, 1))
        except Exception:  # Pillow raises many kinds of errors on a broken EXIF block; the picture is still good
            return 1


def load_pixels(image: Image.Image, name: str) -> None:
    """Decode all pixels of an opened image.

    Raises:
        PhotographError: The file is truncated or cannot be decoded.
    """
    try:
        image.load()
    except MemoryError as error:
        raise PhotographError(name, "too-large", "does not fit into memory; reduce it.") from error
    except Exception as error:  # plugins raise OSError, SyntaxError, EOFError, struct.error, zlib.error, ...
        raise PhotographError(
            name, "truncated", f"is cut short or damaged ({first_line(error)}); copy or download it again."
        ) from error


def name_of(source: str | os.PathLike[str] | bytes) -> str:
    """Return the name of a photograph in messages."""
    return "the photograph given as bytes" if isinstance(source, bytes) else os.fspath(source)


def _stream(source: str | os.PathLike[str] | bytes, name: str) -> BinaryIO:
    if isinstance(source, bytes):
        if not source:
            raise PhotographError(name, "empty", "has no bytes.")
        return io.BytesIO(source)
    file = photograph_file(source)
    if isinstance(file, io.BytesIO):
        return file
    size = os.fstat(file.fileno()).st_size
    try:
        # Reading outside the lock lets a slow disk delay only one thread.
        start = file.read(len(_JPEG_START))
        if size <= (_MAX_JPEG_BYTES if start == _JPEG_START else _READ_WHOLE_BYTES):
            with file:
                return io.BytesIO(start + file.read(size - len(start)))
        file.seek(0)
    except OSError as error:
        file.close()
        raise PhotographError(name, "missing", f"cannot be read ({first_line(error)}).") from error
    return file


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    width, height = image.size
    if max(width, height) > MAX_SIDE_PX:
        raise PhotographError(
            name,
            "too-large",
            f"its header says {width} x {height}, and no side may have more than {MAX_SIDE_PX}; cut or reduce it.",
        )
    if width * height > max_pixels:
        raise PhotographError(
            name,
            "too-large",
            f"its header says {width} x {height} = {width * height / 1e6:.0f} megapixels, more than the limit of "
            f"{max_pixels / 1e6:g}; reduce it, or raise the limit if it is genuine.",
        )


def _checked_layout(stream: BinaryIO, name: str) -> JpegLayout | None:
    """Return the layout of a JPEG, None for other formats; refuse a header that takes long to read."""
    data = stream.getvalue() if isinstance(stream, io.BytesIO) else stream.read(len(_JPEG_START))
    stream.seek(0)
    if not data.startswith(_JPEG_START):
        if data.startswith(_PNG_START) and png_is_overlong(data):
            raise PhotographError(name, "too-large", _OVERLONG)
        return None
    if not isinstance(stream, io.BytesIO):
        raise PhotographError(name, "too-large", f"is a JPEG of more than {_MAX_JPEG_BYTES >> 20} MiB; reduce it.")
    layout = jpeg_layout(data)
    if layout.overlong:
        raise PhotographError(name, "too-large", _OVERLONG)
    return layout


def _whole_jpeg(stream: BinaryIO, layout: JpegLayout, image: Image.Image, name: str) -> BinaryIO:
    """Check scans and end of a JPEG; return the stream, or one of the complete picture if its end marker is missing."""
    width, height = image.size
    limit = min(_MAX_SCANS, max(_MIN_SCANS, _MAX_SCANNED_PIXELS // (width * height)))
    if layout.n_scans > limit:
        raise PhotographError(
            name,
            "too-large",
            f"has {layout.n_scans:,} scans, and a JPEG of this size may have {limit}; save it again as a photograph.",
        )
    if layout.ended:
        return stream

    def pixels_of(jpeg: bytes) -> bytes:
        with _parse_header(io.BytesIO(jpeg), name) as picture:
            load_pixels(picture, name)
            return picture.tobytes()

    stream.seek(0)
    whole = with_end_marker(stream.read(), layout, pixels_of)
    if whole is None:
        raise PhotographError(name, "truncated", "ends before its picture is complete; copy or download it again.")
    return io.BytesIO(whole)


def _parse_header(stream: BinaryIO, name: str) -> Image.Image:
    with quiet_pillow():
        try:
            return Image.open(stream, formats=_readable_formats())
        except UnidentifiedImageError:
            stream.seek(0)
            raise PhotographError(name, *_unidentified(stream.read(16))) from None
        except Exception as error:  # a defective header after a valid start: plugins raise many kinds of errors
            raise PhotographError(
                name, "truncated", f"its header is cut short or damaged ({first_line(error)})."
            ) from error


def _unidentified(start: bytes) -> tuple[Reason, str]:
    heic = start[4:8] == b"ftyp" and start[8:12] in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"hevc")
    if heic and "HEIF" not in _readable_formats():
        return "not-an-image", 'is a HEIC picture, which needs a plugin: pip install "swclip[heic]"'
    if heic or start.startswith((_JPEG_START, _PNG_START)):
        return "truncated", "begins like a picture, but its header is cut short or damaged."
    return (
        "not-an-image",
        "is not an image in a format that swclip reads (JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF, HEIC).",
    )


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Disable Pillow's warnings and size limit while a header or EXIF is parsed; not for decoding pixels."""
    with _HEADER_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None  # `open_photograph` checks the size, with a limit that users can set
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


@cache
def _readable_formats() -> tuple[str, ...]:
    """Return the formats of `_FORMATS` that Pillow can read, with HEIC if its plugin is installed."""
    Image.init()
    if find_spec("pillow_heif") is not None:
        import pillow_heif  # type: ignore[import-not-found,unused-ignore]  # optional

        pillow_heif.register_heif_opener()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


_JPEG_QUALITY = 80


def thumbnail_jpeg(source: str | os.PathLike[str] | bytes, side_px: int) -> bytes:
    """Encode a thumbnail of a photograph as JPEG.

    Args:
        source: A path, or the file's bytes.
        side_px: Largest height in pixels; the largest width is twice this, for panoramas.

    Raises:
        PhotographError: The photograph cannot be decoded.
    """
    picture = decode_photograph(source, size_px=side_px)
    picture.thumbnail((side_px * 2, side_px))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=_JPEG_QUALITY)
    return stream.getvalue()
