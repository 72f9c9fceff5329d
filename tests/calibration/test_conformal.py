"""Conformal thresholds by hand, coverage in simulations, and the calibration file."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import betabinom, binom

from swclip.calibration.conformal import LEAST_BLOCKS_OF_AN_AREA, Calibration, read_calibration, write_calibration
from swclip.calibration.region import LEVELS, is_uninformative, tail_mass
from swclip.calibration.region_cells import RegionCells
from swclip.calibration.stated import StatedProbabilities
from swclip.errors import ArtefactError, ConfigError, MismatchError
from swclip.geo.coordinates import LocalFrame

LEEDS, YORK = LocalFrame(53.8, -1.55), LocalFrame(53.96, -1.08)


def _calibration(tails: list[float] | np.ndarray, areas: list[str] | None = None) -> Calibration:
    return Calibration(np.array(tails), tuple(areas or [None] * len(tails)), 11, 25.0)


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


def test_areas_with_enough_queries_have_a_separate_threshold() -> None:
    enough, few = LEAST_BLOCKS_OF_AN_AREA, LEAST_BLOCKS_OF_AN_AREA - 1
    queries = _calibration([0.1] * enough + [0.9] * few, ["Leeds"] * enough + ["York"] * few)
    assert queries.calibrated_areas == ["Leeds"]
    assert (queries.threshold(0.2), queries.threshold(0.2, "Leeds")) == (0.9, 0.1)
    for area in ("York", "Hull"):
        assert queries.threshold(0.2, area) == queries.threshold(0.2)
        assert queries.group(area).scope == "all areas"
    assert len(queries.queries_of("York")) == few
    assert len(queries.queries_of("Hull")) == 0


def test_small_areas_are_calibrated_together_where_they_have_enough_queries() -> None:
    enough = LEAST_BLOCKS_OF_AN_AREA
    small = ["York"] * (enough // 2) + ["Hull"] * (enough // 2)
    queries = _calibration([0.1] * enough + [0.9] * enough, ["Leeds"] * enough + small)
    for area in ("York", "Hull", "an area without queries"):
        assert queries.threshold(0.9, area) == 0.9
        assert (queries.group(area).scope, len(queries.group(area))) == ("small areas", enough)
    assert queries.threshold(0.9) == 0.1


def test_the_only_area_needs_no_number_of_queries() -> None:
    queries = _calibration([0.3, 0.5], ["Leeds"] * 2)
    assert (queries.group("Leeds").scope, queries.group("York").scope) == ("area", "all areas")
    assert queries.threshold(0.6, "Leeds") == queries.threshold(0.6) == 0.3


def test_queries_out_of_reach_count_in_their_area_only() -> None:
    """A quarter of the queries of a sparse city out of reach, which is more than 80 % allows."""
    near, far = list(np.linspace(0.01, 1.0, 123)), [0.0] * 42
    alone = _calibration(near, ["Cambridge"] * 123)
    mixed = _calibration(near + far + near, ["Cambridge"] * 123 + ["Ely"] * 165)
    for level in LEVELS:
        assert mixed.threshold(level, "Cambridge") == alone.threshold(level, "Cambridge")
    assert mixed.threshold(0.8, "Ely") is None
    assert mixed.threshold(0.5, "Ely") is not None
    assert mixed.group("Ely").unreachable == 42


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
                threshold = Calibration.of(tails[drawn[:n]], region_cells).threshold(level)
                assert threshold is not None
                covered += bool(tails[drawn[n]] >= threshold)
            # At least the level, and at most 1 / (n + 1) more where tails differ (the densest cells are ties at 1).
            assert covered >= binom.ppf(1e-4, trials, level)
            if n == 100:
                assert covered <= binom.ppf(1 - 1e-4, trials, level + 1 / (n + 1) + 0.01)


def test_the_truth_is_in_the_region_if_its_tail_reaches_the_threshold() -> None:
    region_cells, mass, cells = _world(40, 2, (20.0, 200.0))
    tails = tail_mass(mass, region_cells.area_km2, cells)
    queries = Calibration.of(tails[::2], region_cells)
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


def test_an_overall_threshold_undercovers_the_harder_city_and_one_by_area_does_not() -> None:
    region_cells, mass, cells = _world(1200, 3, (10.0, 160.0))
    tails = tail_mass(mass, region_cells.area_km2, cells)
    area = np.repeat([0, 1], 1200)
    half = np.arange(len(cells)) % 2 == 0
    queries = Calibration.of(tails[half], region_cells, area[half])
    level, names = 0.8, region_cells.areas.names
    overall, by_area = (
        np.array(
            [
                cells[row] in queries.region(mass[row], region_cells, level, names[area[row]] if by else None).cells
                for row in np.flatnonzero(~half)
            ]
        )
        for by in (False, True)
    )
    in_york = area[~half] == 1
    assert overall.mean() == pytest.approx(level, abs=0.05)
    assert overall[~in_york].mean() > level + 0.08
    assert overall[in_york].mean() < level - 0.08
    for city in (in_york, ~in_york):
        # 600 queries, and a threshold from 600: a beta-binomial share.
        assert betabinom.ppf(1e-4, 600, 601 - 120, 120) <= by_area[city].sum() <= betabinom.ppf(1 - 1e-4, 600, 481, 120)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
def test_each_area_is_covered_at_the_nominal_level_over_draws(level: float) -> None:
    """Areas of different difficulty and number, one of them with truths out of reach: binomial intervals over draws."""
    generator, trials = np.random.default_rng(5), 800
    counts = {"dense": 60, "sparse": 25, "one of two small": 12, "the other small": 12}
    power = {"dense": 0.5, "sparse": 6.0, "one of two small": 2.0, "the other small": 2.0}
    areas = [area for area, count in counts.items() for _ in range(count)]

    def draw(area: str) -> float:
        tail = float(generator.random() ** power[area])
        return 0.0 if area == "sparse" and generator.random() < 0.03 else tail

    covered, unbounded = dict.fromkeys(counts, 0), dict.fromkeys(counts, 0)
    for _ in range(trials):
        queries = _calibration([draw(area) for area in areas], areas)
        for area in counts:
            threshold = queries.threshold(level, area)
            covered[area] += draw(area) >= (threshold or 0.0)
            unbounded[area] += threshold is None
    for area in counts:
        assert covered[area] >= binom.ppf(1e-4, trials, level), area
        group = {"dense": 60, "sparse": 25}.get(area, 24)
        at_most = level + 1 / (group + 1)
        assert covered[area] - unbounded[area] <= binom.ppf(1 - 1e-4, trials, at_most), area
    assert unbounded["dense"] == 0


def test_without_a_threshold_the_region_is_unbounded() -> None:
    region_cells, mass, cells = _world(40, 5, (10.0, 10.0))
    tails = tail_mass(mass, region_cells.area_km2, cells)
    region = Calibration.of(tails[:8], region_cells).region(mass[0], region_cells, 0.9)
    assert region.cells is None
    assert region.area_km2 == math.inf
    assert region.cannot_tell()
    lost = Calibration.of(np.zeros(80), region_cells, np.repeat([0, 1], 40))
    assert lost.region(mass[0], region_cells, 0.5, "Leeds").cells is None


def test_a_region_as_large_as_a_random_one_is_uninformative() -> None:
    assert is_uninformative([0.79, 0.8, math.inf], 0.8, 1.0).tolist() == [False, True, True]
    assert is_uninformative([0.1, 0.3], 0.8, 1.0, limit_km2=0.2).tolist() == [False, True]
    region_cells, mass, cells = _world(40, 6, (10.0, 10.0))
    queries = Calibration.of(tail_mass(mass, region_cells.area_km2, cells), region_cells)
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
    low, high = _calibration(np.linspace(0.01, 0.99, 99)).group(None).expected(0.8) or (0.0, 0.0)
    coverages = [1.0 - (_calibration(generator.random(99)).threshold(0.8) or 0.0) for _ in range(4000)]
    assert np.quantile(coverages, [0.025, 0.975]) == pytest.approx((low, high), abs=0.01)
    assert _calibration([0.5]).group(None).expected(0.9) is None


def test_a_calibration_survives_its_file(tmp_path: Path) -> None:
    assert read_calibration(tmp_path) is None
    tails, spread_m = np.array([0.1, 1e-300, 0.0, 1 / 3]), {"Leeds": 25.0, "York": 61.0}
    stated = StatedProbabilities({25.0: (0.5, 0.1), 50.0: (0.7, 0.2)}, {25.0: {}, 50.0: {"Leeds": (0.3, -1.0)}})
    queries = Calibration(tails, ("Leeds", None, "York", "Leeds"), 11, spread_m, np.array([0, 0, 2, 1]), stated)
    (tmp_path / "model").mkdir()
    path = write_calibration(tmp_path / "model", queries)
    for folder in (tmp_path, tmp_path / "model"):
        back = read_calibration(folder)
        assert back is not None
        assert back.to_dict() == queries.to_dict()
        assert back.stated == stated
    assert path.name == "regions.json"


def test_a_file_of_version_1_is_read_as_it_was_used(tmp_path: Path) -> None:
    """One threshold and one spread for all areas."""
    tails = np.linspace(0.01, 1.0, 80).tolist()
    cities = ["Leeds"] * 40 + ["York"] * 40
    values = {"version": "1", "resolution": 11, "spread_m": 25.0, "tails": tails, "cities": cities, "blocks": None}
    (tmp_path / "regions.json").write_text(json.dumps(values))
    back = read_calibration(tmp_path)
    assert back is not None
    assert back.calibrated_areas == []
    assert {back.threshold(0.8, area) for area in ("Leeds", "York", None)} == {tails[15]}
    far_apart = [[53.8, -1.55], [53.9, -1.55]]
    assert back.cells(far_apart, ["Leeds", "Leeds"]).spread_m == {"Leeds": 25.0}
    write_calibration(tmp_path, back)
    assert json.loads((tmp_path / "regions.json").read_text())["version"] == "2"
    again = read_calibration(tmp_path)
    assert again is not None
    assert again.to_dict() == back.to_dict()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": "9"}, "version '9'"),
        ({"tails": [0.5, 1.5]}, "tails are not numbers from 0 to 1"),
        ({"tails": [[0.5], [0.5]]}, "tails are not numbers"),
        ({"tails": ["much", 1]}, "is not the calibration of a model"),
        ({"areas": ["Leeds"]}, "areas are not 2 names"),
        ({"blocks": [0]}, "blocks are not 2 numbers"),
        ({"areas": [1, 2]}, "areas are not 2 names"),
        ({"resolution": 16}, "resolution 16 does not exist"),
        ({"spread_m": 0.0}, "spread_m is 0.0"),
        ({"spread_m": {"Leeds": -1.0}}, "spread_m is"),
        ({"stated": {"25": {}}}, "is not the calibration of a model"),
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
    by_area = Calibration(np.array([0.5]), ("London",), 10, {"London": 61.0})
    london = RegionCells.of([[51.5, -0.1]], ["London"], resolution=10)
    with pytest.raises(MismatchError, match=r"61 m, and these are of resolution 10 with 25 m \(London\)"):
        by_area.check_cells(london)
    by_area.check_cells(by_area.cells([[51.5, -0.1]], ["London"]))
