"""Conversion of values as written to typed rows; invalid rows are rejected, invalid optional values discarded."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from swclip.data.merge import SAME_PHOTOGRAPH_M
from swclip.geo.coordinates import position_problem
from swclip.geo.distance import haversine_m
from swclip.ingest.file_names import cell_problem, empty_cell, file_of_name, name_in_cell, stated_name, utf8_problem
from swclip.ingest.position_columns import TablePositions
from swclip.ingest.rejections import Ledger, Rejection, Row, shown
from swclip.ingest.source_table import SourceTable
from swclip.ingest.swapped_coordinates import check_not_swapped
from swclip.ingest.values import (
    AmbiguousTimestampError,
    TimestampError,
    parse_month,
    parse_number,
    parse_timestamp,
)
from swclip.ingest.verification import Verdict


def typed_rows(table: SourceTable, ledger: Ledger) -> list[Row]:
    """Validate the rows of a source without opening photographs.

    Args:
        table: The source.
        ledger: Collects rejections and notes.

    Returns:
        The valid rows; coordinates are None or NaN if they must come from EXIF.

    Raises:
        InputError: Latitude and longitude are swapped; or, if strict, a row is invalid.
    """
    images = table.values("image") or []
    cells = {role: table.values(role) for role in ("accuracy", "heading", "time", "map")}
    check_not_swapped(table)
    for number, detail in table.malformed:
        ledger.reject(Rejection(number, "", "malformed-row", detail))
    for rejection in table.rejected:
        ledger.reject(rejection)
    rows: list[Row] = []
    for index, (number, image) in enumerate(zip(table.rows, images, strict=True)):
        row, problem = _row(table, index, number, image)
        invalid = problem or _set_position(table, row)
        if invalid is not None:
            ledger.reject(invalid)
            continue
        _set_optional_values(table, row, cells, ledger)
        rows.append(row)
    return rows


def position_rejection(row: Row, positions: TablePositions | None) -> Rejection | None:
    """Return the rejection of a row whose position is missing or invalid, or None."""
    problem = position_problem(row.lat_deg, row.lon_deg)
    if problem is None:
        return None
    column = None if positions is None else positions.column(problem.axis)
    detail = f"{problem.detail}."
    if problem.reason == "coordinate-missing":
        detail = "neither the table nor EXIF states a position."
    elif problem.reason == "coordinate-nan" and (math.isnan(row.lat_deg or 0.0) or math.isnan(row.lon_deg or 0.0)):
        detail = "latitude or longitude is NaN (not a number), and EXIF states no position."
    value = row.lat_deg if problem.axis == "lat" else row.lon_deg
    return Rejection(row.row, row.image, problem.reason, detail, column, value)


def _row(table: SourceTable, index: int, number: int, image: Any) -> tuple[Row, Rejection | None]:
    """Make the row of a photograph, with its rejection if the cell names no file that can be used."""
    name = name_in_cell(image)
    problem = cell_problem(image, "photographs")
    path = Path() if problem is not None else Path(file_of_name(table.folder, name)).absolute()
    problem = problem or utf8_problem(path)
    row = Row(index, number, stated_name(name), path)
    if problem is None:
        return row, None
    column = table.columns["image"] if table.kind != "folder" else None
    return row, Rejection(number, row.image, "missing", problem, column, image)


def _set_position(table: SourceTable, row: Row) -> Rejection | None:
    positions = table.positions
    if positions is None:
        return None
    problem = positions.problems.get(row.index)
    if problem is not None:
        return Rejection(row.row, row.image, problem.reason, f"{problem.detail}.", problem.column, problem.value)
    lat, lon = float(positions.lat_deg[row.index]), float(positions.lon_deg[row.index])
    if math.isnan(lat) or math.isnan(lon):
        row.lat_deg, row.lon_deg = (math.nan, math.nan) if positions.stated[row.index] else (None, None)
        return None  # EXIF may state the position; `position_rejection` is called again after reading it
    row.lat_deg, row.lon_deg = lat, lon
    return position_rejection(row, positions)


def _set_optional_values(table: SourceTable, row: Row, cells: dict[str, list[Any] | None], ledger: Ledger) -> None:
    """Set accuracy, heading, time and map tile of a row; discard invalid values."""
    for role in ("accuracy", "heading"):
        values = cells[role]
        if values is None:
            continue
        value = values[row.index]
        try:
            number = parse_number(value)
        except ValueError:
            ledger.discard_value(
                row, f"{role}-unusable", table.columns[role], value, f"{shown(value)} is not a number."
            )
            continue
        if number is None or math.isnan(number):
            continue
        if role == "accuracy":
            if math.isfinite(number) and number > 0.0:
                row.accuracy_m = number
            else:
                detail = f"an accuracy of {number:g} m is not a positive number of metres."
                ledger.discard_value(row, "accuracy-unusable", table.columns[role], value, detail)
        elif -360.0 <= number <= 360.0:
            row.heading_deg = number % 360.0
        else:
            detail = f"a heading of {number:g} is not within -360 to 360 degrees."
            ledger.discard_value(row, "heading-unusable", table.columns[role], value, detail)
    times = cells["time"]
    if times is not None:
        try:
            row.captured_month = parse_month(times[row.index])
            row.captured_at = parse_timestamp(times[row.index]) if row.captured_month is None else None
        except TimestampError as error:
            code = "time-ambiguous" if isinstance(error, AmbiguousTimestampError) else "time-unreadable"
            ledger.discard_value(row, code, table.columns["time"], times[row.index], str(error))
    maps = cells["map"]
    if maps is not None and not empty_cell(value := maps[row.index]):
        problem = cell_problem(value, "map tiles")
        tile = None if problem is not None else Path(file_of_name(table.folder, name_in_cell(value))).absolute()
        problem = problem or (utf8_problem(tile) if tile is not None else None)
        if problem is None:
            row.map = tile
        else:
            ledger.discard_value(row, "map-missing", table.columns["map"], value, f"{shown(value)}: {problem}")


def drop_duplicate_rows(rows: list[Row], ledger: Ledger) -> list[Row]:
    """Keep the first of the rows with the same image file and position, and reject the others."""
    first_rows: dict[tuple[Path, float | None, float | None], int] = {}
    unique = []
    for row in rows:
        located = not (row.lat_deg is None or row.lon_deg is None or math.isnan(row.lat_deg) or math.isnan(row.lon_deg))
        key = (row.path, row.lat_deg, row.lon_deg) if located else (row.path, None, None)
        if key in first_rows:
            detail = f"the same image at the same position as row {first_rows[key]}."
            ledger.reject(Rejection(row.row, row.image, "duplicate-row", detail))
        else:
            first_rows[key] = row.row
            unique.append(row)
    return unique


def drop_duplicate_images(rows: list[Row], verdicts: dict[Path, Verdict], ledger: Ledger) -> list[Row]:
    """Keep the first of byte-identical photographs at one place; keep none if they are at different places."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(verdicts[row.path].sha256, []).append(row)
    rejected: dict[int, Rejection] = {}
    for group in (group for group in groups.values() if len(group) > 1):
        lat = np.array([row.lat_deg for row in group], dtype=np.float64)
        lon = np.array([row.lon_deg for row in group], dtype=np.float64)
        away_m = haversine_m(lat[0], lon[0], lat, lon)
        far = int(np.argmax(away_m))
        for position, row in enumerate(group):
            if away_m[far] > SAME_PHOTOGRAPH_M:
                twin = group[far] if position == 0 else group[0]
                apart_m = float(away_m[far] if position == 0 else away_m[position])
                where = f"{apart_m:.0f} m away" if apart_m > SAME_PHOTOGRAPH_M else "and others farther away"
                detail = f"the same bytes as row {twin.row} ({twin.image}), {where}; the correct position is unknown."
                rejected[row.index] = Rejection(row.row, row.image, "duplicate-image-other-place", detail)
            elif position > 0:
                detail = f"the same bytes as row {group[0].row} ({group[0].image}) at the same place."
                rejected[row.index] = Rejection(row.row, row.image, "duplicate-image", detail)
    for index in sorted(rejected):
        ledger.reject(rejected[index])
    return [row for row in rows if row.index not in rejected]
