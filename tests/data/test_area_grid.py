"""Areas from GeoJSON, and the candidates within them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from swclip.data.candidates import area_candidates, lattice_within
from swclip.errors import ConfigError, InputError
from swclip.geo.areas import Area, read_area, read_areas
from swclip.geo.distance import EARTH_RADIUS_M, haversine_m


def _file(tmp_path: Path, *features: tuple[dict[str, Any], dict[str, Any]]) -> Path:
    path = tmp_path / "area.geojson"
    document = {
        "type": "FeatureCollection",
        "features": [{"type": "Feature", "geometry": g, "properties": p} for g, p in features],
    }
    path.write_text(json.dumps(document))
    return path


def _box(west: float, south: float, east: float, north: float, *holes: Any) -> dict[str, Any]:
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring, *holes]}


def test_a_grid_fills_an_area_except_its_hole(tmp_path: Path) -> None:
    hole = _box(-0.105, 51.503, -0.102, 51.506)["coordinates"][0]
    table = area_candidates(_file(tmp_path, (_box(-0.11, 51.5, -0.1, 51.51, hole), {"city": "London"})), 20.0)
    positions = table[["lat_deg", "lon_deg"]].to_numpy()
    solid = Area(shapely.Polygon(_box(-0.11, 51.5, -0.1, 51.51)["coordinates"][0], [hole]))
    assert solid.contains(positions).all()
    area_m2 = (0.01 * 0.01 - 0.003 * 0.003) * np.radians(1) ** 2 * EARTH_RADIUS_M**2 * np.cos(np.radians(51.505))
    assert len(table) == pytest.approx(area_m2 / 20.0**2, rel=0.02)
    assert list(table.columns) == ["candidate_id", "lat_deg", "lon_deg", "city", "image_ids"]
    assert set(table["city"]) == {"London"}
    assert all(ids == [] for ids in table["image_ids"])
    assert table["candidate_id"].is_unique
    assert positions.tolist() == sorted(positions.tolist())
    generator = np.random.default_rng(0)
    inside = generator.uniform([51.5012, -0.1085], [51.5025, -0.1015], (200, 2))  # a spacing away from every border
    nearest = haversine_m(inside[:, None, 0], inside[:, None, 1], positions[None, :, 0], positions[None, :, 1]).min(1)
    assert nearest.max() <= 0.72 * 20.0


def test_grids_of_adjacent_areas_join_without_gaps_or_duplicates(tmp_path: Path) -> None:
    west, east = _box(-0.11, 51.5, -0.105, 51.505), _box(-0.105, 51.5, -0.1, 51.505)
    both = area_candidates(_file(tmp_path, (west, {"city": "A"}), (east, {})), 20.0)
    whole = area_candidates(_file(tmp_path, (_box(-0.11, 51.5, -0.1, 51.505), {})), 20.0)
    assert both["candidate_id"].tolist() == whole["candidate_id"].tolist()
    assert both["city"].isna().sum() == pytest.approx(len(both) / 2, rel=0.02)
    overlapping = area_candidates(_file(tmp_path, (west, {"city": "A"}), (west, {"city": "B"})), 20.0)
    assert set(overlapping["city"]) == {"A"}
    assert overlapping["candidate_id"].is_unique


def test_an_area_across_the_antimeridian_is_the_same_in_every_notation(tmp_path: Path) -> None:
    cut = {
        "type": "MultiPolygon",
        "coordinates": [
            _box(179.99, -17.01, 180.0, -17.0)["coordinates"],
            _box(-180.0, -17.01, -179.99, -17.0)["coordinates"],
        ],
    }
    result = [
        area_candidates(_file(tmp_path, (geometry, {})), 50.0)["candidate_id"].tolist()
        for geometry in (cut, _box(179.99, -17.01, 180.01, -17.0), _box(-180.01, -17.01, -179.99, -17.0))
    ]
    assert result[0] == result[1] == result[2]
    assert len(result[0]) > 800
    with pytest.raises(InputError, match=r"longer than half the globe.*RFC 7946"):
        read_area(_file(tmp_path, (_box(-179.99, -17.01, 179.99, -17.0), {})))


@given(st.floats(-540, 500), st.floats(-90, 80), st.floats(0.01, 39), st.floats(0.01, 9), st.integers(0, 2**31))
def test_points_within_an_area_are_in_its_boxes(west: float, south: float, wide: float, high: float, seed: int) -> None:
    area = Area(shapely.box(west, south, west + wide, south + high))
    generator = np.random.default_rng(seed)
    positions = generator.uniform([south - 1, west - 1], [south + high + 1, west + wide + 1], (50, 2))
    expected = (positions >= [south, west]).all(axis=1) & (positions <= [south + high, west + wide]).all(axis=1)
    positions[:, 1] = (positions[:, 1] + 180.0) % 360.0 - 180.0
    borders = np.abs(positions[:, 0]) > 90.0
    inside = area.contains(positions)
    # Turning a longitude round costs the last digits: a draw on the very border may fall to either side.
    assert (inside == expected)[~borders].mean() >= 0.96
    boxes = np.zeros(50, dtype=bool)
    for low_lat, low_lon, high_lat, high_lon in area.boxes_deg:
        assert -180.0 <= low_lon <= high_lon <= 180.0
        boxes |= (positions >= [low_lat, low_lon - 1e-9]).all(axis=1) & (positions <= [high_lat, high_lon + 1e-9]).all(
            axis=1
        )
    assert boxes[inside].all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "is not JSON"),
        ('{"type": "FeatureCollection", "features": []}', "contains no polygon"),
        ('{"type": "Point", "coordinates": [0, 0]}', r"is a Point"),
        ('{"type": "Feature", "geometry": null}', "must be a GeoJSON"),
        ('{"type": "Polygon", "coordinates": []}', "at least one ring"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [0]]]}', "four corners"),
        (json.dumps(_box(0, 0, 600, 1)), "outside the Earth"),
        (json.dumps(_box(0, 0, 1, 91)), "outside the Earth"),
        ('{"type": "Polygon", "coordinates": [[[0,0],[1,1],[1,0],[0,1],[0,0]]]}', "not a simple polygon"),
        (
            json.dumps({**_box(0, 0, 1, 1), "crs": {"properties": {"name": "urn:ogc:def:crs:EPSG::27700"}}}),
            "27700.*WGS84",
        ),
    ],
)
def test_files_that_are_not_areas_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "area.geojson"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_areas(path)


def test_impossible_grids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        area_candidates(tmp_path / "nowhere.geojson", 20.0)
    small = _file(tmp_path, (_box(0.0, 0.0, 1e-5, 1e-5), {}))
    with pytest.raises(InputError, match="no point of a grid of 500 m"):
        area_candidates(small, 500.0)
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="positive number of metres"):
            area_candidates(small, wrong)
    with pytest.raises(InputError, match=r"a grid of 1 m would have .* points; at most 5,000,000 are allowed"):
        lattice_within(Area(shapely.box(-10.0, 40.0, 10.0, 60.0)), 1.0)
