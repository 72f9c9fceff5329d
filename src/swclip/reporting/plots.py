"""Charts as data, and their drawing with matplotlib for pages, files and notebooks."""

from __future__ import annotations

import base64
import io
import math
import os
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from swclip.files import atomic_file
from swclip.reporting.page import ErrorCurve
from swclip.reporting.units import area, distance, metres

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZE = (7.2, 4.4)
"""Width and height of a chart, inches."""

INK, SOFT, RULE, GUIDE, PAPER = "#18212b", "#566372", "#dfe4ea", "#8b97a3", "#ffffff"
"""Colours of text, of tick labels, of the grid, of reference lines and of the background, as in page.css."""

_DASHES: dict[str, Any] = {"solid": "-", "dash": (0, (4, 3)), "dot": (0, (1.2, 2)), "dashdot": (0, (5, 2, 1.2, 2))}
# Width of a legend's entry beside its text, in font sizes: the line, and the space around both.
_LEGEND_EMS = 6.0
# XML allows neither control characters nor lone surrogates.
_UNDRAWABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Axis:
    """An axis of a chart.

    Attributes:
        title: The quantity, with its unit where the ticks have none.
        low: Value at the left or lower end.
        high: Value at the right or upper end.
        log: Whether the axis is logarithmic.
        ticks: Values and their labels.
    """

    title: str
    low: float
    high: float
    log: bool
    ticks: list[tuple[float, str]]

    def share(self, value: float) -> float:
        """Position of a value along the axis, from 0 (low) to 1 (high)."""
        scale = math.log if self.log else float
        return (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low))


@dataclass(frozen=True)
class Series:
    """Points of a chart that belong together.

    Attributes:
        name: Name in the legend; empty for none.
        x: Horizontal values.
        y: Vertical values.
        colour: Of line and points.
        labels: Values of each point as text, for its tooltip and the list of values.
        style: Line, steps (constant up to the next point), points, or points on a line.
        dash: solid, dash, dot or dashdot.
        width: Width of the line.
        low: Lower ends of the points' intervals, empty where they have none.
        high: Upper ends.
    """

    name: str
    x: list[float]
    y: list[float]
    colour: str
    labels: list[str]
    style: Literal["line", "steps", "points", "both"] = "line"
    dash: str = "solid"
    width: float = 2.4
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Chart:
    """A chart of a page.

    Attributes:
        name: Id on the page, and file name.
        title: Title of the figure.
        alt: Alternative text.
        x: The horizontal axis.
        y: The vertical axis.
        series: The series.
        uprights: Values of x with a dotted vertical line.
        diagonal: Label of the line on which y is x; empty for no such line.
    """

    name: str
    title: str
    alt: str
    x: Axis
    y: Axis
    series: list[Series]
    uprights: list[float] = field(default_factory=list)
    diagonal: str = ""


