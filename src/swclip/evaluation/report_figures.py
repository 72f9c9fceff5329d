"""The figures of a report as files: its charts and its maps, for a paper or a slide."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from swclip.evaluation.chart_figure import literal, new_figure, save, write_chart
from swclip.evaluation.map_data import ERROR_CLASSES_M, LISA_LABELS
from swclip.evaluation.measure import Evaluation
from swclip.evaluation.report import report_charts
from swclip.evaluation.words import distance
from swclip.geo.coordinates import LocalFrame

# As on the page (templates/map.js).
_CLASS_COLOURS = ("#2166ac", "#5aa7d6", "#f2b134", "#e5702a", "#a5122a")
_LISA_COLOURS = ("#b2182b", "#2166ac", "#f0885d", "#6fb1d8", "#98a5b1")
_FORMATS = ("png", "svg")
_PANELS = 12
_MARGIN_SHARE, _MARGIN_M = 0.06, 60.0


def write_figures(folder: str | os.PathLike[str], evaluation: Evaluation, *, title: str = "") -> list[Path]:
    """Write the figures of a report as PNG and SVG; the same evaluation gives the same bytes.

    Args:
        folder: Where they go: error-curve, map, and as far as they were measured lisa-map, correlogram, reliability,
            area, selective and selective-within-100-m.
        evaluation: What to draw.
        title: Name of what was evaluated, for the legend of the error curve.

    Returns:
        The files, each whole.

    Raises:
        DiskFullError: The disk filled.
        InputError: The folder cannot be written.
    """
    out, written = Path(folder), []
    for chart in report_charts(title or "system", evaluation):
        paths = [out / f"{chart.name}.{kind}" for kind in _FORMATS]
        write_chart(paths, chart)
        written += paths
    frame = evaluation.predictions
    error = frame["error_m"].to_numpy(dtype=np.float64)
    labels = [f"within {distance(ERROR_CLASSES_M[0])}"]
    labels += [f"to {distance(edge)}" for edge in ERROR_CLASSES_M[1:]]
    labels.append(f"over {distance(ERROR_CLASSES_M[-1])}")
    classes = np.searchsorted(ERROR_CLASSES_M, error, side="left")
    written += _write_map(out, "map", evaluation, classes, labels, _CLASS_COLOURS, range(len(labels)))
    if "lisa" in frame and frame["lisa"].notna().any():
        number = {label: at for at, label in enumerate(LISA_LABELS)}
        lisa = np.asarray([number.get(label, len(LISA_LABELS) - 1) for label in frame["lisa"]])
        order = range(len(LISA_LABELS) - 1, -1, -1)  # the clusters on top
        written += _write_map(out, "lisa-map", evaluation, lisa, list(LISA_LABELS), _LISA_COLOURS, order)
    return written


def _write_map(
    folder: Path,
    name: str,
    evaluation: Evaluation,
    classes: np.ndarray,
    labels: Sequence[str],
    colours: Sequence[str],
    order: Sequence[int],
) -> list[Path]:
    """The queries as dots coloured by class, a panel a city: the cities with most queries where there are many."""
    frame = evaluation.predictions
    cities = frame["city"].fillna("no city named").astype(str)
    counts = cities.value_counts()
    names = sorted(counts.index[:_PANELS])
    across = min(len(names), 4)
    down = -(-len(names) // across)
    figure = new_figure(max(6.4, 3.6 * across), (6.4 if across == 1 else 3.7 * down) + 0.5)
    panels = np.atleast_1d(figure.subplots(down, across)).reshape(-1)
    places = evaluation.candidates[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)
    truth = frame[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)
    for axes, city in zip(panels, names, strict=False):
        rows = np.flatnonzero((cities == city).to_numpy())
        _panel(axes, city if len(names) > 1 else "", truth[rows], places, classes[rows], colours, order)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    _legend(figure, labels, colours, len(names), len(counts))
    paths = [folder / f"{name}.{kind}" for kind in _FORMATS]
    save(paths, figure)
    return paths


def _panel(
    axes: Any,
    city: str,
    truth_deg: Float64[np.ndarray, "n 2"],
    places_deg: Float64[np.ndarray, "m 2"],
    classes: np.ndarray,
    colours: Sequence[str],
    order: Sequence[int],
) -> None:
    local = LocalFrame.around(truth_deg)
    xy, faint = local.to_xy_m(truth_deg), local.to_xy_m(places_deg)
    low, high = xy.min(axis=0), xy.max(axis=0)
    margin = np.maximum((high - low) * _MARGIN_SHARE, _MARGIN_M)
    low, high = low - margin, high + margin
    faint = faint[((faint >= low) & (faint <= high)).all(axis=1)]
    # Thousands of dots are a picture within the SVG: as shapes they would make a file that no program likes to open.
    many = len(xy) + len(faint) > 5_000
    axes.scatter(faint[:, 0], faint[:, 1], s=1.5, color="#bcc6cf", linewidths=0, rasterized=many)
    for at in order:
        own = xy[classes == at]
        size = 5.0 if len(xy) > 1_500 else 12.0
        axes.scatter(
            own[:, 0], own[:, 1], s=size, color=colours[at], edgecolors="white", linewidths=0.25, rasterized=many
        )
    axes.set_aspect("equal")
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    axes.tick_params(labelsize=7, colors="#566372")
    axes.set_xlabel("metres east", fontsize=8)
    axes.set_ylabel("metres north", fontsize=8)
    for side in axes.spines.values():
        side.set_color("#dfe4ea")
    if city:
        axes.set_title(literal(city), loc="left", fontsize=10)


def _legend(figure: Any, labels: Sequence[str], colours: Sequence[str], drawn: int, cities: int) -> None:
    from matplotlib.lines import Line2D

    dots = [
        Line2D([], [], marker="o", linestyle="", markersize=6, color=colour, label=label)
        for label, colour in zip(labels, colours, strict=True)
    ]
    figure.legend(handles=dots, loc="outside lower center", ncols=len(dots), frameon=False, fontsize=8.5)
    if drawn < cities:
        figure.suptitle(f"The {drawn} of {cities} cities with most queries", fontsize=9, x=0.01, ha="left")
