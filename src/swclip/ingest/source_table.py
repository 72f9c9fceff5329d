"""The common form of every source: one row per photograph, with the values as written."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from swclip.errors import InputError
from swclip.ingest.columns import flag_of
from swclip.ingest.geometry import Points
from swclip.ingest.position_columns import TablePositions
from swclip.ingest.rejections import Rejection

KINDS = "a folder, or a .csv, .tsv, .parquet, .geoparquet, .geojson, .gpkg or .shp file"


@dataclass(frozen=True)
class RawTable:
    """A table as written, before its columns are identified.

    Attributes:
        name: Path of the file, for messages.
        kind: Format of the file.
        frame: The columns; all text for text tables.
        rows: Number of each row in messages: the spreadsheet row for text tables (the header is row 1), else counted
            from 1.
        points: The points of the file's geometry; None if it has none.
        malformed: (row, detail) of lines that are not valid rows.
        notes: (code, count, detail) of remarks for the user.
    """

    name: str
    kind: Literal["text", "parquet", "geojson", "vector"]
    frame: pd.DataFrame
    rows: list[int]
    points: Points | None = None
    malformed: list[tuple[int, str]] = field(default_factory=list)
    notes: list[tuple[str, int, str]] = field(default_factory=list)


@dataclass(frozen=True)
class SourceTable:
    """The rows of a source, not yet validated.

    Attributes:
        name: Path of the source, for messages.
        kind: Kind of the source.
        folder: Base folder of relative image paths.
        frame: The columns of the source with values as written (text tables: all text).
        rows: Number of each row in messages: the spreadsheet row for text tables (the header is row 1), else counted
            from 1.
        columns: {role: column of `frame`} for the roles that have a column; see `columns.ROLES`.
        positions: The positions of the rows; None if the source states none.
        unread: Where the source states no positions: a sentence on columns that may, for messages.
        malformed: (row, detail) of lines that are not valid rows.
        notes: (code, count, detail) of remarks for the user.
        rejected: Rows that the reader rejected.
        parts: (number before its first row, name) of each file that the rows are of, where they are of several; see
            `place_of_row`.
    """

    name: str
    kind: Literal["folder", "text", "parquet", "geojson", "vector", "layout"]
    folder: Path
    frame: pd.DataFrame
    rows: list[int]
    columns: dict[str, str]
    positions: TablePositions | None = None
    unread: str = ""
    malformed: list[tuple[int, str]] = field(default_factory=list)
    notes: list[tuple[str, int, str]] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    parts: list[tuple[int, str]] = field(default_factory=list)

    def place_of_row(self, row: int) -> str:
        """Return where a row is, for messages: its file and its number there where the rows are of several files."""
        if not self.parts:
            return f"row {row}"
        offset, name = self.parts[bisect.bisect_left(self.parts, (row, "")) - 1]
        return f"{name}, row {row - offset}"

    def values(self, role: str) -> list[Any] | None:
        """Return the values of a role as written, or None if the source has no such column."""
        column = self.columns.get(role)
        return None if column is None else self.frame[column].tolist()


def check_required_columns(columns: dict[str, str], header: list[str], path: Path) -> None:
    """Raise InputError unless there is an image column."""
    if "image" not in columns:
        if header and all(is_number(name) for name in header[1:]) and len(header) > 1:
            raise InputError(f"{path}: the first line looks like data; add a header line, for example image,lat,lon.")
        raise InputError(
            f"{path}: no column of image paths was found among {', '.join(map(repr, header[:20]))}; "
            f"name it with {flag_of('image')}."
        )


def check_both_coordinates(columns: dict[str, str], header: list[str], table: str) -> None:
    """Raise InputError if of latitude and longitude only one has a column."""
    for present, absent in (("lat", "lon"), ("lon", "lat")):
        if present in columns and absent not in columns:
            raise InputError(
                f"{table}: there is a column {columns[present]!r} for {present} but none for {absent} among "
                f"{', '.join(map(repr, header[:20]))}; name it with {flag_of(absent)}."
            )


def is_number(text: str) -> bool:
    """Whether a field is a finite number, so that it is no name of a column."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
