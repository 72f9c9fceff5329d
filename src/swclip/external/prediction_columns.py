"""Columns of another tool's table: their roles, and their cells as validated numbers and positions."""

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


def plain_names(text: str) -> tuple[str, ...]:
    """Column names in the form of `plain_name`, from a text separated by spaces."""
    return tuple(text.split())


COMMON_ROLES: Synonyms = {
    "image_id": (
        plain_names("imageid queryid imagekey photoid imgid"),
        plain_names("id ids imageids query key"),
        plain_names(
            "image photograph photo img imagepath imgpath filepath filename file path imagename name names paths"
        ),
    ),
    "lat": (
        plain_names(
            "truelat truelatdeg truelatitude gtlat gtlatitude latgt lattrue groundtruthlat groundtruthlatitude"
        ),
        plain_names("lat latdeg latitude latitudedeg gpslat gpslatitude querylat querylatitude"),
        plain_names("y"),
    ),
    "lon": (
        plain_names(
            "truelon truelondeg truelng truelong truelongitude gtlon gtlng gtlong gtlongitude longt lngt lontrue "
            "groundtruthlon groundtruthlng groundtruthlongitude"
        ),
        plain_names(
            "lon londeg lng long longitude longitudedeg gpslon gpslng gpslongitude querylon querylng querylongitude"
        ),
        plain_names("x"),
    ),
    "city": (plain_names("city cityname town"), plain_names("region area")),
    "place": (plain_names("placeid place panoid pano"), ()),
    "block": (plain_names("block blockid"), ()),
}
"""Roles in every table with their usual column names."""


@dataclass(frozen=True)
class ExternalTable:
    """A table with the columns of its roles.

    Attributes:
        raw: The table.
        columns: {role: column}.
    """

    raw: RawTable
    columns: dict[str, str]

    def values(self, role: str) -> list[Any] | None:
        """The raw cells of a role; None without such a column."""
        column = self.columns.get(role)
        return None if column is None else self.raw.frame[column].tolist()

    def texts(self, role: str) -> list[str | None]:
        """The cells of a role as text, None where empty; all None without such a column."""
        values = self.values(role)
        return [None] * len(self.raw.frame) if values is None else [as_text(value) for value in values]

    def where(self, at: int, role: str | None = None) -> str:
        """A row and optionally its column, for messages."""
        column = f", column {self.columns[role]!r}" if role in self.columns else ""
        return f"{self.raw.name}, row {self.raw.rows[at]}{column}"

    def numbers(self, role: str) -> Float64[np.ndarray, " n"]:
        """The cells of a role as numbers, NaN where empty.

        Raises:
            InputError: One is not a number.
        """
        numbers = np.full(len(self.raw.frame), np.nan)
        for at, value in enumerate(self.values(role) or []):
            try:
                number = parse_number(value)
            except ValueError:
                raise InputError(f"{self.where(at, role)}: {value!r} is not a number; correct the cell.") from None
            numbers[at] = np.nan if number is None else number
        return numbers

    def positions(self, lat_role: str, lon_role: str, description: str) -> Float64[np.ndarray, "n 2"]:
        """Two roles as (N, 2) latitudes and longitudes in degrees, NaN where both are empty.

        Args:
            lat_role: Role of the latitude.
            lon_role: Role of the longitude.
            description: Kind of the position ("predicted position"), for messages.

        Raises:
            InputError: One of the two is empty, not a number, or out of range; or the two columns look swapped.
        """
        lats, lons = self.values(lat_role) or [], self.values(lon_role) or []
        evidence = swap_evidence(lats, lons, self.raw.rows)
        if evidence is not None:
            lat, lon = self.columns[lat_role], self.columns[lon_role]
            raise InputError(
                f"{self.raw.name}: the columns {lat!r} (latitude) and {lon!r} (longitude) look swapped: {evidence}. "
                f'If so, add: {column_flag(lat_role)}"{lon}" {column_flag(lon_role)}"{lat}"'
            )
        positions = np.stack([self.numbers(lat_role), self.numbers(lon_role)], axis=1)
        empty = np.isnan(positions)
        if (half := empty[:, 0] != empty[:, 1]).any():
            at = int(np.flatnonzero(half)[0])
            missing = lat_role if empty[at, 0] else lon_role
            raise InputError(f"{self.where(at, missing)}: the {description} has one coordinate and lacks the other.")
        invalid = ~empty.any(axis=1) & ~((np.abs(positions[:, 0]) <= 90.0) & (np.abs(positions[:, 1]) <= 180.0))
        if invalid.any():
            at = int(np.flatnonzero(invalid)[0])
            raise InputError(
                f"{self.where(at, lat_role)}: the {description} ({positions[at, 0]:g}, {positions[at, 1]:g}) is not a "
                "latitude and longitude in degrees; correct the row."
            )
        return positions


def column_flag(role: str) -> str:
    """The command-line option that names the column of a role."""
    return f"--column {role}="


def open_table(source: str | os.PathLike[str] | pd.DataFrame, description: str) -> RawTable:
    """Open a file or a data frame as a complete raw table.

    Args:
        source: The file, or a pandas or geopandas frame.
        description: Kind of the table, for messages.

    Raises:
        InputError: It cannot be read, is empty, or a line has too many or too few fields.
    """
    raw = _of_frame(source) if isinstance(source, pd.DataFrame) else read_table(source, description)
    if raw.malformed:
        number, detail = raw.malformed[0]
        raise InputError(
            f"{raw.name}, row {number}: {detail}; {len(raw.malformed)} such rows. Is a comma missing or not quoted?"
        )
    if len(raw.frame) == 0:
        raise InputError(f"{raw.name}: {description} has no rows.")
    return raw


def find_roles(raw: RawTable, synonyms: Synonyms, columns: Mapping[str, str] | None) -> ExternalTable:
    """Find the columns of a table.

    Args:
        raw: The table.
        synonyms: The roles and their usual column names.
        columns: {role: column} named by the user.

    Raises:
        InputError: A named role or column does not exist, or two columns could have one role.
    """
    named = dict(columns or {})
    if unknown := [role for role in named if role not in synonyms]:
        raise InputError(
            f"{column_flag(unknown[0])}{named[unknown[0]]}: the role does not exist; use one of {listed([*synonyms])}."
        )
    header = [str(name) for name in raw.frame.columns]
    return ExternalTable(raw, match_columns(header, synonyms, named, raw.name, column_flag))


def require_columns(table: ExternalTable, roles: Sequence[str], hint: str) -> None:
    """Raise InputError unless all roles have a column."""
    for role in roles:
        if role not in table.columns:
            header = [str(name) for name in table.raw.frame.columns]
            raise InputError(
                f"{table.raw.name}: no column for {role!r} was found among {listed(header)}; name it with "
                f"{column_flag(role)}COLUMN{hint}."
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
    """A data frame as a raw table, with the points of a geopandas frame in WGS84."""
    plain, lat_lon = frame, None
    if hasattr(frame, "geometry") and hasattr(frame, "crs"):
        shapes: Any = frame.geometry if frame.crs is None else frame.geometry.to_crs(4326)
        points = [shape if shape is not None and shape.geom_type == "Point" else None for shape in shapes]
        lat_lon = [(None, None) if point is None or point.is_empty else (point.y, point.x) for point in points]
        plain = pd.DataFrame(frame.drop(columns=shapes.name))
    plain = plain.reset_index(drop=True)
    plain.columns = pd.Index([str(name) for name in plain.columns], dtype=object)
    return RawTable("the data frame", "parquet", plain, list(range(1, len(plain) + 1)), lat_lon)
