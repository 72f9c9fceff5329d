"""Positions of a table's rows: which columns state them, and what they say. All tables are read by these rules."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from swclip.geo.coordinates import valid_positions
from swclip.geo.distance import haversine_m
from swclip.geo.projections import WGS84, datum_code, to_wgs84
from swclip.ingest.column_names import DATUM_NAMES, POSITION_NAMES, plain_name, position_like, width_and_length
from swclip.ingest.geometry import Points
from swclip.ingest.position_columns import ColumnReader, PositionRoles, TablePositions, positions_of_points

DISAGREE_M = 25.0
"""Two positions of one row that are further apart are noted."""
_SHIFTED = re.compile(r"(GCJ|BD)[ -]?\d\d", re.IGNORECASE)


def read_positions(
    frame: pd.DataFrame,
    columns: Mapping[str, str],
    named: Mapping[str, str | None],
    *,
    table: str,
    flag: Callable[[str], str],
    points: Points | None = None,
    roles: PositionRoles | None = None,
    taken: Sequence[str] = (),
    usual: bool = True,
) -> TablePositions | None:
    """Read the positions of a table.

    Columns named by the user are used alone. Otherwise the first of these that a row fills: the geometry of the file;
    latitude and longitude; columns of geometries or of coordinate pairs with a usual name. Without any of these,
    columns of points in WKT or GeoJSON, or of objects with lat and lon, under any name. Where two of them are more than
    `DISAGREE_M` apart, a note counts the rows. Positions beside a column of datums are converted to WGS84.

    Args:
        frame: The table.
        columns: {role: column}; see `columns.match_columns`.
        named: {role: column} that the user named. NAME[0] and NAME[1] are the two numbers of a column of pairs.
        table: Name of the table in messages.
        flag: Returns the option that names the column of a role.
        points: Points of the file's geometry.
        roles: Names of the roles.
        taken: Columns that have another role.
        usual: Whether columns of geometries or pairs are used by their usual names.

    Returns:
        The positions; None if no column states any, or of latitude and longitude only one has a column.

    Raises:
        InputError: The order of pairs is not evident, a column's unit is not the degree, or a column of geometries
            cannot be read.
    """
    roles = roles or PositionRoles()
    reader = ColumnReader(frame, table, flag, roles)
    lat, lon = columns.get(roles.lat), columns.get(roles.lon)
    if (position := named.get(roles.position) or columns.get(roles.position)) is not None:
        return _in_wgs84(reader.column_of_positions(position, named=True), frame, taken)
    if named.get(roles.lat) is not None or named.get(roles.lon) is not None:
        if lat is None or lon is None:
            return None
        return _in_wgs84(reader.columns_of_numbers(lat, lon, columns, named=True), frame, taken)
    sources: list[TablePositions | None] = []
    if points is not None:
        sources.append(positions_of_points(points, "geometry", ["geometry"] * len(frame)))
    if lat is not None and lon is not None:
        sources.append(reader.columns_of_numbers(lat, lon, columns))
    elif usual and lat is None and lon is None and (both := width_and_length([*map(str, frame.columns)])) is not None:
        sources.append(reader.columns_of_numbers(*both, columns))
    for names in POSITION_NAMES if usual else ():
        for column in map(str, frame.columns):
            if column not in taken and plain_name(column) in names and list(frame.columns).count(column) == 1:
                sources.append(reader.column_of_positions(column, needed=not any(sources)))
    if usual and not any(sources):
        sources += [reader.column_of_points(column) for column in map(str, frame.columns) if column not in taken]
    used = [source for each in sources if (source := _in_wgs84(each, frame, taken)) is not None]
    return _merged(used) if used else None


def _in_wgs84(positions: TablePositions | None, frame: pd.DataFrame, taken: Sequence[str]) -> TablePositions | None:
    """Convert latitudes and longitudes by the column of datums, where there is one; geometries state their own."""
    columns = [name for name in map(str, frame.columns) if plain_name(name) in DATUM_NAMES and name not in taken]
    if positions is None or positions.geometry or len(columns) != 1:
        return positions
    (column,) = columns
    cells = ["" if isinstance(cell, float) and math.isnan(cell) else cell or "" for cell in frame[column].tolist()]
    texts = [str(int(cell) if isinstance(cell, float) and cell.is_integer() else cell).strip() for cell in cells]
    codes = {text: datum_code(f"EPSG:{text}" if text.isdigit() else text) for text in set(texts)}
    if plain_name(column) == "datum":  # the date in German, Dutch and the languages of the north
        codes = {text: code if code or _SHIFTED.match(text) else WGS84 for text, code in codes.items()}
    lat, lon = positions.lat_deg.copy(), positions.lon_deg.copy()
    counts = {"datum-converted": 0, "datum-unknown": 0}
    for at, text in enumerate(texts) if set(codes.values()) != {WGS84} else ():
        code = codes[text]
        if code == WGS84 or not (abs(lat[at]) <= 90.0 and abs(lon[at]) <= 180.0):
            continue
        converted = None if code is None else to_wgs84(float(lat[at]), float(lon[at]), code)
        counts["datum-unknown" if converted is None else "datum-converted"] += converted != (lat[at], lon[at])
        lat[at], lon[at] = converted or (lat[at], lon[at])
    shown = ", ".join(repr(text) for text in sorted(codes) if codes[text] != WGS84)[:80]
    details = {
        "datum-converted": f"positions were converted to WGS84 from the datums of the column {column!r} ({shown}).",
        "datum-unknown": (
            f"datums of the column {column!r} ({shown}) are not known; their positions are used as WGS84, and may be "
            "1 km off."
        ),
    }
    notes = [*positions.notes, *((code, count, details[code]) for code, count in counts.items() if count)]
    return replace(positions, lat_deg=lat, lon_deg=lon, notes=notes)


def unread_columns(
    frame: pd.DataFrame,
    taken: Sequence[str],
    options: str = "--lat-column and --lon-column, or points with --position-column",
) -> str:
    """Return a sentence on columns that may state positions and were not read; empty without any.

    Args:
        frame: The table.
        taken: Columns that have a role.
        options: The options that name columns.
    """
    names = position_like([str(column) for column in frame.columns if column not in taken])
    if not names:
        return ""
    shown_names = ", ".join(map(repr, names[:8])) + (", ..." if len(names) > 8 else "")
    doubt = "; x and y may be pixels or metres" if {"x", "y"} & {name.casefold() for name in names} else ""
    return f" Not read as positions: {shown_names}{doubt}. If they are degrees, name them with {options}."


def _merged(sources: Sequence[TablePositions]) -> TablePositions:
    """Fill the empty rows of the first source from the next, and note where two are apart."""
    first = sources[0]
    lat, lon, stated, problems = first.lat_deg.copy(), first.lon_deg.copy(), first.stated.copy(), dict(first.problems)
    notes = [*first.notes]
    for source in sources[1:]:
        name = " and ".join(repr(column) for column in source.columns.values())
        before = " and ".join(repr(column) for column in first.columns.values())
        filled = ~stated & source.stated
        both = valid_positions(lat, lon) & valid_positions(source.lat_deg, source.lon_deg)
        apart_m = np.zeros(len(lat))
        apart_m[both] = haversine_m(lat[both], lon[both], source.lat_deg[both], source.lon_deg[both])
        if (count := int((apart_m > DISAGREE_M).sum())) > 0:
            detail = f"{name} is up to {apart_m.max():,.0f} m from {before}; {before} was used."
            notes.append(("positions-disagree", count, detail))
        if filled.any():
            lat[filled], lon[filled], stated[filled] = source.lat_deg[filled], source.lon_deg[filled], True
            problems.update({at: problem for at, problem in source.problems.items() if filled[at]})
            notes.append(("position-filled", int(filled.sum()), f"{before} is empty; the position is that of {name}."))
    return replace(first, lat_deg=lat, lon_deg=lon, stated=stated, problems=problems, notes=notes)
