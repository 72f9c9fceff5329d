"""Pictures of one evaluation, as matplotlib figures: no state is shared, so a notebook and a server may both ask."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from jaxtyping import Float64

from swclip.errors import InputError
from swclip.evaluation.figures import error_curve
from swclip.evaluation.map_data import ERROR_CLASSES_M
from swclip.evaluation.page import COLOURS, REFERENCE_COLOUR
from swclip.evaluation.words import distance, metres
from swclip.geo.coordinates import LocalFrame
from swclip.measures.metrics import RECALL_RADIUS_M

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from swclip.evaluation.measure import Evaluation

CLASS_COLOURS = ("#1a9850", "#91cf60", "#fdae61", "#d73027", "#5c1a1a")
"""Of the errors below 25, 100, 500 and 5,000 m, and beyond."""

_MAP_QUERIES, _MAP_CANDIDATES = 3_000, 5_000
_BINS = 10
_INK, _FAINT, _RULE = "#18212b", "#566372", "#b7c1cb"


def curve_figure(evaluation: Evaluation, *, size: tuple[float, float] = (7.0, 4.2)) -> Figure:
    """The share of queries answered within each distance, with the floor where the gallery is known.

    Args:
        evaluation: What to draw.
        size: Width and height in inches.
    """
    frame, report = evaluation.predictions, evaluation.report
    figure, axes = _axes(size)
    lines = [(str(report["estimator"]), frame["error_m"].to_numpy(dtype=np.float64), COLOURS[0], "-", 2.0)]
    if report["baselines"]["floor"] is not None:
        lines.append(("floor", frame["floor_m"].to_numpy(dtype=np.float64), REFERENCE_COLOUR, "--", 1.4))
    for at in (25.0, 100.0):
        axes.axvline(at, color=_RULE, linewidth=0.8, linestyle=":")
    far = 10.0
    for name, errors, colour, dash, width in lines:
        curve = error_curve(errors)
        far = max(far, curve["x"][-1])
        x, y = [0.5, *curve["x"]], [0.0, *curve["y"]]
        axes.step(x, y, where="post", color=colour, linestyle=dash, linewidth=width, label=plain(name))
    _metres_along(axes, 1.0, far * 1.15)
    axes.set_ylim(0.0, 101.0)
    axes.set_xlabel("distance from the truth")
    axes.set_ylabel("queries answered within it, %")
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    return figure


def map_figure(
    evaluation: Evaluation, *, region: str | None = None, seed: int = 0, size: tuple[float, float] = (7.0, 6.2)
) -> Figure:
    """The queries where they were taken, coloured by error, among the candidates.

    Args:
        evaluation: What to draw.
        region: A region of the report; where None the one with the most queries.
        seed: Which queries and candidates are left out where there are too many to draw.
        size: Width and height in inches.

    Raises:
        InputError: There is no such region.
    """
    frame = evaluation.predictions
    counts = frame["region"].value_counts()
    name = str(sorted(counts.index[counts == counts.max()])[0]) if region is None else region
    own = frame[frame["region"] == name]
    if len(own) == 0:
        raise InputError(f"there is no region {name!r}; there are {', '.join(map(str, counts.index[:20]))}.")
    generator = np.random.default_rng(seed)
    truth = own[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)
    local = LocalFrame.around(truth)
    xy, error = local.to_xy_m(truth), own["error_m"].to_numpy(dtype=np.float64)
    middle, reach = (xy.min(axis=0) + xy.max(axis=0)) / 2.0, float(np.ptp(xy, axis=0).max()) * 0.54 + 60.0
    figure, axes = _axes(size)
    if len(evaluation.candidates):
        places = local.to_xy_m(evaluation.candidates[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64))
        here = _some(places[(np.abs(places - middle) <= reach).all(axis=1)], _MAP_CANDIDATES, generator)
        axes.scatter(here[:, 0], here[:, 1], s=5, color="#c3ccd5", linewidths=0, label="candidate", rasterized=True)
    drawn = _some(np.argsort(error), _MAP_QUERIES, generator)
    kind = np.searchsorted(ERROR_CLASSES_M, error[drawn])
    for number, colour in enumerate(CLASS_COLOURS):
        these = drawn[kind == number]
        if len(these):
            axes.scatter(
                xy[these, 0], xy[these, 1], s=22, color=colour, edgecolors="white", linewidths=0.4,
                label=_class_name(number), zorder=3,
            )  # fmt: skip
    axes.set_xlim(middle[0] - reach, middle[0] + reach)
    axes.set_ylim(middle[1] - reach, middle[1] + reach)
    axes.set_aspect("equal")
    axes.set_xlabel("metres east")
    axes.set_ylabel("metres north")
    left_out = len(own) - len(drawn)
    note = f"{plain(name)}: {len(own):,} queries, median error {metres(float(np.median(error)))}"
    axes.set_title(note + (f" ({left_out:,} not drawn)" if left_out else ""), loc="left", fontsize=11)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)
    axes.grid(alpha=0.2)
    return figure


def reliability_figure(evaluation: Evaluation, *, size: tuple[float, float] = (4.8, 4.4)) -> Figure:
    """How often the truth was within 25 m of the answer, against the probability that was stated for it.

    Args:
        evaluation: What to draw.
        size: Width and height in inches.

    Raises:
        InputError: The system stated no probabilities.
    """
    bins = reliability_bins(evaluation)
    figure, axes = _axes(size)
    axes.plot([0.0, 1.0], [0.0, 1.0], color=_RULE, linewidth=1.0, linestyle="--", label="as promised")
    at = [own["mean_probability"] for own in bins]
    axes.plot(at, [own["coverage"] for own in bins], marker="o", color=COLOURS[0], linewidth=1.6, label="as found")
    for place, own in zip(at, bins, strict=True):
        if own.get("coverage_interval"):
            axes.plot([place, place], own["coverage_interval"], color=COLOURS[0], alpha=0.4, linewidth=2.0)
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(0.0, 1.0)
    axes.set_aspect("equal")
    axes.set_xlabel("stated probability that the truth is within 25 m")
    axes.set_ylabel("share of answers within 25 m")
    axes.grid(alpha=0.25)
    axes.legend(loc="upper left", frameon=False, fontsize=9)
    return figure


def reliability_bins(evaluation: Evaluation) -> list[dict[str, Any]]:
    """What `reliability_figure` draws: the report's own bins where it has them, else ten of equal width.

    Returns:
        low, high, n, mean_probability, coverage for each bin that holds an answer.

    Raises:
        InputError: The system stated no probabilities.
    """
    calibration = evaluation.report.get("calibration")
    if calibration and calibration.get("reliability"):
        return [dict(own) for own in calibration["reliability"] if own["n"]]
    probability = evaluation.predictions["probability"].to_numpy(dtype=np.float64)
    known = np.isfinite(probability)
    if not known.any():
        raise InputError("these answers come without probabilities, so there is nothing to check them against.")
    hit = evaluation.predictions["error_m"].to_numpy(dtype=np.float64)[known] <= RECALL_RADIUS_M
    stated = probability[known]
    number = np.minimum((stated * _BINS).astype(int), _BINS - 1)
    return [
        {
            "low": at / _BINS,
            "high": (at + 1) / _BINS,
            "n": int((number == at).sum()),
            "mean_probability": float(stated[number == at].mean()),
            "coverage": float(hit[number == at].mean()),
        }
        for at in sorted(set(number.tolist()))
    ]


def regions_figure(evaluation: Evaluation, *, most: int = 30, size: tuple[float, float] | None = None) -> Figure:
    """Median and 95th percentile of the error in each region, hardest on top.

    Args:
        evaluation: What to draw.
        most: The hardest regions that are drawn.
        size: Width and height in inches; by the number of regions where None.
    """
    regions = sorted(evaluation.report["by_region"].items(), key=lambda item: float(item[1]["median"]))[-most:]
    figure, axes = _axes(size or (7.0, 1.2 + 0.32 * len(regions)))
    at = np.arange(len(regions))
    median = np.maximum([own["median"] for _, own in regions], 1.0)
    p95 = np.maximum([own["p95"] for _, own in regions], 1.0)
    axes.hlines(at, median, p95, color=COLOURS[0], alpha=0.35, linewidth=4.0)
    axes.plot(median, at, "o", color=COLOURS[0], label="median")
    axes.plot(p95, at, "|", color=COLOURS[0], markersize=11, label="95th percentile")
    _metres_along(axes, float(median.min()) / 1.2, float(p95.max()) * 1.2)
    axes.set_ylim(-0.6, len(regions) - 0.4)
    axes.set_yticks(at, [f"{plain(name)} ({own['n']:,})" for name, own in regions])
    axes.set_xlabel("localization error")
    axes.grid(alpha=0.25, axis="x")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, frameon=False, fontsize=9)
    return figure


def plain(text: str) -> str:
    """A name that matplotlib shall not take for mathematics."""
    return text.replace("$", r"\$")


def _metres_along(axes: Any, low_m: float, high_m: float) -> None:
    """A logarithmic axis with ticks that are read as distances, also where it is shorter than a power of ten."""
    axes.set_xscale("log")
    axes.set_xlim(low_m, high_m)
    powers = [10.0**power for power in range(8)]
    ticks = [tick for tick in powers if low_m <= tick <= high_m]
    if len(ticks) < 3:
        steps = sorted(step * power for power in powers for step in (1.0, 2.0, 5.0))
        ticks = [tick for tick in steps if low_m <= tick <= high_m]
    axes.set_xticks(ticks, ["1 m" if tick == 1.0 else distance(tick).replace(".0 m", " m") for tick in ticks])
    axes.minorticks_off()


def _class_name(number: int) -> str:
    edges = ERROR_CLASSES_M
    return f"within {distance(edges[number])}" if number < len(edges) else f"beyond {distance(edges[-1])}"


def _some(rows: Float64[np.ndarray, "n ..."], most: int, generator: np.random.Generator) -> Any:
    return rows if len(rows) <= most else rows[np.sort(generator.choice(len(rows), size=most, replace=False))]


def _axes(size: tuple[float, float]) -> tuple[Figure, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def data_uri(figure: Figure) -> str:
    """A figure as the address of an SVG picture that holds it; the same text for the same numbers.

    As a picture of its own its names and styles cannot get into those of the page it stands in.
    """
    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "swclip", "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(stream.getvalue()).decode()}"
