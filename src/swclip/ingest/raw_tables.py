"""Reading a table of any kind as it is written, before anybody asks what its columns mean."""

from __future__ import annotations

import os
from pathlib import Path

from swclip.ingest.geo_tables import raw_geojson, raw_parquet
from swclip.ingest.source_table import RawTable
from swclip.ingest.text_tables import raw_text
from swclip.errors import InputError

TABLE_KINDS = "a .csv, .tsv, .parquet, .geoparquet or .geojson file"
TEXT_TABLES = (".csv", ".tsv", ".tab", ".txt")
PARQUET = (".parquet", ".geoparquet", ".pq")
GEOJSON = (".geojson", ".json")


def read_table(path: str | os.PathLike[str], what: str = "the table", kinds: str = TABLE_KINDS) -> RawTable:
    """Read a CSV, TSV, Parquet, GeoParquet or GeoJSON file.

    Args:
        path: The file.
        what: What it is to a user, for messages.
        kinds: What it may be, for messages.

    Raises:
        InputError: It is missing, empty, unreadable, of another kind, or has no rows.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{file}: {what} is not there; check the path. It is {kinds}.")
    if file.stat().st_size == 0:
        raise InputError(f"{file}: the file is empty.")
    suffix = file.suffix.lower()
    for suffixes, reader in ((TEXT_TABLES, raw_text), (PARQUET, raw_parquet), (GEOJSON, raw_geojson)):
        if suffix in suffixes:
            table = reader(file)
            if not len(table.frame) and not table.malformed:
                raise InputError(f"{file}: the table has a header but no rows.")
            return table
    raise InputError(f"{file}: is of a kind ({suffix or 'no suffix'}) that cannot be read; {what} is {kinds}.")
