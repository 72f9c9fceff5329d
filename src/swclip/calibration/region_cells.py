"""The H3 cells that prediction regions are made of, and the mass of a posterior in each.

A posterior is over candidates, which are points without area. For the area of a region, and whether it covers the
truth, each candidate's mass is spread over the H3 cells near it:

    A_mc = exp(-d(m, c)^2 / (2 s^2)) / sum over the cells k near m of exp(-d(m, k)^2 / (2 s^2))

with d the haversine distance from the candidate to the centre of the cell and s the spread of the candidate's area
(`areas.area_spreads_m`). Near are the cells whose centres are within 4 s, and always the cell of the candidate. Rows of
A sum to 1, so p A has the mass of p.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import h3.api.numpy_int as h3
import numpy as np
from jaxtyping import Float, Float64, Int64, UInt64
from numpy.typing import ArrayLike
from scipy import sparse

from swclip.calibration.areas import Areas, spacing_m
from swclip.errors import ConfigError, MismatchError
from swclip.geo.cells import across_m
from swclip.geo.distance import haversine_m
from swclip.geo.spatial_smoothing import CUT_BANDWIDTHS, MAX_PAIRS

RESOLUTION = 11
"""H3 resolution of the cells: about 50 m across."""

SPREAD_M = 25.0
"""Least standard deviation of the Gaussian that spreads a candidate over the cells near it, metres."""

SPREAD_OF_SPACING = 0.5
"""The spread is at least this share of an area's spacing: the Gaussian, cut at four spreads, reaches two spacings."""

MOST_SPREAD_M = 100.0
"""Largest spread that is derived from a spacing, metres."""

NOWHERE = -1
"""The number of a cell that no candidate reaches."""

# H3's hexagons vary: the narrowest are about 0.76 of the average across, and those beside pentagons are smaller. A ring
# too many costs time; a ring too few would miss cells that are near enough.
_NARROWEST = 0.7
_RINGS_ALWAYS = 3  # needed by the default spread: a gallery of any size that fits into memory has regions
_ROWS_AT_ONCE = 5_000


