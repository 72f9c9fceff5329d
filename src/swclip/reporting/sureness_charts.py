"""The charts of a calibration: whether probabilities hold, how much ground regions take, what answering less gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from swclip.reporting.chart import (Chart, Series, area_axis, metre_axis, percent_axis)
from swclip.reporting.page import COLOURS, interval_text
from swclip.reporting.units import area, metres, percent


def sureness_charts(calibration: Mapping[str, Any]) -> list[Chart]:
    """The charts of a calibration, those that have points."""
    found = (
        reliability_chart(calibration.get("reliability") or []),
        _area_chart(calibration.get("area_curve")),
        *_selective_charts(calibration.get("selective")),
    )
    return [chart for chart in found if chart is not None]


def reliability_chart(bins: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Measured against stated probability; None where no bin holds an answer."""
    known = [own for own in bins if own["n"]]
    if not known:
        return None
    series = Series(
        "",
        [100.0 * own["mean_probability"] for own in known],
        [100.0 * own["coverage"] for own in known],
        COLOURS[0],
        [
            f"said {percent(own['mean_probability'])}, right {percent(own['coverage'])} "
            f"[{interval_text(own['coverage_interval'], percent)}]; {own['n']:,} queries"
            for own in known
        ],
        "both",
        width=1.6,
        low=[100.0 * own["coverage_interval"][0] for own in known],
        high=[100.0 * own["coverage_interval"][1] for own in known],
    )
    return Chart(
        "reliability",
        "Does it know when it is right?",
        "Measured against stated probability that the truth is within 25 m of the answer",
        percent_axis("what the system says"),
        percent_axis("how often it is right"),
        [series],
        diagonal="honest",
    )


def _area_chart(curve: Mapping[str, Sequence[float]] | None) -> Chart | None:
    points = [(a, r) for a, r in zip(curve["area_km2"], curve["recall"], strict=True) if a > 0] if curve else []
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


def _selective_charts(selective: Mapping[str, Any] | None) -> list[Chart]:
    if not selective or len(selective["share"]) < 2:
        return []
    x = [100.0 * share for share in selective["share"]]
    n, median, within = selective["n"], selective["median_m"], selective["within_100_m"]
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
