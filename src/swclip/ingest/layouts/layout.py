"""A layout: how a published data set or a program arranges photographs and tables on disk, and what its reader fills.

A layout is a recogniser and a reader. The reader fills `LayoutRows`, whose columns have the names of `columns.ROLES`
(image, lat, lon, heading, time, city, place, ...) and any further ones; `LayoutRows.table` is the ordinary source
table, so that everything after it is the same as for any other source.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from swclip.errors import InputError
from swclip.ingest.columns import ROLES, ColumnNames, flag_of, listed
from swclip.ingest.folders import PHOTOGRAPH_SUFFIXES, LeftOut, files_below
from swclip.ingest.positions import read_positions
from swclip.ingest.rejections import Rejection, shown
from swclip.ingest.source_table import RawTable, SourceTable
from swclip.ingest.tables import raw_text
from swclip.progress import Count

_PEEK_FILES = 2_000
"""Files that a recogniser looks at: a guess must not read a folder of millions."""


@dataclass(frozen=True)
class LayoutSource:
    """What a reader reads.

    Attributes:
        path: The folder or file that the user names.
        extracted: Folder for photographs that are inside tables.
        columns: Columns that the user names.
        images: Folder that relative image paths start from, if the user names one.
        excluded: A folder inside `path` that is not searched, such as the output folder.
        crs: Projection of file names without a UTM zone.
        progress: Called with the number of photographs that were extracted and the total number.
    """

    path: Path
    extracted: Path
    columns: ColumnNames = field(default_factory=ColumnNames)
    images: Path | None = None
    excluded: Path | None = None
    crs: str | None = None
    progress: Count | None = None

    @property
    def folder(self) -> Path:
        """The folder itself, or the folder of the file."""
        return self.path if self.path.is_dir() else self.path.parent

    @property
    def images_folder(self) -> Path:
        """The folder in which the photographs are."""
        return self.images if self.images is not None else self.folder


@dataclass(frozen=True)
class Layout:
    """One layout.

    Attributes:
        name: Its name on the command line.
        shape: Where its files are, in a clause for messages.
        recognise: Whether a folder or file is evidently in this layout, from its path and the names of `first_files`.
        read: Its reader.
        options: The options beside `--city`, `--copy` and the like that it uses: images, columns, crs.
    """

    name: str
    shape: str
    recognise: Callable[[Path, Sequence[str]], bool]
    read: Callable[[LayoutSource], SourceTable]
    options: frozenset[str] = frozenset()


@dataclass
class LayoutRows:
    """Rows of one or several files of a layout.

    Attributes:
        folder: Base folder of the image paths.
        notes: (code, count, detail) of remarks for the user.
        rejected: Rows that the reader rejects.
    """

    folder: Path
    notes: list[tuple[str, int, str]] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    _frames: list[pd.DataFrame] = field(default_factory=list)
    _rows: list[int] = field(default_factory=list)
    _parts: list[tuple[int, str]] = field(default_factory=list)
    _malformed: list[tuple[int, str]] = field(default_factory=list)
    _next: int = 0

    def begin(self, name: str, raw: RawTable | None = None, last_row: int = 0) -> int:
        """Begin a file, and return what is added to its row numbers: rows of several files are numbered on.

        Args:
            name: Name of the file in messages.
            raw: Its content, whose notes and malformed lines are taken over.
            last_row: The largest row number in it, where it is no table.
        """
        offset = self._next
        self._parts.append((offset, name))
        if raw is not None:
            last_row = max([*raw.rows, *(row for row, _ in raw.malformed)], default=0)
            self._malformed += [(offset + row, detail) for row, detail in raw.malformed]
            self.notes += raw.notes
        self._next += last_row
        return offset

    def add(self, frame: pd.DataFrame, rows: Sequence[int], offset: int = 0) -> None:
        """Add rows: columns named by role and further ones, and their numbers in the file."""
        self._frames.append(frame.reset_index(drop=True))
        self._rows.extend(offset + row for row in rows)

    def unused(self, count: int, what: str) -> None:
        """Note photographs that are on the disk and that no row names."""
        if count:
            self.notes.append(("photograph-not-listed", count, f"photographs {what} are in no row and are left out."))

    def table(self, source: LayoutSource, layout: str) -> SourceTable:
        """The source table.

        Raises:
            InputError: There are no rows.
        """
        frame = pd.concat(self._frames, ignore_index=True) if self._frames else pd.DataFrame({"image": []})
        frame = frame.astype(object).where(frame.notna(), None)
        if not len(frame) and not self.rejected and not self._malformed:
            raise InputError(f"{source.path}: the tables of the layout {layout} have no rows.")
        columns = {role: role for role in ROLES if role in frame}
        positions = None
        if {"lat", "lon"} <= set(columns):
            named = {"lat": "lat", "lon": "lon"}
            positions = read_positions(frame, columns, named, table=str(source.path), flag=flag_of)
        return SourceTable(
            str(source.path),
            "layout",
            self.folder,
            frame,
            self._rows,
            columns,
            positions,
            malformed=self._malformed,
            notes=self.notes,
            rejected=self.rejected,
            parts=self._parts,
        )


def layout_table(path: Path, layout: str, required: Sequence[str]) -> RawTable:
    """Read a text table of a layout, and check its header.

    Raises:
        InputError: There is no such file, it cannot be read, or a column is missing.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file, which the layout {layout} has.")
    raw = raw_text(path)
    header = [str(name) for name in raw.frame.columns]
    for name in required:
        if header.count(name) != 1:
            problem = f"has no column {name!r}" if name not in header else f"has several columns {name!r}"
            raise InputError(
                f"{path}: {problem}, as the layout {layout} has it; its header is {listed(header)}. Is it of another "
                "data set, or cut short?"
            )
    return raw


def header_of(path: Path) -> list[str]:
    """The fields of the first line of a text file; nothing of a file that is not text."""
    try:
        with path.open(encoding="utf-8-sig") as stream:
            return [name.strip().strip('"') for name in stream.readline(65_536).rstrip("\r\n").split(",")]
    except (OSError, UnicodeDecodeError):
        return []


def first_files(folder: Path) -> list[str]:
    """The first files below a folder, with slashes, for recognisers; none of a file."""
    if not folder.is_dir():
        return []
    return [Path(name).as_posix() for name in itertools.islice(files_below(folder, LeftOut()), _PEEK_FILES)]


def photographs_below(folder: Path, rows: LayoutRows, excluded: Path | None = None, inside: str = "") -> Iterator[str]:
    """The photographs below `folder/inside`, as paths relative to `folder` with slashes; what is left out is noted."""
    left_out = LeftOut()
    base = folder / inside
    if base.is_dir():
        for name in files_below(base, left_out, excluded):
            if Path(name).suffix.lower() in PHOTOGRAPH_SUFFIXES:
                yield (Path(inside) / name).as_posix()
    rows.notes += left_out.notes()


def first_of_stem(names: Iterator[str]) -> dict[str, str]:
    """{file name without suffix: path}, the first path of each."""
    by_stem: dict[str, str] = {}
    for name in names:
        by_stem.setdefault(Path(name).stem, name)
    return by_stem


def whole_number(row: int, image: str, column: str, value: Any) -> int | Rejection:
    """A whole number of a cell, or the rejection of its row."""
    try:
        return int(str(value).strip())
    except ValueError:
        detail = f"the {column} {shown(value)} is not a whole number, so the photograph cannot be found."
        return Rejection(row, image, "malformed-row", detail, column, value)
