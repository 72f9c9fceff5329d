"""Several tasks at once: results in order, failures by name, nothing left running."""

from __future__ import annotations

import functools
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from swclip.comparison.jobs import Failure, Task, run_tasks, threads_each
from swclip.errors import ConfigError, InputError, SwclipError


@pytest.fixture(scope="module")
def pieces() -> Iterator[Any]:
    folder = str(Path(__file__).parent / "elsewhere")
    sys.path.insert(0, folder)  # spawned processes take it over
    import pieces_of_work

    yield pieces_of_work
    sys.path.remove(folder)


@pytest.mark.parametrize("jobs", [1, 2])
def test_one_that_fails_does_not_lose_the_others(pieces: Any, jobs: int, caplog: pytest.LogCaptureFixture) -> None:
    told: list[tuple[str, int, int]] = []
    tasks = [
        Task("first", functools.partial(pieces.count, 3)),
        Task("refused", pieces.refuse),
        Task("photograph", pieces.refuse_photograph),
        Task("broken", pieces.break_down),
        *([Task("gone", pieces.vanish)] if jobs > 1 else []),
        Task("last", functools.partial(pieces.count, 5)),
    ]
    before = os.environ.get("OMP_NUM_THREADS")
    with caplog.at_level(logging.WARNING):
        found = run_tasks(tasks, jobs, lambda *what: told.append(what))
    assert os.environ.get("OMP_NUM_THREADS") == before
    first, last = found[0], found[-1]
    assert not isinstance(first, Failure)
    assert not isinstance(last, Failure)
    assert (first[0] == os.getpid()) == (jobs == 1)
    assert (last[0] == os.getpid()) == (jobs == 1)
    assert first[1] == (torch.get_num_threads() if jobs == 1 else threads_each(jobs))
    assert found[1] == Failure("refused", "row 3: is wrong; mend it.", InputError)
    assert isinstance(found[2], Failure)
    assert found[2].kind is InputError, "the class that all can import"
    assert "is empty" in found[2].message
    assert found[3] == Failure("broken", "Weather: rain", SwclipError)
    assert "broken failed:\nTraceback" in caplog.text
    assert "pieces_of_work.py" in caplog.text
    assert "counted to 5" in caplog.text, "what a worker logs reaches this process"
    if jobs > 1:
        assert isinstance(found[4], Failure)
        assert "exit code 7" in found[4].message
    assert ("first: counting", 3, 3) in told
    assert ("last: counting", 5, 5) in told
    assert told[-1] == ("runs", len(tasks), len(tasks))
    assert multiprocessing.active_children() == []


def test_an_interruption_stops_all_and_lets_them_clear_up(pieces: Any, tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()

    def interrupted(what: str, done: int, total: int) -> None:
        # Called first when the workers are started, and again when the third task has been counted.
        if done:
            deadline = time.monotonic() + 60
            while not (folders[0] / "began").exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            raise KeyboardInterrupt

    tasks: list[Task[Any]] = [Task("quick", functools.partial(pieces.count, 1))]
    tasks += [Task(folder.name, functools.partial(pieces.linger, folder)) for folder in folders]
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_tasks(tasks, 2, interrupted)
    assert time.monotonic() - started < 40
    assert multiprocessing.active_children() == []
    assert (folders[0] / "cleared").exists()


def test_no_job_at_a_time_is_refused() -> None:
    with pytest.raises(ConfigError, match="jobs is 0"):
        run_tasks([], 0)


def test_threads_are_shared_out() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        assert [threads_each(jobs) for jobs in (1, 2, 3, 4, 9)] == [4, 2, 1, 1, 1]
    finally:
        torch.set_num_threads(before)
