"""Parsers of numbers and capture times in common notations; ambiguous dates are rejected."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any

import numpy as np
from dateutil import parser as dateutil_parser
from dateutil import tz

from swclip.ingest.rejections import shown

_EMPTY_NUMBERS = frozenset({"", "null", "none", "na", "n/a", "-"})
_EMPTY_TIMES = frozenset({"", "nan", "nat", "none", "null", "na", "n/a", "-"})
_NO_DATE = re.compile(r"0000[:\-]00[:\-]00 00:00:00$")  # a camera whose clock was never set

_COUNT = re.compile(r"[+\-]?\d+(?:\.\d*)?(?:e\+?\d+)?$", re.I)
_ZONE = r"\s*(?P<zone>z|(?:utc|gmt)?(?:[+\-\u2212]\d{1,2}(?::?\d{2})?)?)"
_CLOCK = (
    r"(?P<hour>\d{1,2})[:.\-h](?P<minute>\d{2})(?:[:.\-m](?P<second>\d{2})s?(?:[.,:](?P<fraction>\d{1,9}))?)?"
    r"(?:\s*(?P<half>[ap])\.?m\.?)?"
)
_COMPACT_CLOCK = r"(?P<hour>\d{2})(?P<minute>\d{2})(?P<second>\d{2})?(?:[.,_:]?(?P<fraction>\d{1,9}))?"
_YEAR_FIRST = (
    re.compile(
        rf"(?P<year>\d{{4}})(?P<mark>[-/:._])(?P<month>\d{{1,2}})(?P=mark)(?P<day>\d{{1,2}})"
        rf"(?:(?:\s+|t|_|,\s*|\s*-\s*|:){_CLOCK}{_ZONE})?$",
        re.I,
    ),
    re.compile(rf"(?P<year>\d{{4}})(?P<month>\d{{2}})(?P<day>\d{{2}})(?:[t_\-\s]?{_COMPACT_CLOCK}{_ZONE})?$", re.I),
    re.compile(rf"(?P<year>\d{{4}})(?P<month>\d{{2}})(?P<day>\d{{2}})(?:\s+|t|_){_CLOCK}{_ZONE}$", re.I),
)

# The unit of an epoch count follows from its size: from 1990 to 2100 the four units do not overlap with each other or
# with dates of 14 and 17 digits.
_EPOCH_FIRST_S, _EPOCH_LAST_S = 631_152_000.0, 4_102_444_800.0
_EPOCH_UNITS = (1.0, 1e3, 1e6, 1e9)
_MONTH = re.compile(
    r"(?P<year>\d{4})[-/](?P<month>\d{1,2})$|(?P<month_first>\d{1,2})[-/](?P<year_last>\d{4})$"
    r"|(?P<name>[a-z]{3,9})\.?[\s\-]+(?P<year_of_name>\d{4})$",
    re.I,
)
_MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_FIRST_YEAR, _LAST_YEAR = 1826, 2200  # the first photograph; later years are errors of a clock
# dateutil fills a missing year, month or day from its default: two defaults reveal whether one is missing.
_DEFAULTS = (datetime(2001, 1, 1), datetime(2002, 2, 2))
_ORDERS = ((False, False), (True, False), (False, True))


class TimestampError(ValueError):
    """A time cannot be parsed, or matches more than one day."""


class AmbiguousTimestampError(TimestampError):
    """A time matches more than one order of day, month and year."""


def parse_timestamp(value: Any) -> datetime | None:
    """Parse a time of capture.

    This function parses notations with the year first (ISO 8601; EXIF "2019:12:29 13:35:13"; milliseconds after a
    colon; compact "20191229_133513") and counts of seconds to nanoseconds since 1970. dateutil parses the others
    ("29 Dec 2019 1:35 pm", "29/12/2019") in every order of day, month and year; a value is rejected if two orders give
    different days.

    Args:
        value: A cell of a table, an EXIF value, or a datetime of Python, NumPy or pandas.

    Returns:
        Time to the millisecond: in UTC if the value states its offset (counts since 1970 do), else without a zone.
        None if the value is empty.

    Raises:
        AmbiguousTimestampError: Day and month are ambiguous, or the year has two digits.
        TimestampError: The value is not a time in a supported notation, or there is no such day or hour.

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
        if isinstance(value, int) and abs(value) > 10**20:
            raise TimestampError(f"{shown(value)} is not a time in a supported notation.")
        # An integer stored as a float is parsed by its digits: 20191229133513.0 is a date, not a count.
        return _from_text(str(int(value)) if float(value).is_integer() else repr(float(value)), shown(value))
    text = str(value).strip().strip("'\"").strip()
    if text.lower() in _EMPTY_TIMES or _NO_DATE.match(text):
        return None
    return _from_text(text, shown(value))


def parse_month(value: Any) -> str | None:
    """Parse a date without a day, the usual form of street-view services.

    Args:
        value: A cell of a table.

    Returns:
        Year and month as in ISO 8601, such as "2014-11"; None for anything else, which `parse_timestamp` reads.

    Example:
        >>> [parse_month(text) for text in ("2014-11", "11/2014", "Nov 2014", "2014-11-05", "2014-13", "2014")]
        ['2014-11', '2014-11', '2014-11', None, None, None]
    """
    match = _MONTH.match(value.strip()) if isinstance(value, str) else None
    if match is None:
        return None
    parts = match.groupdict()
    year = int(parts["year"] or parts["year_last"] or parts["year_of_name"])
    if parts["name"] is not None:
        months = [number for number, name in enumerate(_MONTHS, start=1) if name.startswith(parts["name"].lower())]
        month = months[0] if len(months) == 1 else 0
    else:
        month = int(parts["month"] or parts["month_first"])
    return f"{year}-{month:02}" if _FIRST_YEAR <= year <= _LAST_YEAR and 1 <= month <= 12 else None


