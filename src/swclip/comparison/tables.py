"""Tables of a comparison: systems, differences, estimators, accuracies, districts; the best system first."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from swclip.comparison.document import FIGURES, ComparisonDocument, Difference, SystemDifference
from swclip.comparison.mean_report import MeanFigure, MeanReport, with_gallery
from swclip.reporting.page import Cell, Row, Table, accuracy_columns, accuracy_row, interval_text, reference_rows
from swclip.reporting.units import distance, figure_name, metres, percent, signed, signed_interval

_ERRORS = ("median", "mean", "p95")
_SHARES = ("25", "50", "100")
_DRAWN = ("median", "within_25")

INCLUDES_ZERO = "interval includes 0"
"""Note of a difference that is not significant."""


def system_table(document: ComparisonDocument) -> Table:
    """Headline figures with their intervals and, for several seeds, their standard deviations."""
    systems = document.means
    columns = ["system", *_ERRORS, *(f"within {radius} m" for radius in _SHARES), "recall@1", "recall@10"]
    figures = {name: _headline(mean) for name, mean in systems.items()}
    picks = [min] * len(_ERRORS) + [max] * (len(_SHARES) + 2)
    best = [
        pick((row[at].value for row in figures.values() if not math.isnan(row[at].value)), default=math.nan)
        for at, pick in enumerate(picks)
    ]
    rows = []
    for name, row in figures.items():
        cells = [
            _figure_cell(
                figure, metres if at < len(_ERRORS) else percent, figure.value == best[at] and len(systems) > 1
            )
            for at, figure in enumerate(row)
        ]
        rows.append(Row([name_cell(document, name), *cells]))
    for name, baseline in reference_rows(with_gallery(systems.values()).baselines):
        errors = [Cell(metres(getattr(baseline, key))) for key in _ERRORS]
        shares = [Cell(percent(baseline.accuracy_within_m[key])) for key in _SHARES]
        rows.append(Row([Cell(name), *errors, *shares, Cell(""), Cell("")], reference=True))
    return Table(columns, rows)


def name_cell(document: ComparisonDocument, name: str) -> Cell:
    """Name of a system, with its role, and where its coordinates are those of another tool."""
    roles = (("baseline", document.baseline), ("reference", document.reference))
    marks = [role for role, system in roles if system == name]
    estimator = document.systems[name].mean.estimator
    if estimator != document.estimator:
        marks.append(f"coordinates {estimator}")
    return Cell(name, small=", ".join(marks))


def difference_table(differences: Mapping[str, SystemDifference], means: Mapping[str, MeanReport]) -> Table:
    """Differences by system, from the baseline or from the reference; of errors also relative to it."""
    rows = []
    for name, difference in differences.items():
        cells = [Cell(name)]
        for figure, of_figure in difference.figures.items():
            cell = difference_cell(of_figure, figure)
            if share := relative_text(of_figure.value, getattr(means[difference.against].error_m, figure, 0.0)):
                cell = replace(cell, small=f"{share} {cell.small}".strip())
            cells.append(cell)
        rows.append(Row(cells))
    return Table(["system", *map(figure_name, FIGURES)], rows)


def relative_text(value: float, error_m: float) -> str:
    """A difference of errors as a percentage of the other system's error; empty where that is 0."""
    return f"{100.0 * value / error_m:+.1f} %".replace("-", "\N{MINUS SIGN}") if error_m > 0.0 else ""


def difference_cell(difference: Difference, figure: str) -> Cell:
    """A difference with its interval: bold where that excludes 0, grey where it includes 0."""
    return Cell(
        signed(difference.value, figure),
        small=signed_interval(difference.value, difference.interval, figure),
        best=difference.excludes_zero,
        faint=not difference.excludes_zero,
        note="" if difference.excludes_zero else INCLUDES_ZERO,
    )


