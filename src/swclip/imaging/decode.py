"""From a file or bytes to an upright RGB picture, or to a named reason why not."""

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
"""Pixels above which a header alone is refused: a small file can claim to be a picture of many gigabytes."""

# Formats that cameras and archives use. Pillow reads more, and hands EPS to Ghostscript: not for strangers' files.
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
# Warning filters and Pillow's bomb limit belong to the whole process. Headers are parsed one at a time so that two
# threads never restore each other's settings; the pixels, where the time goes, are decoded in parallel.
_HEADER_LOCK = threading.Lock()


class PhotographError(InputError):
    """A file that cannot be used as a photograph.

    Attributes:
        reason: What is wrong, as a code: missing, empty, truncated, not-an-image or too-large.
        detail: The same in words, without the file's name.
    """

    def __init__(self, name: str, reason: Reason, detail: str) -> None:
        super().__init__(f"{name}: {detail}")
        self.name = name
        self.reason: Reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[PhotographError], tuple[str, Reason, str]]:
        return type(self), (self.name, self.reason, self.detail)  # so that worker processes can send it back


def decode_photograph(
    source: str | os.PathLike[str] | bytes, *, size_px: int | None = None, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Decode a photograph whole, upright and as RGB.

    Args:
        source: A path, or the file's bytes.
        size_px: The shorter side that will be needed, pixels. A JPEG is then decoded at 1/2, 1/4 or 1/8 of its size
            where that leaves both sides at least this long: about twice as fast. The result may be larger.
        max_pixels: Pictures with more are refused from the header, before anything is decoded.

    Returns:
        The picture, mode RGB. EXIF orientation is applied, 16-bit values are scaled to 8, transparent parts are white.

    Raises:
        PhotographError: It is missing, empty, cut short, not an image or too large; `reason` says which.

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
        upright = _UPRIGHT.get(image_orientation(image))  # after loading, since a TIFF is turned while it loads
        picture = to_rgb(image)
    return picture if upright is None else picture.transpose(upright)


@contextmanager
def open_photograph(source: str | os.PathLike[str] | bytes, *, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Open a photograph and check its header; no pixel is decoded yet.

    Args:
        source: A path, or the file's bytes.
        max_pixels: Pictures with more are refused.

    Yields:
        Pillow's image, closed afterwards.

    Raises:
        PhotographError: It is missing, empty, not an image or too large.
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
    """The EXIF orientation, 1 to 8; 1 (upright) where there is none or it cannot be read."""
    with quiet_pillow():
        try:
            return int(image.getexif().get(_ORIENTATION_TAG, 1))
        except Exception:  # Pillow raises whatever a broken EXIF block leads it into; the picture is still good
            return 1


def load_pixels(image: Image.Image, name: str) -> None:
    """Decode all pixels of an opened image.

    Raises:
        PhotographError: The file ends early, or what it holds cannot be decoded.
    """
    stream = getattr(image, "fp", None)  # Pillow forgets it once the pixels are there
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
    """Any Pillow mode to RGB: 16-bit scaled, palettes resolved, transparency laid over white.

    Args:
        image: A decoded image.

    Returns:
        Mode RGB, same size.
    """
    if image.mode == "RGB":
        return image.copy()  # not the opened file's own object, which dies with its stream
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_8_bit(np.asarray(image))).convert("RGB")
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        over = image.convert("RGBA")
        white = Image.new("RGBA", over.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, over).convert("RGB")
    return image.convert("RGB")


def name_of(source: str | os.PathLike[str] | bytes) -> str:
    """What to call a photograph in a message."""
    return "the photograph given as bytes" if isinstance(source, bytes) else os.fspath(source)


def _to_8_bit(values: np.ndarray) -> np.ndarray:
    """Grey values of any depth to uint8; the depth is known only from the values where the mode is 32-bit."""
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
            raise PhotographError(name, "empty", "holds no bytes.")
        return io.BytesIO(source)
    path = Path(source)
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise PhotographError(name, "not-an-image", "is a folder; give a photograph.")
        if size == 0:
            raise PhotographError(name, "empty", "is an empty file; copy or download it again.")
        # Read outside the lock, so that a slow disk delays one thread and not all.
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
        except Exception as error:  # a header that begins well and goes wrong: plugins raise many kinds
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
    """Silence Pillow's warnings and its own size limit while a header or its EXIF is parsed; keep pixels out of it."""
    with _HEADER_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None  # the size is judged by our own limit, for which the user has a flag
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _has_zero_tail(stream: object) -> bool:
    """A JPEG whose end was never written: space reserved by a downloader or a crashed camera reads as zeros."""
    if not isinstance(stream, io.BytesIO) or stream.closed:
        return False
    data = stream.getbuffer()
    if data.nbytes < 128 or any(data[-128:]):
        return False
    return not bytes(data).rstrip(b"\0").endswith(b"\xff\xd9")


@cache
def _readable_formats() -> tuple[str, ...]:
    """Those of our formats that this Pillow has, with HEIC where its plugin is installed."""
    Image.init()
    if find_spec("pillow_heif") is not None:
        import pillow_heif  # type: ignore[import-not-found,unused-ignore]  # optional

        pillow_heif.register_heif_opener()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


_QUALITY = 80


def thumbnail_jpeg(source: str | os.PathLike[str] | bytes, side_px: int) -> bytes:
    """A small picture of a photograph.

    Args:
        source: A path, or the file's bytes.
        side_px: At most so many pixels high, and twice as many wide: a panorama may be wide.

    Raises:
        PhotographError: It cannot be decoded.
    """
    picture = decode_photograph(source, size_px=side_px)
    picture.thumbnail((side_px * 2, side_px))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()
