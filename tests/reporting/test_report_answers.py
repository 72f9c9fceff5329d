"""Bare coordinates of another tool: their figures are those of `measure`, and their page is that of a run, less."""

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
from swclip.evaluation.result import Evaluation
from swclip.external.evaluate import evaluate_predictions
from swclip.reporting.report import cards, confidence_table, kicker, lede, unanswered_table, unknown, write_report_page
from swclip.reporting.units import metres

MakeUp = Callable[..., Evaluation]
QUICK = MeasureConfig(resamples=100)
SECTIONS = ("map-section", "curve-section", "regions", "failures", "figures", "unknown", "made")


@pytest.fixture(scope="module")
def whole(made_up: MakeUp) -> Evaluation:
    return made_up(config=QUICK)


@pytest.fixture(scope="module")
def some(whole: Evaluation) -> Evaluation:
    """With confidences, and three queries that were not answered."""
    columns = ["image_id", "lat_deg", "lon_deg", "predicted_lat_deg", "predicted_lon_deg", "city"]
    frame = whole.predictions[columns].assign(confidence=-whole.predictions["error_m"])
    frame.loc[:2, ["predicted_lat_deg", "predicted_lon_deg"]] = np.nan
    return evaluate_predictions(frame, config=QUICK)


def words_of(page: Path) -> str:
    return page.read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")


def test_the_figures_of_errors_are_those_of_measure(whole: Evaluation) -> None:
    again = evaluate_predictions(whole.predictions, config=QUICK).report
    for key in ("error_m", "accuracy_within_m", "n_queries", "regions", "by_region"):
        assert getattr(again, key) == getattr(whole.report, key)
    assert again.intervals == whole.report.intervals
    assert again.recall_at_k_25m["1"] == whole.report.accuracy_within_m["25"]


def test_the_page_of_answers_has_what_coordinates_can_show(some: Evaluation, tmp_path: Path) -> None:
    write_report_page(tmp_path / "report.html", some, title="other")
    text = words_of(tmp_path / "report.html")
    anchors = re.findall(r'<a href="#([a-z-]+)">', text)
    assert anchors == [
        "map-section",
        "curve-section",
        "regions",
        "failures",
        "figures",
        "unanswered",
        "unknown",
        "made",
    ]
    assert re.findall(r'<section id="([a-z-]+)">', text) == anchors
    report = some.report
    missing = report.unanswered
    assert "42 queries answered and 3 not, gallery not known" in text
    assert "3 of 45 queries were not answered" in text
    of_all = f"{100 * missing.accuracy_within_m_of_asked['100']:.1f} %"
    assert f"counting as wrong what was not, {of_all} are within 100 m" in text
    assert f"Moran's I of the errors is {report.spatial.errors_moran.i:.2f}" in text.replace("&#39;", "'")
    assert "the surest 25 %" in text
    for sentence in unknown(report):
        assert sentence in text
    shown = re.sub(r"<(script|style).*?</\1>", "", text, flags=re.S)
    for no in (
        "one guess for all",
        "oracle error",
        "blind guess",
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
    assert {value for own in answers for value in own["probability"]} == {None}
    assert sum(len(own["error"]) for own in answers) == 42


def test_a_known_gallery_brings_the_floor_back(whole: Evaluation, tmp_path: Path) -> None:
    found = evaluate_predictions(whole.predictions, gallery=whole.candidates[["lat_deg", "lon_deg"]], config=QUICK)
    write_report_page(tmp_path / "report.html", found, title="other")
    text = words_of(tmp_path / "report.html")
    for words in ("135 candidates", "A blind guess is typically", "Grey dots", "The dashed line is the oracle error"):
        assert words in text
    assert "which positions the tool could name" not in text
    assert 'id="unanswered"' not in text


def test_a_run_has_no_limits_and_nothing_unanswered(whole: Evaluation) -> None:
    report = whole.report.model_copy(update={"posterior": {"temperature": 0.1}})
    assert unknown(report) == []
    assert unanswered_table(report) is None
    assert confidence_table(report) is None
    assert "answered" not in kicker(report) + lede(report)


def test_tables_hold_the_report(some: Evaluation) -> None:
    report = some.report
    table = unanswered_table(report)
    assert table is not None
    assert [[cell.text for cell in row.cells] for row in table.rows] == [["no coordinates", "3"]]
    table = confidence_table(report)
    assert table is not None
    best = np.sort(some.predictions["error_m"].to_numpy())[:10]  # a quarter of 42
    assert [cell.text for cell in table.rows[0].cells] == [
        "the surest 25 %",
        "10",
        metres(float(np.median(best))),
        "100.0 %",
    ]
    assert [card["label"] for card in cards(report)] == [
        "median error", "mean error", "within 25 m", "within 100 m", "answered", "GeoScore"
    ]  # fmt: skip


def test_ranked_answers_have_a_row_of_recall(whole: Evaluation, tmp_path: Path) -> None:
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
    assert "Recall at k = 10, 20: fewer answers" in text


def test_photographs_of_answers_are_shown_without_how_sure(
    some: Evaluation, draw_photographs: Callable[..., Any], whole: Evaluation, tmp_path: Path
) -> None:
    manifest = draw_photographs(whole, tmp_path / "photographs")
    write_report_page(tmp_path / "report.html", some, title="other", manifest=manifest)
    text = words_of(tmp_path / "report.html")
    assert 'data-image="' in text
    assert "% sure" not in text