def draws_tables(document: ComparisonDocument) -> list[tuple[str, Table]]:
    """Median and share within 25 m over several draws: of the systems, and their differences; each draw in a column."""
    draws = document.draws
    if draws is None:
        return []
    columns = ["system", "figure", "mean over draws", *(f"seed {seed}" for seed in draws.seeds)]
    rows = []
    for name in document.means:
        for figure in _DRAWN:
            one, unit = draws.systems[name].figures[figure], metres if figure == "median" else percent
            mean = Cell(unit(one.value), small=interval_text((one.low, one.high), unit))
            rows.append(Row([Cell(name), Cell(figure_name(figure)), mean, *(Cell(unit(at)) for at in one.by_draw)]))
    tables = [("Figures of each draw", Table(columns, rows))]
    for other, key in ((document.baseline, "difference"), (document.reference, "difference_from_reference")):
        rows = []
        for name in document.means:
            difference = getattr(draws.systems[name], key)
            for figure in _DRAWN if difference is not None else ():
                one = difference.figures[figure]
                each = [Cell(signed(value, figure)) for value in one.by_draw or ()]
                rows.append(Row([Cell(name), Cell(figure_name(figure)), difference_cell(one, figure), *each]))
        if rows:
            tables.append((f"Difference from {other} in each draw", Table(columns, rows)))
    return tables


def estimator_table(document: ComparisonDocument) -> Table:
    """Figures of every system and estimator; the estimator of the system's answers is bold."""
    rows = []
    for name, mean in document.means.items():
        for estimator, figures in mean.estimators.items():
            chosen = estimator == mean.estimator
            values = [metres(getattr(figures.error_m, key)) for key in _ERRORS]
            values += [percent(figures.accuracy_within_m[key]) for key in _SHARES]
            label = Cell(estimator, best=chosen)
            rows.append(Row([Cell(name), label, *(Cell(value, best=chosen) for value in values)]))
    return Table(["system", "estimator", *_ERRORS, *(f"within {radius} m" for radius in _SHARES)], rows)


def accuracy_table(document: ComparisonDocument) -> Table:
    """Share of queries within each distance."""
    systems = document.means
    references = reference_rows(next(iter(systems.values())).baselines)
    shares = {name: mean.accuracy_within_m for name, mean in systems.items()}
    radii = accuracy_columns([*shares.values(), *(baseline.accuracy_within_m for _, baseline in references)])
    best = {radius: max(of_system[radius] for of_system in shares.values()) for radius in radii}
    rows = [accuracy_row(name, of_system, radii, best) for name, of_system in shares.items()]
    rows += [accuracy_row(name, baseline.accuracy_within_m, radii) for name, baseline in references]
    return Table(["system", *(distance(float(radius)) for radius in radii)], rows)


def district_table(document: ComparisonDocument) -> Table:
    """Median error by district; the more numerous of districts and systems are the rows."""
    systems = document.means
    districts = next(iter(systems.values())).by_region
    lowest = {name: min(mean.by_region[name].median for mean in systems.values()) for name in districts}
    hardest = sorted(districts, key=lambda name: -lowest[name])

    def cell(system: str, district: str) -> Cell:
        value = systems[system].by_region[district].median
        return Cell(metres(value), best=value == lowest[district] and len(systems) > 1)

    if len(systems) > len(districts):
        rows = [Row([Cell(name), *(cell(name, district) for district in hardest)]) for name in systems]
        counts = [Cell(f"{districts[district].n:,}") for district in hardest]
        return Table(["system", *hardest], [*rows, Row([Cell("queries"), *counts], reference=True)])
    rows = [
        Row([Cell(district), Cell(f"{districts[district].n:,}"), *(cell(name, district) for name in systems)])
        for district in hardest
    ]
    return Table(["district", "queries", *systems], rows)


