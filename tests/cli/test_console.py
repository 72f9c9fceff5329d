"""Progress in a log file: occasional lines with the rate of this process and the remaining time."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from swclip.cli import console


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    monkeypatch.setattr(console, "console", Console(file=stream, width=200))
    return stream


def test_log_file_gets_one_line_per_minute(log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    with console.rate_bar("Locating", 1000, start=100) as report:
        for seconds, done in ((0, 100), (30, 200), (60, 100), (60, 300), (90, 400), (119, 500), (120, 700)):
            clock[0] = seconds
            report(done)
    assert log.getvalue().splitlines() == [
        "Locating: 300 of 1000, 3.33/s, 0:03:30 left",  # 200 by this process in one minute
        "Locating: 700 of 1000, 5/s, 0:01:00 left",
    ]


def test_terminal_shows_a_bar_with_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(console, "console", Console(file=stream, width=120, force_terminal=True))
    with console.rate_bar("Locating", 10, start=4) as report:
        for done in range(5, 11):
            report(done)
    assert "Locating" in stream.getvalue()
    assert "10/10" in stream.getvalue()
    assert "/s" in stream.getvalue()


def test_command_line_states_no_folder_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [
        "swclip",
        "evaluate",
        "/home/ada/runs/first",
        "--out=/home/ada/my reports/1",
        "--near",
        "-33,151",
        "run",
    ]
    monkeypatch.setattr(sys, "argv", arguments)
    assert console.command_line() == "swclip evaluate runs/first '--out=my reports/1' --near -33,151 run"
