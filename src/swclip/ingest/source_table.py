"""The shape that every source comes to: a row a photograph, with the values as they were written."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from swclip.errors import InputError
from swclip.ingest.columns import flag_of
from swclip.ingest.rejections import Rejection

KINDS = "a folder, or a .csv, .tsv, .parquet, .geoparquet or .geojson file"


@dataclass(frozen=True)
class RawTable:
    """A table as it is written, before anybody asks what its columns mean.

    Attributes:
        name: The path as given, for messages.
        kind: What was read.
        frame: The columns; those of text tables hold text alone.
        rows: What each row is called: a spreadsheet's row for text tables (the header is row 1), else counted from 1.
        lat_lon: Latitude and longitude of each row's geometry, None where it has none; None where the table has no
            geometry at all.
        malformed: (row, detail) of lines that are not rows of this table.
        notes: (code, count, detail) of what was done that a reader might not expect.
    """

    name: str
    kind: Literal["text", "parquet", "geojson"]
    frame: pd.DataFrame
    rows: list[int]
    lat_lon: list[tuple[Any, Any]] | None = None
    malformed: list[tuple[int, str]] = field(default_factory=list)
    notes: list[tuple[str, int, str]] = field(default_factory=list)


@dataclass(frozen=True)
class SourceTable:
    """What a source holds, not yet judged.

    Attributes:
        name: The path as given, for messages.
        kind: Where the rows come from.
        folder: What relative image paths start from.
        frame: The source's own columns with values as written (text tables: all text).
        rows: What each row is called in the source: a spreadsheet's row for text tables (the header is row 1), else
            counted from 1.
        columns: {role: column of `frame`} for the roles found; see `columns.ROLES`.
        geometry: Latitude and longitude come from a geometry column and not from named columns.
        malformed: (row, detail) of lines that are not rows of this table.
        notes: (code, count, detail) of what was done that a reader might not expect.
        rejected: Rows that the reader itself had to leave out.
    """

    name: str
    kind: Literal["folder", "text", "parquet", "geojson"]
    folder: Path
    frame: pd.DataFrame
    rows: list[int]
    columns: dict[str, str]
    geometry: bool = False
    malformed: list[tuple[int, str]] = field(default_factory=list)
    notes: list[tuple[str, int, str]] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)

    def values(self, role: str) -> list[Any] | None:
        """The values of a role as written, or None where the source has no such column."""
        column = self.columns.get(role)
        return None if column is None else self.frame[column].tolist()


def need_columns(columns: dict[str, str], header: list[str], path: Path) -> None:
    """Raise where there is no column of images, or latitude without longitude."""
    if "image" not in columns:
        if header and all(_is_number(name) for name in header[1:]) and len(header) > 1:
            raise InputError(f"{path}: the first line looks like data; add a header line, for example image,lat,lon.")
        raise InputError(
            f"{path}: no column of image paths was found among {', '.join(map(repr, header[:20]))}; "
            f"name it with {flag_of('image')}."
        )
    for one, other in (("lat", "lon"), ("lon", "lat")):
        if one in columns and other not in columns:
            raise InputError(
                f"{path}: there is a column {columns[one]!r} for {one} but none for {other} among "
                f"{', '.join(map(repr, header[:20]))}; name it with {flag_of(other)}."
            )


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def first_line(error: BaseException) -> str:
    """The first line of an error's message: the others are for programmers."""
    return (str(error).splitlines() or [type(error).__name__])[0]