@dataclass(frozen=True, eq=False)
class RegionCells:
    """The H3 cells that a gallery's candidates reach, and the share of each candidate's mass in each cell.

    Attributes:
        resolution: H3 resolution of all cells.
        spread_m: s of each area, metres.
        ids: (C,) the cells as H3's integers, increasing; `cell_ids` has them as strings.
        area_km2: (C,) their areas on the sphere, km2.
        centres_deg: (C, 2) their centres, degrees.
        spread: (M, C) shares A; rows sum to 1.
        areas: The areas of the candidates.

    Example:
        >>> cells = RegionCells.of([[51.5, -0.1], [51.51, -0.1]], ["London", "London"])
        >>> mass = cells.mass(np.array([[0.25, 0.75]]))
        >>> round(float(mass.sum()), 12), cells.spread_m
        (1.0, {'London': 25.0})
        >>> cells.index_of([[51.6, -0.1]]).tolist()
        [-1]
    """

    resolution: int
    spread_m: Mapping[str, float]
    ids: UInt64[np.ndarray, " c"]
    area_km2: Float64[np.ndarray, " c"]
    centres_deg: Float64[np.ndarray, "c 2"]
    spread: sparse.csr_array
    areas: Areas

    @classmethod
    def of(
        cls,
        positions_deg: ArrayLike,
        cities: Sequence[str | None] | None = None,
        *,
        resolution: int = RESOLUTION,
        spread_m: float | Mapping[str, float] = SPREAD_M,
    ) -> RegionCells:
        """Compute the cells of candidates.

        Args:
            positions_deg: (M, 2) latitude, longitude in degrees.
            cities: M names, None where unknown.
            resolution: H3 resolution, 0 to 15.
            spread_m: s in metres, above 0; one for all areas, or by area, with 25 m for areas without one.

        Raises:
            ConfigError: The resolution does not exist, a spread is not above 0, or it is so wide that it may reach
                more than `MAX_PAIRS` pairs of a candidate and a cell.
        """
        positions = np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2)
        areas = Areas.of(positions, cities)
        by_area = spread_m if isinstance(spread_m, Mapping) else dict.fromkeys(areas.names, float(spread_m))
        by_area = {name: float(by_area.get(name, SPREAD_M)) for name in areas.names}
        spread_of = np.array(list(by_area.values()))[areas.of_candidate] if by_area else np.zeros(0)
        rings = _rings(resolution, spread_of)
        home_ids = [h3.latlng_to_cell(lat, lon, resolution) for lat, lon in positions.tolist()]
        home = np.array(home_ids, dtype=np.uint64)
        homes, home_of = np.unique(home, return_inverse=True)
        rings_of_home = np.zeros(len(homes), dtype=np.int64)
        np.maximum.at(rings_of_home, home_of, rings)
        disks = [h3.grid_disk(cell, k) for cell, k in zip(homes.tolist(), rings_of_home.tolist(), strict=True)]
        sizes = np.array([len(disk) for disk in disks], dtype=np.int64)
        ids, members = np.unique(
            np.concatenate([np.zeros(0, dtype=np.uint64), *disks]).astype(np.uint64), return_inverse=True
        )
        centres = np.array([h3.cell_to_latlng(cell) for cell in ids.tolist()], dtype=np.float64).reshape(-1, 2)
        starts = np.concatenate([[0], np.cumsum(sizes)])
        parts = [
            _shares(rows, positions[rows], home[rows], home_of[rows], starts, members, ids, centres, spread_of[rows])
            for rows in np.split(np.arange(len(positions)), np.arange(_ROWS_AT_ONCE, len(positions), _ROWS_AT_ONCE))
        ]
        row, column, share = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        reached, cell = np.unique(column, return_inverse=True)
        ids = ids[reached]
        return cls(
            resolution=resolution,
            spread_m=by_area,
            ids=ids,
            area_km2=np.array([h3.cell_area(cell_id, unit="km^2") for cell_id in ids.tolist()], dtype=np.float64),
            centres_deg=centres[reached],
            spread=sparse.csr_array((share, (row, cell)), shape=(len(positions), len(ids))),
            areas=areas,
        )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def cell_ids(self) -> list[str]:
        """C ids as H3's hexadecimal strings."""
        return [f"{cell:x}" for cell in self.ids.tolist()]

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
        """The number of the cell that contains each position, -1 where no candidate reaches it.

        Args:
            positions_deg: (N, 2) latitude, longitude in degrees.
        """
        positions = np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2).tolist()
        cell_ids = np.array([h3.latlng_to_cell(lat, lon, self.resolution) for lat, lon in positions], dtype=np.uint64)
        if len(self) == 0:
            return np.full(len(cell_ids), NOWHERE, dtype=np.int64)
        at = np.minimum(np.searchsorted(self.ids, cell_ids), len(self) - 1)
        return np.where(self.ids[at] == cell_ids, at, NOWHERE).astype(np.int64)

    def take(self, rows: Int64[np.ndarray, " s"]) -> RegionCells:
        """The same cells with the shares of a subset of the candidates."""
        return replace(self, spread=self.spread[rows], areas=self.areas.take(rows))

    def reached(self) -> RegionCells:
        """The cells that these candidates reach, without those that only other candidates of the gallery reach."""
        kept = np.unique(self.spread.indices)
        return replace(
            self,
            ids=self.ids[kept],
            area_km2=self.area_km2[kept],
            centres_deg=self.centres_deg[kept],
            spread=self.spread[:, kept],
        )

    @cached_property
    def _by_cell(self) -> sparse.csr_array:
        # Rows of cells, so that a product walks along the queries and not across them.
        return sparse.csr_array(self.spread.T.tocsr())


def _rings(resolution: int, spread_m: Float64[np.ndarray, " m"]) -> Int64[np.ndarray, " m"]:
    """Rings around each candidate's cell that contain every cell whose centre is near enough."""
    if resolution not in range(16):
        raise ConfigError(f"H3 resolution {resolution} does not exist; give 0 to 15 (11 is about 50 m).")
    wrong = spread_m[~(np.isfinite(spread_m) & (spread_m > 0))]
    if len(wrong):
        raise ConfigError(f"spread_m is {wrong[0]}; it must be a distance above 0 m, such as {SPREAD_M:g}.")
    # A centre in ring k + 1 is at least (k + 1) sqrt(3) / 2 widths from the home cell's, and the candidate at most
    # 1 / sqrt(3) widths from that.
    width_m = _NARROWEST * across_m(resolution)
    reach = (CUT_BANDWIDTHS * spread_m / width_m + 1 / math.sqrt(3)) * 2 / math.sqrt(3)
    rings = np.maximum(1, np.ceil(reach).astype(np.int64) - 1)
    pairs = int((1 + 3 * rings * (rings + 1)).sum())
    if pairs > MAX_PAIRS and rings.max() > _RINGS_ALWAYS:
        raise ConfigError(
            f"a spread of {spread_m.max():g} m over H3 cells of resolution {resolution} pairs {len(spread_m)} "
            f"candidates with {pairs:.1e} cells, more than {MAX_PAIRS:.0e}; take a part of the gallery (swclip gallery "
            "filter), a shorter spread, or a coarser resolution."
        )
    return rings


