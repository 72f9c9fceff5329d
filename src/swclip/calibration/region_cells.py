"""The ground as hexagons: where a posterior's mass lies between the candidates, and how much ground that is.

A posterior speaks of candidates, which are points and have no area. To say how much ground an answer covers, and
whether it covers the truth, each candidate's mass is handed to the H3 cells near it:

    A_mc = exp(-d(m, c)^2 / (2 s^2)) / sum over the cells k near m of exp(-d(m, k)^2 / (2 s^2))

with d the haversine distance from the candidate to the centre of the cell and s the spread. Near are the cells whose
centres lie within 4 s, and always the cell that the candidate lies in. Rows of A sum to 1, so p A has the mass of p.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import h3.api.numpy_int as h3
import numpy as np
from jaxtyping import Float, Float64, Int64, UInt64
from numpy.typing import ArrayLike
from scipy import sparse

from swclip.errors import ConfigError, MismatchError
from swclip.geo.cells import across_m
from swclip.geo.distance import haversine_m
from swclip.geo.spatial_smoothing import CUT_BANDWIDTHS, MAX_PAIRS

RESOLUTION = 11
"""H3 resolution of the ground cells: about 50 m across."""

SPREAD_M = 25.0
"""Standard deviation of the Gaussian that spreads a candidate over the cells near it, metres."""

NOWHERE = -1
"""The number of a cell that no candidate reaches, and of the city of a cell that has none."""

# H3's hexagons are not alike: the narrowest are about 0.76 of the average across, and pentagons have smaller ones
# beside them. A ring too many costs time; a ring too few would cut cells off that are near enough.
_NARROWEST = 0.7
_RINGS_ALWAYS = 3  # what the default needs: a gallery of any size that fits into memory has regions
_ROWS_AT_ONCE = 20_000


@dataclass(frozen=True, eq=False)
class GroundCells:
    """The H3 cells that a gallery's candidates reach, and the share of each candidate that each cell gets.

    Attributes:
        resolution: H3 resolution of all cells.
        spread_m: s, metres.
        ids: (C,) the cells as H3's integers, increasing; `cell_ids` has them as strings.
        area_km2: (C,) their areas on the sphere, km2.
        centres_deg: (C, 2) their centres, degrees.
        spread: (M, C) shares A; rows sum to 1.
        city_of: (C,) number of the city of the candidate nearest to a cell's centre, -1 where that has none.
        city_names: The cities, in order of name.

    Example:
        >>> ground = GroundCells.of([[51.5, -0.1], [51.51, -0.1]], ["London", None])
        >>> mass = ground.mass(np.array([[0.25, 0.75]]))
        >>> round(float(mass.sum()), 12), ground.cities[int(ground.index_of([[51.5, -0.1]])[0])]
        (1.0, 'London')
        >>> ground.index_of([[51.6, -0.1]]).tolist()
        [-1]
    """

    resolution: int
    spread_m: float
    ids: UInt64[np.ndarray, " c"]
    area_km2: Float64[np.ndarray, " c"]
    centres_deg: Float64[np.ndarray, "c 2"]
    spread: sparse.csr_array
    city_of: Int64[np.ndarray, " c"]
    city_names: tuple[str, ...]

    @classmethod
    def of(
        cls,
        positions_deg: ArrayLike,
        cities: Sequence[str | None] | None = None,
        *,
        resolution: int = RESOLUTION,
        spread_m: float = SPREAD_M,
    ) -> GroundCells:
        """The cells of candidates.

        Args:
            positions_deg: (M, 2) latitude, longitude in degrees.
            cities: M names, None where unknown.
            resolution: H3 resolution, 0 to 15.
            spread_m: s in metres, above 0.

        Raises:
            ConfigError: The resolution does not exist, the spread is not above 0, or it is so wide that it may reach
                more than `MAX_PAIRS` pairs of a candidate and a cell.
        """
        positions = np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2)
        names: list[str | None] = [None] * len(positions) if cities is None else list(cities)
        if len(names) != len(positions):
            raise ConfigError(f"{len(names)} cities for {len(positions)} candidates; give one each, or None.")
        rings = _rings(resolution, spread_m, len(positions))
        own = np.array([h3.latlng_to_cell(lat, lon, resolution) for lat, lon in positions.tolist()], dtype=np.uint64)
        homes, home_of = np.unique(own, return_inverse=True)
        disks = [h3.grid_disk(home, rings) for home in homes.tolist()]
        sizes = np.array([len(disk) for disk in disks], dtype=np.int64)
        ids, members = np.unique(
            np.concatenate([np.zeros(0, dtype=np.uint64), *disks]).astype(np.uint64), return_inverse=True
        )
        centres = np.array([h3.cell_to_latlng(cell) for cell in ids.tolist()], dtype=np.float64).reshape(-1, 2)
        starts = np.concatenate([[0], np.cumsum(sizes)])
        parts = [
            _shares(rows, positions[rows], own[rows], home_of[rows], starts, members, ids, centres, spread_m)
            for rows in np.split(np.arange(len(positions)), np.arange(_ROWS_AT_ONCE, len(positions), _ROWS_AT_ONCE))
        ]
        row, column, share, away_m = (np.concatenate(own_parts) for own_parts in zip(*parts, strict=True))
        reached, cell = np.unique(column, return_inverse=True)
        city_names = tuple(sorted({name for name in names if name is not None}))
        ids = ids[reached]
        return cls(
            resolution=resolution,
            spread_m=float(spread_m),
            ids=ids,
            area_km2=np.array([h3.cell_area(one, unit="km^2") for one in ids.tolist()], dtype=np.float64),
            centres_deg=centres[reached],
            spread=sparse.csr_array((share, (row, cell)), shape=(len(positions), len(ids))),
            city_of=_nearest_city(row, cell, away_m, names, city_names, len(ids)),
            city_names=city_names,
        )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def cell_ids(self) -> list[str]:
        """C ids as H3's hexadecimal strings."""
        return [f"{cell:x}" for cell in self.ids.tolist()]

    @property
    def cities(self) -> list[str | None]:
        """C cities, None where the nearest candidate has none."""
        return [self.city_names[at] if at >= 0 else None for at in self.city_of]

    @property
    def total_area_km2(self) -> float:
        """Area of all cells together, km2."""
        return float(self.area_km2.sum())

    def mass(self, probability: Float[np.ndarray, "q m"]) -> Float64[np.ndarray, "q c"]:
        """The mass of each cell, p A.

        Args:
            probability: (q, M) posterior over the candidates.

        Raises:
            MismatchError: It is over another number of candidates.
        """
        values = np.asarray(probability, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != self.spread.shape[0]:
            raise MismatchError(
                f"a posterior of shape {values.shape} is not over these {self.spread.shape[0]} candidates."
            )
        return np.ascontiguousarray((self._by_cell @ values.T).T)

    def index_of(self, positions_deg: ArrayLike) -> Int64[np.ndarray, " n"]:
        """The number of the cell that each position lies in, -1 where no candidate reaches it.

        Args:
            positions_deg: (N, 2) latitude, longitude in degrees.
        """
        positions = np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2).tolist()
        asked = np.array([h3.latlng_to_cell(lat, lon, self.resolution) for lat, lon in positions], dtype=np.uint64)
        if len(self) == 0:
            return np.full(len(asked), NOWHERE, dtype=np.int64)
        at = np.minimum(np.searchsorted(self.ids, asked), len(self) - 1)
        return np.where(self.ids[at] == asked, at, NOWHERE).astype(np.int64)

    def take(self, rows: Int64[np.ndarray, " s"]) -> GroundCells:
        """The same cells, reached by some of the candidates."""
        return replace(self, spread=self.spread[rows])

    def reached(self) -> GroundCells:
        """The cells that some candidate reaches, of those of a larger gallery: what a blind region would be part of."""
        kept = np.unique(self.spread.indices)
        return replace(
            self,
            ids=self.ids[kept],
            area_km2=self.area_km2[kept],
            centres_deg=self.centres_deg[kept],
            spread=self.spread[:, kept],
            city_of=self.city_of[kept],
        )

    @cached_property
    def _by_cell(self) -> sparse.csr_array:
        # Rows of cells, so that a product walks along the queries and not across them.
        return sparse.csr_array(self.spread.T.tocsr())


