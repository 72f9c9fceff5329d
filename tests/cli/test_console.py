"""Sentences of the command line: the command for records, and what to do next."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from swclip.cli import console
from swclip.cli.app import run


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


def test_a_command_ends_with_what_to_do_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "my cities"
    arguments = ["synth", "--out", str(out), "--cities", "1", "--photos-per-city", "4", "--size", "32", "--workers=1"]
    assert run(arguments) == 0
    said = capsys.readouterr()
    following = f"Next: swclip split '{out}' --protocol known-places --out '{out}/splits.parquet'"
    assert said.err.splitlines()[-1] == following, "quoted, in one line"
    assert said.out == f"{out / 'manifest.parquet'}\n"
    assert run([*arguments, "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out == f"{out / 'manifest.parquet'}\n", "results are printed all the same"


def test_what_to_do_next_is_that_of_the_typed_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "typed", ["demo"])
    console.next_step("synth", "swclip", "split", "cities")
    assert capsys.readouterr().err == "", "another command called its function"
    console.next_step("demo", "open a.html in a browser")
    assert capsys.readouterr().err == "Next: open a.html in a browser\n"


@pytest.mark.parametrize("width", [80, 120])
def test_tables_cut_and_break_no_name_or_number(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console.console, "_width", width)
    columns = ["system", "median", "mean", "p95", "within 25 m", "within 100 m", "recall@1", "median vs clip"]
    names = ["nearest-neighbour-whitened", "sw-clip-no-neighbourhood"]
    figures = ["12.3 m", "1.2 km", "3.4 km", "65.3 %", "80.1 %", "55.5 %", "-40 m [-60 m, -20 m]"]
    console.print_table("812 queries", columns, [[name, *figures] for name in names])
    shown = capsys.readouterr().err
    assert max(map(len, shown.splitlines())) <= width
    assert "…" not in shown
    for name in names:
        lines = [line for line in shown.splitlines() if name in line]
        cells = [cell.strip() for line in lines for cell in line.split("│")[2:-1]]
        assert cells == figures, "all figures are beside the name, in one table or several"