def _shares(
    rows: Int64[np.ndarray, " r"],
    positions: Float64[np.ndarray, "r 2"],
    home: UInt64[np.ndarray, " r"],
    home_of: Int64[np.ndarray, " r"],
    starts: Int64[np.ndarray, " h1"],
    members: Int64[np.ndarray, " d"],
    ids: UInt64[np.ndarray, " c"],
    centres: Float64[np.ndarray, "c 2"],
    spread_m: Float64[np.ndarray, " r"],
) -> tuple[Int64[np.ndarray, " p"], Int64[np.ndarray, " p"], Float64[np.ndarray, " p"]]:
    """Row, cell and share of each pair of a candidate and a cell near it."""
    sizes = starts[home_of + 1] - starts[home_of]
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    cell = members[np.repeat(starts[home_of], sizes) + within]
    local = np.repeat(np.arange(len(rows)), sizes)
    distance_m = haversine_m(positions[local, 0], positions[local, 1], centres[cell, 0], centres[cell, 1])
    near = (distance_m <= CUT_BANDWIDTHS * spread_m[local]) | (ids[cell] == home[local])
    local, cell, distance_m = local[near], cell[near], distance_m[near]
    counts = np.bincount(local, minlength=len(rows))
    if len(counts) == 0:
        return rows[local], cell, distance_m
    first = np.cumsum(counts) - counts
    # Less the nearest cell's exponent, so that weights do not underflow in cells far larger than the spread.
    exponent = 0.5 * (distance_m / spread_m[local]) ** 2
    weight = np.exp(np.repeat(np.minimum.reduceat(exponent, first), counts) - exponent)
    return rows[local], cell, weight / np.repeat(np.add.reduceat(weight, first), counts)


def area_spreads_m(
    positions_deg: ArrayLike,
    cities: Sequence[str | None] | None,
    resolution: int = RESOLUTION,
    recorded: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """The spread of the candidates of each area: 25 m, and more where they are farther than 50 m apart.

    A truth between candidates that are far apart would otherwise be out of reach of all of them. Of very many
    candidates the spread is less, so that the pairs of a candidate and a cell fit into memory.

    Args:
        positions_deg: (M, 2) positions of the candidates, degrees.
        cities: Their cities, None where unknown.
        resolution: H3 resolution of the cells.
        recorded: Spreads by area that a calibration recorded, which are taken as they are.

    Returns:
        Metres by area, rounded to 0.1 m.

    Example:
        >>> lat = np.linspace(51.5, 51.51, 11)  # 111 m apart
        >>> area_spreads_m(np.stack([lat, np.zeros(11)], axis=1), ["London"] * 11)
        {'London': 55.6}
    """
    areas, spreads = Areas.of(positions_deg, cities), dict(recorded or {})
    pairs_each = max(1, MAX_PAIRS // max(1, len(areas.of_candidate)))
    rings = math.floor((math.sqrt(12 * pairs_each - 3) - 3) / 6)  # 1 + 3 k (k + 1) cells within k rings
    affordable_m = ((rings + 1) * math.sqrt(3) / 2 - 1 / math.sqrt(3)) * _NARROWEST * across_m(resolution)
    most_m = max(SPREAD_M, min(MOST_SPREAD_M, affordable_m / CUT_BANDWIDTHS - 0.1))
    for number, name in enumerate(areas.names):
        if name not in spreads:
            wide = SPREAD_OF_SPACING * spacing_m(positions_deg, areas, number)
            spreads[name] = round(min(max(wide, SPREAD_M), most_m), 1)
    return {name: spreads[name] for name in areas.names}


def adapted_cells(positions_deg: ArrayLike, cities: Sequence[str | None] | None) -> RegionCells:
    """The cells of candidates without a calibration, with the spreads of `area_spreads_m`."""
    return RegionCells.of(positions_deg, cities, spread_m=area_spreads_m(positions_deg, cities))
