"""Columns of another tool's table: their roles, and their cells as validated numbers and positions."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64

from swclip.errors import InputError
from swclip.geo.coordinates import NO_FIX_DEG, position_problem, valid_positions
from swclip.ingest.angles import Axis
from swclip.ingest.column_names import LAT_NAMES, LAT_REF_NAMES, LON_NAMES, LON_REF_NAMES
from swclip.ingest.columns import listed, match_columns
from swclip.ingest.geometry import points_of_shapes
from swclip.ingest.position_columns import PositionRoles, TablePositions
from swclip.ingest.positions import read_positions, unread_columns
from swclip.ingest.source_table import RawTable
from swclip.ingest.sources import read_table
from swclip.ingest.swapped_coordinates import swap_evidence
from swclip.ingest.values import parse_number

Synonyms = Mapping[str, tuple[tuple[str, ...], ...]]


def plain_names(text: str) -> tuple[str, ...]:
    """Column names in the form of `plain_name`, from a text separated by spaces."""
    return tuple(text.split())


_TRUE_LAT = plain_names(
    "truelat truelatdeg truelatitude gtlat gtlatitude latgt lattrue groundtruthlat groundtruthlatitude"
)
_TRUE_LON = plain_names(
    "truelon truelondeg truelng truelong truelongitude gtlon gtlng gtlong gtlongitude longt lngt lontrue "
    "groundtruthlon groundtruthlng groundtruthlongitude"
)

COMMON_ROLES: Synonyms = {
    "image_id": (
        plain_names("imageid queryid imagekey photoid imgid"),
        plain_names("id ids imageids query key"),
        plain_names(
            "image photograph photo img imagepath imgpath filepath filename file path imagename name names paths"
        ),
        plain_names("featureid"),
    ),
    "lat": (_TRUE_LAT, *LAT_NAMES, plain_names("querylat querylatitude")),
    "lon": (_TRUE_LON, *LON_NAMES, plain_names("querylon querylng querylongitude")),
    "lat_ref": (tuple(f"{name}ref" for name in _TRUE_LAT), *LAT_REF_NAMES),
    "lon_ref": (tuple(f"{name}ref" for name in _TRUE_LON), *LON_REF_NAMES),
    "position": (plain_names("truelatlon gtlatlon trueposition gtposition truecoordinates gtcoordinates"),),
    "city": (plain_names("city cityname town"), plain_names("region area")),
    "place": (plain_names("placeid place panoid pano"), ()),
    "block": (plain_names("block blockid"), ()),
}
"""Roles in every table with their usual column names."""

TRUE = PositionRoles()
PREDICTED = PositionRoles(
    "predicted_lat", "predicted_lon", "predicted_lat_ref", "predicted_lon_ref", "predicted_position"
)


@dataclass(frozen=True)
class ExternalTable:
    """A table with the columns of its roles.

    Attributes:
        raw: The table.
        columns: {role: column}.
        named: {role: column} that the user named.
        positions_of: The positions of each kind that the table states; see `with_positions`.
    """

    raw: RawTable
    columns: dict[str, str]
    named: dict[str, str] = field(default_factory=dict)
    positions_of: dict[PositionRoles, TablePositions] = field(default_factory=dict)

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

    def with_positions(self, *kinds: PositionRoles) -> ExternalTable:
        """The table with its positions.

        A geometry, or a column of pairs with a usual name, belongs to the first kind without columns of its role.

        Args:
            *kinds: `PREDICTED` or `TRUE`.

        Raises:
            InputError: See `positions.read_positions`; or two columns state positions that are apart.
        """
        positions_of: dict[PositionRoles, TablePositions] = {}
        free = True
        for kind in kinds:
            without = not {kind.lat, kind.lon, kind.position} & set(self.columns)
            positions = read_positions(
                self.raw.frame,
                self.columns,
                self.named,
                table=self.raw.name,
                flag=column_flag,
                points=self.raw.points if free and without else None,
                roles=kind,
                taken=[*self.columns.values()],
                usual=free and without,
            )
            free = free and not without
            if positions is not None:
                positions_of[kind] = positions
                for code, count, detail in positions.notes:
                    if code == "positions-disagree":
                        raise InputError(f"{self.raw.name}: in {count} rows {detail} Correct or remove one of them.")
        return replace(self, positions_of=positions_of)

    def position_notes(self) -> list[str]:
        """Remarks on positions that were converted, or may be meant otherwise, in sentences."""
        notes = [note for positions in self.positions_of.values() for note in positions.notes]
        return [f"{count} rows: {detail}" for code, count, detail in notes if code != "position-filled"]

    def where_position(self, at: int, kind: PositionRoles, axis: Axis = "lat") -> str:
        """A row and the column of its position, for messages."""
        return f"{self.raw.name}, row {self.raw.rows[at]}, column {self.positions_of[kind].column(axis)!r}"

    def positions(self, kind: PositionRoles, description: str) -> Float64[np.ndarray, "n 2"]:
        """The (N, 2) latitudes and longitudes of a kind in degrees, NaN where both are empty.

        Args:
            kind: `TRUE` or `PREDICTED`; a prediction may be (0, 0), which is no answer.
            description: Kind of the position ("predicted position"), for messages.

        Raises:
            InputError: One of the two is empty, not a number, or out of range; or the two columns look swapped.
        """
        stated = self.positions_of[kind]
        if stated.problems:
            at, problem = min(stated.problems.items())
            raise InputError(
                f"{self.raw.name}, row {self.raw.rows[at]}, column {problem.column!r}: the {description}: "
                f"{problem.detail}; correct the row."
            )
        evidence = swap_evidence(stated.lat_deg, stated.lon_deg, self.raw.rows)
        if evidence is not None:
            lat, lon = stated.column("lat"), stated.column("lon")
            first, second = (f"{lat}[1]", f"{lat}[0]") if lat == lon else (lon, lat)
            raise InputError(
                f"{self.raw.name}: the columns {lat!r} (latitude) and {lon!r} (longitude) look swapped: {evidence}. "
                f'If so, add: {column_flag(kind.lat)}"{first}" {column_flag(kind.lon)}"{second}"'
            )
        positions = np.stack([stated.lat_deg, stated.lon_deg], axis=1)
        empty = np.isnan(positions)
        if (half := empty[:, 0] != empty[:, 1]).any():
            at = int(np.flatnonzero(half)[0])
            where = self.where_position(at, kind, "lat" if empty[at, 0] else "lon")
            raise InputError(f"{where}: the {description} has one coordinate and lacks the other.")
        invalid = ~empty.any(axis=1) & ~valid_positions(*positions.T)
        if kind != PREDICTED:
            invalid |= (np.abs(positions) < NO_FIX_DEG).all(axis=1)
        if invalid.any():
            at = int(np.flatnonzero(invalid)[0])
            problem_of_pair = position_problem(*positions[at].tolist())
            axis = "lat" if problem_of_pair is None else problem_of_pair.axis
            detail = "" if problem_of_pair is None else f": {problem_of_pair.detail}"
            raise InputError(
                f"{self.where_position(at, kind, axis)}: the {description} ({positions[at, 0]:g}, "
                f"{positions[at, 1]:g}) is not a latitude and longitude in degrees{detail}; correct the row."
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
    return ExternalTable(raw, match_columns(header, synonyms, named, raw.name, column_flag), named)


def require_columns(table: ExternalTable, roles: Sequence[str], hint: str) -> None:
    """Raise InputError unless all roles have a column."""
    for role in roles:
        if role not in table.columns:
            header = [str(name) for name in table.raw.frame.columns]
            raise InputError(
                f"{table.raw.name}: no column for {role!r} was found among {listed(header)}; name it with "
                f"{column_flag(role)}COLUMN{hint}."
            )


def require_positions(table: ExternalTable, kind: PositionRoles, hint: str) -> None:
    """Raise InputError unless the table states positions of a kind."""
    if kind not in table.positions_of:
        options = f"{column_flag(kind.lat)}COLUMN and {column_flag(kind.lon)}COLUMN"
        unread = unread_columns(table.raw.frame, [*table.columns.values()], options)
        require_columns(table, [kind.lat, kind.lon], f"{hint}.{unread}".removesuffix("."))


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
    plain, points = frame, None
    if hasattr(frame, "geometry") and hasattr(frame, "crs"):
        shapes: Any = frame.geometry if frame.crs is None else frame.geometry.to_crs(4326)
        points = points_of_shapes(shapes.to_numpy())
        plain = pd.DataFrame(frame.drop(columns=shapes.name))
    plain = plain.reset_index(drop=True)
    plain.columns = pd.Index([str(name) for name in plain.columns], dtype=object)
    return RawTable("the data frame", "parquet", plain, list(range(1, len(plain) + 1)), points)
