"""Positions that columns of a table state: numbers with letters, coordinate pairs, or geometries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64

from swclip.errors import InputError
from swclip.ingest.angles import (
    LETTERS,
    NAMES,
    Angle,
    AngleError,
    Axis,
    Pair,
    is_plain,
    parse_angle,
    parse_pair,
    plain_degrees,
)
from swclip.ingest.column_names import (
    GEOMETRY_NAMES,
    UnitError,
    letter_of_name,
    minutes_beside,
    order_of_name,
    plain_name,
)
from swclip.ingest.geometry import Points, is_geometry, points_of_cells
from swclip.ingest.hemispheres import SignedCoordinates, columns_with_letters, letters_of_column
from swclip.ingest.rejections import shown

_SAMPLE = 200
_ORDER_SHARE = 0.05
"""Share of rows with a value beyond 90 from which that value is known to be a longitude."""


@dataclass(frozen=True, slots=True)
class PositionRoles:
    """Names of the roles whose columns state one kind of position."""

    lat: str = "lat"
    lon: str = "lon"
    lat_ref: str = "lat_ref"
    lon_ref: str = "lon_ref"
    position: str = "position"


@dataclass(frozen=True, slots=True)
class CellProblem:
    """Why a row's position cannot be read: a code of rejected.csv, the column, its cell, and a clause for a message."""

    reason: str
    column: str
    value: Any
    detail: str


@dataclass(frozen=True)
class TablePositions:
    """Positions of N rows.

    Attributes:
        lat_deg: (N,) latitudes in degrees, NaN where a row states none. They are not checked to be within -90 to 90.
        lon_deg: (N,) longitudes in degrees.
        stated: (N,) whether a cell is not empty; it may say "nan".
        problems: {row index: why its position cannot be read}.
        columns: {lat: column, lon: column, position: column, ...} of the roles that were used, for messages.
        geometry: Whether the first choice is a geometry, which has the longitude first.
        notes: (code, count, detail) of remarks for the user.
    """

    lat_deg: Float64[np.ndarray, " n"]
    lon_deg: Float64[np.ndarray, " n"]
    stated: Bool[np.ndarray, " n"]
    problems: dict[int, CellProblem]
    columns: dict[str, str]
    geometry: bool = False
    notes: list[tuple[str, int, str]] = field(default_factory=list)

    def column(self, axis: Axis) -> str:
        """The column of a latitude or longitude, for messages."""
        return self.columns.get(axis) or self.columns["position"]


