"""Progress of long work: bars on standard error, or the caller's own callback.

Functions of the packages take a callback. The functions that people call take `progress=True` as well, and the command
line passes just that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Count = Callable[[int, int], None]
"""Called with how much is done, and the total."""

Steps = Callable[[str, int, int], None]
"""Called with the name of the step, how much of it is done, and its total."""

console = Console(stderr=True, highlight=False)


_LINE_EVERY_S = 60.0


def _run_lines() -> Steps:
    """Lines of the progress of many runs, for a log file."""
    printed: dict[str, float] = {}
    whole = ""

    def report(step: str, done: int, total: int) -> None:
        nonlocal whole
        title = step.rpartition(": ")[0]
        if not title:
            whole = f" ({step}: {done} of {total})"
            return
        now = time.monotonic()
        if title not in printed or now - printed[title] >= _LINE_EVERY_S:
            printed[title] = now
            console.print(f"{step}: {done} of {total}{whole}", markup=False, soft_wrap=True)

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

        def report(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total)
            bars.update(tasks[step], completed=done, total=total)

        yield report


@contextmanager
def run_bars() -> Iterator[Steps]:
    """One display for many runs: a bar for all, and one for each active run; call it with (step, done, total).

    The step is "runs" or "trained runs" for all, else "TITLE: STEP"; the bar of a run is removed when its step is done.
    Where standard error is not a terminal (a log file), there is a line when a run starts, and one per minute of each.
    """
    if not (console.is_terminal or console.is_jupyter):
        yield _run_lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
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
