"""Lists of photographs' names: as bytes of a file, as columns of tables, and their digest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from swclip.errors import InputError


def digest_of_names(names: Sequence[str]) -> str:
    """SHA-256 of names in their order."""
    hashed = hashlib.sha256()
    for name in names:
        hashed.update(os.fsencode(name) + b"\0")
    return hashed.hexdigest()


def join_names(names: Sequence[str]) -> bytes:
    """Names as a file: one a line, or each with a zero byte after it where one of them has a line end within."""
    end = b"\0" if any("\n" in name or "\r" in name for name in names) else b"\n"
    return b"".join(os.fsencode(name) + end for name in names)


def split_names(data: bytes) -> list[str]:
    """Names from a file, as `join_names` writes them or `find -print0` does; empty lines are no names.

    Example:
        >>> split_names(b"a.jpg\\nb.jpg\\n"), split_names(b"a\\n1.jpg\\0b.jpg\\0")
        (['a.jpg', 'b.jpg'], ['a\\n1.jpg', 'b.jpg'])
    """
    names = data.split(b"\0") if b"\0" in data else data.replace(b"\r\n", b"\n").split(b"\n")
    return [os.fsdecode(name) for name in names if name]


def read_name_list(path: Path, column: str | None = None) -> list[str]:
    """Names of photographs in a file.

    Args:
        path: A table (CSV, TSV, Parquet, GeoParquet, GeoJSON; a manifest is one), or else a name a line. Relative names
            start from the table's folder, as a manifest has it; those of lines from where the process runs, as `find`
            and `ls` write them.
        column: The column of a table; None to find it by its name.

    Raises:
        InputError: It is missing, empty or unreadable, or the column is not clear or has rows without a name.
    """
    from swclip.ingest.raw_tables import GEOJSON, PARQUET, TEXT_TABLES

    if path.suffix.lower() in (*GEOJSON, *PARQUET, *TEXT_TABLES[:3]):
        return _of_table(path, column)
    if column is not None:
        raise InputError(f"{path}: is read as a name a line, and --list-column {column} asks for a table (.csv, ...).")
    try:
        names = split_names(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: the list cannot be read ({error.strerror}); check the path.") from error
    if not names:
        raise InputError(f"{path}: the list names no photographs.")
    return names


def _of_table(path: Path, column: str | None) -> list[str]:
    from swclip.ingest.columns import SYNONYMS, listed, match_columns
    from swclip.ingest.raw_tables import read_table

    table = read_table(path, "the list of photographs")
    if table.malformed:
        row, detail = table.malformed[0]
        raise InputError(f"{path}, row {row}: {detail}; mend it ({len(table.malformed)} such rows).")
    header = [str(name) for name in table.frame.columns]
    found = match_columns(
        header, {"image": SYNONYMS["image"]}, {"image": column}, str(path), lambda role: "--list-column"
    )
    if "image" not in found:
        raise InputError(f"{path}: no column of photographs was found among {listed(header)}; name it: --list-column.")
    folder, names = "" if path.parent == Path() else str(path.parent), list[str]()
    for row, value in zip(table.rows, table.frame[found["image"]].tolist(), strict=True):
        if not isinstance(value, str) or not value.strip():
            raise InputError(f"{path}, row {row}, column {found['image']!r}: names no photograph ({value!r}).")
        names.append(os.path.join(folder, value))
    return names
