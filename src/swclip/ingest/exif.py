"""Position, time and heading of a photograph from its EXIF block."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from swclip.imaging.decode import quiet_pillow
from swclip.ingest.values import TimestampError, parse_timestamp

_GPS_IFD, _EXIF_IFD = 0x8825, 0x8769
_LAT_REF, _LAT, _LON_REF, _LON = 1, 2, 3, 4
_GPS_TIME, _GPS_DATE = 7, 29
_DIRECTION, _POSITIONING_ERROR = 17, 31
# Tags of a time, its UTC offset and its fraction: original, digitised, modified.
_TIMES = ((0x9003, 0x9011, 0x9291), (0x9004, 0x9012, 0x9292), (0x0132, 0x9010, 0x9290))


@dataclass(frozen=True)
class ExifFacts:
    """Metadata of one photograph; None for absent values.

    Attributes:
        lat_deg: Latitude in degrees; NaN if the tag is not a number. It is not checked to be within -90 to 90.
        lon_deg: Longitude in degrees, likewise.
        heading_deg: Direction of view, degrees clockwise from north.
        accuracy_m: Horizontal positioning error, metres.
        captured_at: Time of capture as ISO 8601, with "+00:00" if the time zone is known.
        problem: Why a GPS position that is present cannot be used.
    """

    lat_deg: float | None = None
    lon_deg: float | None = None
    heading_deg: float | None = None
    accuracy_m: float | None = None
    captured_at: str | None = None
    problem: str | None = None


def read_exif(image: Image.Image) -> ExifFacts:
    """Read the metadata of an opened image; broken EXIF never raises, and its readable parts are returned.

    The time is DateTimeOriginal with its offset. Without an offset, the GPS time, which is UTC, is preferred; without a
    GPS time, the time of the camera's clock is returned without a zone.

    Args:
        image: An image opened by Pillow. Its pixels are not needed.

    Example:
        >>> read_exif(Image.new("RGB", (2, 2))).lat_deg is None
        True
    """
    base, details, gps = _tags(image)
    lat, lat_problem = _angle(gps.get(_LAT), gps.get(_LAT_REF), "latitude", "NS")
    lon, lon_problem = _angle(gps.get(_LON), gps.get(_LON_REF), "longitude", "EW")
    heading, accuracy = _number(gps.get(_DIRECTION)), _number(gps.get(_POSITIONING_ERROR))
    return ExifFacts(
        lat_deg=lat,
        lon_deg=lon,
        heading_deg=heading % 360.0 if heading is not None and -360.0 <= heading <= 360.0 else None,
        accuracy_m=accuracy if accuracy is not None and accuracy > 0.0 else None,
        captured_at=_time({**base, **details}, gps),
        problem=lat_problem or lon_problem,
    )


def _tags(image: Image.Image) -> tuple[dict[int, Any], dict[int, Any], dict[int, Any]]:
    blocks: list[dict[int, Any]] = [{}, {}, {}]
    with quiet_pillow():
        try:
            exif = image.getexif()
            blocks[0] = dict(exif)
        except Exception:  # Pillow raises many kinds of errors on a broken block; the pixels may still be good
            return {}, {}, {}
        for place, tag in ((1, _EXIF_IFD), (2, _GPS_IFD)):
            try:
                blocks[place] = dict(exif.get_ifd(tag))
            except Exception:  # one broken block must not hide the others
                continue
    return blocks[0], blocks[1], blocks[2]


def _angle(value: Any, reference: Any, name: str, letters: str) -> tuple[float | None, str | None]:
    """Convert degrees, minutes and seconds (or degrees alone) with N, S, E or W to signed degrees, or give a reason."""
    if value is None:
        return None, None
    parts = [_number(part) for part in value] if isinstance(value, (tuple, list)) else [_number(value)]
    if not parts or any(part is None for part in parts):
        return math.nan, f"the EXIF {name} is not a number ({_shown(value)})"
    degrees = sum(float(part or 0.0) / 60.0**power for power, part in enumerate(parts[:3]))
    letter = _text(reference)[:1].upper()
    if letter not in letters or not letter:
        # Without the letter the hemisphere is ambiguous: a wrong sign moves a photograph by thousands of kilometres.
        return None, f"the EXIF {name} does not say {letters[0]} or {letters[1]}"
    return (-abs(degrees) if letter in "SW" else degrees), None


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    return str(value).strip("\0 ") if value is not None else ""


def _shown(value: Any) -> str:
    return " ".join(str(part) for part in value) if isinstance(value, (tuple, list)) else str(value)


def _time(tags: Mapping[int, Any], gps: Mapping[int, Any]) -> str | None:
    clock: str | None = None
    for tag, offset_tag, fraction_tag in _TIMES:
        text, fraction = _text(tags.get(tag)), _text(tags.get(fraction_tag))
        if fraction.isdigit() and "." not in text:
            text = f"{text}.{fraction[:9]}"
        # Some cameras write a blank offset, with which the time cannot be parsed.
        for candidate in (text + _text(tags.get(offset_tag)), text):
            moment = _iso(candidate)
            if moment is not None:
                if "+" in moment:
                    return moment
                clock = clock or moment
    return _gps_time(gps) or clock


def _gps_time(gps: Mapping[int, Any]) -> str | None:
    parts = [_number(part) for part in (gps.get(_GPS_TIME) or ())]
    day = _text(gps.get(_GPS_DATE))
    if len(parts) != 3 or any(part is None for part in parts) or not day:
        return None
    hour, minute, second = (float(part or 0.0) for part in parts)
    return _iso(f"{day} {int(hour):02d}:{int(minute):02d}:{int(second):02d}.{int(second % 1 * 1000):03d}Z")


def _iso(text: str) -> str | None:
    try:
        moment = parse_timestamp(text)
    except TimestampError:
        return None
    return None if moment is None else moment.isoformat(timespec="milliseconds")
