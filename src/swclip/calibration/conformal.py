"""Prediction regions that contain the truth with a stated probability: split conformal prediction over H3 cells.

The nonconformity of a query with truth in cell y is minus its tail T(y) (`density.tail_mass`): the share of the
posterior in cells no denser than that of the truth. Given the tails T_1, ..., T_n of n calibration queries, the region
of level L is

    { y : T(y) >= t },    t = the k-th smallest of T_1, ..., T_n,    k = floor((n + 1) (1 - L))

If the n queries and the new one are exchangeable, the truth of the new one is in it with probability at least L, for
every posterior; a poor posterior makes large regions. A truth that no candidate reaches has tail 0, the lowest, and
counts. Where k or t is 0 there is no threshold: the region is unbounded and uninformative.

Photographs of one street are not exchangeable with those of the next: their errors are correlated, and four streets
with fifty photographs each are not two hundred queries. With K blocks, a tail of a block of b queries weighs 1 / b, and

    t = the greatest of the tails such that those below it weigh at most (K + 1) (1 - L) - 1

which covers a query of a new block at level L, if blocks are exchangeable and so are the queries within each. Where
each query is a block by itself this is the k-th smallest again. Few blocks support low levels only: 95 % needs 19.

By city: the threshold of a cell is that of its city's queries. Coverage is then nominal within each city.

References:
    V. Vovk, A. Gammerman, G. Shafer, "Algorithmic Learning in a Random World" (2005); H. Papadopoulos et al.,
    "Inductive confidence machines for regression", ECML 2002. A. N. Angelopoulos, S. Bates, "A gentle introduction to
    conformal prediction" (2021), arXiv 2107.07511, sections 1 and 4.2 (class-conditional). Y. Romano, M. Sesia,
    E. Candes, "Classification with valid and adaptive coverage", NeurIPS 2020: the score, here without randomisation.
    Y. Lee, R. F. Barber, R. Willett, "Distribution-free inference with hierarchical data", arXiv 2306.06342: blocks.
"""

from __future__ import annotations

import math
import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import ArrayLike
from scipy.special import betaincinv

from swclip.calibration.density import cell_density, density_cuts
from swclip.calibration.region import Region, check_level
from swclip.calibration.region_cells import RegionCells
from swclip.data.grouping import group_numbers
from swclip.errors import ArtefactError, MismatchError
from swclip.files import read_json, write_json

REGIONS_NAME = "regions.json"
REGIONS_VERSION = "1"

