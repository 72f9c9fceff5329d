"""Reading a source of photographs: a folder, or a table in one of several formats."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from swclip.errors import InputError
from swclip.ingest.columns import ColumnNames
from swclip.ingest.folders import PHOTOGRAPH_SUFFIXES, LeftOut, files_below
from swclip.ingest.source_table import KINDS, RawTable, SourceTable
from swclip.ingest.tables import (
    raw_geojson,
    raw_parquet,
    raw_text,
    raw_vector,
    read_geojson,
    read_parquet,
    read_text,
    read_vector,
)

_OUTPUT_NAMES = ("manifest.parquet", "rejected.csv")  # of an earlier run with the source as output folder


def read_source(
    source: str | os.PathLike[str],
    column_names: ColumnNames | None = None,
    *,
    images: str | os.PathLike[str] | None = None,
    excluded: Path | None = None,
) -> SourceTable:
    """Read a folder or a table of photographs.

    Args:
        source: A folder, or a CSV, TSV, Parquet, GeoParquet, GeoJSON, GeoPackage or Shapefile.
        column_names: Columns named by the user.
        images: Base folder of relative image paths; the folder of the table if None.
        excluded: A folder inside `source` that is not searched, such as the output folder.

    Raises:
        InputError: The source is missing, empty, unreadable or of an unknown format, or a column cannot be found.
    """
    path = Path(source)
    column_names = column_names or ColumnNames()
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder; SOURCE is {KINDS}.")
    if path.is_dir():
        return _read_folder(path, excluded)
    suffix = path.suffix.lower()
    folder = Path(images) if images is not None else path.parent
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder of images.")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty.")
    readers: list[tuple[tuple[str, ...], Callable[[Path, Path, ColumnNames], SourceTable]]] = [
        (TEXT_TABLES, read_text),
        (PARQUET, read_parquet),
        (GEOJSON, read_geojson),
        (VECTOR, read_vector),
    ]
    for suffixes, reader in readers:
        if suffix in suffixes:
            table = reader(path, folder, column_names)
            if not len(table.frame) and not table.malformed:
                raise InputError(f"{path}: the table has a header but no rows.")
            return table
    kind = (
        "a single photograph; give its folder"
        if suffix in PHOTOGRAPH_SUFFIXES
        else f"of a kind ({suffix or 'no suffix'})"
    )
    more = "" if suffix in PHOTOGRAPH_SUFFIXES else f" that cannot be read; SOURCE is {KINDS}"
    raise InputError(f"{path}: is {kind}{more}.")


def _read_folder(folder: Path, excluded: Path | None) -> SourceTable:
    left_out = LeftOut()
    names = [Path(name).as_posix() for name in files_below(folder, left_out, excluded)]
    images = [name for name in names if Path(name).suffix.lower() in PHOTOGRAPH_SUFFIXES]
    sidecars = {f"{stem}.xmp".lower() for name in images for stem in (name, os.path.splitext(name)[0])}
    skipped: Counter[str] = Counter()
    for name in names:
        suffix = Path(name).suffix.lower()
        if suffix not in PHOTOGRAPH_SUFFIXES and name not in _OUTPUT_NAMES and name.lower() not in sidecars:
            skipped[suffix or "no suffix"] += 1
    tables = tables_in(folder)
    hint = f" It holds the table {tables[0]}: give that file instead." if tables else ""
    if not images:
        raise InputError(f"{folder}: holds no photographs ({', '.join(sorted(PHOTOGRAPH_SUFFIXES))}).{hint}")
    notes = []
    if skipped:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(skipped.items()))
        notes.append(("file-not-looked-at", sum(skipped.values()), f"files without an image's suffix: {kinds}.{hint}"))
    notes.extend(left_out.notes())
    frame = pd.DataFrame({"image": pd.Series(images, dtype=object)})
    return SourceTable(
        str(folder), "folder", folder, frame, list(range(1, len(images) + 1)), {"image": "image"}, notes=notes
    )


def tables_in(folder: Path) -> list[str]:
    """Return the names of files directly in a folder that may be the table of its photographs."""
    suffixes = (*TEXT_TABLES[:2], *PARQUET, ".geojson", *VECTOR)
    return sorted(p.name for p in folder.iterdir() if p.suffix.lower() in suffixes and p.name not in _OUTPUT_NAMES)


TABLE_KINDS = "a .csv, .tsv, .parquet, .geoparquet, .geojson, .gpkg or .shp file"
TEXT_TABLES = (".csv", ".tsv", ".tab", ".txt")
PARQUET = (".parquet", ".geoparquet", ".pq")
GEOJSON = (".geojson", ".json")
VECTOR = (".gpkg", ".shp")


def read_table(path: str | os.PathLike[str], name: str = "the table", kinds: str = TABLE_KINDS) -> RawTable:
    """Read a CSV, TSV, Parquet, GeoParquet, GeoJSON, GeoPackage or Shapefile.

    Args:
        path: The file.
        name: Name of the table in messages.
        kinds: Supported formats, for messages.

    Raises:
        InputError: The file is missing, empty, unreadable, of an unknown format, or has no rows.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{file}: {name} does not exist; check the path. It is {kinds}.")
    if file.stat().st_size == 0:
        raise InputError(f"{file}: the file is empty.")
    suffix = file.suffix.lower()
    for suffixes, reader in (
        (TEXT_TABLES, raw_text),
        (PARQUET, raw_parquet),
        (GEOJSON, raw_geojson),
        (VECTOR, raw_vector),
    ):
        if suffix in suffixes:
            table = reader(file)
            if not len(table.frame) and not table.malformed:
                raise InputError(f"{file}: the table has a header but no rows.")
            return table
    raise InputError(f"{file}: is of a kind ({suffix or 'no suffix'}) that cannot be read; {name} is {kinds}.")
