"""Search of folders of photographs: what is left out is counted, and a folder that cannot be read is an error."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from swclip.errors import InputError

PHOTOGRAPH_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".mpo", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif", ".heic", ".heif"}
)
"""Ends of the names of photographs, in lower case."""

# Folders, in lower case, in which file servers and archive programs keep small copies, forks and deleted files:
# Synology, QNAP, macOS, Windows, ext4.
_PROGRAM_FOLDERS = frozenset(
    {
        "@eadir",
        "@__thumb",
        "#recycle",
        "@recycle",
        "__macosx",
        "$recycle.bin",
        "system volume information",
        "lost+found",
    }
)
_NAMES_IN_NOTE = 3


@dataclass
class LeftOut:
    """What a search left out.

    Attributes:
        program: Folders and files of programs: hidden names, AppleDouble files (._IMG.jpg) and folders of thumbnails.
        links: Symbolic links to folders, which are not followed: they could lead round in a circle.
    """

    program: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)

    def notes(self) -> list[tuple[str, int, str]]:
        """Return (code, count, detail) of each kind."""
        notes = []
        if self.program:
            detail = (
                f"hidden names, and folders in which programs keep thumbnails, are left out: {_some(self.program)}."
            )
            notes.append(("program-files", len(self.program), detail))
        if self.links:
            detail = f"links to folders are not followed: {_some(self.links)}; name those folders too."
            notes.append(("linked-folder", len(self.links), detail))
        return notes


def files_below(folder: str | os.PathLike[str], left_out: LeftOut, excluded: Path | None = None) -> Iterator[str]:
    """Yield the files below a folder, as paths relative to it, in the order of their paths' parts.

    Args:
        folder: The folder.
        left_out: Collects what is left out.
        excluded: A folder inside it that is not searched, such as the output folder.

    Raises:
        InputError: The folder or a folder below it cannot be read.
    """
    excluded_path = None if excluded is None else excluded.resolve()
    yield from _files_in(os.fspath(folder), "", left_out, excluded_path)


def _files_in(root: str, inside: str, left_out: LeftOut, excluded: Path | None) -> Iterator[str]:
    folder = os.path.join(root, inside) if inside else root
    try:
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(
            f"{folder}: the folder cannot be searched ({error.strerror}); allow reading it, or move it away."
        ) from error
    for entry in entries:
        name = os.path.join(inside, entry.name)
        is_folder = _is_folder(entry)
        if entry.name.startswith(".") or (is_folder and entry.name.lower() in _PROGRAM_FOLDERS):
            left_out.program.append(name)
        elif not is_folder:
            yield name
        elif entry.is_symlink():
            left_out.links.append(name)
        elif excluded is None or Path(entry.path).resolve() != excluded:
            yield from _files_in(root, name, left_out, excluded)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; opening it reports why it cannot be read
        return False


def _some(names: list[str]) -> str:
    shown = ", ".join(os.fsencode(name).decode("utf-8", "backslashreplace") for name in names[:_NAMES_IN_NOTE])
    return shown if len(names) <= _NAMES_IN_NOTE else f"{shown} and {len(names) - _NAMES_IN_NOTE} more"
