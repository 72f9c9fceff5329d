"""The map of an answer: its candidates by probability, its region and its point, in metres around the point."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float64
from numpy.typing import ArrayLike

from swclip.geo.coordinates import LocalFrame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ANSWER, _TRUTH, _REGION = "#d1495b", "#1b7f5c", "#b4641e"
_MIN_REACH_M = 100.0
_MIN_PROBABILITY = 1e-5


def answer_figure(
    answer_deg: ArrayLike,
    positions_deg: ArrayLike,
    probability: ArrayLike,
    *,
    title: str,
    outline: Mapping[str, Any] | None = None,
    photograph: Path | None = None,
    truth_deg: ArrayLike | None = None,
) -> Figure:
    """Draw the map of an answer as a figure, with the photograph beside it if there is one.

    Args:
        answer_deg: (2,) the answer's point, latitude and longitude in degrees.
        positions_deg: (M, 2) positions of the candidates in degrees.
        probability: (M,) their probabilities.
        title: The answer in lines of text.
        outline: The prediction region as a GeoJSON Polygon or MultiPolygon; None for none.
        photograph: The photograph's file.
        truth_deg: (2,) the true position in degrees, where it is known.

    Raises:
        InputError: The photograph cannot be decoded.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from swclip.imaging.decode import decode_photograph

    figure = Figure(figsize=(6.0, 5.0) if photograph is None else (10.5, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    if photograph is not None:
        picture, axes = figure.subplots(1, 2)
        picture.imshow(decode_photograph(photograph), interpolation="lanczos")
        picture.set_axis_off()
    else:
        axes = figure.subplots()
    positions = np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2)
    draw_map(axes, answer_deg, positions, np.asarray(probability), outline=outline, truth_deg=truth_deg)
    axes.set_title(title, loc="left", fontsize=10)
    return figure


def draw_map(
    axes: Axes,
    answer_deg: ArrayLike,
    positions_deg: ArrayLike,
    probability: Float[np.ndarray, " m"],
    *,
    outline: Mapping[str, Any] | None = None,
    truth_deg: ArrayLike | None = None,
    reach_m: float | None = None,
) -> None:
    """Draw candidates coloured by probability around an answer's point, with a colour bar and a legend.

    Args:
        axes: Where to draw.
        answer_deg: (2,) the answer's point, latitude and longitude in degrees.
        positions_deg: (M, 2) positions of the candidates in degrees.
        probability: (M,) their probabilities.
        outline: The prediction region as a GeoJSON Polygon or MultiPolygon; None for none.
        truth_deg: (2,) the true position in degrees, where it is known.
        reach_m: Half the side of the map in metres; None to fit the region and the probable candidates.
    """
    from matplotlib.colors import LogNorm

    point = np.asarray(answer_deg, dtype=np.float64)
    frame = LocalFrame(float(point[0]), float(point[1]))
    xy = frame.to_xy_m(positions_deg)
    rings = _rings_m(outline, frame)
    reach = _reach_m(xy, probability, rings) if reach_m is None else reach_m
    shown = np.abs(xy).max(axis=1) <= reach
    order = np.flatnonzero(shown)[np.argsort(probability[shown])]  # the most probable ones on top
    highest = max(float(probability.max(initial=0.0)), _MIN_PROBABILITY)
    for number, ring in enumerate(rings):
        axes.plot(*ring.T, color=_REGION, linewidth=1.6, label="region" if number == 0 else None)
    dots = axes.scatter(
        xy[order, 0],
        xy[order, 1],
        c=np.maximum(probability[order], _MIN_PROBABILITY),
        s=14 + 90 * np.sqrt(probability[order] / highest),
        cmap="YlGnBu",
        norm=LogNorm(_MIN_PROBABILITY, max(highest, 10 * _MIN_PROBABILITY)),
        linewidths=0.3,
        edgecolors="#8a99a3",
    )
    axes.figure.colorbar(dots, ax=axes, shrink=0.8, label="probability of a candidate")
    axes.scatter(
        0.0, 0.0, s=110, marker="X", color=_ANSWER, edgecolors="white", linewidths=1.2, zorder=5, label="answer"
    )
    if truth_deg is not None:
        truth = frame.to_xy_m(truth_deg)[0]
        axes.plot([0.0, truth[0]], [0.0, truth[1]], color=_TRUTH, linewidth=1.2, linestyle="--")
        # A ring, so that it does not hide an answer at the same place.
        axes.scatter(
            truth[0], truth[1], s=300, facecolors="none", edgecolors=_TRUTH, linewidths=2.2, label="true position"
        )
    axes.legend(loc="upper right", fontsize=9, framealpha=0.9)
    axes.set_aspect("equal")
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-reach, reach)
    axes.set_xlabel("metres east of the answer")
    axes.set_ylabel("metres north of the answer")
    axes.grid(alpha=0.25)


def html_of(name: str, summary: str, headings: Sequence[str], rows: Sequence[Sequence[str]], figure: Figure) -> str:
    """A name, a table and a figure as self-contained HTML.

    Args:
        name: The photograph.
        summary: The answer in lines of text.
        headings: Headings of the table's columns.
        rows: Cells of the table.
        figure: The map.
    """
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=80)
    image = base64.b64encode(stream.getvalue()).decode()
    head = "".join(f"<th>{escape(text)}</th>" for text in headings)
    body = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    lines = escape(summary).replace("\n", "<br>")
    return (
        f"<div><p><b>{escape(name)}</b>: {lines}</p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        f'<img alt="Map of the answer to {escape(name)}" src="data:image/png;base64,{image}"></div>'
    )


def _rings_m(outline: Mapping[str, Any] | None, frame: LocalFrame) -> list[Float64[np.ndarray, "k 2"]]:
    if outline is None:
        return []
    polygons = [outline["coordinates"]] if outline["type"] == "Polygon" else outline["coordinates"]
    return [frame.to_xy_m(np.array(ring)[:, ::-1]) for rings in polygons for ring in rings]


def _reach_m(
    xy: Float64[np.ndarray, "m 2"],
    probability: Float[np.ndarray, " m"],
    rings: list[Float64[np.ndarray, "k 2"]],
) -> float:
    # An improbable candidate in another city would otherwise set the scale of the map.
    probable = xy[probability >= 0.05 * probability.max(initial=0.0)]
    extents = [float(np.abs(points).max()) for points in (probable, *rings) if points.size]
    return max(_MIN_REACH_M, 1.15 * max(extents, default=0.0))
