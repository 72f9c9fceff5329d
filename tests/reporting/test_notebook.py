"""An evaluation in a notebook: tables, figures, card and saved files."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from swclip.api.evaluations import evaluate_predictions
from swclip.errors import InputError
from swclip.evaluation.frames import COVERAGE_COLUMNS, SPATIAL_COLUMNS
from swclip.evaluation.measure import MeasureConfig
from swclip.evaluation.report import read_report
from swclip.evaluation.result import Evaluation
from swclip.metrics.calibration import CalibrationReport
from swclip.metrics.spatial import Spatial
from swclip.reporting.notebook import EvaluationReport
from swclip.reporting.plots import data_uri

MakeUp = Callable[..., Evaluation]

CALIBRATION: dict[str, Any] = {
    "method": {"source": "validation", "n": 40, "units": 20, "unreachable": 0, "by_city": False, "own_cities": []},
    "cells": {"resolution": 11, "across_m": 50.0, "spread_m": 25.0},
    "total_area_km2": 2.0,
    "area_curve": {"area_km2": [0.01, 0.1], "recall": [0.5, 0.9]},
    "selective": {"by": "area", "share": [1.0], "median_m": [20.0], "within_100_m": [0.8], "n": [45]},
    "levels": [
        {
            "level": 0.8,
            "threshold": 0.1,
            "coverage": 0.79,
            "coverage_interval": [0.7, 0.86],
            "n": 45,
            "area_km2": {"median": 0.02, "mean": 0.03, "p90": 0.1},
            "cannot_tell": 0.1,
            "expected": None,
            "by_city": None,
            "by_region": {
                "York": {"n": 15, "coverage": 0.6, "coverage_interval": [0.4, 0.8], "median_area_km2": 0.05},
                "Leeds": {"n": 30, "coverage": 0.9, "coverage_interval": None, "median_area_km2": 0.01},
            },
        }
    ],
    "reliability": [
        {"low": 0.5, "high": 1.0, "n": 45, "mean_probability": 0.7, "coverage": 0.6, "coverage_interval": [0.5, 0.7]},
    ],
}
SPATIAL: dict[str, Any] = {
    "errors_moran": {"i": 0.3, "expected": -0.02, "z": 4.0, "p": 0.001, "permutations": 999, "neighbours": 8, "n": 45},
    "lisa": {"alpha": 0.05, "permutations": 999, "correction": "Benjamini-Hochberg", "threshold": 0.01}
    | {"counts": {"high-high": 4, "not significant": 41}},
    "components": [{"component": 1, "variance_share": 0.4, "i": 0.5, "p": 0.01}],
    "correlogram": {
        "image": [{"low_m": 0.0, "high_m": 50.0, "pairs": 90, "mean_distance": 0.2, "spearman": 0.4, "p": 0.01}],
        "location": None,
    },
    "mantel": {"image": {"r": 0.2, "p": 0.02}, "location": None},
    "smoothness": {"image": {"k": 5, "ratio": 0.3, "spearman": 0.5, "within_m": 500.0}, "location": None},
}


@pytest.fixture(scope="module")
def plain(made_up: MakeUp) -> EvaluationReport:
    return EvaluationReport.of(made_up(config=MeasureConfig(resamples=60)))


@pytest.fixture(scope="module")
def full(plain: EvaluationReport) -> EvaluationReport:
    """The same with optional parts of a report."""
    report = plain.report.model_copy(
        update={
            "calibration": CalibrationReport.model_validate(CALIBRATION),
            "spatial": Spatial.model_validate(SPATIAL),
            "geoscore": 4998.5,
        }
    )
    return replace(plain, report=report)


@pytest.fixture(scope="module")
def answers(plain: EvaluationReport) -> EvaluationReport:
    return evaluate_predictions(plain.predictions, config=MeasureConfig(resamples=60))


def test_summary_is_one_row_of_the_report(
    plain: EvaluationReport, full: EvaluationReport, answers: EvaluationReport
) -> None:
    report = plain.report
    (row,) = plain.summary().to_dict("records")
    assert row["median_m"] == report.error_m.median
    assert [row["within_25_m_low"], row["within_25_m_high"]] == report.intervals.accuracy_within_m["25"]
    assert row["floor_median_m"] == report.baselines.floor.median
    assert full.summary()["geoscore"].tolist() == [4998.5]
    (bare,) = answers.summary().to_dict("records")
    assert bare["floor_median_m"] is None
    assert bare["median_m"] == row["median_m"]
    both = pd.concat([plain.summary(), answers.summary()])
    assert both["n_queries"].tolist() == [45, 45]


def test_tables_equal_the_report(plain: EvaluationReport, full: EvaluationReport) -> None:
    errors = plain.errors()
    assert errors.loc["floor", "within_100_m"] == plain.report.baselines.floor.accuracy_within_m["100"]
    assert errors.loc["mode", "p95"] == plain.report.error_m.p95
    regions = plain.regions()
    assert regions["median"].is_monotonic_decreasing
    assert regions.loc["York", "n"] == plain.report.by_region["York"].n
    assert set(plain.levels().index) == set(plain.report.levels)
    coverage = full.coverage()
    assert list(coverage.columns) == list(COVERAGE_COLUMNS)
    assert coverage["region"].tolist() == ["all", "York", "Leeds"]
    assert coverage["coverage"].tolist() == [0.79, 0.6, 0.9]
    assert coverage["coverage_low"].tolist()[:2] == [0.7, 0.4]
    spatial = full.spatial()
    assert list(spatial.columns) == list(SPATIAL_COLUMNS)
    assert spatial.set_index(["figure", "of"]).loc[("Moran's I", "errors"), "value"] == 0.3
    assert spatial.set_index(["figure", "of"]).loc[("LISA", "high-high"), "n"] == 4
    assert full.correlogram()["embedding"].tolist() == ["image"]


def test_tables_of_unmeasured_parts_are_empty(plain: EvaluationReport, answers: EvaluationReport) -> None:
    bare = replace(plain, report=plain.report.model_copy(update={"calibration": None, "spatial": None}))
    for table in (bare.coverage(), bare.spatial(), bare.correlogram()):
        assert len(table) == 0
    for table in (answers.levels(), answers.coverage(), answers.correlogram()):
        assert len(table) == 0
    assert list(answers.errors().index) == ["as given"]


def test_reliability_is_drawn_from_the_report_or_the_predictions(
    plain: EvaluationReport, answers: EvaluationReport
) -> None:
    def drawn(evaluation: EvaluationReport) -> np.ndarray:
        return np.asarray(evaluation.plot_reliability().axes[0].collections[-1].get_offsets())

    bins = plain.report.calibration.reliability
    expected = [[100.0 * bin_.mean_probability, 100.0 * bin_.coverage] for bin_ in bins]
    assert drawn(plain) == pytest.approx(np.array(expected))
    before = replace(
        plain, report=plain.report.model_copy(update={"calibration": None})
    )  # a report of an earlier version
    assert drawn(before) == pytest.approx(np.array(expected))
    with pytest.raises(InputError, match="have no probabilities"):
        answers.plot_reliability()


def test_plots_are_figures_without_global_state(plain: EvaluationReport, full: EvaluationReport) -> None:
    before = dict(matplotlib.rcParams)
    drawn = [
        plain.plot_curve(),
        plain.plot_map(),
        plain.plot_regions(),
        plain.plot_reliability(),
        full.plot_reliability(),
    ]
    for figure in drawn:
        assert isinstance(figure, Figure)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=60)
        assert Image.open(stream).size[0] > 300
    assert dict(matplotlib.rcParams) == before
    curve = drawn[0].axes[0].lines[-2]  # of the system; the last is the oracle error
    assert curve.get_label() == "mode"
    assert curve.get_ydata()[-1] == 100.0
    assert data_uri(plain.plot_curve()) == data_uri(plain.plot_curve())


def test_map_of_one_district(plain: EvaluationReport) -> None:
    assert len(plain.plot_map().axes) == 3  # one per city; the unused panel is removed
    figure = plain.plot_map(region="York")
    (axes,) = figure.axes
    assert axes.get_title(loc="left").startswith("York: 15 queries, median error ")
    dots = sum(len(part.get_offsets()) for part in axes.collections if part.get_label() != "candidate")
    assert dots == 15
    with pytest.raises(InputError, match="district 'Rome' is not in the report; choose one of"):
        plain.plot_map(region="Rome")


def test_names_are_escaped(plain: EvaluationReport) -> None:
    name = "$x_1$ & <script>alert(1)</script>"
    frame = plain.predictions.assign(city=name)
    found = evaluate_predictions(frame, config=MeasureConfig(resamples=20))
    assert "\\$x_1\\$" in found.plot_map().axes[0].get_title(loc="left")
    found.plot_regions().savefig(io.BytesIO())
    report = found.report.model_copy(
        update={"estimator": name, "estimators": {name: found.report.estimators["as given"]}}
    )
    card = replace(found, report=report)._repr_html_()
    assert "<script" not in card
    assert html.escape("<script>alert(1)</script>", quote=False) in card


def test_card_has_the_headline_figures_and_is_self_contained(
    plain: EvaluationReport, answers: EvaluationReport
) -> None:
    card = plain._repr_html_()
    assert "45 queries, 135 candidates" in card
    assert "oracle error" in card
    assert not re.findall(r"(?:src|href)=\"(?!data:)", card)
    bare = answers._repr_html_()
    assert "gallery not known" in bare
    assert "oracle error" not in re.sub(r'src="[^"]*"', "", bare)


def test_card_fits_a_browser(plain: EvaluationReport, browser: Any, tmp_path: Path) -> None:
    page_file = tmp_path / "card.html"
    page_file.write_text(f"<!DOCTYPE html><meta charset=utf-8><body>{plain._repr_html_()}", encoding="utf-8")
    for width in (1000, 380):
        page = browser.new_page(viewport={"width": width, "height": 700})
        page.goto(page_file.as_uri())
        assert page.evaluate("document.querySelector('img').naturalWidth") > 100
        assert page.locator("tbody tr").count() == 5
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        page.close()


def test_save_writes_the_files_of_the_command(answers: EvaluationReport, tmp_path: Path) -> None:
    out = tmp_path / "out"
    path = answers.save(out, title="made up")
    assert path == out / "report.json"
    assert read_report(path) == answers.report
    assert sorted(file.name for file in out.iterdir()) == [
        "figures",
        "predictions.parquet",
        "report.html",
        "report.json",
    ]
    assert {"error-curve.png", "map.svg"} < {file.name for file in (out / "figures").iterdir()}
    (out / "figures" / "other.png").write_bytes(b"")
    answers.save(out, title="made up", figures=False)
    assert [file.name for file in (out / "figures").iterdir()] == ["other.png"]
