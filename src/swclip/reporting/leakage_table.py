"""The leakage report of a split as a page shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from swclip.reporting.page import (Cell, Row, Table, flat_rows)
from swclip.reporting.units import metres, percent

_WITHIN = ("5", "10", "25", "50")


@dataclass(frozen=True)
class LeakageSection:
    """What a page says of leakage.

    Attributes:
        sentences: Warnings and notes.
        table: Queries and validation side by side; None for a report of another form.
        rows: A report of another form, value by value.
    """

    sentences: list[str]
    table: Table | None
    rows: list[tuple[str, str]]


def leakage_section(leakage: Mapping[str, Any] | None) -> LeakageSection | None:
    """Lay out a leakage report.

    Args:
        leakage: What FILE.leakage.json holds; None where there is none.
    """
    if leakage is None:
        return None
    sentences = [str(text) for name in ("warnings", "notes") for text in leakage.get(name, [])]
    parts = [leakage.get(name) for name in ("query", "val")]
    if not all(isinstance(part, Mapping) for part in parts):
        rest = {name: value for name, value in leakage.items() if name not in ("warnings", "notes")}
        return LeakageSection(sentences, None, flat_rows(rest))
    rows = [Row([Cell(label), *(Cell(_told(tell, part)) for part in parts)]) for label, tell in _ROWS]
    return LeakageSection(sentences, Table(["", "queries", "validation"], rows), [])


def _told(tell: Callable[[Any], str], part: Any) -> str:
    # What was not measured is null there.
    try:
        return tell(part)
    except (KeyError, TypeError):
        return "not known"


def _counted(value: Mapping[str, Any]) -> str:
    return f"{value['count']:,} ({percent(value['share'])})"


def _groups(value: Mapping[str, Any], n: int) -> str:
    if n and value["unknown"] == n:
        return "not known"
    return f"{value['count']:,} ({percent(value['share'])} of the photographs)"


def _within(radius: str) -> Callable[[Any], str]:
    return lambda part: _counted(part["within_m"][radius])


_ROWS: tuple[tuple[str, Callable[[Any], str]], ...] = (
    ("photographs asked", lambda part: f"{part['n']:,}"),
    ("photographs on the training side", lambda part: f"{part['n_training']:,}"),
    ("nearest training photograph, median", lambda part: metres(part["nearest_training_m"]["median"])),
    ("nearest training photograph, least", lambda part: metres(part["nearest_training_m"]["min"])),
    *((f"with a training photograph within {radius} m", _within(radius)) for radius in _WITHIN),
    ("places in common", lambda part: _groups(part["shared_places"], part["n"])),
    ("sequences in common", lambda part: _groups(part["shared_sequences"], part["n"])),
    ("with a near-duplicate picture in training", lambda part: _counted(part["near_duplicates"]["queries"])),
    ("with the same file in training", lambda part: _counted(part["exact_duplicates"]["queries"])),
    ("with a candidate within 25 m", lambda part: _counted(part["candidates"]["within_25m"])),
)
