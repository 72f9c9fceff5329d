"""Prediction regions and stated probabilities on a report page: coverage, reliability and risk-coverage curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from swclip.evaluation.report import Report
from swclip.metrics.calibration import (
    AreaCurve,
    CalibrationMethod,
    CalibrationReport,
    DistrictCoverage,
    LevelCoverage,
    RiskCoverage,
)
from swclip.metrics.region_coverage import VALIDATION
from swclip.reporting.page import COLOURS, Cell, Row, Table, interval_text
from swclip.reporting.plots import Chart, Series, area_axis, metre_axis, percent_axis
from swclip.reporting.reliability import interval_of, reliability_chart, reliability_text, stated_chart, stated_text
from swclip.reporting.units import area, metres, percent

SUMMARY_LEVEL = 0.8
"""The nominal coverage that the summary sentences describe."""


@dataclass(frozen=True)
class ConfidenceSection:
    """Texts, tables and charts of regions and probabilities.

    Attributes:
        summary: Whether the regions are calibrated, as sentences.
        method: How the regions were calibrated.
        coverage: Nominal coverage, coverage and area by level.
        districts: Coverage by district and level, None where there is one district.
        areas: What the regions of each area were calibrated on, None where there is one area.
        stated: What the stated probabilities meant, as sentences for the top of the page; empty where not measured.
        expected: Whether the table states the coverage expected from a finite calibration set.
        reliability: Whether stated probabilities are calibrated, as sentences; empty where not measured.
        risk_coverage: Effect of leaving uncertain queries unanswered, as a sentence; empty where not measured.
        charts: stated, reliability, area, selective and selective-within-100-m, as far as measured.
    """

    summary: str
    method: str
    coverage: Table
    districts: Table | None
    areas: Table | None
    expected: bool
    stated: str
    reliability: str
    risk_coverage: str
    charts: list[Chart]


def confidence_section(report: Report) -> ConfidenceSection | None:
    """The section of a report's `calibration`; None where it was not measured."""
    calibration = report.calibration
    if calibration is None or not calibration.levels:
        return None
    return ConfidenceSection(
        summary=coverage_summary(calibration),
        method=_method_text(calibration),
        coverage=_coverage_table(calibration.levels),
        districts=_district_table(calibration.levels),
        areas=_area_table(calibration.method),
        expected=any(level.expected is not None for level in calibration.levels),
        stated="" if calibration.stated is None else stated_text(calibration.stated),
        reliability=reliability_text(calibration.reliability),
        risk_coverage=_risk_coverage_text(calibration.selective),
        charts=confidence_charts(calibration),
    )


def coverage_verdict(level: float, interval: Sequence[float]) -> str:
    """Compare the interval of a coverage with the nominal coverage.

    Example:
        >>> [coverage_verdict(0.8, interval) for interval in ([0.68, 0.79], [0.74, 0.86], [0.85, 0.91])]
        ['under-covering', 'calibrated', 'over-covering']
    """
    if interval[1] < level:
        return "under-covering"
    return "over-covering" if interval[0] > level else "calibrated"


def coverage_summary(calibration: CalibrationReport) -> str:
    """Coverage, verdict and size of the regions at `SUMMARY_LEVEL`."""
    figures = _summary_level(calibration.levels)
    text = (
        f"The {100 * figures.level:.0f} % regions contain the true position of {percent(figures.coverage)} "
        f"[{interval_text(interval_of(figures), percent)}] of {figures.n:,} queries: "
        f"{coverage_verdict(figures.level, interval_of(figures))}."
    )
    if figures.area_km2.median is not None:
        text += f" The median area of a region is {area(figures.area_km2.median)}"
        total = calibration.total_area_km2
        text += f"; the gallery covers {area(total)}." if total else "."
    else:
        text += " Most of them are unbounded."
    if figures.cannot_tell > 0:
        text += f" The system abstains for {percent(figures.cannot_tell)} of the queries: it states no region."
    return text


def _summary_level(levels: Sequence[LevelCoverage]) -> LevelCoverage:
    return next((level for level in levels if level.level == SUMMARY_LEVEL), levels[0])


def _method_text(calibration: CalibrationReport) -> str:
    method = calibration.method
    text = (
        f"A region is the set of the most probable H3 cells, each {metres(calibration.cells.across_m)} across. Its "
        f"size is calibrated on {_calibration_set(method)} (split conformal prediction)."
    )
    if method.own_cities:
        text += " It is calibrated by area: an answer's region depends on the validation queries of its own area."
    if method.unreachable:
        subject = "Its true cell" if method.n == 1 else f"The true cell of {method.unreachable:,} of them"
        text += f" {subject} contains no candidate; the calibration accounts for this."
    return text


def _calibration_set(method: CalibrationMethod) -> str:
    """The calibration queries; also how many places or blocks they are from, because neighbours are not independent."""
    n, units = method.n, method.units
    if method.source != VALIDATION:
        return f"the other half of the {n:,} queries, because the run has no calibration"
    text = f"{n:,} validation {'query' if n == 1 else 'queries'}"
    if units == n:
        return text
    return f"{text} from {'one place or block' if units == 1 else f'{units:,} places or blocks'}"


def _coverage_table(levels: Sequence[LevelCoverage]) -> Table:
    rows = [_coverage_row(f"{100 * level.level:.0f} %", level.level, level, level.expected) for level in levels]
    columns = ["nominal coverage", "coverage", "regions are", "median area", "mean area", "p90 area", "abstains"]
    return Table(columns, rows)


