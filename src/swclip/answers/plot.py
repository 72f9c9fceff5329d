"""The map of an answer: its candidates by probability, its region and its point, in metres around the point."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float64
from numpy.typing import ArrayLike

from swclip.geo.coordinates import LocalFrame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ANSWER, _TRUTH, _REGION = "#d1495b", "#1b7f5c", "#b4641e"
_SMALLEST_M = 100.0
_LEAST_PROBABILITY = 1e-5


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
    order = np.flatnonzero(shown)[np.argsort(probability[shown])]  # the probable ones on top
    most = max(float(probability.max(initial=0.0)), _LEAST_PROBABILITY)
    for number, ring in enumerate(rings):
        axes.plot(*ring.T, color=_REGION, linewidth=1.6, label="region" if number == 0 else None)
    dots = axes.scatter(
        xy[order, 0],
        xy[order, 1],
        c=np.maximum(probability[order], _LEAST_PROBABILITY),
        s=14 + 90 * np.sqrt(probability[order] / most),
        cmap="YlGnBu",
        norm=LogNorm(_LEAST_PROBABILITY, max(most, 10 * _LEAST_PROBABILITY)),
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
        # A ring, so that an answer at the true place is still seen.
        axes.scatter(
            truth[0], truth[1], s=300, facecolors="none", edgecolors=_TRUTH, linewidths=2.2, label="true place"
        )
    axes.legend(loc="upper right", fontsize=9, framealpha=0.9)
    axes.set_aspect("equal")
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-reach, reach)
    axes.set_xlabel("metres east of the answer")
    axes.set_ylabel("metres north of the answer")
    axes.grid(alpha=0.25)


def html_of(name: str, words: str, heads: Sequence[str], rows: Sequence[Sequence[str]], figure: Figure) -> str:
    """A name, a table and a figure as HTML that loads nothing from elsewhere.

    Args:
        name: The photograph.
        words: The answer in lines of text.
        heads: Heads of the table's columns.
        rows: Its cells.
        figure: The map.
    """
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=80)
    image = base64.b64encode(stream.getvalue()).decode()
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    lines = escape(words).replace("\n", "<br>")
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
    # An improbable candidate of another city would shrink the map to nothing.
    probable = xy[probability >= 0.05 * probability.max(initial=0.0)]
    extents = [float(np.abs(points).max()) for points in (probable, *rings) if points.size]
    return max(_SMALLEST_M, 1.15 * max(extents, default=0.0))
