"""Error distributions of a comparison, as a chart and as files."""

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


# With more lines than this, only baseline and reference are thick.
_ALL_THICK = 5


def sorted_systems(document: Mapping[str, Any]) -> list[str]:
    """Names of the systems, smallest median error first."""
    systems = document["systems"]
    return sorted(systems, key=lambda name: (float(systems[name]["mean"]["error_m"]["median"]), name))


def curves_chart(document: Mapping[str, Any]) -> Chart:
    """One line per system and a dashed line for the oracle error; among many, baseline and reference are thick.

    Args:
        document: Content of benchmark.json or compare.json.
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
    """Draw the error distributions.

    Args:
        document: Content of benchmark.json or compare.json.
        title: Title of the figure.
    """
    return chart_figure(replace(curves_chart(document), title=title or ""), size=_SIZE)


def write_curves(
    paths: Sequence[str | os.PathLike[str]], document: Mapping[str, Any], *, title: str | None = None
) -> None:
    """Write the error distributions to files; equal documents give identical bytes.

    Args:
        paths: Files to write; the suffix sets the format (PNG, SVG, PDF).
        document: Content of benchmark.json or compare.json.
        title: Title of the figure.
    """
    save(paths, curves_figure(document, title=title))
