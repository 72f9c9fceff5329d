"""Photographs named on the command line: files, folders, glob patterns, lists and the standard input."""

from __future__ import annotations

import codecs
import glob
import hashlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from swclip.errors import ConfigError, InputError
from swclip.ingest.file_names import cell_problem, file_of_name, utf_16_of
from swclip.ingest.folders import PHOTOGRAPH_SUFFIXES, LeftOut, files_below
from swclip.ingest.rejections import shown

_LOG = logging.getLogger(__name__)
_ENDINGS = ", ".join(sorted(suffix[1:] for suffix in PHOTOGRAPH_SUFFIXES))


def named_photographs(arguments: Sequence[str], from_list: Path | None = None, column: str | None = None) -> list[str]:
    """Expand arguments and a list to the names of photographs.

    Names keep the order of the arguments; the photographs of a folder or pattern are sorted by name.

    Args:
        arguments: Files, folders, glob patterns, or `-` for names on the standard input.
        from_list: File with further names; see `read_name_list`.
        column: Column of the list, if it is a table.

    Raises:
        ConfigError: An option is unknown or used without another, or nothing is named.
        InputError: The named list is empty, a folder or pattern has no photographs, or a folder cannot be searched.
    """
    names: list[str] = []
    for argument in arguments:
        if argument == "-":
            names.extend(_standard_input())
        elif argument.startswith("-"):
            raise ConfigError(
                f"{argument}: there is no such option (see --help); a photograph with this name is ./{argument}."
            )
        else:
            names.extend(photographs_at(argument))
    if from_list is not None:
        names.extend(read_name_list(from_list, column))
    elif column is not None:
        raise ConfigError(f"--list-column {column} goes with --list FILE; add --list, or omit --list-column.")
    if not names:
        raise (InputError if arguments or from_list else ConfigError)(
            "no photographs were named: swclip locate GALLERY PHOTO..., or --list FILE, or - for the standard input"
        )
    return names


def photographs_at(path: str) -> list[str]:
    """The photographs that a file, a folder (searched all the way down) or a pattern stands for, in order of name.

    Raises:
        InputError: The folder or the pattern holds no photographs, or the folder cannot be searched.
    """
    if os.path.isdir(path):
        inside = list(_photographs_in(str(Path(path))))
        if not inside:
            raise InputError(f"{path}: the folder holds no photographs (looked for {_ENDINGS}).")
        return inside
    if not os.path.lexists(path) and glob.has_magic(path):
        matches = [name for name in sorted(glob.glob(path, recursive=True)) if os.path.isfile(name)]
        if not matches:
            raise InputError(f"{path}: no file matches this pattern; check the path.")
        return matches
    return [path]


def _standard_input() -> list[str]:
    if sys.stdin.isatty():
        raise InputError("- reads names from standard input, which is a terminal; pipe names into it, as from find.")
    names = _listed_names(sys.stdin.buffer.read(), "-")
    if not names:
        raise InputError("-: the standard input names no photographs.")
    return names


def _listed_names(data: bytes, where: str) -> list[str]:
    return [
        _listed_name(name, "", f"{where}, name {number}")
        for number, name in enumerate(split_names(data), start=1)
        if name.strip()
    ]


def _listed_name(value: Any, folder: str, where: str) -> str:
    """The path of the photograph that a list names, as a table of `swclip prepare` does."""
    problem = cell_problem(value, "photographs")
    if problem is not None:
        raise InputError(f"{where}: {shown(value)}: {problem}")
    return file_of_name(folder, str(value))


def _photographs_in(folder: str) -> Iterator[str]:
    """Yield the photographs in a folder and its subfolders; what is left out is logged."""
    left_out = LeftOut()
    for name in files_below(folder, left_out):
        if os.path.splitext(name)[1].lower() in PHOTOGRAPH_SUFFIXES:
            yield os.path.join(folder, name).removeprefix(f".{os.sep}")
    for _, count, detail in left_out.notes():
        _LOG.warning("%s (%d): %s", folder, count, detail)


