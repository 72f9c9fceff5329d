"""How sure it is, and whether that holds: regions with a promise, stated probabilities, answers it may keep back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from swclip.evaluation.report import Report
from swclip.metrics.calibration import ReliabilityBin, RiskCoverage
from swclip.metrics.coverage_parts import (
    AreaCurve,
    CalibrationMethod,
    CalibrationReport,
    CityCoverage,
    DistrictCoverage,
    LevelCoverage,
)
from swclip.metrics.region_coverage import VALIDATION
from swclip.reporting.page import COLOURS, Cell, Row, Table, interval_text
from swclip.reporting.plots import Chart, Series, area_axis, metre_axis, percent_axis
from swclip.reporting.units import area, metres, percent

SHOWN_LEVEL = 0.8
"""The promise that a page speaks of where it speaks of one."""

# A 95 % interval leaves the truth out in one of twenty; twice that share is not yet worth a word.
_CHANCE = 0.1


@dataclass(frozen=True)
class Sureness:
    """What a page says of regions and probabilities.

    Attributes:
        verdict: Whether the regions keep their promise, as sentences.
        method: How the regions were made.
        coverage: LevelCoverage, coverage and area by level.
        regions: Coverage by region of the map and level, None where there is one region.
        by_city: Whether the table has rows of regions calibrated for each city.
        expected: Whether the table says how far the coverage may be off by the luck of the calibration.
        reliability: Whether stated probabilities hold, as sentences; empty where not measured.
        selective: What keeping unsure answers back would give, as sentences; empty where not measured.
        charts: reliability, area and selective, as far as measured.
    """

    verdict: str
    method: str
    coverage: Table
    regions: Table | None
    by_city: bool
    expected: bool
    reliability: str
    selective: str
    charts: list[Chart]


def sureness(report: Report) -> Sureness | None:
    """Lay out `calibration` of a report; None where it has none."""
    calibration = report.calibration
    if calibration is None or not calibration.levels:
        return None
    return Sureness(
        verdict=verdict_text(calibration),
        method=_method_text(calibration),
        coverage=_coverage_table(calibration.levels),
        regions=_region_table(calibration.levels),
        by_city=any(own.by_city is not None for own in calibration.levels),
        expected=any(own.expected is not None for own in calibration.levels),
        reliability=reliability_text(calibration.reliability),
        selective=_selective_text(calibration.selective),
        charts=sureness_charts(calibration),
    )


def _interval(own: LevelCoverage | CityCoverage | DistrictCoverage | ReliabilityBin) -> Sequence[float]:
    """The interval of a coverage; from 0 to 1 where nothing is known of it."""
    return (0.0, 1.0) if own.coverage_interval is None else own.coverage_interval


def kept(level: float, interval: Sequence[float]) -> str:
    """What an interval of the coverage says of a promise.

    Example:
        >>> kept(0.8, [0.68, 0.79]), kept(0.8, [0.74, 0.86]), kept(0.8, [0.85, 0.91])
        ('too narrow', 'as promised', 'wider than they need be')
    """
    if interval[1] < level:
        return "too narrow"
    return "wider than they need be" if interval[0] > level else "as promised"


def verdict_text(calibration: CalibrationReport) -> str:
    """Whether the regions of the shown level keep their promise, and what they are good for."""
    own = _shown(calibration.levels)
    text = (
        f"The {100 * own.level:.0f} % regions hold the truth for {percent(own.coverage)} "
        f"[{interval_text(_interval(own), percent)}] of {own.n:,} queries: {kept(own.level, _interval(own))}."
    )
    if own.area_km2.median is not None:
        text += f" Half of them cover at most {area(own.area_km2.median)}"
        total = calibration.total_area_km2
        text += f", of the {area(total)} that the gallery covers." if total else "."
    else:
        text += " Most of them have no bound."
    if own.cannot_tell > 0:
        text += f" For {percent(own.cannot_tell)} of the queries the system cannot tell: no useful region is stated."
    return text


def _shown(levels: Sequence[LevelCoverage]) -> LevelCoverage:
    return next((one for one in levels if one.level == SHOWN_LEVEL), levels[0])


def _method_text(calibration: CalibrationReport) -> str:
    method = calibration.method
    text = (
        f"A region is the set of the most probable cells of the ground, {metres(calibration.cells.across_m)} across; "
        f"how many it takes was learnt from {_learnt_from(method)} (split conformal prediction)."
    )
    if method.unreachable:
        whom = "it" if method.n == 1 else f"{method.unreachable:,} of them"
        text += f" For {whom} no cell of the gallery is right, and the regions allow for that."
    return text


def _learnt_from(method: CalibrationMethod) -> str:
    """The queries that sized the regions; streets of one place or block are alike, so how many of those is said too."""
    n, units = method.n, method.units
    if method.source != VALIDATION:
        return f"the other half of the {n:,} queries, for want of a calibration"
    text = f"{n:,} validation {'query' if n == 1 else 'queries'}"
    if units == n:
        return text
    return f"{text} of {'one place or block' if units == 1 else f'{units:,} places or blocks'}"


def _coverage_table(levels: Sequence[LevelCoverage]) -> Table:
    rows = [_coverage_row(f"{100 * own.level:.0f} %", own.level, own, own.expected) for own in levels]
    for own in levels:
        if own.by_city is not None:
            rows.append(_coverage_row(f"{100 * own.level:.0f} %, by city", own.level, own.by_city, None))
    return Table(
        ["promise", "coverage", "the regions are", "median area", "mean area", "nine in ten below", "cannot tell"], rows
    )


def _coverage_row(name: str, level: float, own: LevelCoverage | CityCoverage, expected: Sequence[float] | None) -> Row:
    size = own.area_km2
    return Row(
        [
            Cell(name, small="" if expected is None else f"{interval_text(expected, percent)} expected"),
            Cell(percent(own.coverage), small=interval_text(_interval(own), percent)),
            Cell(kept(level, _interval(own))),
            *(Cell("no bound" if km2 is None else area(km2)) for km2 in (size.median, size.mean, size.p90)),
            Cell(percent(own.cannot_tell)),
        ]
    )


def _region_table(levels: Sequence[LevelCoverage]) -> Table | None:
    names = sorted({name for own in levels for name in own.by_region})
    if len(names) < 2:
        return None
    shown = _shown(levels).by_region
    rows = []
    for name in sorted(names, key=lambda name: (shown[name].coverage if name in shown else 1.0, name)):
        cells = [Cell(name), Cell(f"{shown[name].n:,}" if name in shown else "")]
        for own in levels:
            one = own.by_region.get(name)
            cells.append(Cell("") if one is None else _region_cell(one))
        rows.append(Row(cells))
    return Table(["region", "queries", *(f"{100 * own.level:.0f} %" for own in levels)], rows)


def _region_cell(one: DistrictCoverage) -> Cell:
    size = one.median_area_km2
    return Cell(
        percent(one.coverage),
        small=interval_text(_interval(one), percent),
        note="no bound" if size is None else area(size),
    )


def reliability_text(bins: Sequence[ReliabilityBin]) -> str:
    """Whether stated probabilities are kept, weighted by how often they are stated."""
    known = [own for own in bins if own.n]
    if not known:
        return ""
    total = sum(own.n for own in known)
    stated = sum(own.n * own.mean_probability for own in known) / total
    found = sum(own.n * own.coverage for own in known) / total
    apart = [own for own in known if not _interval(own)[0] <= own.mean_probability <= _interval(own)[1]]
    text = (
        f"On average the system says {percent(stated)} for “the truth is within 25 m of my answer”, and is right for "
        f"{percent(found)}."
    )
    if not apart:
        return f"{text} In all {len(known)} groups the stated share lies within the interval of the measured one."
    text += f" In {len(apart)} of {len(known)} groups the interval leaves the stated share out"
    if len(apart) <= _CHANCE * len(known):
        return f"{text}, which may be chance."
    above = sum(own.mean_probability > own.coverage for own in apart)
    if above == len(apart):
        return f"{text}: it is overconfident."
    return f"{text}: it is {'underconfident' if above == 0 else 'too sure in some and not sure enough in others'}."


def _selective_text(selective: RiskCoverage) -> str:
    if len(selective.share) < 2:
        return ""
    half = min(range(len(selective.share)), key=lambda at: abs(selective.share[at] - 0.5))
    share, whole = selective.share[half], selective.median_m[-1]
    better = selective.median_m[half] < whole
    text = (
        f"Sorted by the {selective.by}, the surest {100 * share:.0f} % of the answers have a median error of "
        f"{metres(selective.median_m[half])} and {percent(selective.within_100_m[half])} lie within 100 m; all "
        f"together {metres(whole)} and {percent(selective.within_100_m[-1])}"
    )
    return f"{text}." if better else f"{text}: keeping unsure answers back would gain nothing."


def sureness_charts(calibration: CalibrationReport) -> list[Chart]:
    """The charts of a calibration, those that have points."""
    found = (
        reliability_chart(calibration.reliability),
        _area_chart(calibration.area_curve),
        *_selective_charts(calibration.selective),
    )
    return [chart for chart in found if chart is not None]


def reliability_chart(bins: Sequence[ReliabilityBin]) -> Chart | None:
    """Measured against stated probability; None where no bin holds an answer."""
    known = [own for own in bins if own.n]
    if not known:
        return None
    series = Series(
        "",
        [100.0 * own.mean_probability for own in known],
        [100.0 * own.coverage for own in known],
        COLOURS[0],
        [
            f"said {percent(own.mean_probability)}, right {percent(own.coverage)} "
            f"[{interval_text(_interval(own), percent)}]; {own.n:,} queries"
            for own in known
        ],
        "both",
        width=1.6,
        low=[100.0 * _interval(own)[0] for own in known],
        high=[100.0 * _interval(own)[1] for own in known],
    )
    return Chart(
        "reliability",
        "Does it know when it is right?",
        "Measured against stated probability that the truth is within 25 m of the answer",
        percent_axis("what the system says"),
        percent_axis("how often it is right"),
        [series],
        diagonal="perfectly calibrated",
    )


def _area_chart(curve: AreaCurve) -> Chart | None:
    points = [(a, r) for a, r in zip(curve.area_km2, curve.recall, strict=True) if a > 0]
    if len(points) < 2:
        return None
    x, y = [a for a, _ in points], [100.0 * r for _, r in points]
    told = [f"{percent(r)} at {area(a)} on average" for a, r in points]
    return Chart(
        "area",
        "How much ground holds the truth?",
        "Share of queries whose region holds the truth, against the mean area of the regions",
        area_axis("mean area of the regions", x),
        percent_axis("queries whose region holds the truth"),
        [Series("", x, y, COLOURS[0], told)],
    )


def _selective_charts(selective: RiskCoverage) -> list[Chart]:
    if len(selective.share) < 2:
        return []
    x = [100.0 * share for share in selective.share]
    n, median, within = selective.n, selective.median_m, selective.within_100_m
    smallest = max(min(median), 1.0)
    return [
        Chart(
            "selective",
            "Answering only when sure: the error",
            "Median error against the share of queries that are answered, the surest first",
            percent_axis("queries answered, the surest first"),
            metre_axis("median error", [smallest, max(max(median), 2.0 * smallest)]),
            [
                Series(
                    "",
                    x,
                    [max(value, smallest) for value in median],
                    COLOURS[0],
                    [f"the surest {a:.0f} % ({m:,}): median {metres(v)}" for a, m, v in zip(x, n, median, strict=True)],
                )
            ],
        ),
        Chart(
            "selective-within-100-m",
            "Answering only when sure: within 100 m",
            "Share of answers within 100 m against the share of queries that are answered, the surest first",
            percent_axis("queries answered, the surest first"),
            percent_axis("answers within 100 m"),
            [
                Series(
                    "",
                    x,
                    [100.0 * value for value in within],
                    COLOURS[0],
                    [f"the surest {a:.0f} % ({m:,}): {percent(v)}" for a, m, v in zip(x, n, within, strict=True)],
                )
            ],
        ),
    ]
