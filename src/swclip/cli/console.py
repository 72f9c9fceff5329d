"""Tables and progress of the command line, on standard error. Results go to standard output."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from swclip.files import stated_path
from swclip.progress import console as console  # shared with the progress bars

_LINE_EVERY_S = 60.0


@contextmanager
def rate_bar(title: str, total: int, start: int = 0) -> Iterator[Callable[[int], None]]:
    """Show a progress bar with the rate and the remaining time.

    Where standard error is not a terminal (a log file), print a line per minute instead.

    Args:
        title: The description beside the bar.
        total: Number of items.
        start: Number of items that an earlier run finished.

    Yields:
        A function to call with the number of finished items.
    """
    if not console.is_terminal:
        yield _rate_lines(title, total, start)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        task = bars.add_task(title, total=total, completed=start)
        yield lambda done: bars.update(task, completed=done)


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.3g}/s")


def _rate_lines(title: str, total: int, start: int) -> Callable[[int], None]:
    began = printed = time.monotonic()

    def report(done: int) -> None:
        nonlocal printed
        now = time.monotonic()
        if now - printed < _LINE_EVERY_S or done <= start:
            return
        printed = now
        rate = (done - start) / (now - began)
        left = timedelta(seconds=round((total - done) / rate))
        console.print(f"{title}: {done} of {total}, {rate:.3g}/s, {left} left", markup=False)

    return report


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table with the first column aligned left and the others, mostly numbers, aligned right."""
    table = Table(title=Text(title), title_justify="left")
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # not as markup, which a file name may look like
    console.print(table)


def command_line() -> str:
    """`swclip ...`, quoted so that it can be pasted into a shell; absolute paths as `stated_path` states them."""
    return shlex.join(["swclip", *map(_stated_argument, sys.argv[1:])])


def _stated_argument(argument: str) -> str:
    option, equals, value = argument.rpartition("=")
    return f"{option}{equals}{stated_path(value)}" if os.path.isabs(value) else argument
