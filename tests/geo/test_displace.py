from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swclip.geo.coordinates import LocalFrame, displaced
from swclip.geo.distance import EARTH_RADIUS_M, haversine_m


@given(st.floats(-90, 90), st.floats(-180, 180), st.floats(-5000, 5000), st.floats(-5000, 5000))
def test_the_length_is_the_distance_gone(lat: float, lon: float, east_m: float, north_m: float) -> None:
    reached = displaced([[lat, lon]], [[east_m, north_m]])[0]
    assert haversine_m(lat, lon, *reached) == pytest.approx(np.hypot(east_m, north_m), abs=0.01)
    assert -90.0 <= reached[0] <= 90.0
    assert -180.0 <= reached[1] <= 180.0


@given(st.floats(-60, 60), st.floats(-180, 180), st.floats(-300, 300), st.floats(-300, 300))
def test_east_is_east_and_north_is_north(lat: float, lon: float, east_m: float, north_m: float) -> None:
    reached = displaced([[lat, lon]], [[east_m, north_m]])
    np.testing.assert_allclose(LocalFrame(lat, lon).to_xy_m(reached)[0], [east_m, north_m], atol=0.05)


def test_along_the_equator_and_over_the_pole() -> None:
    quarter_m = np.pi / 2 * EARTH_RADIUS_M
    np.testing.assert_allclose(displaced([[0, 10]], [[quarter_m, 0]]), [[0, 100]], atol=1e-9)
    np.testing.assert_allclose(displaced([[80, 10]], [[0, quarter_m * 2 / 9]]), [[80, -170]], atol=1e-9)


@given(st.floats(-90, 90), st.floats(-180, 180))
def test_who_does_not_move_stays_to_the_last_bit(lat: float, lon: float) -> None:
    assert displaced([[lat, lon]], [[0.0, 0.0]]).tolist() == [[lat, lon]]