def log_axis(title: str, values: Sequence[float], words: Callable[[float], str]) -> Axis:
    """A logarithmic axis that spans positive values, with ticks at powers of ten, on a short axis also at 2 and 5.

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
    step = min((factor * ten for factor in (1.0, 2.0, 2.5, 5.0, 10.0)), key=lambda size: abs(size - rough))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    ticks = [float(f"{step * at:.6g}") for at in range(first, last + 1)]
    return Axis(title, low, high, False, [(tick, words(tick)) for tick in ticks])


def percent_axis(title: str) -> Axis:
    """A linear axis from 0 to 100 %."""
    return linear_axis(title, 0.0, 100.0, "{:.0f} %".format)


def error_chart(name: str, curves: Sequence[tuple[str, ErrorCurve, str, str, float]]) -> Chart:
    """Error distributions on one chart.

    Args:
        name: Name of the chart.
        curves: Name, curve, colour, dash and width of each.
    """
    far = max(curve.x[-1] for _, curve, _, _, _ in curves)
    return Chart(
        name,
        "Error distribution (CDF)",
        "Cumulative distribution of the localization error",
        Axis("localization error", 1.0, max(far * 1.15, 10.0), True, metre_axis("", [1.0, max(far, 10.0)]).ticks),
        percent_axis("queries with at most this error"),
        [
            Series(
                label,
                curve.x,
                curve.y,
                colour,
                [f"{y:.1f} % within {metres(x)}" for x, y in zip(curve.x, curve.y, strict=True)],
                "steps",
                dash,
                width,
            )
            for label, curve, colour, dash, width in curves
        ],
        uprights=[25.0, 100.0],
    )


def chart_figure(
    chart: Chart, *, size: tuple[float, float] = SIZE, titled: bool = True, font_pt: float = 10.0
) -> Figure:
    """Draw a chart as a matplotlib figure without a window.

    Args:
        chart: The chart.
        size: Width and height in inches; a legend of more than one row adds to the height.
        titled: Whether to draw the chart's title.
        font_pt: Font size of the axes and the legend, points.
    """
    width_ems = size[0] * 72.0 / font_pt
    names = [_wrapped(series.name, width_ems - _LEGEND_EMS) for series in chart.series if series.name]
    columns, rows = _legend_shape(names, width_ems) if len(names) > 1 else (0, 0)
    figure = new_figure(size[0], size[1] + rows * 1.55 * font_pt / 72.0)
    axes = figure.subplots()
    for at in chart.uprights:
        axes.axvline(at, color=GUIDE, linewidth=1.0, linestyle=_DASHES["dot"])
    if chart.diagonal:
        axes.plot([chart.x.low, chart.x.high], [chart.y.low, chart.y.high], color=GUIDE, linestyle="--", linewidth=1.0)
        x, y = 0.84 * chart.x.high, 0.9 * chart.y.high
        axes.annotate(chart.diagonal, (x, y), ha="right", color=SOFT, fontsize=font_pt)
    for series in chart.series:
        _draw(axes, series, _wrapped(series.name, width_ems - _LEGEND_EMS))
    beside = max((_ems(literal(words)) for _, words in chart.y.ticks), default=0.0) + 1.6
    _axis(chart.x, axes.set_xscale, axes.set_xlim, axes.set_xticks, width_ems - beside)
    _axis(chart.y, axes.set_yscale, axes.set_ylim, axes.set_yticks, None)
    axes.minorticks_off()
    axes.tick_params(labelsize=font_pt, labelcolor=SOFT, length=0, pad=6)
    axes.tick_params(axis="x", pad=0.85 * font_pt)  # clear of the lowest label of the other axis
    axes.grid(color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(RULE)
    axes.set_xlabel(f"{chart.x.title} →", loc="right", color=INK, fontsize=font_pt)
    if chart.y.title:
        axes.annotate(
            f"↑ {chart.y.title}",
            (0.0, 1.0),
            (0.0, 0.6 * font_pt),
            xycoords="axes fraction",
            textcoords="offset points",
            color=INK,
            fontsize=font_pt,
        )
    if columns:
        figure.legend(
            loc="outside lower left", ncols=columns, frameon=False, fontsize=font_pt, labelcolor=INK, handlelength=2.4
        )
    if titled and chart.title:
        pad = 2.4 * font_pt if chart.y.title else 8.0
        axes.set_title(literal(chart.title), loc="left", color=INK, fontsize=1.1 * font_pt, pad=pad)
    return figure


def _legend_shape(names: Sequence[str], width_ems: float) -> tuple[int, int]:
    """Number of columns of a legend that fits the figure, and its height in lines of text."""
    widest = max(_ems(line) for name in names for line in name.splitlines())
    columns = max(1, min(len(names), 4, int(width_ems / (widest + _LEGEND_EMS))))
    rows = -(-len(names) // columns)
    return columns, sum(max(1 + name.count("\n") for name in names[row::rows]) for row in range(rows))


def _wrapped(name: str, most_ems: float) -> str:
    """Wrap a name to a width in font sizes."""
    text = literal(name)
    for characters in range(len(text), 1, -1):
        lines = textwrap.wrap(text, characters)
        if all(_ems(line) <= most_ems for line in lines):
            return "\n".join(lines)
    return text


def _ems(text: str) -> float:
    """Width of a line of text in font sizes, with a margin for hinting."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    return float(text_to_path.get_text_width_height_descent(text, FontProperties(size=10.0), False)[0]) / 9.6


