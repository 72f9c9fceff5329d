"""Progress of long work: bars on standard error, or the caller's own callback.

Functions of the packages take a callback. The functions that people call take `progress=True` as well, and the command
line passes just that. Where standard error is not a terminal (a log file), there is a line per minute instead of bars.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

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
from rich.table import Column
from rich.text import Text

Count = Callable[[int, int], None]
"""Called with how much is done, and the total."""

Steps = Callable[[str, int, int], None]
"""Called with the name of the step, how much of it is done, and its total."""

_LINE_EVERY_S = 60.0


class _Console(Console):
    """Standard error, with the time of its last line."""

    printed_at = 0.0

    def print(self, *objects: Any, **options: Any) -> None:
        self.printed_at = time.monotonic()
        super().print(*objects, **options)


console = _Console(stderr=True, highlight=False)


def shows_bars() -> bool:
    """Whether standard error can show bars; a log file gets lines."""
    return console.is_terminal or console.is_jupyter


@contextmanager
def signs_of_life(name: str) -> Iterator[None]:
    """In a log file, print a line when nothing else was printed for a little more than a minute.

    A little more, since a line of progress comes with the first step that ends after its minute.

    Args:
        name: What is running, such as `swclip compare`.
    """
    if shows_bars():
        yield
        return
    began, ended, silence_s = time.monotonic(), threading.Event(), _LINE_EVERY_S * 7 / 6

    def watch() -> None:
        next_line = began + silence_s
        while not ended.wait(max(0.0, next_line - time.monotonic())):
            now = time.monotonic()
            if now - console.printed_at >= silence_s:
                console.print(f"{name}: still running after {round((now - began) / 60)} min", markup=False)
            next_line = console.printed_at + silence_s

    watcher = threading.Thread(target=watch, name="signs of life", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


@dataclass
class _Step:
    """A step whose progress is printed: how much was done when it began, and the times of its begin and last line."""

    name: str
    start: int
    began: float
    printed: float


class _Lines:
    """Progress in a log file: for each step, a line per minute with the rate and the remaining time."""

    def __init__(self) -> None:
        self._steps: dict[str, _Step] = {}

    def report(self, step: str, done: int, total: int, *, title: str | None = None, suffix: str = "") -> bool:
        """Print a line if the last one of this step is a minute old.

        Args:
            step: Its name.
            done: How much of it is done.
            total: The whole.
            title: What consists of several steps, one after the other; by default the step itself.
            suffix: Text at the end of the line.

        Returns:
            Whether `title` is new.
        """
        now, title = time.monotonic(), title or step
        before = self._steps.get(title)
        if before is None or before.name != step:
            self._steps[title] = _Step(step, done, now, now if before is None else before.printed)
        elif now - before.printed >= _LINE_EVERY_S and done > before.start:
            before.printed = now
            rate = (done - before.start) / (now - before.began)
            left = timedelta(seconds=round((total - done) / rate))
            self.print(step, done, total, f", {rate:.3g}/s, {left} left{suffix}")
        return before is None

    @staticmethod
    def print(step: str, done: int, total: int, suffix: str) -> None:
        console.print(f"{step}: {done} of {total}{suffix}", markup=False, soft_wrap=True)


def _run_lines() -> Steps:
    """Lines of the progress of many runs, for a log file."""
    lines, whole = _Lines(), ""

    def report(step: str, done: int, total: int) -> None:
        nonlocal whole
        title = step.rpartition(": ")[0]
        if not title:
            whole = f" ({step}: {done} of {total})"
        elif lines.report(step, done, total, title=title, suffix=whole):
            lines.print(step, done, total, whole)

    return report


def count_progress(progress: bool | Count | None, title: str) -> AbstractContextManager[Count | None]:
    """What to report one piece of work to.

    Args:
        progress: True for a bar, a callback to be called with (done, total), None or False for neither.
        title: What stands before the bar.

    Example:
        >>> with count_progress(None, "Counting") as report:
        ...     report is None
        True
    """
    if progress is True:
        return progress_bar(title)
    return nullcontext(progress or None)


def step_progress(
    progress: bool | Steps | None, bars: Callable[[], AbstractContextManager[Steps]] | None = None
) -> AbstractContextManager[Steps | None]:
    """What to report work of several steps to.

    Args:
        progress: True for bars, a callback to be called with (step, done, total), None or False for neither.
        bars: Makes the bars; one a step if not given.
    """
    if progress is True:
        return (bars or progress_bars)()
    return nullcontext(progress or None)


@contextmanager
def progress_bar(title: str) -> Iterator[Count]:
    """A bar for one piece of work: call what it yields with (done, total)."""
    with progress_bars() as report:
        yield lambda done, total: report(title, done, total)


@contextmanager
def progress_bars() -> Iterator[Steps]:
    """A bar for each step: call what it yields with (step, done, total)."""
    if not shows_bars():
        lines = _Lines()

        def print_line(step: str, done: int, total: int) -> None:
            lines.report(step, done, total)

        yield print_line
        return
    with Progress(*_columns(), console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def report(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total)
            bars.update(tasks[step], completed=done, total=total)

        yield report


@contextmanager
def rate_bar(title: str, total: int, start: int = 0) -> Iterator[Callable[[int], None]]:
    """A bar with the rate, for work that an earlier run may have begun.

    Args:
        title: What stands before the bar.
        total: Number of items.
        start: Number of items that an earlier run finished; they do not count in the rate.

    Yields:
        A function to call with the number of finished items.
    """
    if not shows_bars():
        lines = _Lines()
        lines.report(title, start, total)

        def report(done: int) -> None:
            lines.report(title, done, total)

        yield report
        return
    with Progress(*_columns(_RateColumn()), console=console) as bars:
        task = bars.add_task(title, total=total, completed=start)
        yield lambda done: bars.update(task, completed=done)


def _columns(*more: ProgressColumn) -> tuple[ProgressColumn, ...]:
    # On a narrow terminal the description wraps, so that no number is cut.
    whole = Column(no_wrap=True)
    return (
        TextColumn("{task.description}", table_column=Column(overflow="fold")),
        BarColumn(),
        MofNCompleteColumn(table_column=whole),
        *more,
        TimeElapsedColumn(table_column=whole),
        TextColumn("left", table_column=whole),
        TimeRemainingColumn(table_column=whole),
    )


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.3g}/s")


@contextmanager
def run_bars() -> Iterator[Steps]:
    """One display for many runs: a bar for all, and one for each active run; call it with (step, done, total).

    The step is "runs" or "trained runs" for all, else "TITLE: STEP"; the bar of a run is removed when its step is done.
    Where standard error is not a terminal (a log file), there is a line when a run starts, and one per minute of each.
    """
    if not shows_bars():
        yield _run_lines()
        return
    with Progress(*_columns()[:-2], console=console) as bars:
        tasks: dict[str, TaskID] = {}
        steps: dict[str, str] = {}

        def report(step: str, done: int, total: int) -> None:
            title = step.rpartition(": ")[0] or step
            if title not in tasks:
                tasks[title] = bars.add_task(step, total=total)
            elif steps[title] != step:
                bars.reset(tasks[title])
            steps[title] = step
            shown = done < total or title == "runs"
            bars.update(tasks[title], description=step, completed=done, total=total, visible=shown)

        yield report
