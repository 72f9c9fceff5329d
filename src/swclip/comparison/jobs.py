"""Run a benchmark, one run after another or several at a time.

With several at a time, each run is trained by `swclip train` in a separate process, and evaluated in this process
afterwards. Interrupted runs resume when the same benchmark is started again.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, TypeVar

import torch

from swclip.comparison.benchmark_runs import Progress, Run, SharedFeatures
from swclip.errors import ConfigError, SwclipError, SwclipWarning
from swclip.evaluation.result import Evaluation
from swclip.training.config import write_config

_LOG = logging.getLogger(__name__)
_Result = TypeVar("_Result")

_POLL_S = 0.2
_STOP_S = 15.0
_GRACE_S = 2.0


@dataclass(frozen=True)
class Failure:
    """A run that failed.

    Attributes:
        title: Title of the run.
        message: The error's message.
        kind: Class of an error that a user can fix; SwclipError for any other.
    """

    title: str
    message: str
    kind: type[SwclipError] = SwclipError


def run_all(runs: Sequence[Run], jobs: int = 1, progress: Progress | None = None) -> list[Evaluation | Failure]:
    """Train and evaluate all runs; a failed run does not stop the others.

    Args:
        runs: The runs.
        jobs: Number of runs that are trained at a time. Above 1 each is a separate process with an equal share of the
            threads of this process, which reads manifest and splits from their files. An interruption stops all.
        progress: Called with (task, done, total); the tasks are "trained runs", "runs" and "TITLE: TASK".

    Returns:
        The evaluation of each run, or its failure, in the order of the runs.

    Raises:
        ConfigError: `jobs` is below 1.
    """
    if jobs < 1:
        raise ConfigError(f"jobs is {jobs}; it must be at least 1.")
    report = progress or _silent
    trained = [number for number, run in enumerate(runs) if run.folder is not None]
    jobs = min(jobs, len(trained))
    features = SharedFeatures(runs)
    failures = _train_in_processes(runs, trained, jobs, features, report) if jobs > 1 else {}
    results: list[Evaluation | Failure] = []
    for number, run in enumerate(runs):
        report("runs", number, len(runs))
        results.append(failures[number] if number in failures else _run_here(run, features, report))
    report("runs", len(runs), len(runs))
    return results


def failures_as_error(failures: Sequence[Failure], total: int) -> SwclipError:
    """Combine the failed runs of a benchmark into one error with their titles and messages."""
    kinds = {failure.kind for failure in failures}
    kind = kinds.pop() if len(kinds) == 1 else SwclipError
    reasons = "; ".join(f"{failure.title}: {failure.message.rstrip('.')}" for failure in failures)
    others = total - len(failures)
    kept = f" The other {others} are kept: fix the cause and run the same command again to resume." if others else ""
    return kind(f"{len(failures)} of {total} runs failed. {reasons}.{kept}")


def threads_each(jobs: int) -> int:
    """Number of threads of each process: an equal share of the threads of this process."""
    return max(1, torch.get_num_threads() // jobs)


def _run_here(run: Run, features: SharedFeatures, report: Progress) -> Evaluation | Failure:
    def told(task: str, done: int, total: int) -> None:
        report(f"{run.title}: {task}", done, total)

    def whole() -> Evaluation:
        features.compute_for(run, told)
        return run(told)

    return _guarded(run, whole)


def _guarded(run: Run, work: Callable[[], _Result]) -> _Result | Failure:
    """The result of a part of a run, or its failure; the warnings of the part begin with the title of the run."""
    try:
        with _named_warnings(run.title):
            return work()
    except SwclipError as error:
        return Failure(run.title, str(error), _class_of(error.exit_code))
    except Exception as error:
        # Not a user error: log the traceback.
        _LOG.error("%s failed:\n%s", run.title, traceback.format_exc())
        return Failure(run.title, f"{type(error).__name__}: {error}")


@contextmanager
def _named_warnings(title: str) -> Iterator[None]:
    """Log records and warnings of swclip begin with a title."""
    make_record = logging.getLogRecordFactory()
    show = warnings.showwarning

    def named_record(*arguments: Any, **values: Any) -> logging.LogRecord:
        record = make_record(*arguments, **values)
        if record.name.startswith("swclip.") and record.levelno >= logging.WARNING:
            record.msg, record.args = f"{title}: {record.getMessage()}", None
        return record

    def named_warning(message: Warning | str, category: type[Warning], *where: Any, **values: Any) -> None:
        show(
            category(f"{title}: {message}") if issubclass(category, SwclipWarning) else message,
            category,
            *where,
            **values,
        )

    with warnings.catch_warnings():
        warnings.showwarning = named_warning
        logging.setLogRecordFactory(named_record)
        try:
            yield
        finally:
            logging.setLogRecordFactory(make_record)


def _train_in_processes(
    runs: Sequence[Run], trained: Iterable[int], jobs: int, features: SharedFeatures, report: Progress
) -> dict[int, Failure]:
    """Train the runs with these numbers, `jobs` at a time; returns the failures by number."""
    waiting, threads = list(trained), threads_each(jobs)
    total = len(waiting)
    running: dict[int, _Training] = {}
    failures: dict[int, Failure] = {}
    try:
        while waiting or running:
            report("trained runs", total - len(waiting) - len(running), total)
            while waiting and len(running) < jobs:
                number = waiting.pop(0)
                failure = _compute_features(runs[number], features, report)
                if failure is None:
                    running[number] = _Training.start(runs[number], threads)
                else:
                    failures[number] = failure
            time.sleep(_POLL_S)
            for number, training in list(running.items()):
                ended = training.process.poll() is not None
                report(f"{training.run.title}: training", training.steps(), training.run.config.steps)
                if ended:
                    del running[number]
                    if (failure := training.failure()) is not None:
                        failures[number] = failure
        report("trained runs", total, total)
    finally:
        _stop(list(running.values()))
    return failures


def _compute_features(run: Run, features: SharedFeatures, report: Progress) -> Failure | None:
    def compute() -> None:
        features.compute_for(run, lambda task, done, total: report(f"{run.title}: {task}", done, total))

    return _guarded(run, compute)


@dataclass(frozen=True)
class _Training:
    """The `swclip train` process of one run, and the file of its messages."""

    run: Run
    process: subprocess.Popen[bytes]
    messages: IO[str]

    @classmethod
    def start(cls, run: Run, threads: int) -> _Training:
        assert run.folder is not None
        # The run is named after the recipe file and records the command: keep the recipe beside the runs.
        recipe = run.folder.parent / f"{run.system}.toml"
        write_config(recipe, dataclasses.replace(run.config, seed=0))
        command = [sys.executable, "-m", "swclip", "train", str(run.manifest.path), f"--splits={run.splits.path}"]
        command += [f"--recipe={recipe}", f"--seed={run.config.seed}", f"--device={run.device}", f"--out={run.folder}"]
        messages = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 (`failure` closes it)
        share = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        environment = {**os.environ, **share, "SWCLIP_CACHE": str(run.cache.folder)}
        return cls(run, subprocess.Popen(command, stdout=messages, stderr=messages, env=environment), messages)

    def steps(self) -> int:
        """Number of steps that the run has logged."""
        assert self.run.folder is not None
        try:
            return int(json.loads((self.run.folder / "metrics.jsonl").read_bytes().splitlines()[-1])["step"])
        except (OSError, IndexError, ValueError):  # nothing is logged yet, or a line is being written
            return 0

    def failure(self) -> Failure | None:
        """Failure of the ended process, None where it succeeded. Its warnings are logged."""
        code, title = self.process.wait(), self.run.title
        with self.messages as stream:
            stream.seek(0)
            text = stream.read().strip()
        for line in text.splitlines():
            kind, colon, warning = line.partition(": ")
            if colon and kind.upper() == "WARNING":  # of logging, and of Python
                _LOG.warning("%s: %s", title, warning)
        if code == 0:
            return None
        if message := re.search(r"^error: (.*)", text, re.MULTILINE | re.DOTALL):
            return Failure(title, message[1], _class_of(code))
        _LOG.error("%s failed:\n%s", title, text)
        if code < 0:
            reason = f"its process was ended by signal {-code}, possibly out of memory; try fewer --jobs."
            return Failure(title, reason)
        return Failure(title, text.splitlines()[-1] if text else f"its process ended with exit code {code}.")


def _stop(trainings: Sequence[_Training]) -> None:
    """Interrupt processes as Ctrl-C does, so that they remove partial files; then kill those that remain."""
    processes = [training.process for training in trainings]
    # In a terminal, Ctrl-C has already reached them: only those that still run are interrupted again.
    _wait(processes, _GRACE_S)
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
    _wait(processes, _STOP_S)
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()
    for training in trainings:
        training.messages.close()


def _wait(processes: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(process.poll() is None for process in processes):
        time.sleep(_POLL_S)


def _class_of(exit_code: int) -> type[SwclipError]:
    """The class of `swclip.errors` with an exit code."""
    return next((kind for kind in SwclipError.__subclasses__() if kind.exit_code == exit_code), SwclipError)


def _silent(_task: str, _done: int, _total: int) -> None:
    return None