def parse_number(value: Any) -> float | None:
    """Parse a number, with a decimal point or comma.

    Returns:
        The number; None if the cell is empty, NaN if it says "nan".

    Raises:
        ValueError: The value is not a number.

    Example:
        >>> parse_number(" 30,5 "), parse_number(""), parse_number("4.5 ")
        (30.5, None, 4.5)
    """
    if value is None:
        return None
    if isinstance(value, (bool, np.bool_)):
        raise ValueError(repr(value))
    if isinstance(value, (int, float, np.integer, np.floating)):
        try:
            return float(value)
        except OverflowError as error:
            raise ValueError("the number is too large") from error
    text = str(value).strip().rstrip("\u00b0").strip()
    if text.lower() in _EMPTY_NUMBERS:
        return None
    if text.count(",") == 1 and "." not in text:
        text = text.replace(",", ".")
    if "_" in text:  # Python accepts 1_000 as a number, tables do not use it
        raise ValueError(repr(text))
    return float(text)


def number_or_nan(value: Any) -> float:
    """Parse a number; return NaN for empty cells and values that are not numbers."""
    try:
        number = parse_number(value)
    except ValueError:
        return math.nan
    return math.nan if number is None else number


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
    if _COUNT.match(text) and not _is_compact_date(text):
        return _from_epoch(float(text), shown)
    for form in _YEAR_FIRST:
        if match := form.match(text):
            return _from_parts(match.groupdict(), shown)
    return _from_any_order(text, shown)


def _is_compact_date(text: str) -> bool:
    digits = text.split(".")[0]
    # 8 digits are a date; 12, 14 and 17 digits a date and time. Other lengths (10, 13, 16, 19) are counts since 1970.
    if not digits.isdecimal() or len(digits) not in (8, 12, 14, 17):
        return False
    return 1900 <= int(digits[:4]) <= 2100 and 1 <= int(digits[4:6]) <= 12 and 1 <= int(digits[6:8]) <= 31


def _from_epoch(count: float, shown: str) -> datetime:
    for unit in _EPOCH_UNITS:
        seconds = count / unit
        if _EPOCH_FIRST_S <= seconds <= _EPOCH_LAST_S:
            return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=round(seconds * 1000.0))
    raise TimestampError(f"{shown} is not a count since 1970 (seconds to nanoseconds) that falls in 1990 to 2100.")


def _from_parts(parts: dict[str, str | None], shown: str) -> datetime:
    hour, minute, second = (int(parts[name] or 0) for name in ("hour", "minute", "second"))
    if half := parts.get("half"):
        if not 1 <= hour <= 12:
            raise TimestampError(f"{shown}: there is no hour {hour} on a 12-hour clock.")
        hour = hour % 12 + (12 if half.lower() == "p" else 0)
    milliseconds = int((parts["fraction"] or "0").ljust(3, "0")[:3])
    year, month, day = (int(parts[name] or 0) for name in ("year", "month", "day"))
    try:
        moment = datetime(year, month, day, hour, minute, second, milliseconds * 1000, _zone(parts["zone"]))
    except ValueError as error:
        raise TimestampError(f"{shown}: there is no such time ({error}).") from None
    return _checked(moment, shown)


def _from_any_order(text: str, shown: str) -> datetime:
    """Parse with dateutil in every order of day, month and year, and require that all orders agree.

    Raises:
        AmbiguousTimestampError: The orders give different days.
        TimestampError: No order can be parsed, or a part of the date is missing.
    """
    moments: list[set[datetime]] = []
    for default in _DEFAULTS:
        try:
            orders = [
                dateutil_parser.parse(text, default=default, dayfirst=day, yearfirst=year, tzinfos=_named_zone)
                for day, year in _ORDERS
            ]
        # dateutil raises many kinds of errors on unexpected tokens.
        except (ValueError, ArithmeticError, TypeError, LookupError, AttributeError):
            raise TimestampError(
                f"{shown} is not a time in a supported notation; write it as YYYY-MM-DD HH:MM:SS."
            ) from None
        moments.append(set(orders))
    if moments[0] != moments[1]:
        raise TimestampError(f"{shown} does not state year, month and day; write it as YYYY-MM-DD HH:MM:SS.")
    if len(moments[0]) > 1:
        raise AmbiguousTimestampError(
            f"{shown} could be day/month or month/day, or its year has two digits; write it as year-month-day, "
            "YYYY-MM-DD."
        )
    (moment,) = moments[0]
    return _checked(moment.replace(microsecond=moment.microsecond // 1000 * 1000), shown)


def _checked(moment: datetime, shown: str) -> datetime:
    if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        raise TimestampError(f"{shown}: no photograph was taken in the year {moment.year}.")
    try:
        return moment if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise TimestampError(f"{shown}: there is no such time ({error}).") from None


def _named_zone(name: str | None, offset_s: int | None) -> tzinfo | None:
    if name is None and offset_s is None:
        return None
    # Abbreviations such as CST mean several zones.
    if offset_s is None and (name or "").upper() not in ("UTC", "GMT", "Z"):
        raise ValueError(name)
    return tz.tzoffset(None, offset_s or 0)


def _zone(text: str | None) -> tzinfo | None:
    if not text:
        return None
    figures = re.sub(r"^(?:utc|gmt)|:", "", text.lower().replace("\u2212", "-"))
    if figures in ("", "z"):
        return UTC
    offset_s = 3600 * int(figures[1:3]) + 60 * int(figures[3:5] or 0)
    return tz.tzoffset(None, -offset_s if figures[0] == "-" else offset_s)
