"""report.html: one evaluation as a page that someone who has never seen it can read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from swclip.data.manifest import Manifest
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
    marks = [own_mark(title, report), *reference_marks(report["baselines"])]
    failing, sure = failures(report), sureness(report)
    limits, missing = unknown(report), unanswered_table(report)
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
        "charts": page_charts(report_charts(title, evaluation), full_width=("error-curve", "correlogram")),
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
    if evaluation.report["baselines"]["floor"] is not None:
        lines.append(("oracle error", error_curve(frame["floor_m"]), REFERENCE_COLOUR, "dash", 1.8))
    return error_chart("error-curve", lines)


def kicker(report: Mapping[str, Any]) -> str:
    """The line above a page's title: what was asked, of what, and how it was split."""
    meta = report.get("made_with", {}).get("splits", {})
    protocol = f", {meta['protocol']}" if isinstance(meta, Mapping) and meta.get("protocol") else ""
    asked = "validation queries" if report.get("on") == "val" else "queries"
    size = report["gallery_size"]
    gallery = "gallery not known" if size is None else f"{round(size):,} candidates"
    queries = f"{round(report['n_queries']):,} {asked}"
    if missing := (report.get("unanswered") or {}).get("n"):
        queries += f" answered and {missing:,} not"
    return f"{queries}, {gallery}{protocol}"


def lede(report: Mapping[str, Any]) -> str:
    """The result in a few sentences."""
    error, accuracy, baselines = report["error_m"], report["accuracy_within_m"], report["baselines"]
    missing = report.get("unanswered") or {"n": 0}
    text = (
        f"Half of the {'answered ' if missing['n'] else ''}photographs are placed within {distance(error['median'])} "
        f"of where they were taken, and {percent(accuracy['100'])} within 100 m. One in twenty is more than "
        f"{distance(error['p95'])} off."
    )
    if missing["n"]:
        text += (
            f" {missing['n']:,} of {missing['n_asked']:,} queries {'was' if missing['n'] == 1 else 'were'} not "
            f"answered; counting as wrong what was not, {percent(missing['accuracy_within_m_of_asked']['100'])} are "
            "within 100 m."
        )
    if baselines["floor"] is None or baselines["random"] is None:
        return text
    return (
        f"{text} A blind guess is typically {distance(baselines['random']['median'])} off, the best possible answer "
        f"{distance(baselines['floor']['median'])}."
    )


def answerable_text(report: Mapping[str, Any]) -> str:
    """How many queries have a right candidate at all; empty where the gallery is not known."""
    if report["n_answerable"] is None:
        return ""
    answerable, total = round(report["n_answerable"]), round(report["n_queries"])
    if answerable == total:
        return "Every query has a candidate within 25 m of the truth."
    return (
        f"{answerable:,} of {total:,} queries have a candidate within 25 m of the truth; no system that names a "
        "candidate can be nearer on the others."
    )


def scale_of(marks: Sequence[Mark]) -> MetreScale:
    """A line that holds all marks and their intervals."""
    ends = [value for mark in marks for value in (mark.value, mark.low, mark.high) if value is not None]
    return MetreScale.holding(ends)


