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

# A reader of the Gini index needs words: below the one and above the other.
_ALIKE, _CONCENTRATED = 0.1, 0.3

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
    """Share of queries within each distance, for the system and the baselines."""
    references = reference_rows(report.baselines)
    radii = accuracy_columns([report.accuracy_within_m, *(guess.accuracy_within_m for _, guess in references)])
    own = accuracy_row(title, report.accuracy_within_m, radii, best=dict.fromkeys(radii, 2.0))
    rows = [own, *(accuracy_row(name, guess.accuracy_within_m, radii) for name, guess in references)]
    missing = report.unanswered
    if missing is not None and missing.n:
        asked = [Cell(percent(missing.accuracy_within_m_of_asked[radius])) for radius in radii]
        rows.insert(1, Row([Cell("of all asked", small="what was not answered counts as wrong"), *asked]))
    return Table(["", *(distance(float(radius)) for radius in radii)], rows)


def error_table(report: Report) -> Table:
    """Statistics of the error, for each estimator and the baselines."""

    def row(name: str, errors: Errors, reference: bool) -> Row:
        return Row([Cell(name), *(Cell(metres(getattr(errors, key))) for key in _STATISTICS)], reference)

    rows = [row(name, own.error_m, False) for name, own in report.estimators.items()]
    rows += [row(name, guess, True) for name, guess in reference_rows(report.baselines)]
    return Table(["estimator", *_STATISTICS.values()], rows)


def retrieval_table(report: Report) -> Table:
    """Recall, graded relevance and share in the city among the first k candidates, as far as they are known."""
    recall = {k: share for k, share in (report.recall_at_k_25m or {}).items() if share is not None}
    rows = {
        "recall@k at 25 m": {k: percent(share) for k, share in recall.items()},
        "nDCG@k": {k: f"{value:.3f}" for k, value in (report.ndcg_at_k or {}).items()},
        "share in the query's city": {k: percent(v) for k, v in (report.city_alignment_at_k or {}).items()},
    }
    ks = list(recall)
    return Table(
        ["", *(f"k = {k}" for k in ks)],
        [Row([Cell(name), *(Cell(told.get(k, "")) for k in ks)]) for name, told in rows.items() if told],
    )


def retrieval_text(report: Report) -> str:
    """MRR, as far as it is known, and GeoScore in a sentence."""
    told = []
    if report.mrr_25m is not None:
        told.append(f"the mean reciprocal rank is {report.mrr_25m:.3f} (1 if the first candidate is always right)")
    told.append(f"the GeoScore {'' if told else 'is '}{report.geoscore:,.0f} of 5,000")
    text = ", ".join(told)
    return f"{text[0].upper()}{text[1:]}."


def level_table(report: Report) -> Table:
    """Accuracy and scores of the city and of each size of cell."""
    rows = [
        Row(
            [
                Cell(level_name(name)),
                Cell(f"{own.n:,}", small=_unanswerable(own)),
                *(Cell(percent(share)) for share in (own.accuracy, own.accuracy_of_point, own.mean_probability)),
                Cell(f"{own.brier:.3f}"),
                Cell("" if own.log_score is None else f"{own.log_score:.2f}"),
            ]
        )
        for name, own in report.levels.items()
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


def _unanswerable(level: LevelFigures) -> str:
    without = level.n - level.n_answerable
    return f"{without:,} without a candidate in it" if without else ""


def region_table(report: Report) -> Table:
    """Errors of each region, hardest first."""
    regions = sorted(report.by_region.items(), key=lambda item: -item[1].median)
    radii = list(regions[0][1].accuracy_within_m)
    rows = [
        Row(
            [
                Cell(name),
                Cell(f"{region.n:,}"),
                *(Cell(metres(error_m)) for error_m in (region.median, region.mean, region.p95)),
                # One column carries a meter.
                *(
                    Cell(percent(share), share=share if radius == "100" else None)
                    for radius, share in region.accuracy_within_m.items()
                ),
            ]
        )
        for name, region in regions
    ]
    columns = ["region", "queries", "median", "mean", "p95", *(f"within {distance(float(radius))}" for radius in radii)]
    return Table(columns, rows)


def regional_text(report: Report) -> str:
    """How far the regions lie apart, in a sentence; empty where there is one region."""
    own = report.regional
    if own is None:
        return ""
    text = (
        f"Half of the photographs of {own.best} are placed within {metres(own.best_median)}, of {own.worst} within "
        f"{metres(own.worst_median)}: a gap of {metres(own.gap)} between the best and the worst of {own.n_regions} "
        "regions."
    )
    told = "the regions are much alike" if own.gini < _ALIKE else "some regions are harder"
    if own.gini > _CONCENTRATED:
        told = "the error is concentrated in few regions"
    return (
        f"{text} The Gini index of their medians is {own.gini:.2f} (0 if all are alike, towards 1 if one bears it "
        f"all): {told}."
    )


_WITHIN = ("5", "10", "25", "50")


@dataclass(frozen=True)
class LeakageSection:
    """What a page says of leakage.

    Attributes:
        sentences: Warnings and notes.
        table: Queries and validation side by side; None for a report of another form.
        rows: A report of another form, value by value.
    """

    sentences: list[str]
    table: Table | None
    rows: list[tuple[str, str]]


def leakage_section(leakage: Mapping[str, Any] | None) -> LeakageSection | None:
    """Lay out a leakage report.

    Args:
        leakage: What FILE.leakage.json holds; None where there is none.
    """
    if leakage is None:
        return None
    sentences = [str(text) for name in ("warnings", "notes") for text in leakage.get(name, [])]
    parts = [leakage.get(name) for name in ("query", "val")]
    if not all(isinstance(part, Mapping) for part in parts):
        rest = {name: value for name, value in leakage.items() if name not in ("warnings", "notes")}
        return LeakageSection(sentences, None, flat_rows(rest))
    rows = [Row([Cell(label), *(Cell(_told(tell, part)) for part in parts)]) for label, tell in _ROWS]
    return LeakageSection(sentences, Table(["", "queries", "validation"], rows), [])


def _told(tell: Callable[[Any], str], part: Any) -> str:
    # What was not measured is null there.
    try:
        return tell(part)
    except (KeyError, TypeError):
        return "not known"


def _counted(value: Mapping[str, Any]) -> str:
    return f"{value['count']:,} ({percent(value['share'])})"


def _groups(value: Mapping[str, Any], n: int) -> str:
    if n and value["unknown"] == n:
        return "not known"
    return f"{value['count']:,} ({percent(value['share'])} of the photographs)"


def _within(radius: str) -> Callable[[Any], str]:
    return lambda part: _counted(part["within_m"][radius])


_ROWS: tuple[tuple[str, Callable[[Any], str]], ...] = (
    ("photographs asked", lambda part: f"{part['n']:,}"),
    ("photographs on the training side", lambda part: f"{part['n_training']:,}"),
    ("nearest training photograph, median", lambda part: metres(part["nearest_training_m"]["median"])),
    ("nearest training photograph, least", lambda part: metres(part["nearest_training_m"]["min"])),
    *((f"with a training photograph within {radius} m", _within(radius)) for radius in _WITHIN),
    ("places in common", lambda part: _groups(part["shared_places"], part["n"])),
    ("sequences in common", lambda part: _groups(part["shared_sequences"], part["n"])),
    ("with a near-duplicate picture in training", lambda part: _counted(part["near_duplicates"]["queries"])),
    ("with the same file in training", lambda part: _counted(part["exact_duplicates"]["queries"])),
    ("with a candidate within 25 m", lambda part: _counted(part["candidates"]["within_25m"])),
)
