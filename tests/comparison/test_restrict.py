"""Figures of some of the queries: those that measuring the same answers would give."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import pytest

from swclip.comparison.align import reordered, restricted
from swclip.evaluation.result import Evaluation


@pytest.fixture(scope="module")
def evaluation(made_up: Any) -> Evaluation:
    found: Evaluation = made_up(3)
    return found


def numbers(value: Any, where: str = "") -> dict[str, float]:
    if isinstance(value, dict):
        return {key: number for name, own in value.items() for key, number in numbers(own, f"{where}/{name}").items()}
    return {where: value} if isinstance(value, int | float) else {}


def test_all_queries_give_the_figures_that_were_measured(evaluation: Evaluation) -> None:
    """Everything it computes again equals what `measure` found; the order of the rows does not matter."""
    rows = np.random.default_rng(0).permutation(len(evaluation.predictions))
    found = restricted(evaluation, rows).report
    measured = numbers(evaluation.report.as_dict())
    again = {key: value for key, value in numbers(found.as_dict()).items() if not key.startswith("/intervals/")}
    assert again == pytest.approx({key: measured[key] for key in again})
    for key in ("error_m", "accuracy_within_m", "recall_at_k_25m", "baselines", "by_region", "estimators"):
        assert any(name.startswith(f"/{key}/") for name in again), key
    assert found.n_answerable == evaluation.report.n_answerable


def test_some_queries_against_plain_python(evaluation: Evaluation) -> None:
    rows = np.array([40, 3, 7, 20, 21])
    found, frame = restricted(evaluation, rows), evaluation.predictions
    errors = [float(frame["error_m"].iloc[row]) for row in rows]
    assert found.predictions["image_id"].tolist() == [frame["image_id"].iloc[row] for row in rows]
    assert found.report.n_queries == 5
    assert found.report.error_m.median == pytest.approx(statistics.median(errors))
    assert found.report.accuracy_within_m["50"] == pytest.approx(sum(error <= 50 for error in errors) / 5)
    floor = [float(frame["floor_m"].iloc[row]) for row in rows]
    assert found.report.baselines.floor.mean == pytest.approx(statistics.mean(floor))
    assert {name: own.n for name, own in found.report.by_region.items()} == dict(
        frame["region"].iloc[rows].value_counts()
    )
    low, high = found.report.intervals.error_m.median
    assert min(errors) <= low <= statistics.median(errors) <= high <= max(errors)


def test_what_the_answers_cannot_say_is_left_out(evaluation: Evaluation) -> None:
    report = restricted(evaluation, np.arange(10)).report
    assert report.baselines.constant is not None
    assert (report.baselines.random, report.spatial, report.calibration) == (None, None, None)
    assert report.levels == {}


def test_figures_of_single_queries_are_averaged_where_they_are_there(evaluation: Evaluation) -> None:
    frame = evaluation.predictions.assign(ndcg_20=np.linspace(0.0, 1.0, len(evaluation.predictions)))
    rows = np.array([0, 4, 9])
    report = restricted(Evaluation(evaluation.report, frame, evaluation.candidates), rows).report
    assert report.geoscore == pytest.approx(frame["geoscore"].iloc[rows].mean())
    assert report.ndcg_at_k == {"20": pytest.approx(frame["ndcg_20"].iloc[rows].mean())}
    assert report.estimators == {}, "errors of estimators that are not in memory"


def test_reordering_moves_rows_and_errors_together(evaluation: Evaluation) -> None:
    rows = np.arange(len(evaluation.predictions))[::-1]
    found = reordered(evaluation, rows)
    assert found.report is evaluation.report
    assert found.predictions["error_m"].tolist() == found.errors_m["mode"].tolist()
    assert found.predictions["image_id"].tolist() == evaluation.predictions["image_id"].tolist()[::-1]
