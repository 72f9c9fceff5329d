"""What a page draws of errors, as plain numbers: their cumulative curve, and marks on a line of metres."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

_CURVE_POINTS = 300


def error_curve(errors_m: ArrayLike) -> dict[str, list[float]]:
    """Share of queries answered within each distance, in percent: the cumulative distribution of the error.

    Args:
        errors_m: Errors in metres, any shape; several seeds are pooled.

    Returns:
        x in metres, never below 1 so that a logarithmic axis can show it, and y in percent; at most 300 points.

    Example:
        >>> error_curve([5.0, 20.0, 0.0, 50.0])
        {'x': [1.0, 5.0, 20.0, 50.0], 'y': [25.0, 50.0, 75.0, 100.0]}
    """
    error = np.sort(np.asarray(errors_m, dtype=np.float64).reshape(-1))
    rank = np.arange(1, error.size + 1)
    if error.size > _CURVE_POINTS:
        rank = np.unique(np.linspace(1, error.size, _CURVE_POINTS).round().astype(int))
    x = np.maximum(error[rank - 1], 1.0)
    return {"x": [float(f"{value:.4g}") for value in x], "y": [round(100.0 * int(r) / error.size, 2) for r in rank]}


@dataclass(frozen=True)
class MetreScale:
    """A logarithmic line of metres for marks placed in percent of its length.

    Attributes:
        low_m: Left end.
        high_m: Right end.
    """

    low_m: float
    high_m: float

    @classmethod
    def holding(cls, values_m: Sequence[float]) -> MetreScale:
        """The shortest line, between steps of 1, 2, 5, 10, that holds the values; nothing below 1 m."""
        low, high = max(min(values_m), 1.0), max(max(values_m), 10.0)
        left, right = _step_below(low), _step_above(high)
        return cls(left, right if right > left else 10.0 * left)

    def at(self, value_m: float) -> float:
        """Percent of the length at which a value lies; clipped to the ends."""
        value = min(max(value_m, self.low_m), self.high_m)
        return round(100.0 * math.log(value / self.low_m) / math.log(self.high_m / self.low_m), 2)

    @property
    def ticks_m(self) -> list[float]:
        """Powers of ten on the line; the ends too where fewer than two fall on it."""
        first, last = math.ceil(math.log10(self.low_m) - 1e-9), math.floor(math.log10(self.high_m) + 1e-9)
        tens = [10.0**power for power in range(first, last + 1)]
        return tens if len(tens) > 1 else sorted({self.low_m, *tens, self.high_m})


def _step_below(value: float) -> float:
    ten = 10.0 ** math.floor(math.log10(value))
    return max(step * ten for step in (1.0, 2.0, 5.0) if step * ten <= value * (1.0 + 1e-9))


def _step_above(value: float) -> float:
    ten = 10.0 ** math.floor(math.log10(value))
    return min(step * ten for step in (1.0, 2.0, 5.0, 10.0) if step * ten >= value * (1.0 - 1e-9))
