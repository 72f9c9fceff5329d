"""What a photograph's EXIF block says of where, when and in which direction it was taken."""

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
# Tags of time, its offset from UTC and its fraction: when it was taken, when it was digitised, when it was changed.
_TIMES = ((0x9003, 0x9011, 0x9291), (0x9004, 0x9012, 0x9292), (0x0132, 0x9010, 0x9290))


@dataclass(frozen=True)
class ExifFacts:
    """Facts from one photograph; None where EXIF does not say.

    Attributes:
        lat_deg: Latitude in degrees; NaN where the tag holds no number. It may lie outside -90 to 90.
        lon_deg: Longitude in degrees, likewise.
        heading_deg: Direction of view, degrees clockwise from north.
        accuracy_m: Horizontal positioning error, metres.
        captured_at: Time of capture as ISO 8601, with "+00:00" where the zone is known.
        problem: Why the GPS position cannot be used although one is there.
    """

    lat_deg: float | None = None
    lon_deg: float | None = None
    heading_deg: float | None = None
    accuracy_m: float | None = None
    captured_at: str | None = None
    problem: str | None = None


def read_exif(image: Image.Image) -> ExifFacts:
    """Read the facts from an opened image; broken EXIF gives what can still be read, never an error.

    The time is DateTimeOriginal with its offset. Without an offset the GPS time, which is UTC, is preferred, and the
    camera's clock is taken as it is where there is none.

    Args:
        image: An image as Pillow opened it. Its pixels are not needed.

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
        except Exception:  # Pillow raises whatever a broken block leads it into; the picture may still be good
            return {}, {}, {}
        for place, tag in ((1, _EXIF_IFD), (2, _GPS_IFD)):
            try:
                blocks[place] = dict(exif.get_ifd(tag))
            except Exception:  # one broken block must not hide the others
                continue
    return blocks[0], blocks[1], blocks[2]


def _angle(value: Any, reference: Any, what: str, letters: str) -> tuple[float | None, str | None]:
    """Degrees, minutes and seconds (or degrees alone) with N, S, E or W to signed degrees."""
    if value is None:
        return None, None
    parts = [_number(part) for part in value] if isinstance(value, (tuple, list)) else [_number(value)]
    if not parts or any(part is None for part in parts):
        return math.nan, f"the EXIF {what} is not a number ({_shown(value)})"
    degrees = sum(float(part or 0.0) / 60.0**power for power, part in enumerate(parts[:3]))
    letter = _text(reference)[:1].upper()
    if letter not in letters or not letter:
        # Without the letter the hemisphere is unknown: London and Accra differ by it alone.
        return None, f"the EXIF {what} does not say {letters[0]} or {letters[1]}"
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
        # The offset is tried first: some cameras write one that is blank.
        for written in (text + _text(tags.get(offset_tag)), text):
            moment = _iso(written)
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
