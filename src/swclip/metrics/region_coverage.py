"""Coverage and area of prediction regions, accumulated from posteriors in chunks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float32, Float64, Int64
from numpy.typing import ArrayLike

from swclip.answers.record import NEAR_M
from swclip.calibration.conformal import Calibration
from swclip.calibration.region import LEVEL, LEVELS, density_cuts, is_uninformative, tail_mass
from swclip.calibration.region_cells import SPREAD_M, RegionCells
from swclip.data.grouping import group_numbers
from swclip.errors import MismatchError
from swclip.geo.cells import across_m
from swclip.metrics.calibration import (
    AreaCalibration,
    AreaCurve,
    CalibrationMethod,
    CalibrationReport,
    Cells,
    DistrictCoverage,
    LevelCoverage,
    RegionAreas,
    reliability,
    risk_coverage_curve,
    share_interval,
    stated_probability,
)
from swclip.metrics.localization_error import RECALL_RADIUS_M
from swclip.metrics.query_details import CellMeter
from swclip.retrieval.region_fit import split_blocks

VALIDATION: Literal["validation"] = "validation"
HALVES: Literal["halves of the queries"] = "halves of the queries"

CURVE_POINTS = 60

THRESHOLDS: Float64[np.ndarray, " g"] = np.concatenate(
    [np.geomspace(1e-12, 1e-4, 80, endpoint=False), 1.0 / (1.0 + np.exp(-np.linspace(math.log(1e-4), 7.0, 163)))]
)
"""Thresholds at which areas are computed: ten per decade, then a tenth of a logit apart, up to 0.999."""

_MEMORY_BYTES = 64 * 2**20


class RegionMeter:
    """Accumulates coverage and areas of prediction regions from the posteriors of queries with known positions.

    With a calibration the regions are those of the model's answers. Without one (another tool's table, or a run without
    calibration), the queries are cross-calibrated: whole units are split into two halves, and the regions of each half
    use the threshold of the other half. These thresholds are known only after all queries, and are rounded down to the
    next of `THRESHOLDS`: the regions are slightly larger, never smaller.

    Args:
        cells: The cells of the candidates.
        truth_deg: (Q, 2) true positions, degrees.
        calibration: From validation queries; None for cross-calibration by halves.
        blocks: Q blocks of correlated queries, for the intervals; None for one block per query.
        units: Q exchangeable units for the halves (`districts.exchangeable_units`); blocks where None.
        levels: Nominal coverage levels.
        seed: Seed of the split into halves.
        cell_meter: Collects the masses of the cells.

    Raises:
        MismatchError: The calibration is of other cells.
        ConfigError: A level is not between 0 and 1.
    """

    def __init__(
        self,
        cells: RegionCells,
        truth_deg: ArrayLike,
        calibration: Calibration | None = None,
        *,
        blocks: Sequence[Hashable] | None = None,
        units: Sequence[Hashable] | None = None,
        levels: Sequence[float] = LEVELS,
        seed: int = 0,
        cell_meter: CellMeter | None = None,
    ) -> None:
        if calibration is not None:
            calibration.check_cells(cells)
        self.cells = cells
        self.calibration = calibration
        self.levels = tuple(levels)
        self._truth_cells = cells.index_of(truth_deg)
        count = len(self._truth_cells)
        self._blocks = np.arange(count) if blocks is None else _numbers(blocks)
        self._units = self._blocks if units is None else _numbers(units)
        self._seed = seed
        self._cell_meter = cell_meter
        # (A, L) by area and level, 0 where a region is unbounded.
        self._thresholds = np.array(
            [[_threshold_or_zero(calibration, level, area) for level in self.levels] for area in cells.areas.names]
        ).reshape(len(cells.areas), len(self.levels))
        # All distinct thresholds above 0, so that each posterior is cut once.
        self._cut_at = np.unique(np.concatenate([self._thresholds[self._thresholds > 0.0], THRESHOLDS]))
        self._at_grid = np.searchsorted(self._cut_at, THRESHOLDS)
        self._at_levels = np.searchsorted(self._cut_at, self._thresholds)
        self._area_of: list[Int64[np.ndarray, " c"]] = []
        self._tails: list[Float64[np.ndarray, " c"]] = []
        self._areas: list[Float64[np.ndarray, " l"]] = []
        self._curves: list[Float32[np.ndarray, " g"]] = []
        self._curve_sum = np.zeros(len(THRESHOLDS))
        self._done = 0

    def add(self, probability: Float[np.ndarray, "q m"]) -> None:
        """Add the spatially smoothed posteriors of the next queries over the candidates.

        Raises:
            MismatchError: They are over another number of candidates, or there are more of them than queries.
        """
        values = np.asarray(probability, dtype=np.float64)
        if self._done + len(values) > len(self._truth_cells):
            raise MismatchError(f"{self._done + len(values)} posteriors for {len(self._truth_cells)} queries.")
        step = max(1, _MEMORY_BYTES // (8 * max(1, len(self.cells))))
        for at in range(0, len(values), step):
            rows = values[at : at + step]
            mass = self.cells.mass(rows / rows.sum(axis=1, keepdims=True))
            if self._cell_meter is not None:
                self._cell_meter.add(mass)
            truth_cells = self._truth_cells[self._done : self._done + len(rows)]
            self._tails.append(tail_mass(mass, self.cells.area_km2, truth_cells))
            self._area_of.append(self.cells.areas.of_posteriors(rows))
            for query_mass, area in zip(mass, self._area_of[-1].tolist(), strict=True):
                self._add_areas(query_mass, area)
            self._done += len(rows)

    def stated(self, mass: Float64[np.ndarray, " q"], radius_m: float) -> Float64[np.ndarray, " q"]:
        """(Q,) the stated probabilities of answers: calibrated where the calibration has maps, or the masses (Q,)."""
        maps = None if self.calibration is None else self.calibration.stated
        if maps is None:
            return mass
        return maps.of(mass, [self.cells.areas.names[area] for area in self._all_areas], radius_m)

    def report(
        self, districts: Sequence[str], error_m: ArrayLike, mass: Mapping[float, Float64[np.ndarray, " q"]]
    ) -> CalibrationReport:
        """The figures of all queries; infinite areas are None.

        Args:
            districts: District of each of the Q queries.
            error_m: (Q,) errors of the answers, metres.
            mass: For each radius of `RADII_M`, (Q,) posterior mass within it of the answer.
        """
        tails, cells, source = self._all_tails, self.cells, self.calibration
        groups = _Groups(np.asarray(districts, dtype=object), self._blocks, source)
        thresholds, areas = self._thresholds_and_areas
        covered = tails[:, None] >= thresholds
        total = cells.total_area_km2
        levels = []
        for at, level in enumerate(self.levels):
            smallest = float(thresholds[:, at].min())
            levels.append(
                LevelCoverage(
                    level=level,
                    threshold=smallest if smallest > 0.0 else None,
                    **groups.figures(covered[:, at], areas[:, at], level),
                    expected=self._expected(level),
                    cannot_tell=float(np.mean(is_uninformative(areas[:, at], level, total))),
                    by_city=None,
                )
            )
        error = np.asarray(error_m, dtype=np.float64)
        return CalibrationReport(
            method=CalibrationMethod(
                source=HALVES if source is None else VALIDATION,
                n=len(tails) if source is None else len(source),
                units=len(np.unique(self._units)) if source is None else source.n_blocks,
                unreachable=int(np.count_nonzero(tails == 0.0)) if source is None else source.unreachable,
                by_city=source is not None and bool(source.calibrated_areas),
                own_cities=[] if source is None else source.calibrated_areas,
                **({} if source is None else {"areas": self._area_calibrations(source)}),
            ),
            cells=Cells(
                resolution=cells.resolution,
                across_m=across_m(cells.resolution),
                spread_m=min(cells.spread_m.values(), default=SPREAD_M),
            ),
            total_area_km2=total,
            levels=levels,
            reliability=reliability(
                self.stated(mass[RECALL_RADIUS_M], RECALL_RADIUS_M), error <= RECALL_RADIUS_M, self._blocks
            ),
            area_curve=self._area_curve(),
            selective=risk_coverage_curve(
                error, self._main_area, by=f"area of the {100 * self._main_level:g} % region"
            ),
            stated=stated_probability(
                self.stated(mass[NEAR_M], NEAR_M),
                error <= NEAR_M,
                self._blocks,
                districts,
                within_m=NEAR_M,
                calibrated=source is not None and source.stated is not None,
            ),
        )

    def columns(self) -> dict[str, Any]:
        """Columns of the predictions: area and coverage at each level, and whether a query abstains."""
        thresholds, areas = self._thresholds_and_areas
        columns: dict[str, Any] = {}
        for at, level in enumerate(self.levels):
            finite = np.where(np.isfinite(areas[:, at]), areas[:, at], np.nan)
            columns[f"region_area_km2_{100 * level:g}"] = pd.array(finite, dtype="Float64")
        for at, level in enumerate(self.levels):
            columns[f"covered_{100 * level:g}"] = pd.array(self._all_tails >= thresholds[:, at], dtype="boolean")
        abstains = is_uninformative(self._main_area, self._main_level, self.cells.total_area_km2)
        return {**columns, "cannot_tell": pd.array(abstains, dtype="boolean")}

    def _add_areas(self, mass: Float64[np.ndarray, " c"], area: int) -> None:
        _, areas = density_cuts(mass, self.cells.area_km2, self._cut_at)
        curve = areas[self._at_grid]
        self._curve_sum += curve
        if self.calibration is None:
            # Rounded up, so that no region appears smaller than it is.
            self._curves.append(np.nextafter(curve.astype(np.float32), np.float32(np.inf)))
            return
        self._areas.append(np.where(self._thresholds[area] > 0.0, areas[self._at_levels[area]], np.inf))

    @property
    def _all_tails(self) -> Float64[np.ndarray, " q"]:
        if self._done != len(self._truth_cells):
            raise MismatchError(f"{self._done} posteriors for {len(self._truth_cells)} queries.")
        return np.concatenate([np.zeros(0), *self._tails])

    @property
    def _all_areas(self) -> Int64[np.ndarray, " q"]:
        return np.concatenate([np.zeros(0, dtype=np.int64), *self._area_of])

    @cached_property
    def _thresholds_and_areas(self) -> tuple[Float64[np.ndarray, "q l"], Float64[np.ndarray, "q l"]]:
        """Smallest tail that each query's region covers, 0 where it is unbounded, and the areas of the regions."""
        tails = self._all_tails
        area_of = self._all_areas
        if self.calibration is not None:
            return self._thresholds[area_of], np.array(self._areas).reshape(-1, len(self.levels))
        half_of = split_blocks(self._units.tolist(), 2, np.random.default_rng(self._seed))
        curves = np.array(self._curves).reshape(-1, len(THRESHOLDS))
        thresholds, areas = np.zeros((len(tails), len(self.levels))), np.full((len(tails), len(self.levels)), np.inf)
        for half in (0, 1):
            others = half_of != half
            calibration = Calibration.of(tails[others], self.cells, area_of[others], self._units[others].tolist())
            for number, level_at in itertools.product(np.unique(area_of[~others]), range(len(self.levels))):
                threshold = _threshold_or_zero(calibration, self.levels[level_at], self.cells.areas.names[number])
                index = np.searchsorted(THRESHOLDS, threshold, side="right") - 1
                if index >= 0:
                    rows = np.flatnonzero(~others & (area_of == number))
                    thresholds[rows, level_at], areas[rows, level_at] = THRESHOLDS[index], curves[rows, index]
        return thresholds, areas

    @property
    def _main_level(self) -> float:
        return LEVEL if LEVEL in self.levels else self.levels[0]

    @property
    def _main_area(self) -> Float64[np.ndarray, " q"]:
        return self._thresholds_and_areas[1][:, self.levels.index(self._main_level)]

    def _expected(self, level: float) -> list[float] | None:
        """The expected interval of the coverage, where one group of queries sets the thresholds of all answers."""
        if self.calibration is None:
            return None
        groups = [self.calibration.group(self.cells.areas.names[area]) for area in np.unique(self._all_areas)]
        interval = groups[0].expected(level)
        return list(interval) if interval is not None and all(group is groups[0] for group in groups) else None

    def _area_calibrations(self, calibration: Calibration) -> dict[str, AreaCalibration]:
        queries = {area: calibration.queries_of(area) for area in calibration.all_areas}
        return {
            area: AreaCalibration(
                n=len(group),
                units=group.blocks,
                unreachable=group.unreachable,
                spread_m=self.cells.spread_m.get(area),
                calibrated_on=calibration.group(area).scope,
            )
            for area, group in queries.items()
        }

    def _area_curve(self) -> AreaCurve:
        """Recall against mean area, by increasing area."""
        tails = np.sort(self._all_tails)
        recall = 1.0 - np.searchsorted(tails, THRESHOLDS) / len(tails)
        area = self._curve_sum / len(tails)
        # Points are spaced evenly in recall and in the logarithm of the area, so that both ends of the curve are shown.
        log_area = np.log(area + 1e-6 * area.max(initial=1e-300))
        length = (recall[0] - recall) / max(recall[0] - recall[-1], 1e-12)
        length = length + (log_area[0] - log_area) / max(log_area[0] - log_area[-1], 1e-12)
        chosen = np.unique(np.searchsorted(length, np.linspace(0.0, length[-1], CURVE_POINTS)))[::-1]
        return AreaCurve(area_km2=area[chosen].tolist(), recall=recall[chosen].tolist())


