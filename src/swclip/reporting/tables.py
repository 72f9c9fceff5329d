"""The tables of a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from swclip.evaluation.report import Report
from swclip.geo.cells import across_m
from swclip.metrics.hierarchy import LevelFigures
from swclip.metrics.parts import Errors
from swclip.reporting.page import Cell, Row, Table, accuracy_columns, accuracy_row, flat_rows, reference_rows
from swclip.reporting.units import distance, metres, percent

# Gini indices below the first and above the second are described in words.
_SIMILAR, _CONCENTRATED = 0.1, 0.3

_STATISTICS = {
    "median": "median",
    "mean": "mean",
    "p75": "p75",
    "p90": "p90",
    "p95": "p95",
    "p99": "p99",
    "worst5_mean": "worst 5 %",
}


def accuracy_table(title: str, report: Report) -> Table:
    """Share of queries within each distance for the system and the baselines."""
    references = reference_rows(report.baselines)
    radii = accuracy_columns([report.accuracy_within_m, *(figures.accuracy_within_m for _, figures in references)])
    system = accuracy_row(title, report.accuracy_within_m, radii, best=dict.fromkeys(radii, 2.0))
    rows = [system, *(accuracy_row(name, figures.accuracy_within_m, radii) for name, figures in references)]
    unanswered = report.unanswered
    if unanswered is not None and unanswered.n:
        shares = [Cell(percent(unanswered.accuracy_within_m_of_asked[radius])) for radius in radii]
        rows.insert(1, Row([Cell("all queries", small="unanswered ones count as wrong"), *shares]))
    return Table(["system", *(distance(float(radius)) for radius in radii)], rows)


def error_table(report: Report) -> Table:
    """Statistics of the error for each estimator and the baselines."""

    def row(name: str, errors: Errors, reference: bool) -> Row:
        return Row([Cell(name), *(Cell(metres(getattr(errors, key))) for key in _STATISTICS)], reference)

    rows = [row(name, figures.error_m, False) for name, figures in report.estimators.items()]
    rows += [row(name, errors, True) for name, errors in reference_rows(report.baselines)]
    return Table(["estimator", *_STATISTICS.values()], rows)


def retrieval_table(report: Report) -> Table:
    """Recall, nDCG and share in the city of the query among the first k candidates, as far as they are known."""
    recall = {k: share for k, share in (report.recall_at_k_25m or {}).items() if share is not None}
    rows = {
        "recall@k at 25 m": {k: percent(share) for k, share in recall.items()},
        "nDCG@k": {k: f"{value:.3f}" for k, value in (report.ndcg_at_k or {}).items()},
        "share in the query's city": {k: percent(v) for k, v in (report.city_alignment_at_k or {}).items()},
    }
    ks = list(recall)
    return Table(
        ["figure", *(f"k\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{k}" for k in ks)],
        [Row([Cell(name), *(Cell(texts.get(k, "")) for k in ks)]) for name, texts in rows.items() if texts],
    )


def retrieval_text(report: Report) -> str:
    """MRR, where it is known, and GeoScore as a sentence."""
    parts = []
    if report.mrr_25m is not None:
        parts.append(f"the mean reciprocal rank is {report.mrr_25m:.3f} (1 if the first candidate is always correct)")
    parts.append(f"the GeoScore is {report.geoscore:,.0f} of 5,000")
    text = " and ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def level_table(report: Report) -> Table:
    """Accuracy and scores at each hierarchy level: the city and each cell size."""
    rows = [
        Row(
            [
                Cell(level_name(name)),
                Cell(f"{level.n:,}", small=_unanswerable(level)),
                *(Cell(percent(share)) for share in (level.accuracy, level.accuracy_of_point, level.mean_probability)),
                Cell(f"{level.brier:.3f}"),
                Cell("" if level.log_score is None else f"{level.log_score:.2f}"),
            ]
        )
        for name, level in report.levels.items()
    ]
    columns = [
        "level",
        "queries",
        "top-1 accuracy",
        "point accuracy",
        "mean probability of the truth",
        "Brier score",
        "log score",
    ]
    return Table(columns, rows)


def level_name(name: str) -> str:
    """Display name of a hierarchy level.

    Example:
        >>> level_name("city"), level_name("cell_10")
        ('city', 'cell, 130 m across')
    """
    word, _, resolution = name.partition("_")
    return name if word != "cell" else f"cell, {distance(across_m(int(resolution)))} across"


def _unanswerable(level: LevelFigures) -> str:
    without = level.n - level.n_answerable
    return f"{without:,} without a candidate" if without else ""


def district_table(report: Report) -> Table:
    """Errors of each district, largest median first."""
    districts = sorted(report.by_region.items(), key=lambda item: -item[1].median)
    radii = list(districts[0][1].accuracy_within_m)
    rows = [
        Row(
            [
                Cell(name),
                Cell(f"{district.n:,}"),
                *(Cell(metres(error_m)) for error_m in (district.median, district.mean, district.p95)),
                # One column has a bar.
                *(
                    Cell(percent(share), share=share if radius == "100" else None)
                    for radius, share in district.accuracy_within_m.items()
                ),
            ]
        )
        for name, district in districts
    ]
    columns = [
        "district",
        "queries",
        "median",
        "mean",
        "p95",
        *(f"within {distance(float(radius))}" for radius in radii),
    ]
    return Table(columns, rows)


def district_gap_text(report: Report) -> str:
    """How much the districts differ, as sentences; empty where there is one district."""
    gap = report.regional
    if gap is None:
        return ""
    text = (
        f"The median error is {metres(gap.best_median)} in {gap.best} and {metres(gap.worst_median)} in {gap.worst}: a "
        f"gap of {metres(gap.gap)} between the best and the worst of {gap.n_regions} districts."
    )
    finding = "the districts are similar" if gap.gini < _SIMILAR else "some districts are harder than others"
    if gap.gini > _CONCENTRATED:
        finding = "the error is concentrated in a few districts"
    return f"{text} The Gini index of the medians is {gap.gini:.2f} (0: equal; towards 1: concentrated): {finding}."


def outside_text(report: Report) -> str:
    """How well the answers tell photographs of elsewhere, as sentences; empty where that was not measured."""
    figures = report.outside
    if figures is None:
        return ""

    def ends(pair: list[float]) -> str:
        return f"[{percent(pair[0])}, {percent(pair[1])}]"

    text = (
        f"A query of the area has a higher probability of being from the area than one of the {figures.n_outside:,} "
        f"photographs of {figures.manifest} in {percent(figures.auroc)} {ends(figures.auroc_interval)} of all pairs "
        "(AUROC). "
    )
    if figures.answered_when_95_kept is not None and figures.answered_when_95_kept_interval is not None:
        text += (
            f"Where answers abstain so that 95 % of the queries placed within 100 m are answered, "
            f"{percent(figures.answered_when_95_kept)} {ends(figures.answered_when_95_kept_interval)} of the "
            "photographs of elsewhere are answered too. "
        )
    return text + (
        f"At the calibrated threshold, {figures.threshold:.2g}, {percent(figures.answered_queries)} of the queries and "
        f"{percent(figures.answered_outside)} of the photographs of elsewhere are answered."
    )


_WITHIN = ("5", "10", "25", "50")


@dataclass(frozen=True)
class LeakageSection:
    """The leakage report on a page.

    Attributes:
        warnings: What makes the figures optimistically biased, as sentences; they are at the top of the page.
        notes: Remarks, as sentences.
        table: Queries and validation side by side; None for a report of another format.
        rows: Name and value pairs of a report of another format.
    """

    warnings: list[str]
    notes: list[str]
    table: Table | None
    rows: list[tuple[str, str]]


def leakage_section(leakage: Mapping[str, Any] | None) -> LeakageSection | None:
    """Format a leakage report.

    Args:
        leakage: Content of FILE.leakage.json; None where there is none.
    """
    if leakage is None:
        return None
    warnings, notes = ([str(text) for text in leakage.get(name, [])] for name in ("warnings", "notes"))
    parts = [leakage.get(name) for name in ("query", "val")]
    if not all(isinstance(part, Mapping) for part in parts):
        rest = {name: value for name, value in leakage.items() if name not in ("warnings", "notes")}
        return LeakageSection(warnings, notes, None, flat_rows(rest))
    rows = [Row([Cell(label), *(Cell(_text_or_unknown(format_, part)) for part in parts)]) for label, format_ in _ROWS]
    return LeakageSection(warnings, notes, Table(["figure", "queries", "validation"], rows), [])


def _text_or_unknown(format_: Callable[[Any], str], part: Any) -> str:
    # Values that were not measured are null or absent.
    try:
        return format_(part)
    except (KeyError, TypeError):
        return "unknown"


def _counted(value: Mapping[str, Any]) -> str:
    return f"{value['count']:,} ({percent(value['share'])})"


def _groups(value: Mapping[str, Any], n: int) -> str:
    if n and value["unknown"] == n:
        return "unknown"
    return f"{value['count']:,} ({percent(value['share'])} of the photographs)"


def _within(radius: str) -> Callable[[Any], str]:
    return lambda part: _counted(part["within_m"][radius])


_ROWS: tuple[tuple[str, Callable[[Any], str]], ...] = (
    ("queries", lambda part: f"{part['n']:,}"),
    ("training photographs", lambda part: f"{part['n_training']:,}"),
    ("distance to the nearest training photograph, median", lambda part: metres(part["nearest_training_m"]["median"])),
    ("distance to the nearest training photograph, minimum", lambda part: metres(part["nearest_training_m"]["min"])),
    *((f"with a training photograph within {radius} m", _within(radius)) for radius in _WITHIN),
    ("places shared with training", lambda part: _groups(part["shared_places"], part["n"])),
    ("sequences shared with training", lambda part: _groups(part["shared_sequences"], part["n"])),
    ("with a near-duplicate in training", lambda part: _counted(part["near_duplicates"]["queries"])),
    ("with an identical file in training", lambda part: _counted(part["exact_duplicates"]["queries"])),
    ("with a candidate within 25 m", lambda part: _counted(part["candidates"]["within_25m"])),
)
