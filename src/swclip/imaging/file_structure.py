"""Structure of a file before it is decoded: the parts of a header, the scans of a JPEG, and whether it is complete."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from swclip.imaging.photograph_file import PhotographError

# In entropy-coded data, 0xFF is followed by 0x00 or a restart marker; all else is the next marker (ITU T.81, B.1.1).
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_SOF = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_SEQUENTIAL = frozenset({0xC0, 0xC1})
_SOI, _EOI, _SOS, _DNL = 0xD8, 0xD9, 0xDA, 0xDC
_ALONE = frozenset({0x01, _SOI})  # markers without a length
_END = b"\xff\xd9"
# Arbitrary continuations, longer than the data of any block of pixels.
_CONTINUATIONS = [hashlib.shake_256(bytes([number])).digest(4096).replace(b"\xff", b"\xfe") for number in range(3)]
# What may follow picture data that lack their end marker: space that was reserved and never written (zeros in picture
# data are far shorter), or a block of Samsung's trailer: zeros, type, length of its name, name.
_NEXT = re.compile(rb"\x00{64}|\x00\x00[\x00-\xff]{2}[\x04-\x40]\x00\x00\x00[A-Z][A-Za-z0-9_]{3}")
_LAST_BYTES = 16
# Pillow reads headers part by part, and bytes that fill a JPEG's header one by one, at about 1 microsecond each. Real
# headers have some tens of parts; a profile or extended XMP is in parts of 64 kB.
_MAX_PARTS, _MAX_FILL_BYTES = 10_000, 65_536
_PNG_START = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class JpegLayout:
    """Where the parts of a JPEG are.

    Attributes:
        n_scans: Number of scans. Progressive pictures of cameras and web sites have about ten.
        overlong: Whether the header has more parts or bytes between parts than any encoder writes.
        ended: Whether the picture ends with its end marker (EOI). What follows the marker is not part of the picture.
        unended: Start and end of the picture data, in bytes, if the picture is one sequential scan without end marker.
    """

    n_scans: int
    ended: bool
    overlong: bool = False
    unended: tuple[int, int] | None = None


def jpeg_layout(data: bytes) -> JpegLayout:
    """Find the scans and the end of a JPEG without decoding it.

    Args:
        data: The file's bytes, from its start marker. Bytes between segments are skipped, as libjpeg does.
    """
    n_scans, n_parts, sequential, components = 0, 0, False, 0
    at = 2
    while (match := _MARKER.search(data, at)) is not None:
        n_parts += 1
        if n_scans == 0 and (n_parts > _MAX_PARTS or match.start() - at > _MAX_FILL_BYTES):
            return JpegLayout(0, False, overlong=True)
        marker, at = data[match.start() + 1], match.end()
        if marker == _EOI:
            return JpegLayout(n_scans, True)
        if marker in _ALONE:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        if marker in _SOF:
            sequential, components = marker in _SEQUENTIAL, data[at + 7] if at + 7 < len(data) else 0
        at += max(length, 2)
        if marker == _SOS:
            n_scans += 1
            if sequential and n_scans == 1 and data[at - length + 2 : at - length + 3] == bytes([components]):
                return _after_only_scan(data, at)
    return JpegLayout(n_scans, False, overlong=n_scans == 0 and len(data) - at > _MAX_FILL_BYTES)


def _after_only_scan(data: bytes, start: int) -> JpegLayout:
    """Find the end of a scan of all components of a sequential picture: no further picture data can follow it."""
    match = _MARKER.search(data, start)
    if match is not None and data[match.start() + 1] == _DNL:
        match = _MARKER.search(data, match.end())
    if match is not None and data[match.start() + 1] == _EOI:
        return JpegLayout(1, True)
    # Without an end marker, the next marker is in whatever follows the picture, such as a trailer of the camera.
    return JpegLayout(1, False, unended=(start, len(data) if match is None else match.start()))


def with_end_marker(data: bytes, layout: JpegLayout, pixels_of: Callable[[bytes], bytes]) -> bytes | None:
    """Add the missing end marker to a JPEG whose picture data are complete.

    Some cameras write none (https://github.com/libjpeg-turbo/libjpeg-turbo/issues/163). The data are complete if the
    pixels depend on their last bytes, and not on the bytes that follow them.

    Args:
        data: The file's bytes.
        layout: Its layout.
        pixels_of: Decodes a JPEG with an end marker to its pixels; raises PhotographError if it cannot.

    Returns:
        The picture without what follows it; None if it is truncated or if that cannot be established.
    """
    if layout.unended is None:
        return None
    start, end = layout.unended
    following = _NEXT.search(data, start, end)
    picture = data[: end if following is None else following.start()].rstrip(b"\xff")  # half a marker

    def is_complete(head: bytes) -> bool:
        try:
            return len({hashlib.sha256(pixels_of(head + more + _END)).digest() for more in _CONTINUATIONS}) == 1
        except PhotographError:
            return False

    # If the picture does not need its last bytes, unknown bytes follow, and parts of it may have been read from them.
    return picture + _END if is_complete(picture) and not is_complete(picture[:-_LAST_BYTES]) else None


def png_is_overlong(data: bytes) -> bool:
    """Return whether a PNG has more chunks before its picture than any encoder writes."""
    at = len(_PNG_START)
    for _ in range(_MAX_PARTS):
        if at + 8 > len(data) or data[at + 4 : at + 8] == b"IDAT":
            return False
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return True