@dataclass(frozen=True)
class _Groups:
    """Districts and blocks of the queries."""

    districts: Any
    blocks: Int64[np.ndarray, " q"]
    calibration: Calibration | None

    def figures(
        self, covered: Bool[np.ndarray, " q"], area_km2: Float64[np.ndarray, " q"], level: float
    ) -> dict[str, Any]:
        """Coverage with its interval and areas, overall and by district, as fields of `LevelCoverage`."""
        by_district = {}
        for name in sorted(set(self.districts.tolist())):
            rows = np.flatnonzero(self.districts == name)
            by_district[name] = DistrictCoverage(
                n=len(rows),
                **_coverage(covered[rows], self.blocks[rows]),
                median_area_km2=_finite(np.median(area_km2[rows])),
                **self._expected(name, level),
            )
        return {
            "n": len(covered),
            **_coverage(covered, self.blocks),
            "area_km2": RegionAreas(
                median=_finite(np.median(area_km2)),
                mean=_finite(np.mean(area_km2)),
                p90=_finite(np.quantile(area_km2, 0.9, method="higher")),
            ),
            "by_region": by_district,
        }

    def _expected(self, district: str, level: float) -> dict[str, Any]:
        """The expected interval of the coverage of a district that is an area with a threshold of its own."""
        if self.calibration is None or district not in self.calibration.calibrated_areas:
            return {}
        interval = self.calibration.group(district).expected(level)
        return {} if interval is None else {"expected": list(interval)}


def _numbers(names: Sequence[Hashable]) -> Int64[np.ndarray, " q"]:
    return group_numbers([str(name) for name in names])


def _coverage(covered: Bool[np.ndarray, " q"], blocks: Int64[np.ndarray, " q"]) -> dict[str, Any]:
    return {"coverage": float(covered.mean()), "coverage_interval": list(share_interval(covered, blocks))}


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _threshold_or_zero(calibration: Calibration | None, level: float, area: str) -> float:
    """The threshold of a level, 0 where the region is unbounded."""
    threshold = None if calibration is None else calibration.threshold(level, area)
    return 0.0 if threshold is None else threshold
