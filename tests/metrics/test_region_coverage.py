"""Coverage and areas against loops over cells, with a calibration and with halves."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cached_property

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from swclip.calibration.conformal import Calibration
from swclip.calibration.region import LEVELS, tail_mass
from swclip.calibration.region_cells import RegionCells
from swclip.calibration.stated import StatedProbabilities
from swclip.data.grouping import group_numbers
from swclip.errors import MismatchError
from swclip.geo.coordinates import LocalFrame
from swclip.metrics.calibration import CalibrationReport
from swclip.metrics.region_coverage import THRESHOLDS, RegionMeter
from swclip.retrieval.region_fit import split_blocks

FRAMES = {"Leeds": LocalFrame(53.8, -1.55), "York": LocalFrame(53.96, -1.08)}
CANDIDATES = 50


class World:
    """Candidates of two cities, posteriors around noisy positions, and a few unreachable truths."""

    def __init__(self, queries: int = 120, seed: int = 0, unreachable: int = 3) -> None:
        generator = np.random.default_rng(seed)
        places = {name: generator.uniform(0, 800, (CANDIDATES, 2)) for name in FRAMES}
        self.positions = np.concatenate([FRAMES[name].to_deg(xy) for name, xy in places.items()])
        self.candidate_cities = [name for name in FRAMES for _ in range(CANDIDATES)]
        self.cities = [("Leeds", "York")[row % 2] for row in range(queries)]
        truth, rows = [], []
        for row, name in enumerate(self.cities):
            at = places[name][generator.integers(CANDIDATES)] + generator.normal(0, 15, 2)
            away = np.linalg.norm(places[name] - at - generator.normal(0, 60, 2), axis=1)
            p = np.full(2 * CANDIDATES, 1e-4)
            first = CANDIDATES * (name == "York")
            p[first : first + CANDIDATES] += np.exp(-away / 50)
            rows.append(p / p.sum())
            truth.append(FRAMES[name].to_deg(at if row >= unreachable else at + 5000.0)[0])
        self.truth, self.p = np.array(truth), np.array(rows)
        self.blocks = [f"b{row // 4}" for row in range(queries)]
        self.error = generator.exponential(60, queries)
        self.probability = generator.random(queries)
        self.near = {25.0: self.probability, 50.0: np.sqrt(self.probability)}
        self.region_cells = RegionCells.of(self.positions, self.candidate_cities)
        self.mass = self.region_cells.mass(self.p)
        self.cells = self.region_cells.index_of(self.truth)
        self.tails = tail_mass(self.mass, self.region_cells.area_km2, self.cells)
        self.areas = self.region_cells.areas.of_posteriors(self.p)

    @cached_property
    def tails_of_cells(self) -> np.ndarray:
        """(Q, C) the tail of every cell for every query."""
        cells = np.arange(len(self.region_cells))
        return np.stack(
            [tail_mass(np.tile(mass, (len(cells), 1)), self.region_cells.area_km2, cells) for mass in self.mass]
        )

    def meter(self, calibration: Calibration | None, parts: tuple[int, ...] = (1, 50)) -> RegionMeter:
        meter = RegionMeter(self.region_cells, self.truth, calibration, blocks=self.blocks)
        for part in np.split(self.p, parts):
            meter.add(part)
        return meter

    def report(self, meter: RegionMeter) -> CalibrationReport:
        report = meter.report(self.cities, self.error, self.near)
        json.dumps(report.model_dump(), allow_nan=False)
        return report


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    other = World(queries=90, seed=1, unreachable=2)
    return Calibration.of(other.tails, other.region_cells, other.areas)


def test_figures_equal_loops(world: World, calibration: Calibration) -> None:
    meter = world.meter(calibration)
    report, columns = world.report(meter), meter.columns()
    region_cells = world.region_cells
    cell_tails = world.tails_of_cells
    assert report.method.model_dump() == {
        "source": "validation",
        "n": 90,
        "units": 90,
        "unreachable": 2,
        "by_city": True,
        "own_cities": ["Leeds", "York"],
        "areas": {
            name: {"n": 45, "units": 45, "unreachable": 1, "spread_m": 25.0, "calibrated_on": "area"}
            for name in ("Leeds", "York")
        },
    }
    names = [region_cells.areas.names[area] for area in world.areas]
    assert names == world.cities
    assert report.cells.model_dump() == {"resolution": 11, "across_m": 50.0, "spread_m": 25.0}
    assert report.total_area_km2 == pytest.approx(region_cells.area_km2.sum())
    for at_level, level in zip(report.levels, LEVELS, strict=True):
        thresholds = [calibration.threshold(level, area) for area in names]
        assert (at_level.level, at_level.threshold) == (level, min(thresholds))
        areas = np.array(
            [region_cells.area_km2[tail >= t].sum() for tail, t in zip(cell_tails, thresholds, strict=True)]
        )
        covered = np.array(
            [cell >= 0 and tail[cell] >= t for cell, tail, t in zip(world.cells, cell_tails, thresholds, strict=True)]
        )
        assert at_level.expected is None, "two groups of queries"
        assert at_level.n == len(covered)
        assert at_level.coverage == pytest.approx(covered.mean())
        assert at_level.coverage_interval[0] <= at_level.coverage <= at_level.coverage_interval[1]
        assert at_level.area_km2.median == pytest.approx(np.median(areas))
        assert at_level.area_km2.mean == pytest.approx(areas.mean())
        assert at_level.area_km2.p90 == pytest.approx(np.quantile(areas, 0.9, method="higher"))
        abstains = areas >= level * region_cells.area_km2.sum()
        assert at_level.cannot_tell == pytest.approx(abstains.mean())
        for name, figures in at_level.by_region.items():
            rows = np.array(world.cities) == name
            assert figures.n == rows.sum()
            assert figures.coverage == pytest.approx(covered[rows].mean())
            assert figures.median_area_km2 == pytest.approx(np.median(areas[rows]))
            assert figures.expected == list(calibration.group(name).expected(level))
        assert columns[f"covered_{100 * level:g}"].tolist() == covered.tolist()
        assert columns[f"region_area_km2_{100 * level:g}"].tolist() == pytest.approx(areas.tolist())
        if level == 0.8:
            assert columns["cannot_tell"].tolist() == abstains.tolist()
    assert not all(columns["covered_95"])
    assert report.reliability[0].coverage == pytest.approx(
        np.mean(world.error[np.argsort(world.probability)[:12]] <= 25.0)
    )
    assert report.selective.by == "area of the 80 % region"
    assert report.selective.median_m[-1] == pytest.approx(np.median(world.error))


def test_the_area_curve_equals_loops(world: World, calibration: Calibration) -> None:
    curve = world.report(world.meter(calibration)).area_curve
    recall, area = np.array(curve.recall), np.array(curve.area_km2)
    assert 20 <= len(recall) <= 61
    assert (np.diff(recall) >= 0).all()
    assert (np.diff(area) >= 0).all()
    region_cells = world.region_cells
    cell_tails = world.tails_of_cells
    points = {}
    for threshold in THRESHOLDS:
        mean = np.mean([region_cells.area_km2[tail >= threshold].sum() for tail in cell_tails])
        points[round(float(mean), 9)] = float(np.mean(world.tails >= threshold))
    for one, size in zip(recall, area, strict=True):
        assert points[round(float(size), 9)] == pytest.approx(one)
    assert recall[-1] == pytest.approx(1 - 3 / 120), "three truths are in no region"


def test_halves_are_cross_calibrated(world: World) -> None:
    meter = world.meter(None)
    report, columns = world.report(meter), meter.columns()
    method = report.method
    assert (method.source, method.n, method.unreachable) == ("halves of the queries", 120, 3)
    assert (method.by_city, method.own_cities) == (False, [])
    half_of = split_blocks(group_numbers(world.blocks).tolist(), 2, np.random.default_rng(0))
    for at_level, level in zip(report.levels, LEVELS, strict=True):
        covered, areas, thresholds = [], [], []
        for row in range(120):
            # Fifteen blocks in each half are too few for a threshold by area. Blocks of four, all of them whole: K is a
            # quarter of the queries, and each tail weighs a quarter.
            others = world.tails[half_of != half_of[row]]
            allowed = (len(others) / 4 + 1) * (1 - level) - 1 + 1e-9
            fit = [t for t in others if np.count_nonzero(others < t) / 4 <= allowed]
            threshold = max(fit, default=0.0)
            thresholds.append(max((t for t in THRESHOLDS if t <= threshold), default=0.0))
            covered.append(bool(world.tails[row] >= thresholds[-1]))
            inside = world.tails_of_cells[row] >= thresholds[-1]
            areas.append(world.region_cells.area_km2[inside].sum() if thresholds[-1] else None)
        assert at_level.coverage == pytest.approx(np.mean(covered))
        assert at_level.threshold == (pytest.approx(min(thresholds)) if min(thresholds) else None)
        assert at_level.expected is None
        assert columns[f"covered_{100 * level:g}"].tolist() == covered
        for reported, area in zip(columns[f"region_area_km2_{100 * level:g}"], areas, strict=True):
            assert (reported is pd.NA) if area is None else (reported == pytest.approx(area, rel=1e-6))
    assert report.levels[-1].threshold is None, "15 blocks are too few for 95 %"
    assert method.units == 30
    again = world.report(world.meter(None, parts=(60,)))
    assert again == report, "chunks change nothing"


def test_halves_are_split_by_units(world: World) -> None:
    single = RegionMeter(world.region_cells, world.truth, blocks=world.blocks, units=range(120))
    single.add(world.p)
    reported, in_blocks = world.report(single), world.report(world.meter(None))
    assert (reported.method.units, in_blocks.method.units) == (120, 30)
    by_query = reported.levels[1]
    assert reported.levels[-1].cannot_tell < 1.0
    assert in_blocks.levels[-1].cannot_tell == 1.0, "15 blocks are too few for 95 %"
    assert by_query.coverage_interval[1] - by_query.coverage_interval[0] > 0.1, "intervals are by blocks in both cases"


def test_halves_have_nominal_coverage_on_average() -> None:
    level, shares = 0.8, []
    for seed in range(12):
        world = World(queries=80, seed=seed, unreachable=0)
        shares.append(world.report(world.meter(None)).levels[LEVELS.index(level)].coverage)
    # 12 x 80 queries with thresholds from 40: the mean moves by about 0.02.
    assert np.mean(shares) >= level - 0.03
    assert np.mean(shares) <= level + 0.08


def test_too_few_queries_abstain(world: World) -> None:
    few = Calibration(world.tails[3:9], (None,) * 6, 11, 25.0)
    meter = world.meter(few)
    report, columns = world.report(meter), meter.columns()
    at_level = report.levels[LEVELS.index(0.9)]
    assert (at_level.threshold, at_level.coverage, at_level.cannot_tell) == (None, 1.0, 1.0)
    assert at_level.area_km2.model_dump() == {"median": None, "mean": None, "p90": None}
    assert at_level.expected is None
    assert columns["region_area_km2_90"].isna().all()
    one = RegionMeter(world.region_cells, world.truth[:1])
    one.add(world.p[:1])
    reported = one.report(["all"], [10.0], {25.0: np.array([0.5]), 50.0: np.array([0.5])})
    assert [level.cannot_tell for level in reported.levels] == [1.0] * 4
    assert math.isfinite(reported.area_curve.area_km2[-1])


def test_an_area_without_threshold_takes_the_regions_of_no_other(world: World) -> None:
    tails = np.concatenate([np.zeros(40), np.full(400, 0.5)])
    two_areas = Calibration(tails, ("York",) * 40 + ("Leeds",) * 400, 11, 25.0)
    reported = world.report(world.meter(two_areas)).levels[1]
    assert reported.threshold is None
    assert reported.cannot_tell == 0.5
    assert reported.by_region["York"].coverage == 1.0, "an unbounded region covers every truth"
    assert reported.by_region["York"].median_area_km2 is None
    alone = world.report(world.meter(Calibration(tails[40:], ("Leeds",) * 400, 11, 25.0))).levels[1]
    for figures in (reported, alone):
        assert figures.by_region["Leeds"].median_area_km2 == alone.by_region["Leeds"].median_area_km2
        assert figures.by_region["Leeds"].coverage == alone.by_region["Leeds"].coverage


def test_halves_are_calibrated_by_area(world: World) -> None:
    """With each query as a unit, an area has about 30 in each half: enough for a threshold of its own."""
    sparse = np.where(np.array(world.cities) == "York", 1, 0).astype(bool)
    truth = world.truth.copy()
    truth[sparse] += 0.3  # out of reach
    meter = RegionMeter(world.region_cells, truth, units=range(120), seed=3)
    meter.add(world.p)
    covered = meter.columns()["covered_80"]
    reported = meter.report(world.cities, world.error, world.near).levels[1]
    assert reported.by_region["York"].median_area_km2 is None
    assert reported.by_region["Leeds"].median_area_km2 < 0.3 * world.region_cells.total_area_km2
    assert 0.65 <= np.mean(covered[~sparse]) < 1.0


def test_stated_probabilities_are_those_of_answers(world: World, calibration: Calibration) -> None:
    """Mapped by the area of each posterior, and compared with what happened within 50 m, by district too."""
    maps = StatedProbabilities(
        {25.0: (1.0, 0.0), 50.0: (1.0, 0.0)}, {25.0: {"York": (0.5, -1.0)}, 50.0: {"York": (0.5, -1.0)}}
    )
    meter = world.meter(replace(calibration, stated=maps))
    stated, bare = world.report(meter).stated, world.report(world.meter(calibration)).stated
    york = np.array(world.cities) == "York"
    mass, hits = world.near[50.0], world.error <= 50.0
    expected = np.where(york, expit(0.5 * logit(mass) - 1.0), mass)
    assert (stated.within_m, stated.calibrated, bare.calibrated) == (50.0, True, False)
    assert stated.overall.mean_probability == pytest.approx(expected.mean())
    assert bare.overall.mean_probability == pytest.approx(mass.mean())
    for name, rows in {"York": york, "Leeds": ~york}.items():
        figures = stated.by_region[name]
        assert (figures.n, figures.coverage) == (60, pytest.approx(hits[rows].mean()))
        assert figures.mean_probability == pytest.approx(expected[rows].mean())
        assert figures.bins[-1].mean_probability == pytest.approx(np.sort(expected[rows])[-6:].mean())
    np.testing.assert_allclose(meter.stated(world.near[25.0], 25.0)[~york], world.near[25.0][~york])


def test_coverage_is_invariant_to_the_order_of_candidates(world: World, calibration: Calibration) -> None:
    order = np.random.default_rng(0).permutation(2 * CANDIDATES)
    region_cells = RegionCells.of(world.positions[order], [world.candidate_cities[at] for at in order])
    meter = RegionMeter(region_cells, world.truth, calibration, blocks=world.blocks)
    meter.add(world.p[:, order])
    for one, other in zip(world.report(meter).levels, world.report(world.meter(calibration)).levels, strict=True):
        assert one.coverage == other.coverage
        assert one.area_km2.mean == pytest.approx(other.area_km2.mean)


def test_mismatched_input_is_refused(world: World, calibration: Calibration) -> None:
    coarse = RegionCells.of(world.positions, resolution=9)
    with pytest.raises(MismatchError, match="resolution 11"):
        RegionMeter(coarse, world.truth, calibration)
    meter = RegionMeter(world.region_cells, world.truth, calibration)
    meter.add(world.p[:100])
    with pytest.raises(MismatchError, match="100 posteriors for 120 queries"):
        meter.columns()
    with pytest.raises(MismatchError, match="130 posteriors for 120 queries"):
        meter.add(world.p[:30])
