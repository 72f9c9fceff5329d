"""The schema of report.json: what the package writes fits it, and the published JSON Schema is that of the code."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from swclip.comparison.pooling import pool_evaluations
from swclip.errors import ArtefactError
from swclip.evaluation.measure import MeasureConfig
from swclip.evaluation.report_schema import REPORT_VERSION, Report, check_report
from swclip.evaluation.result import Evaluation

PUBLISHED = Path(__file__).parents[2] / "docs" / "report.schema.json"


@pytest.fixture(scope="module")
def evaluation(made_up: Callable[..., Evaluation]) -> Evaluation:
    return made_up(config=MeasureConfig(resamples=20))


@pytest.fixture(scope="module")
def report(evaluation: Evaluation) -> dict[str, Any]:
    return evaluation.report


def test_the_published_schema_is_that_of_the_code() -> None:
    # After a change: json.dumps(Report.model_json_schema(), indent=1) is what the file holds.
    assert json.loads(PUBLISHED.read_text(encoding="utf-8")) == Report.model_json_schema()


def test_what_is_measured_fits_it_and_goes_through_json(report: dict[str, Any]) -> None:
    assert report["version"] == REPORT_VERSION
    check_report(report)
    check_report(json.loads(json.dumps(report, allow_nan=False)))


def test_a_pooled_report_fits_it(evaluation: Evaluation) -> None:
    other = evaluation.predictions.assign(image_id=[f"other-{name}" for name in evaluation.predictions["image_id"]])
    twin = Evaluation(evaluation.report, other, evaluation.candidates, evaluation.errors_m)
    pooled = pool_evaluations([evaluation, twin], resamples=20)
    check_report(pooled.report)


def test_a_made_up_report_with_everything_fits_it(full: ModuleType) -> None:
    check_report(full.full_evaluation(n_queries=60, n_candidates=120).report)
    check_report(full.full_evaluation(n_queries=60, n_candidates=120, empty=True).report)


def renamed(report: dict[str, Any]) -> None:
    report["error_m"]["average"] = report["error_m"].pop("mean")


def of_another_type(report: dict[str, Any]) -> None:
    report["n_queries"] = "many"


def beyond_its_range(report: dict[str, Any]) -> None:
    report["calibration"]["levels"][0]["coverage"] = 1.5


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (renamed, "error_m"),
        (of_another_type, "n_queries"),
        (beyond_its_range, "calibration.levels.0.coverage"),
    ],
)
def test_what_does_not_fit_is_named(
    report: dict[str, Any], spoil: Callable[[dict[str, Any]], None], named: str
) -> None:
    bad = deepcopy(report)
    spoil(bad)
    with pytest.raises(ArtefactError, match=named.replace(".", r"\.")):
        check_report(bad, "runs/report.json")


@pytest.mark.parametrize("bad", [{"version": "1"}, {}, [], None])
def test_another_version_is_refused(bad: Any) -> None:
    with pytest.raises(ArtefactError, match="report version"):
        check_report(bad, "report.json")