def digest_of_names(names: Sequence[str]) -> str:
    """Return the SHA-256 of names in their order."""
    hashed = hashlib.sha256()
    for name in names:
        hashed.update(os.fsencode(name) + b"\0")
    return hashed.hexdigest()


def join_names(names: Sequence[str]) -> bytes:
    """Encode names as a file: one name per line, or zero-terminated if a name contains a line break."""
    end = b"\0" if any("\n" in name or "\r" in name for name in names) else b"\n"
    return b"".join(os.fsencode(name) + end for name in names)


def split_names(data: bytes) -> list[str]:
    """Decode names from a file written by `join_names`, `find -print0` or a Windows program; empty lines are skipped.

    Lists in UTF-16 and a byte order mark are recognised. Other bytes are kept, since a file's name may not be UTF-8.

    Example:
        >>> split_names(b"a.jpg\\nb.jpg\\n"), split_names(b"a\\n1.jpg\\0b.jpg\\0")
        (['a.jpg', 'b.jpg'], ['a\\n1.jpg', 'b.jpg'])
    """
    if (encoding := utf_16_of(data)) is not None:
        data = data.decode(encoding, "replace").encode()
    data = data.removeprefix(codecs.BOM_UTF8)
    names = data.split(b"\0") if b"\0" in data else data.replace(b"\r\n", b"\n").split(b"\n")
    return [os.fsdecode(name) for name in names if name]


def read_name_list(path: Path, column: str | None = None) -> list[str]:
    """Read names of photographs from a file.

    Args:
        path: A table (CSV, TSV, Parquet, GeoParquet, GeoJSON or a manifest), a packed data set (a folder or a URL), or
            a text file with one name per line. Spaces at the ends, backslashes and Unicode normalisation are treated
            as in `file_names.file_of_name`.
            Relative names in a table start from the folder of the table, as in a manifest; relative names in a text
            file start from the working directory, as `find` and `ls` write them.
        column: Column of the table; None to find it by its name.

    Raises:
        InputError: The file is missing, empty or unreadable, or the column is ambiguous or has rows without a name.
    """
    from swclip.data.manifest import read_manifest
    from swclip.imaging.packed import is_pack
    from swclip.ingest.sources import GEOJSON, PARQUET, TEXT_TABLES

    if is_pack(path):
        if column is not None:
            raise InputError(f"{path}: is a packed data set, whose column is known; omit --list-column.")
        return [os.fspath(name) for name in read_manifest(path).image_paths]
    if path.suffix.lower() in (*GEOJSON, *PARQUET, *TEXT_TABLES[:3]):
        return _read_name_column(path, column)
    if column is not None:
        raise InputError(
            f"{path}: is read as a list of lines, but --list-column {column} asks for a table (.csv, ...)."
        )
    try:
        names = _listed_names(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path}: the list cannot be read ({error.strerror}); check the path.") from error
    if not names:
        raise InputError(f"{path}: the list names no photographs.")
    return names


def _read_name_column(path: Path, column: str | None) -> list[str]:
    from swclip.ingest.columns import SYNONYMS, listed, match_columns
    from swclip.ingest.sources import read_table

    table = read_table(path, "the list of photographs")
    if table.malformed:
        row, detail = table.malformed[0]
        raise InputError(f"{path}, row {row}: {detail}; fix it (malformed rows: {len(table.malformed)}).")
    header = [str(name) for name in table.frame.columns]
    columns = match_columns(
        header, {"image": SYNONYMS["image"]}, {"image": column}, str(path), lambda role: "--list-column"
    )
    if "image" not in columns:
        raise InputError(f"{path}: no column of photographs was found among {listed(header)}; name it: --list-column.")
    folder = "" if path.parent == Path() else str(path.parent)
    values = table.frame[columns["image"]].tolist()
    where = f"column {columns['image']!r}"
    return [
        _listed_name(value, folder, f"{path}, row {row}, {where}")
        for row, value in zip(table.rows, values, strict=True)
    ]
