"""Region cells: shares against a loop over nearby cells, irregular hexagons, and conservation of mass."""

from __future__ import annotations

import math

import h3
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swclip.calibration.region_cells import RegionCells, adapted_cells, area_spreads_m
from swclip.errors import ConfigError, MismatchError
from swclip.geo.coordinates import LocalFrame
from swclip.geo.distance import haversine_m

PENTAGON = h3.cell_to_latlng(sorted(h3.get_pentagons(11))[0])
CORNERS = {
    "london": (51.5, -0.1),
    "antimeridian": (-16.8, 179.9999),
    "pentagon": PENTAGON,
    "north pole": (89.9996, 33.0),
    "equator": (0.0, 0.0),
}


def _around(lat: float, lon: float, count: int, seed: int, radius_m: float = 90.0) -> np.ndarray:
    """Places round a position, by offsets on the sphere that are valid at the poles too."""
    generator = np.random.default_rng(seed)
    east, north = generator.uniform(-radius_m, radius_m, (2, count)) / 6_371_008.8
    la, lo = math.radians(lat), math.radians(lon)
    up = np.array([math.cos(la) * math.cos(lo), math.cos(la) * math.sin(lo), math.sin(la)])
    to_east = np.array([-math.sin(lo), math.cos(lo), 0.0])
    to_north = np.cross(up, to_east)
    points = up + east[:, None] * to_east + north[:, None] * to_north
    return np.stack(
        [np.degrees(np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1]))),
         np.degrees(np.arctan2(points[:, 1], points[:, 0]))], axis=1,
    )  # fmt: skip


def _share_by_loop(place: np.ndarray, resolution: int, spread_m: float) -> dict[str, float]:
    """Every cell within many rings, one at a time."""
    own = h3.latlng_to_cell(*place, resolution)
    weight = {}
    for cell in h3.grid_disk(own, 12):
        lat, lon = h3.cell_to_latlng(cell)
        away = float(haversine_m(np.float64(place[0]), np.float64(place[1]), np.float64(lat), np.float64(lon)))
        if away <= 4 * spread_m or cell == own:
            weight[cell] = math.exp(-0.5 * (away / spread_m) ** 2)
    return {cell: value / sum(weight.values()) for cell, value in weight.items()}


@pytest.mark.parametrize("corner", CORNERS.values(), ids=CORNERS)
@pytest.mark.parametrize(("resolution", "spread_m"), [(11, 25.0), (12, 25.0), (10, 80.0)])
def test_shares_equal_a_loop_over_all_cells(corner: tuple[float, float], resolution: int, spread_m: float) -> None:
    places = _around(*corner, 5, seed=resolution)
    region_cells = RegionCells.of(places, resolution=resolution, spread_m=spread_m)
    everywhere: set[str] = set()
    for row, place in enumerate(places):
        expected = _share_by_loop(place, resolution, spread_m)
        everywhere |= set(expected)
        dense = region_cells.spread[[row]].toarray()[0]
        result = {region_cells.cell_ids[at]: dense[at] for at in np.flatnonzero(dense)}
        assert result == pytest.approx(expected, rel=1e-9)
    assert region_cells.cell_ids == sorted(everywhere)
    areas = [h3.cell_area(cell, unit="km^2") for cell in region_cells.cell_ids]
    np.testing.assert_allclose(region_cells.area_km2, areas)
    assert region_cells.total_area_km2 == pytest.approx(sum(areas))
    np.testing.assert_allclose(region_cells.centres_deg, [h3.cell_to_latlng(cell) for cell in region_cells.cell_ids])


def test_a_further_ring_reaches_no_cell() -> None:
    """All over the Earth, the pentagons' surroundings among it, no cell near enough is beyond the rings looked at."""
    generator = np.random.default_rng(3)
    z, lon = generator.uniform(-1, 1, 60), generator.uniform(-180, 180, 60)
    places = [np.stack([np.degrees(np.arcsin(z)), lon], axis=1)]
    places += [_around(*h3.cell_to_latlng(cell), 4, seed=1, radius_m=400.0) for cell in h3.get_pentagons(11)]
    for place in np.concatenate(places):
        region_cells = RegionCells.of(place[None])
        assert set(region_cells.cell_ids) == set(_share_by_loop(place, 11, 25.0))


def test_a_cell_larger_than_the_spread_keeps_its_candidates_whole() -> None:
    place = np.array([[51.5, -0.1]])
    region_cells = RegionCells.of(place, resolution=6, spread_m=1.0)
    assert region_cells.cell_ids == [h3.latlng_to_cell(51.5, -0.1, 6)]
    assert region_cells.mass(np.array([[1.0]])).tolist() == [[1.0]]


@given(st.integers(0, 10_000), st.sampled_from(sorted(CORNERS)))
def test_mass_is_conserved_and_candidates_may_come_in_any_order(seed: int, corner: str) -> None:
    generator = np.random.default_rng(seed)
    places = _around(*CORNERS[corner], 12, seed)
    cities = [("Leeds", "York", None)[at] for at in generator.integers(0, 3, 12)]
    p = generator.random((4, 12)) ** 5
    p /= p.sum(axis=1, keepdims=True)
    region_cells = RegionCells.of(places, cities)
    mass = region_cells.mass(p)
    np.testing.assert_allclose(mass.sum(axis=1), 1.0, rtol=1e-12)
    order = generator.permutation(12)
    shuffled = RegionCells.of(places[order], [cities[at] for at in order])
    assert (shuffled.cell_ids, shuffled.areas.names) == (region_cells.cell_ids, region_cells.areas.names)
    np.testing.assert_allclose(shuffled.mass(p[:, order]), mass, rtol=1e-12)
    subset = np.flatnonzero(generator.random(12) < 0.5)
    np.testing.assert_allclose(
        region_cells.take(subset).mass(p[:, subset]), region_cells.spread[subset].T.dot(p[:, subset].T).T
    )


