"""The error curves of a comparison as a picture: share of queries answered within each distance."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from swclip.evaluation.page import REFERENCE_COLOUR, line_style
from swclip.evaluation.words import distance
from swclip.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DASHES = {"solid": "-", "dot": ":", "dashdot": "-."}
_SHOWN_TO_M = 10_000_000.0


def sorted_systems(document: Mapping[str, Any]) -> list[str]:
    """Names of the systems, the smallest median first."""
    systems = document["systems"]
    return sorted(systems, key=lambda name: (float(systems[name]["mean"]["error_m"]["median"]), name))


def curve_figure(document: Mapping[str, Any], *, title: str | None = None) -> Figure:
    """Draw the curves: one line a system, the floor dashed; baseline and reference are the thick lines.

    Args:
        document: What benchmark.json or compare.json holds.
        title: What stands above it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    curves, names = document["curves"]["systems"], sorted_systems(document)
    order = {name: number for number, name in enumerate(document["systems"])}
    chosen = {document["baseline"], document.get("reference")}
    figure = Figure(figsize=(8.6, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for at in (25.0, 100.0):
        axes.axvline(at, color="#b7c1cb", linewidth=0.8, linestyle=":")
    far = 10.0
    for name in names:
        colour, dash = line_style(order[name])
        x, y = _from_the_left(curves[name])
        far = max(far, x[-1])
        axes.step(
            x,
            y,
            where="post",
            label=name.replace("$", r"\$"),
            color=colour,
            linestyle=_DASHES[dash],
            linewidth=2.4 if name in chosen or len(names) < 6 else 1.4,
        )
    x, y = _from_the_left(document["curves"]["floor"])
    axes.step(x, y, where="post", label="floor", color=REFERENCE_COLOUR, linestyle="--", linewidth=1.5)
    axes.set_xscale("log")
    axes.set_xlim(1.0, min(far * 1.15, _SHOWN_TO_M))
    axes.set_ylim(0.0, 101.0)
    ticks = [10.0**power for power in range(8) if 10.0**power <= far * 1.15]
    axes.set_xticks(ticks, [distance(tick) if tick > 1 else "1 m" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("distance from the truth")
    axes.set_ylabel("queries answered within it, %")
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    if title:
        axes.set_title(title.replace("$", r"\$"), loc="left", fontsize=11)
    return figure


def write_curves(
    paths: Sequence[str | os.PathLike[str]], document: Mapping[str, Any], *, title: str | None = None
) -> None:
    """Write the curves as pictures; the same document gives the same bytes.

    Args:
        paths: Pictures to write; their endings say the format (PNG, SVG, PDF).
        document: What benchmark.json or compare.json holds.
        title: What stands above it.
    """
    import matplotlib

    figure = curve_figure(document, title=title)
    for path in paths:
        # Text as text, and no date or drawn names: the file is small and the same for the same numbers.
        with matplotlib.rc_context({"svg.hashsalt": "swclip", "svg.fonttype": "none"}), atomic_file(path) as beside:
            metadata = {"Date": None} if Path(path).suffix == ".svg" else None
            figure.savefig(beside, dpi=150, metadata=metadata)


def _from_the_left(curve: Mapping[str, Sequence[float]]) -> tuple[list[float], list[float]]:
    """A curve that begins at the left edge, where nothing is answered yet."""
    x, y = list(map(float, curve["x"])), list(map(float, curve["y"]))
    return [0.5, *np.maximum(x, 0.5).tolist()], [0.0, *y]
