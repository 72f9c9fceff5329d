"""Small pictures of photographs, as JPEG and without their EXIF: no position, no time, no camera."""

from __future__ import annotations

import io
import os

from swclip.imaging.decode import decode_photograph

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
