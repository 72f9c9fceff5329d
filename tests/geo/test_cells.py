"""H3 cells of positions, and their parents."""

from __future__ import annotations

import h3
import numpy as np
import pytest

from swclip.errors import ConfigError
from swclip.geo.cells import cell_centre_deg, cell_ids, nested_cell_ids, parent_cell
from swclip.geo.coordinates import LocalFrame
from swclip.geo.distance import haversine_m


def test_cell_centres_are_near_their_positions() -> None:
    positions = LocalFrame(51.5, -0.1).to_deg(np.random.default_rng(0).uniform(-2000, 2000, size=(50, 2)))
    for position, cell in zip(positions, cell_ids(positions, 9), strict=True):
        assert h3.get_resolution(cell) == 9
        centre = h3.cell_to_latlng(cell)
        assert float(haversine_m(*(np.float64(value) for value in (*position, *centre)))) < 250.0


def test_only_near_positions_share_a_cell() -> None:
    near, nearer, far = cell_ids([[51.5074, -0.1278], [51.50741, -0.1278], [51.52, -0.1278]], 9)
    assert near == nearer != far


def test_parent_is_the_coarser_cell_of_the_centre() -> None:
    (fine,) = cell_ids([[51.5074, -0.1278]], 11)
    (coarse,) = cell_ids([h3.cell_to_latlng(fine)], 8)
    assert parent_cell(fine, 8) == coarse
    assert parent_cell(fine, 11) == fine


def test_empty_positions_give_no_cells() -> None:
    assert cell_ids(np.zeros((0, 2)), 9) == []


@pytest.mark.parametrize("resolution", [-1, 16])
def test_rejects_unknown_resolutions(resolution: int) -> None:
    with pytest.raises(ConfigError, match=f"resolution {resolution}"):
        cell_ids([[0.0, 0.0]], resolution)


def test_rejects_parents_of_finer_resolution() -> None:
    (cell,) = cell_ids([[0.0, 0.0]], 5)
    with pytest.raises(ConfigError, match=r"resolution 5.*no parent of resolution 6"):
        parent_cell(cell, 6)


def test_nested_cells_are_parents_of_the_finest_cell() -> None:
    positions = LocalFrame(51.5, -0.1).to_deg(np.random.default_rng(1).uniform(-3000, 3000, size=(400, 2)))
    nested = nested_cell_ids(positions, [10, 6, 8, 6])
    assert list(nested) == [6, 8, 10]
    assert nested[10] == cell_ids(positions, 10)
    for fine, middle, coarse in zip(nested[10], nested[8], nested[6], strict=True):
        assert parent_cell(fine, 8) == middle
        assert parent_cell(middle, 6) == coarse
    assert nested[8] != cell_ids(positions, 8), "the positions must include some near the edges of hexagons"
    assert nested_cell_ids(positions[:1], [7]) == {7: cell_ids(positions[:1], 7)}
    for resolutions in ([], [3, 16]):
        with pytest.raises(ConfigError, match="H3 resolution"):
            nested_cell_ids(positions, resolutions)


def test_cell_centre_is_latitude_first() -> None:
    (cell,) = cell_ids([[51.5074, -0.1278]], 10)
    assert cell_centre_deg(cell) == pytest.approx((51.5074, -0.1278), abs=2e-3)
