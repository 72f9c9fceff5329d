"""What the command line shows: tables and the rate of answers, on standard error. Results go to standard output."""

from __future__ import annotations

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

from swclip.progress import console as console  # the one that the bars share

_LINE_EVERY_S = 60.0


@contextmanager
def rate_bar(title: str, total: int, start: int = 0) -> Iterator[Callable[[int], None]]:
    """A bar with the rate and the time left, of work whose first part was done earlier: call what it yields with done.

    Where nobody watches (a log file), a line a minute takes its place.
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
    began = said = time.monotonic()

    def report(done: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said < _LINE_EVERY_S or done <= start:
            return
        said = now
        rate = (done - start) / (now - began)
        left = timedelta(seconds=round((total - done) / rate))
        console.print(f"{title}: {done} of {total}, {rate:.3g}/s, {left} left", markup=False)

    return report


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: the first column to the left, the others, mostly figures, to the right."""
    table = Table(title=Text(title), title_justify="left")
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # as it is: a file name may look like markup
    console.print(table)


def command_line() -> str:
    """`swclip ...`, quoted so that it can be typed again."""
    return shlex.join(["swclip", *sys.argv[1:]])