def test_positions_find_their_cells() -> None:
    frame = LocalFrame(51.5, -0.1)
    places = frame.to_deg([[0.0, 0.0], [60.0, 0.0]])
    region_cells = RegionCells.of(places, ["a", "b"])
    positions = np.concatenate([places, frame.to_deg([[30.0, 0.0], [500.0, 0.0]])])
    result = region_cells.index_of(positions)
    for at, place in zip(result[:3], positions[:3], strict=True):
        assert region_cells.cell_ids[at] == h3.latlng_to_cell(*place, 11)
    assert result[3] == -1


def test_each_area_has_its_spread() -> None:
    places = _around(51.5, -0.1, 6, seed=4, radius_m=3000.0)
    cities = ["Leeds", "York", None] * 2
    region_cells = RegionCells.of(places, cities, spread_m={"York": 60.0})
    unnamed = h3.latlng_to_cell(*places[2], 4)
    assert region_cells.spread_m == {unnamed: 25.0, "Leeds": 25.0, "York": 60.0}
    for row, place in enumerate(places):
        expected = _share_by_loop(place, 11, 60.0 if cities[row] == "York" else 25.0)
        dense = region_cells.spread[[row]].toarray()[0]
        result = {region_cells.cell_ids[at]: dense[at] for at in np.flatnonzero(dense)}
        assert result == pytest.approx(expected, rel=1e-9)


def test_the_spread_of_an_area_follows_its_spacing() -> None:
    """Half of the median distance to the nearest other place, from 25 to 100 m: a truth half way between is reached."""
    frame = LocalFrame(51.5, -0.1)
    every = {"dense": 10.0, "usual": 50.0, "sparse": 122.0, "very sparse": 900.0}
    lines = [
        frame.to_deg([[at * step, number * 9000.0] for at in range(9)]) for number, step in enumerate(every.values())
    ]
    positions, cities = np.concatenate(lines), [name for name in every for _ in range(9)]
    spreads = area_spreads_m(positions, cities)
    assert spreads == pytest.approx({"dense": 25.0, "usual": 25.0, "sparse": 61.0, "very sparse": 100.0}, rel=5e-3)
    twice = area_spreads_m(np.concatenate([positions, positions]), cities * 2)
    assert twice == spreads, "several photographs of a place are one place"
    recorded = area_spreads_m(positions, cities, recorded={"dense": 40.0, "elsewhere": 70.0})
    assert recorded == {**spreads, "dense": 40.0}
    between = frame.to_deg([[61.0, 18000.0]])
    assert adapted_cells(positions, cities).index_of(between)[0] >= 0
    assert area_spreads_m([[51.5, -0.1]], None) == {h3.latlng_to_cell(51.5, -0.1, 4): 100.0}, "a single place"
    assert area_spreads_m(np.zeros((0, 2)), None) == {}


def test_very_many_candidates_have_a_spread_that_fits_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = LocalFrame(51.5, -0.1)
    positions = frame.to_deg([[at % 15 * 300.0, at // 15 * 300.0] for at in range(200)])
    for most in (10_000, 20_000, 60_000):
        monkeypatch.setattr("swclip.calibration.region_cells.MAX_PAIRS", most)
        spread_m = area_spreads_m(positions, ["London"] * 200)["London"]
        assert 25.0 <= spread_m < 100.0
        adapted_cells(positions, ["London"] * 200)  # is not refused
        with pytest.raises(ConfigError, match="a shorter spread"):
            RegionCells.of(positions, spread_m=spread_m + 20.0)


def test_invalid_resolutions_and_spreads_are_refused() -> None:
    with pytest.raises(ConfigError, match="resolution 16 does not exist"):
        RegionCells.of([[51.5, -0.1]], resolution=16)
    with pytest.raises(ConfigError, match=r"spread_m is 0\.0"):
        RegionCells.of([[51.5, -0.1]], spread_m=0.0)
    with pytest.raises(ConfigError, match="a shorter spread"):
        RegionCells.of([[51.5, -0.1]], spread_m=200_000.0)
    with pytest.raises(ConfigError, match="2 cities for 1 candidates"):
        RegionCells.of([[51.5, -0.1]], ["a", "b"])
    region_cells = RegionCells.of([[51.5, -0.1]])
    with pytest.raises(MismatchError, match="not over these 1 candidates"):
        region_cells.mass(np.ones((1, 2)))


def test_no_candidates_have_no_cells() -> None:
    region_cells = RegionCells.of(np.zeros((0, 2)))
    assert len(region_cells) == 0
    assert region_cells.index_of([[51.5, -0.1]]).tolist() == [-1]


def test_reached_cells_of_a_subset() -> None:
    positions = np.array([51.5, -0.1]) + np.random.default_rng(1).normal(0, [0.002, 0.003], (40, 2))
    whole, rows = RegionCells.of(positions, [None] * 40), np.arange(0, 40, 5)
    part, alone = whole.take(rows).reached(), RegionCells.of(positions[rows], [None] * len(rows))
    assert part.ids.tolist() == alone.ids.tolist()
    assert part.total_area_km2 == pytest.approx(alone.total_area_km2)
    p = np.random.default_rng(0).dirichlet(np.ones(len(rows)))[None]
    np.testing.assert_allclose(part.mass(p), alone.mass(p), rtol=1e-12)
    assert part.total_area_km2 < whole.total_area_km2
