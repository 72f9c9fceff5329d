"""Several pieces of work at once, each in a process of its own: progress from all of them, failures by name.

Not `concurrent.futures`: there a worker that is killed (for want of memory, say) takes all the work with it, Ctrl-C
waits for what is running, and a worker cannot say how far it is.
"""

from __future__ import annotations

import logging
import logging.handlers
import multiprocessing
import multiprocessing.resource_tracker
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar, cast

from swclip.errors import ConfigError, SwclipError

_LOG = logging.getLogger(__name__)

T = TypeVar("T")
Progress = Callable[[str, int, int], None]

_STOP_S = 15.0
_REPORT_EVERY_S = 0.1


@dataclass(frozen=True)
class Task(Generic[T]):
    """A piece of work.

    Attributes:
        title: What a person knows it by.
        work: Does it; called with a progress callback. It must be importable in another process (pickled).
    """

    title: str
    work: Callable[[Progress], T]


@dataclass(frozen=True)
class Failure:
    """A piece of work that failed.

    Attributes:
        title: Of the task.
        message: What went wrong.
        kind: Class of the error that a user can mend; SwclipError for any other.
    """

    title: str
    message: str
    kind: type[SwclipError] = SwclipError


def run_tasks(tasks: Sequence[Task[T]], jobs: int = 1, progress: Progress | None = None) -> list[T | Failure]:
    """Do all tasks, `jobs` of them at once; one that fails does not stop the others.

    With one job they are done here, one after another. With more, each worker is a fresh process (spawned: a script
    that calls this needs `if __name__ == "__main__":`) with its share of this process's threads. An interruption stops
    all workers, which clear up behind them, before it goes on upwards.

    Args:
        tasks: What to do, in this order.
        jobs: How many at once.
        progress: Called with (what, done, total); what a task reports has its title before it.

    Returns:
        What each task returned, or its failure, in the order of the tasks.

    Raises:
        ConfigError: `jobs` is below 1.
    """
    if jobs < 1:
        raise ConfigError(f"jobs is {jobs}; at least one run must be made at a time.")
    report = progress or _silent
    jobs = min(jobs, len(tasks))
    if jobs > 1:
        return _Pool(tasks, jobs, report).results()
    found: list[T | Failure] = []
    for done, task in enumerate(tasks):
        report("runs", done, len(tasks))
        try:
            found.append(task.work(_titled(report, task.title)))
        except Exception as error:
            found.append(_failure(task.title, error, traceback.format_exc()))
    report("runs", len(tasks), len(tasks))
    return found


def threads_each(jobs: int) -> int:
    """Threads for each of several workers: an equal share of those that this process computes with."""
    import torch

    return max(1, torch.get_num_threads() // jobs)


@dataclass
class _Worker:
    process: Any
    connection: Connection
    number: int | None = None


class _Pool(Generic[T]):
    """The parent's side: who does what, and what came of it."""

    def __init__(self, tasks: Sequence[Task[T]], jobs: int, report: Progress) -> None:
        self._tasks, self._report, self._jobs = list(tasks), report, jobs
        self._threads = threads_each(jobs)
        self._waiting = list(range(len(tasks)))
        self._found: dict[int, T | Failure] = {}
        self._workers: list[_Worker] = []

    def results(self) -> list[T | Failure]:
        total = len(self._tasks)
        try:
            self._workers = [self._start() for _ in range(self._jobs)]
            self._report("runs", 0, total)
            for worker in list(self._workers):
                self._next(worker)
            while len(self._found) < total:
                busy = {worker.connection: worker for worker in self._workers if worker.number is not None}
                for ready in wait(list(busy)):
                    self._hear(busy[cast(Connection, ready)])
                self._report("runs", len(self._found), total)
        finally:
            self._stop()
        return [self._found[number] for number in range(total)]

    def _start(self) -> _Worker:
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=_serve, args=(theirs, self._threads), daemon=True)
        with _for_children(self._threads):
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def _next(self, worker: _Worker) -> None:
        worker.number = self._waiting.pop(0) if self._waiting else None
        if worker.number is None:
            return
        try:
            worker.connection.send(self._tasks[worker.number].work)
        except OSError:
            self._lost(worker)

    def _hear(self, worker: _Worker) -> None:
        assert worker.number is not None
        try:
            kind, value = worker.connection.recv()
        except (EOFError, OSError):
            self._lost(worker)
            return
        task = self._tasks[worker.number]
        if kind == "progress":
            _titled(self._report, task.title)(*value)
        elif kind == "log":
            logging.getLogger(value.name).handle(value)
        else:
            if kind == "failed":
                error, trace = value
                self._found[worker.number] = _failure(task.title, error, trace)
            else:
                self._found[worker.number] = value
            self._next(worker)

    def _lost(self, worker: _Worker) -> None:
        """A worker is gone: its task failed, and a new one takes its place."""
        worker.process.join(_STOP_S)
        code = worker.process.exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        assert worker.number is not None
        self._found[worker.number] = Failure(
            self._tasks[worker.number].title,
            f"its process ended by itself ({how}), perhaps for want of memory; try fewer --jobs.",
        )
        worker.connection.close()
        self._workers.remove(worker)
        if self._waiting:
            fresh = self._start()
            self._workers.append(fresh)
            self._next(fresh)

    def _stop(self) -> None:
        for worker in self._workers:
            if worker.process.is_alive():
                worker.process.terminate()
        deadline = time.monotonic() + _STOP_S
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.connection.close()


