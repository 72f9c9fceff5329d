"""Parts that all pages share; a page is one HTML file with its style, script and data that opens without a network."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from swclip.files import atomic_file
from swclip.metrics.baselines import BaselineFigures, Baselines
from swclip.metrics.parts import Part
from swclip.reporting.tiles import Tiles
from swclip.reporting.units import metres, percent

COLOURS = ("#0b5cad", "#d1495b", "#2a8c5a", "#b8860b", "#7b4fa3", "#d9741a", "#3c9cc4", "#4a5560")
REFERENCE_COLOUR = "#8b97a3"
DASHES = ("solid", "dot", "dashdot")

VARIABLES = {colour: f"var(--series-{at})" for at, colour in enumerate(COLOURS)} | {REFERENCE_COLOUR: "var(--guide)"}
"""The variables of colours.css that stand for these colours on a page, which is light or dark."""

_STYLES = ("colours.css", "page.css", "map.css", "print.css")
_SCRIPTS = ("format.js", "tables.js", "enlarge.js", "map_layers.js", "city_view.js")
REPORT_SCRIPTS = ("query_map.js", "panel.js", "page.js")
"""The scripts of a page with queries and answers."""

# map_layers.js is also a module of the service; the single script of a page has no exports.
_EXPORT = re.compile("^export ", re.MULTILINE)

# Not before the end of a Jinja tag, "%}".
_BEFORE_UNIT = re.compile(r"(?<=\d) (?=(?:m|km|m²|km²|%(?!\})|points)(?:\W|$))")


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: Its text.
        small: A second line in small type.
        share: Length of a meter beside it, 0 to 1; None for no meter.
        best: Whether to set it in bold.
        note: A further line in small type.
        faint: Whether to set it in grey.
    """

    text: str
    small: str = ""
    share: float | None = None
    best: bool = False
    note: str = ""
    faint: bool = False


@dataclass(frozen=True)
class Row:
    """A row of a table; `reference` marks baselines and other rows for comparison."""

    cells: Sequence[Cell]
    reference: bool = False


@dataclass(frozen=True)
class Table:
    """A table of a page."""

    columns: Sequence[str]
    rows: Sequence[Row]


def table_markdown(table: Table) -> str:
    """Format a table as Markdown; best cells are bold, the second line of a cell follows in brackets.

    Example:
        >>> row = Row([Cell("clip"), Cell("9 m", "8 to 10 m", best=True)])
        >>> print(table_markdown(Table(["system", "median"], [row])))
        | system | median |
        |---|---|
        | clip | **9 m** (8 to 10 m) |
    """
    lines = [_markdown_row(table.columns), "|" + "---|" * len(table.columns)]
    return "\n".join(lines + [_markdown_row([_markdown_cell(cell) for cell in row.cells]) for row in table.rows])


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _markdown_cell(cell: Cell) -> str:
    text = f"**{cell.text}**" if cell.best else cell.text
    small = cell.small if cell.small.startswith("[") else f"({cell.small})"
    return " ".join(part for part in (text, small if cell.small else "", cell.note) if part)


@dataclass(frozen=True)
class Mark:
    """A value on a logarithmic scale of metres, with its interval where it has one."""

    name: str
    value: float
    low: float | None
    high: float | None
    colour: str
    reference: bool = False

    @property
    def interval(self) -> str:
        """The interval as text, empty where there is none."""
        return "" if self.low is None or self.high is None else interval_text((self.low, self.high), metres)


def line_style(number: int) -> tuple[str, str]:
    """Colour and dash of a line: with more lines than colours the dash distinguishes those of one colour."""
    return COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)]


def interval_text(interval: Sequence[float], unit: Callable[[float], str]) -> str:
    """Format an interval with the function `unit`; a shared unit is written once.

    Example:
        >>> interval_text((43.0, 51.0), metres), interval_text((9.1, 12_000.0), metres)
        ('43 to 51 m', '9.1 m to 12.0 km')
    """
    low, high = unit(interval[0]), unit(interval[1])
    number, _, name = low.rpartition(" ")
    return f"{number if high.endswith(f' {name}') else low} to {high}"


