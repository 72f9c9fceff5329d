"""Answers as GeoParquet for geopandas, QGIS and DuckDB: one row per photograph, written in row groups."""

from __future__ import annotations

import json
import struct
import types
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, Protocol, Union, get_args, get_origin

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from swclip.answers.formats import Format, TextForm, TextWriter, text_form, text_writer
from swclip.answers.record import ANSWER_VERSION, Answer

ROWS = 8192
"""Rows per row group, which is kept in memory."""

_PLAIN = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
_REGION = (
    ("region_probability", pa.float64()),
    ("region_area_km2", pa.float64()),
    ("region_cannot_tell", pa.bool_()),
    ("region_calibrated", pa.bool_()),
)
_CELL_SUFFIXES = ("", "_lat_deg", "_lon_deg", "_probability", "_point", "_point_probability")
_TEXT_CELL_SUFFIXES = ("", "_point")


def answers_table_schema(resolutions: Sequence[int] = ()) -> pa.Schema:
    """The columns: the values of an answer, its cells and region flat, and its point.

    Args:
        resolutions: H3 resolutions of the cells in the answers.
    """
    from pyproj import CRS

    columns: list[tuple[str, Any]] = []
    for name, field in Answer.model_fields.items():
        if name == "schema_version":
            continue
        if name == "cells":
            for resolution in resolutions:
                columns += [
                    (f"cell_{resolution}{end}", pa.string() if end in _TEXT_CELL_SUFFIXES else pa.float64())
                    for end in _CELL_SUFFIXES
                ]
        elif name == "region":
            columns += [*_REGION, ("region_cells", pa.list_(pa.string())), ("region_reason", pa.string())]
        else:
            columns.append((name, _arrow(field.annotation)))
    crs = CRS.from_epsg(4326).to_json_dict()
    geometry = {"encoding": "WKB", "geometry_types": ["Point"], "crs": crs}
    geo = {"version": "1.0.0", "primary_column": "geometry", "columns": {"geometry": geometry}}
    metadata = {"geo": json.dumps(geo), "swclip.answers": json.dumps({"schema_version": ANSWER_VERSION})}
    return pa.schema([*columns, ("geometry", pa.binary())], metadata=metadata)


class TableWriter:
    """Writes answers to a GeoParquet file as they come.

    Args:
        path: The file.
        resolutions: H3 resolutions of the cells in the answers.
    """

    def __init__(self, path: Path, resolutions: Sequence[int] = ()) -> None:
        self._schema = answers_table_schema(resolutions)
        self._file = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def write(self, answers: Sequence[Answer]) -> None:
        """Write further answers."""
        for answer in answers:
            self._rows.append({**answer.columns(), "geometry": _wkb_point(answer.lon_deg, answer.lat_deg)})
            if len(self._rows) == ROWS:
                self._write_group()

    def close(self) -> None:
        """Write the remaining rows and the footer."""
        if self._rows:
            self._write_group()
        self._file.close()

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(self, *failed: object) -> None:
        self.close()

    def _write_group(self) -> None:
        self._file.write_table(pa.Table.from_pylist(self._rows, schema=self._schema), row_group_size=ROWS)
        self._rows = []


def _wkb_point(lon: float | None, lat: float | None) -> bytes | None:
    if lon is None or lat is None:
        return None
    return struct.pack("<BIdd", 1, 1, lon, lat)


def _arrow(annotation: Any) -> pa.DataType:
    """The column type of a field of the record; every column may hold nulls."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated or origin is tuple:
        return pa.list_(_arrow(arguments[0])) if origin is tuple else _arrow(arguments[0])
    if origin in (Union, types.UnionType):
        (kind,) = (argument for argument in arguments if argument is not types.NoneType)
        return _arrow(kind)
    if issubclass(annotation, BaseModel):
        return pa.struct([(name, _arrow(field.annotation)) for name, field in annotation.model_fields.items()])
    return _PLAIN[annotation]


class AnswerWriter(Protocol):
    """Writes answers in the order of the photographs."""

    def write(self, answers: Sequence[Answer]) -> None: ...


@contextmanager
def answer_file(path: Path, format: Format, resolutions: Sequence[int] = ()) -> Iterator[AnswerWriter]:
    """Open a file for answers; an existing file is overwritten.

    Args:
        path: The file.
        format: Its format.
        resolutions: H3 resolutions of the cells in the answers.

    Example:
        ```python
        with answer_file(Path("answers.parquet"), "parquet", [6, 8, 10]) as file:
            file.write(locator.locate(photographs))
        ```
    """
    if format != "parquet":
        with text_file(path, text_form(format, resolutions)) as text:
            yield text
        return
    with TableWriter(path, resolutions) as table:
        yield table


@contextmanager
def text_file(path: Path, form: TextForm) -> Iterator[TextWriter]:
    """Open a text file for answers, in UTF-8 and with the line ends of the form on every system."""
    with ExitStack() as stack:
        stream = stack.enter_context(path.open("w", encoding="utf-8", newline=""))
        yield stack.enter_context(text_writer(form, stream.write))