LEAST_BLOCKS_OF_A_CITY = 20
"""A city with fewer blocks of queries uses the overall threshold: a separate one could not reach 95 %."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Tails of calibration queries, and the cells they were computed on.

    Attributes:
        tails: (n,) tail of each query's truth; 0 where no candidate reaches it.
        cities: n names of the city of each truth's cell, None where unknown.
        resolution: H3 resolution of the cells.
        spread_m: Spread of a candidate's mass, metres.
        blocks: (n,) number of each query's block; None where each query is a block.
    """

    tails: Float64[np.ndarray, " n"]
    cities: tuple[str | None, ...]
    resolution: int
    spread_m: float
    blocks: Int64[np.ndarray, " n"] | None = None

    @classmethod
    def of(
        cls,
        tails: ArrayLike,
        truth_cells: Int64[np.ndarray, " n"],
        cells: RegionCells,
        cities: Sequence[str | None] | None = None,
        blocks: Sequence[Hashable] | None = None,
    ) -> Calibration:
        """Calibrate with the tails of queries' true cells.

        Args:
            tails: (n,) tails.
            truth_cells: (n,) numbers of the true cells, -1 where no candidate reaches the truth.
            cells: The cells.
            cities: n names, used where a truth has no cell.
            blocks: n blocks; None for each query by itself.
        """
        names = [None] * len(truth_cells) if cities is None else cities
        return cls(
            np.array(tails, dtype=np.float64),
            truth_cities(truth_cells, cells, names),
            cells.resolution,
            cells.spread_m,
            None if blocks is None else group_numbers([str(block) for block in blocks]),
        )

    def __len__(self) -> int:
        return len(self.tails)

    @property
    def unreachable(self) -> int:
        """Number of truths without any mass: no candidate with a positive probability reaches their cell."""
        return int(np.count_nonzero(self.tails == 0.0))

    def threshold(self, level: float, city: str | None = None) -> float | None:
        """The smallest tail of a cell in the region of a level; None where the region is unbounded.

        Args:
            level: L, the nominal coverage, between 0 and 1.
            city: The city of the cell; None, or a city with fewer than `LEAST_BLOCKS_OF_A_CITY` blocks, takes the
                overall threshold.

        Raises:
            ConfigError: The level is not between 0 and 1.

        Example:
            >>> queries = Calibration(np.array([0.1, 0.4, 0.2, 0.3]), (None,) * 4, 11, 25.0)
            >>> queries.threshold(0.8), queries.threshold(0.5), queries.threshold(0.9)
            (0.1, 0.2, None)
        """
        check_level(level)
        threshold = self._groups.get(city, self._groups[None]).threshold(level)
        return threshold if threshold > 0.0 else None

    def cell_thresholds(self, cells: RegionCells, level: float) -> Float64[np.ndarray, " c"] | None:
        """(C,) the threshold of each cell by its city; None where one of the cells' cities has no threshold."""
        by_city = [self.threshold(level, city) for city in (*cells.city_names, None)]
        present = np.unique(cells.city_of)  # -1, a cell without a city, is the last of the list
        if any(by_city[number] is None for number in present):
            return None
        values = np.array([math.nan if value is None else value for value in by_city])
        thresholds: Float64[np.ndarray, " c"] = values[cells.city_of]
        return thresholds

    def region(
        self, mass: Float64[np.ndarray, " c"], cells: RegionCells, level: float, *, by_city: bool = False
    ) -> Region:
        """The region of one posterior.

        Args:
            mass: (C,) mass of each cell, `RegionCells.mass`.
            cells: The cells.
            level: L.
            by_city: Cover at level L within each city.

        Raises:
            ConfigError: The level is not between 0 and 1.
        """
        total, density = cells.total_area_km2, cell_density(mass, cells.area_km2)
        thresholds = self.cell_thresholds(cells, level) if by_city else self.threshold(level)
        if thresholds is None:
            return Region(level, None, math.inf, total)
        values, which = np.unique(thresholds, return_inverse=True)
        cuts, _ = density_cuts(mass, cells.area_km2, values)
        inside = np.flatnonzero(density >= cuts[which])
        return Region(level, inside, float(cells.area_km2[inside].sum()), total)

    def expected(self, level: float) -> tuple[float, float] | None:
        """The 95 % interval of the coverage of infinitely many new queries, over the draw of the calibration queries.

        With distinct tails, the coverage of the drawn threshold is Beta(n + 1 - k, k) for queries that are blocks by
        themselves; with blocks each one is counted as a query, which is too wide where those of a block differ. None
        where there is no threshold.

        References:
            V. Vovk, "Conditional validity of inductive conformal predictors", ACML 2012, proposition 2a.
        """
        count = self.n_blocks
        k = math.floor(_budget(count, level))
        if k == 0:
            return None
        # The quantiles of the beta distribution; importing scipy.stats slows the start of `swclip locate`.
        low, high = betaincinv(count + 1 - k, k, [0.025, 0.975])
        return float(low), float(high)

    @property
    def n_blocks(self) -> int:
        """Number of blocks of queries."""
        return self._groups[None].blocks

    def check_cells(self, cells: RegionCells) -> None:
        """Raise MismatchError unless the tails were computed on cells of this resolution and spread."""
        if (self.resolution, self.spread_m) != (cells.resolution, cells.spread_m):
            raise MismatchError(
                f"regions were calibrated on H3 cells of resolution {self.resolution} with a spread of "
                f"{self.spread_m:g} m, and these are of resolution {cells.resolution} with {cells.spread_m:g} m; take "
                "the calibration's resolution and spread."
            )

    @property
    def calibrated_cities(self) -> list[str]:
        """The cities with a separate threshold."""
        return sorted(city for city in self._groups if city is not None)

    @cached_property
    def _groups(self) -> dict[str | None, _Group]:
        """All queries under None, and those of each city with enough blocks."""
        blocks = np.arange(len(self.tails)) if self.blocks is None else self.blocks
        labels = np.array(["" if city is None else city for city in self.cities], dtype=object)
        groups: dict[str | None, _Group] = {None: _Group.of(self.tails, blocks)}
        for city in sorted({city for city in self.cities if city is not None}):
            group = _Group.of(self.tails[labels == city], blocks[labels == city])
            if group.blocks >= LEAST_BLOCKS_OF_A_CITY:
                groups[city] = group
        return groups

    def to_dict(self) -> dict[str, Any]:
        """The values for JSON."""
        return {
            "version": REGIONS_VERSION,
            "resolution": self.resolution,
            "spread_m": self.spread_m,
            "tails": self.tails.tolist(),
            "cities": list(self.cities),
            "blocks": None if self.blocks is None else self.blocks.tolist(),
        }

    @classmethod
    def from_dict(cls, values: Any, where: str = REGIONS_NAME) -> Calibration:
        """The inverse of `to_dict`.

        Args:
            values: The mapping.
            where: The name of its file in messages.

        Raises:
            ArtefactError: It is of another version, or a value is invalid.
        """
        again = "train the run again, or remove the file to go without regions"
        if not isinstance(values, dict) or values.get("version") != REGIONS_VERSION:
            version = values.get("version") if isinstance(values, dict) else None
            raise ArtefactError(f"{where}: version {version!r}, and this swclip reads {REGIONS_VERSION!r}; {again}.")
        try:
            tails = np.array(values["tails"], dtype=np.float64)
            cities = tuple(values["cities"])
            blocks = None if values["blocks"] is None else np.array(values["blocks"], dtype=np.int64)
            resolution, spread_m = values["resolution"], float(values["spread_m"])
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise ArtefactError(f"{where}: is not the calibration of a model ({error!r}); {again}.") from error
        wrong = None
        if tails.ndim != 1 or not ((tails >= 0.0) & (tails <= 1.0)).all():
            wrong = "tails are not numbers from 0 to 1"
        elif len(cities) != len(tails) or not all(city is None or isinstance(city, str) for city in cities):
            wrong = f"cities are not {len(tails)} names"
        elif blocks is not None and blocks.shape != tails.shape:
            wrong = f"blocks are not {len(tails)} numbers"
        elif not isinstance(resolution, int) or resolution not in range(16):
            wrong = f"resolution {resolution!r} does not exist"
        elif not (math.isfinite(spread_m) and spread_m > 0):
            wrong = f"spread_m is {spread_m}"
        if wrong:
            raise ArtefactError(f"{where}: is not the calibration of a model ({wrong}); {again}.")
        return cls(tails, cities, resolution, spread_m, blocks)


