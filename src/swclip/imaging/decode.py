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
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from swclip.errors import InputError

Reason = Literal["missing", "empty", "truncated", "not-an-image", "too-large"]

MAX_PIXELS = 100_000_000
"""Limit of pixels, checked in the header: a small file can declare a picture of many gigabytes."""

# Formats of cameras and archives. Pillow reads more, but passes EPS to Ghostscript, which is unsafe for user files.
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIF")
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
# Warning filters and Pillow's bomb limit are global to the process. Headers are parsed one at a time so that two
# threads never restore each other's settings; pixels, which take most of the time, are decoded in parallel.
_HEADER_LOCK = threading.Lock()


class PhotographError(InputError):
    """A file that cannot be used as a photograph.

    Attributes:
        name: Path of the file, or a description of its bytes.
        reason: The reason as a code: missing, empty, truncated, not-an-image or too-large.
        detail: The reason in words, without the file's name.
    """

    def __init__(self, name: str, reason: Reason, detail: str) -> None:
        super().__init__(f"{name}: {detail}")
        self.name = name
        self.reason: Reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[PhotographError], tuple[str, Reason, str]]:
        return type(self), (self.name, self.reason, self.detail)  # picklable, for worker processes


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
        if size_px is not None and image.format in ("JPEG", "MPO"):
            image.draft(None, (size_px, size_px))
        load_pixels(image, name_of(source))
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
        image = _parse_header(stream, name)
        width, height = image.size
        if width * height > max_pixels:
            raise PhotographError(
                name,
                "too-large",
                f"its header says {width} x {height} = {width * height / 1e6:.0f} megapixels, more than the limit of "
                f"{max_pixels / 1e6:g}; reduce it, or raise the limit if it is genuine.",
            )
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
    stream = getattr(image, "fp", None)  # Pillow drops it after loading
    try:
        image.load()
    except MemoryError as error:
        raise PhotographError(name, "too-large", "does not fit into memory; reduce it.") from error
    except Exception as error:  # plugins raise OSError, SyntaxError, EOFError, struct.error, zlib.error, ...
        raise PhotographError(
            name, "truncated", f"is cut short or damaged ({_first_line(error)}); copy or download it again."
        ) from error
    if image.format in ("JPEG", "MPO") and _has_zero_tail(stream):
        raise PhotographError(
            name, "truncated", "ends in zeros where picture data should be; copy or download it again."
        )


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any Pillow mode to RGB: scale 16-bit values, resolve palettes, put transparency on white.

    Args:
        image: A decoded image.

    Returns:
        Mode RGB, same size.
    """
    if image.mode == "RGB":
        return image.copy()  # a copy, because the opened image is invalid after its stream is closed
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_8_bit(np.asarray(image))).convert("RGB")
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        over = image.convert("RGBA")
        white = Image.new("RGBA", over.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, over).convert("RGB")
    return image.convert("RGB")


def name_of(source: str | os.PathLike[str] | bytes) -> str:
    """Return the name of a photograph in messages."""
    return "the photograph given as bytes" if isinstance(source, bytes) else os.fspath(source)


def _to_8_bit(values: np.ndarray) -> np.ndarray:
    """Convert grey values of any depth to uint8; the depth of 32-bit modes is inferred from the values."""
    if values.dtype == np.uint16:
        return (values >> 8).astype(np.uint8)
    finite = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    top = float(finite.max(initial=0.0))
    if values.dtype.kind == "f" and top <= 1.0:
        finite = finite * 255.0
    elif top > 255.0:
        finite = finite / 256.0 if top <= 65_535.0 else finite * (255.0 / top)
    return np.clip(finite, 0.0, 255.0).astype(np.uint8)


def _stream(source: str | os.PathLike[str] | bytes, name: str) -> BinaryIO:
    if isinstance(source, bytes):
        if not source:
            raise PhotographError(name, "empty", "has no bytes.")
        return io.BytesIO(source)
    path = Path(source)
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise PhotographError(name, "not-an-image", "is a folder; give a photograph.")
        if size == 0:
            raise PhotographError(name, "empty", "is an empty file; copy or download it again.")
        # Reading outside the lock lets a slow disk delay only one thread.
        return io.BytesIO(path.read_bytes()) if size <= _READ_WHOLE_BYTES else path.open("rb")
    except FileNotFoundError:
        raise PhotographError(name, "missing", "there is no such file; check the path.") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise PhotographError(name, "missing", f"cannot be read ({_first_line(error)}).") from error


def _parse_header(stream: BinaryIO, name: str) -> Image.Image:
    with quiet_pillow():
        try:
            return Image.open(stream, formats=_readable_formats())
        except UnidentifiedImageError:
            stream.seek(0)
            raise PhotographError(name, *_unidentified(stream.read(16))) from None
        except Exception as error:  # a defective header after a valid start: plugins raise many kinds of errors
            raise PhotographError(
                name, "truncated", f"its header is cut short or damaged ({_first_line(error)})."
            ) from error


def _unidentified(start: bytes) -> tuple[Reason, str]:
    if start[4:8] == b"ftyp" and start[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"hevc"):
        return "not-an-image", "is a HEIC picture, which needs a plugin: pip install pillow-heif"
    if start.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")):
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


def _has_zero_tail(stream: object) -> bool:
    """Return whether the end of a JPEG was never written: space reserved by a downloader or camera reads as zeros."""
    if not isinstance(stream, io.BytesIO) or stream.closed:
        return False
    data = stream.getbuffer()
    if data.nbytes < 128 or any(data[-128:]):
        return False
    return not bytes(data).rstrip(b"\0").endswith(b"\xff\xd9")


@cache
def _readable_formats() -> tuple[str, ...]:
    """Return the formats of `_FORMATS` that Pillow can read, with HEIC if its plugin is installed."""
    Image.init()
    if find_spec("pillow_heif") is not None:
        import pillow_heif  # type: ignore[import-not-found,unused-ignore]  # optional

        pillow_heif.register_heif_opener()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


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