def _rings(resolution: int, spread_m: float, candidates: int) -> int:
    """Rings round the cell of a candidate that hold every cell whose centre is near enough to it."""
    if resolution not in range(16):
        raise ConfigError(f"H3 resolution {resolution} does not exist; give 0 to 15 (11 is about 50 m).")
    if not (math.isfinite(spread_m) and spread_m > 0):
        raise ConfigError(f"spread_m is {spread_m}; give a distance above 0 m, such as {SPREAD_M:g}.")
    # A centre in ring k + 1 is at least (k + 1) sqrt(3) / 2 widths from the home cell's, and the candidate at most
    # 1 / sqrt(3) widths from that.
    width_m = _NARROWEST * across_m(resolution)
    rings = max(1, math.ceil((CUT_BANDWIDTHS * spread_m / width_m + 1 / math.sqrt(3)) * 2 / math.sqrt(3)) - 1)
    pairs = (1 + 3 * rings * (rings + 1)) * candidates
    if pairs > MAX_PAIRS and rings > _RINGS_ALWAYS:
        raise ConfigError(
            f"a spread of {spread_m:g} m over H3 cells of resolution {resolution} pairs {candidates} candidates with "
            f"{pairs:.1e} cells, more than {MAX_PAIRS:.0e}; take a shorter spread, or a coarser resolution."
        )
    return rings


