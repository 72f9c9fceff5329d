"""Position, time and heading of a photograph from its EXIF block, its XMP packet or its XMP sidecar."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from swclip.geo.distance import haversine_m
from swclip.geo.projections import WGS84, datum_code, to_wgs84
from swclip.imaging.decode import quiet_pillow
from swclip.ingest.angles import degrees_of_parts, parts_problem
from swclip.ingest.values import TimestampError, parse_timestamp
from swclip.ingest.xmp import XmpError, exif_tags_of_xmp

_GPS_IFD, _EXIF_IFD = 0x8825, 0x8769
_LAT_REF, _LAT, _LON_REF, _LON = 1, 2, 3, 4
_GPS_TIME, _MAP_DATUM, _GPS_DATE = 7, 18, 29
_DIRECTION_REF, _DIRECTION, _POSITIONING_ERROR = 16, 17, 31
# Tags of a time, its UTC offset and its fraction: original, digitised, modified.
_TIMES = ((0x9003, 0x9011, 0x9291), (0x9004, 0x9012, 0x9292), (0x0132, 0x9010, 0x9290))
_DISAGREE_M = 25.0
_FIRST_GPS_YEAR = 1990


class ExifNote(NamedTuple):
    """A remark on one value.

    Attributes:
        about: The value that the remark is about; "packet" for a whole XMP packet.
        code: Kind of the remark.
        detail: The remark in words, with the value as written.
    """

    about: Literal["position", "heading", "time", "packet"]
    code: str
    detail: str


@dataclass(frozen=True)
class ExifFacts:
    """Metadata of one photograph; None for absent values.

    Attributes:
        lat_deg: Latitude in degrees, WGS84; NaN if the tag is not a number. It is not checked to be within -90 to 90.
        lon_deg: Longitude in degrees, likewise.
        heading_deg: Direction of view, degrees clockwise from true north.
        accuracy_m: Horizontal positioning error, metres.
        captured_at: Time of capture as ISO 8601, with "+00:00" if the time zone is known.
        problem: Why a position that is present cannot be used.
        notes: Remarks on values that were converted or left out, and on doubtful values.
    """

    lat_deg: float | None = None
    lon_deg: float | None = None
    heading_deg: float | None = None
    accuracy_m: float | None = None
    captured_at: str | None = None
    problem: str | None = None
    notes: tuple[ExifNote, ...] = ()


def read_exif(image: Image.Image, sidecar: tuple[str, bytes] | None = None) -> ExifFacts:
    """Read the metadata of an opened image; broken metadata never raise, and their readable parts are returned.

    Each value is that of the EXIF block; if it states none, that of the image's XMP packet; then that of the sidecar. A
    position that EXIF states in a way that cannot be used is not replaced: the others may be copies of it.

    The position is magnitude |d| + |m|/60 + |s|/3600, south or west if the letter says so or if a part is negative. A
    position in another datum (GPSMapDatum) is converted to WGS84. A heading from magnetic north is left out, because
    no model of the declination is at hand.

    The time is DateTimeOriginal with its offset. Without an offset, the GPS time, which is UTC, is preferred; without a
    GPS time, or if its date is more than a day from the camera's clock, the time of the clock is returned without a
    zone.

    Args:
        image: An image opened by Pillow. Its pixels are not needed.
        sidecar: Name and content of the photograph's XMP sidecar file.

    Example:
        >>> read_exif(Image.new("RGB", (2, 2))).lat_deg is None
        True
    """
    base, details, gps = _tags(image)
    facts = _facts({**base, **details}, gps, "EXIF")
    packet = image.info.get("xmp")
    if isinstance(packet, (bytes, str)) and packet:
        facts = _completed(facts, _facts_of_xmp(packet, "XMP"), "XMP")
    if sidecar is not None:
        facts = _completed(facts, _facts_of_xmp(sidecar[1], sidecar[0]), sidecar[0])
    return facts


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


def _facts_of_xmp(packet: bytes | str, where: str) -> ExifFacts:
    try:
        details, gps = exif_tags_of_xmp(packet)
    except XmpError as error:
        return ExifFacts(notes=(ExifNote("packet", "xmp-unreadable", f"{where} {error}; it was not read."),))
    return _facts(details, gps, where)


def _facts(tags: Mapping[int, Any], gps: Mapping[int, Any], where: str) -> ExifFacts:
    lat, lon, problem, notes = _position(gps, where)
    heading, magnetic = _heading(gps, where)
    captured_at, wrong_date = _time(tags, gps, where)
    accuracy = _number(gps.get(_POSITIONING_ERROR))
    return ExifFacts(
        lat_deg=lat,
        lon_deg=lon,
        heading_deg=heading,
        accuracy_m=accuracy if accuracy is not None and accuracy > 0.0 else None,
        captured_at=captured_at,
        problem=problem,
        notes=(*notes, *magnetic, *wrong_date),
    )


def _completed(facts: ExifFacts, more: ExifFacts, where: str) -> ExifFacts:
    """Fill the values that the first metadata do not state from the second, with the remarks on them."""
    filled: dict[str, Any] = {}
    about = {"packet"}
    remarks: list[ExifNote] = []
    if facts.problem is None and not _located(facts) and (_located(more) or more.problem is not None):
        about.add("position")
        filled = {name: getattr(more, name) for name in ("lat_deg", "lon_deg", "accuracy_m", "problem")}
        detail = f"the position is from {where}, because the EXIF block states none."
        remarks.append(ExifNote("position", "position-from-xmp", detail))
    elif _located(facts) and _located(more) and facts.problem is None and more.problem is None:
        apart_m = _apart_m(facts.lat_deg, facts.lon_deg, more.lat_deg, more.lon_deg)
        if apart_m > _DISAGREE_M:
            detail = f"the position in {where} is {apart_m:,.0f} m from the one that was read first, which is used."
            remarks.append(ExifNote("position", "xmp-elsewhere", detail))
    replaced = set(about)
    for kind, name in (("heading", "heading_deg"), ("time", "captured_at")):
        if getattr(facts, name) is None:
            about.add(kind)
            if getattr(more, name) is not None:
                replaced.add(kind)
                filled[name] = getattr(more, name)
    kept = [note for note in facts.notes if note.about not in replaced or note.about == "packet"]
    remarks = [*kept, *(note for note in more.notes if note.about in about), *remarks]
    return replace(facts, **filled, notes=tuple(remarks))


def _apart_m(*degrees: float | None) -> float:
    return float(haversine_m(*np.array(degrees, dtype=np.float64)[:, None])[0])


def _located(facts: ExifFacts) -> bool:
    return facts.lat_deg is not None and facts.lon_deg is not None and (facts.lat_deg, facts.lon_deg) != (0.0, 0.0)


def _position(
    gps: Mapping[int, Any], where: str
) -> tuple[float | None, float | None, str | None, tuple[ExifNote, ...]]:
    """Return latitude and longitude in WGS84, why they cannot be used, and remarks."""
    lat, lat_problem, lat_notes = _angle(gps.get(_LAT), gps.get(_LAT_REF), f"{where} latitude", "NS")
    lon, lon_problem, lon_notes = _angle(gps.get(_LON), gps.get(_LON_REF), f"{where} longitude", "EW")
    notes = (*lat_notes, *lon_notes)
    problem = lat_problem or lon_problem
    if lat is None or lon is None or problem is not None or abs(lat) > 90.0 or abs(lon) > 180.0:
        return lat, lon, problem, notes
    datum = _text(gps.get(_MAP_DATUM))
    code = datum_code(datum)
    converted = to_wgs84(lat, lon, code) if code is not None else None
    if converted is None:
        detail = f"the datum {_shown(datum)} is not known; its positions are used as WGS84, and may be 1 km off."
        return lat, lon, None, (*notes, ExifNote("position", "datum-unknown", detail))
    if code != WGS84 and converted != (lat, lon):
        moved_m = _apart_m(lat, lon, *converted)
        detail = f"the position in the datum {_shown(datum)} was converted to WGS84, which moves it by {moved_m:.0f} m."
        notes = (*notes, ExifNote("position", "datum-converted", detail))
    return *converted, None, notes


def _angle(
    value: Any, reference: Any, name: str, letters: str
) -> tuple[float | None, str | None, tuple[ExifNote, ...]]:
    """Convert degrees, minutes and seconds with N, S, E or W to signed degrees, or give a reason."""
    if value is None:
        return None, None, ()
    parts = list(value) if isinstance(value, (tuple, list)) else [value]
    shown = _shown(value)
    notes: tuple[ExifNote, ...] = ()
    stated = len(parts)
    while stated > 1 and _is_undefined(parts[stated - 1]):
        stated -= 1  # older phones write 0/0 for seconds
    numbers = [_number(part) for part in parts[:stated]]
    known = [abs(number) for number in numbers if number is not None]
    if not parts or len(known) < len(numbers):
        return math.nan, f"the {name} is not a number ({shown})", ()
    if stated < len(parts) and known[-1].is_integer():
        if stated == 1:
            return None, f"the {name} states whole degrees alone, without minutes ({shown})", ()
        notes = (ExifNote("position", "position-coarse", f"the {name} states no seconds ({shown}); they count as 0."),)
    problem = parts_problem(known)
    if problem is not None:
        return None, f"the {name} {problem} ({shown})", ()
    letter = _text(reference)[:1].upper()
    negative = any(number is not None and number < 0.0 for number in numbers)
    if negative and letter and letter == letters[0]:
        return None, f"the {name} is negative and says {letter}, which contradict each other ({shown})", ()
    if letter not in letters or not (letter or negative):
        # Without the letter the hemisphere is ambiguous: a wrong sign moves a photograph by thousands of kilometres.
        return None, f"the {name} does not say {letters[0]} or {letters[1]}", ()
    degrees = degrees_of_parts(known)
    return (-degrees if negative or letter == letters[1] else degrees), None, notes


def _heading(gps: Mapping[int, Any], where: str) -> tuple[float | None, tuple[ExifNote, ...]]:
    heading = _number(gps.get(_DIRECTION))
    if heading is None or not -360.0 <= heading <= 360.0:
        return None, ()
    if _text(gps.get(_DIRECTION_REF))[:1].upper() == "M":
        detail = (
            f"the {where} heading {heading:g} is from magnetic north (GPSImgDirectionRef M) and was left out; give "
            "true headings in a table."
        )
        return None, (ExifNote("heading", "heading-magnetic", detail),)
    return heading % 360.0, ()


def _is_undefined(value: Any) -> bool:
    """Return whether a rational is 0/0."""
    return (getattr(value, "numerator", None), getattr(value, "denominator", None)) == (0, 0)


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
    text = " ".join(str(part) for part in value[:4]) if isinstance(value, (tuple, list)) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _time(tags: Mapping[int, Any], gps: Mapping[int, Any], where: str) -> tuple[str | None, tuple[ExifNote, ...]]:
    clocks: list[datetime | None] = []
    for tag, offset_tag, fraction_tag in _TIMES:
        text, fraction = _text(tags.get(tag)), _text(tags.get(fraction_tag))
        if fraction.isdigit() and "." not in text:
            text = f"{text}.{fraction[:9]}"
        # Some cameras write a blank offset, with which the time cannot be parsed.
        moments = [_moment(text + _text(tags.get(offset_tag))), _moment(text)]
        zoned = next((moment for moment in moments if moment is not None and moment.tzinfo is not None), None)
        if zoned is not None:
            return _iso(zoned), ()
        clocks.append(moments[0] or moments[1])
    clock = next((moment for moment in clocks if moment is not None), None)
    satellite = _gps_time(gps)
    if satellite is None:
        return (None if clock is None else _iso(clock)), ()
    # A file may be modified years later: only the time of capture can contradict the GPS time.
    capture = clocks[0] or clocks[1]
    away = abs(satellite.replace(tzinfo=None) - capture) if capture is not None else timedelta(0)
    if away > timedelta(days=1) or satellite.year < _FIRST_GPS_YEAR:
        seen = "it is before cameras had GPS" if capture is None else f"the camera's clock says {capture:%Y-%m-%d}"
        detail = f"the {where} GPS date {satellite:%Y-%m-%d} is wrong ({seen}) and was not used."
        return (None if clock is None else _iso(clock)), (ExifNote("time", "gps-date-wrong", detail),)
    return _iso(satellite), ()


def _gps_time(gps: Mapping[int, Any]) -> datetime | None:
    stated = gps.get(_GPS_TIME)
    parts = [_number(part) for part in stated] if isinstance(stated, (tuple, list)) else []
    day = _text(gps.get(_GPS_DATE))
    if len(parts) != 3 or any(part is None for part in parts) or not day:
        return None
    hour, minute, second = (float(part or 0.0) for part in parts)
    return _moment(f"{day} {int(hour):02d}:{int(minute):02d}:{int(second):02d}.{int(second % 1 * 1000):03d}Z")


def _moment(text: str) -> datetime | None:
    try:
        return parse_timestamp(text)
    except TimestampError:
        return None


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
