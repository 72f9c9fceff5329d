"""The columns of a table that another tool wrote: which holds what, and its cells as checked numbers and positions."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64

from swclip.errors import InputError
from swclip.ingest.columns import listed, match_columns
from swclip.ingest.source_table import RawTable
from swclip.ingest.sources import read_table
from swclip.ingest.swapped_coordinates import swap_evidence
from swclip.ingest.values import parse_number

Synonyms = Mapping[str, tuple[tuple[str, ...], ...]]


def words(text: str) -> tuple[str, ...]:
    """Names of columns as `plain_name` writes them."""
    return tuple(text.split())


COMMON: Synonyms = {
    "image_id": (
        words("imageid queryid imagekey photoid imgid"),
        words("id ids imageids query key"),
        words("image photograph photo img imagepath imgpath filepath filename file path imagename name names paths"),
    ),
    "lat": (
        words("truelat truelatdeg truelatitude gtlat gtlatitude latgt lattrue groundtruthlat groundtruthlatitude"),
        words("lat latdeg latitude latitudedeg gpslat gpslatitude querylat querylatitude"),
        words("y"),
    ),
    "lon": (
        words(
            "truelon truelondeg truelng truelong truelongitude gtlon gtlng gtlong gtlongitude longt lngt lontrue "
            "groundtruthlon groundtruthlng groundtruthlongitude"
        ),
        words("lon londeg lng long longitude longitudedeg gpslon gpslng gpslongitude querylon querylng querylongitude"),
        words("x"),
    ),
    "city": (words("city cityname town"), words("region area")),
    "place": (words("placeid place panoid pano"), ()),
    "block": (words("block blockid"), ()),
}
"""Roles of every table, and the names people give them."""


@dataclass(frozen=True)
class ExternalTable:
    """A table whose columns have been found.

    Attributes:
        raw: The table.
        columns: {role: column}.
    """

    raw: RawTable
    columns: dict[str, str]

    def values(self, role: str) -> list[Any] | None:
        """The cells of a role as written, or None where there is no such column."""
        column = self.columns.get(role)
        return None if column is None else self.raw.frame[column].tolist()

    def texts(self, role: str) -> list[str | None]:
        """The cells of a role as text, None where empty; all None where there is no such column."""
        values = self.values(role)
        return [None] * len(self.raw.frame) if values is None else [as_text(value) for value in values]

    def where(self, at: int, role: str | None = None) -> str:
        """A row, and a column of it, as a message names them."""
        column = f", column {self.columns[role]!r}" if role in self.columns else ""
        return f"{self.raw.name}, row {self.raw.rows[at]}{column}"

    def numbers(self, role: str) -> Float64[np.ndarray, " n"]:
        """The cells of a role as numbers, NaN where empty.

        Raises:
            InputError: One is not a number.
        """
        found = np.full(len(self.raw.frame), np.nan)
        for at, value in enumerate(self.values(role) or []):
            try:
                number = parse_number(value)
            except ValueError:
                raise InputError(f"{self.where(at, role)}: {value!r} is not a number; mend the cell.") from None
            found[at] = np.nan if number is None else number
        return found

    def positions(self, lat_role: str, lon_role: str, what: str) -> Float64[np.ndarray, "n 2"]:
        """Two roles as (N, 2) latitudes and longitudes in degrees, NaN where both are empty.

        Args:
            lat_role: The latitude's role.
            lon_role: The longitude's.
            what: What the position is ("predicted position"), for messages.

        Raises:
            InputError: One of the two is empty, is not a number, or is no latitude or longitude; or the two columns are
                evidently swapped.
        """
        lats, lons = self.values(lat_role) or [], self.values(lon_role) or []
        evidence = swap_evidence(lats, lons, self.raw.rows)
        if evidence is not None:
            lat, lon = self.columns[lat_role], self.columns[lon_role]
            raise InputError(
                f"{self.raw.name}: the columns {lat!r} (latitude) and {lon!r} (longitude) look swapped: {evidence}. "
                f'If so, add: {flag(lat_role)}"{lon}" {flag(lon_role)}"{lat}"'
            )
        found = np.stack([self.numbers(lat_role), self.numbers(lon_role)], axis=1)
        empty = np.isnan(found)
        if (half := empty[:, 0] != empty[:, 1]).any():
            at = int(np.flatnonzero(half)[0])
            missing = lat_role if empty[at, 0] else lon_role
            raise InputError(f"{self.where(at, missing)}: the {what} has one coordinate and lacks the other.")
        beyond = ~empty.any(axis=1) & ~((np.abs(found[:, 0]) <= 90.0) & (np.abs(found[:, 1]) <= 180.0))
        if beyond.any():
            at = int(np.flatnonzero(beyond)[0])
            raise InputError(
                f"{self.where(at, lat_role)}: the {what} ({found[at, 0]:g}, {found[at, 1]:g}) is no latitude and "
                "longitude in degrees; mend the row."
            )
        return found


def flag(role: str) -> str:
    """What a user writes before the name of a role's column."""
    return f"--column {role}="


