"""A prediction region with its nominal coverage, and when it is too large to be informative."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy.typing import ArrayLike

from swclip.errors import ConfigError

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Coverage levels that reports evaluate."""

LEVEL = 0.8
"""Default coverage level of an answer's region."""


@dataclass(frozen=True, eq=False)
class Region:
    """A set of cells that contains the truth with a stated probability.

    Attributes:
        level: Nominal coverage.
        cells: (R,) numbers of its cells, increasing; None where it is unbounded: all cells and the area outside.
        area_km2: Its area, infinite where it is unbounded.
        total_km2: Area of all the gallery's cells.
    """

    level: float
    cells: Int64[np.ndarray, " r"] | None
    area_km2: float
    total_km2: float

    def cannot_tell(self, limit_km2: float | None = None) -> bool:
        """Whether it is uninformative; see `is_uninformative`."""
        return bool(is_uninformative(self.area_km2, self.level, self.total_km2, limit_km2))


def is_uninformative(area_km2: ArrayLike, level: float, total_km2: float, limit_km2: float | None = None) -> Any:
    """Whether regions are too large to be informative.

    A region of the share L of the area, chosen at random, contains a truth that is uniform over the area with
    probability L. A region of level L that is no smaller is uninformative.

    Args:
        area_km2: Areas of the regions, any shape; infinite where one is unbounded.
        level: L, the nominal coverage.
        total_km2: Area of all cells.
        limit_km2: Areas above this are too large for the user; None for no limit.

    Returns:
        Bool, of that shape.
    """
    area = np.asarray(area_km2, dtype=np.float64)
    uninformative = area >= level * total_km2
    return uninformative if limit_km2 is None else uninformative | (area > limit_km2)


def check_level(level: float) -> None:
    """Raise ConfigError unless a coverage level is between 0 and 1."""
    if not (math.isfinite(level) and 0.0 < level < 1.0):
        raise ConfigError(
            f"a region of probability {level} cannot exist; give a number between 0 and 1, such as {LEVEL}."
        )
