"""Several seeds as one report: means at every depth, and the spread."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swclip.comparison.pooling import mean_report, seed_spread


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5))
def test_every_number_is_averaged_at_every_depth(values: list[float]) -> None:
    reports = [{"a": {"b": value, "c": [value, 2 * value]}, "d": "same", "e": None} for value in values]
    mean = mean_report(reports)
    expected = sum(values) / len(values)
    assert mean["a"]["b"] == pytest.approx(expected, abs=1e-6)
    assert mean["a"]["c"] == pytest.approx([expected, 2 * expected], abs=1e-6)
    assert (mean["d"], mean["e"]) == ("same", None)


def test_what_differs_and_is_no_number_is_none_and_what_is_missing_is_left_out() -> None:
    assert mean_report([{"a": "x", "b": 1}, {"a": "y"}]) == {"a": None}
    assert mean_report([{"n": 7}, {"n": 7}]) == {"n": 7}
    assert mean_report([{"n": True}, {"n": False}]) == {"n": None}


def test_the_spread_is_the_sample_standard_deviation() -> None:
    medians, shares = [10.0, 14.0, 30.0], [0.5, 0.25, 0.75]
    reports = [
        {"error_m": {"median": m, "mean": 2 * m}, "accuracy_within_m": dict.fromkeys(("25", "50", "100"), share)}
        for m, share in zip(medians, shares, strict=True)
    ]
    spread = seed_spread(reports)
    assert spread is not None
    assert spread["error_m"]["median"] == pytest.approx(statistics.stdev(medians))
    assert spread["error_m"]["mean"] == pytest.approx(2 * statistics.stdev(medians))
    assert spread["accuracy_within_m"]["50"] == pytest.approx(statistics.stdev(shares))
    assert seed_spread(reports[:1]) is None