def console_table(document: ComparisonDocument) -> tuple[str, list[str], list[list[str]]]:
    """The systems and their differences from the baseline, for the console.

    Returns:
        Title, columns, rows of text.
    """
    means = {name: system.mean for name, system in document.systems.items()}
    seeds = max(mean.seeds for mean in means.values())
    first = with_gallery(means.values())
    title = f"{round(first.n_queries):,} queries, "
    title += "gallery not known" if first.gallery_size is None else f"{round(first.gallery_size):,} candidates"
    title += f", mean of {seeds} seeds" if seeds > 1 else ""
    title += "" if document.estimator is None else f", answers by {document.estimator}"
    columns = ["system", *_ERRORS, "within 25 m", "within 100 m", "recall@1", f"median vs {document.baseline}"]
    rows = []
    for name, mean in means.items():
        recall, difference = mean.recall(1), document.systems[name].difference
        rows.append(
            [
                name,
                *(metres(getattr(mean.error_m, key)) for key in _ERRORS),
                *(percent(mean.accuracy_within_m[key]) for key in ("25", "100")),
                "" if recall is None else percent(recall),
                "" if difference is None else difference_text(difference.median),
            ]
        )
    for name, baseline in (("oracle error", first.baselines.floor), ("random baseline", first.baselines.random)):
        if baseline is None:  # the gallery is not known
            continue
        errors = (metres(getattr(baseline, key)) for key in _ERRORS)
        shares = (percent(baseline.accuracy_within_m[radius]) for radius in ("25", "100"))
        rows.append([f"({name})", *errors, *shares, "", ""])
    return title, columns, rows


def console_draws_table(document: ComparisonDocument) -> tuple[str, list[str], list[list[str]]] | None:
    """The systems over several draws and their differences from the baseline, for the console; None with one draw.

    Returns:
        Title, columns, rows of text.
    """
    draws = document.draws
    if draws is None:
        return None
    title = f"Over {len(draws.seeds)} draws of the splits; intervals over draws, seeds and blocks"
    columns = ["system", "median", "within 25 m", f"median vs {document.baseline}", "within 25 m vs"]
    rows = []
    for name in document.means:
        system = draws.systems[name]
        row = [name, metres(system.figures["median"].value), percent(system.figures["within_25"].value)]
        for figure in _DRAWN:
            one = None if system.difference is None else system.difference.figures[figure]
            interval = "" if one is None else signed_interval(one.value, one.interval, figure)
            row.append("" if one is None else f"{signed(one.value, figure)} {interval}")
        rows.append(row)
    return title, columns, rows


def difference_text(difference: Difference) -> str:
    """Format a difference of distances with its interval: -40 m [-60 m, -20 m]."""
    sign = "+" if difference.value > 0 else ""
    ends = ", ".join(metres(end) for end in difference.interval or ())
    return f"{sign}{metres(difference.value)} [{ends}]"


def _headline(mean: MeanReport) -> list[MeanFigure]:
    """The headline figures; NaN for the recall of answers without a ranking."""
    recall = [mean.recall(k) for k in (1, 10)]
    return [
        *(mean.error(key) for key in _ERRORS),
        *(mean.accuracy(key) for key in _SHARES),
        *(MeanFigure(math.nan if share is None else share, None, None) for share in recall),
    ]


def _figure_cell(figure: MeanFigure, unit: Callable[[float], str], best: bool) -> Cell:
    if math.isnan(figure.value):
        return Cell("\N{EN DASH}", faint=True)
    deviation = "" if figure.seed_sd is None else f" ± {_deviation_text(figure.seed_sd, figure.value, unit)}"
    interval = "" if figure.interval is None else interval_text(figure.interval, unit)
    return Cell(unit(figure.value) + deviation, small=interval, best=best)


def _deviation_text(deviation: float, value: float, unit: Callable[[float], str]) -> str:
    # In the unit of the value: 23.8 km ± 1.5 km, not ± 1,473 m.
    if unit is metres and value >= 9_999.5:
        return f"{deviation / 1_000.0:,.1f} km"
    return unit(deviation)
