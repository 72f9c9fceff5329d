"""Conversion of values as written to typed rows; invalid rows are rejected, invalid optional values discarded."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from swclip.geo.distance import haversine_m
from swclip.ingest.file_names import cell_problem, empty_cell, file_of_name, name_in_cell, stated_name, utf8_problem
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

_NO_FIX_DEG = 1e-6  # a tenth of a metre around (0, 0)


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
    cells = {role: table.values(role) for role in ("lat", "lon", "accuracy", "heading", "time", "map")}
    check_not_swapped(table, cells["lat"], cells["lon"])
    for number, detail in table.malformed:
        ledger.reject(Rejection(number, "", "malformed-row", detail))
    for rejection in table.rejected:
        ledger.reject(rejection)
    rows: list[Row] = []
    for index, (number, image) in enumerate(zip(table.rows, images, strict=True)):
        row, problem = _row(table, index, number, image)
        invalid = problem or _set_position(table, row, cells["lat"], cells["lon"])
        if invalid is not None:
            ledger.reject(invalid)
            continue
        _set_optional_values(table, row, cells, ledger)
        rows.append(row)
    return rows


def position_rejection(row: Row, column: str | None = None) -> Rejection | None:
    """Return the rejection of a row with an invalid position, or None."""
    lat, lon = row.lat_deg, row.lon_deg
    if lat is None or lon is None:
        return Rejection(
            row.row, row.image, "coordinate-missing", "neither the table nor EXIF states a position.", column
        )
    if not (math.isfinite(lat) and math.isfinite(lon)):
        detail = "latitude or longitude is NaN (not a number), and EXIF states no position."
        return Rejection(row.row, row.image, "coordinate-nan", detail, column, lat)
    if abs(lat) > 90.0 or abs(lon) > 180.0:
        problem = (
            f"latitude {lat} is not within -90 to 90"
            if abs(lat) > 90.0
            else f"longitude {lon} is not within -180 to 180"
        )
        swap = "; the two look swapped in this row" if abs(lon) <= 90.0 < abs(lat) <= 180.0 else ""
        value = lat if abs(lat) > 90.0 else lon
        return Rejection(row.row, row.image, "coordinate-out-of-range", problem + swap + ".", column, value)
    if abs(lat) < _NO_FIX_DEG and abs(lon) < _NO_FIX_DEG:
        detail = "(0, 0) is in the Atlantic; devices write it when they have no position."
        return Rejection(row.row, row.image, "coordinate-zero", detail, column, lat)
    return None


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


def _set_position(table: SourceTable, row: Row, lats: list[Any] | None, lons: list[Any] | None) -> Rejection | None:
    if lats is None or lons is None:
        return None
    numbers: list[float | None] = []
    for role, name, value in (("lat", "latitude", lats[row.index]), ("lon", "longitude", lons[row.index])):
        try:
            numbers.append(parse_number(value))
        except ValueError:
            detail = f"the {name} {shown(value)} is not a number of decimal degrees."
            return Rejection(row.row, row.image, "coordinate-nan", detail, table.columns[role], value)
    if any(number is None or math.isnan(number) for number in numbers):
        row.lat_deg, row.lon_deg = (math.nan if number is not None else None for number in numbers)
        return None  # EXIF may state the position; `position_rejection` is called again after reading it
    row.lat_deg, row.lon_deg = numbers
    blame_lat = abs(row.lat_deg or 0.0) > 90.0 or abs(row.lon_deg or 0.0) <= 180.0
    return position_rejection(row, table.columns["lat" if blame_lat else "lon"])


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


SAME_PLACE_M = 25.0
"""Positions of byte-identical photographs that are further apart contradict each other."""


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
            if away_m[far] > SAME_PLACE_M:
                twin = group[far] if position == 0 else group[0]
                apart_m = float(away_m[far] if position == 0 else away_m[position])
                where = f"{apart_m:.0f} m away" if apart_m > SAME_PLACE_M else "and others farther away"
                detail = f"the same bytes as row {twin.row} ({twin.image}), {where}; the correct position is unknown."
                rejected[row.index] = Rejection(row.row, row.image, "duplicate-image-other-place", detail)
            elif position > 0:
                detail = f"the same bytes as row {group[0].row} ({group[0].image}) at the same place."
                rejected[row.index] = Rejection(row.row, row.image, "duplicate-image", detail)
    for index in sorted(rejected):
        ledger.reject(rejected[index])
    return [row for row in rows if row.index not in rejected]
