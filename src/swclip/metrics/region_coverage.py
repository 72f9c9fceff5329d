"""Whether regions keep what they promise, and how large they are: measured from posteriors that come in chunks."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float32, Float64, Int64
from numpy.typing import ArrayLike

from swclip.calibration.conformal import Calibration, truth_cities
from swclip.calibration.density import cell_density, density_cuts, tail_mass
from swclip.calibration.region import LEVEL, LEVELS, is_uninformative
from swclip.calibration.region_cells import RegionCells
from swclip.data.grouping import group_numbers
from swclip.errors import MismatchError
from swclip.geo.cells import across_m
from swclip.metrics.calibration import reliability, risk_coverage_curve, share_interval
from swclip.metrics.coverage_parts import (
    Area,
    AreaCurve,
    CalibrationMethod,
    CalibrationReport,
    Cells,
    CityCoverage,
    DistrictCoverage,
    LevelCoverage,
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
"""Thresholds at which the area of every region is taken: ten a decade, then a tenth of a logit apart, up to 0.999."""

_MEMORY_BYTES = 64 * 2**20


class RegionMeter:
    """Measures regions from the posteriors of queries whose places are known.

    With a calibration the regions are those that answers state. Without one (the table of another tool, a run from
    before there were regions), the queries calibrate one another: whole units of them are dealt to two halves, and the
    regions of each half take their threshold from the other. Thresholds of halves are only known once all queries were
    seen, so they are lowered to the next of `THRESHOLDS`: the regions are a little larger for it, never smaller.

    Args:
        ground: The cells of the candidates.
        truth_deg: (Q, 2) true positions, degrees.
        calibration: From validation queries; None for halves of these.
        cities: Q names, None where unknown.
        blocks: Q blocks of queries that succeed and fail together, for the intervals; each by itself where None.
        units: Q units for the halves, what the split dealt as one (`regions.exchangeable_units`); blocks where None.
        levels: Probabilities promised.
        seed: Of the halves.
        kept: Is given the masses of the cells as they pass.

    Raises:
        MismatchError: The calibration is of other cells.
        ConfigError: A level is not between 0 and 1.
    """

    def __init__(
        self,
        ground: RegionCells,
        truth_deg: ArrayLike,
        calibration: Calibration | None = None,
        *,
        cities: Sequence[str | None] | None = None,
        blocks: Sequence[Hashable] | None = None,
        units: Sequence[Hashable] | None = None,
        levels: Sequence[float] = LEVELS,
        seed: int = 0,
        kept: CellMeter | None = None,
    ) -> None:
        if calibration is not None:
            calibration.check_cells(ground)
        self.ground = ground
        self.calibration = calibration
        self.levels = tuple(levels)
        self._cells = ground.index_of(truth_deg)
        self._cities = truth_cities(self._cells, ground, [None] * len(self._cells) if cities is None else cities)
        self._blocks = np.arange(len(self._cells)) if blocks is None else _numbers(blocks)
        self._units = self._blocks if units is None else _numbers(units)
        self._seed = seed
        self._kept = kept
        self._needed = np.array([_or_nothing(calibration, own) for own in self.levels])
        self._by_city: list[Float64[np.ndarray, " c"] | None] = []
        if calibration is not None and calibration.own_cities:
            self._by_city = [calibration.cell_thresholds(ground, own) for own in self.levels]
        asked = [self._needed, *(own for own in self._by_city if own is not None), THRESHOLDS]
        # All that is asked of a posterior, once each; 0 is asked of none.
        self._asked = np.unique(np.concatenate([own[own > 0.0] for own in asked]))
        self._at_grid = np.searchsorted(self._asked, THRESHOLDS)
        self._at_levels = np.searchsorted(self._asked, self._needed)
        self._at_cells = [None if own is None else np.searchsorted(self._asked, own) for own in self._by_city]
        self._tails: list[Float64[np.ndarray, " c"]] = []
        self._areas: list[Float64[np.ndarray, " l"]] = []
        self._city_areas: list[Float64[np.ndarray, " l"]] = []
        self._curves: list[Float32[np.ndarray, " g"]] = []
        self._curve_sum = np.zeros(len(THRESHOLDS))
        self._done = 0

    def add(self, probability: Float[np.ndarray, "q m"]) -> None:
        """The posteriors of the next queries over the candidates, as answers state them (smoothed on the ground).

        Raises:
            MismatchError: They are over another number of candidates, or there are more of them than queries.
        """
        values = np.asarray(probability, dtype=np.float64)
        if self._done + len(values) > len(self._cells):
            raise MismatchError(f"{self._done + len(values)} posteriors for {len(self._cells)} queries.")
        step = max(1, _MEMORY_BYTES // (8 * max(1, len(self.ground))))
        for at in range(0, len(values), step):
            rows = values[at : at + step]
            mass = self.ground.mass(rows / rows.sum(axis=1, keepdims=True))
            if self._kept is not None:
                self._kept.add(mass)
            cells = self._cells[self._done : self._done + len(rows)]
            self._tails.append(tail_mass(mass, self.ground.area_km2, cells))
            for own in mass:
                self._add_areas(own)
            self._done += len(rows)

    def report(self, regions: Sequence[str], error_m: ArrayLike, probability: ArrayLike) -> CalibrationReport:
        """The figures; infinite areas are None.

        Args:
            regions: Q names to report under.
            error_m: (Q,) errors of the answers, metres.
            probability: (Q,) the posterior's mass within 25 m of the answer.
        """
        tails, ground, source = self._all_tails, self.ground, self.calibration
        place = _Place(np.asarray(regions, dtype=object), self._blocks)
        needed, areas = self._promised
        covered = tails[:, None] >= needed
        total = ground.total_area_km2
        levels = []
        for at, level in enumerate(self.levels):
            least = float(needed[:, at].min())
            levels.append(
                LevelCoverage(
                    level=level,
                    threshold=least if least > 0.0 else None,
                    **place.figures(covered[:, at], areas[:, at]),
                    expected=_expected(source, level),
                    cannot_tell=float(np.mean(is_uninformative(areas[:, at], level, total))),
                    by_city=self._city_figures(at, place),
                )
            )
        error = np.asarray(error_m, dtype=np.float64)
        return CalibrationReport(
            method=CalibrationMethod(
                source=HALVES if source is None else VALIDATION,
                n=len(tails) if source is None else len(source),
                units=len(np.unique(self._units)) if source is None else source.n_blocks,
                unreachable=int(np.count_nonzero(tails == 0.0)) if source is None else source.unreachable,
                by_city=bool(self._by_city),
                own_cities=[] if source is None else source.own_cities,
            ),
            cells=Cells(resolution=ground.resolution, across_m=across_m(ground.resolution), spread_m=ground.spread_m),
            total_area_km2=total,
            levels=levels,
            reliability=reliability(probability, error <= RECALL_RADIUS_M, self._blocks),
            area_curve=self._area_curve(),
            selective=risk_coverage_curve(
                error, self._main_area, by=f"area of the {100 * self._main_level:g} % region"
            ),
        )

    def columns(self) -> dict[str, Any]:
        """Columns of the predictions: area and coverage at each level, and whether the region of one says nothing."""
        needed, areas = self._promised
        found: dict[str, Any] = {}
        for at, level in enumerate(self.levels):
            finite = np.where(np.isfinite(areas[:, at]), areas[:, at], np.nan)
            found[f"region_area_km2_{100 * level:g}"] = pd.array(finite, dtype="Float64")
        for at, level in enumerate(self.levels):
            found[f"covered_{100 * level:g}"] = pd.array(self._all_tails >= needed[:, at], dtype="boolean")
        silent = is_uninformative(self._main_area, self._main_level, self.ground.total_area_km2)
        return {**found, "cannot_tell": pd.array(silent, dtype="boolean")}

    def _add_areas(self, mass: Float64[np.ndarray, " c"]) -> None:
        ground = self.ground.area_km2
        cuts, areas = density_cuts(mass, ground, self._asked)
        curve = areas[self._at_grid]
        self._curve_sum += curve
        if self.calibration is None:
            # Rounded up: no region is to look smaller than it is.
            self._curves.append(np.nextafter(curve.astype(np.float32), np.float32(np.inf)))
            return
        self._areas.append(np.where(self._needed > 0.0, areas[self._at_levels], np.inf))
        if self._by_city:
            density = cell_density(mass, ground)
            inside = (None if at is None else density >= cuts[at] for at in self._at_cells)
            self._city_areas.append(np.array([np.inf if own is None else ground[own].sum() for own in inside]))

    @property
    def _all_tails(self) -> Float64[np.ndarray, " q"]:
        if self._done != len(self._cells):
            raise MismatchError(f"{self._done} posteriors for {len(self._cells)} queries.")
        return np.concatenate([np.zeros(0), *self._tails])

    @cached_property
    def _promised(self) -> tuple[Float64[np.ndarray, "q l"], Float64[np.ndarray, "q l"]]:
        """What each query's truth needs in its tail to be covered, 0 where the region is everything, and the areas."""
        tails = self._all_tails
        if self.calibration is not None:
            return np.tile(self._needed, (len(tails), 1)), np.array(self._areas).reshape(-1, len(self.levels))
        half_of = split_blocks(self._units.tolist(), 2, np.random.default_rng(self._seed))
        curves = np.array(self._curves).reshape(-1, len(THRESHOLDS))
        needed, areas = np.zeros((len(tails), len(self.levels))), np.full((len(tails), len(self.levels)), np.inf)
        for half in (0, 1):
            others = half_of != half
            theirs = Calibration.of(
                tails[others], self._cells[others], self.ground, blocks=self._units[others].tolist()
            )
            for at, level in enumerate(self.levels):
                place = np.searchsorted(THRESHOLDS, _or_nothing(theirs, level), side="right") - 1
                if place >= 0:
                    needed[~others, at], areas[~others, at] = THRESHOLDS[place], curves[~others, place]
        return needed, areas

    @property
    def _main_level(self) -> float:
        return LEVEL if LEVEL in self.levels else self.levels[0]

    @property
    def _main_area(self) -> Float64[np.ndarray, " q"]:
        return self._promised[1][:, self.levels.index(self._main_level)]

    def _city_figures(self, at: int, place: _Place) -> CityCoverage | None:
        if not self._by_city or self.calibration is None:
            return None
        level = self.levels[at]
        named = {city: _or_nothing(self.calibration, level, city) for city in set(self._cities)}
        needed = np.array([named[city] for city in self._cities])
        areas = np.array(self._city_areas)[:, at]
        figures = place.figures(self._all_tails >= needed, areas)
        return CityCoverage(
            **figures, cannot_tell=float(np.mean(is_uninformative(areas, level, self.ground.total_area_km2)))
        )

    def _area_curve(self) -> AreaCurve:
        """Recall against mean area, from the smallest regions to the largest."""
        tails = np.sort(self._all_tails)
        recall = 1.0 - np.searchsorted(tails, THRESHOLDS) / len(tails)
        area = self._curve_sum / len(tails)
        # Points apart in recall and in the logarithm of the area alike: both ends of the curve are of interest.
        along = np.log(area + 1e-6 * area.max(initial=1e-300))
        length = (recall[0] - recall) / max(recall[0] - recall[-1], 1e-12)
        length = length + (along[0] - along) / max(along[0] - along[-1], 1e-12)
        chosen = np.unique(np.searchsorted(length, np.linspace(0.0, length[-1], CURVE_POINTS)))[::-1]
        return AreaCurve(area_km2=area[chosen].tolist(), recall=recall[chosen].tolist())


