"""report.html: the page of one evaluation."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from swclip.data.manifest import Manifest
from swclip.evaluation.report import Report
from swclip.evaluation.result import Evaluation
from swclip.reporting.confidence_section import SUMMARY_LEVEL, confidence_section
from swclip.reporting.examples import examples_of
from swclip.reporting.failures_section import failures_section, lisa_note
from swclip.reporting.inline_svg import page_charts
from swclip.reporting.map_data import map_data
from swclip.reporting.map_photographs import BUDGET_BYTES, add_photographs
from swclip.reporting.page import (
    COLOURS,
    REFERENCE_COLOUR,
    Cell,
    Mark,
    MetreScale,
    Row,
    Table,
    baselines_note,
    error_curve,
    interval_text,
    map_note,
    reference_marks,
    write_page,
)
from swclip.reporting.plots import Chart, error_chart
from swclip.reporting.setting import provenance_rows, setting_text
from swclip.reporting.tables import (
    accuracy_table,
    district_gap_text,
    district_table,
    error_table,
    leakage_section,
    level_table,
    outside_text,
    retrieval_table,
    retrieval_text,
)
from swclip.reporting.tiles import Tiles
from swclip.reporting.units import distance, metres, percent


def write_report_page(
    path: str | os.PathLike[str],
    evaluation: Evaluation,
    *,
    title: str,
    manifest: Manifest | None = None,
    leakage: Mapping[str, Any] | None = None,
    seed: int = 0,
    photograph_bytes: int = BUDGET_BYTES,
    tiles: Tiles | None = None,
) -> None:
    """Write the page of one evaluation.

    Args:
        path: The HTML file.
        evaluation: What to show. Sections of optional parts (spatial statistics, calibration, best candidates, cell
            posteriors, gallery) are left out where the evaluation lacks them; for coordinates alone the page lists
            its limitations.
        title: What was evaluated.
        manifest: The photographs; without it the page shows none.
        leakage: The leakage report of the splits, where there is one.
        seed: Seed of the sample that a map shows of many queries and candidates.
        photograph_bytes: Total size of the photographs embedded for the map.
        tiles: Map tiles below the maps, which the reader's browser loads; None for a page that loads nothing.

    Raises:
        DiskFullError: The disk is full; an existing file is unchanged.
        InputError: The folder cannot be written.
    """
    report = evaluation.report
    examples = examples_of(evaluation, manifest) if manifest is not None else {}
    map_ = map_data({title: evaluation}, np.random.default_rng(seed))
    shown = [example.image_id for kind in examples.values() for example in kind if example.query.data_uri]
    add_photographs(map_, evaluation, manifest, shown, photograph_bytes)
    marks = [system_mark(title, report), *reference_marks(report.baselines)]
    spatial, confidence = failures_section(report), confidence_section(report)
    limits, unanswered = limitations(report), unanswered_table(report)
    with_leakage = leakage is not None or not report.answers_alone
    contents = {
        "map-section": "Map",
        "curve-section": "Error distribution",
        "districts": "Districts",
        "spatial": "Spatial statistics" if spatial else "",
        "confidence": "Prediction regions" if confidence else "",
        "outside": "Photographs taken elsewhere" if report.outside else "",
        "examples": "Examples" if examples else "",
        "figures": "All figures",
        "levels": "Hierarchy levels" if report.levels else "",
        "unanswered": "Unanswered queries" if unanswered else "",
        "limitations": "Limitations" if limits else "",
        "leakage": "Leakage" if with_leakage else "",
        "definitions": "Definitions",
        "provenance": "How this was made",
    }
    page = {
        "title": title,
        "setting": setting_text(report),
        "summary": summary_text(report),
        "contents": [(anchor, name) for anchor, name in contents.items() if name],
        "cards": cards(report),
        "marks": marks,
        "scale": scale_for(marks),
        "baselines_note": baselines_note(report.baselines),
        "map_note": map_note(map_["left_out"]),
        "lisa_on_map": map_["lisa"] is not None,
        "districts": district_table(report),
        "district_gap": district_gap_text(report),
        "spatial": spatial,
        "lisa_note": lisa_note(report),
        "confidence": confidence,
        "outside": outside_text(report),
        "charts": page_charts(report_charts(title, evaluation), full_width=("error-curve", "correlogram")),
        "accuracy": accuracy_table(title, report),
        "errors": error_table(report),
        "estimator": report.estimator,
        "retrieval": retrieval_table(report),
        "retrieval_text": retrieval_text(report),
        "relevance": report.relevance,
        "answerable": answerable_text(report),
        "levels": level_table(report) if report.levels else None,
        "examples": examples,
        "unanswered": unanswered,
        "risk_coverage": risk_coverage_table(report),
        "limitations": limits,
        "with_leakage": with_leakage,
        "leakage": leakage_section(leakage),
        "provenance": provenance_rows(report),
        "record": "report.json",
        "block": report.intervals.block,
        "random_draws": None if report.baselines.random is None else report.baselines.random.draws,
        "candidates_shown": len(evaluation.candidates) > 0,
        "oracle_known": report.baselines.floor is not None,
        "ranked": any(value is not None for k, value in (report.recall_at_k_25m or {}).items() if int(k) > 1),
    }
    write_page(path, "report.html.j2", page, {"map": map_, "map_system": None}, tiles=tiles)


def report_charts(title: str, evaluation: Evaluation) -> list[Chart]:
    """The charts of a report: the error distribution, and those of the parts that were measured."""
    sections = (failures_section(evaluation.report), confidence_section(evaluation.report))
    charts = [chart for section in sections if section is not None for chart in section.charts]
    return [error_curve_chart(title, evaluation), *charts]


def error_curve_chart(name: str, evaluation: Evaluation) -> Chart:
    """The error distribution, and that of the oracle error where the gallery is known.

    Args:
        name: Name of the system in the legend.
        evaluation: Evaluation of the system.
    """
    frame = evaluation.predictions
    lines = [(name, error_curve(frame["error_m"]), COLOURS[0], "solid", 2.6)]
    if evaluation.report.baselines.floor is not None:
        lines.append(("oracle error", error_curve(frame["floor_m"]), REFERENCE_COLOUR, "dash", 1.8))
    return error_chart("error-curve", lines)


def summary_text(report: Report) -> str:
    """The result as a few sentences."""
    error, unanswered = report.error_m, report.unanswered
    text = (
        f"Half of the {'answered ' if report.n_unanswered else ''}queries are located within {distance(error.median)} "
        f"of their true position, and {percent(report.accuracy_within_m['100'])} within 100 m; 5 % have an error of "
        f"more than {distance(error.p95)}."
    )
    if unanswered is not None and unanswered.n:
        text += (
            f" {unanswered.n:,} of {unanswered.n_asked:,} queries {'was' if unanswered.n == 1 else 'were'} not "
            f"answered; counted as wrong, they lower the share within 100 m to "
            f"{percent(unanswered.accuracy_within_m_of_asked['100'])}."
        )
    oracle, random = report.baselines.floor, report.baselines.random
    if oracle is None or random is None:
        return text
    return (
        f"{text} For comparison, the median of the random baseline is {distance(random.median)}, and the median oracle "
        f"error, the smallest of any answer at a candidate, is {distance(oracle.median)}."
    )


def answerable_text(report: Report) -> str:
    """How many queries have a candidate within 25 m, as a sentence; empty where the gallery is not known."""
    if report.n_answerable is None:
        return ""
    if report.n_answerable == report.n_queries:
        return "Every query has a candidate within 25 m of its true position."
    return (
        f"{report.n_answerable:,} of {report.n_queries:,} queries have a candidate within 25 m of their true "
        "position; for the others no answer at a candidate can be that near."
    )


def scale_for(marks: Sequence[Mark]) -> MetreScale:
    """A scale that spans all marks and their intervals."""
    ends = [value for mark in marks for value in (mark.value, mark.low, mark.high) if value is not None]
    return MetreScale.spanning(ends)


def system_mark(name: str, report: Report) -> Mark:
    """The median error of the system as a mark."""
    low, high = report.intervals.error_m.median
    return Mark(name, report.error_m.median, low, high, COLOURS[0])


def cards(report: Report) -> list[dict[str, str]]:
    """The headline figures: label, value, and the range below it."""
    errors, shares = report.intervals.error_m, report.intervals.accuracy_within_m
    return [
        {
            "label": "median error",
            "value": metres(report.error_m.median),
            "range": interval_text(errors.median, metres),
        },
        {
            "label": "mean error",
            "value": metres(report.error_m.mean),
            "range": interval_text(errors.mean, metres),
        },
        *(
            {
                "label": f"within {radius} m",
                "value": percent(report.accuracy_within_m[radius]),
                "range": interval_text(shares[radius], percent),
            }
            for radius in ("25", "100")
        ),
        *_recall_card(report.recall_at_k_25m or {}),
        *_answered_card(report),
        _last_card(report),
    ]


def _recall_card(recall: Mapping[str, float | None]) -> list[dict[str, str]]:
    """recall@1, and recall@k of the largest known k up to ten; left out for answers without a ranking."""
    known = {k: share for k, share in recall.items() if share is not None and int(k) <= 10}
    if len(known) < 2:
        return []
    last = max(known, key=int)
    return [
        {
            "label": "recall@1 at 25 m",
            "value": percent(known["1"]),
            "range": f"recall@{last} {percent(known[last])}",
        }
    ]


def _answered_card(report: Report) -> list[dict[str, str]]:
    unanswered = report.unanswered
    if unanswered is None or not unanswered.n:
        return []
    answered = f"{report.n_queries:,} of {unanswered.n_asked:,}"
    return [{"label": "answered", "value": percent(unanswered.share_answered), "range": answered}]


def _last_card(report: Report) -> dict[str, str]:
    levels = () if report.calibration is None else report.calibration.levels
    figures = next((level for level in levels if level.level == SUMMARY_LEVEL), None)
    if figures is None:
        return {"label": "GeoScore", "value": f"{report.geoscore:,.0f}", "range": "of 5,000"}
    return {
        "label": "coverage at 80 %",
        "value": percent(figures.coverage),
        "range": "" if figures.coverage_interval is None else interval_text(figures.coverage_interval, percent),
    }


def limitations(report: Report) -> list[str]:
    """What cannot be computed from coordinates alone, as sentences; empty where answers have a posterior."""
    if not report.answers_alone:
        return []
    sentences = [
        "Probabilities, prediction regions and hierarchy levels: the answers have no posterior.",
        "Smoothness and correlograms of embeddings: the answers have no embeddings.",
    ]
    if report.baselines.floor is None:
        sentences.append(
            "Oracle error, baselines and number of answerable queries: the gallery of the tool is not known. Give a "
            "table of its positions (--gallery) or the splits to have them."
        )
    beyond = [key for key, value in (report.recall_at_k_25m or {}).items() if value is None]
    if beyond:
        sentences.append(f"Recall at k = {', '.join(beyond)}: each query has fewer answers.")
    sentences.append("Leakage: the training data of the tool is not known.")
    return sentences


def unanswered_table(report: Report) -> Table | None:
    """Reasons for unanswered queries, and their numbers; None where all queries were answered."""
    unanswered = report.unanswered
    if unanswered is None or not unanswered.n:
        return None
    rows = [Row([Cell(reason), Cell(f"{count:,}")]) for reason, count in unanswered.reasons.items()]
    return Table(["reason", "queries"], rows)


def risk_coverage_table(report: Report) -> Table | None:
    """Errors of the most confident answers of a tool; None where it stated no confidences."""
    if report.confidence is None:
        return None
    curve = report.confidence.selective
    rows = []
    for share, n, median, within in zip(curve.share, curve.n, curve.median_m, curve.within_100_m, strict=True):
        name = "all" if share == 1.0 else f"most confident {100 * share:.0f} %"
        rows.append(Row([Cell(name), Cell(f"{n:,}"), Cell(metres(median)), Cell(percent(within))]))
    return Table(["answers", "number", "median error", "within 100 m"], rows)
