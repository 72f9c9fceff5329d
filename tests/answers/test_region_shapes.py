"""Outlines of regions contain exactly the centres of their cells, at the antimeridian and around poles too."""

from __future__ import annotations

import h3
import numpy as np
import pytest
from shapely.geometry import Point, shape

from swclip.answers.region_shapes import region_geometry

CORNERS = {
    "london": (51.5, -0.1),
    "antimeridian": (-16.8, 179.9999),
    "north pole": (89.9999, 10.0),
    "south pole": (-89.9999, 10.0),
    "pentagon": h3.cell_to_latlng(sorted(h3.get_pentagons(11))[0]),
}


@pytest.mark.parametrize("corner", CORNERS.values(), ids=CORNERS)
@pytest.mark.parametrize("hole", [False, True])
def test_outline_contains_exactly_the_centres_of_its_cells(corner: tuple[float, float], hole: bool) -> None:
    middle = h3.latlng_to_cell(*corner, 11)
    cells = set(h3.grid_disk(middle, 2)) - ({middle} if hole else set())
    apart = h3.latlng_to_cell(corner[0] * 0.999, corner[1] - 0.3, 11)
    geometry = region_geometry(sorted(cells | {apart}), 11)
    assert geometry is not None
    outline = shape(geometry)
    assert outline.is_valid
    west, south, east, north = outline.bounds
    assert -180.0 <= west <= east <= 180.0
    assert -90.0 <= south <= north <= 90.0
    for cell in {*h3.grid_disk(middle, 4), apart}:
        lat, lon = h3.cell_to_latlng(cell)
        assert outline.contains(Point(lon, lat)) == (cell in cells or cell == apart)


def test_outline_is_longitude_first_closed_and_anticlockwise() -> None:
    cell = h3.latlng_to_cell(51.5, -0.1, 11)
    geometry = region_geometry([cell], 11)
    assert geometry is not None
    (ring,) = geometry["coordinates"]
    assert ring[0] == ring[-1]
    x, y = np.array(ring).T
    assert (x < 0).all()
    assert (y > 51).all()
    assert float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) > 0
    expected = {(round(lon, 7), round(lat, 7)) for lat, lon in h3.cell_to_boundary(cell)}
    assert {tuple(point) for point in ring} == expected


def test_compact_cells_are_expanded() -> None:
    fine = h3.cell_to_children(h3.latlng_to_cell(51.5, -0.1, 9), 11)
    compact = h3.compact_cells(fine)
    assert len(compact) == 1
    assert region_geometry(compact, 11) == region_geometry(sorted(fine), 11)
    assert region_geometry([], 11) is None
