"""EXIF properties in an XMP packet, of a photograph or of a sidecar file, in the form of EXIF tags."""

from __future__ import annotations

import re
from typing import Any
from xml.parsers import expat

MAX_PACKET_BYTES = 8 * 2**20
"""Limit of a packet: edits of a raw converter take some hundred kilobytes."""

_EXIF = "http://ns.adobe.com/exif/1.0/ "
_GPANO = "http://ns.google.com/photos/1.0/panorama/ "
_POSE = f"{_GPANO}PoseHeadingDegrees"
_CREATED = ("http://ns.adobe.com/photoshop/1.0/ DateCreated", "http://ns.adobe.com/xap/1.0/ CreateDate")
_EXIF_NAMES = (
    "DateTimeOriginal", "GPSHPositioningError", "GPSImgDirection", "GPSImgDirectionRef", "GPSLatitude", "GPSLongitude",
    "GPSMapDatum", "GPSTimeStamp",
)  # fmt: skip
_NAMES = frozenset({*(_EXIF + name for name in _EXIF_NAMES), _POSE, *_CREATED})
_ANGLE = re.compile(r"(?P<parts>[+\-]?[\d.]+(?:,[\d.]+){0,2})\s*(?P<letter>[NSEWnsew]?)$")
_FRACTION = re.compile(r"([+\-]?\d+)/(\d+)$")
_UTC = re.compile(r"(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2})(?::(\d{2}(?:\.\d+)?))?(?:Z|\+00:?00)?$")


class XmpError(ValueError):
    """A packet is not XMP that can be read."""


def exif_tags_of_xmp(packet: bytes | str) -> tuple[dict[int, Any], dict[int, Any]]:
    """Read the EXIF properties of an XMP packet.

    Args:
        packet: The packet: RDF in XML.

    Returns:
        The tags of the EXIF block and of the GPS block that the properties stand for, by number, with values as EXIF
        has them: a latitude "53,48.0480N" is {1: "N", 2: (53.0, 48.048)}. Without GPSImgDirection, the heading of a
        panorama (GPano:PoseHeadingDegrees, from true north) takes its place.

    Raises:
        XmpError: The packet is too long, not well-formed, or declares a document type.

    References:
        Adobe, "XMP Specification Part 2" (2016), section 3.3 (GPSCoordinate); Google, "Photo Sphere XMP Metadata".
    """
    values = _properties(packet)
    details = {0x9003: values.get(f"{_EXIF}DateTimeOriginal") or next(filter(None, map(values.get, _CREATED)), None)}
    gps: dict[int, Any] = {}
    for name, (letter_tag, tag) in (("GPSLatitude", (1, 2)), ("GPSLongitude", (3, 4))):
        text = values.get(_EXIF + name)
        match = _ANGLE.match(text) if text is not None else None
        if match is not None:
            gps[letter_tag], gps[tag] = match["letter"], tuple(match["parts"].split(","))
        elif text is not None:
            gps[tag] = text  # reported as not a number
    for name, tag in (("GPSImgDirection", 17), ("GPSHPositioningError", 31)):
        gps[tag] = _number(values.get(_EXIF + name))
    gps[16], gps[18] = values.get(f"{_EXIF}GPSImgDirectionRef"), values.get(f"{_EXIF}GPSMapDatum")
    pose = values.get(_POSE)
    if gps[17] is None and pose is not None:
        gps[16], gps[17] = "T", pose
    if (moment := _UTC.match(values.get(f"{_EXIF}GPSTimeStamp", ""))) is not None:
        gps[29], gps[7] = ":".join(moment.groups()[:3]), tuple(part or "0" for part in moment.groups()[3:])
    return _stated(details), _stated(gps)


def gpano_of_xmp(packet: bytes | str) -> dict[str, str]:
    """Read the properties of a panorama (GPano) by their names without prefix, such as PosePitchDegrees.

    Raises:
        XmpError: As `exif_tags_of_xmp`.
    """
    return {name.removeprefix(_GPANO): value for name, value in _properties(packet).items() if name.startswith(_GPANO)}


def _properties(packet: bytes | str) -> dict[str, str]:
    """Return the simple properties of a packet, written as attributes or as elements; the first of each name."""
    if len(packet) > MAX_PACKET_BYTES:
        raise XmpError(f"has more than {MAX_PACKET_BYTES >> 20} MiB")
    if isinstance(packet, bytes):
        wide = packet[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in packet[:4]
        packet = packet.decode("utf-16" if wide else "utf-8-sig", "replace")
    values: dict[str, str] = {}
    text: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        text.clear()
        for key, value in attributes.items():
            if key in _NAMES or key.startswith(_GPANO):
                values.setdefault(key, value.strip())

    def end(name: str) -> None:
        if name in _NAMES or name.startswith(_GPANO):
            values.setdefault(name, "".join(text).strip())

    def refuse(*_: object) -> None:
        raise XmpError("declares a document type")  # XMP has none, and its entities can grow without end

    # A parser without a tree: its memory does not grow with the packet.
    parser = expat.ParserCreate("utf-8", " ")
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = text.append, refuse
    try:
        parser.Parse(packet.strip("\0 \r\n\t\ufeff").encode("utf-8", "replace"), True)
    except expat.ExpatError as error:
        raise XmpError(f"is not well-formed ({error})") from error
    return {name: value for name, value in values.items() if value}


def _number(text: str | None) -> float | str | None:
    """Return the value of a fraction such as 2715/10; other text as it is."""
    match = _FRACTION.match(text) if text is not None else None
    return text if match is None or not int(match[2]) else int(match[1]) / int(match[2])


def _stated(tags: dict[int, Any]) -> dict[int, Any]:
    return {tag: value for tag, value in tags.items() if value is not None}
