"""What only the page of another tool's bare coordinates has: the unanswered, its confidence, and what it cannot say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swclip.reporting.page import Cell, Row, Table
from swclip.reporting.units import metres, percent


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
