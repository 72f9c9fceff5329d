"""What becomes of each row: rejected with a reason, kept with a note, or, if strict, the end of the run."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from swclip.errors import InputError


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that is left out, and why."""

    row: int
    image: str
    reason: str
    detail: str
    column: str | None = None
    value: Any = None


@dataclass(frozen=True, slots=True)
class Note:
    """Something done to rows that were kept, or a thing a reader should know; `detail` is of the first."""

    code: str
    count: int
    detail: str


@dataclass(slots=True)
class Row:
    """A photograph on its way into the manifest; None where the source does not say."""

    index: int
    row: int
    image: str
    path: Path
    lat_deg: float | None = None
    lon_deg: float | None = None
    accuracy_m: float | None = None
    heading_deg: float | None = None
    captured_at: datetime | None = None
    map: Path | None = None


@dataclass
class Ledger:
    """Collects rejections and notes; with `strict` the first of either that blames a row is raised instead."""

    source: str
    strict: bool = False
    rejections: list[Rejection] = field(default_factory=list)
    _notes: dict[str, tuple[int, str]] = field(default_factory=dict)

    def reject(self, rejection: Rejection) -> None:
        """Leave a row out."""
        self._stop(rejection.row, rejection.image, rejection.column, rejection.value, rejection.detail)
        self.rejections.append(rejection)

    def doubt(self, row: Row, code: str, column: str, value: Any, detail: str) -> None:
        """Keep a row whose value cannot be used; the value becomes null."""
        self._stop(row.row, row.image, column, value, detail)
        self.note(code, f"row {row.row}, {column}: {detail} Left unknown.")

    def note(self, code: str, detail: str, count: int = 1) -> None:
        """Count something worth knowing that is nobody's fault."""
        before, first = self._notes.get(code, (0, detail))
        self._notes[code] = (before + count, first)

    @property
    def notes(self) -> list[Note]:
        """All notes, a line for each code."""
        return [Note(code, count, detail) for code, (count, detail) in self._notes.items()]

    def _stop(self, row: int, image: str, column: str | None, value: Any, detail: str) -> None:
        if self.strict:
            where = f", column {column!r}, value {value!r}" if column is not None else ""
            name = f" ({image})" if image else ""
            raise InputError(f"{self.source}, row {row}{name}{where}: {detail}")