@dataclass(frozen=True)
class _Place:
    """What coverage is reported by."""

    regions: Any
    blocks: Int64[np.ndarray, " q"]

    def figures(self, covered: Bool[np.ndarray, " q"], area_km2: Float64[np.ndarray, " q"]) -> dict[str, Any]:
        """Coverage with its interval and areas, on the whole and by region: fields of `LevelCoverage` and `CityCoverage`."""
        own = {}
        for name in sorted(set(self.regions.tolist())):
            rows = np.flatnonzero(self.regions == name)
            own[name] = DistrictCoverage(
                n=len(rows),
                **_coverage(covered[rows], self.blocks[rows]),
                median_area_km2=_finite(np.median(area_km2[rows])),
            )
        return {
            "n": len(covered),
            **_coverage(covered, self.blocks),
            "area_km2": Area(
                median=_finite(np.median(area_km2)),
                mean=_finite(np.mean(area_km2)),
                p90=_finite(np.quantile(area_km2, 0.9, method="higher")),
            ),
            "by_region": own,
        }


def _numbers(names: Sequence[Hashable]) -> Int64[np.ndarray, " q"]:
    return group_numbers([str(name) for name in names])


def _coverage(covered: Bool[np.ndarray, " q"], blocks: Int64[np.ndarray, " q"]) -> dict[str, Any]:
    return {"coverage": float(covered.mean()), "coverage_interval": list(share_interval(covered, blocks))}


def _expected(calibration: Calibration | None, level: float) -> list[float] | None:
    found = None if calibration is None else calibration.expected(level)
    return None if found is None else list(found)


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _or_nothing(calibration: Calibration | None, level: float, city: str | None = None) -> float:
    """The threshold of a level, 0 where the region is everything."""
    threshold = None if calibration is None else calibration.threshold(level, city)
    return 0.0 if threshold is None else threshold
