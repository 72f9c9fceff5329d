"""From a posterior over candidates to the probabilities of cities and of cells, which are sums of it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64
from numpy.typing import ArrayLike
from scipy import sparse

from swclip.answers.record import CellAnswer
from swclip.errors import ConfigError, MismatchError
from swclip.geo.cells import cell_centre_deg, nested_cell_ids
from swclip.geo.coordinates import rounded_deg
from swclip.geo.neighbours import SphereIndex

RESOLUTIONS = (6, 8, 10)
"""H3 resolutions of answers and reports: cells of about 6 km, 900 m and 130 m; a town, a quarter, a street."""

CITY = "city"
UNKNOWN = -1


@dataclass(frozen=True, eq=False)
class Level:
    """A partition of a gallery's candidates: by city, or by the H3 cells of a resolution.

    Attributes:
        name: `city`, or `cell_RES`.
        resolution: H3 resolution, None for cities.
        units: U names of the units, in order of name.
        unit_of: (M,) the unit of each candidate, -1 where it is unknown.
    """

    name: str
    resolution: int | None
    units: tuple[str, ...]
    unit_of: Int64[np.ndarray, " m"]

    def probabilities(self, probability: Float[np.ndarray, "q m"]) -> Float64[np.ndarray, "q u"]:
        """Probabilities of the units: sums over their candidates. Candidates without a unit are ignored.

        Args:
            probability: (Q, M) posteriors over the candidates.

        Returns:
            (Q, U) probabilities.

        Raises:
            MismatchError: The posteriors are not over these candidates.
        """
        values = np.asarray(probability, dtype=np.float64)
        if values.shape[1:] != self.unit_of.shape:
            raise MismatchError(
                f"a posterior of shape {values.shape} is not over these {len(self.unit_of)} candidates."
            )
        assigned = np.flatnonzero(self.unit_of >= 0)
        shape = (len(self.unit_of), len(self.units))
        ones = sparse.csr_array((np.ones(len(assigned)), (assigned, self.unit_of[assigned])), shape=shape)
        return np.ascontiguousarray((ones.T @ values.T).T)

    def number_of(self, unit: str | None) -> int:
        """The number of a unit, -1 where no candidate is in it."""
        at = bisect_left(self.units, unit) if unit is not None else len(self.units)
        return at if at < len(self.units) and self.units[at] == unit else UNKNOWN

    def take(self, rows: Int64[np.ndarray, " s"]) -> Level:
        """The same level over a subset of the candidates; the units keep their numbers."""
        return Level(self.name, self.resolution, self.units, self.unit_of[rows])


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """The levels of a gallery: the city and the cells, each cell within the coarser ones of the same candidates.

    Attributes:
        city: The level of the cities; without units where no candidate has a city.
        cells: The levels of the cells, from coarse to fine.

    Example:
        >>> places = Hierarchy.of([[51.5, -0.1], [51.51, -0.1], [53.9, -1.1]], ["London", "London", "York"], (4, 9))
        >>> p = np.array([[0.5, 0.25, 0.25]])
        >>> places.city.units, places.city.probabilities(p).tolist()
        (('London', 'York'), [[0.75, 0.25]])
        >>> [(level.name, float(level.probabilities(p).max())) for level in places.cells]
        [('cell_4', 0.75), ('cell_9', 0.5)]
    """

    city: Level
    cells: tuple[Level, ...]

    @classmethod
    def of(
        cls, positions_deg: ArrayLike, cities: Sequence[str | None], resolutions: Sequence[int] = RESOLUTIONS
    ) -> Hierarchy:
        """The levels of candidates.

        Args:
            positions_deg: (M, 2) latitude, longitude in degrees.
            cities: M names, None where unknown.
            resolutions: H3 resolutions.

        Raises:
            ConfigError: There are no resolutions, or one is not 0 to 15.
        """
        cells = nested_cell_ids(positions_deg, resolutions)
        return cls(
            _level(CITY, None, cities),
            tuple(_level(f"cell_{resolution}", resolution, cell_ids) for resolution, cell_ids in cells.items()),
        )

    @property
    def levels(self) -> tuple[Level, ...]:
        """The city and the cells, coarse to fine."""
        return (self.city, *self.cells)

    @property
    def resolutions(self) -> tuple[int, ...]:
        """The cells' resolutions, coarse to fine."""
        return tuple(resolution_of(level) for level in self.cells)

    def take(self, rows: Int64[np.ndarray, " s"]) -> Hierarchy:
        """The levels of a subset of the candidates; the units keep their numbers."""
        return Hierarchy(self.city.take(rows), tuple(level.take(rows) for level in self.cells))

    def units_at(self, points_deg: ArrayLike, index: SphereIndex) -> dict[str, list[str | None]]:
        """The units of points: the cells that contain them, and the city of the nearest candidate.

        Args:
            points_deg: (P, 2) latitude, longitude in degrees.
            index: Spatial index of these candidates' positions.

        Returns:
            P units for each level, by its name.
        """
        points = np.asarray(points_deg, dtype=np.float64).reshape(-1, 2)
        nearest = self.city.unit_of[index.nearest(points, k=1)[1][:, 0]]
        cells = nested_cell_ids(points, self.resolutions)
        return {
            CITY: [self.city.units[at] if at >= 0 else None for at in nearest],
            **{level.name: list(cells[resolution_of(level)]) for level in self.cells},
        }


