"""Readers of tables: delimited text in the encodings of spreadsheets, (Geo)Parquet, GeoJSON, GeoPackage, Shapefile."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from swclip.errors import InputError, first_line
from swclip.files import unguarded_cell
from swclip.geo.areas import crs_name
from swclip.ingest.columns import ROLES, ColumnNames, drop_implausible_roles, find_columns, flag_of
from swclip.ingest.file_names import utf_16_of
from swclip.ingest.geometry import Points, convert_points, point_of_geojson, points_of_shapes
from swclip.ingest.positions import read_positions, unread_columns
from swclip.ingest.source_table import (
    KINDS,
    RawTable,
    SourceTable,
    check_both_coordinates,
    check_required_columns,
    is_number,
)

_HEADER_CHARACTERS = 65_536


def read_parquet(path: Path, folder: Path, column_names: ColumnNames) -> SourceTable:
    """Read a Parquet or GeoParquet table of photographs, in any projection."""
    return source_table(raw_parquet(path), folder, column_names)


def raw_parquet(path: Path) -> RawTable:
    """Read any Parquet or GeoParquet table, in any projection."""
    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet, it may be cut short ({first_line(error)}).") from error
    metadata = table.schema.metadata or {}
    points = None
    if b"geo" in metadata:
        points, geometry = _geo_positions(path)
        table = table.drop_columns([name for name in geometry if name in table.column_names])
    frame = table.replace_schema_metadata(None).to_pandas()
    # pandas would convert missing integers to NaN and text to its string type: keep the values of the file.
    for name in table.column_names:
        kind = table.schema.field(name).type
        if pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
            frame[name] = pd.Series(table[name].to_pylist(), dtype=object)
    return _raw(path, "parquet", frame, points)


def _geo_positions(path: Path) -> tuple[Points, list[str]]:
    """Return the points, and the names of the geometry columns."""
    import geopandas

    try:
        frame = geopandas.read_parquet(path)
        names = [str(name) for name in frame.columns if isinstance(frame[name], geopandas.GeoSeries)]
        points = points_of_shapes(frame.geometry.to_numpy())
        if frame.crs is not None:
            convert_points(points, np.flatnonzero(points.stated), frame.crs)
    except Exception as error:  # geopandas passes on errors of pyarrow, shapely and pyproj
        raise InputError(f"{path}: its geometry cannot be read ({first_line(error)}).") from error
    return points, names


def read_geojson(path: Path, folder: Path, column_names: ColumnNames) -> SourceTable:
    """Read a GeoJSON FeatureCollection of photographs as points."""
    return source_table(raw_geojson(path), folder, column_names)


def raw_geojson(path: Path) -> RawTable:
    """Read any GeoJSON FeatureCollection of points."""
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
        features = document["features"] if isinstance(document, dict) else None
    except (ValueError, KeyError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as GeoJSON ({first_line(error)}).") from error
    if not isinstance(features, list) or not all(isinstance(feature, dict) for feature in features):
        raise InputError(f"{path}: is not a GeoJSON FeatureCollection; SOURCE is {KINDS}.")
    crs = crs_name(document)
    if crs and not crs.upper().endswith(("CRS84", "EPSG::4326", "EPSG:4326")):
        raise InputError(f"{path}: its coordinates are in {crs}; save it as WGS84 (EPSG:4326), as GeoJSON requires.")
    frame = pd.DataFrame([feature.get("properties") or {} for feature in features], dtype=object)
    frame = (
        frame.astype(object).where(frame.notna(), None)
        if len(frame.columns)
        else pd.DataFrame(index=range(len(features)))
    )
    ids = [feature.get("id") for feature in features]
    if any(value is not None for value in ids):
        # RFC 7946, section 3.2: a feature's identifier is beside its properties. Running numbers identify nothing.
        running = any([str(value) for value in ids] == [*map(str, range(k, k + len(ids)))] for k in (0, 1))
        frame["feature_number" if running else "feature_id"] = pd.Series(ids, dtype=object)
    return _raw(path, "geojson", frame, _geojson_points([feature.get("geometry") for feature in features]))


def _geojson_points(geometries: list[Any]) -> Points:
    points = Points(np.full(len(geometries), np.nan), np.full(len(geometries), np.nan))
    for at, geometry in enumerate(geometries):
        point = point_of_geojson(geometry)
        if isinstance(point, str):
            points.problems[at] = point
        elif point is not None:
            try:
                points.lat_deg[at], points.lon_deg[at] = map(float, point)
            except (TypeError, ValueError, OverflowError):
                points.problems[at] = f"its coordinates are not numbers ({str(point)[:60]})"
    return points


def _raw(
    path: Path, kind: Literal["parquet", "geojson", "vector"], frame: pd.DataFrame, points: Points | None
) -> RawTable:
    frame.columns = pd.Index([str(name) for name in frame.columns], dtype=object)
    return RawTable(str(path), kind, frame, list(range(1, len(frame) + 1)), points)


def read_text(path: Path, folder: Path, column_names: ColumnNames) -> SourceTable:
    """Read a text table of photographs; all values are text."""
    return source_table(raw_text(path), folder, column_names)


def read_vector(path: Path, folder: Path, column_names: ColumnNames) -> SourceTable:
    """Read points with attributes in a GeoPackage or Shapefile, in any projection."""
    return source_table(raw_vector(path), folder, column_names)


def raw_vector(path: Path) -> RawTable:
    """Read the layer of points of a GeoPackage or Shapefile, in any projection.

    Raises:
        InputError: The file cannot be read, or has several layers of points or none.
    """
    import geopandas
    import pyogrio

    try:
        layers = [(str(name), str(kind or "")) for name, kind in pyogrio.list_layers(path)]
        points = [name for name, kind in layers if "Point" in kind or kind in ("", "Unknown")]
        if len(points) == 1:
            frame = geopandas.read_file(path, layer=points[0])
    except Exception as error:  # geopandas passes on errors of pyogrio, shapely and pyproj
        raise InputError(f"{path}: cannot be read as points ({first_line(error)}).") from error
    if len(points) != 1:
        listed_layers = ", ".join(f"{name} ({kind or 'no geometry'})" for name, kind in layers)
        problem = "several layers of points" if points else "no layer of points"
        raise InputError(f"{path}: has {problem}: {listed_layers}; save the photographs as one layer in a file.")
    if not isinstance(frame, geopandas.GeoDataFrame):
        return _raw(path, "vector", frame.astype(object).where(frame.notna(), None), None)
    shapes = points_of_shapes(frame.geometry.to_numpy())
    if frame.crs is not None:
        convert_points(shapes, np.flatnonzero(shapes.stated), frame.crs)
    elif shapes.stated.any():
        raise InputError(
            f"{path}: states no coordinate system (a Shapefile has it in a .prj file beside it); save it with one."
        )
    plain = pd.DataFrame(frame.drop(columns=frame.geometry.name)).astype(object)
    return _raw(path, "vector", plain.where(plain.notna(), None), shapes)


def source_table(raw: RawTable, folder: Path, column_names: ColumnNames) -> SourceTable:
    """Find the columns of a table of photographs, and read its positions."""
    header = [str(name) for name in raw.frame.columns]
    columns = find_columns(header, column_names, raw.name)
    check_required_columns(columns, header, Path(raw.name))
    named = {role: getattr(column_names, role) for role in ROLES}
    positions = read_positions(
        raw.frame, columns, named, table=raw.name, flag=flag_of, points=raw.points, taken=[*columns.values()]
    )
    unread = ""
    if positions is not None:
        columns.update(
            {role: name for role, name in positions.columns.items() if role != "position" and name in header}
        )
    else:
        check_both_coordinates(columns, header, raw.name)
        unread = unread_columns(raw.frame, [*columns.values()])
    notes = raw.notes + drop_implausible_roles(columns, raw.frame, column_names)
    notes += [] if positions is None else positions.notes
    return SourceTable(
        raw.name,
        raw.kind,
        folder,
        raw.frame,
        raw.rows,
        columns,
        positions,
        unread,
        malformed=raw.malformed,
        notes=notes,
    )


def raw_text(path: Path) -> RawTable:
    """Read any text table; all values are text.

    Before the header there can be a line `sep=;`, as spreadsheets write it, and lines that begin with #. Empty fields
    at the ends of lines are dropped where the header has none. The apostrophe that `files.guarded_cell` puts before
    text that looks like a formula is removed.
    """
    text, notes = _decoded(path)
    guarded = "'" in text
    stream = io.StringIO(text, newline="")
    lines_before, separator = _skip_to_header(path, stream)
    start = stream.tell()
    separator = separator or _separator(stream.read(_HEADER_CHARACTERS))
    stream.seek(start)
    reader = csv.reader(stream, delimiter=separator)
    header: list[str] = []
    records: list[list[str]] = []
    rows: list[int] = []
    malformed: list[tuple[int, str]] = []
    comments = 0
    try:
        for number, record in enumerate(reader, start=1 + lines_before):
            if not any(cell.strip() for cell in record):
                continue
            if not header:
                header = [cell.strip() for cell in record]
                continue
            if len(record) > len(header) and not any(cell.strip() for cell in record[len(header) :]):
                record = record[: len(header)]
            elif len(record) < len(header) and not any(header[len(record) :]):
                record += [""] * (len(header) - len(record))
            if len(record) == len(header):
                records.append([unguarded_cell(cell) for cell in record] if guarded else record)
                rows.append(number)
            elif record[0].startswith("#"):
                comments += 1
            else:
                malformed.append((number, f"has {len(record)} fields, the header has {len(header)}"))
    except csv.Error as error:
        raise InputError(
            f"{path}, line {lines_before + reader.line_num}: {error}; is a quotation mark not closed?"
        ) from error
    if comments:
        notes.append(("comment-lines", comments, "lines among the rows that begin with # were skipped."))
    frame = pd.DataFrame({i: pd.Series([r[i] for r in records], dtype=object) for i in range(len(header))})
    frame.columns = pd.Index(header, dtype=object)
    return RawTable(str(path), "text", frame, rows, malformed=malformed, notes=notes)


def _decoded(path: Path) -> tuple[str, list[tuple[str, int, str]]]:
    data = path.read_bytes()
    if data[:4] == b"PAR1" or data[:2] in (b"PK", b"\x1f\x8b"):
        raise InputError(f"{path}: is not a text table, despite its name; SOURCE is {KINDS}.")
    if (encoding := utf_16_of(data)) is not None:
        return data.decode(encoding, "replace").removeprefix("\ufeff"), []
    try:
        return data.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        # Windows-1252 decodes any bytes, but names may be wrong.
        note = ("encoding", 1, f"{path.name} is not UTF-8; read as Windows-1252. Save it as UTF-8 if names look wrong.")
        return data.decode("cp1252", errors="replace"), [note]


_DECLARED_SEPARATOR = re.compile(r'"?sep=(?P<separator>[\t,;|])"?,*\s*$', re.I)
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


def _skip_to_header(path: Path, stream: io.StringIO) -> tuple[int, str | None]:
    """Move to the header of a text table, behind a comment mark that it begins with.

    Returns:
        The number of lines before it, and the separator that the file declares, if any.
    """
    separator: str | None = None
    comment: tuple[int, int, str] | None = None
    for number in itertools.count():
        start = stream.tell()
        line = stream.readline()
        if not line:
            break
        if not line.strip():
            continue
        if declared := _DECLARED_SEPARATOR.match(line):
            separator = declared["separator"]
        elif line.startswith("#"):
            comment = number, start, line
        else:
            if comment is not None and _heads(comment[2], line):
                number, start = comment[0], comment[1] + len(comment[2]) - len(comment[2].lstrip("# "))
            stream.seek(start)
            return number, separator
    if comment is None:
        raise InputError(f"{path}: the file contains nothing but blank lines.")
    raise InputError(f"{path}: every line begins with #, which marks comments; remove the mark from the table's lines.")


def _heads(comment: str, line: str) -> bool:
    """Whether a comment is the header of the line after it, as programs for science write it."""
    separator = _separator(line)
    fields = [cell.strip() for cell in next(csv.reader([line], delimiter=separator))]
    return len(comment.split(separator)) == len(fields) > 1 and any(is_number(field) for field in fields)


def _separator(text: str) -> str:
    """Return the separator that is most frequent in the first line, outside quotation marks."""
    unquoted = _QUOTED.sub("", text[:_HEADER_CHARACTERS])
    first = next((line for line in unquoted.splitlines() if line.strip()), "")
    counts = {separator: first.count(separator) for separator in "\t,;|"}
    best = max(counts, key=lambda separator: counts[separator])
    return best if counts[best] else ","
