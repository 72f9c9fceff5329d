"""report.html: one evaluation as a page that someone who has never seen it can read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from swclip.data.manifest import Manifest
from swclip.evaluation.report import Report
from swclip.evaluation.result import Evaluation
from swclip.reporting.confidence_section import sureness
from swclip.reporting.examples import examples_of
from swclip.reporting.failures_section import failures, lisa_note
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
    error_curve,
    flat_rows,
    interval_text,
    map_note,
    marks_note,
    reference_marks,
    write_page,
)
from swclip.reporting.plots import Chart, error_chart
from swclip.reporting.tables import (
    accuracy_table,
    error_table,
    leakage_section,
    level_table,
    region_table,
    regional_text,
    retrieval_table,
    retrieval_text,
)
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
    marks = [own_mark(title, report), *reference_marks(report.baselines)]
    failing, sure = failures(report), sureness(report)
    limits, missing = unknown(report), unanswered_table(report)
    with_leakage = leakage is not None or not report.answers_alone
    contents = {
        "map-section": "Map",
        "curve-section": "Error",
        "regions": "Regions",
        "failures": "Where it fails" if failing else "",
        "sureness": "How sure" if sure else "",
        "examples": "Photographs" if examples else "",
        "figures": "All figures",
        "levels": "City and cell" if report.levels else "",
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
        "marks_note": marks_note(report.baselines),
        "map_note": map_note(drawn["left_out"]),
        "lisa_on_map": drawn["lisa"] is not None,
        "regions": region_table(report),
        "regional": regional_text(report),
        "failures": failing,
        "lisa_note": lisa_note(report),
        "sure": sure,
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
        "unanswered": missing,
        "confidence": confidence_table(report),
        "unknown": limits,
        "with_leakage": with_leakage,
        "leakage": leakage_section(leakage),
        "made": made_rows(report),
        "block": report.intervals.block,
        "random_draws": None if report.baselines.random is None else report.baselines.random.draws,
        "candidates_shown": len(evaluation.candidates) > 0,
        "floor_known": report.baselines.floor is not None,
        "ranked": any(value is not None for k, value in (report.recall_at_k_25m or {}).items() if int(k) > 1),
    }
    write_page(path, "report.html.j2", page, {"map": drawn, "map_system": None})


def report_charts(title: str, evaluation: Evaluation) -> list[Chart]:
    """The charts of a report: the error's curve, and those of the parts that were measured."""
    failing, sure = failures(evaluation.report), sureness(evaluation.report)
    curve = error_curve_chart(title, evaluation)
    return [curve, *(failing.charts if failing else []), *(sure.charts if sure else [])]


def error_curve_chart(name: str, evaluation: Evaluation) -> Chart:
    """The error's curve, and the oracle error's where the gallery is known.

    Args:
        name: Of the system, for the legend.
        evaluation: Whose errors.
    """
    frame = evaluation.predictions
    lines = [(name, error_curve(frame["error_m"]), COLOURS[0], "solid", 2.6)]
    if evaluation.report.baselines.floor is not None:
        lines.append(("oracle error", error_curve(frame["floor_m"]), REFERENCE_COLOUR, "dash", 1.8))
    return error_chart("error-curve", lines)


def kicker(report: Report) -> str:
    """The line above a page's title: what was asked, of what, and how it was split."""
    meta = report.made_with.get("splits", {})
    protocol = f", {meta['protocol']}" if isinstance(meta, Mapping) and meta.get("protocol") else ""
    asked = "validation queries" if report.on == "val" else "queries"
    size = report.gallery_size
    gallery = "gallery not known" if size is None else f"{round(size):,} candidates"
    queries = f"{report.n_queries:,} {asked}"
    if report.n_unanswered:
        queries += f" answered and {report.n_unanswered:,} not"
    return f"{queries}, {gallery}{protocol}"


def lede(report: Report) -> str:
    """The result in a few sentences."""
    error, missing = report.error_m, report.unanswered
    text = (
        f"Half of the {'answered ' if report.n_unanswered else ''}photographs are placed within "
        f"{distance(error.median)} of where they were taken, and {percent(report.accuracy_within_m['100'])} within "
        f"100 m. One in twenty is more than {distance(error.p95)} off."
    )
    if missing is not None and missing.n:
        text += (
            f" {missing.n:,} of {missing.n_asked:,} queries {'was' if missing.n == 1 else 'were'} not answered; "
            f"counting as wrong what was not, {percent(missing.accuracy_within_m_of_asked['100'])} are within 100 m."
        )
    floor, random = report.baselines.floor, report.baselines.random
    if floor is None or random is None:
        return text
    return (
        f"{text} A blind guess is typically {distance(random.median)} off, the best possible answer "
        f"{distance(floor.median)}."
    )


