"""Numbers as people's tables have them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_EMPTY = frozenset({"", "null", "none", "na", "n/a", "-"})


def parse_number(value: Any) -> float | None:
    """A number as tables have it, with a decimal comma too; None where the cell is empty, NaN where it says so.

    Raises:
        ValueError: It is not a number.

    Example:
        >>> parse_number(" 30,5 "), parse_number(""), parse_number("4.5 ")
        (30.5, None, 4.5)
    """
    if value is None:
        return None
    if isinstance(value, (bool, np.bool_)):
        raise ValueError(repr(value))
    if isinstance(value, (int, float, np.integer, np.floating)):
        return float(value)
    text = str(value).strip().rstrip("\u00b0").strip()
    if text.lower() in _EMPTY:
        return None
    if text.count(",") == 1 and "." not in text:
        text = text.replace(",", ".")
    if "_" in text:  # Python reads 1_000 as a number, people do not write it
        raise ValueError(repr(text))
    return float(text)


def number_or_nan(value: Any) -> float:
    """The same, with NaN for what is empty or no number."""
    try:
        number = parse_number(value)
    except ValueError:
        return math.nan
    return math.nan if number is None else number
