"""Which column of a stranger's table holds what, by the names people give them."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

from swclip.errors import InputError


@dataclass(frozen=True)
class ColumnNames:
    """Columns named by the user, for those that cannot or should not be found by synonyms. None: look for it."""

    image: str | None = None
    lat: str | None = None
    lon: str | None = None
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


ROLES = tuple(field.name for field in fields(ColumnNames))


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Lower case, letters and figures alone. A name in a later tuple counts only where none of the earlier is there: tables
# with lat and lon often have x and y of a projection too.
SYNONYMS: dict[str, tuple[tuple[str, ...], ...]] = {
    "image": (
        _words(
            "image imagepath imagefile imagefilename imagename img imgpath imgname imgfile photo photopath photofile "
            "photograph picture file filename filepath path relativepath relpath frame framepath sourcefile"
        ),
        _words("name"),
    ),
    "lat": (
        _words(
            "lat latitude latdeg latitudedeg latdegrees latitudedegrees gpslat gpslatitude latwgs84 wgs84lat latdd "
            "decimallatitude ylat laty"
        ),
        _words("y ycoord ycoordinate coordy"),
    ),
    "lon": (
        _words(
            "lon lng long longitude londeg lngdeg longitudedeg londegrees longitudedegrees gpslon gpslng gpslong "
            "gpslongitude lonwgs84 wgs84lon londd decimallongitude xlon lonx"
        ),
        _words("x xcoord xcoordinate coordx"),
    ),
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
    "place": (_words("placeid place panoid panoramaid pano locationid"), ()),
    "sequence": (
        _words("sequence sequenceid seq seqid sequencekey track trackid drive driveid trip tripid"),
        (),
    ),
    "licence": (_words("licence license"), ()),
    "source": (_words("source provider"), ()),
    "image_id": (_words("imageid imagekey photoid imgid"), ()),
    # Archives have a title and a description of each photograph: both are words about it, the longer says more.
    "caption": (_words("caption imagecaption photocaption"), _words("description"), _words("text"), _words("title")),
    "map": (_words("map mappath mapfile mapimage maptile maptilepath"), ()),
}


def flag_of(role: str) -> str:
    """The flag of `swclip prepare` that names the column of a role."""
    return f"--{role.replace('_', '-')}-column"


def plain_name(column: str) -> str:
    """A column's name without case, accents, punctuation and a unit in brackets.

    Example:
        >>> plain_name(" GPS_Latitude (deg) ")
        'gpslatitude'
    """
    text = unicodedata.normalize("NFKD", column).casefold()
    without_unit = re.sub(r"[(\[][^)\]]*[)\]]", "", text)
    return "".join(c for c in without_unit if c.isalnum()) or "".join(c for c in text if c.isalnum())


def find_columns(columns: Sequence[str], given: ColumnNames, table: str) -> dict[str, str]:
    """Find the column of each role.

    Args:
        columns: The table's columns.
        given: Those that the user named; they are taken as they are.
        table: What to call the table in a message.

    Returns:
        {role: column} for the roles found, `ROLES` being all there are.

    Raises:
        InputError: A named column is not there, or two columns could have one role.

    Example:
        >>> find_columns(["Photo", "GPS Latitude", "lng", "x", "y"], ColumnNames(), "table.csv")
        {'image': 'Photo', 'lat': 'GPS Latitude', 'lon': 'lng'}
    """
    return match_columns(columns, SYNONYMS, {role: getattr(given, role) for role in ROLES}, table, flag_of)


def match_columns(
    columns: Sequence[str],
    synonyms: Mapping[str, Sequence[Sequence[str]]],
    given: Mapping[str, str | None],
    table: str,
    flag: Callable[[str], str],
) -> dict[str, str]:
    """As `find_columns`, for any roles.

    Args:
        columns: The table's columns.
        synonyms: {role: names as `plain_name` writes them, in groups}; a later group counts only where no name of the
            earlier is there.
        given: {role: column} that the user named.
        table: What to call the table in a message.
        flag: The flag that names the column of a role.

    Raises:
        InputError: A named column is not there, or two columns could have one role.

    Example:
        >>> match_columns(["Rank", "k"], {"rank": (("rank",), ("k",))}, {}, "table.csv", flag_of)
        {'rank': 'Rank'}
    """
    found: dict[str, str] = {}
    for role in synonyms:
        named = given.get(role)
        if named is not None:
            found[role] = _named(named, flag(role), columns, table)
    taken = set(found.values())
    plain = {column: plain_name(column) for column in columns if column not in taken}
    for role, groups in synonyms.items():
        if role in found:
            continue
        for names in groups:
            candidates = [column for column in columns if plain.get(column) in names]
            if len(candidates) > 1:
                raise InputError(
                    f"{table}: the columns {listed(candidates)} could each be the {_meaning(role)}; "
                    f"say which, for example {flag(role)} {_quoted(candidates[0])}"
                )
            if candidates:
                found[role] = candidates[0]
                break
    return found


def _named(name: str, flag: str, columns: Sequence[str], table: str) -> str:
    count = list(columns).count(name)
    if count == 1:
        return name
    if count > 1:
        raise InputError(f"{table}: {flag} {name}: {count} columns have that name; rename one of them.")
    close = difflib.get_close_matches(name, columns, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise InputError(f"{table}: {flag} {name}: there is no such column; {hint}it has {listed(columns)}.")


def _meaning(role: str) -> str:
    names = {"lat": "latitude", "lon": "longitude", "map": "map tile"}
    return names.get(role, role.replace("_", " "))


def listed(columns: Sequence[str]) -> str:
    """Names of columns in a message; at most twenty."""
    shown = [repr(column) for column in columns[:20]] + (["..."] if len(columns) > 20 else [])
    return ", ".join(shown[:-1]) + " and " + shown[-1] if len(shown) > 1 else "".join(shown)


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[\w.\-]+", name) else f'"{name}"'
