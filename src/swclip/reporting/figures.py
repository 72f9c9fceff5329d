"""Charts and maps of a report as matplotlib figures and as files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from swclip.errors import InputError
from swclip.evaluation.result import Evaluation
from swclip.metrics.calibration import ReliabilityBin, reliability
from swclip.metrics.localization_error import RECALL_RADIUS_M
from swclip.reporting.confidence_section import reliability_chart
from swclip.reporting.map_figure import map_figure
from swclip.reporting.page import COLOURS
from swclip.reporting.plots import SIZE, Axis, Chart, Series, chart_figure, metre_axis, save
from swclip.reporting.report import error_curve_chart, report_charts
from swclip.reporting.units import metres

if TYPE_CHECKING:
    from matplotlib.figure import Figure


FIGURES = (
    "error-curve",
    "map",
    "lisa-map",
    "regions",
    "correlogram",
    "reliability",
    "area",
    "selective",
    "selective-within-100-m",
)
"""Names of the figures that a report may have."""

_FORMATS = ("png", "svg")
_DISTRICTS = 30
_PALE = "#b3cbe3"


def write_figures(folder: str | os.PathLike[str], evaluation: Evaluation, *, title: str = "") -> list[Path]:
    """Write the figures of a report as PNG and SVG; equal evaluations give identical bytes.

    Args:
        folder: Output folder for error-curve and map and, where they were measured, lisa-map, regions (with more than
            one district), correlogram, reliability, area, selective and selective-within-100-m.
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
