"""Columns whose name fits a role and whose values do not: they are kept as they are, with a note."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

from swclip.ingest.column_names import plain_name
from swclip.ingest.columns import ColumnNames, flag_of
from swclip.ingest.file_names import empty_cell
from swclip.ingest.rejections import shown
from swclip.ingest.values import number_or_nan

_FLAGS = frozenset({"true", "false", "yes", "no", "t", "f", "y", "n"})
_ANY_VALUES = frozenset(
    {"image", "lat", "lon", "lat_ref", "lon_ref", "position", "accuracy", "time", "caption", "map"}
)  # their parsers reject others
_RADIANS = re.compile(r"[(\[_\s]rad(ian)?s?\b", re.I)
_FEW = 4
"""Fewer values than this do not tell a running number from an id, or radians from degrees."""


def drop_implausible_roles(
    columns: dict[str, str], frame: pd.DataFrame, named: ColumnNames
) -> list[tuple[str, int, str]]:
    """Remove the roles that were given to a column by its name alone, and that its values contradict.

    - Values that are all true or false are no place, sequence, city and so on: `pano` says whether a picture is a
      panorama.
    - Numbers with a fraction are no ids of places or sequences.
    - Numbers of a sequence that differ in most rows, and are angles or follow each other, are no ids of sequences:
      `track` may be a direction and `seq` a running number.
    - Headings of which none exceeds a full turn in radians, and some have a fraction, are taken for radians; also those
      whose column states radians as its unit, and those whose reference (GPSImgDirectionRef) is magnetic north.

    Args:
        columns: {role: column}; changed in place.
        frame: The values as written.
        named: Columns that the user names, which are not examined.

    Returns:
        A note for each column that is not used: code, number of values, text.
    """
    notes: list[tuple[str, int, str]] = []
    for role, column in list(columns.items()):
        if getattr(named, role) is not None or column not in frame:
            continue
        values = [value for value in frame[column].tolist() if not empty_cell(value)]
        problem = _problem(role, column, values)
        if problem is None and role == "heading":
            problem = _magnetic(column, frame)
        if problem is not None:
            del columns[role]
            flag = f"{flag_of(role)} {column}"
            way_out = (
                f"convert it to degrees from true north, or if it is that use {flag}"
                if role == "heading"
                else f"or use {flag}"
            )
            detail = (
                f"the column {column!r} {problem} (such as {shown(values[0])}), so it is not read as the "
                f"{role.replace('_', ' ')}; {way_out}."
            )
            notes.append((f"{role.replace('_', '-')}-not-used", len(values), detail))
    return notes


def _magnetic(column: str, frame: pd.DataFrame) -> str | None:
    """Say that the letter beside GPSImgDirection or another heading of EXIF states magnetic north, or None."""
    for name in frame.columns:
        if plain_name(str(name)) == f"{plain_name(column)}ref":
            letters = {str(value).strip().lower()[:1] for value in frame[name].tolist() if not empty_cell(value)}
            return f"is from magnetic north by the column {name!r}" if "m" in letters else None
    return None


def _problem(role: str, column: str, values: Sequence[Any]) -> str | None:
    """Say what values are instead of the role, or None."""
    distinct = {str(value).strip().lower() for value in values}
    if not distinct or role in _ANY_VALUES:
        return None
    number_for_flag = role == "place" and distinct == {"0", "1"} and not plain_name(column).endswith("id")
    if distinct <= _FLAGS or number_for_flag:
        return "says yes or no"
    if role not in ("place", "sequence", "heading"):
        return None
    if role == "heading" and _RADIANS.search(column):
        return "is in radians"
    numbers: list[float] = []
    for text in distinct:
        number = number_or_nan(text)
        if not math.isfinite(number):
            return None
        numbers.append(number)
    fractions = any(not number.is_integer() for number in numbers)
    largest = max(map(abs, numbers))
    if role == "heading":
        radians = fractions and len(numbers) >= _FEW and largest <= 2.0 * math.pi + 0.01
        return "is within a full turn in radians" if radians else None
    if fractions:
        return "has numbers with a fraction, which are no ids"
    most = len(values) >= _FEW and 2 * len(numbers) > len(values)
    if role == "sequence" and most and (largest <= 360.0 or max(numbers) - min(numbers) < 2 * len(values)):
        return "has another number in most rows, as an angle or a running number"
    return None
