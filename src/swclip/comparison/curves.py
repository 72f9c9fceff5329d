"""The error curves of a comparison, as a chart and as a picture: share of queries answered within each distance."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from swclip.reporting.page import REFERENCE_COLOUR, line_style
from swclip.reporting.plots import Chart, chart_figure, error_chart, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_SIZE = (8.6, 4.8)


# With more lines than this those that differences are taken from are the thick ones.
_ALL_THICK = 5


def sorted_systems(document: Mapping[str, Any]) -> list[str]:
    """Names of the systems, the smallest median first."""
    systems = document["systems"]
    return sorted(systems, key=lambda name: (float(systems[name]["mean"]["error_m"]["median"]), name))


def curves_chart(document: Mapping[str, Any]) -> Chart:
    """One line a system, the oracle error dashed; of many, baseline and reference are the thick lines.

    Args:
        document: What benchmark.json or compare.json holds.
    """
    curves, names = document["curves"], sorted_systems(document)
    order = {name: number for number, name in enumerate(document["systems"])}
    chosen = {document["baseline"], document.get("reference")} if len(names) > _ALL_THICK else set(names)
    lines = [
        (name, curves["systems"][name], *line_style(order[name]), 2.6 if name in chosen else 1.5) for name in names
    ]
    if curves["floor"] is not None:
        lines.append(("oracle error", curves["floor"], REFERENCE_COLOUR, "dash", 1.8))
    return error_chart("error-curve", lines)


def curves_figure(document: Mapping[str, Any], *, title: str | None = None) -> Figure:
    """Draw the curves.

    Args:
        document: What benchmark.json or compare.json holds.
        title: What stands above them.
    """
    return chart_figure(replace(curves_chart(document), title=title or ""), size=_SIZE)


def write_curves(
    paths: Sequence[str | os.PathLike[str]], document: Mapping[str, Any], *, title: str | None = None
) -> None:
    """Write the curves as pictures; the same document gives the same bytes.

    Args:
        paths: Pictures to write; their endings say the format (PNG, SVG, PDF).
        document: What benchmark.json or compare.json holds.
        title: What stands above them.
    """
    save(paths, curves_figure(document, title=title))