def _axis(axis: Axis, set_scale: Any, set_lim: Any, set_ticks: Any, ems: float | None) -> None:
    """Scale, limits and ticks; `ems` is the length of the axis in font sizes, where labels could overlap."""
    set_scale("log" if axis.log else "linear")
    set_lim(axis.low, axis.high + (0.0 if axis.log else 0.01 * (axis.high - axis.low)))
    labels, free = [], -math.inf
    for value, words in axis.ticks:
        if ems is None:
            labels.append(literal(words))
            continue
        middle, half = axis.share(value) * ems, 0.5 * _ems(words) + 0.3
        labels.append(literal(words) if middle - half >= free else "")
        free = middle + half if labels[-1] else free
    set_ticks([value for value, _ in axis.ticks], labels)


def _draw(axes: Any, series: Series, label: str) -> None:
    x, y = np.asarray(series.x), np.asarray(series.y)
    style = {"color": series.colour, "linewidth": series.width, "linestyle": _DASHES[series.dash]}
    if series.style == "steps":
        axes.step([x[0], *x], [0.0, *y], where="post", label=label or None, **style)
    elif series.style != "points":
        axes.plot(x, y, label=label or None, **style)
    if len(series.low):
        axes.vlines(x, series.low, series.high, color=series.colour, linewidth=5.0, alpha=0.28)
    if series.style in ("points", "both"):
        name = label if series.style == "points" and label else None
        axes.scatter(x, y, s=40, color=series.colour, edgecolors=PAPER, linewidths=0.8, zorder=3, label=name)


def write_chart(
    paths: Sequence[str | os.PathLike[str]], chart: Chart, *, size: tuple[float, float] = SIZE, titled: bool = True
) -> None:
    """Write a chart to files; equal charts give identical bytes.

    Args:
        paths: Files to write; the suffix sets the format (PNG, SVG, PDF).
        chart: The chart.
        size: Width and height, inches.
        titled: Whether to draw the chart's title.
    """
    save(paths, chart_figure(chart, size=size, titled=titled))


def new_figure(width: float, height: float) -> Figure:
    """An empty figure without a window; width and height in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def printable(text: str) -> str:
    """Replace characters that an SVG file cannot contain."""
    return _UNDRAWABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def literal(text: str) -> str:
    """Escape a name: matplotlib would parse formulas between dollar signs."""
    return printable(text).replace("$", r"\$")


def fix_layout(figure: Figure) -> None:
    """Arrange a figure once; matplotlib would do it twice for each file that is saved, which takes most of the time."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)


def save(paths: Sequence[str | os.PathLike[str]], figure: Figure) -> None:
    """Write a figure without a date: equal figures give identical bytes."""
    import matplotlib

    fix_layout(figure)
    for path in paths:
        # Text is kept as text, which makes the file small.
        with matplotlib.rc_context({"svg.hashsalt": "swclip", "svg.fonttype": "none"}), atomic_file(path) as beside:
            kind = Path(path).suffix.removeprefix(".")
            figure.savefig(beside, dpi=150, format=kind, metadata={"Date": None} if kind == "svg" else None)


def data_uri(figure: Figure) -> str:
    """Encode a figure as the data: URI of an SVG image; equal figures give identical text.

    Ids and styles of an image cannot clash with those of the page that embeds it.
    """
    import matplotlib

    stream = io.BytesIO()
    fix_layout(figure)
    with matplotlib.rc_context({"svg.hashsalt": "swclip", "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(stream.getvalue()).decode()}"
