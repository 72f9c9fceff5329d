"""One located photograph as a picture: what was asked, where the model thinks it is, and how sure it is of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float64
from numpy.typing import ArrayLike

from swclip.files import atomic_file
from swclip.geo.coordinates import LocalFrame
from swclip.geo.distance import geodesic_m
from swclip.imaging.decode import decode_photograph
from swclip.reporting.units import distance

_SHOWN_M = 700.0
_ANSWER, _TRUTH = "#d1495b", "#1b7f5c"


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
    """Draw a photograph beside the posterior over the gallery round its answer.

    Args:
        path: The picture to write; its ending says the format (PNG, SVG, PDF).
        photograph: The photograph that was located.
        positions_deg: (M, 2) the gallery's positions, degrees.
        probability: (M,) the posterior over them, smoothed on the ground.
        answer_deg: (2,) the answer.
        near_50m: Probability within 50 m of the answer.
        truth_deg: (2,) where it was taken, where that is known.
        place: Name of the answer's city, where it has one.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    frame = LocalFrame(float(answer_deg[0]), float(answer_deg[1]))
    xy = frame.to_xy_m(positions_deg)
    answer, truth = np.zeros(2), None if truth_deg is None else frame.to_xy_m(truth_deg)[0]
    reach = _reach_m(truth)
    shown = np.abs(xy).max(axis=1) <= reach
    order = np.flatnonzero(shown)[np.argsort(probability[shown])]  # the likely ones on top

    figure = Figure(figsize=(10.5, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.imshow(decode_photograph(Path(photograph)), interpolation="lanczos")
    left.set_axis_off()
    left.set_title("The photograph", loc="left", fontsize=11)

    floor = 1e-5
    dots = right.scatter(
        xy[order, 0],
        xy[order, 1],
        c=np.maximum(probability[order], floor),
        s=14 + 90 * np.sqrt(probability[order] / max(float(probability.max()), floor)),
        cmap="YlGnBu",
        norm=LogNorm(floor, max(float(probability.max()), 10 * floor)),
        linewidths=0.3,
        edgecolors="#8a99a3",
    )
    figure.colorbar(dots, ax=right, shrink=0.8, label="probability of a candidate")
    _mark(right, answer, _ANSWER, "X", "answer")
    if truth is not None and truth_deg is not None:
        right.plot(*np.stack([answer, truth]).T, color=_TRUTH, linewidth=1.2, linestyle="--")
        # A ring, so that an answer at the true place is still seen.
        right.scatter(
            *truth, s=300, marker="o", facecolors="none", edgecolors=_TRUTH, linewidths=2.2, label="true place"
        )
    right.legend(loc="upper right", fontsize=9, framealpha=0.9)
    right.set_aspect("equal")
    right.set_xlim(-reach, reach)
    right.set_ylim(-reach, reach)
    right.set_xlabel("metres east of the answer")
    right.set_ylabel("metres north of the answer")
    right.set_title(_title(answer_deg, near_50m, truth_deg, place), loc="left", fontsize=11)
    right.grid(alpha=0.25)
    with atomic_file(path) as beside:
        figure.savefig(beside, dpi=130)


def _mark(axes: Any, at: Float64[np.ndarray, " 2"], colour: str, marker: str, label: str) -> None:
    axes.scatter(*at, s=110, marker=marker, color=colour, edgecolors="white", linewidths=1.2, zorder=5, label=label)


def _reach_m(truth: Float64[np.ndarray, " 2"] | None) -> float:
    # A truth that is far away (another city) would shrink the map to nothing: it is named in the title instead.
    if truth is None or np.abs(truth).max() > 3 * _SHOWN_M:
        return _SHOWN_M
    return max(_SHOWN_M, 1.15 * float(np.abs(truth).max()))


def _title(answer_deg: Any, near_50m: float, truth_deg: ArrayLike | None, place: str | None) -> str:
    where = f"{place}, " if place else ""
    text = f"Answer: {where}{answer_deg[0]:.5f}, {answer_deg[1]:.5f}; {near_50m:.0%} within 50 m of it"
    if truth_deg is None:
        return text
    return f"{text}\n{distance(float(geodesic_m(answer_deg, truth_deg)[0]))} from the true place"
