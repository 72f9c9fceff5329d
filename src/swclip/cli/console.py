"""What the command line shows a person: progress bars and tables, on standard error. Results go to standard output."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

console = Console(stderr=True, highlight=False)
_LINE_EVERY_S = 60.0


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for one piece of work: call what it yields with (done, total)."""
    with progress_bars() as report:
        yield lambda done, total: report(title, done, total)


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


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each piece of work: call what it yields with (what, done, total)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield report


@contextmanager
def run_bars() -> Iterator[Callable[[str, int, int], None]]:
    """One display for many runs: a bar for all, and one for each that is at work; call it with (what, done, total).

    `what` is "runs" for all, else "TITLE: STEP"; a run's bar is taken away when its step is done.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}
        steps: dict[str, str] = {}

        def report(what: str, done: int, total: int) -> None:
            title = what.rpartition(": ")[0] or what
            if title not in tasks:
                tasks[title] = bars.add_task(what, total=total)
            elif steps[title] != what:
                bars.reset(tasks[title])
            steps[title] = what
            shown = done < total or title == "runs"
            bars.update(tasks[title], description=what, completed=done, total=total, visible=shown)

        yield report


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
