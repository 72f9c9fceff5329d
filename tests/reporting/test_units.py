"""Formatted distances and areas."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swclip.reporting.units import area, distance, metres


@given(st.floats(0, 2.0e7))
def test_distances_have_at_least_two_significant_figures(value: float) -> None:
    number, unit = metres(value).replace(",", "").split(" ")
    parsed = float(number) * (1000.0 if unit == "km" else 1.0)
    assert parsed == pytest.approx(value, rel=0.051, abs=0.051)
    assert distance(value) in (metres(value), f"{value / 1000:,.0f} km")


@given(st.floats(1e-7, 1e8))
def test_areas_have_at_least_two_significant_figures(km2: float) -> None:
    number, unit = area(km2).replace(",", "").split(" ")
    parsed = float(number) * (1.0 if unit == "km²" else 1e-6)
    assert parsed == pytest.approx(km2, rel=0.051, abs=0.51e-6)