@dataclass(frozen=True)
class Share:
    """A unit and its probability.

    Attributes:
        unit: Name of the city or cell.
        probability: Its probability, 0 to 1.
    """

    unit: str
    probability: float


def most_probable(level: Level, probability: Float[np.ndarray, " m"], k: int) -> list[Share]:
    """The k most probable units of a posterior, best first, without those of probability 0.

    Args:
        level: The level.
        probability: (M,) posterior over its candidates.
        k: Largest number of units.

    Example:
        >>> level = Hierarchy.of([[51.5, -0.1], [53.9, -1.1]], ["London", "York"], (4,)).city
        >>> most_probable(level, np.array([0.25, 0.75]), k=1)
        [Share(unit='York', probability=0.75)]
    """
    assigned = level.unit_of >= 0
    # Only units that occur, since the candidates of a part of a large gallery are in few of them.
    present, which = np.unique(level.unit_of[assigned], return_inverse=True)
    mass = np.bincount(which, weights=np.asarray(probability, dtype=np.float64)[assigned], minlength=len(present))
    order = np.argsort(-mass, kind="stable")[:k]
    return [Share(level.units[present[at]], min(1.0, float(mass[at]))) for at in order if mass[at] > 0.0]


def probability_of(level: Level, probability: Float[np.ndarray, " m"], unit: str) -> float:
    """The probability of one unit, 0 where no candidate is in it.

    Args:
        level: The level.
        probability: (M,) posterior over its candidates.
        unit: Name of the unit.
    """
    at = level.number_of(unit)
    return 0.0 if at < 0 else min(1.0, float(np.asarray(probability, dtype=np.float64)[level.unit_of == at].sum()))


def cell_answer(level: Level, probability: Float[np.ndarray, " m"], of_point: str) -> CellAnswer:
    """The most probable cell of a level and the cell of the answer's point, from one posterior.

    Args:
        level: Cells of one resolution.
        probability: (M,) posterior over its candidates.
        of_point: Id of the cell that contains the point.
    """
    (best,) = most_probable(level, probability, 1)
    lat_deg, lon_deg = cell_centre_deg(best.unit)
    return CellAnswer(
        resolution=resolution_of(level),
        cell_id=best.unit,
        lat_deg=rounded_deg(lat_deg),
        lon_deg=rounded_deg(lon_deg),
        probability=best.probability,
        point_cell_id=of_point,
        point_cell_probability=probability_of(level, probability, of_point),
    )


def resolution_of(level: Level) -> int:
    """H3 resolution of a level of cells.

    Raises:
        ConfigError: The level is that of the cities.
    """
    if level.resolution is None:
        raise ConfigError(f"level {level.name!r} has no H3 resolution; give a level of cells.")
    return level.resolution


def _level(name: str, resolution: int | None, values: Sequence[str | None]) -> Level:
    units = tuple(sorted({value for value in values if value is not None}))
    number = {unit: at for at, unit in enumerate(units)}
    unit_of = np.array([UNKNOWN if value is None else number[value] for value in values], dtype=np.int64)
    return Level(name, resolution, units, unit_of)
