"""Times of capture in the forms people have them; what could mean two days is refused, never guessed."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import numpy as np

_TIME = (
    r"(?P<hour>\d{1,2})[:.\-h](?P<minute>\d{2})(?:[:.\-m](?P<second>\d{2})s?(?:[.,:](?P<fraction>\d{1,9}))?)?"
    r"(?:\s*(?P<half>[ap])\.?m\.?)?"
)
_COMPACT_TIME = r"(?P<hour>\d{2})(?P<minute>\d{2})(?P<second>\d{2})?(?:[.,_:]?(?P<fraction>\d{1,9}))?"
_ZONE = r"\s*(?P<zone>z|utc|gmt|(?:utc|gmt)?[+\-\u2212]\d{1,2}(?::?\d{2})?)?"
_REST = rf"(?:(?:\s+|t|_|,\s*|\s*-\s*|:){_TIME}{_ZONE})?$"
_WEEKDAY = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,?\s+)?"
_MONTH = r"(?P<name>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"

_YEAR_FIRST = re.compile(
    rf"(?P<year>\d{{4}})(?P<mark>[-/:._])(?P<month>\d{{1,2}})(?P=mark)(?P<day>\d{{1,2}}){_REST}", re.I
)
_COMPACT = re.compile(
    rf"(?P<year>\d{{4}})(?P<month>\d{{2}})(?P<day>\d{{2}})(?:[t_\-\s]?(?:{_COMPACT_TIME}){_ZONE})?$", re.I
)
_COMPACT_DAY = re.compile(rf"(?P<year>\d{{4}})(?P<month>\d{{2}})(?P<day>\d{{2}})(?:\s+|t|_){_TIME}{_ZONE}$", re.I)
_YEAR_LAST = re.compile(rf"(?P<one>\d{{1,2}})(?P<mark>[-/.])(?P<two>\d{{1,2}})(?P=mark)(?P<year>\d{{4}}){_REST}", re.I)
_SHORT_YEAR = re.compile(r"\d{1,2}([-/.])\d{1,2}\1\d{2}(?!\d)")
_DAY_NAMED = re.compile(rf"{_WEEKDAY}(?P<day>\d{{1,2}})[\s\-]+{_MONTH}[\s\-,]+(?P<year>\d{{4}}){_REST}", re.I)
_NAMED_DAY = re.compile(rf"{_WEEKDAY}{_MONTH}\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<year>\d{{4}}){_REST}", re.I)
_C_STYLE = re.compile(rf"{_WEEKDAY}{_MONTH}\s+(?P<day>\d{{1,2}})\s+{_TIME}{_ZONE}\s+(?P<year>\d{{4}})$", re.I)
_NUMBER = re.compile(r"[+\-]?\d+(?:\.\d*)?(?:e\+?\d+)?$", re.I)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MISSING = frozenset({"", "nan", "nat", "none", "null", "na", "n/a", "-", "0000:00:00 00:00:00", "0000-00-00 00:00:00"})

# Epoch counts are told apart by size: from 1990 to 2100 the four units do not overlap, nor do 14 and 17 digit dates.
_EPOCH_FIRST_S, _EPOCH_LAST_S = 631_152_000.0, 4_102_444_800.0
_EPOCH_UNITS = (1.0, 1e3, 1e6, 1e9)
_FIRST_YEAR, _LAST_YEAR = 1826, 2200  # the first photograph; beyond the last a clock is wrong


class TimestampError(ValueError):
    """A time that cannot be read, or that could mean two different days."""


class AmbiguousTimestampError(TimestampError):
    """Day and month cannot be told apart."""


def parse_timestamp(value: Any) -> datetime | None:
    """Read one time of capture.

    Read are ISO 8601; EXIF ("2019:12:29 13:35:13"); milliseconds after a colon ("2019-12-29 13:35:13:170"); compact
    ("20191229_133513"); month names ("29 Dec 2019 1:35 pm"); day and month in figures where only one order is
    possible ("29/12/2019"); counts of seconds, milliseconds, microseconds or nanoseconds since 1970; and datetime
    objects of Python, NumPy and pandas.

    Args:
        value: What the table or the picture holds.

    Returns:
        With zone UTC where the value says its offset (counts since 1970 do), without a zone where it does not; to the
        millisecond. None where the value is empty.

    Raises:
        AmbiguousTimestampError: Day and month could be either way round, or the year has two digits.
        TimestampError: It is not a time in a known form, or there is no such day or hour.

    Example:
        >>> parse_timestamp("2019-12-29 13:35:13:170").isoformat()
        '2019-12-29T13:35:13.170000'
        >>> parse_timestamp("2019-12-29T13:35:13+08:00").isoformat()
        '2019-12-29T05:35:13+00:00'
    """
    if value is None:
        return None
    if isinstance(value, np.datetime64):
        value = None if np.isnat(value) else value.astype("datetime64[ms]").item()
    if isinstance(value, date) or value is None:
        return _from_datetime(value)
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        if isinstance(value, (float, np.floating)) and not math.isfinite(value):
            return None
        # A whole number written as a float keeps its digits: 20191229133513.0 is a date, not a count.
        return _from_text(str(int(value)) if float(value).is_integer() else repr(float(value)), repr(value))
    text = str(value).strip().strip("'\"").strip()
    return None if text.lower() in _MISSING else _from_text(text, repr(value))


def _from_datetime(value: date | None) -> datetime | None:
    if value is None or value != value:  # pandas' NaT is a datetime that differs from itself
        return None
    if not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day)
    whole = datetime(
        value.year, value.month, value.day, value.hour, value.minute, value.second,
        value.microsecond // 1000 * 1000, value.tzinfo,
    )  # fmt: skip
    return whole if whole.tzinfo is None else whole.astimezone(UTC)


def _from_text(text: str, shown: str) -> datetime:
    compact = _COMPACT.match(text)
    if _NUMBER.match(text) and not (compact and _plausible(compact)):
        return _from_epoch(float(text), shown)
    if compact:
        return _build(compact, int(compact["month"]), int(compact["day"]), shown)
    for pattern in (_YEAR_FIRST, _COMPACT_DAY):
        if match := pattern.match(text):
            return _build(match, int(match["month"]), int(match["day"]), shown)
    for pattern in (_DAY_NAMED, _NAMED_DAY, _C_STYLE):
        if match := pattern.match(text):
            return _build(match, 1 + _MONTHS.index(match["name"].lower()), int(match["day"]), shown)
    if match := _YEAR_LAST.match(text):
        one, two = int(match["one"]), int(match["two"])
        if one <= 12 and two <= 12 and one != two:
            raise AmbiguousTimestampError(
                f"{shown} could be day/month or month/day; write it as year-month-day, {match['year']}-MM-DD."
            )
        day, month = (one, two) if one > 12 else (two, one)
        return _build(match, month, day, shown)
    if _SHORT_YEAR.match(text):
        raise AmbiguousTimestampError(f"{shown} has a year of two digits; write it as year-month-day, YYYY-MM-DD.")
    raise TimestampError(f"{shown} is not a time in a form that is known; write it as YYYY-MM-DD HH:MM:SS.")


def _plausible(match: re.Match[str]) -> bool:
    year, month, day = int(match["year"]), int(match["month"]), int(match["day"])
    in_range = 1900 <= year <= 2100 and 1 <= month <= 12 and 1 <= day <= 31
    # 8 digits are a day; 12, 14 and 17 a day and time. Other lengths (10, 13, 16, 19) are counts since 1970.
    return in_range and sum(c.isdigit() for c in match.string.split(".")[0]) in (8, 12, 14, 17)


def _from_epoch(count: float, shown: str) -> datetime:
    for unit in _EPOCH_UNITS:
        seconds = count / unit
        if _EPOCH_FIRST_S <= seconds <= _EPOCH_LAST_S:
            return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=round(seconds * 1000.0))
    raise TimestampError(f"{shown} is not a count since 1970 (seconds to nanoseconds) that falls in 1990 to 2100.")


def _build(match: re.Match[str], month: int, day: int, shown: str) -> datetime:
    parts = match.groupdict()
    hour, minute, second = (int(parts.get(name) or 0) for name in ("hour", "minute", "second"))
    if half := parts.get("half"):
        if not 1 <= hour <= 12:
            raise TimestampError(f"{shown}: there is no hour {hour} on a clock of twelve.")
        hour = hour % 12 + (12 if half.lower() == "p" else 0)
    milliseconds = int((parts.get("fraction") or "0").ljust(3, "0")[:3])
    year = int(parts["year"])
    if not _FIRST_YEAR <= year <= _LAST_YEAR:
        raise TimestampError(f"{shown}: no photograph was taken in the year {year}.")
    try:
        local = datetime(year, month, day, hour, minute, second, milliseconds * 1000)
        zone = parts.get("zone")
        return local if not zone else local.replace(tzinfo=_zone(zone)).astimezone(UTC)
    except ValueError as error:
        raise TimestampError(f"{shown}: there is no such time ({error}).") from None


def _zone(text: str) -> timezone:
    figures = re.sub(r"^(?:utc|gmt)|:", "", text.lower().replace("\u2212", "-"))
    if figures in ("", "z"):
        return UTC
    hours, minutes = int(figures[1:3]), int(figures[3:5] or 0)
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if figures[0] == "-" else offset)
