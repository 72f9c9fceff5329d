"""Errors by district, their gap and the Gini coefficient against loops and closed forms."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swclip.errors import InputError
from swclip.metrics.error_report import district_gap, errors_by_district, gini

amounts = st.lists(st.floats(0, 1e6), min_size=1, max_size=20)


def gini_loop(values: list[float]) -> float:
    mean = math.fsum(values) / len(values)
    if mean == 0.0:
        return 0.0
    return math.fsum(abs(a - b) for a in values for b in values) / (2.0 * len(values) ** 2 * mean)


@given(amounts)
def test_gini_equals_a_loop(values: list[float]) -> None:
    assert gini(values) == pytest.approx(gini_loop(values), abs=1e-9)


@pytest.mark.parametrize("n", [2, 3, 10])
def test_gini_in_closed_form(n: int) -> None:
    assert gini([0.0] * (n - 1) + [7.0]) == pytest.approx((n - 1) / n)
    assert gini([7.0] * n) == pytest.approx(0.0, abs=1e-15)
    assert gini([float(i) for i in range(1, n + 1)]) == pytest.approx((n - 1) / (3 * n))  # of 1, 2, ..., n


@given(amounts, st.floats(1e-3, 1e3), st.randoms(use_true_random=False))
def test_gini_is_invariant_to_unit_and_order(values: list[float], factor: float, random: object) -> None:
    shuffled = [factor * value for value in values]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert gini(shuffled) == pytest.approx(gini(values), abs=1e-9)


def test_gini_of_the_largest_floats() -> None:
    assert gini([0.0, 1.7e308]) == 0.5
    assert gini([0.0, 0.0]) == 0.0


@pytest.mark.parametrize("bad", [[], [-1.0, 2.0], [math.nan], [1.0, math.inf]])
def test_gini_of_invalid_values_is_refused(bad: list[float]) -> None:
    with pytest.raises(InputError):
        gini(bad)


def test_the_gap_of_known_errors() -> None:
    table = errors_by_district([10.0, 20.0, 300.0, 40.0, 50.0], ["York", "York", "Leeds", "Hull", "Hull"])
    gap = district_gap(table)
    assert gap is not None
    assert gap.model_dump() == {
        "best": "York",
        "worst": "Leeds",
        "best_median": 15.0,
        "worst_median": 300.0,
        "gap": 285.0,
        "gini": pytest.approx(gini_loop([15.0, 300.0, 45.0])),
        "n_regions": 3,
    }


@given(st.lists(st.tuples(st.floats(0, 1e6), st.sampled_from(["a", "b", "c"])), min_size=1, max_size=40))
def test_districts_are_measured_separately(rows: list[tuple[float, str]]) -> None:
    table = errors_by_district([error for error, _ in rows], [district for _, district in rows])
    assert sum(figures.n for figures in table.values()) == len(rows)
    for district, figures in table.items():
        district_errors = [error for error, name in rows if name == district]
        assert figures.median == pytest.approx(statistics.median(district_errors), abs=1e-9)
        assert figures.n == len(district_errors)


def test_the_number_of_districts_must_equal_the_number_of_errors() -> None:
    with pytest.raises(InputError, match="2 errors"):
        errors_by_district([1.0, 2.0], ["a"])


def test_ties_are_resolved_in_alphabetical_order() -> None:
    gap = district_gap(errors_by_district([5.0, 5.0], ["York", "Bath"]))
    assert gap is not None
    assert (gap.best, gap.worst, gap.gap, gap.gini) == ("Bath", "Bath", 0.0, 0.0)


def test_one_district_has_no_gap() -> None:
    assert district_gap(errors_by_district([5.0], ["York"])) is None
    assert district_gap({}) is None
