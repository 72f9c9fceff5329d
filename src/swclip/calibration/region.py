"""A region of the ground with the probability it promises, and when it is too large to be an answer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy.typing import ArrayLike

from swclip.errors import ConfigError

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Probabilities that reports measure the promise of."""

LEVEL = 0.8
"""Probability that the region of an answer promises where nobody asks for another."""


@dataclass(frozen=True, eq=False)
class Region:
    """Ground that holds the truth with a stated probability.

    Attributes:
        level: The probability promised.
        cells: (R,) numbers of its cells, increasing; None where it is everything, the cells and the ground beside them.
        area_km2: Its area, infinite where it is everything.
        total_km2: Area of all the gallery's cells.
    """

    level: float
    cells: Int64[np.ndarray, " r"] | None
    area_km2: float
    total_km2: float

    def cannot_tell(self, limit_km2: float | None = None) -> bool:
        """Whether it says nothing; see `says_nothing`."""
        return bool(says_nothing(self.area_km2, self.level, self.total_km2, limit_km2))


def says_nothing(area_km2: ArrayLike, level: float, total_km2: float, limit_km2: float | None = None) -> Any:
    """Whether regions are too large to be an answer.

    A blind region of the share L of the ground holds a truth that may lie anywhere on it with probability L. One that
    is no smaller says nothing.

    Args:
        area_km2: Areas of the regions, any shape; infinite where one is everything.
        level: L, the probability promised.
        total_km2: Area of the ground.
        limit_km2: Areas above this say nothing to who asked, either.

    Returns:
        Bool, of that shape.
    """
    area = np.asarray(area_km2, dtype=np.float64)
    blind = area >= level * total_km2
    return blind if limit_km2 is None else blind | (area > limit_km2)


def check_level(level: float) -> None:
    """Refuse a probability that no region can promise."""
    if not (math.isfinite(level) and 0.0 < level < 1.0):
        raise ConfigError(f"a region of probability {level} cannot be; give a number between 0 and 1, such as {LEVEL}.")
