"""Figure of a query beside the photographs of its best candidates, with the patches that match."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch
from PIL import Image

from swclip.files import atomic_file
from swclip.models.patch_matching import PatchMatches

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
        axes.set_title(text, loc="left", fontsize=9)
    starts, stops = item.matches.centres()
    colours = colormaps["turbo"](0.05 + 0.9 * starts[:, 0])
    for start, stop, colour in zip(starts, stops, colours, strict=True):
        line = ConnectionPatch(start, stop, "data", "data", axesA=left, axesB=right, color=colour, lw=1.1, alpha=0.85)
        figure.add_artist(line)
    for axes, points in ((left, starts), (right, stops)):
        axes.scatter(points[:, 0], points[:, 1], s=16, c=colours, edgecolors="white", linewidths=0.6, zorder=3)
    if not len(item.matches):
        right.text(0.5, 0.06, "no matching patches", ha="center", color="white", fontsize=9, backgroundcolor="#0008")
