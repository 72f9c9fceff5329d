"""Tables of a comparison: systems, differences, estimators, accuracies, districts; the best system first."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from swclip.comparison.curves import sorted_systems
from swclip.comparison.findings import FIGURES, excludes_zero
from swclip.comparison.pooling import baselines_of, with_gallery
from swclip.reporting.page import Cell, Row, Table, accuracy_columns, accuracy_row, interval_text, reference_rows
from swclip.reporting.units import distance, figure_name, metres, percent, signed, signed_interval

_ERRORS = ("median", "mean", "p95")
_SHARES = ("25", "50", "100")

INCLUDES_ZERO = "interval includes 0"
"""Note of a difference that is not significant."""


def system_table(document: Mapping[str, Any]) -> Table:
    """Headline figures with their intervals and, for several seeds, their standard deviations."""
    systems = _means(document)
    columns = ["system", *_ERRORS, *(f"within {radius} m" for radius in _SHARES), "recall@1", "recall@10"]
    figures = {name: _headline(report) for name, report in systems.items()}
    picks = [min] * len(_ERRORS) + [max] * (len(_SHARES) + 2)
    best = [
        pick((row[at][0] for row in figures.values() if not math.isnan(row[at][0])), default=math.nan)
        for at, pick in enumerate(picks)
    ]
    rows = []
    for name, row in figures.items():
        cells = [
            Cell("\N{EN DASH}", faint=True)
            if math.isnan(value)
            else Cell(
                (metres if at < len(_ERRORS) else percent)(value) + spread,
                small=small,
                best=value == best[at] and len(systems) > 1,
            )
            for at, (value, spread, small) in enumerate(row)
        ]
        rows.append(Row([name_cell(document, name), *cells]))
    for name, baseline in reference_rows(baselines_of(with_gallery(systems.values()))):
        errors = [Cell(metres(getattr(baseline, key))) for key in _ERRORS]
        shares = [Cell(percent(baseline.accuracy_within_m[key])) for key in _SHARES]
        rows.append(Row([Cell(name), *errors, *shares, Cell(""), Cell("")], reference=True))
    return Table(columns, rows)


def name_cell(document: Mapping[str, Any], name: str) -> Cell:
    """Name of a system, with its role, and its estimator where that is not the mode."""
    marks = [word for word in ("baseline", "reference") if document.get(word) == name]
    estimator = document["systems"][name]["mean"].get("estimator")
    if estimator != "mode":
        marks.append("estimator differs by seed" if estimator is None else f"estimator: {estimator}")
    return Cell(name, small=", ".join(marks))


def difference_table(document: Mapping[str, Any], key: str) -> Table:
    """Differences of all systems from the baseline ("difference") or the reference ("difference_from_reference")."""
    rows = []
    for name in sorted_systems(document):
        difference = document["systems"][name].get(key)
        if difference is None:
            continue
        cells = [
            Cell(
                signed(difference[figure]["value"], figure),
                small=signed_interval(difference[figure], figure),
                best=excludes_zero(difference[figure]),
                faint=not excludes_zero(difference[figure]),
                note="" if excludes_zero(difference[figure]) else INCLUDES_ZERO,
            )
            for figure in FIGURES
        ]
        rows.append(Row([Cell(name), *cells]))
    return Table(["system", *map(figure_name, FIGURES)], rows)


def estimator_table(document: Mapping[str, Any]) -> Table:
    """Figures of every system and estimator; the estimator of the system's answers is bold."""
    rows = []
    for name, report in _means(document).items():
        for estimator, figures in report["estimators"].items():
            chosen = estimator == report.get("estimator")
            values = [metres(figures["error_m"][key]) for key in _ERRORS]
            values += [percent(figures["accuracy_within_m"][key]) for key in _SHARES]
            label = Cell(estimator, best=chosen)
            rows.append(Row([Cell(name), label, *(Cell(value, best=chosen) for value in values)]))
    return Table(["system", "estimator", *_ERRORS, *(f"within {radius} m" for radius in _SHARES)], rows)


def accuracy_table(document: Mapping[str, Any]) -> Table:
    """Share of queries within each distance."""
    systems = _means(document)
    references = reference_rows(baselines_of(next(iter(systems.values()))))
    shares: dict[str, Mapping[str, float]] = {name: report["accuracy_within_m"] for name, report in systems.items()}
    radii = accuracy_columns([*shares.values(), *(baseline.accuracy_within_m for _, baseline in references)])
    best = {radius: max(of_system[radius] for of_system in shares.values()) for radius in radii}
    rows = [accuracy_row(name, of_system, radii, best) for name, of_system in shares.items()]
    rows += [accuracy_row(name, baseline.accuracy_within_m, radii) for name, baseline in references]
    return Table(["", *(distance(float(radius)) for radius in radii)], rows)


def district_table(document: Mapping[str, Any]) -> Table:
    """Median error by district; the more numerous of districts and systems are the rows."""
    systems = _means(document)
    districts = next(iter(systems.values()))["by_region"]
    hardest = sorted(districts, key=lambda name: -min(_district_median(report, name) for report in systems.values()))
    lowest = {name: min(_district_median(report, name) for report in systems.values()) for name in districts}

    def cell(system: str, district: str) -> Cell:
        value = _district_median(systems[system], district)
        return Cell(metres(value), best=value == lowest[district] and len(systems) > 1)

    if len(systems) > len(districts):
        rows = [Row([Cell(name), *(cell(name, district) for district in hardest)]) for name in systems]
        counts = Row(
            [Cell("queries"), *(Cell(f"{districts[district]['n']:,}") for district in hardest)], reference=True
        )
        return Table(["system", *hardest], [*rows, counts])
    rows = [
        Row([Cell(district), Cell(f"{districts[district]['n']:,}"), *(cell(name, district) for name in systems)])
        for district in hardest
    ]
    return Table(["district", "queries", *systems], rows)


def _means(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {name: document["systems"][name]["mean"] for name in sorted_systems(document)}


def _district_median(report: Mapping[str, Any], district: str) -> float:
    return float(report["by_region"][district]["median"])


def _headline(report: Mapping[str, Any]) -> list[tuple[float, str, str]]:
    """Value, standard deviation over seeds, and interval of each headline figure."""
    intervals, spread = report["intervals"], report.get("seed_sd")
    figures = []
    for group, key, unit in (
        *(("error_m", key, metres) for key in _ERRORS),
        *(("accuracy_within_m", key, percent) for key in _SHARES),
    ):
        interval = intervals[group].get(key)
        deviation = (spread or {}).get(group, {}).get(key)
        figures.append(
            (
                float(report[group][key]),
                "" if deviation is None else f" ± {_spread(deviation, float(report[group][key]), unit)}",
                "" if interval is None else interval_text(interval, unit),
            )
        )
    recall = [report["recall_at_k_25m"][k] for k in ("1", "10")]  # None for answers without a ranking
    return figures + [(math.nan if share is None else float(share), "", "") for share in recall]


def _spread(deviation: float, value: float, unit: Callable[[float], str]) -> str:
    # In the unit of the value: 23.8 km ± 1.5 km, not ± 1,473 m.
    if unit is metres and value >= 9_999.5:
        return f"{deviation / 1_000.0:,.1f} km"
    return unit(deviation)
