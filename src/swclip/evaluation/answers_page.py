"""report.html of answers that are coordinates alone: what can be known of them, and what cannot and why."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from swclip.evaluation import plots
from swclip.evaluation.measure import Evaluation
from swclip.evaluation.page import Cell, Row, Table, flat_rows, interval_text, write_page
from swclip.evaluation.words import distance, metres, percent

_STATISTICS = ("median", "mean", "p75", "p90", "p95", "p99", "worst5_mean")
_GUESSES = {"floor": "floor", "constant": "one guess for all", "random": "blind guess"}
_DRAWN = (
    ("How the error is spread", "Share of the answered queries within each distance.", plots.curve_figure),
    ("Where it is right, and where not", "The region with the most queries.", plots.map_figure),
)


def write_answers_page(path: str | os.PathLike[str], evaluation: Evaluation, *, title: str) -> None:
    """Write the page of answers without a posterior; it needs no script and no network.

    Args:
        path: The HTML file.
        evaluation: What `bridge_answers.measure_answers` returned.
        title: What was evaluated.
    """
    report = evaluation.report
    page = {
        "title": title,
        "kicker": _kicker(report),
        "lede": _lede(report),
        "cards": _cards(report),
        "figures": [(name, note, plots.data_uri(draw(evaluation))) for name, note, draw in _DRAWN],
        "errors": _error_table(report),
        "accuracy": _accuracy_table(report),
        "regions": _region_table(report),
        "unanswered": _unanswered(report),
        "recall": _recall_table(report),
        "confidence": _confidence_table(report),
        "unknown": unknown(report),
        "made": flat_rows(_made(report)),
    }
    write_page(path, "answers.html.j2", page, {})


def unknown(report: Mapping[str, Any]) -> list[str]:
    """What a report of bare answers cannot say, as sentences."""
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
    return sentences


def _kicker(report: Mapping[str, Any]) -> str:
    asked = report["unanswered"]["n_asked"]
    return f"{asked:,} queries asked, {report['n_queries']:,} answered"


def _lede(report: Mapping[str, Any]) -> str:
    error, accuracy, missing = report["error_m"], report["accuracy_within_m"], report["unanswered"]
    text = (
        f"Half of the answers are within {distance(error['median'])} of where the photograph was taken, and "
        f"{percent(accuracy['100'])} within 100 m. One in twenty is more than {distance(error['p95'])} off."
    )
    if missing["n"]:
        text += (
            f" {missing['n']:,} of {missing['n_asked']:,} queries were not answered; counting these as wrong, "
            f"{percent(missing['accuracy_within_m_of_asked']['100'])} are within 100 m."
        )
    return text


def _cards(report: Mapping[str, Any]) -> list[dict[str, str]]:
    errors, shares = report["intervals"]["error_m"], report["intervals"]["accuracy_within_m"]
    cards = [
        {
            "label": f"{name} error",
            "value": metres(report["error_m"][name]),
            "range": interval_text(errors[name], metres),
        }
        for name in ("median", "mean")
    ]
    cards += [
        {
            "label": f"within {radius} m",
            "value": percent(report["accuracy_within_m"][radius]),
            "range": interval_text(shares[radius], percent),
        }
        for radius in ("25", "100")
    ]
    missing = report["unanswered"]
    answered = f"{report['n_queries']:,} of {missing['n_asked']:,}"
    return [*cards, {"label": "answered", "value": percent(missing["share_answered"]), "range": answered}]


def _references(report: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    found = ((name, report["baselines"][key]) for key, name in _GUESSES.items())
    return [(name, own) for name, own in found if own is not None]


def _error_table(report: Mapping[str, Any]) -> Table:
    rows = [Row([Cell("answers"), *(Cell(metres(report["error_m"][key])) for key in _STATISTICS)])]
    rows += [
        Row([Cell(name), *(Cell(metres(own[key])) for key in _STATISTICS)], reference=True)
        for name, own in _references(report)
    ]
    return Table(["", *(key.replace("worst5_mean", "worst 5 %") for key in _STATISTICS)], rows)


def _accuracy_table(report: Mapping[str, Any]) -> Table:
    radii = list(report["accuracy_within_m"])
    rows = [Row([Cell("of the answered"), *(Cell(percent(report["accuracy_within_m"][radius])) for radius in radii)])]
    missing = report["unanswered"]
    if missing["n"]:
        asked = missing["accuracy_within_m_of_asked"]
        rows.append(Row([Cell("of all asked"), *(Cell(percent(asked[radius])) for radius in radii)]))
    rows += [
        Row([Cell(name), *(Cell(percent(own["accuracy_within_m"][radius])) for radius in radii)], reference=True)
        for name, own in _references(report)
    ]
    return Table(["", *(distance(float(radius)) for radius in radii)], rows)


def _region_table(report: Mapping[str, Any]) -> Table:
    regions = sorted(report["by_region"].items(), key=lambda item: -float(item[1]["median"]))
    radii = list(regions[0][1]["accuracy_within_m"])
    rows = [
        Row(
            [
                Cell(name),
                Cell(f"{own['n']:,}"),
                *(Cell(metres(own[key])) for key in ("median", "mean", "p95")),
                *(Cell(percent(own["accuracy_within_m"][radius])) for radius in radii),
            ]
        )
        for name, own in regions
    ]
    return Table(["region", "answered", "median", "mean", "p95", *(distance(float(radius)) for radius in radii)], rows)


def _recall_table(report: Mapping[str, Any]) -> Table | None:
    known = {key: value for key, value in report["recall_at_k_25m"].items() if value is not None}
    if len(known) < 2:
        return None
    row = Row([Cell("within 25 m among the first k"), *(Cell(percent(value)) for value in known.values())])
    return Table(["", *(f"k = {key}" for key in known)], [row])


def _confidence_table(report: Mapping[str, Any]) -> Table | None:
    if report["confidence"] is None:
        return None
    own = report["confidence"]["selective"]
    rows = []
    for share, n, median, within in zip(*(own[key] for key in own), strict=True):
        name = "all" if share == 1.0 else f"the surest {100 * share:.0f} %"
        rows.append(Row([Cell(name), Cell(f"{n:,}"), Cell(metres(median)), Cell(percent(within))]))
    return Table(["answers", "number", "median error", "within 100 m"], rows)


def _unanswered(report: Mapping[str, Any]) -> Table | None:
    missing = report["unanswered"]
    if not missing["n"]:
        return None
    rows = [Row([Cell(reason), Cell(f"{count:,}")]) for reason, count in missing["reasons"].items()]
    return Table(["why", "queries"], rows)


def _made(report: Mapping[str, Any]) -> dict[str, Any]:
    intervals = report["intervals"]
    text = (
        f"{100 * intervals['level']:.0f} %, {intervals['resamples']:,} resamples of {intervals['blocks']:,} blocks "
        f"({intervals['block']})"
    )
    return {"truth": report["truth"], "intervals": text, **report.get("made_with", {})}
