"""A chart as data: drawn by the script of a page (templates/chart.js) and, the same, as a picture (chart_figure.py)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from swclip.reporting.units import area, distance, metres


@dataclass(frozen=True)
class Axis:
    """An axis of a chart.

    Attributes:
        title: What it shows, with its unit where the ticks have none.
        low: Value at the left or lower end.
        high: Value at the right or upper end.
        log: Whether each step is ten times the last.
        ticks: Values and what stands beside them.
    """

    title: str
    low: float
    high: float
    log: bool
    ticks: list[tuple[float, str]]


@dataclass(frozen=True)
class Series:
    """Points of a chart that belong together.

    Attributes:
        name: What they are, for the legend; empty for none.
        x: Along the horizontal axis.
        y: Along the vertical axis.
        colour: Of line and points.
        told: What a reader who points at each of them reads.
        style: A line through the points; steps, whose height holds until the next; points; or points on a line.
        dash: solid, dash, dot or dashdot.
        width: Of the line.
        low: Lower ends of the points' intervals, empty where they have none.
        high: Upper ends.
    """

    name: str
    x: list[float]
    y: list[float]
    colour: str
    told: list[str]
    style: Literal["line", "steps", "points", "both"] = "line"
    dash: str = "solid"
    width: float = 2.4
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Chart:
    """A chart of a page.

    Attributes:
        name: Its id on the page and its file's name.
        title: What it shows.
        alt: The same for someone who cannot see it.
        x: The horizontal axis.
        y: The vertical axis.
        series: What is drawn.
        uprights: Values of x with a dotted line.
        diagonal: Words beside the line on which y is x; empty for no such line.
    """

    name: str
    title: str
    alt: str
    x: Axis
    y: Axis
    series: list[Series]
    uprights: list[float] = field(default_factory=list)
    diagonal: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain values for the page's script."""
        return asdict(self)


def log_axis(title: str, values: Sequence[float], words: Callable[[float], str]) -> Axis:
    """A logarithmic axis that holds positive values, with a tick at each power of ten, and at 2 and 5 on a short one.

    Example:
        >>> log_axis("distance", [3.0, 240.0], distance).ticks
        [(5.0, '5.0 m'), (10.0, '10 m'), (20.0, '20 m'), (50.0, '50 m'), (100.0, '100 m'), (200.0, '200 m')]
    """
    low, high = min(values) / 1.15, max(values) * 1.15
    steps = (1.0,) if math.log10(high / low) >= 2.5 else (1.0, 2.0, 5.0)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [float(f"{step * 10.0**power:.3g}") for power in powers for step in steps]
    return Axis(title, low, high, True, [(tick, words(tick)) for tick in ticks if low <= tick <= high])


def metre_axis(title: str, values_m: Sequence[float]) -> Axis:
    """A logarithmic axis of distances."""
    return log_axis(title, values_m, lambda value: f"{value:.0f} m" if 1.0 <= value < 10.0 else distance(value))


def area_axis(title: str, values_km2: Sequence[float]) -> Axis:
    """A logarithmic axis of areas."""
    return log_axis(title, values_km2, area)


def linear_axis(title: str, low: float, high: float, words: Callable[[float], str]) -> Axis:
    """A linear axis with four to seven ticks at round values.

    Example:
        >>> linear_axis("share", 0.0, 100.0, "{:.0f} %".format).ticks
        [(0.0, '0 %'), (20.0, '20 %'), (40.0, '40 %'), (60.0, '60 %'), (80.0, '80 %'), (100.0, '100 %')]
    """
    rough = (high - low) / 5.0
    ten = 10.0 ** math.floor(math.log10(rough))
    step = min((one * ten for one in (1.0, 2.0, 2.5, 5.0, 10.0)), key=lambda own: abs(own - rough))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    ticks = [float(f"{step * at:.6g}") for at in range(first, last + 1)]
    return Axis(title, low, high, False, [(tick, words(tick)) for tick in ticks])


def percent_axis(title: str) -> Axis:
    """A linear axis of shares in percent, whole."""
    return linear_axis(title, 0.0, 100.0, "{:.0f} %".format)


def error_chart(name: str, curves: Sequence[tuple[str, dict[str, list[float]], str, str, float]]) -> Chart:
    """The cumulative curves of errors on one chart.

    Args:
        name: Of the chart.
        curves: Name, curve as `error_curve` gives it, colour, dash and width of each.
    """
    far = max(curve["x"][-1] for _, curve, _, _, _ in curves)
    return Chart(
        name,
        "Share of queries answered within each distance",
        "Cumulative curve of the localization error",
        Axis("distance from the truth", 1.0, max(far * 1.15, 10.0), True, metre_axis("", [1.0, max(far, 10.0)]).ticks),
        percent_axis("queries answered within it"),
        [
            Series(
                label,
                curve["x"],
                curve["y"],
                colour,
                [f"{y:.1f} % within {metres(x)}" for x, y in zip(curve["x"], curve["y"], strict=True)],
                "steps",
                dash,
                width,
            )
            for label, curve, colour, dash, width in curves
        ],
        uprights=[25.0, 100.0],
    )
