"""Regions of a posterior at all levels: equal to single regions, and without a calibration of the stated mass."""

from __future__ import annotations

import numpy as np
import pytest

from swclip.calibration.conformal import Calibration
from swclip.calibration.region import cell_density
from swclip.calibration.region_cells import RegionCells
from swclip.web.engine import LEVELS, level_thresholds, regions_by_level

POSITIONS = np.array([51.5, -0.1]) + np.random.default_rng(1).normal(0, [0.002, 0.003], (40, 2))
CELLS = RegionCells.of(POSITIONS, [None] * 40)


def posterior(seed: int, sharpness: float) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, sharpness, 40)
    p = np.exp(logits - logits.max())
    return CELLS.mass((p / p.sum())[None])[0]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("count", [30, 400])
def test_conformal_regions_equal_those_of_the_calibration(seed: int, count: int) -> None:
    tails = np.random.default_rng(100 + seed).uniform(0, 1, count)
    calibration = Calibration(tails, (None,) * count, CELLS.resolution, CELLS.spread_m)
    mass = posterior(seed, 2.0)
    result = regions_by_level(mass, CELLS, level_thresholds(calibration))
    for level, region in zip(LEVELS, result.regions, strict=True):
        one = calibration.region(mass, CELLS, level)
        assert region.level == level
        assert region.cannot_tell == one.cannot_tell()
        if one.cells is None:
            assert (region.cells, region.area_km2) == (None, None)
            continue
        assert region.area_km2 == pytest.approx(one.area_km2, rel=1e-9)
        with np.errstate(invalid="ignore"):
            inside = result.order[result.from_level <= level]
        assert np.sort(inside).tolist() == one.cells.tolist()
        assert region.cells == len(inside)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sharpness", [0.0, 1.0, 6.0, 40.0])
def test_regions_without_a_calibration_are_the_smallest_with_their_mass(seed: int, sharpness: float) -> None:
    mass = posterior(seed, sharpness)
    result = regions_by_level(mass, CELLS, level_thresholds(None))
    density = cell_density(mass, CELLS.area_km2)
    assert (np.diff(density[result.order]) <= 0).all()
    for level, region in zip(LEVELS, result.regions, strict=True):
        assert region.cells is not None
        inside = result.order[: region.cells]
        assert mass[inside].sum() >= level * (1 - 1e-9)
        # Without the least dense of them, and those as dense as it, it would hold less.
        less = inside[density[inside] > density[inside].min() * (1 + 1e-9)]
        assert mass[less].sum() < level
        assert region.area_km2 == pytest.approx(CELLS.area_km2[inside].sum())
        assert region.cannot_tell == (region.area_km2 >= level * CELLS.total_area_km2)
    assert mass[result.order].sum() >= 0.999 * (1 - 1e-9)


def test_regions_of_high_levels_are_unbounded_with_few_validation_queries() -> None:
    calibration = Calibration(np.full(9, 0.3), (None,) * 9, CELLS.resolution, CELLS.spread_m)
    regions = regions_by_level(posterior(0, 2.0), CELLS, level_thresholds(calibration)).regions
    assert [region.area_km2 is None for region in regions] == [level > 0.9 for level in LEVELS]
    assert all(region.cannot_tell for region in regions if region.area_km2 is None)
