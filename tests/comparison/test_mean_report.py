"""Means of the reports of several seeds."""

from __future__ import annotations

import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.reports import edited
from swclip.comparison.mean_report import MeanReport, SeedDeviation, averaged
from swclip.errors import MismatchError
from swclip.evaluation.report import Report


@pytest.fixture(scope="module")
def reports(made_up: Any) -> list[Report]:
    return [made_up(1, system=system).report for system in range(3)]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5))
def test_numbers_are_averaged_at_every_depth(values: list[float]) -> None:
    reports = [{"a": {"b": value, "c": [value, 2 * value]}, "d": "same", "e": None} for value in values]
    mean = averaged(reports)
    expected = sum(values) / len(values)
    assert mean["a"]["b"] == pytest.approx(expected, abs=1e-6)
    assert mean["a"]["c"] == pytest.approx([expected, 2 * expected], abs=1e-6)
    assert (mean["d"], mean["e"]) == ("same", None)


def test_other_values_and_missing_keys() -> None:
    assert averaged([{"a": "x", "b": 1}, {"a": "y"}]) == {"a": None}
    assert averaged([{"n": 7}, {"n": 7}]) == {"n": 7}
    assert averaged([{"n": True}, {"n": False}]) == {"n": None}


def test_standard_deviation_is_that_of_a_sample(reports: list[Report]) -> None:
    deviation = SeedDeviation.of(reports)
    assert deviation is not None
    medians = [report.error_m.median for report in reports]
    assert deviation.error_m["median"] == pytest.approx(statistics.stdev(medians))
    shares = [report.accuracy_within_m["50"] for report in reports]
    assert deviation.accuracy_within_m["50"] == pytest.approx(statistics.stdev(shares))
    assert SeedDeviation.of(reports[:1]) is None


def test_texts_that_differ_are_null(reports: list[Report]) -> None:
    other = edited(reports[1], lambda report: report.update(estimator="argmax", regions="borough"))
    mean = MeanReport.of([reports[0], other], reports[0].intervals)
    assert (mean.estimator, mean.regions, mean.version) == (None, None, "2")
    assert mean.recall(5) == pytest.approx(statistics.mean(one.recall_at_k_25m["5"] for one in (reports[0], other)))
    assert mean.recall(7) is None


def test_seeds_with_other_districts_are_refused(reports: list[Report]) -> None:
    other = edited(reports[1], lambda report: report["by_region"]["York"].update(n=3))
    with pytest.raises(MismatchError, match=r"differ in by_region\.York\.n, which all of its seeds share"):
        MeanReport.of([reports[0], other], reports[0].intervals)


def test_coverage_is_found_by_its_level(full: Any) -> None:
    report = full.full_evaluation(n_queries=60, n_candidates=120).report
    mean = MeanReport.of([report, report], report.intervals)
    assert mean.coverage_at(0.9).coverage == report.calibration.levels[2].coverage
    assert mean.coverage_at(0.7) is None
