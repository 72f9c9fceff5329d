"""Figures of one located photograph: beside the posterior around its point estimate, and beside the photographs of its
best candidates, with the patches that match.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float64
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch
from numpy.typing import ArrayLike
from PIL import Image

from swclip.answers.plot import draw_map
from swclip.files import atomic_file
from swclip.geo.coordinates import LocalFrame
from swclip.geo.distance import geodesic_m
from swclip.imaging.decode import decode_photograph
from swclip.models.patch_matching import PatchMatches
from swclip.reporting.units import distance

_SHOWN_M = 700.0


def write_located_figure(
    path: str | os.PathLike[str],
    photograph: str | os.PathLike[str],
    positions_deg: ArrayLike,
    probability: Float[np.ndarray, " m"],
    answer_deg: Float64[np.ndarray, " 2"],
    *,
    near_50m: float,
    truth_deg: ArrayLike | None = None,
    place: str | None = None,
) -> None:
    """Draw a photograph beside the posterior over the gallery around its answer.

    Args:
        path: File to write; the suffix sets the format (PNG, SVG, PDF).
        photograph: The photograph that was located.
        positions_deg: (M, 2) positions of the gallery, degrees.
        probability: (M,) spatially smoothed posterior over them.
        answer_deg: (2,) point estimate.
        near_50m: Probability within 50 m of the answer.
        truth_deg: (2,) true position; None where it is unknown.
        place: Name of the answer's city, if it has one.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    frame = LocalFrame(float(answer_deg[0]), float(answer_deg[1]))
    truth = None if truth_deg is None else frame.to_xy_m(truth_deg)[0]

    figure = Figure(figsize=(10.5, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.imshow(decode_photograph(Path(photograph)), interpolation="lanczos")
    left.set_axis_off()
    left.set_title("The photograph", loc="left", fontsize=11)

    draw_map(right, answer_deg, positions_deg, probability, truth_deg=truth_deg, reach_m=_reach_m(truth))
    right.set_title(_title(answer_deg, near_50m, truth_deg, place), loc="left", fontsize=11)
    with atomic_file(path) as beside:
        figure.savefig(beside, dpi=130)


def _reach_m(truth: Float64[np.ndarray, " 2"] | None) -> float:
    # A far true position (another city) would make the map unreadable: the title states the error instead.
    if truth is None or np.abs(truth).max() > 3 * _SHOWN_M:
        return _SHOWN_M
    return max(_SHOWN_M, 1.15 * float(np.abs(truth).max()))


def _title(answer_deg: Any, near_50m: float, truth_deg: ArrayLike | None, place: str | None) -> str:
    where = f"{place}, " if place else ""
    text = f"Answer: {where}{answer_deg[0]:.5f}, {answer_deg[1]:.5f}\n{near_50m:.0%} probability within 50 m"
    if truth_deg is None:
        return text
    return f"{text}, {distance(float(geodesic_m(answer_deg, truth_deg)[0]))} from the true position"


_HIGH_IN = 3.1
_GAP_IN = 0.45


@dataclass(frozen=True, eq=False)
class MatchedPhotograph:
    """A photograph at a candidate.

    Attributes:
        picture: The photograph, as the model sees it.
        title: The candidate in words.
        matches: The patches of query and photograph that match.
    """

    picture: Image.Image
    title: str
    matches: PatchMatches


def write_match_figure(
    path: str | os.PathLike[str], query: Image.Image, title: str, photographs: Sequence[MatchedPhotograph]
) -> None:
    """Draw a query beside the photographs of its best candidates, one row each.

    Lines join the centres of matching patches. Their colour is that of the patch's place in the query, from left to
    right, so that lines that cross unlike the others, which are often wrong, stand out.

    Args:
        path: File to write; the suffix sets the format (PNG, SVG, PDF).
        query: The query, as the model sees it.
        title: The query in words.
        photographs: The photographs at the candidates, the best first.
    """
    widths = [_HIGH_IN * query.width / query.height]
    widths.append(max(_HIGH_IN * item.picture.width / item.picture.height for item in photographs))
    size = (sum(widths) + _GAP_IN, len(photographs) * (_HIGH_IN + _GAP_IN))
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    for row, axes in zip(
        photographs, figure.subplots(len(photographs), 2, squeeze=False, width_ratios=widths), strict=True
    ):
        _draw_row(figure, axes[0], axes[1], query, title, row)
    with atomic_file(path) as beside:
        figure.savefig(beside, dpi=110)


def _draw_row(figure: Figure, left: Axes, right: Axes, query: Image.Image, title: str, item: MatchedPhotograph) -> None:
    for axes, picture, text in ((left, query, title), (right, item.picture, item.title)):
        axes.imshow(picture, extent=(0.0, 1.0, 1.0, 0.0), aspect=picture.height / picture.width)
        axes.set_axis_off()
        axes.set_title(text, loc="left", fontsize=9, parse_math=False)
    starts, stops = item.matches.centres()
    colours = colormaps["turbo"](0.05 + 0.9 * starts[:, 0])
    for start, stop, colour in zip(starts, stops, colours, strict=True):
        line = ConnectionPatch(start, stop, "data", "data", axesA=left, axesB=right, color=colour, lw=1.1, alpha=0.85)
        figure.add_artist(line)
    for axes, points in ((left, starts), (right, stops)):
        axes.scatter(points[:, 0], points[:, 1], s=16, c=colours, edgecolors="white", linewidths=0.6, zorder=3)
    if not len(item.matches):
        right.text(0.5, 0.06, "no matching patches", ha="center", color="white", fontsize=9, backgroundcolor="#0008")