@dataclass(frozen=True)
class ColumnReader:
    """Reads columns of one table.

    Attributes:
        frame: The table.
        table: Its name in messages.
        flag: Returns the option that names the column of a role.
        roles: Names of the roles.
    """

    frame: pd.DataFrame
    table: str
    flag: Callable[[str], str]
    roles: PositionRoles

    def columns_of_numbers(
        self, lat: str, lon: str, columns: Mapping[str, str], *, named: bool = False
    ) -> TablePositions:
        """Read a column of latitudes and one of longitudes, with columns of letters where there are any."""
        used, parts = {"lat": lat, "lon": lon}, []
        axes: tuple[tuple[Axis, str, str, str], ...] = (
            ("lat", lat, self.roles.lat, self.roles.lat_ref),
            ("lon", lon, self.roles.lon, self.roles.lon_ref),
        )
        unread: dict[Axis, str] = {}
        for axis, column, role, ref in axes:
            unit = ""
            if not named:
                try:
                    unit = letter_of_name(column)
                except UnitError as error:
                    raise InputError(
                        f"{self.table}: the column {column!r} is not used as the {NAMES[axis]}: {error}; convert it, "
                        f"or write {self.option(role, column)} if it is in degrees."
                    ) from error
            letters, letter_column = letters_of_column(self.frame, columns.get(ref)), columns.get(ref)
            unit = unit if unit in LETTERS[axis] else ""
            if letters is None and not unit:
                more = columns_with_letters(self.frame, axis, [*columns.values(), lat, lon])
                told = [name for name in more if plain_name(column) in plain_name(name) or "hemi" in plain_name(name)]
                if len(told) == 1:
                    letters, letter_column = letters_of_column(self.frame, told[0]), told[0]
                elif more and not named:
                    unread[axis] = more[0]
            if letters is not None and letter_column is not None:
                used[f"{axis}_ref"] = letter_column
            numbers = self.plain_numbers(column) if letters is None and not unit else None
            part = numbers or SignedCoordinates.of(self.angles(column), axis, letters, unit)
            if not named:
                self.check_whole(axis, column, role, part)
            parts.append(part)
        return replace(self.of_parts(parts, used), notes=self.unread_letters(parts, used, unread))

    def check_whole(self, axis: Axis, column: str, role: str, part: SignedCoordinates) -> None:
        """Raise InputError if whole degrees stand beside a column of minutes."""
        minutes = minutes_beside(column, [*map(str, self.frame.columns)])
        degrees = part.degrees[np.isfinite(part.degrees)]
        if minutes is not None and len(degrees) and (degrees == np.round(degrees)).all():
            raise InputError(
                f"{self.table}: the column {column!r} has whole degrees, and {minutes!r} may be their minutes; write "
                f"the {NAMES[axis]} in one column (53.8008, or 53 48 2.88 N), or write {self.option(role, column)} if "
                "it is complete."
            )

    def unread_letters(
        self, parts: Sequence[SignedCoordinates], used: Mapping[str, str], unread: Mapping[Axis, str]
    ) -> list[tuple[str, int, str]]:
        """Say that columns of letters, whose names do not say so, may belong to unsigned numbers.

        Raises:
            InputError: There is such a column for the latitude and one for the longitude.
        """
        changed: dict[Axis, int] = {}
        axes: tuple[Axis, Axis] = ("lat", "lon")
        for axis, part in zip(axes, parts, strict=True):
            if axis in unread and not (part.degrees < 0.0).any():
                letters = letters_of_column(self.frame, unread[axis]) or []
                size = part.degrees[part.degrees > 0.0]
                if len({*letters} - {""}) > 1 and len(size) and size.min() > 1.0 and np.ptp(size) < 1.0:
                    continue  # two hemispheres within a degree, far from their border: a side or a direction
                changed[axis] = sum(
                    letter == LETTERS[axis][1] and degrees > 0.0
                    for letter, degrees in zip(letters, part.degrees.tolist(), strict=True)
                )
        if not any(changed.values()):
            return []
        roles = {"lat": (self.roles.lat_ref, self.roles.lat), "lon": (self.roles.lon_ref, self.roles.lon)}
        letters_named = " ".join(self.option(roles[axis][0], unread[axis]) for axis in changed)
        numbers_named = " ".join(self.option(roles[axis][1], used[axis]) for axis in changed)
        names, numbers = (" and ".join(repr(of[axis]) for axis in changed) for of in (unread, used))
        text = f"{names} may have the letters of {numbers}, which have no minus signs: if so, add {letters_named}"
        if len(changed) == 2:
            raise InputError(f"{self.table}: the columns {text}; if not, add {numbers_named}.")
        return [("letters-not-read", max(changed.values()), f"{text}.")]

    def option(self, role: str, column: str) -> str:
        """The option that names a column, for messages."""
        flag = self.flag(role)
        return f'{flag}"{column}"' if flag.endswith("=") else f'{flag} "{column}"'

    def plain_numbers(self, column: str) -> SignedCoordinates | None:
        """Read a column of numbers and decimal text fast; None if it has other cells."""
        if column not in self.frame:
            return None
        values = self.frame[column]
        if pd.api.types.is_float_dtype(values.dtype):
            degrees = values.to_numpy(dtype=np.float64, copy=True)
            return SignedCoordinates(degrees, ~np.isnan(degrees), {})
        cells = values.tolist()
        if not all(map(is_plain, cells)):
            return None
        stated = np.array([cell is not None and cell != "" for cell in cells], dtype=np.bool_)
        degrees = np.full(len(cells), np.nan)
        degrees[stated] = [plain_degrees(cell) for cell in cells if cell is not None and cell != ""]
        return SignedCoordinates(degrees, stated, {})

    def column_of_positions(self, column: str, *, needed: bool = True, named: bool = False) -> TablePositions | None:
        """Read a column of geometries or pairs; None without either, or if not needed and its order is not evident."""
        cells = self.frame[column].tolist() if column in self.frame else []
        present = [cell for cell in cells if not _blank(cell)][:_SAMPLE]
        geometries = sum(map(is_geometry, present))
        name = plain_name(column)
        if geometries and (2 * geometries > len(present) or name in GEOMETRY_NAMES):
            points = points_of_cells(cells)
            if points.stated.any() or named or (needed and name in GEOMETRY_NAMES):
                if not points.stated.any():
                    at, detail = next(iter(points.problems.items()))
                    raise InputError(
                        f"{self.table}: the column {column!r} has no point that can be read (such as "
                        f"{str(cells[at])[:40]!r}: {detail}). Write points as WKT or WKB, or name other columns with "
                        f"{self.flag(self.roles.lat)} and {self.flag(self.roles.lon)}."
                    )
                return positions_of_points(points, column, cells)
            return None
        readable = sum(_is_pair(cell) for cell in present)
        if not named and (name in GEOMETRY_NAMES or 2 * readable <= len(present)):
            return None
        return self.pairs(column, cells, needed=needed)

    def column_of_points(self, column: str) -> TablePositions | None:
        """Read a column that consists of points in WKT or GeoJSON or of objects with lat and lon, under any name."""
        values = self.frame[column] if list(self.frame.columns).count(column) == 1 else pd.Series(dtype=float)
        if values.dtype.kind != "O":
            return None
        present = [cell for cell in values.tolist() if not _blank(cell)][:_SAMPLE]
        points = bool(present) and all(
            (isinstance(cell, str) and cell.strip()[:1] in "{PpMmSs" and is_geometry(cell))
            or (isinstance(cell, Mapping) and (is_geometry(cell) or _is_pair(cell)))
            for cell in present
        )
        return self.column_of_positions(column, needed=False) if points else None

    def pairs(self, column: str, cells: list[Any], *, needed: bool) -> TablePositions | None:
        """Read a column of coordinate pairs in its evident order."""
        parsed: list[Pair | AngleError | None] = []
        for cell in cells:
            try:
                parsed.append(parse_pair(cell))
            except AngleError as error:
                parsed.append(error)
        order = order_of_name(column)
        if any(isinstance(pair, Pair) and pair.order is not None for pair in parsed):
            # Where some cells state their axes, one that does not is in doubt.
            doubt = AngleError("it does not say which number is the latitude, as others do")
            parsed = [
                pair if not isinstance(pair, Pair) else pair.latitude_first() if pair.order is not None else doubt
                for pair in parsed
            ]
            order = "lat"
        first = [pair.first if isinstance(pair, Pair) else pair for pair in parsed]
        second = [pair.second if isinstance(pair, Pair) else pair for pair in parsed]
        sizes = _sizes(first, second)
        if not len(sizes):
            raise InputError(
                f"{self.table}: the column {column!r} has no position that can be read; write points as WKT or WKB, or "
                "two numbers in one cell."
            )
        if order is None:
            order = _order_by_range(sizes)
            if order is None and (not needed or (sizes > 180.0).any(axis=1).mean() > 0.5):
                return None
        if order is None:
            example = next(cell for cell in cells if _is_pair(cell))
            raise InputError(
                f"{self.table}: the column {column!r} has pairs such as {str(example)[:40]!r}, and which of the two is "
                f"the latitude is not evident; if it is the first, add {self.option(self.roles.lat, column + '[0]')} "
                f"{self.option(self.roles.lon, column + '[1]')}, else exchange 0 and 1."
            )
        lats, lons = (first, second) if order == "lat" else (second, first)
        parts = [SignedCoordinates.of(lats, "lat"), SignedCoordinates.of(lons, "lon")]
        return self.of_parts(parts, {"position": column})

    def angles(self, column: str) -> list[Angle | AngleError | None]:
        """Read the coordinates of a column, or of one half of a column of pairs that NAME[0] or NAME[1] names."""
        half = None if column in self.frame else column[-2]
        cells = self.frame[column if half is None else column[:-3]].tolist()
        angles: list[Angle | AngleError | None] = []
        for cell in cells:
            try:
                if half is None:
                    angles.append(parse_angle(cell))
                else:
                    pair = parse_pair(cell)
                    angles.append(None if pair is None else pair.first if half == "0" else pair.second)
            except AngleError as error:
                angles.append(error)
        return angles

    def of_parts(self, parts: Sequence[SignedCoordinates], columns: dict[str, str]) -> TablePositions:
        """Join a latitude and a longitude of each row."""
        lat, lon = parts
        problems = {}
        for axis, part in (("lon", lon), ("lat", lat)):
            column = columns.get(axis) or columns["position"]
            cells = self.frame[column if column in self.frame else column[:-3]]
            for at, (code, detail) in part.problems.items():
                cell = shown(cells.iloc[at])
                detail = detail if cell in detail else f"{detail} (column {column!r} has {cell})"
                problems[at] = CellProblem(code, column, cells.iloc[at], detail)
        return TablePositions(lat.degrees, lon.degrees, lat.stated | lon.stated, problems, columns)


