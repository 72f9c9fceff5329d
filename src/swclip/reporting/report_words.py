"""What a report says in words: its head, its cards, and how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from swclip.reporting.page_figures import MetreScale
from swclip.reporting.page import (COLOURS, Mark, flat_rows, interval_text)
from swclip.reporting.units import distance, metres, percent


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