@contextmanager
def _for_children(threads: int) -> Iterator[None]:
    """What a process that is started here inherits, from its first moment on."""
    # Read when the libraries under NumPy and torch are loaded, before any line of ours runs there.
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    # Ctrl-C reaches the whole group; it is the parent's, who stops the workers. Held back, not lost, until they are
    # started; the resource tracker would let it through again if it were started in between.
    can_hold = hasattr(signal, "pthread_sigmask")
    if can_hold:
        multiprocessing.resource_tracker.ensure_running()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if can_hold:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _serve(connection: Connection, threads: int) -> None:
    """A worker's life: take work, do it, tell what came of it, until it is stopped or the parent is gone."""
    # The parent stops a worker by SIGTERM; as an exception it lets what is being written be cleared up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    import torch

    torch.set_num_threads(threads)
    wire = _Wire(connection)
    logging.basicConfig(level=logging.WARNING, handlers=[_ToParent(wire)])
    while True:
        try:
            work = connection.recv()
        except (EOFError, OSError):
            return
        try:
            message: tuple[str, Any] = ("done", work(wire.progress))
        except Exception as error:
            message = ("failed", (_mendable(error), traceback.format_exc()))
        try:
            wire.send(message)
        except OSError:
            return


def _leave(_signal: int, _frame: Any) -> None:
    raise SystemExit(128 + signal.SIGTERM)


class _Wire:
    """Messages to the parent, from any thread, and progress not faster than a person can read."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._lock = connection, threading.Lock()
        self._told: tuple[str, float] = ("", 0.0)

    def send(self, message: tuple[str, Any]) -> None:
        with self._lock:
            self._connection.send(message)

    def progress(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and what == self._told[0] and now - self._told[1] < _REPORT_EVERY_S:
            return
        self._told = (what, now)
        self.send(("progress", (what, done, total)))


class _ToParent(logging.handlers.QueueHandler):
    """Log records go to the parent, whose handlers know where they belong."""

    def __init__(self, wire: _Wire) -> None:
        super().__init__(wire)  # type: ignore[arg-type]
        self._wire = wire

    def enqueue(self, record: logging.LogRecord) -> None:
        self._wire.send(("log", record))


def _mendable(error: Exception) -> SwclipError | str:
    """The error as the parent can have it: of one of the classes that all of the package's are made from, or a text."""
    for kind in type(error).__mro__:
        if kind.__module__ == "swclip.errors" and issubclass(kind, SwclipError):
            return kind(str(error))
    return f"{type(error).__name__}: {error}"


def _failure(title: str, error: Exception | str, trace: str) -> Failure:
    found = _mendable(error) if isinstance(error, Exception) else error
    if isinstance(found, SwclipError):
        return Failure(title, str(found), type(found))
    # Not a user's doing: what is needed to mend the program is written down.
    _LOG.error("%s failed:\n%s", title, trace)
    return Failure(title, found)


def _titled(report: Progress, title: str) -> Progress:
    return lambda what, done, total: report(f"{title}: {what}", done, total)


def _silent(_what: str, _done: int, _total: int) -> None:
    return None
