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

By area (Mondrian conformal prediction): the queries are divided by the area of their posterior (`areas`), and the
threshold of an answer is that of the queries of its area. Coverage is then at least nominal among the answers of each
area by itself, and an area whose queries are out of reach costs no other area its regions. An area with fewer than
`LEAST_BLOCKS_OF_AN_AREA` blocks falls back on all such areas together, which is one more category of the same taxonomy;
where these have too few blocks as well, on the queries of all areas, whose coverage is nominal over all answers and not
in each area. The group of an area does not depend on the level, so that regions of higher levels contain the others.

References:
    V. Vovk, A. Gammerman, G. Shafer, "Algorithmic Learning in a Random World" (2005), section 4.5 (Mondrian); V. Vovk,
    "Conditional validity of inductive conformal predictors", ACML 2012, section 3. H. Papadopoulos et al., "Inductive
    confidence machines for regression", ECML 2002. A. N. Angelopoulos, S. Bates, "A gentle introduction to conformal
    prediction" (2021), arXiv 2107.07511, sections 1 and 4.1 (group-balanced). Y. Romano, M. Sesia, E. Candes,
    "Classification with valid and adaptive coverage", NeurIPS 2020: the score, here without randomisation.
    Y. Lee, R. F. Barber, R. Willett, "Distribution-free inference with hierarchical data", arXiv 2306.06342: blocks.
