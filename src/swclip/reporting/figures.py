"""Charts and maps of a report as matplotlib figures and as files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from swclip.errors import InputError
from swclip.evaluation.result import Evaluation
from swclip.geo.coordinates import LocalFrame
from swclip.metrics.calibration import ReliabilityBin, reliability
from swclip.metrics.localization_error import RECALL_RADIUS_M
from swclip.reporting.map_data import ERROR_CLASSES_M, LISA_LABELS
from swclip.reporting.page import COLOURS
from swclip.reporting.plots import SIZE, Axis, Chart, Series, chart_figure, literal, metre_axis, new_figure, save
from swclip.reporting.reliability import reliability_chart
from swclip.reporting.report import error_curve_chart, report_charts
from swclip.reporting.units import distance, metres

if TYPE_CHECKING:
    from matplotlib.figure import Figure


FIGURES = (
    "error-curve",
    "map",
    "lisa-map",
    "regions",
    "correlogram",
    "stated",
    "reliability",
    "area",
    "selective",
    "selective-within-100-m",
)
"""Names of the figures that a report may have."""

_FORMATS = ("png", "svg")
_DISTRICTS = 30
_PALE = "#b3cbe3"

# The colours of the page (templates/query_map.js).
_CLASS_COLOURS = ("#2166ac", "#5aa7d6", "#f2b134", "#e5702a", "#a5122a")
_LISA_COLOURS = ("#b2182b", "#2166ac", "#f0885d", "#6fb1d8", "#98a5b1")
_PANELS = 12
_MARGIN_SHARE, _MARGIN_M = 0.06, 60.0


def write_figures(folder: str | os.PathLike[str], evaluation: Evaluation, *, title: str = "") -> list[Path]:
    """Write the figures of a report as PNG and SVG; equal evaluations give identical bytes.

    Args:
        folder: Output folder for error-curve and map and, where they were measured, lisa-map, regions (with more than
            one district), correlogram, stated, reliability, area, selective and selective-within-100-m.
        evaluation: What to draw.
        title: Name of the system in the legend of the error curve.

    Returns:
        The written files.

    Raises:
        DiskFullError: The disk is full.
        InputError: The folder cannot be written.
    """
    out, written = Path(folder), []

    def write(name: str, figure: Figure) -> None:
        paths = [out / f"{name}.{kind}" for kind in _FORMATS]
        save(paths, figure)
        written.extend(paths)

    for chart in report_charts(title or "system", evaluation):
        write(chart.name, chart_figure(chart))
    write("map", map_figure(evaluation))
    frame = evaluation.predictions
    if "lisa" in frame and frame["lisa"].notna().any():
        write("lisa-map", map_figure(evaluation, colour="lisa"))
    if len(evaluation.report.by_region) > 1:
        write("regions", districts_figure(evaluation))
    return written


def clear_figures(folder: str | os.PathLike[str]) -> None:
    """Remove the files of `write_figures` from a folder, and the folder if it is then empty."""
    out = Path(folder)
    for name in FIGURES:
        for kind in _FORMATS:
            (out / f"{name}.{kind}").unlink(missing_ok=True)
    if out.is_dir() and not any(out.iterdir()):
        out.rmdir()


def curve_figure(evaluation: Evaluation, *, size: tuple[float, float] = SIZE, titled: bool = True) -> Figure:
    """The error distribution, with the oracle error where the gallery is known.

    Args:
        evaluation: What to draw.
        size: Width and height, inches.
        titled: Whether to draw the title.
    """
    return chart_figure(error_curve_chart(str(evaluation.report.estimator), evaluation), size=size, titled=titled)


def reliability_figure(evaluation: Evaluation, *, size: tuple[float, float] = SIZE) -> Figure:
    """Reliability diagram: observed share of answers within 25 m against the stated probability of it.

    The bins are those of the report; for reports of an earlier version they are computed from the predictions.

    Args:
        evaluation: What to draw.
        size: Width and height, inches.

    Raises:
        InputError: The system stated no probabilities.
    """
    calibration = evaluation.report.calibration
    chart = reliability_chart((calibration and calibration.reliability) or _bins(evaluation))
    if chart is None:
        raise InputError("these answers have no probabilities, so their reliability cannot be measured.")
    return chart_figure(chart, size=size)


def districts_figure(
    evaluation: Evaluation, *, most: int = _DISTRICTS, size: tuple[float, float] | None = None
) -> Figure:
    """Median and 95th percentile of the error in each district, largest median on top.

    Args:
        evaluation: What to draw.
        most: Number of districts with the largest medians that are drawn.
        size: Width and height, inches; set by the number of districts where None.
    """
    chart = districts_chart(evaluation, most)
    return chart_figure(chart, size=size or (7.2, 1.6 + 0.32 * len(chart.y.ticks)))


def districts_chart(evaluation: Evaluation, most: int = _DISTRICTS) -> Chart:
    """Median and 95th percentile of the error by district, with the names along the vertical axis."""
    by_region = evaluation.report.by_region
    districts = sorted(by_region.items(), key=lambda item: item[1].median)[-most:]
    at = [float(number) for number in range(len(districts))]
    errors = {"median": [figures.median for _, figures in districts], "p95": [figures.p95 for _, figures in districts]}
    drawn = {key: [max(value, 1.0) for value in values] for key, values in errors.items()}

    def points(name: str, key: str, colour: str) -> Series:
        labels = [f"{district}: {metres(value)}" for (district, _), value in zip(districts, errors[key], strict=True)]
        return Series(name, drawn[key], at, colour, labels, "points")

    lines = [
        Series("", [median, p95], [y, y], _PALE, ["", ""], width=4.0)
        for y, median, p95 in zip(at, drawn["median"], drawn["p95"], strict=True)
    ]
    names = [(y, f"{district} ({figures.n:,})") for y, (district, figures) in zip(at, districts, strict=True)]
    return Chart(
        "regions",
        f"Error by district{f': the {most} with the largest medians' if len(by_region) > most else ''}",
        "Median and 95th percentile of the error in each district, the largest median on top",
        metre_axis("localization error", [*drawn["median"], *drawn["p95"]]),
        Axis("", -0.6, len(districts) - 0.4, False, names),
        [*lines, points("95th percentile", "p95", COLOURS[2]), points("median", "median", COLOURS[0])],
    )


def _bins(evaluation: Evaluation) -> list[ReliabilityBin]:
    frame = evaluation.predictions
    probability = frame["probability"].to_numpy(dtype=np.float64)
    stated = np.isfinite(probability)
    if not stated.any():
        return []
    hits = frame["error_m"].to_numpy(dtype=np.float64) <= RECALL_RADIUS_M
    blocks = np.unique(frame["block"].astype(str), return_inverse=True)[1]
    return reliability(probability[stated], hits[stated], blocks[stated])


def map_figure(
    evaluation: Evaluation,
    *,
    colour: Literal["error", "lisa"] = "error",
    region: str | None = None,
    size: tuple[float, float] | None = None,
) -> Figure:
    """Draw queries and candidates, one panel per city; of many cities those with most queries.

    Args:
        evaluation: The evaluation to draw.
        colour: Colour by error or by cluster of errors (LISA).
        region: Draw only the queries of this district.
        size: Width and height in inches; set by the number of panels where None.

    Raises:
        InputError: There is no such district, or clusters were not measured.
    """
    frame = evaluation.predictions
    if region is not None:
        frame = frame[frame["region"] == region]
        if len(frame) == 0:
            options = evaluation.predictions["region"].value_counts().index[:20]
            raise InputError(f"district {region!r} is not in the report; choose one of {', '.join(map(str, options))}.")
    classes, labels, colours, order = _by_error(frame) if colour == "error" else _by_cluster(frame)
    cities = frame["city"].fillna("unknown city").astype(str)
    if region is not None:
        cities = pd.Series(region, index=frame.index)
    counts = cities.value_counts()
    names = sorted(counts.index[:_PANELS])
    across = min(len(names), 4)
    down = -(-len(names) // across)
    figure = new_figure(*(size or (max(6.4, 3.6 * across), (6.4 if across == 1 else 3.7 * down) + 0.5)))
    panels = np.atleast_1d(figure.subplots(down, across)).reshape(-1)
    places = evaluation.candidates[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)
    truth, error = frame[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64), frame["error_m"].to_numpy(dtype=np.float64)
    for axes, name in zip(panels, names, strict=False):
        rows = np.flatnonzero((cities == name).to_numpy())
        title = name
        if len(names) == 1:
            title = f"{name}: {len(rows):,} queries, median error {metres(float(np.median(error[rows])))}"
        _panel(axes, title, truth[rows], places, classes[rows], colours, order)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    _legend(figure, labels, colours, len(names), len(counts))
    return figure


_Coloured = tuple[Int64[np.ndarray, " n"], list[str], Sequence[str], Sequence[int]]


def _by_error(frame: pd.DataFrame) -> _Coloured:
    """Class of each query, names and colours of the classes, and the order in which they are drawn."""
    labels = [f"within {distance(ERROR_CLASSES_M[0])}"]
    labels += [f"to {distance(edge)}" for edge in ERROR_CLASSES_M[1:]]
    labels.append(f"over {distance(ERROR_CLASSES_M[-1])}")
    classes = np.searchsorted(ERROR_CLASSES_M, frame["error_m"].to_numpy(dtype=np.float64), side="left")
    return classes, labels, _CLASS_COLOURS, range(len(labels))


def _by_cluster(frame: pd.DataFrame) -> _Coloured:
    if "lisa" not in frame or frame["lisa"].isna().all():
        raise InputError("clusters of errors were not measured: there are too few queries, or all are at one position.")
    number = {label: at for at, label in enumerate(LISA_LABELS)}
    classes = np.asarray([number.get(label, len(LISA_LABELS) - 1) for label in frame["lisa"]], dtype=np.int64)
    return classes, list(LISA_LABELS), _LISA_COLOURS, range(len(LISA_LABELS) - 1, -1, -1)  # the clusters on top


def _panel(
    axes: Any,
    title: str,
    truth_deg: Float64[np.ndarray, "n 2"],
    places_deg: Float64[np.ndarray, "m 2"],
    classes: Int64[np.ndarray, " n"],
    colours: Sequence[str],
    order: Sequence[int],
) -> None:
    local = LocalFrame.around(truth_deg)
    xy, faint = local.to_xy_m(truth_deg), local.to_xy_m(places_deg)
    low, high = xy.min(axis=0), xy.max(axis=0)
    margin = np.maximum((high - low) * _MARGIN_SHARE, _MARGIN_M)
    low, high = low - margin, high + margin
    faint = faint[((faint >= low) & (faint <= high)).all(axis=1)]
    # Thousands of dots are rasterised: as shapes they would make the SVG too large.
    many = len(xy) + len(faint) > 5_000
    axes.scatter(faint[:, 0], faint[:, 1], s=1.5, color="#bcc6cf", linewidths=0, rasterized=many, label="candidate")
    size = 5.0 if len(xy) > 1_500 else 12.0
    for at in order:
        points = xy[classes == at]
        axes.scatter(
            points[:, 0], points[:, 1], s=size, color=colours[at], edgecolors="white", linewidths=0.25, rasterized=many
        )
    axes.set_aspect("equal")
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    axes.tick_params(labelsize=7, colors="#566372")
    axes.set_xlabel("metres east", fontsize=8)
    axes.set_ylabel("metres north", fontsize=8)
    for side in axes.spines.values():
        side.set_color("#dfe4ea")
    axes.set_title(literal(title), loc="left", fontsize=10)


def _legend(figure: Any, labels: Sequence[str], colours: Sequence[str], drawn: int, cities: int) -> None:
    from matplotlib.lines import Line2D

    dots = [
        Line2D([], [], marker="o", linestyle="", markersize=6, color=colour, label=label)
        for label, colour in zip(labels, colours, strict=True)
    ]
    figure.legend(handles=dots, loc="outside lower center", ncols=len(dots), frameon=False, fontsize=8.5)
    if drawn < cities:
        figure.suptitle(f"{drawn} of {cities} cities, those with most queries", fontsize=9, x=0.01, ha="left")
