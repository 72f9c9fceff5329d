"""Bars on standard error, the caller's own callback, or neither."""

from __future__ import annotations

import pytest

from swclip import progress
from swclip.progress import count_progress, run_bars, step_progress


def test_true_shows_a_bar_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with count_progress(True, "Counting") as report:
        assert report is not None
        report(3, 3)
    said = capsys.readouterr()
    assert said.out == ""
    assert "Counting" in said.err
    assert "3/3" in said.err


def test_a_callback_is_handed_on_and_nothing_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[tuple[int, int]] = []
    with count_progress(lambda done, total: seen.append((done, total)), "Counting") as report:
        assert report is not None
        report(1, 2)
    for nothing in (None, False):
        with count_progress(nothing, "Counting") as report, step_progress(nothing) as steps:
            assert report is None
            assert steps is None
    assert seen == [(1, 2)]
    assert capsys.readouterr().err == ""


def test_steps_have_a_bar_each(capsys: pytest.CaptureFixture[str]) -> None:
    with step_progress(True) as report:
        assert report is not None
        report("features", 5, 5)
        report("training", 7, 7)
    shown = capsys.readouterr().err
    assert "features" in shown
    assert "7/7" in shown


def test_of_many_runs_those_that_are_done_leave_the_display(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress.console, "_force_terminal", True)
    with step_progress(True, run_bars) as report:
        assert report is not None
        report("clip, seed 0: training", 5, 5)
        report("runs", 1, 2)
    shown = capsys.readouterr().err
    assert "runs" in shown
    assert "clip, seed 0" not in shown


def test_a_log_file_has_a_line_a_minute_and_one_when_a_run_starts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with step_progress(True, run_bars) as report:
        assert report is not None
        report("runs", 0, 2)
        for second in range(0, 150, 5):
            now = float(second)
            report("clip, seed 0: training", second, 150)
        report("runs", 1, 2)
        report("sw-clip, seed 0: image features", 0, 30)
    assert capsys.readouterr().err.splitlines() == [
        "clip, seed 0: training: 0 of 150 (runs: 0 of 2)",
        "clip, seed 0: training: 60 of 150 (runs: 0 of 2)",
        "clip, seed 0: training: 120 of 150 (runs: 0 of 2)",
        "sw-clip, seed 0: image features: 0 of 30 (runs: 1 of 2)",
    ]
