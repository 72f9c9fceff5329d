"""Shared parts of the benchmarks: `--out`, tables, and the style of the figures. Imports nothing heavy."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from swclip.files import atomic_file, write_json

# The colours of Okabe and Ito, which most people can distinguish, and a marker each for those who cannot.
STYLES = [("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "^"), ("#cc79a7", "D"), ("#56b4e9", "v"), ("#e69f00", "P")]


def new_parser(description: str | None, *, out_required: bool = False) -> argparse.ArgumentParser:
    """A parser that shows the description as it is, with `--out`, the folder of the results."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=out_required, help="folder of the results")
    return parser


def command_line() -> str:
    """The command line, for repetition."""
    return shlex.join(["python", *sys.argv])


def say(text: str) -> None:
    """Print a line on standard error."""
    print(text, file=sys.stderr, flush=True)


def swclip(*arguments: object) -> None:
    """Run a command of swclip in this process, with the command line that a reader would type."""
    from swclip.cli.app import run

    before, sys.argv = sys.argv, ["swclip", *map(str, arguments)]
    try:
        code = run(sys.argv[1:])
    finally:
        sys.argv = before
    if code:
        raise SystemExit(code)


def timed(call: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
    """A result, and its wall-clock and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return result, (time.perf_counter() - wall, time.process_time() - cpu)


def private_mb() -> float:
    """Private memory of this process in MB, without mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 2**10


def recall(rows: Any, truth: Any, k: int) -> float:
    """Mean share of the true best k among the first k: (Q, at least k) row numbers found, and true ones."""
    return fmean(len({*a[:k]} & {*b[:k]}) / k for a, b in zip(rows.tolist(), truth.tolist(), strict=True))


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def table_of(rows: Mapping[str, Mapping[str, Any]], heading: str = "") -> str:
    """A Markdown table of named rows; its columns are the keys of all rows, in their order."""
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    lines = [[name, *(_cell(row.get(key)) for key in columns)] for name, row in rows.items()]
    return markdown([heading, *columns], lines)


def table_of_figures(figures: Mapping[str, Any]) -> str:
    """A Markdown table with a line for each figure; figures of a mapping are named after both keys."""
    lines: list[list[str]] = []
    for name, value in figures.items():
        nested = value.items() if isinstance(value, Mapping) else ((None, value),)
        lines += [[name if key is None else f"{name}: {key}", _cell(one)] for key, one in nested]
    return markdown(["figure", "value"], lines)


def _cell(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value))
    return "" if value is None else f"{value:,}" if isinstance(value, int | float) else str(value)


def write_results(out: Path | None, name: str, document: Mapping[str, Any], text: str) -> None:
    """Print the tables, and write OUT/NAME.json and OUT/NAME.md, both with the command line."""
    print(text)
    if out is not None:
        write_json(out / f"{name}.json", {"command": command_line(), **document})
        write_text(out / f"{name}.md", f"    {command_line()}\n\n{text}")
        say(f"{out}: {name}.json, {name}.md")


def write_table(out: Path | None, name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table as results."""
    document = {"rows": [dict(zip(columns, row, strict=True)) for row in rows]}
    write_results(out, name, document, markdown(columns, rows))


def write_text(path: Path, text: str) -> None:
    """Write a text completely or not at all."""
    with atomic_file(path) as beside:
        beside.write_text(text, encoding="utf-8")


def new_figure(width: float, height: float, panels: int, **more: Any) -> tuple[Any, Any]:
    """A figure and its panels side by side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, panels, **more)
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", color="#dddddd", linewidth=0.7)
        panel.set_axisbelow(True)
    return figure, axes


def save_figure(figure: Any, path: Path) -> None:
    """Write PATH.png and PATH.svg; the same data give the same SVG."""
    import matplotlib

    for ending in ("png", "svg"):
        file = path.with_suffix(f".{ending}")
        with matplotlib.rc_context({"svg.hashsalt": path.name}), atomic_file(file) as beside:
            figure.savefig(beside, dpi=150, metadata={"Date": None} if ending == "svg" else None)
