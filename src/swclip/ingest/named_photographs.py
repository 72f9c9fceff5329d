"""The photographs that a person names: files, folders, patterns, lists, and what is written to the standard input."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from swclip.ingest.name_lists import read_name_list, split_names
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
        elif os.path.isdir(argument):
            inside = list(_below(str(Path(argument))))
            if not inside:
                raise InputError(f"{argument}: the folder holds no photographs (looked for {_ENDINGS}).")
            found.extend(inside)
        elif not os.path.lexists(argument) and glob.has_magic(argument):
            matches = [name for name in sorted(glob.glob(argument, recursive=True)) if os.path.isfile(name)]
            if not matches:
                raise InputError(f"{argument}: no file matches this pattern; check the path.")
            found.extend(matches)
        else:
            found.append(argument)
    if from_list is not None:
        found.extend(read_name_list(from_list, column))
    elif column is not None:
        raise InputError(f"--list-column {column} goes with --list FILE, and no list is given.")
    if not found:
        raise InputError(
            "no photographs were named: swclip locate GALLERY PHOTO..., or --list FILE, or - for the standard input"
        )
    return found


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
