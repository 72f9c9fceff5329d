"""report.html: one evaluation as a page that someone who has never seen it can read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from swclip.data.manifest import Manifest
from swclip.evaluation.examples import examples_of
from swclip.evaluation.figures import MetreScale, error_curve, map_data
from swclip.evaluation.leakage_table import leakage_section
from swclip.evaluation.measure import Evaluation
from swclip.evaluation.page import (
    COLOURS,
    REFERENCE_COLOUR,
    Cell,
    Mark,
    Row,
    Table,
    accuracy_columns,
    accuracy_row,
    flat_rows,
    interval_text,
    map_note,
    marks_note,
    reference_marks,
    reference_rows,
    write_page,
)
from swclip.evaluation.words import distance, metres, percent
from swclip.geo.cells import across_m

_STATISTICS = {
    "median": "median",
    "mean": "mean",
    "p75": "p75",
    "p90": "p90",
    "p95": "p95",
    "p99": "p99",
    "worst5_mean": "worst 5 %",
}


def write_report_page(
    path: str | os.PathLike[str],
    evaluation: Evaluation,
    *,
    title: str,
    manifest: Manifest | None = None,
    leakage: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> None:
    """Write the page of one evaluation.

    Args:
        path: The HTML file.
        evaluation: What to show.
        title: What was evaluated.
        manifest: Where the photographs of the examples are; without it the page has none.
        leakage: The leakage report of the split, where there is one.
        seed: Of the choice of what a map leaves out when it would hold too much.

    Raises:
        DiskFullError: The disk filled; what was there before is as it was.
        InputError: The folder cannot be written.
    """
    report, frame = evaluation.report, evaluation.predictions
    drawn = map_data({title: evaluation}, np.random.default_rng(seed))
    marks = [_mark(title, report), *reference_marks(report["baselines"])]
    examples = examples_of(evaluation, manifest) if manifest is not None else {}
    contents = [
        ("map-section", "Map"),
        ("curve-section", "Curve"),
        ("figures", "All figures"),
        *([("levels", "City and cell")] if report.get("levels") else []),
        ("regions", "By region"),
        *([("examples", "Examples")] if examples else []),
        ("leakage", "Leakage"),
        ("made", "How it was made"),
    ]
    page = {
        "title": title,
        "kicker": kicker(report),
        "lede": lede(report),
        "contents": contents,
        "cards": _cards(report),
        "marks": marks,
        "scale": scale_of(marks),
        "marks_note": marks_note(report["baselines"]),
        "map_note": map_note(drawn["left_out"]),
        "accuracy": _accuracy_table(title, report),
        "errors": _error_table(report),
        "estimator": report["estimator"],
        "retrieval": _retrieval_table(report),
        "answerable": answerable_text(report),
        "levels": level_table(report) if report.get("levels") else None,
        "regions": _region_table(report),
        "examples": examples,
        "leakage": leakage_section(leakage),
        "made": made_rows(report),
        "block": report["intervals"]["block"],
        "random_draws": report["baselines"]["random"]["draws"],
    }
    curves = [
        {"name": title, "colour": COLOURS[0], "dash": "solid", "reference": False, **error_curve(frame["error_m"])},
        {
            "name": "floor",
            "colour": REFERENCE_COLOUR,
            "dash": "dash",
            "reference": True,
            **error_curve(frame["floor_m"]),
        },
    ]
    write_page(path, "report.html.j2", page, {"curves": curves, "map": drawn, "map_system": None})


def kicker(report: Mapping[str, Any]) -> str:
    """The line above a page's title: what was asked, of what, and how it was split."""
    meta = report.get("made_with", {}).get("splits", {})
    protocol = f", {meta['protocol']}" if isinstance(meta, Mapping) and meta.get("protocol") else ""
    asked = "validation queries" if report.get("on") == "val" else "queries"
    return f"{round(report['n_queries']):,} {asked}, {round(report['gallery_size']):,} candidates{protocol}"


def lede(report: Mapping[str, Any]) -> str:
    """The result in two sentences."""
    error, accuracy = report["error_m"], report["accuracy_within_m"]
    blind, floor = report["baselines"]["random"]["median"], report["baselines"]["floor"]["median"]
    return (
        f"Half of the photographs are placed within {distance(error['median'])} of where they were taken, and "
        f"{percent(accuracy['100'])} within 100 m. One in twenty is more than {distance(error['p95'])} off. "
        f"A blind guess is typically {distance(blind)} off, the best possible answer {distance(floor)}."
    )