"""

from __future__ import annotations

import math
import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy.typing import ArrayLike

from swclip.calibration.in_area import InArea
from swclip.calibration.posterior_config import EffortName
from swclip.calibration.region import Region, cell_density, check_level, density_cuts
from swclip.calibration.region_cells import RegionCells, area_spreads_m
from swclip.calibration.stated import StatedProbabilities
from swclip.calibration.tail_group import Group, Scope
from swclip.data.grouping import group_numbers
from swclip.errors import ArtefactError, MismatchError
from swclip.files import read_json, write_json

REGIONS_NAME = "regions.json"
REGIONS_VERSION = "2"

POOLED_VERSION = "1"
"""The version before calibration by area, which is read as it was used: one threshold and one spread for all areas."""

LEAST_BLOCKS_OF_AN_AREA = 20
"""An area with fewer blocks of queries has no threshold of its own: it could not reach 95 %."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Tails of calibration queries, and the cells they were computed on.

    Attributes:
        tails: (n,) tail of each query's truth; 0 where no candidate reaches it.
        areas: n names of the area of each query's posterior, None for a calibration without areas.
        resolution: H3 resolution of the cells.
        spread_m: Spread of a candidate's mass by area, metres; a number where it is one for all areas.
        blocks: (n,) number of each query's block; None where each query is a block.
        stated: Maps from posterior masses to stated probabilities; None to state the masses.
        fast: The calibration of the posterior without whitened features (`PosteriorConfig.fast`); None where it has
            none.
        protocol: Split protocol of the queries, such as known-places; None where it is not known.
        balanced: That of the posterior without verification (`PosteriorConfig.balanced`), likewise.
        in_area: Whether a photograph was taken in the gallery's area at all; None where that was not fitted.
    """

    tails: Float64[np.ndarray, " n"]
    areas: tuple[str | None, ...]
    resolution: int
    spread_m: float | Mapping[str, float]
    blocks: Int64[np.ndarray, " n"] | None = None
    stated: StatedProbabilities | None = None
    fast: Calibration | None = None
    protocol: str | None = None
    balanced: Calibration | None = None
    in_area: InArea | None = None

    @classmethod
    def of(
        cls,
        tails: ArrayLike,
        cells: RegionCells,
        areas: Int64[np.ndarray, " n"] | None = None,
        blocks: Sequence[Hashable] | None = None,
    ) -> Calibration:
        """Calibrate with the tails of queries' true cells.

        Args:
            tails: (n,) tails.
            cells: The cells.
            areas: (n,) number of the area of each query's posterior, `RegionCells.areas`; None to calibrate all areas
                together.
            blocks: n blocks; None for each query by itself.
        """
        values = np.array(tails, dtype=np.float64)
        names = (None,) * len(values) if areas is None else tuple(cells.areas.names[at] for at in areas.tolist())
        numbers = None if blocks is None else group_numbers([str(block) for block in blocks])
        return cls(values, names, cells.resolution, cells.spread_m, numbers)

    def __len__(self) -> int:
        return len(self.tails)

    def at(self, effort: EffortName) -> Calibration:
        """The calibration of an effort."""
        if effort == "best":
            return self
        if effort == "fast" and self.fast is not None:
            return self.fast
        return self if self.balanced is None else self.balanced

    def abstains(self, in_area_probability: float) -> bool:
        """Whether an answer abstains since the photograph was probably not taken in the gallery's area."""
        return self.in_area is not None and in_area_probability < self.in_area.threshold

    @property
    def unreachable(self) -> int:
        """Number of truths without any mass: no candidate with a positive probability reaches their cell."""
        return int(np.count_nonzero(self.tails == 0.0))

    def threshold(self, level: float, area: str | None = None) -> float | None:
        """The smallest tail of a cell in the region of a level; None where the region is unbounded.

        Args:
            level: L, the nominal coverage, between 0 and 1.
            area: The area of the posterior; None for the threshold of all areas together.

        Raises:
            ConfigError: The level is not between 0 and 1.

        Example:
            >>> queries = Calibration(np.array([0.1, 0.4, 0.2, 0.3]), (None,) * 4, 11, 25.0)
            >>> queries.threshold(0.8), queries.threshold(0.5), queries.threshold(0.9)
            (0.1, 0.2, None)
        """
        check_level(level)
        threshold = self.group(area).threshold(level)
        return threshold if threshold > 0.0 else None

    def group(self, area: str | None) -> Group:
        """The queries that set the thresholds of an area; None for those of all areas."""
        if area is None:
            return self._groups[None]
        return self._groups.get(area, self._fallback)

    def queries_of(self, area: str) -> Group:
        """The queries of an area, also where they are too few for a threshold."""
        return self._group(np.array([name == area for name in self.areas], dtype=np.bool_), "area")

    def region(
        self, mass: Float64[np.ndarray, " c"], cells: RegionCells, level: float, area: str | None = None
    ) -> Region:
        """The region of one posterior.

        Args:
            mass: (C,) mass of each cell, `RegionCells.mass`.
            cells: The cells.
            level: L.
            area: The area of the posterior, for its threshold; None for that of all areas.

        Raises:
            ConfigError: The level is not between 0 and 1.
        """
        threshold = self.threshold(level, area)
        if threshold is None:
            return Region(level, None, math.inf, cells.total_area_km2)
        cuts, areas_km2 = density_cuts(mass, cells.area_km2, np.array([threshold]))
        inside = np.flatnonzero(cell_density(mass, cells.area_km2) >= cuts[0])
        return Region(level, inside, float(areas_km2[0]), cells.total_area_km2)

    @property
    def n_blocks(self) -> int:
        """Number of blocks of queries."""
        return self._groups[None].blocks

    @property
    def calibrated_areas(self) -> list[str]:
        """The areas whose own queries set their threshold."""
        return sorted(area for area in self._groups if area is not None)

    @property
    def all_areas(self) -> list[str]:
        """The areas with queries."""
        return sorted({area for area in self.areas if area is not None})

    def cells(self, positions_deg: ArrayLike, cities: Sequence[str | None] | None) -> RegionCells:
        """The cells of a gallery's candidates, with the resolution and the spreads of this calibration."""
        spread: float | Mapping[str, float]
        if isinstance(self.spread_m, Mapping):
            spread = area_spreads_m(positions_deg, cities, self.resolution, self.spread_m)
        else:
            spread = self.spread_m
        return RegionCells.of(positions_deg, cities, resolution=self.resolution, spread_m=spread)

    def check_cells(self, cells: RegionCells) -> None:
        """Raise MismatchError unless the tails were computed on cells of this resolution and spread."""
        for area, spread_m in cells.spread_m.items():
            calibrated_m = self.spread_m.get(area, spread_m) if isinstance(self.spread_m, Mapping) else self.spread_m
            if (self.resolution, calibrated_m) != (cells.resolution, spread_m):
                raise MismatchError(
                    f"regions were calibrated on H3 cells of resolution {self.resolution} with a spread of "
                    f"{calibrated_m:g} m, and these are of resolution {cells.resolution} with {spread_m:g} m ({area}); "
                    "take the calibration's resolution and spreads, Calibration.cells."
                )

    @cached_property
    def _groups(self) -> dict[str | None, Group]:
        """All queries under None, and those of each area with enough blocks, or of the only area."""
        everything = np.ones(len(self.tails), dtype=np.bool_)
        named = self.all_areas
        groups: dict[str | None, Group] = {None: self._group(everything, "all areas")}
        if len(named) == 1 and None not in self.areas:
            return {**groups, named[0]: self._group(everything, "area")}
        own = {area: self.queries_of(area) for area in named}
        return groups | {area: group for area, group in own.items() if group.blocks >= LEAST_BLOCKS_OF_AN_AREA}

    @cached_property
    def _fallback(self) -> Group:
        """The group of an area with few queries or none."""
        if len(self._groups) > 1:
            small = self._group(np.array([area not in self._groups for area in self.areas], np.bool_), "small areas")
            if small.blocks >= LEAST_BLOCKS_OF_AN_AREA:
                return small
        return self._groups[None]

    def _group(self, rows: Bool[np.ndarray, " n"], scope: Scope) -> Group:
        blocks = np.arange(len(self.tails)) if self.blocks is None else self.blocks
        return Group.of(self.tails[rows], blocks[rows], scope)

    def to_dict(self) -> dict[str, Any]:
        """The values for JSON."""
        return {
            "version": REGIONS_VERSION,
            "resolution": self.resolution,
            "spread_m": dict(self.spread_m) if isinstance(self.spread_m, Mapping) else self.spread_m,
            "tails": self.tails.tolist(),
            "areas": list(self.areas),
            "blocks": None if self.blocks is None else self.blocks.tolist(),
            "stated": None if self.stated is None else self.stated.to_dict(),
            **{
                name: calibration.to_dict()
                for name, calibration in (("fast", self.fast), ("balanced", self.balanced))
                if calibration is not None
            },
            "protocol": self.protocol,
            "in_area": None if self.in_area is None else asdict(self.in_area),
        }

    @classmethod
    def from_dict(cls, values: Any, where: str = REGIONS_NAME) -> Calibration:
        """The inverse of `to_dict`; files of `POOLED_VERSION` become a calibration of all areas together.

        Args:
            values: The mapping.
            where: The name of its file in messages.

        Raises:
            ArtefactError: It is of another version, or a value is invalid.
        """
        again = "train the run again, or remove the file to go without regions"
        version = values.get("version") if isinstance(values, dict) else None
        if version not in (POOLED_VERSION, REGIONS_VERSION):
            reads = f"{POOLED_VERSION!r} and {REGIONS_VERSION!r}"
            raise ArtefactError(f"{where}: version {version!r}, and this swclip reads {reads}; {again}.")
        try:
            tails = np.array(values["tails"], dtype=np.float64)
            areas = (None,) * len(tails) if version == POOLED_VERSION else tuple(values["areas"])
            blocks = None if values["blocks"] is None else np.array(values["blocks"], dtype=np.int64)
            stated = None if values.get("stated") is None else StatedProbabilities.from_dict(values["stated"])
            in_area = None if values.get("in_area") is None else InArea.from_dict(values["in_area"])
            resolution, spread_m, protocol = values["resolution"], values["spread_m"], values.get("protocol")
            if isinstance(spread_m, dict):
                spread_m = {str(area): float(metres) for area, metres in spread_m.items()}
            else:
                spread_m = float(spread_m)
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise ArtefactError(f"{where}: is not the calibration of a model ({error!r}); {again}.") from error
        wrong = None
        if tails.ndim != 1 or not ((tails >= 0.0) & (tails <= 1.0)).all():
            wrong = "tails are not numbers from 0 to 1"
        elif len(areas) != len(tails) or not all(area is None or isinstance(area, str) for area in areas):
            wrong = f"areas are not {len(tails)} names"
        elif blocks is not None and blocks.shape != tails.shape:
            wrong = f"blocks are not {len(tails)} numbers"
        elif not isinstance(resolution, int) or resolution not in range(16):
            wrong = f"resolution {resolution!r} does not exist"
        elif not all(math.isfinite(m) and m > 0 for m in _values(spread_m)):
            wrong = f"spread_m is {spread_m}"
        elif not (protocol is None or isinstance(protocol, str)):
            wrong = f"protocol is {protocol!r}"
        if wrong:
            raise ArtefactError(f"{where}: is not the calibration of a model ({wrong}); {again}.")
        named = (values.get(name) for name in ("fast", "balanced"))
        fast, balanced = (None if other is None else cls.from_dict(other, where) for other in named)
        return cls(tails, areas, resolution, spread_m, blocks, stated, fast, protocol, balanced, in_area)


def _values(spread_m: float | Mapping[str, float]) -> list[float]:
    return list(spread_m.values()) if isinstance(spread_m, Mapping) else [spread_m]


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