def truth_cities(
    truth_cells: Int64[np.ndarray, " n"], cells: RegionCells, cities: Sequence[str | None]
) -> tuple[str | None, ...]:
    """The city of each truth: that of its cell, or the query's city where no candidate reaches the truth."""
    numbers = cells.city_of[truth_cells] if len(cells) else truth_cells
    return tuple(
        city if cell < 0 else cells.city_names[number] if number >= 0 else None
        for cell, number, city in zip(truth_cells.tolist(), numbers.tolist(), cities, strict=True)
    )


def write_calibration(folder: str | os.PathLike[str], calibration: Calibration) -> Path:
    """Write regions.json into a model's folder."""
    path = Path(folder) / REGIONS_NAME
    write_json(path, calibration.to_dict())
    return path


def read_calibration(folder: str | os.PathLike[str]) -> Calibration | None:
    """Read the calibration of a model's regions; None where there is none.

    Args:
        folder: A run, a gallery, or the model folder itself.

    Raises:
        ArtefactError: The file exists and cannot be used.
    """
    base = Path(folder)
    for path in (base / "model" / REGIONS_NAME, base / REGIONS_NAME):
        if path.is_file():
            return Calibration.from_dict(read_json(path, "the calibration of the model's regions"), str(path))
    return None


@dataclass(frozen=True, eq=False)
class _Group:
    """Sorted tails with cumulative weights.

    Attributes:
        tails: (n,) increasing.
        before: (n,) total weight of the tails below each; one block weighs 1.
        blocks: Number of blocks.
    """

    tails: Float64[np.ndarray, " n"]
    before: Float64[np.ndarray, " n"]
    blocks: int

    @classmethod
    def of(cls, tails: Float64[np.ndarray, " n"], blocks: Int64[np.ndarray, " n"]) -> _Group:
        _, number, sizes = np.unique(blocks, return_inverse=True, return_counts=True)
        order = np.argsort(tails, kind="stable")
        weight = 1.0 / sizes[number[order]]
        return cls(tails[order], np.cumsum(weight) - weight, len(sizes))

    def threshold(self, level: float) -> float:
        """The greatest tail such that the weight below it is within the budget; 0 where there is none."""
        least = np.searchsorted(self.before, _budget(self.blocks, level) - 1.0, side="right")
        return float(self.tails[least - 1]) if least else 0.0


def _budget(blocks: int, level: float) -> float:
    # 1 - 0.8 is not exactly 0.2: without the tolerance, ten of 49 queries would be nine.
    return (blocks + 1) * (1.0 - level) + 1e-9