def answerable_text(report: Mapping[str, Any]) -> str:
    """How many queries have a right candidate at all."""
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


def _mark(name: str, report: Mapping[str, Any]) -> Mark:
    low, high = report["intervals"]["error_m"]["median"]
    return Mark(name, report["error_m"]["median"], low, high, COLOURS[0])


def _cards(report: Mapping[str, Any]) -> list[dict[str, str]]:
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
        {
            "label": "recall@1 at 25 m",
            "value": percent(report["recall_at_k_25m"]["1"]),
            "range": f"recall@10 {percent(report['recall_at_k_25m']['10'])}",
        },
    ]


def _accuracy_table(title: str, report: Mapping[str, Any]) -> Table:
    references = reference_rows(report["baselines"])
    radii = accuracy_columns([report, *(figures for _, figures in references)])
    everything = dict.fromkeys(radii, 0.0)
    own = accuracy_row(title, report, radii, best=dict.fromkeys(everything, 2.0))
    rows = [own, *(accuracy_row(name, figures, radii) for name, figures in references)]
    return Table(["", *(distance(float(radius)) for radius in radii)], rows)


def _error_table(report: Mapping[str, Any]) -> Table:
    def row(name: str, figures: Mapping[str, Any], reference: bool) -> Row:
        return Row([Cell(name), *(Cell(metres(figures[key])) for key in _STATISTICS)], reference)

    rows = [row(name, own["error_m"], False) for name, own in report["estimators"].items()]
    rows += [row(name, figures, True) for name, figures in reference_rows(report["baselines"])]
    return Table(["estimator", *_STATISTICS.values()], rows)


def _retrieval_table(report: Mapping[str, Any]) -> Table:
    recall = report["recall_at_k_25m"]
    alignment = report.get("city_alignment_at_k")
    columns = ["", *(f"k = {k}" for k in recall), "MRR"]
    rows = [
        Row([Cell("recall@k at 25 m"), *(Cell(percent(v)) for v in recall.values()), Cell(f"{report['mrr_25m']:.3f}")])
    ]
    if alignment is not None:
        rows.append(Row([Cell("share in the query's city"), *(Cell(percent(v)) for v in alignment.values()), Cell("")]))
    return Table(columns, rows)


def level_table(report: Mapping[str, Any]) -> Table:
    """Accuracy and scores of the city and of each size of cell."""
    rows = [
        Row(
            [
                Cell(level_name(name)),
                Cell(f"{round(own['n']):,}", small=_unanswerable(own)),
                *(Cell(percent(own[key])) for key in ("accuracy", "accuracy_of_point", "mean_probability")),
                Cell(f"{own['brier']:.3f}"),
                Cell("" if own["log_score"] is None else f"{own['log_score']:.2f}"),
            ]
        )
        for name, own in report["levels"].items()
    ]
    columns = ["", "queries", "named right", "point in it", "probability of the true one", "Brier score", "log score"]
    return Table(columns, rows)


def level_name(name: str) -> str:
    """A level as a person reads it.

    Example:
        >>> level_name("city"), level_name("cell_10")
        ('city', 'cell, 130 m across')
    """
    word, _, resolution = name.partition("_")
    return name if word != "cell" else f"cell, {distance(across_m(int(resolution)))} across"


def _unanswerable(level: Mapping[str, Any]) -> str:
    without = round(level["n"] - level["n_answerable"])
    return f"{without:,} without a candidate in it" if without else ""


def _region_table(report: Mapping[str, Any]) -> Table:
    regions = sorted(report["by_region"].items(), key=lambda item: -float(item[1]["median"]))
    radii = list(regions[0][1]["accuracy_within_m"])
    rows = [
        Row(
            [
                Cell(name),
                Cell(f"{figures['n']:,}"),
                *(Cell(metres(figures[key])) for key in ("median", "mean", "p95")),
                *(
                    Cell(percent(figures["accuracy_within_m"][radius]), share=share_of(figures, radius, "100"))
                    for radius in radii
                ),
            ]
        )
        for name, figures in regions
    ]
    columns = ["region", "queries", "median", "mean", "p95", *(f"within {distance(float(radius))}" for radius in radii)]
    return Table(columns, rows)


def share_of(figures: Mapping[str, Any], radius: str, shown: str) -> float | None:
    """The share at the one radius that carries a meter."""
    return float(figures["accuracy_within_m"][radius]) if radius == shown else None