def made_rows(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How the figures came about, as name and text."""
    intervals = report["intervals"]
    settings = {
        "truth": report.get("truth"),
        "estimator": report["estimator"],
        "posterior": report.get("posterior"),
        "intervals": f"{100 * intervals['level']:.0f} %, {intervals['resamples']:,} resamples of "
        f"{intervals['blocks']:,} blocks ({intervals['block']})",
    }
    known = {name: value for name, value in settings.items() if value is not None}
    return flat_rows({**known, **report.get("made_with", {})})


def own_mark(name: str, report: Mapping[str, Any]) -> Mark:
    """The median error of the evaluated system, as a mark."""
    low, high = report["intervals"]["error_m"]["median"]
    return Mark(name, report["error_m"]["median"], low, high, COLOURS[0])


def cards(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """The figures at the head of the page: label, value, and the range below it."""
    intervals = report["intervals"]
    errors, shares = intervals["error_m"], intervals["accuracy_within_m"]
    return [
        {
            "label": "median error",
            "value": metres(report["error_m"]["median"]),
            "range": interval_text(errors["median"], metres),
        },
        {
            "label": "mean error",
            "value": metres(report["error_m"]["mean"]),
            "range": interval_text(errors["mean"], metres),
        },
        *(
            {
                "label": f"within {radius} m",
                "value": percent(report["accuracy_within_m"][radius]),
                "range": interval_text(shares[radius], percent),
            }
            for radius in ("25", "100")
        ),
        *_recall_card(report["recall_at_k_25m"]),
        *_answered_card(report),
        *_last_card(report),
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


def _answered_card(report: Mapping[str, Any]) -> list[dict[str, str]]:
    missing = report.get("unanswered")
    if not missing or not missing["n"]:
        return []
    answered = f"{report['n_queries']:,} of {missing['n_asked']:,}"
    return [{"label": "answered", "value": percent(missing["share_answered"]), "range": answered}]


def _last_card(report: Mapping[str, Any]) -> list[dict[str, str]]:
    calibration = report.get("calibration")
    own = next((one for one in calibration["levels"] if one["level"] == 0.8), None) if calibration else None
    if own is not None:
        return [
            {
                "label": "80 % regions hold",
                "value": percent(own["coverage"]),
                "range": interval_text(own["coverage_interval"], percent),
            }
        ]
    if report.get("geoscore") is None:
        return []
    return [{"label": "GeoScore", "value": f"{report['geoscore']:,.0f}", "range": "of 5,000"}]


def unknown(report: Mapping[str, Any]) -> list[str]:
    """What a report of bare coordinates cannot say, as sentences; none where there is a posterior behind the answers.

    Example:
        >>> bare = {"posterior": None, "baselines": {"floor": {}}, "recall_at_k_25m": {"1": 0.5, "5": None}}
        >>> len(unknown(bare)), unknown({"posterior": {}})
        (4, [])
    """
    if not answers_alone(report):
        return []
    sentences = [
        "Probabilities, regions, city and cell: the answers come without a posterior over places.",
        "Smoothness and correlograms of embeddings: the answers come without embeddings.",
    ]
    if report["baselines"]["floor"] is None:
        sentences.append(
            "The floor (the best that is possible), the guesses and how many queries are answerable: which positions "
            "the tool could name is not known. A table of them (--gallery) or splits would say it."
        )
    beyond = [key for key, value in report["recall_at_k_25m"].items() if value is None]
    if beyond:
        sentences.append(f"Recall at k = {', '.join(beyond)}: fewer answers were given for each query.")
    sentences.append("What the tool was trained on, and so how near to these queries: its answers do not tell.")
    return sentences


def answers_alone(report: Mapping[str, Any]) -> bool:
    """Whether a report is of bare coordinates, without a posterior behind them."""
    return report.get("posterior", {}) is None


def unanswered_table(report: Mapping[str, Any]) -> Table | None:
    """Why queries were not answered, and how many; None where all were."""
    missing = report.get("unanswered")
    if not missing or not missing["n"]:
        return None
    rows = [Row([Cell(reason), Cell(f"{count:,}")]) for reason, count in missing["reasons"].items()]
    return Table(["why", "queries"], rows)


def confidence_table(report: Mapping[str, Any]) -> Table | None:
    """Errors of the answers that the tool was surest of; None where it did not say how sure it was."""
    if not report.get("confidence"):
        return None
    own = report["confidence"]["selective"]
    columns = (own[key] for key in ("share", "n", "median_m", "within_100_m"))
    rows = []
    for share, n, median, within in zip(*columns, strict=True):
        name = "all" if share == 1.0 else f"the surest {100 * share:.0f} %"
        rows.append(Row([Cell(name), Cell(f"{n:,}"), Cell(metres(median)), Cell(percent(within))]))
    return Table(["answers", "number", "median error", "within 100 m"], rows)
