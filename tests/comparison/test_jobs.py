"""Runs of a benchmark in separate processes: failures, warnings and interruption."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from swclip.comparison import jobs
from swclip.comparison.benchmark_runs import NEAREST, UNSEEDED, Run
from swclip.comparison.jobs import Failure, run_all, threads_each
from swclip.data.manifest import read_manifest
from swclip.data.splits import read_splits
from swclip.errors import ConfigError, SwclipError
from swclip.evaluation.result import Evaluation
from swclip.models.feature_cache import FeatureCache
from swclip.training.config import TrainingConfig
from swclip.training.run import read_run, sole_trainer

pytestmark = pytest.mark.slow

Make = Callable[..., Run]


@pytest.fixture
def make_run(town: Path, small: Callable[..., TrainingConfig], tmp_path: Path) -> Make:
    """A run of `clip` on the town, small; keywords replace values of the recipe."""
    manifest, splits, cache = read_manifest(town), read_splits(town / "splits.parquet"), FeatureCache(tmp_path / "c")

    def make(name: str, **values: Any) -> Run:
        config = small("clip", **{"steps": 4, "freeze_image": True, **values})
        folder = tmp_path / "runs" / name
        return Run(
            name, "splits", name, config.seed, config, folder, manifest, splits, cache, "swclip benchmark", "cpu"
        )

    return make


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Python programs by name of a run that replace `swclip train`."""
    by_run: dict[str, str] = {}
    start = subprocess.Popen

    def popen(command: list[str], **options: Any) -> Any:
        program = by_run.get(Path(command[-1].partition("--out=")[2]).name)
        return start(command if program is None else [sys.executable, "-c", program], **options)

    monkeypatch.setattr(jobs.subprocess, "Popen", popen)
    return by_run


@pytest.mark.parametrize("count", [1, 2])
def test_failed_run_does_not_stop_the_others(make_run: Make, count: int, caplog: pytest.LogCaptureFixture) -> None:
    nearest = dataclasses.replace(make_run("nearest"), system=NEAREST, seed=UNSEEDED, folder=None)
    refused = make_run("refused", region="borough", batch={"balance_regions": True})
    large = make_run("large", batch={"size": 500})
    reported: list[tuple[str, int, int]] = []
    # In processes, their warnings are logged.
    with caplog.at_level(logging.WARNING), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        results = run_all([refused, nearest, large], count, lambda *what: reported.append(what))
    assert [type(result) for result in results] == [Failure, Evaluation, Evaluation]
    message = "the manifest has no column 'borough' with districts; set `region` to one of its columns."
    assert results[0] == Failure("refused", message, ConfigError)
    assert "large: batch size 500 exceeds the number of photographs; 40 is used" in caplog.text, "warnings name the run"
    of_towers = [str(one.message) for one in warned] if count == 1 else [record.message for record in caplog.records]
    assert any(text.startswith("large: freeze_image keeps builtin") for text in of_towers)
    assert reported[-1] == ("runs", 3, 3)
    assert ("large: training", 4, 4) in reported
    if count > 1:
        assert ("trained runs", 2, 2) in reported
        folder = large.folder
        assert folder is not None
        command = read_run(folder).command
        assert command is not None
        assert "--recipe=runs/large.toml --seed=0 --device=cpu --out=runs/large" in command


CRASHES = {
    "traceback": ("raise RuntimeError('rain')", "RuntimeError: rain"),
    "exit": ("import sys; sys.exit(7)", "its process ended with exit code 7."),
    "killed": ("import os; os.kill(os.getpid(), 9)", "its process was ended by signal 9, possibly out of memory"),
}


def test_crashed_processes_are_failures_with_their_last_lines(
    make_run: Make, programs: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    programs.update({name: program for name, (program, _) in CRASHES.items()})
    *failures, whole = run_all([make_run(name) for name in (*CRASHES, "whole")], 2)
    assert isinstance(whole, Evaluation), "the runs after the crashes are trained"
    for failure, (name, (_, message)) in zip(failures, CRASHES.items(), strict=True):
        assert isinstance(failure, Failure)
        assert (failure.title, failure.kind) == (name, SwclipError)
        assert failure.message.startswith(message)
        assert f"{name} failed:" in caplog.text


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is sent by signal")
def test_interruption_stops_all_processes_after_cleanup(
    make_run: Make, programs: dict[str, str], tmp_path: Path
) -> None:
    cleared = tmp_path / "cleared"
    programs["slow"] = (
        "import pathlib, signal, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"pathlib.Path({str(tmp_path / 'began')!r}).touch()\n"
        f"try: time.sleep(60)\nfinally: pathlib.Path({str(cleared)!r}).touch()"
    )
    training = make_run("training", steps=100_000, checkpoint_every=0, evaluate_every=0)
    assert training.folder is not None

    def interrupt(task: str, done: int, total: int) -> None:
        if done > 10 and (tmp_path / "began").exists():
            raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_all([make_run("slow"), training], 2, interrupt)
    assert time.monotonic() - started < 120
    assert cleared.exists()
    with sole_trainer(training.folder):  # no process trains there any more
        pass
    assert json.loads((training.folder / "run.json").read_text())["status"] == "running"


def test_zero_jobs_raise() -> None:
    with pytest.raises(ConfigError, match="jobs is 0"):
        run_all([], 0)


def test_threads_are_shared_equally() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        assert [threads_each(count) for count in (1, 2, 3, 4, 9)] == [4, 2, 1, 1, 1]
    finally:
        torch.set_num_threads(before)
