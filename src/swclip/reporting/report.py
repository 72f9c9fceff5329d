"""report.html: one evaluation as a page that someone who has never seen it can read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from swclip.data.manifest import Manifest
from swclip.reporting.chart import Chart, error_chart
from swclip.reporting.examples import examples_of
from swclip.reporting.page_figures import error_curve
from swclip.reporting.leakage_table import leakage_section
from swclip.reporting.map_data import map_data
from swclip.reporting.map_photographs import BUDGET_BYTES, add_photographs
from swclip.evaluation.measure import Evaluation
from swclip.reporting.page import (COLOURS, REFERENCE_COLOUR, map_note, marks_note, reference_marks, write_page)
from swclip.reporting.report_answers import (answers_alone, confidence_table, unanswered_table, unknown)
from swclip.reporting.failures_section import failures, lisa_note
from swclip.reporting.confidence_section import sureness
from swclip.reporting.tables import (accuracy_table, error_table, level_table, region_table, regional_text, retrieval_table, retrieval_text)
from swclip.reporting.report_words import (answerable_text, cards, kicker, lede, made_rows, own_mark, scale_of)


def write_report_page(
    path: str | os.PathLike[str],
    evaluation: Evaluation,
    *,
    title: str,
    manifest: Manifest | None = None,
    leakage: Mapping[str, Any] | None = None,
    seed: int = 0,
    photograph_bytes: int = BUDGET_BYTES,
) -> None:
    """Write the page of one evaluation.

    Args:
        path: The HTML file.
        evaluation: What to show. What it lacks (spatial statistics, calibration, best candidates, posteriors on the
            ground, a gallery) the page leaves out; of bare coordinates it says what cannot be known.
        title: What was evaluated.
        manifest: Where the photographs are; without it the page has none.
        leakage: The leakage report of the split, where there is one.
        seed: Of the choice of what a map leaves out when it would hold too much.
        photograph_bytes: Bytes of the photographs that the map carries, all together.

    Raises:
        DiskFullError: The disk filled; what was there before is as it was.
        InputError: The folder cannot be written.
    """
    report = evaluation.report
    examples = examples_of(evaluation, manifest) if manifest is not None else {}
    drawn = map_data({title: evaluation}, np.random.default_rng(seed))
    shown = [example.image_id for kind in examples.values() for example in kind if example.query.data_uri]
    add_photographs(drawn, evaluation, manifest, shown, photograph_bytes)
    marks = [own_mark(title, report), *reference_marks(report["baselines"])]
    failing, sure = failures(report), sureness(report)
    charts, limits, missing = report_charts(title, evaluation), unknown(report), unanswered_table(report)
    with_leakage = leakage is not None or not answers_alone(report)
    contents = {
        "map-section": "Map",
        "curve-section": "Error",
        "regions": "Regions",
        "failures": "Where it fails" if failing else "",
        "sureness": "How sure" if sure else "",
        "examples": "Photographs" if examples else "",
        "figures": "All figures",
        "levels": "City and cell" if report.get("levels") else "",
        "unanswered": "Not answered" if missing else "",
        "unknown": "What cannot be known" if limits else "",
        "leakage": "Leakage" if with_leakage else "",
        "made": "How it was made",
    }
    page = {
        "title": title,
        "kicker": kicker(report),
        "lede": lede(report),
        "contents": [(anchor, name) for anchor, name in contents.items() if name],
        "cards": cards(report),
        "marks": marks,
        "scale": scale_of(marks),
        "marks_note": marks_note(report["baselines"]),
        "map_note": map_note(drawn["left_out"]),
        "lisa_on_map": drawn["lisa"] is not None,
        "regions": region_table(report),
        "regional": regional_text(report),
        "failures": failing,
        "lisa_note": lisa_note(report),
        "sure": sure,
        "accuracy": accuracy_table(title, report),
        "errors": error_table(report),
        "estimator": report["estimator"],
        "retrieval": retrieval_table(report),
        "retrieval_text": retrieval_text(report),
        "relevance": report.get("relevance"),
        "answerable": answerable_text(report),
        "levels": level_table(report) if report.get("levels") else None,
        "examples": examples,
        "unanswered": missing,
        "confidence": confidence_table(report),
        "unknown": limits,
        "with_leakage": with_leakage,
        "leakage": leakage_section(leakage),
        "made": made_rows(report),
        "block": report["intervals"]["block"],
        "random_draws": (report["baselines"]["random"] or {}).get("draws"),
        "candidates_shown": len(evaluation.candidates) > 0,
        "floor_known": report["baselines"]["floor"] is not None,
        "ranked": any(value is not None for k, value in report["recall_at_k_25m"].items() if int(k) > 1),
    }
    data = {"charts": [chart.to_dict() for chart in charts], "map": drawn, "map_system": None}
    write_page(path, "report.html.j2", page, data)


def report_charts(title: str, evaluation: Evaluation) -> list[Chart]:
    """The charts of a report: the error's curve, and those of the parts that were measured."""
    failing, sure = failures(evaluation.report), sureness(evaluation.report)
    curve = error_curve_chart(title, evaluation)
    return [curve, *(failing.charts if failing else []), *(sure.charts if sure else [])]


def error_curve_chart(name: str, evaluation: Evaluation) -> Chart:
    """The error's curve, and the floor's where the gallery is known.

    Args:
        name: Of the system, for the legend.
        evaluation: Whose errors.
    """
    frame = evaluation.predictions
    lines = [(name, error_curve(frame["error_m"]), COLOURS[0], "solid", 2.6)]
    if evaluation.report["baselines"]["floor"] is not None:
        lines.append(("floor", error_curve(frame["floor_m"]), REFERENCE_COLOUR, "dash", 1.8))
    return error_chart("error-curve", lines)
