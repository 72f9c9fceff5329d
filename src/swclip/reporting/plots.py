"""A chart as a picture: the same data that the page's script draws, drawn by matplotlib."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from swclip.files import atomic_file
from swclip.reporting.chart import Chart, Series

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZE = (7.2, 4.4)
"""Width and height of a chart, inches."""

_DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
# A legend of more lines than this stands beside the chart: within it would hide them.
_LINES_BESIDE = 6


def chart_figure(chart: Chart, *, size: tuple[float, float] = SIZE, titled: bool = True) -> Figure:
    """Draw a chart as a matplotlib figure that no window shows.

    Args:
        chart: What to draw.
        size: Width and height, inches.
        titled: Whether the chart's title stands above it.
    """
    figure = new_figure(*size)
    axes = figure.subplots()
    for at in chart.uprights:
        axes.axvline(at, color="#b7c1cb", linewidth=0.8, linestyle=":")
    if chart.diagonal:
        axes.plot([chart.x.low, chart.x.high], [chart.y.low, chart.y.high], "--", color="#8b97a3", linewidth=1.0)
        axes.annotate(chart.diagonal, (0.86 * chart.x.high, 0.93 * chart.y.high), ha="right", color="#566372")
    for series in chart.series:
        _draw(axes, series)
    for axis, set_scale, set_lim, set_ticks, set_label in (
        (chart.x, axes.set_xscale, axes.set_xlim, axes.set_xticks, axes.set_xlabel),
        (chart.y, axes.set_yscale, axes.set_ylim, axes.set_yticks, axes.set_ylabel),
    ):
        set_scale("log" if axis.log else "linear")
        room = 0.0 if axis.log else 0.01 * (axis.high - axis.low)
        set_lim(axis.low, axis.high + room)
        set_ticks([value for value, _ in axis.ticks], [literal(words) for _, words in axis.ticks])
        set_label(axis.title)
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    named = sum(bool(series.name) for series in chart.series)
    beside: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)} if named > _LINES_BESIDE else {}
    if named > 1:
        axes.legend(frameon=False, fontsize=9, **beside)
    if titled and chart.title:
        axes.set_title(literal(chart.title), loc="left", fontsize=11)
    return figure


def write_chart(
    paths: Sequence[str | os.PathLike[str]], chart: Chart, *, size: tuple[float, float] = SIZE, titled: bool = True
) -> None:
    """Draw a chart into files; the same chart gives the same bytes.

    Args:
        paths: Pictures to write; their endings say the format (PNG, SVG, PDF).
        chart: What to draw.
        size: Width and height, inches.
        titled: Whether the chart's title stands above it.
    """
    save(paths, chart_figure(chart, size=size, titled=titled))


def _draw(axes: Any, series: Series) -> None:
    x, y = np.asarray(series.x), np.asarray(series.y)
    style = {"color": series.colour, "linewidth": series.width, "linestyle": _DASHES[series.dash]}
    label = literal(series.name) or None
    if series.style == "steps":
        axes.step([x[0], *x], [0.0, *y], where="post", label=label, **style)
    elif series.style != "points":
        axes.plot(x, y, label=label, **style)
    if len(series.low):
        axes.vlines(x, series.low, series.high, color=series.colour, linewidth=5.0, alpha=0.28)
    if series.style in ("points", "both"):
        own = label if series.style == "points" else None
        axes.scatter(x, y, s=32, color=series.colour, edgecolors="white", linewidths=0.8, zorder=3, label=own)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure that no window shows, inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def literal(text: str) -> str:
    """A name from a file as it is: matplotlib would read formulas between dollar signs."""
    return text.replace("$", r"\$")


def save(paths: Sequence[str | os.PathLike[str]], figure: Figure) -> None:
    """Write a figure without a date: the same figure gives the same bytes."""
    import matplotlib

    for path in paths:
        # Text as text, and no drawn names: the file is small.
        with matplotlib.rc_context({"svg.hashsalt": "swclip", "svg.fonttype": "none"}), atomic_file(path) as beside:
            kind = Path(path).suffix.removeprefix(".")
            figure.savefig(beside, dpi=150, format=kind, metadata={"Date": None} if kind == "svg" else None)


def data_uri(figure: Figure) -> str:
    """A figure as the address of an SVG picture that holds it; the same text for the same numbers.

    As a picture of its own its names and styles cannot get into those of the page it stands in.
    """
    import matplotlib

    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "swclip", "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(stream.getvalue()).decode()}"