def _shares(
    rows: Int64[np.ndarray, " r"],
    positions: Float64[np.ndarray, "r 2"],
    own: UInt64[np.ndarray, " r"],
    home_of: Int64[np.ndarray, " r"],
    starts: Int64[np.ndarray, " h1"],
    members: Int64[np.ndarray, " d"],
    ids: UInt64[np.ndarray, " c"],
    centres: Float64[np.ndarray, "c 2"],
    spread_m: float,
) -> tuple[Int64[np.ndarray, " p"], Int64[np.ndarray, " p"], Float64[np.ndarray, " p"], Float64[np.ndarray, " p"]]:
    """Row, cell, share and distance of the pairs of some candidates and the cells near them."""
    sizes = starts[home_of + 1] - starts[home_of]
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    cell = members[np.repeat(starts[home_of], sizes) + within]
    local = np.repeat(np.arange(len(rows)), sizes)
    away_m = haversine_m(positions[local, 0], positions[local, 1], centres[cell, 0], centres[cell, 1])
    near = (away_m <= CUT_BANDWIDTHS * spread_m) | (ids[cell] == own[local])
    local, cell, away_m = local[near], cell[near], away_m[near]
    counts = np.bincount(local, minlength=len(rows))
    if len(counts) == 0:
        return rows[local], cell, away_m, away_m
    first = np.cumsum(counts) - counts
    # Less the nearest, so that a cell far larger than the spread does not come to nothing.
    exponent = 0.5 * (away_m / spread_m) ** 2
    weight = np.exp(np.repeat(np.minimum.reduceat(exponent, first), counts) - exponent)
    return rows[local], cell, weight / np.repeat(np.add.reduceat(weight, first), counts), away_m


def _nearest_city(
    row: Int64[np.ndarray, " p"],
    cell: Int64[np.ndarray, " p"],
    away_m: Float64[np.ndarray, " p"],
    names: Sequence[str | None],
    city_names: tuple[str, ...],
    cells: int,
) -> Int64[np.ndarray, " c"]:
    number = {name: at for at, name in enumerate(city_names)}
    city = np.array([NOWHERE if name is None else number[name] for name in names], dtype=np.int64)
    order = np.lexsort((city[row], away_m, cell))  # of two as near, the first by name
    _, first = np.unique(cell[order], return_index=True)
    nearest = np.full(cells, NOWHERE, dtype=np.int64)
    nearest[cell[order][first]] = city[row[order[first]]]
    return nearest
