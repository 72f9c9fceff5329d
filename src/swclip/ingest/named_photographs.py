"""The photographs that a person names: files, folders, patterns, lists, and what is written to the standard input."""

from __future__ import annotations

import glob
import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from swclip.errors import InputError

_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".mpo", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif", ".heic", ".heif"}
)
_ENDINGS = ", ".join(sorted(suffix[1:] for suffix in _SUFFIXES))


def named_photographs(arguments: Sequence[str], from_list: Path | None = None, column: str | None = None) -> list[str]:
    """Photographs that arguments and a list name, in their order; folders and patterns opened out in order of name.

    Args:
        arguments: Files as they are, folders, patterns, or `-` for names on the standard input.
        from_list: A list of further ones; see `read_name_list`.
        column: The list's column, where it is a table.

    Raises:
        InputError: Nothing was named, a folder or pattern holds no photographs, or a folder cannot be searched.
    """
    found: list[str] = []
    for argument in arguments:
        if argument == "-":
            found.extend(_standard_input())
        elif argument.startswith("-"):
            raise InputError(
                f"{argument}: there is no such option (see --help); a photograph whose name begins so is ./{argument}."
            )
        else:
            found.extend(photographs_at(argument))
    if from_list is not None:
        found.extend(read_name_list(from_list, column))
    elif column is not None:
        raise InputError(f"--list-column {column} goes with --list FILE, and no list is given.")
    if not found:
        raise InputError(
            "no photographs were named: swclip locate GALLERY PHOTO..., or --list FILE, or - for the standard input"
        )
    return found


def photographs_at(path: str) -> list[str]:
    """The photographs that a file, a folder (searched all the way down) or a pattern stands for, in order of name.

    Raises:
        InputError: The folder or the pattern holds no photographs, or the folder cannot be searched.
    """
    if os.path.isdir(path):
        inside = list(_below(str(Path(path))))
        if not inside:
            raise InputError(f"{path}: the folder holds no photographs (looked for {_ENDINGS}).")
        return inside
    if not os.path.lexists(path) and glob.has_magic(path):
        matches = [name for name in sorted(glob.glob(path, recursive=True)) if os.path.isfile(name)]
        if not matches:
            raise InputError(f"{path}: no file matches this pattern; check the path.")
        return matches
    return [path]


def stated_name(name: str) -> str:
    """A file's name as text that any program can read: bytes of it that are no UTF-8 are written out as `\\xe9`.

    Example:
        >>> stated_name(os.fsdecode(b"caf\\xe9.jpg")), stated_name("café.jpg")
        ('caf\\\\xe9.jpg', 'café.jpg')
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _standard_input() -> list[str]:
    if sys.stdin.isatty():
        raise InputError("- reads names from the standard input, and that is a terminal: pipe them in, as find does.")
    names = split_names(sys.stdin.buffer.read())
    if not names:
        raise InputError("-: the standard input names no photographs.")
    return names


def _below(folder: str) -> Iterator[str]:
    """Photographs in a folder and those within it, without links to folders and names that begin with a dot.

    In the order of `sorted(Path(folder).rglob("*"))`, and in a fraction of its memory.
    """
    try:
        with os.scandir(folder) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{folder}: the folder cannot be searched ({error.strerror}).") from error
    for entry in inside:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _below(entry.path)
        elif os.path.splitext(entry.name)[1].lower() in _SUFFIXES and entry.is_file():
            yield entry.path.removeprefix(f".{os.sep}")


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
    from swclip.ingest.sources import GEOJSON, PARQUET, TEXT_TABLES

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
    from swclip.ingest.sources import read_table

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