def _coverage_row(name: str, level: float, figures: LevelCoverage, expected: Sequence[float] | None) -> Row:
    size = figures.area_km2
    return Row(
        [
            Cell(name, small="" if expected is None else f"{interval_text(expected, percent)} expected"),
            Cell(percent(figures.coverage), small=interval_text(interval_of(figures), percent)),
            Cell(coverage_verdict(level, interval_of(figures))),
            *(Cell("unbounded" if km2 is None else area(km2)) for km2 in (size.median, size.mean, size.p90)),
            Cell(percent(figures.cannot_tell)),
        ]
    )


def _district_table(levels: Sequence[LevelCoverage]) -> Table | None:
    names = sorted({name for level in levels for name in level.by_region})
    if len(names) < 2:
        return None
    summary = _summary_level(levels).by_region
    rows = []
    for name in sorted(names, key=lambda name: (summary[name].coverage if name in summary else 1.0, name)):
        cells = [Cell(name), Cell(f"{summary[name].n:,}" if name in summary else "")]
        for level in levels:
            district = level.by_region.get(name)
            cells.append(Cell("") if district is None else _district_cell(district))
        rows.append(Row(cells))
    return Table(["district", "queries", *(f"{100 * level.level:.0f} %" for level in levels)], rows)


_CALIBRATED_ON = {
    "area": "its own queries",
    "small areas": "the areas with few queries, together",
    "all areas": "all areas together",
}


def _area_table(method: CalibrationMethod) -> Table | None:
    if len(method.areas) < 2:
        return None
    rows = [
        Row(
            [
                Cell(name),
                Cell(f"{area.n:,}"),
                Cell(f"{area.units:,}"),
                Cell(f"{area.unreachable:,}"),
                Cell("" if area.spread_m is None else metres(area.spread_m)),
                Cell(_CALIBRATED_ON[area.calibrated_on]),
            ]
        )
        for name, area in method.areas.items()
    ]
    columns = ["area", "validation queries", "places or blocks", "out of reach", "spread", "calibrated on"]
    return Table(columns, rows)


def _district_cell(district: DistrictCoverage) -> Cell:
    size = district.median_area_km2
    return Cell(
        percent(district.coverage),
        small=interval_text(interval_of(district), percent),
        note="unbounded" if size is None else area(size),
    )


def _risk_coverage_text(curve: RiskCoverage) -> str:
    if len(curve.share) < 2:
        return ""
    half = min(range(len(curve.share)), key=lambda at: abs(curve.share[at] - 0.5))
    share, whole = curve.share[half], curve.median_m[-1]
    text = (
        f"Ranked by the {curve.by}, the most confident {100 * share:.0f} % of the answers have a median error of "
        f"{metres(curve.median_m[half])}, and {percent(curve.within_100_m[half])} of them are within 100 m. For all "
        f"answers these are {metres(whole)} and {percent(curve.within_100_m[-1])}"
    )
    return f"{text}." if curve.median_m[half] < whole else f"{text}: leaving queries unanswered gains nothing."


def confidence_charts(calibration: CalibrationReport) -> list[Chart]:
    """The charts of a calibration, those that have points."""
    charts = (
        None if calibration.stated is None else stated_chart(calibration.stated),
        reliability_chart(calibration.reliability),
        _area_chart(calibration.area_curve),
        *_risk_coverage_charts(calibration.selective),
    )
    return [chart for chart in charts if chart is not None]


def _area_chart(curve: AreaCurve) -> Chart | None:
    points = [(a, r) for a, r in zip(curve.area_km2, curve.recall, strict=True) if a > 0]
    if len(points) < 2:
        return None
    x, y = [a for a, _ in points], [100.0 * r for _, r in points]
    labels = [f"{percent(r)} at a mean area of {area(a)}" for a, r in points]
    return Chart(
        "area",
        "Coverage against region area",
        "Share of queries whose region contains the true position, against the mean area of the regions",
        area_axis("mean area of the regions", x),
        percent_axis("regions that contain the true position"),
        [Series("", x, y, COLOURS[0], labels)],
    )


def _risk_coverage_charts(curve: RiskCoverage) -> list[Chart]:
    if len(curve.share) < 2:
        return []
    x = [100.0 * share for share in curve.share]
    n, median, within = curve.n, curve.median_m, curve.within_100_m
    smallest = max(min(median), 1.0)

    def labels(values: Sequence[str]) -> list[str]:
        return [f"most confident {a:.0f} % ({m:,}): {text}" for a, m, text in zip(x, n, values, strict=True)]

    return [
        Chart(
            "selective",
            "Risk-coverage curve: median error",
            "Median error against the share of queries that are answered, the most confident first",
            percent_axis("queries answered, most confident first"),
            metre_axis("median error", [smallest, max(max(median), 2.0 * smallest)]),
            [
                Series(
                    "",
                    x,
                    [max(value, smallest) for value in median],
                    COLOURS[0],
                    labels([f"median {metres(value)}" for value in median]),
                )
            ],
        ),
        Chart(
            "selective-within-100-m",
            "Risk-coverage curve: within 100 m",
            "Share of answers within 100 m against the share of queries that are answered, the most confident first",
            percent_axis("queries answered, most confident first"),
            percent_axis("answers within 100 m"),
            [
                Series(
                    "", x, [100.0 * value for value in within], COLOURS[0], labels([percent(value) for value in within])
                )
            ],
        ),
    ]
