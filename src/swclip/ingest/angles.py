"""Latitudes and longitudes as people and programs write them: signs, letters, degrees with minutes and seconds."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from swclip.ingest.values import parse_number

Axis = Literal["lat", "lon"]
LETTERS = {"lat": "NS", "lon": "EW"}
NAMES = {"lat": "latitude", "lon": "longitude"}

# The largest fraction of a degree and of a minute that counts as rounding of the rational: 1 cm.
_ROUNDING = (1e-7, 1e-5)

_WORDS = {
    "N": "n north nord norte noord nordlich \u5317 \u5317\u7eac \u5317\u7def",
    "S": "s south sud sued sur sul zuid \u5357 \u5357\u7eac \u5357\u7def",
    "E": "e east est ost este leste oost \u4e1c \u4e1c\u7ecf \u6771 \u6771\u7d4c",
    "W": "w west ouest oeste ovest \u897f \u897f\u7ecf \u897f\u7d4c",
    # East in German, west in French, Italian, Spanish and Portuguese.
    "O": "o",
}
_LETTER_OF = {word: letter for letter, words in _WORDS.items() for word in words.split()}
_AXIS_OF: dict[str, Axis] = {"N": "lat", "S": "lat", "E": "lon", "W": "lon", "O": "lon"}

_PLAIN = re.compile(r"[+-]?(?!0\d{3})\d{1,18}(?:[.,]\d*)?$", re.ASCII)
# ddmm.mmmm of NMEA, padded with zeros: 0048.0480 is 48 minutes.
_PADDED = re.compile(r"\D*0\d{3,}", re.ASCII)
_SIGNS = str.maketrans(
    {
        **dict.fromkeys("\u2212\u2013\u2010\u2011\ufe63\uff0d", "-"),
        **dict.fromkeys("\u2032\u2019\u2018\u00b4`\u02b9\u2035\uff07", "'"),
        **dict.fromkeys("\u2033\u201d\u201c\u02ba\uff02", '"'),
        **dict.fromkeys("\u00ba\u02da\u5ea6", "\u00b0"),
        **dict.fromkeys("\u00a0\u202f\u2009\t\n", " "),
        "\u00fc": "u",
        "\u00f6": "o",
        "\uff0b": "+",
        "\u5206": "'",
        "\u79d2": '"',
    }
)
_WORD = "|".join(sorted(_LETTER_OF, key=len, reverse=True))
_NUMBER = r"\d+(?:[.,]\d+)?"
_ANGLE = re.compile(
    rf"(?P<before>{_WORD})?[.:]?\s*(?P<sign>[+-])?\s*(?P<degrees>{_NUMBER}|[.,]\d+)"
    r"\s*(?:\u00b0|degrees?|deg\.?|d|(?=[\s:-]))?"
    rf"(?:[\s:-]*(?<![\d.,])(?P<minutes>{_NUMBER})\s*(?:'(?!')|minutes?|min\.?|m|(?=[\s:-]))?"
    rf"(?:[\s:-]*(?<![\d.,])(?P<seconds>{_NUMBER})\s*(?:\"|''|seconds?|sec\.?|s(?=\s*(?:{_WORD})$))?)?)?"
    rf"\s*(?P<after>{_WORD})?\.?$",
    re.IGNORECASE,
)


def is_plain(cell: Any) -> bool:
    """Return whether a cell is a number, decimal text, or empty, which `plain_degrees` reads as `parse_angle` does."""
    if isinstance(cell, str):
        return not cell or _PLAIN.match(cell) is not None
    return cell is None or (isinstance(cell, (float, int)) and not isinstance(cell, bool))


def plain_degrees(cell: Any) -> float:
    """Return the number of a plain cell that is not empty."""
    return float(cell.replace(",", ".") if isinstance(cell, str) else cell)


class AngleError(ValueError):
    """A value is not a latitude or longitude in a supported notation; the text is a clause for a message."""


@dataclass(frozen=True, slots=True)
class Angle:
    """One coordinate as written.

    Attributes:
        degrees: Degrees with the sign as written; NaN where the value says "nan".
        letter: N, S, E, W, or empty.
        plus: Whether a plus sign is written.
        sexagesimal: Whether minutes are written.
    """

    degrees: float
    letter: str = ""
    plus: bool = False
    sexagesimal: bool = False


def parse_angle(value: Any) -> Angle | None:
    """Parse one coordinate: decimal degrees, or degrees with minutes and seconds, with or without a letter.

    Args:
        value: A cell: a number or text.

    Returns:
        The coordinate; None if the cell is empty. The letter is not applied to the sign.

    Raises:
        AngleError: It is not in a supported notation, or a part is out of range.

    Example:
        >>> parse_angle("53.8008N")
        Angle(degrees=53.8008, letter='N', plus=False, sexagesimal=False)
        >>> parse_angle("\\u22121,5491").degrees
        -1.5491
        >>> round(parse_angle("53 deg 48' 2.88\\" N").degrees, 6), round(parse_angle("N 53 48.048").degrees, 6)
        (53.8008, 53.8008)
    """
    if type(value) is float:
        return Angle(value)
    if type(value) is str and _PLAIN.match(value):
        return Angle(float(value.replace(",", ".")), plus=value[0] == "+")
    text = str(value).translate(_SIGNS).strip().strip("\"'").strip() if isinstance(value, str) else value
    if isinstance(text, str) and _PADDED.match(text):
        raise AngleError(f"{value!r} looks like degrees and minutes without a space (NMEA); write a space between")
    try:
        number = parse_number(text)
    except ValueError:
        return _parse_text(str(text), value)
    return None if number is None else Angle(number, plus=isinstance(text, str) and text.startswith("+"))


def _parse_text(text: str, value: Any) -> Angle:
    # The closing mark of seconds was stripped with quotation marks around the cell; it is optional.
    match = _ANGLE.match(text)
    if match is None:
        raise AngleError(f"{value!r} is not a number of degrees")
    before, after = (_LETTER_OF.get((match[name] or "").lower(), "") for name in ("before", "after"))
    if before and after and before != after:
        raise AngleError(f"{value!r} has two letters")
    if after == "S" and len(match["after"]) == 1 and re.search(r"\d\s*m[^a-z]*\d\S*s$", text):
        raise AngleError(f"{value!r} ends in s, for seconds or for south; write the letter N or S after it")
    if "O" in (before, after):
        raise AngleError(f"{value!r}: O is east in German and west in French, Italian and Spanish; write E or W")
    parts = [float(match[name].replace(",", ".")) for name in ("degrees", "minutes", "seconds") if match[name]]
    degrees = degrees_of_parts(parts)
    return Angle(-degrees if match["sign"] == "-" else degrees, before or after, match["sign"] == "+", len(parts) > 1)


def degrees_of_parts(parts: Sequence[float]) -> float:
    """Return |degrees| + |minutes| / 60 + |seconds| / 3600.

    Args:
        parts: Degrees, and minutes and seconds where stated; their signs are ignored.

    Raises:
        AngleError: See `parts_problem`.

    Example:
        >>> degrees_of_parts([33.0, 51.0, 30.0])
        33.858333333333334
    """
    sizes = [abs(float(part)) for part in parts]
    problem = parts_problem(sizes)
    if problem is not None:
        raise AngleError(f"it {problem}")
    return math.fsum(size / 60.0**power for power, size in enumerate(sizes))


def parts_problem(parts: Sequence[float]) -> str | None:
    """Return why degrees, minutes and seconds cannot be one angle, or None."""
    if len(parts) > 3:
        return f"has {len(parts)} parts, and an angle has degrees, minutes and seconds"
    for part, unit in zip(parts[1:], ("minutes", "seconds"), strict=False):
        if part > 60.0:  # roundings write exactly 60
            return f"has {part:g} {unit}, and an angle has at most 60"
    for part, rounding, unit, smaller in zip(parts, _ROUNDING, ("degrees", "minutes"), parts[1:], strict=False):
        if abs(part - round(part)) > rounding and smaller > 0.0:
            return f"has a fraction of its {unit} and a smaller unit beside it, so that it can be read in two ways"
    if len(parts) == 3 and abs(parts[0] - round(parts[0])) > _ROUNDING[0] and parts[2] > 0.0:
        return "has a fraction of its degrees and seconds beside it, so that it can be read in two ways"
    return None


def letter_of(value: Any) -> str:
    """Return N, S, E or W of a cell of a column of letters ("N", "West"); empty for an empty cell, ? for another value.

    Example:
        >>> letter_of("w"), letter_of("South"), letter_of(None), letter_of("O")
        ('W', 'S', '', '?')
    """
    if value is None or (isinstance(value, (float, np.floating)) and math.isnan(value)):
        return ""
    text = str(value).translate(_SIGNS).strip().strip(".").lower()
    if text in ("", "null", "none", "nan", "-"):
        return ""
    letter = _LETTER_OF.get(text, "?")
    return letter if letter != "O" else "?"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two coordinates in one cell.

    Attributes:
        first: The first one as written.
        second: The second one as written.
        order: The axis of the first, where the cell itself says so; else None.
    """

    first: Angle
    second: Angle
    order: Axis | None = None

    def latitude_first(self) -> Pair:
        """The pair with the longitude second, where its order is known."""
        return Pair(self.second, self.first, "lat") if self.order == "lon" else self


def parse_pair(value: Any) -> Pair | None:
    """Parse two coordinates in one cell: text, a list, or an object with lat and lon.

    A third number, the altitude, is ignored.

    Args:
        value: A cell.

    Returns:
        The two; None if the cell is empty.

    Raises:
        AngleError: The cell is not two coordinates.

    Example:
        >>> pair = parse_pair("53,8008; -1,5491")
        >>> pair.first.degrees, pair.second.degrees, pair.order
        (53.8008, -1.5491, None)
        >>> parse_pair("1.5491W 53.8008N").order
        'lon'
    """
    if value is None or (isinstance(value, (float, np.floating)) and math.isnan(value)):
        return None
    if isinstance(value, str):
        text = value.translate(_SIGNS).strip()
        if text.lower() in ("", "null", "none", "nan", "-"):
            return None
        if text[:1] in "{[":
            try:
                value = json.loads(text)
            except ValueError:
                value = text
        if isinstance(value, str):
            return _pair_of(_halves(text), value)
    if isinstance(value, Mapping):
        keys = {str(key).strip().lower(): key for key in value}
        lat, lon = (
            next((keys[name] for name in names if name in keys), None)
            for names in (("lat", "latitude", "lat_deg"), ("lon", "lng", "longitude", "long", "lon_deg"))
        )
        if lat is None or lon is None:
            raise AngleError(f"{value!r} has no lat and lon")
        pair = _pair_of((value[lat], value[lon]), value)
        return None if pair is None else Pair(pair.first, pair.second, "lat")
    if isinstance(value, (list, tuple, np.ndarray)) and len(value) in (2, 3):
        return _pair_of((value[0], value[1]), value)
    raise AngleError(f"{str(value)[:60]!r} is not two coordinates")


def _pair_of(halves: tuple[Any, Any] | None, value: Any) -> Pair | None:
    if halves is None:
        raise AngleError(f"{str(value)[:60]!r} is not two coordinates")
    first, second = (parse_angle(half) for half in halves)
    if first is None and second is None:
        return None
    if first is None or second is None:
        raise AngleError(f"{str(value)[:60]!r} has one coordinate and lacks the other")
    axes = {_AXIS_OF[first.letter]} if first.letter else set[Axis]()
    if second.letter:
        axes.add("lon" if _AXIS_OF[second.letter] == "lat" else "lat")
    if len(axes) > 1:
        raise AngleError(f"{str(value)[:60]!r} has two coordinates of one axis")
    return Pair(first, second, next(iter(axes), None))


_FIGURE = r"[+-]?\s?\d+(?:\.\d+)?"
_SEPARATED = (
    re.compile(r"([^;|]+)[;|]([^;|]+)(?:[;|][^;|]*)?$"),
    # A decimal comma, and a comma or a space between.
    re.compile(r"([+-]?\d+,\d+),?\s+([+-]?\d+,\d+)(?:,?\s+[+-]?\d+(?:,\d+)?)?$"),
    # "53,8008" alone may be one number with a decimal comma, so that whole numbers need a space after the comma.
    re.compile(rf"({_FIGURE})(?:\s*,\s+|\s+)({_FIGURE})(?:(?:\s*,\s*|\s+){_FIGURE})?$"),
    re.compile(r"([+-]?\d+\.\d+),([+-]?\d+(?:\.\d+)?)(?:,[+-]?\d+(?:\.\d+)?)?$"),
    re.compile(r"([+-]?\d+),([+-]?\d+\.\d+)(?:,[+-]?\d+(?:\.\d+)?)?$"),
    re.compile(rf"(.*?(?<![a-z])(?:{_WORD})(?![a-z])\.?)\s*[,/]?\s*(.*?(?<![a-z])(?:{_WORD})\.?)$", re.IGNORECASE),
    re.compile(rf"((?:{_WORD})(?![a-z]).*?)\s*[,/]?\s*((?:{_WORD})(?![a-z]).*)$", re.IGNORECASE),
    re.compile(r"([^,/]*)[,/]([^,/]*)$"),
)


def _halves(text: str) -> tuple[str, str] | None:
    bare = text.strip("()[]{} ")
    for form in _SEPARATED:
        match = form.match(bare)
        if match is not None and not re.fullmatch(r"\d+,\d+", bare):
            return match[1].strip(), match[2].strip()
    return None
