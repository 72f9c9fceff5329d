"""The report as a typed record: JSON, the golden report, and the published JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import ValidationError

from fixtures.reports import leaves
from swclip.comparison.pooling import pool_evaluations
from swclip.errors import ArtefactError
from swclip.evaluation.measure import MeasureConfig
from swclip.evaluation.report import REPORT_VERSION, Report, read_report, report_of
from swclip.evaluation.result import Evaluation
from swclip.files import write_json

GOLDEN = Path(__file__).with_name("golden_report.json")
PUBLISHED = Path(__file__).parents[2] / "docs" / "report.schema.json"


@pytest.fixture(scope="module")
def evaluation(made_up: Callable[..., Evaluation]) -> Evaluation:
    return made_up(config=MeasureConfig(resamples=20))


@pytest.fixture(scope="module")
def document(evaluation: Evaluation) -> dict[str, Any]:
    return evaluation.report.as_dict()


def test_the_published_schema_equals_that_of_the_code() -> None:
    # After a change, write json.dumps(Report.model_json_schema(), indent=1) to the file.
    assert json.loads(PUBLISHED.read_text(encoding="utf-8")) == Report.model_json_schema()


def test_a_report_survives_json(evaluation: Evaluation, tmp_path: Path) -> None:
    report = evaluation.report
    assert report.version == REPORT_VERSION
    write_json(tmp_path / "report.json", report.as_dict())
    back = read_report(tmp_path / "report.json")
    assert back == report
    assert json.dumps(back.as_dict()) == json.dumps(report.as_dict())


def test_the_golden_report_is_rewritten_byte_by_byte(tmp_path: Path) -> None:
    # golden_report.json is the report of `golden_evaluation` by an earlier release, in which reports were dictionaries;
    # its calibration is by this one, in which the spread follows the candidates' spacing.
    write_json(tmp_path / "report.json", read_report(GOLDEN).as_dict())
    assert (tmp_path / "report.json").read_bytes() == GOLDEN.read_bytes()


def test_the_golden_evaluation_gives_the_golden_report(made_up: Callable[..., Evaluation]) -> None:
    report = golden_evaluation(made_up).report.as_dict()
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert [key for key, _ in leaves(report)] == [key for key, _ in leaves(golden)]
    for (key, value), (_, old) in zip(leaves(report), leaves(golden), strict=True):
        assert type(value) is type(old), key
        assert value == (pytest.approx(old, rel=1e-9) if isinstance(old, float) else old), key


def golden_evaluation(made_up: Callable[..., Evaluation]) -> Evaluation:
    return made_up(3, per_city=40, cities={"York": (53.96, -1.0873)}, config=MeasureConfig(resamples=20))


def test_a_report_is_immutable(evaluation: Evaluation) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        evaluation.report.estimator = "argmax"  # type: ignore[misc]
    further = evaluation.report.recorded(run={"seed": 7})
    assert further.made_with["run"] == {"seed": 7}
    assert "run" not in evaluation.report.made_with


def test_a_pooled_report_is_valid(evaluation: Evaluation) -> None:
    other = evaluation.predictions.assign(image_id=[f"other-{name}" for name in evaluation.predictions["image_id"]])
    twin = Evaluation(evaluation.report, other, evaluation.candidates, evaluation.errors_m)
    pooled = pool_evaluations([evaluation, twin], resamples=20).report
    assert report_of(json.loads(json.dumps(pooled.as_dict()))) == pooled


def test_a_complete_report_is_valid(full: ModuleType) -> None:
    for empty in (False, True):
        report = full.full_evaluation(n_queries=60, n_candidates=120, empty=empty).report
        assert report_of(json.loads(json.dumps(report.as_dict()))) == report


def with_a_renamed_key(report: dict[str, Any]) -> None:
    report["error_m"]["average"] = report["error_m"].pop("mean")


def with_another_type(report: dict[str, Any]) -> None:
    report["n_queries"] = "many"


def out_of_range(report: dict[str, Any]) -> None:
    report["calibration"]["levels"][0]["coverage"] = 1.5


def with_a_later_key(report: dict[str, Any]) -> None:
    report["of_later"] = 1.0


@pytest.mark.parametrize(
    ("corrupt", "message"),
    [
        (with_a_renamed_key, "'error_m.mean' is missing"),
        (with_a_later_key, "does not know the key 'of_later'; use the swclip that wrote it"),
        (with_another_type, "n_queries"),
        (out_of_range, "calibration.levels.0.coverage"),
    ],
)
def test_invalid_reports_are_refused(
    document: dict[str, Any], corrupt: Callable[[dict[str, Any]], None], message: str
) -> None:
    invalid = deepcopy(document)
    corrupt(invalid)
    with pytest.raises(ArtefactError, match=message.replace(".", r"\.")):
        report_of(invalid, "runs/report.json")


@pytest.mark.parametrize("invalid", [{"version": "1"}, {}, [], None])
def test_another_version_is_refused(invalid: Any) -> None:
    with pytest.raises(ArtefactError, match="report of version"):
        report_of(invalid, "report.json")