def answerable_text(report: Report) -> str:
    """How many queries have a right candidate at all; empty where the gallery is not known."""
    if report.n_answerable is None:
        return ""
    if report.n_answerable == report.n_queries:
        return "Every query has a candidate within 25 m of the truth."
    return (
        f"{report.n_answerable:,} of {report.n_queries:,} queries have a candidate within 25 m of the truth; no system "
        "that names a candidate can be nearer on the others."
    )


def scale_of(marks: Sequence[Mark]) -> MetreScale:
    """A line that holds all marks and their intervals."""
    ends = [value for mark in marks for value in (mark.value, mark.low, mark.high) if value is not None]
    return MetreScale.holding(ends)


def made_rows(report: Report) -> list[tuple[str, str]]:
    """How the figures came about, as name and text."""
    intervals = report.intervals
    settings = {
        "truth": None if report.truth is None else dict(report.truth),
        "estimator": report.estimator,
        "posterior": report.posterior,
        "intervals": f"{100 * intervals.level:.0f} %, {intervals.resamples:,} resamples of {intervals.blocks:,} blocks "
        f"({intervals.block})",
    }
    known = {name: value for name, value in settings.items() if value is not None}
    return flat_rows({**known, **report.made_with})


def own_mark(name: str, report: Report) -> Mark:
    """The median error of the evaluated system, as a mark."""
    low, high = report.intervals.error_m.median
    return Mark(name, report.error_m.median, low, high, COLOURS[0])


def cards(report: Report) -> list[dict[str, str]]:
    """The figures at the head of the page: label, value, and the range below it."""
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
    """The first answer, and the longest list up to ten that is known; without a list it would repeat “within 25 m”."""
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
    missing = report.unanswered
    if missing is None or not missing.n:
        return []
    answered = f"{report.n_queries:,} of {missing.n_asked:,}"
    return [{"label": "answered", "value": percent(missing.share_answered), "range": answered}]


def _last_card(report: Report) -> dict[str, str]:
    levels = () if report.calibration is None else report.calibration.levels
    own = next((one for one in levels if one.level == 0.8), None)
    if own is None:
        return {"label": "GeoScore", "value": f"{report.geoscore:,.0f}", "range": "of 5,000"}
    return {
        "label": "80 % regions hold",
        "value": percent(own.coverage),
        "range": "" if own.coverage_interval is None else interval_text(own.coverage_interval, percent),
    }


def unknown(report: Report) -> list[str]:
    """What a report of bare coordinates cannot say, as sentences; none where answers have a posterior."""
    if not report.answers_alone:
        return []
    sentences = [
        "Probabilities, regions, city and cell: the answers come without a posterior over places.",
        "Smoothness and correlograms of embeddings: the answers come without embeddings.",
    ]
    if report.baselines.floor is None:
        sentences.append(
            "The floor (the best that is possible), the guesses and how many queries are answerable: which positions "
            "the tool could name is not known. A table of them (--gallery) or splits would say it."
        )
    beyond = [key for key, value in (report.recall_at_k_25m or {}).items() if value is None]
    if beyond:
        sentences.append(f"Recall at k = {', '.join(beyond)}: fewer answers were given for each query.")
    sentences.append("What the tool was trained on, and so how near to these queries: its answers do not tell.")
    return sentences


def unanswered_table(report: Report) -> Table | None:
    """Why queries were not answered, and how many; None where all were."""
    missing = report.unanswered
    if missing is None or not missing.n:
        return None
    rows = [Row([Cell(reason), Cell(f"{count:,}")]) for reason, count in missing.reasons.items()]
    return Table(["why", "queries"], rows)


def confidence_table(report: Report) -> Table | None:
    """Errors of the answers that the tool was surest of; None where it did not say how sure it was."""
    if report.confidence is None:
        return None
    own = report.confidence.selective
    rows = []
    for share, n, median, within in zip(own.share, own.n, own.median_m, own.within_100_m, strict=True):
        name = "all" if share == 1.0 else f"the surest {100 * share:.0f} %"
        rows.append(Row([Cell(name), Cell(f"{n:,}"), Cell(metres(median)), Cell(percent(within))]))
    return Table(["answers", "number", "median error", "within 100 m"], rows)
