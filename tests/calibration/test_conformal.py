"""Conformal thresholds by hand, coverage in simulations, and the calibration file."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from swclip.calibration.conformal import LEAST_BLOCKS_OF_A_CITY, Calibration, read_calibration, write_calibration
from swclip.calibration.density import tail_mass
from swclip.calibration.region import LEVELS, is_uninformative
from swclip.calibration.region_cells import RegionCells
from swclip.errors import ArtefactError, ConfigError, MismatchError
from swclip.geo.coordinates import LocalFrame

LEEDS, YORK = LocalFrame(53.8, -1.55), LocalFrame(53.96, -1.08)


def _calibration(tails: list[float] | np.ndarray, cities: list[str | None] | None = None) -> Calibration:
    return Calibration(np.array(tails), tuple(cities or [None] * len(tails)), 11, 25.0)


def test_the_threshold_by_hand() -> None:
    queries = _calibration([(row + 1) / 100 for row in range(49)])
    # k = floor(50 (1 - L)): in floating point 50 * (1 - 0.8) is slightly below 10.
    for level, k in ((0.5, 25), (0.8, 10), (0.9, 5), (0.95, 2), (0.98, 1)):
        assert queries.threshold(level) == pytest.approx(k / 100)
    assert queries.threshold(0.99) is None, "49 queries are too few for 99 %"
    assert _calibration([]).threshold(0.5) is None
    for level in (0.0, 1.0, math.nan, 80.0):
        with pytest.raises(ConfigError, match="give a number between 0 and 1"):
            queries.threshold(level)


def test_unreachable_truths_count() -> None:
    reached = [0.5] * 18
    assert _calibration([0.0, *reached]).threshold(0.9) == 0.5
    assert _calibration([0.0, 0.0, *reached]).threshold(0.9) is None, "the second smallest of 20 is out of reach"
    assert _calibration([0.0, 0.0, *reached]).unreachable == 2


def test_cities_with_enough_queries_have_a_separate_threshold() -> None:
    few = LEAST_BLOCKS_OF_A_CITY - 1
    tails = [0.1] * LEAST_BLOCKS_OF_A_CITY + [0.9] * few
    queries = _calibration(tails, ["Leeds"] * LEAST_BLOCKS_OF_A_CITY + ["York"] * few)
    assert queries.calibrated_cities == ["Leeds"]
    assert queries.threshold(0.2) == 0.9
    assert queries.threshold(0.2, "York") == queries.threshold(0.2, "Hull") == queries.threshold(0.2)
    assert queries.threshold(0.2, "Leeds") == 0.1


def test_a_tail_has_the_weight_of_its_share_of_the_block() -> None:
    """By loop over the candidates of t, with blocks of 1 to 6 queries."""
    generator = np.random.default_rng(2)
    blocks = np.repeat(np.arange(40), generator.integers(1, 7, 40))
    tails = generator.uniform(0.01, 1.0, len(blocks)).round(2)  # with ties
    queries = Calibration(tails, (None,) * len(blocks), 11, 25.0, blocks)
    assert queries.n_blocks == 40
    for level in (0.3, *LEVELS):
        fits = []
        for t in tails:
            below = sum(1 / np.count_nonzero(blocks == b) for b, own in zip(blocks, tails, strict=True) if own < t)
            if below <= 41 * (1 - level) - 1 + 1e-9:
                fits.append(t)
        assert queries.threshold(level) == max(fits)
    assert queries.threshold(0.976) is None, "1 / 41 is more than 2.4 %"
    assert queries.threshold(0.975) is not None


def test_correlated_blocks_are_covered_at_the_nominal_level() -> None:
    """Blocks of 20 with correlated tails: calibrated as single queries they undercover, as blocks they do not."""
    generator = np.random.default_rng(3)
    trials, level, as_blocks, as_queries = 3000, 0.95, 0, 0
    block, names = np.repeat(np.arange(29), 20), (None,) * 580
    for _ in range(trials):
        tails = np.repeat(generator.random(30), 20) * generator.uniform(0.98, 1.0, 600)
        new, calibration_tails = tails[-1], tails[:580]
        as_blocks += new >= (Calibration(calibration_tails, names, 11, 25.0, block).threshold(level) or 0.0)
        as_queries += new >= (Calibration(calibration_tails, names, 11, 25.0).threshold(level) or 0.0)
    assert as_blocks >= binom.ppf(1e-4, trials, level)
    assert as_queries < binom.ppf(1e-4, trials, level)


def _world(per_city: int, seed: int, sharpness: tuple[float, float]) -> tuple[RegionCells, np.ndarray, np.ndarray]:
    """Two cities of candidates 60 m apart; posteriors around noisy positions; truths near the candidates."""
    generator = np.random.default_rng(seed)
    east, north = np.meshgrid(np.arange(8) * 60.0, np.arange(8) * 60.0)
    lattice = np.stack([east.ravel(), north.ravel()], axis=1)
    region_cells = RegionCells.of(
        np.concatenate([LEEDS.to_deg(lattice), YORK.to_deg(lattice)]), ["Leeds"] * 64 + ["York"] * 64
    )
    masses, truths = [], []
    for number, (frame, noise_m) in enumerate(zip((LEEDS, YORK), sharpness, strict=True)):
        truth = generator.uniform(0, 420, (per_city, 2))
        noisy = truth + generator.normal(0, noise_m, (per_city, 2))
        away = np.linalg.norm(noisy[:, None] - lattice[None], axis=2)
        logits = -0.5 * (away / 60.0) ** 2  # the same sharpness whatever the noise: wrong in both cities
        p = np.zeros((per_city, 128))
        own = np.exp(logits - logits.max(axis=1, keepdims=True))
        p[:, number * 64 : number * 64 + 64] = own / own.sum(axis=1, keepdims=True)
        masses.append(region_cells.mass(p))
        truths.append(frame.to_deg(truth))
    return region_cells, np.concatenate(masses), region_cells.index_of(np.concatenate(truths))


def test_exchangeable_queries_are_covered_at_the_nominal_level() -> None:
    """Coverage is nominal also for posteriors far from the distribution of the truth."""
    region_cells, mass, cells = _world(1500, 0, (20.0, 200.0))
    tails = tail_mass(mass, region_cells.area_km2, cells)
    assert (cells >= 0).all()
    generator = np.random.default_rng(1)
    for n in (19, 100):
        for level in LEVELS:
            covered, trials = 0, 4000
            for _ in range(trials):
                drawn = generator.choice(len(tails), n + 1, replace=False)
                threshold = Calibration.of(tails[drawn[:n]], cells[drawn[:n]], region_cells).threshold(level)
                assert threshold is not None
                covered += bool(tails[drawn[n]] >= threshold)
            # At least the level, and at most 1 / (n + 1) more where tails differ (the densest cells are ties at 1).
            assert covered >= binom.ppf(1e-4, trials, level)
            if n == 100:
                assert covered <= binom.ppf(1 - 1e-4, trials, level + 1 / (n + 1) + 0.01)


def test_the_truth_is_in_the_region_if_its_tail_reaches_the_threshold() -> None:
    region_cells, mass, cells = _world(40, 2, (20.0, 200.0))
    tails = tail_mass(mass, region_cells.area_km2, cells)
    queries = Calibration.of(tails[::2], cells[::2], region_cells)
    for level in LEVELS[:3]:
        threshold = queries.threshold(level)
        assert threshold is not None
        for row in range(1, len(cells), 2):
            region = queries.region(mass[row], region_cells, level)
            assert region.cells is not None
            assert (cells[row] in region.cells) == bool(tails[row] >= threshold)
            assert region.area_km2 == pytest.approx(region_cells.area_km2[region.cells].sum())
            by_loop = tail_mass(
                np.tile(mass[row], (len(region_cells), 1)), region_cells.area_km2, np.arange(len(region_cells))
            )
            assert region.cells.tolist() == np.flatnonzero(by_loop >= threshold).tolist()


def test_an_overall_threshold_undercovers_the_harder_city_and_a_separate_one_does_not() -> None:
    region_cells, mass, cells = _world(1200, 3, (10.0, 160.0))
    tails = tail_mass(mass, region_cells.area_km2, cells)
    half = np.arange(len(cells)) % 2 == 0
    queries = Calibration.of(tails[half], cells[half], region_cells)
    level = 0.8
    york = np.array([city == "York" for city in region_cells.cities])[cells]
    marginal, own = [], []
    for row in np.flatnonzero(~half):
        marginal.append(cells[row] in queries.region(mass[row], region_cells, level).cells)
        own.append(cells[row] in queries.region(mass[row], region_cells, level, by_city=True).cells)
    in_york = york[~half]
    for covered, low_york in ((np.array(marginal), True), (np.array(own), False)):
        shares = covered[~in_york].mean(), covered[in_york].mean()
        assert covered.mean() == pytest.approx(level, abs=0.05)
        if low_york:
            assert shares[0] > level + 0.08
            assert shares[1] < level - 0.08
        else:
            assert min(shares) >= level - 0.05  # 600 queries, and thresholds from 600


def test_by_city_each_cell_has_the_threshold_of_its_city() -> None:
    region_cells, mass, cells = _world(60, 4, (60.0, 160.0))
    tails = tail_mass(mass, region_cells.area_km2, cells)
    queries = Calibration.of(tails, cells, region_cells)
    spread = 0.5 * (mass[0] + mass[-1])  # in both cities
    region = queries.region(spread, region_cells, 0.8, by_city=True)
    tail = tail_mass(np.tile(spread, (len(region_cells), 1)), region_cells.area_km2, np.arange(len(region_cells)))
    expected = [at for at, city in enumerate(region_cells.cities) if tail[at] >= (queries.threshold(0.8, city) or 0.0)]
    assert region.cells is not None
    assert region.cells.tolist() == expected
    assert {region_cells.cities[at] for at in expected} == {"Leeds", "York"}


def test_without_a_threshold_the_region_is_unbounded() -> None:
    region_cells, mass, cells = _world(40, 5, (10.0, 10.0))
    tails = tail_mass(mass, region_cells.area_km2, cells)
    region = Calibration.of(tails[:8], cells[:8], region_cells).region(mass[0], region_cells, 0.9)
    assert region.cells is None
    assert region.area_km2 == math.inf
    assert region.cannot_tell()
    lost = Calibration.of(np.where(cells < cells.max(), tails, 0.0) * 0.0, cells, region_cells)
    assert lost.region(mass[0], region_cells, 0.5, by_city=True).cells is None


def test_a_region_as_large_as_a_random_one_is_uninformative() -> None:
    assert is_uninformative([0.79, 0.8, math.inf], 0.8, 1.0).tolist() == [False, True, True]
    assert is_uninformative([0.1, 0.3], 0.8, 1.0, limit_km2=0.2).tolist() == [False, True]
    region_cells, mass, cells = _world(40, 6, (10.0, 10.0))
    queries = Calibration.of(tail_mass(mass, region_cells.area_km2, cells), cells, region_cells)
    sharp, flat = mass[0], np.full(len(region_cells), 1 / len(region_cells))
    assert not queries.region(sharp, region_cells, 0.8).cannot_tell()
    assert queries.region(sharp, region_cells, 0.8).cannot_tell(limit_km2=1e-3)
    assert queries.region(flat * region_cells.area_km2, region_cells, 0.8).cannot_tell()


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=80), st.floats(0.02, 0.98), st.floats(0.02, 0.98))
def test_a_higher_level_never_needs_a_greater_tail(tails: list[float], one: float, other: float) -> None:
    queries = _calibration(tails)
    low, high = sorted((one, other))
    at_low, at_high = queries.threshold(low), queries.threshold(high)
    assert at_high is None or (at_low is not None and at_high <= at_low)


def test_the_interval_of_expected_coverage() -> None:
    """Coverage of one drawn threshold, on the uniform tails of a perfect posterior: 1 - t."""
    generator = np.random.default_rng(0)
    low, high = _calibration(np.linspace(0.01, 0.99, 99)).expected(0.8) or (0.0, 0.0)
    coverages = [1.0 - (_calibration(generator.random(99)).threshold(0.8) or 0.0) for _ in range(4000)]
    assert np.quantile(coverages, [0.025, 0.975]) == pytest.approx((low, high), abs=0.01)
    assert _calibration([0.5]).expected(0.9) is None


def test_the_city_of_an_unreachable_truth_is_that_of_the_query() -> None:
    region_cells = RegionCells.of(LEEDS.to_deg([[0.0, 0.0]]), ["Leeds"])
    calibration = Calibration.of([0.5, 0.0], np.array([0, -1]), region_cells, ["York", "Hull"])
    assert calibration.cities == ("Leeds", "Hull")


def test_a_calibration_survives_its_file(tmp_path: Path) -> None:
    assert read_calibration(tmp_path) is None
    queries = Calibration(
        np.array([0.1, 1e-300, 0.0, 1 / 3]), ("Leeds", None, "York", "Leeds"), 11, 25.0, np.array([0, 0, 2, 1])
    )
    (tmp_path / "model").mkdir()
    path = write_calibration(tmp_path / "model", queries)
    for folder in (tmp_path, tmp_path / "model"):
        back = read_calibration(folder)
        assert back is not None
        assert back.to_dict() == queries.to_dict()
    assert path.name == "regions.json"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": "9"}, "version '9'"),
        ({"tails": [0.5, 1.5]}, "tails are not numbers from 0 to 1"),
        ({"tails": [[0.5], [0.5]]}, "tails are not numbers"),
        ({"tails": ["much", 1]}, "is not the calibration of a model"),
        ({"cities": ["Leeds"]}, "cities are not 2 names"),
        ({"blocks": [0]}, "blocks are not 2 numbers"),
        ({"cities": [1, 2]}, "cities are not 2 names"),
        ({"resolution": 16}, "resolution 16 does not exist"),
        ({"spread_m": 0.0}, "spread_m is 0.0"),
        ({"spread_m": None}, "is not the calibration of a model"),
    ],
)
def test_an_invalid_file_is_refused(tmp_path: Path, change: dict[str, object], words: str) -> None:
    values = {**_calibration([0.1, 0.2]).to_dict(), **change}
    (tmp_path / "regions.json").write_text(json.dumps(values))
    with pytest.raises(ArtefactError, match=r"regions\.json.*" + words):
        read_calibration(tmp_path)
    (tmp_path / "regions.json").write_text("[1]")
    with pytest.raises(ArtefactError, match="version None"):
        read_calibration(tmp_path)


def test_other_cells_are_refused() -> None:
    region_cells = RegionCells.of([[51.5, -0.1]], resolution=10)
    with pytest.raises(MismatchError, match="resolution 11 with a spread of 25 m"):
        _calibration([0.5]).check_cells(region_cells)
