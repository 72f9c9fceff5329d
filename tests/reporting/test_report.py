"""The report page of a run, and of coordinates of another tool."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from swclip.evaluation.measure import MeasureConfig
from swclip.evaluation.report import Report
from swclip.evaluation.result import Evaluation
from swclip.external.evaluate import evaluate_predictions
from swclip.reporting.report import (
    cards,
    limitations,
    risk_coverage_table,
    setting_text,
    summary_text,
    unanswered_table,
    write_report_page,
)
from swclip.reporting.units import metres

MakeUp = Callable[..., Evaluation]

QUICK = MeasureConfig(resamples=100)


@pytest.fixture(scope="module")
def whole(made_up: MakeUp) -> Evaluation:
    return made_up(config=QUICK)


@pytest.fixture(scope="module")
def coordinates(whole: Evaluation) -> Evaluation:
    """Coordinates with confidences; three queries are unanswered."""
    columns = ["image_id", "lat_deg", "lon_deg", "predicted_lat_deg", "predicted_lon_deg", "city"]
    frame = whole.predictions[columns].assign(confidence=-whole.predictions["error_m"])
    frame.loc[:2, ["predicted_lat_deg", "predicted_lon_deg"]] = np.nan
    return evaluate_predictions(frame, config=QUICK)


def words_of(page: Path) -> str:
    return page.read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")


def test_error_figures_of_coordinates_equal_those_of_measure(whole: Evaluation) -> None:
    again = evaluate_predictions(whole.predictions, config=QUICK).report
    for key in ("error_m", "accuracy_within_m", "n_queries", "regions", "by_region"):
        assert getattr(again, key) == getattr(whole.report, key)
    assert again.intervals == whole.report.intervals
    assert again.recall_at_k_25m["1"] == whole.report.accuracy_within_m["25"]


def test_page_of_coordinates_has_their_sections_only(coordinates: Evaluation, tmp_path: Path) -> None:
    write_report_page(tmp_path / "report.html", coordinates, title="other")
    text = words_of(tmp_path / "report.html")
    anchors = re.findall(r'<a href="#([a-z-]+)">', text)
    assert anchors == [
        "map-section",
        "curve-section",
        "districts",
        "spatial",
        "figures",
        "unanswered",
        "limitations",
        "definitions",
        "provenance",
    ]
    assert re.findall(r'<section id="([a-z-]+)"', text) == anchors
    report = coordinates.report
    unanswered = report.unanswered
    assert "42 queries answered, 3 unanswered, gallery not known" in text
    assert "3 of 45 queries were not answered" in text
    of_all = f"{100 * unanswered.accuracy_within_m_of_asked['100']:.1f} %"
    assert f"counted as wrong, they lower the share within 100 m to {of_all}" in text
    assert f"Moran's I of the errors is {report.spatial.errors_moran.i:.2f}" in text.replace("&#39;", "'")
    assert "most confident 25 %" in text
    for sentence in limitations(report):
        assert sentence in text
    shown = re.sub(r"<(script|style).*?</\1>", "", text, flags=re.S)
    for no in (
        "constant baseline",
        "oracle error",
        "random baseline",
        "nan",
        "No leakage report",
        "MRR",
        "Grey dots",
        "None",
    ):
        assert not re.search(rf"\b{no}\b", shown), no
    assert text.count("<svg") == 2 * len(re.findall(r'id="chart-', text))  # on a screen and on a phone
    data = json.loads(re.findall(r'id="data">(.*?)</script>', text, flags=re.S)[0])
    answers = [view["answers"]["other"] for view in data["map"]["views"]]
    assert {value for answer in answers for value in answer["probability"]} == {None}
    assert sum(len(answer["error"]) for answer in answers) == 42


def test_known_gallery_adds_the_oracle_error(whole: Evaluation, tmp_path: Path) -> None:
    found = evaluate_predictions(whole.predictions, gallery=whole.candidates[["lat_deg", "lon_deg"]], config=QUICK)
    write_report_page(tmp_path / "report.html", found, title="other")
    text = words_of(tmp_path / "report.html")
    for words in (
        "135 candidates",
        "the median of the random baseline is",
        "Grey dots",
        "The dashed line is the oracle error",
    ):
        assert words in text
    assert "the gallery of the tool is not known" not in text
    assert 'id="unanswered"' not in text


def test_run_has_no_limitations_and_no_unanswered_queries(whole: Evaluation) -> None:
    report = whole.report.model_copy(update={"posterior": {"temperature": 0.1}})
    assert limitations(report) == []
    assert unanswered_table(report) is None
    assert risk_coverage_table(report) is None
    assert "answered" not in setting_text(report) + summary_text(report)


def test_tables_of_unanswered_queries_and_risk_coverage(coordinates: Evaluation) -> None:
    report = coordinates.report
    table = unanswered_table(report)
    assert table is not None
    assert [[cell.text for cell in row.cells] for row in table.rows] == [["no coordinates", "3"]]
    table = risk_coverage_table(report)
    assert table is not None
    best = np.sort(coordinates.predictions["error_m"].to_numpy())[:10]  # a quarter of 42
    assert [cell.text for cell in table.rows[0].cells] == [
        "most confident 25 %",
        "10",
        metres(float(np.median(best))),
        "100.0 %",
    ]
    assert [card["label"] for card in cards(report)] == [
        "median error", "mean error", "within 25 m", "within 100 m", "answered", "GeoScore"
    ]  # fmt: skip


def test_ranked_answers_have_recall_at_k(whole: Evaluation, tmp_path: Path) -> None:
    columns = ["image_id", "lat_deg", "lon_deg", "predicted_lat_deg", "predicted_lon_deg", "city"]
    first = whole.predictions[columns]
    rows = pd.concat([first.assign(rank=rank) for rank in range(1, 6)], ignore_index=True)
    found = evaluate_predictions(rows, config=QUICK)
    assert [card["range"] for card in cards(found.report) if card["label"].startswith("recall")] == [
        f"recall@5 {100 * found.report.recall_at_k_25m['5']:.1f} %"
    ]
    write_report_page(tmp_path / "report.html", found, title="other")
    text = words_of(tmp_path / "report.html")
    assert '<th scope="col">k = 5</th>' in text
    assert "k = 10</th>" not in text
    assert "Recall at k = 10, 20: each query has fewer answers" in text


def test_page_of_coordinates_shows_photographs_without_probabilities(
    coordinates: Evaluation, draw_photographs: Callable[..., Any], whole: Evaluation, tmp_path: Path
) -> None:
    manifest = draw_photographs(whole, tmp_path / "photographs")
    write_report_page(tmp_path / "report.html", coordinates, title="other", manifest=manifest)
    text = words_of(tmp_path / "report.html")
    assert 'data-image="' in text
    assert ", stated probability" not in text


@pytest.fixture(scope="module")
def report(full: Any) -> Report:
    whole: Report = full.full_evaluation(3, n_queries=400, cities=full.EIGHT).report
    return whole


def without(report: Report, **parts: None) -> Report:
    return report.model_copy(update=parts)


def test_last_card_is_coverage_or_geoscore(report: Report) -> None:
    assert cards(report)[-1]["label"] == "coverage at 80 %"
    assert cards(without(report, calibration=None))[-1]["label"] == "GeoScore"
