"""Rejected rows and notes; in strict mode the first invalid row raises an error."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from swclip.errors import InputError


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that is left out of the manifest, and the reason."""

    row: int
    image: str
    reason: str
    detail: str
    column: str | None = None
    value: Any = None


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def shown(value: Any) -> str:
    """Return a value as messages show it: quoted, and shortened if it is long, as the bytes of a picture are.

    Example:
        >>> shown(" a.jpg"), len(shown(bytes(10_000)))
        ("' a.jpg'", 80)
    """
    return _SHORT.repr(value)


@dataclass(frozen=True, slots=True)
class Note:
    """A change to accepted rows, or another remark; `detail` describes its first occurrence."""

    code: str
    count: int
    detail: str


@dataclass(slots=True)
class Row:
    """A photograph that may enter the manifest; None for values that the source does not state."""

    index: int
    row: int
    image: str
    path: Path
    lat_deg: float | None = None
    lon_deg: float | None = None
    accuracy_m: float | None = None
    heading_deg: float | None = None
    captured_at: datetime | None = None
    captured_month: str | None = None
    sha256: str = ""
    map: Path | None = None


@dataclass
class Ledger:
    """Collects rejections and notes; if `strict`, the first rejection or discarded value is raised as an error.

    `place_of_row` says where a row is, for sources of several files.
    """

    source: str
    strict: bool = False
    place_of_row: Callable[[int], str] = "row {}".format
    rejections: list[Rejection] = field(default_factory=list)
    _notes: dict[str, tuple[int, str]] = field(default_factory=dict)

    def reject(self, rejection: Rejection) -> None:
        """Record that a row is left out.

        Raises:
            InputError: The ledger is strict.
        """
        self._raise_if_strict(rejection.row, rejection.image, rejection.column, rejection.value, rejection.detail)
        self.rejections.append(rejection)

    def discard_value(self, row: Row, code: str, column: str, value: Any, detail: str) -> None:
        """Record that a value of an accepted row cannot be used and is null in the manifest.

        Raises:
            InputError: The ledger is strict.
        """
        self._raise_if_strict(row.row, row.image, column, value, detail)
        self.note(code, f"{self.place_of_row(row.row)}, {column}: {detail} The value is left empty.")

    def note(self, code: str, detail: str, count: int = 1) -> None:
        """Count a remark that is not an error."""
        before, first = self._notes.get(code, (0, detail))
        self._notes[code] = (before + count, first)

    def extend(self, notes: Iterable[Note]) -> None:
        """Add remarks that were counted elsewhere."""
        for note in notes:
            self.note(note.code, note.detail, note.count)

    @property
    def notes(self) -> list[Note]:
        """All notes, one per code."""
        return [Note(code, count, detail) for code, (count, detail) in self._notes.items()]

    def _raise_if_strict(self, row: int, image: str, column: str | None, value: Any, detail: str) -> None:
        if self.strict:
            where = f", column {column!r}, value {shown(value)}" if column is not None else ""
            name = f" ({image})" if image else ""
            raise InputError(f"{self.source}, {self.place_of_row(row)}{name}{where}: {detail}")
