"""Areas: the parts of a gallery whose certainty is calibrated separately, and the spacing of the candidates in each.

The area of a candidate is its city; where it has none, the H3 cell of resolution 4 (about 40 km across) that contains
it. The area of a photograph is the one with most of its posterior. It is known without the true place, and is computed
alike for validation queries and for answers: a taxonomy in the sense of Mondrian conformal prediction (`conformal`).

References:
    V. Vovk, A. Gammerman, G. Shafer, "Algorithmic Learning in a Random World" (2005), section 4.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int64
from numpy.typing import ArrayLike
from scipy import sparse

from swclip.errors import ConfigError
from swclip.geo.cells import cell_ids
from swclip.geo.places import distinct_places, kth_place_m

AREA_RESOLUTION = 4
"""H3 resolution of the area of a candidate without a city."""

_PLACE_M = 5.0


@dataclass(frozen=True, eq=False)
class Areas:
    """The areas of a gallery's candidates.

    Attributes:
        names: The areas, in order of name.
        of_candidate: (M,) number of each candidate's area.

    Example:
        >>> areas = Areas.of([[51.5, -0.1], [53.8, -1.5], [53.8, -1.5]], ["London", "Leeds", "Leeds"])
        >>> [areas.names[at] for at in areas.of_posteriors(np.array([[0.4, 0.3, 0.3], [0.6, 0.2, 0.2]]))]
        ['Leeds', 'London']
        >>> Areas.of([[51.5, -0.1]]).names
        ('84194adffffffff',)
    """

    names: tuple[str, ...]
    of_candidate: Int64[np.ndarray, " m"]

    @classmethod
    def of(cls, positions_deg: ArrayLike, cities: Sequence[str | None] | None = None) -> Areas:
        """The areas of candidates.

        Args:
            positions_deg: (M, 2) latitude, longitude in degrees.
            cities: M names, None where unknown.

        Raises:
            ConfigError: The number of cities is not that of the candidates.
        """
        positions = np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2)
        labels = np.full(len(positions), None, dtype=object)
        if cities is not None:
            if len(cities) != len(positions):
                raise ConfigError(f"{len(cities)} cities for {len(positions)} candidates; give one each, or None.")
            labels[:] = list(cities)
        unnamed = np.flatnonzero([label is None for label in labels])
        labels[unnamed] = cell_ids(positions[unnamed], AREA_RESOLUTION)
        names, number = np.unique(labels.astype(str), return_inverse=True)
        return cls(tuple(names.tolist()), number.reshape(-1).astype(np.int64))

    def __len__(self) -> int:
        return len(self.names)

    def of_posteriors(self, probability: Float[np.ndarray, "q m"]) -> Int64[np.ndarray, " q"]:
        """(Q,) the number of the area with most of each posterior, the first by name where several have equally much.

        Args:
            probability: (Q, M) posteriors over the candidates, at least one candidate.
        """
        if len(self.names) == 1:
            return np.zeros(len(probability), dtype=np.int64)
        mass = self._sums @ np.asarray(probability, dtype=np.float64).T
        return np.asarray(mass.argmax(axis=0), dtype=np.int64)

    def take(self, rows: Int64[np.ndarray, " s"]) -> Areas:
        """The same areas with a subset of the candidates."""
        return replace(self, of_candidate=self.of_candidate[rows])

    @cached_property
    def _sums(self) -> sparse.csr_array:
        count = len(self.of_candidate)
        return sparse.csr_array((np.ones(count), (self.of_candidate, np.arange(count))), shape=(len(self.names), count))


def spacing_m(positions_deg: ArrayLike, areas: Areas, number: int) -> float:
    """The spacing of an area: the median distance from a candidate to the nearest other place, metres.

    Places are at least 5 m apart, about the error of a satellite fix. Infinite where there is one place only.

    Args:
        positions_deg: (M, 2) positions of the candidates, degrees.
        areas: Their areas.
        number: Number of the area.
    """
    positions = np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2)
    return float(np.median(kth_place_m(positions[areas.of_candidate == number], 1, _PLACE_M)))


def area_spacings_m(
    positions_deg: ArrayLike, cities: Sequence[str | None] | None, least_places: int
) -> dict[str, float]:
    """The spacing of each area with enough places, metres.

    Args:
        positions_deg: (M, 2) positions, degrees.
        cities: M cities, None where unknown.
        least_places: Areas with fewer places are left out.
    """
    positions = np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2)
    areas = Areas.of(positions, cities)
    return {
        name: spacing_m(positions, areas, number)
        for number, name in enumerate(areas.names)
        if len(distinct_places(positions[areas.of_candidate == number], _PLACE_M)) >= least_places
    }
