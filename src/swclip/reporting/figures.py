"""The figures of a report: its charts and maps as matplotlib figures, and as files for a paper or a slide."""

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
_REGIONS = 30
_PALE = "#b3cbe3"


def write_figures(folder: str | os.PathLike[str], evaluation: Evaluation, *, title: str = "") -> list[Path]:
    """Write the figures of a report as PNG and SVG; the same evaluation gives the same bytes.

    Args:
        folder: Where they go: error-curve, map, and as far as they were measured lisa-map, regions (of more than one),
            correlogram, reliability, area, selective and selective-within-100-m.
        evaluation: What to draw.
        title: Name of what was evaluated, for the legend of the error curve.

    Returns:
        The files, each whole.

    Raises:
        DiskFullError: The disk filled.
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
        write("regions", regions_figure(evaluation))
    return written


def clear_figures(folder: str | os.PathLike[str]) -> None:
    """Remove what `write_figures` wrote into a folder, and the folder if it is then empty."""
    out = Path(folder)
    for name in FIGURES:
        for kind in _FORMATS:
            (out / f"{name}.{kind}").unlink(missing_ok=True)
    if out.is_dir() and not any(out.iterdir()):
        out.rmdir()


def curve_figure(evaluation: Evaluation, *, size: tuple[float, float] = SIZE, titled: bool = True) -> Figure:
    """The share of queries answered within each distance, with the oracle error where the gallery is known.

    Args:
        evaluation: What to draw.
        size: Width and height, inches.
        titled: Whether a title stands above it.
    """
    return chart_figure(error_curve_chart(str(evaluation.report.estimator), evaluation), size=size, titled=titled)


def reliability_figure(evaluation: Evaluation, *, size: tuple[float, float] = SIZE) -> Figure:
    """How often the truth was within 25 m of the answer, against the probability that was stated for it.

    The report's own bins, or where it has none (of an earlier version) those of its probabilities.

    Args:
        evaluation: What to draw.
        size: Width and height, inches.

    Raises:
        InputError: The system stated no probabilities.
    """
    calibration = evaluation.report.calibration
    chart = reliability_chart((calibration and calibration.reliability) or _bins(evaluation))
    if chart is None:
        raise InputError("these answers come without probabilities, so there is nothing to check them against.")
    return chart_figure(chart, size=size)


def regions_figure(evaluation: Evaluation, *, most: int = _REGIONS, size: tuple[float, float] | None = None) -> Figure:
    """Median and 95th percentile of the error in each region, hardest on top.

    Args:
        evaluation: What to draw.
        most: The hardest regions that are drawn.
        size: Width and height, inches; by the number of regions where None.
    """
    chart = regions_chart(evaluation, most)
    return chart_figure(chart, size=size or (7.2, 1.6 + 0.32 * len(chart.y.ticks)))


def regions_chart(evaluation: Evaluation, most: int = _REGIONS) -> Chart:
    """Median and 95th percentile of the error by region: names stand along the vertical axis."""
    by_region = evaluation.report.by_region
    regions = sorted(by_region.items(), key=lambda item: item[1].median)[-most:]
    at = [float(number) for number in range(len(regions))]
    errors = {"median": [own.median for _, own in regions], "p95": [own.p95 for _, own in regions]}
    found = {key: [max(value, 1.0) for value in values] for key, values in errors.items()}

    def points(name: str, key: str, colour: str) -> Series:
        told = [f"{region}: {metres(value)}" for (region, _), value in zip(regions, errors[key], strict=True)]
        return Series(name, found[key], at, colour, told, "points")

    lines = [
        Series("", [median, p95], [y, y], _PALE, ["", ""], width=4.0)
        for y, median, p95 in zip(at, found["median"], found["p95"], strict=True)
    ]
    names = [(y, f"{region} ({own.n:,})") for y, (region, own) in zip(at, regions, strict=True)]
    return Chart(
        "regions",
        f"Error by region{f': the {most} hardest' if len(by_region) > most else ''}",
        "Median and 95th percentile of the error in each region, the hardest on top",
        metre_axis("localization error", [*found["median"], *found["p95"]]),
        Axis("", -0.6, len(regions) - 0.4, False, names),
        [*lines, points("95th percentile", "p95", COLOURS[2]), points("median", "median", COLOURS[0])],
    )


def _bins(evaluation: Evaluation) -> list[ReliabilityBin]:
    frame = evaluation.predictions
    probability = frame["probability"].to_numpy(dtype=np.float64)
    known = np.isfinite(probability)
    if not known.any():
        return []
    hits = frame["error_m"].to_numpy(dtype=np.float64) <= RECALL_RADIUS_M
    blocks = np.unique(frame["block"].astype(str), return_inverse=True)[1]
    return reliability(probability[known], hits[known], blocks[known])