def open_table(source: str | os.PathLike[str] | pd.DataFrame, what: str) -> RawTable:
    """A file or a data frame as a raw table whose rows are all there.

    Args:
        source: The file, or a pandas or geopandas frame.
        what: What it is to a user, for messages.

    Raises:
        InputError: It cannot be read, is empty, or a line has too many or too few fields.
    """
    raw = _of_frame(source) if isinstance(source, pd.DataFrame) else read_table(source, what)
    if raw.malformed:
        number, detail = raw.malformed[0]
        raise InputError(
            f"{raw.name}, row {number}: {detail}; {len(raw.malformed)} such rows. Is a comma missing or not quoted?"
        )
    if len(raw.frame) == 0:
        raise InputError(f"{raw.name}: {what} has no rows.")
    return raw


def find_roles(raw: RawTable, synonyms: Synonyms, given: Mapping[str, str] | None) -> ExternalTable:
    """Find the columns of a table.

    Args:
        raw: The table.
        synonyms: The roles there are, and their names.
        given: {role: column} that the user named.

    Raises:
        InputError: A named role or column does not exist, or two columns could have one role.
    """
    named = dict(given or {})
    if unknown := [role for role in named if role not in synonyms]:
        raise InputError(
            f"{flag(unknown[0])}{named[unknown[0]]}: there is no such role; it is one of {listed([*synonyms])}."
        )
    header = [str(name) for name in raw.frame.columns]
    return ExternalTable(raw, match_columns(header, synonyms, named, raw.name, flag))


def need(table: ExternalTable, roles: Sequence[str], hint: str) -> None:
    """Raise InputError unless all roles have a column."""
    for role in roles:
        if role not in table.columns:
            header = [str(name) for name in table.raw.frame.columns]
            raise InputError(
                f"{table.raw.name}: no column for {role!r} was found among {listed(header)}; name it with "
                f"{flag(role)}COLUMN{hint}."
            )


def as_text(value: Any) -> str | None:
    """A cell as text, None where it is empty.

    Example:
        >>> as_text(7.0), as_text(" a "), as_text(float("nan")), as_text("")
        ('7', 'a', None, None)
    """
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)) or value is pd.NaT:
        return None
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
    return text or None


def _of_frame(frame: pd.DataFrame) -> RawTable:
    """A data frame; a geopandas one gives its points on WGS84."""
    plain, lat_lon = frame, None
    if hasattr(frame, "geometry") and hasattr(frame, "crs"):
        shapes: Any = frame.geometry if frame.crs is None else frame.geometry.to_crs(4326)
        points = [shape if shape is not None and shape.geom_type == "Point" else None for shape in shapes]
        lat_lon = [(None, None) if point is None or point.is_empty else (point.y, point.x) for point in points]
        plain = pd.DataFrame(frame.drop(columns=shapes.name))
    plain = plain.reset_index(drop=True)
    plain.columns = pd.Index([str(name) for name in plain.columns], dtype=object)
    return RawTable("the data frame", "parquet", plain, list(range(1, len(plain) + 1)), lat_lon)
