"""Identification of the columns of a user's table: by common names, unless the values contradict the role."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd

from swclip.errors import InputError
from swclip.ingest.column_names import IMAGE_NAMES, LAT_NAMES, LAT_REF_NAMES, LON_NAMES, LON_REF_NAMES, plain_name
from swclip.ingest.file_names import empty_cell
from swclip.ingest.rejections import shown
from swclip.ingest.values import number_or_nan


@dataclass(frozen=True)
class ColumnNames:
    """Columns that the user names; a column that is None is found by its synonyms.

    `lat` and `lon` may be NAME[0] and NAME[1], the two numbers of a column of coordinate pairs. `lat_ref` and `lon_ref`
    have the letters N, S, E and W. `position` has geometries (WKT, WKB, GeoJSON) or pairs.
    """

    image: str | None = None
    lat: str | None = None
    lon: str | None = None
    lat_ref: str | None = None
    lon_ref: str | None = None
    position: str | None = None
    heading: str | None = None
    accuracy: str | None = None
    time: str | None = None
    city: str | None = None
    place: str | None = None
    sequence: str | None = None
    licence: str | None = None
    source: str | None = None
    image_id: str | None = None
    caption: str | None = None
    map: str | None = None
    author: str | None = None
    source_url: str | None = None


ROLES = tuple(field.name for field in fields(ColumnNames))
POSITION_ROLES = ("lat", "lon", "lat_ref", "lon_ref", "position")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _one_by_one(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple((name,) for name in text.split())


# Lower-case letters and digits only. A name in a later tuple counts only if no name of an earlier tuple is present.
# x and y are no names of positions: they are pixels or metres as often as degrees.
SYNONYMS: dict[str, tuple[tuple[str, ...], ...]] = {
    "image": IMAGE_NAMES,
    "lat": LAT_NAMES,
    "lon": LON_NAMES,
    "lat_ref": LAT_REF_NAMES,
    "lon_ref": LON_REF_NAMES,
    "position": (),  # by name and content; see `positions.read_positions`
    "heading": (
        _words(
            "heading headingdeg headingdegrees bearing bearingdeg compass compassangle compassdeg course coursedeg yaw "
            "yawdeg azimuth gpsimgdirection direction cameraangle viewdirection"
        ),
        (),
    ),
    "accuracy": (
        _words(
            "accuracy accuracym gpsaccuracy gpsaccuracym horizontalaccuracy horizontalaccuracym hacc haccuracy "
            "positionaccuracy positionaccuracym locationaccuracy gpshpositioningerror"
        ),
        (),
    ),
    "time": (
        _words(
            "time timestamp capturedat capturetime captured datetime datetimeoriginal datetaken timetaken takenat "
            "shotat recordedat acquisitiontime utctime timeutc timestampms timestamputc"
        ),
        _words("date capturedate day"),
    ),
    "city": (_words("city town cityname municipality locality"), ()),
    "place": (_words("placeid place panoid panoramaid locationid"), _words("pano")),
    "sequence": (
        _words("sequence sequenceid seq seqid sequencekey track trackid drive driveid trip tripid"),
        (),
    ),
    "licence": (_words("licence license"), ()),
    "source": (_words("source provider"), ()),
    "image_id": (_words("imageid imagekey photoid imgid"), _words("featureid")),
    # Archives have a title and a description of each photograph: the description is longer and more informative.
    "caption": (_words("caption imagecaption photocaption"), _words("description"), _words("text"), _words("title")),
    # Archives have several of these side by side: the first in this order counts, and none is refused.
    "author": _one_by_one(
        "author authorname attribution credit credits photographer artist creator creatorname creatorusername "
        "producer uploader ownername owner copyrightholder rightsholder copyright"
    ),
    "source_url": _one_by_one(
        "sourceurl sourcepage sourceaddress sourcelink pageurl photopage photopageurl permalink webpage itemurl "
        "recordurl detailurl"
    ),
    "map": (_words("map mappath mapfile mapimage maptile maptilepath"), ()),
}


def flag_of(role: str) -> str:
    """Return the flag of `swclip prepare` that names the column of a role."""
    return f"--{role.replace('_', '-')}-column"


def find_columns(columns: Sequence[str], named: ColumnNames, table: str) -> dict[str, str]:
    """Find the column of each role.

    Args:
        columns: Columns of the table.
        named: Columns that the user names; they take precedence over synonyms.
        table: Name of the table in messages.

    Returns:
        {role: column} for the roles that have a column; `ROLES` lists all roles.

    Raises:
        InputError: A named column does not exist, or two columns match one role.

    Example:
        >>> find_columns(["Photo", "GPS Latitude", "lng", "x", "y"], ColumnNames(), "table.csv")
        {'image': 'Photo', 'lat': 'GPS Latitude', 'lon': 'lng'}
    """
    return match_columns(columns, SYNONYMS, {role: getattr(named, role) for role in ROLES}, table, flag_of)


def match_columns(
    columns: Sequence[str],
    synonyms: Mapping[str, Sequence[Sequence[str]]],
    named: Mapping[str, str | None],
    table: str,
    flag: Callable[[str], str],
) -> dict[str, str]:
    """Find the column of each role, for any set of roles.

    Args:
        columns: Columns of the table.
        synonyms: {role: groups of names, normalised by `plain_name`}; a later group counts only if no name of an
            earlier group is present.
        named: {role: column} that the user names.
        table: Name of the table in messages.
        flag: Returns the flag that names the column of a role.

    Returns:
        {role: column} for the roles that have a column. NAME[0] and NAME[1], halves of a column, are kept as named.

    Raises:
        InputError: A named column does not exist, or two columns match one role.

    Example:
        >>> match_columns(["Rank", "k"], {"rank": (("rank",), ("k",))}, {}, "table.csv", flag_of)
        {'rank': 'Rank'}
    """
    matches: dict[str, str] = {}
    for role in synonyms:
        name = named.get(role)
        if name is not None:
            matches[role] = _existing_column(name, flag(role), columns, table)
    used = set(matches.values())
    plain = {column: plain_name(column) for column in columns if column not in used}
    for role, groups in synonyms.items():
        if role in matches:
            continue
        for names in groups:
            candidates = [column for column in columns if plain.get(column) in names]
            if len(candidates) > 1:
                raise InputError(
                    f"{table}: the columns {listed(candidates)} could each be the {_meaning(role)}; "
                    f"choose one, for example {flag(role)} {_quoted(candidates[0])}"
                )
            if candidates:
                matches[role] = candidates[0]
                break
    return matches


_PART_OF_PAIR = re.compile(r".+\[[01]\]$", re.DOTALL)


def _existing_column(name: str, flag: str, columns: Sequence[str], table: str) -> str:
    count = list(columns).count(name)
    if count == 1:
        return name
    if count == 0 and _PART_OF_PAIR.match(name) and list(columns).count(name[:-3]) == 1:
        return name
    if count > 1:
        raise InputError(f"{table}: {flag} {name}: {count} columns have that name; rename one of them.")
    close = difflib.get_close_matches(name, columns, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise InputError(f"{table}: {flag} {name}: there is no such column; {hint}the table has {listed(columns)}.")


def _meaning(role: str) -> str:
    names = {
        "lat": "latitude",
        "lon": "longitude",
        "lat_ref": "letter of the latitude",
        "lon_ref": "letter of the longitude",
        "map": "map tile",
        "source_url": "address of the photograph's page",
    }
    return names.get(role, role.replace("_", " "))


def listed(columns: Sequence[str]) -> str:
    """List column names for a message, at most twenty."""
    shown = [repr(column) for column in columns[:20]] + (["..."] if len(columns) > 20 else [])
    return ", ".join(shown[:-1]) + " and " + shown[-1] if len(shown) > 1 else "".join(shown)


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[\w.\-]+", name) else f'"{name}"'


_FLAGS = frozenset({"true", "false", "yes", "no", "t", "f", "y", "n"})
_ANY_VALUES = frozenset(
    {"image", "lat", "lon", "lat_ref", "lon_ref", "position", "accuracy", "time", "caption", "map", "source_url"}
)  # their parsers reject others
_RADIANS = re.compile(r"[(\[_\s]rad(ian)?s?\b", re.I)
_FEW = 4
"""Fewer values than this do not tell a running number from an id, or radians from degrees."""
_MANY = 20
"""From so many different values within a full turn in radians, headings of a compass are taken for radians."""


def drop_implausible_roles(
    columns: dict[str, str], frame: pd.DataFrame, named: ColumnNames
) -> list[tuple[str, int, str]]:
    """Remove the roles that were given to a column by its name alone, and that its values contradict.

    - Values that are all true or false are no place, sequence, city and so on: `pano` says whether a picture is a
      panorama.
    - Numbers with a fraction are no ids of places or sequences.
    - Numbers of a sequence that differ in most rows, and are angles or follow each other, are no ids of sequences:
      `track` may be a direction and `seq` a running number.
    - Headings of which none exceeds a full turn in radians, and some have a fraction, are taken for radians; also those
      whose column states radians as its unit, and those whose reference (GPSImgDirectionRef) is magnetic north.

    Args:
        columns: {role: column}; changed in place.
        frame: The values as written.
        named: Columns that the user names, which are not examined.

    Returns:
        A note for each column that is not used: code, number of values, text.
    """
    notes: list[tuple[str, int, str]] = []
    for role, column in list(columns.items()):
        if getattr(named, role) is not None or column not in frame:
            continue
        values = [value for value in frame[column].tolist() if not empty_cell(value)]
        problem = _problem(role, column, values)
        if problem is None and role == "heading":
            problem = _magnetic(column, frame)
        if problem is not None:
            del columns[role]
            flag = f"{flag_of(role)} {column}"
            way_out = (
                f"convert it to degrees from true north, or if it is that use {flag}"
                if role == "heading"
                else f"or use {flag}"
            )
            detail = (
                f"the column {column!r} {problem} (such as {shown(values[0])}), so it is not read as the "
                f"{role.replace('_', ' ')}; {way_out}."
            )
            notes.append((f"{role.replace('_', '-')}-not-used", len(values), detail))
    return notes


def _magnetic(column: str, frame: pd.DataFrame) -> str | None:
    """Say that the letter beside GPSImgDirection or another heading of EXIF states magnetic north, or None."""
    for name in frame.columns:
        if plain_name(str(name)) == f"{plain_name(column)}ref":
            letters = {str(value).strip().lower()[:1] for value in frame[name].tolist() if not empty_cell(value)}
            return f"is from magnetic north by the column {name!r}" if "m" in letters else None
    return None


def _problem(role: str, column: str, values: Sequence[Any]) -> str | None:
    """Say what values are instead of the role, or None."""
    distinct = {str(value).strip().lower() for value in values}
    if not distinct or role in _ANY_VALUES:
        return None
    number_for_flag = role == "place" and distinct == {"0", "1"} and not plain_name(column).endswith("id")
    if distinct <= _FLAGS or number_for_flag:
        return "says yes or no"
    if role not in ("place", "sequence", "heading"):
        return None
    if role == "heading" and _RADIANS.search(column):
        return "is in radians"
    numbers: list[float] = []
    for text in distinct:
        number = number_or_nan(text)
        if not math.isfinite(number):
            return None
        numbers.append(number)
    fractions = any(not number.is_integer() for number in numbers)
    largest = max(map(abs, numbers))
    if role == "heading":
        # A drive to the north has headings of a few degrees: those of a compass need more evidence than a yaw.
        enough = _FEW if plain_name(column).startswith("yaw") or min(numbers) < 0.0 else _MANY
        radians = fractions and len(numbers) >= enough and largest <= 2.0 * math.pi + 0.01
        return "is within a full turn in radians" if radians else None
    if fractions:
        return "has numbers with a fraction, which are no ids"
    most = len(values) >= _FEW and 2 * len(numbers) > len(values)
    if role == "sequence" and most and (largest <= 360.0 or max(numbers) - min(numbers) < 2 * len(values)):
        return "has another number in most rows, as an angle or a running number"
    return None
