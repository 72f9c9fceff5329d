"""Bars on standard error, the caller's own callback, or neither."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from swclip import progress
from swclip.progress import count_progress, rate_bar, run_bars, signs_of_life, step_progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the time in seconds."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, seconds)


def test_true_shows_a_bar_on_standard_error(capsys: pytest.CaptureFixture[str], terminal: None) -> None:
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


def test_steps_have_a_bar_each(capsys: pytest.CaptureFixture[str], terminal: None) -> None:
    with step_progress(True) as report:
        assert report is not None
        report("features", 5, 5)
        report("training", 7, 7)
    shown = capsys.readouterr().err
    assert "features" in shown
    assert "7/7" in shown


def test_of_many_runs_those_that_are_done_leave_the_display(capsys: pytest.CaptureFixture[str], terminal: None) -> None:
    with step_progress(True, run_bars) as report:
        assert report is not None
        report("clip, seed 0: training", 5, 5)
        report("runs", 1, 2)
    shown = capsys.readouterr().err
    assert "runs" in shown
    assert "clip, seed 0" not in shown


def test_a_narrow_terminal_cuts_no_number(
    capsys: pytest.CaptureFixture[str], terminal: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress.console, "_width", 80)
    with step_progress(True, run_bars) as report:
        assert report is not None
        report("sw-clip-no-neighbourhood, seed 0, manchester: image features", 40, 4060)
    shown = capsys.readouterr().err
    assert "40/4060" in shown
    assert "manchester: image features" in shown
    assert "…" not in shown


def test_a_terminal_shows_the_rate(capsys: pytest.CaptureFixture[str], terminal: None) -> None:
    with rate_bar("Locating", 10, start=4) as report:
        for done in range(5, 11):
            report(done)
    shown = capsys.readouterr().err
    assert "Locating" in shown
    assert "10/10" in shown
    assert "/s" in shown


def test_a_log_file_has_a_line_a_minute_with_the_rate_of_this_process(
    capsys: pytest.CaptureFixture[str], clock: Callable[[float], None]
) -> None:
    with rate_bar("Locating", 1000, start=100) as report:
        for seconds, done in ((0, 100), (30, 200), (60, 100), (60, 300), (90, 400), (119, 500), (120, 700)):
            clock(seconds)
            report(done)
    assert capsys.readouterr().err.splitlines() == [
        "Locating: 300 of 1000, 3.33/s, 0:03:30 left",  # 200 by this process in one minute
        "Locating: 700 of 1000, 5/s, 0:01:00 left",
    ]


def test_a_log_file_has_a_line_a_minute_of_each_step(
    capsys: pytest.CaptureFixture[str], clock: Callable[[float], None]
) -> None:
    with step_progress(True) as report:
        assert report is not None
        for second in range(0, 91, 10):
            clock(second)
            report("features", second, 90)
        report("training", 0, 40)
        clock(150)
        report("training", 10, 40)
    assert capsys.readouterr().err.splitlines() == [
        "features: 60 of 90, 1/s, 0:00:30 left",
        "training: 10 of 40, 0.167/s, 0:03:00 left",
    ]


def test_a_log_file_has_a_line_when_a_run_starts_too(
    capsys: pytest.CaptureFixture[str], clock: Callable[[float], None]
) -> None:
    with step_progress(True, run_bars) as report:
        assert report is not None
        report("runs", 0, 2)
        for second in range(0, 150, 5):
            clock(second)
            report("clip, seed 0: training", second, 150)
        report("runs", 1, 2)
        report("sw-clip, seed 0: image features", 0, 30)
    assert capsys.readouterr().err.splitlines() == [
        "clip, seed 0: training: 0 of 150 (runs: 0 of 2)",
        "clip, seed 0: training: 60 of 150, 1/s, 0:01:30 left (runs: 0 of 2)",
        "clip, seed 0: training: 120 of 150, 1/s, 0:00:30 left (runs: 0 of 2)",
        "sw-clip, seed 0: image features: 0 of 30 (runs: 1 of 2)",
    ]


def test_a_log_file_has_a_line_in_each_minute_without_another(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_LINE_EVERY_S", 0.01)
    shown, give_up = "", time.monotonic() + 30.0
    with signs_of_life("swclip compare"):
        while not shown and time.monotonic() < give_up:
            shown = capsys.readouterr().err
    assert shown.startswith("swclip compare: still running after 0 min\n")


def test_a_terminal_has_no_such_lines(
    capsys: pytest.CaptureFixture[str], terminal: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_LINE_EVERY_S", 0.0)
    with signs_of_life("swclip compare"):
        pass
    assert capsys.readouterr().err == ""