def accuracy_columns(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """Radii that get a column: up to the first within which all queries of every row are."""
    radii: list[str] = []
    for radius in rows[0]:
        radii.append(radius)
        if all(shares[radius] >= 1.0 for shares in rows):
            break
    return radii


def accuracy_row(
    name: str, shares: Mapping[str, float], radii: Sequence[str], best: Mapping[str, float] | None = None
) -> Row:
    """A row of shares by radius; with `best`, the best of each column is bold."""
    cells = [
        Cell(percent(shares[radius]), best=best is not None and shares[radius] > 0.0 and shares[radius] >= best[radius])
        for radius in radii
    ]
    return Row([Cell(name), *cells], reference=best is None)


def reference_rows(baselines: Baselines) -> list[tuple[str, BaselineFigures]]:
    """The baselines and their names on a page; those that are not known are left out."""
    named = (
        ("oracle error", baselines.floor),
        ("constant baseline", baselines.constant),
        ("random baseline", baselines.random),
    )
    return [(name, figures) for name, figures in named if figures is not None]


def reference_marks(baselines: Baselines) -> list[Mark]:
    """The medians of the baselines as marks."""
    return [
        Mark(name, figures.median, None, None, REFERENCE_COLOUR, reference=True)
        for name, figures in reference_rows(baselines)
    ]


def baselines_note(baselines: Baselines) -> str:
    """What the baselines mean, as sentences; empty where there are none."""
    if baselines.floor is None:
        return ""
    sentences = [
        f"The oracle error ({metres(baselines.floor.median)}) is the smallest of any answer at a candidate; a point "
        "between candidates can be nearer."
    ]
    if baselines.constant is not None:
        sentences.append("The constant baseline gives one fixed answer for all queries.")
    if baselines.random is not None:
        sentences.append("The random baseline draws a candidate for each query.")
    return " ".join(sentences)


def map_note(left_out: Mapping[str, int]) -> str:
    """What the map leaves out, as a sentence; empty where it shows everything."""
    parts = [
        f"{count:,} {word}"
        for word, count in (
            ("cities with few queries", left_out["cities"]),
            ("queries", left_out["queries"]),
            ("candidates", left_out["candidates"]),
        )
        if count
    ]
    if not parts:
        return ""
    kept = ""
    if left_out["queries"]:
        kept = (
            " Queries among the largest 5 % of errors and in clusters of errors are kept first, so the map overstates "
        )
        kept += "the errors; the figures include all queries."
    return f"To limit the size of this file, the map leaves out {' and '.join(parts)}, chosen at random.{kept}"


def flat_rows(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Flatten a nested mapping to names and texts; of a long list only its length is stated."""
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{prefix}{str(key).replace('_', ' ')}"
        if isinstance(value, Mapping):
            rows += flat_rows(value, f"{name}, ")
        elif isinstance(value, list) and (len(value) > 8 or any(isinstance(item, Mapping | list) for item in value)):
            rows.append((name, f"{len(value):,} entries"))
        elif isinstance(value, list):
            rows.append((name, ", ".join(_text(item) for item in value) or "none"))
        else:
            rows.append((name, _text(value)))
    return rows


def write_page(
    path: str | os.PathLike[str],
    template: str,
    page: Mapping[str, Any],
    data: Mapping[str, Any],
    *,
    scripts: Sequence[str] = REPORT_SCRIPTS,
    tiles: Tiles | None = None,
) -> None:
    """Render a template and write it atomically.

    Args:
        path: The HTML file.
        template: Name of a file in reporting/templates.
        page: Variables of the template.
        data: Data of the scripts, as JSON.
        scripts: Files in reporting/templates after those that all pages have. They define `mainMap` and `lisaMap`.
        tiles: Map tiles below the maps, which the page may then load from their provider.
    """
    import jinja2
    from markupsafe import Markup

    folder = resources.files("swclip.reporting") / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: _without_breaks((folder / name).read_text(encoding="utf-8"))),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_without_breaks,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        metres=metres,
        percent=percent,
        percent0=lambda share: f"{100.0 * share:.0f} %",
        tick=_tick,
        colour=lambda colour: VARIABLES.get(colour, colour),
    )
    names = (*_SCRIPTS, *scripts, "fold.js")
    # "<" could end the script element early; escaped, it is the same JSON.
    data = {**data, "tiles": None if tiles is None else tiles.to_dict()}
    blob = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    text = environment.get_template(template).render(
        page={
            **page,
            "version": importlib.metadata.version("swclip"),
            "tile_origin": "" if tiles is None else f" {tiles.origin}",
        },
        css=Markup("\n".join((folder / name).read_text(encoding="utf-8") for name in _STYLES)),
        js=Markup(_EXPORT.sub("", "\n".join((folder / name).read_text(encoding="utf-8") for name in names))),
        data=Markup(blob),
    )
    with atomic_file(path) as beside:
        beside.write_text(text, encoding="utf-8")


def _without_breaks(value: Any) -> Any:
    """Keep a number and its unit on one line."""
    if type(value) is not str:
        return value
    return _BEFORE_UNIT.sub("\N{NO-BREAK SPACE}", value)


def _tick(value_m: float) -> str:
    return f"{value_m:,.0f} m" if value_m < 1_000 else f"{value_m / 1_000:,.0f} km"


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)


_CURVE_POINTS = 300


class ErrorCurve(Part):
    """An error distribution: distances in metres, and the share of queries within each in percent."""

    x: list[float]
    y: list[float]


def error_curve(errors_m: ArrayLike) -> ErrorCurve:
    """Error distribution (empirical CDF): share of queries within each distance, in percent.

    Args:
        errors_m: Errors in metres, of any shape; several seeds are pooled.

    Returns:
        The distribution at no more than 300 points; distances are at least 1, for a logarithmic axis.

    Example:
        >>> error_curve([5.0, 20.0, 0.0, 50.0])
        ErrorCurve(x=[1.0, 5.0, 20.0, 50.0], y=[25.0, 50.0, 75.0, 100.0])
    """
    error = np.sort(np.asarray(errors_m, dtype=np.float64).reshape(-1))
    rank = np.arange(1, error.size + 1)
    if error.size > _CURVE_POINTS:
        rank = np.unique(np.linspace(1, error.size, _CURVE_POINTS).round().astype(int))
    x = np.maximum(error[rank - 1], 1.0)
    return ErrorCurve(
        x=[float(f"{value:.4g}") for value in x], y=[round(100.0 * int(number) / error.size, 2) for number in rank]
    )


@dataclass(frozen=True)
class MetreScale:
    """A logarithmic scale of metres on which marks are placed in percent of its length.

    Attributes:
        low_m: Left end.
        high_m: Right end.
    """

    low_m: float
    high_m: float

    @classmethod
    def spanning(cls, values_m: Sequence[float]) -> MetreScale:
        """The shortest scale from 1 m that contains the values, with ends at 1, 2 or 5 times a power of ten."""
        low, high = max(min(values_m), 1.0), max(max(values_m), 10.0)
        left, right = _step_below(low), _step_above(high)
        return cls(left, right if right > left else 10.0 * left)

    def at(self, value_m: float) -> float:
        """Position of a value in percent of the length, clipped to the ends."""
        value = min(max(value_m, self.low_m), self.high_m)
        return round(100.0 * math.log(value / self.low_m) / math.log(self.high_m / self.low_m), 2)

    @property
    def ticks_m(self) -> list[float]:
        """Powers of ten on the scale, and its ends where these are fewer than two."""
        first, last = math.ceil(math.log10(self.low_m) - 1e-9), math.floor(math.log10(self.high_m) + 1e-9)
        tens = [10.0**power for power in range(first, last + 1)]
        return tens if len(tens) > 1 else sorted({self.low_m, *tens, self.high_m})


def _step_below(value: float) -> float:
    ten = 10.0 ** math.floor(math.log10(value))
    return max(step * ten for step in (1.0, 2.0, 5.0) if step * ten <= value * (1.0 + 1e-9))


def _step_above(value: float) -> float:
    ten = 10.0 ** math.floor(math.log10(value))
    return min(step * ten for step in (1.0, 2.0, 5.0, 10.0) if step * ten >= value * (1.0 - 1e-9))