def positions_of_points(points: Points, column: str, cells: Sequence[Any]) -> TablePositions:
    """Return the points of a column, or of the geometry of a file, as positions."""
    problems = {
        at: CellProblem("geometry-not-a-point", column, str(cells[at])[:60], f"its geometry cannot be used: {detail}")
        for at, detail in points.problems.items()
    }
    stated = points.stated.copy()
    stated[[*problems]] = True
    return TablePositions(points.lat_deg, points.lon_deg, stated, problems, {"position": column}, geometry=True)


def _sizes(first: Sequence[Any], second: Sequence[Any]) -> Float64[np.ndarray, "n 2"]:
    """The absolute values of the pairs that could be read."""
    pairs = [
        (abs(a.degrees), abs(b.degrees))
        for a, b in zip(first, second, strict=True)
        if isinstance(a, Angle) and isinstance(b, Angle)
    ]
    return np.array(pairs, dtype=np.float64).reshape(-1, 2)


def _order_by_range(sizes: Float64[np.ndarray, "n 2"]) -> Axis | None:
    beyond = ((sizes > 90.0) & (sizes <= 180.0)).mean(axis=0)
    if beyond[0] == 0.0 and beyond[1] >= _ORDER_SHARE:
        return "lat"
    return "lon" if beyond[1] == 0.0 and beyond[0] >= _ORDER_SHARE else None


def _is_pair(cell: Any) -> bool:
    try:
        return parse_pair(cell) is not None
    except AngleError:
        return False


def _blank(cell: Any) -> bool:
    if isinstance(cell, str):
        return not cell.strip()
    return cell is None or (isinstance(cell, (float, np.floating)) and bool(np.isnan(cell)))
