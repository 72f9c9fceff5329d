"""Figure of one located photograph: the query beside the posterior around its point estimate."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float64
from numpy.typing import ArrayLike

from swclip.answers.plot import draw_map
from swclip.files import atomic_file
from swclip.geo.coordinates import LocalFrame
from swclip.geo.distance import geodesic_m
from swclip.imaging.decode import decode_photograph
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
