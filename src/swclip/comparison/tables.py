"""The tables of a comparison: systems, differences, estimators, accuracies, regions; the best system first."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from swclip.comparison.curves import sorted_systems
from swclip.comparison.findings import FIGURES, shown
from swclip.comparison.pooling import baselines_of, with_gallery
from swclip.reporting.page import Cell, Row, Table, accuracy_columns, accuracy_row, interval_text, reference_rows
from swclip.reporting.units import distance, figure_name, metres, percent, signed, signed_interval

_ERRORS = ("median", "mean", "p95")
_SHARES = ("25", "50", "100")

NO_DIFFERENCE = "no difference shown"
"""What stands beside a difference whose interval holds 0."""


def system_table(document: Mapping[str, Any]) -> Table:
    """The headline figures, each with its interval and, over several seeds, its spread."""
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
    for name, guess in reference_rows(baselines_of(with_gallery(systems.values()))):
        errors = [Cell(metres(getattr(guess, key))) for key in _ERRORS]
        shares = [Cell(percent(guess.accuracy_within_m[key])) for key in _SHARES]
        rows.append(Row([Cell(name), *errors, *shares, Cell(""), Cell("")], reference=True))
    return Table(columns, rows)


def name_cell(document: Mapping[str, Any], name: str) -> Cell:
    """A system's name, with what it is to the others and how it answers where that is not the mode."""
    marks = [word for word in ("baseline", "reference") if document.get(word) == name]
    estimator = document["systems"][name]["mean"].get("estimator")
    if estimator != "mode":
        marks.append("estimator differs by seed" if estimator is None else f"answers by {estimator}")
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
                best=shown(difference[figure]),
                faint=not shown(difference[figure]),
                note="" if shown(difference[figure]) else NO_DIFFERENCE,
            )
            for figure in FIGURES
        ]
        rows.append(Row([Cell(name), *cells]))
    return Table(["system", *map(figure_name, FIGURES)], rows)


def estimator_table(document: Mapping[str, Any]) -> Table:
    """Every system by every estimator, the one that is the system's answer in bold."""
    rows = []
    for name, report in _means(document).items():
        for estimator, figures in report["estimators"].items():
            own = estimator == report.get("estimator")
            values = [metres(figures["error_m"][key]) for key in _ERRORS]
            values += [percent(figures["accuracy_within_m"][key]) for key in _SHARES]
            label = Cell(estimator, best=own)
            rows.append(Row([Cell(name), label, *(Cell(value, best=own) for value in values)]))
    return Table(["system", "estimator", *_ERRORS, *(f"within {radius} m" for radius in _SHARES)], rows)


def accuracy_table(document: Mapping[str, Any]) -> Table:
    """Share of the queries within each distance."""
    systems = _means(document)
    references = reference_rows(baselines_of(next(iter(systems.values()))))
    shares: dict[str, Mapping[str, float]] = {name: report["accuracy_within_m"] for name, report in systems.items()}
    radii = accuracy_columns([*shares.values(), *(guess.accuracy_within_m for _, guess in references)])
    best = {radius: max(own[radius] for own in shares.values()) for radius in radii}
    rows = [accuracy_row(name, own, radii, best) for name, own in shares.items()]
    rows += [accuracy_row(name, guess.accuracy_within_m, radii) for name, guess in references]
    return Table(["", *(distance(float(radius)) for radius in radii)], rows)


def region_table(document: Mapping[str, Any]) -> Table:
    """Median error by region; of regions and systems, the more numerous are the rows."""
    systems = _means(document)
    regions = next(iter(systems.values()))["by_region"]
    hardest = sorted(regions, key=lambda region: -min(_region_median(report, region) for report in systems.values()))
    lowest = {region: min(_region_median(report, region) for report in systems.values()) for region in regions}

    def cell(name: str, region: str) -> Cell:
        value = _region_median(systems[name], region)
        return Cell(metres(value), best=value == lowest[region] and len(systems) > 1)

    if len(systems) > len(regions):
        rows = [Row([Cell(name), *(cell(name, region) for region in hardest)]) for name in systems]
        counts = Row([Cell("queries"), *(Cell(f"{regions[region]['n']:,}") for region in hardest)], reference=True)
        return Table(["system", *hardest], [*rows, counts])
    rows = [
        Row([Cell(region), Cell(f"{regions[region]['n']:,}"), *(cell(name, region) for name in systems)])
        for region in hardest
    ]
    return Table(["region", "queries", *systems], rows)


def _means(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {name: document["systems"][name]["mean"] for name in sorted_systems(document)}


def _region_median(report: Mapping[str, Any], region: str) -> float:
    return float(report["by_region"][region]["median"])


def _headline(report: Mapping[str, Any]) -> list[tuple[float, str, str]]:
    """Value, spread over seeds and interval of each headline figure."""
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
    recall = [report["recall_at_k_25m"][k] for k in ("1", "10")]  # not known of answers that are no list
    return figures + [(math.nan if share is None else float(share), "", "") for share in recall]


def _spread(deviation: float, value: float, unit: Callable[[float], str]) -> str:
    # In the unit of the value it stands beside: 23.8 km ± 1.5 km, not ± 1,473 m.
    if unit is metres and value >= 9_999.5:
        return f"{deviation / 1_000.0:,.1f} km"
    return unit(deviation)
