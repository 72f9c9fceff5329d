"""The command line as a whole: its help, what it costs to start, and how interruptions end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from swclip.cli.app import VERBS, app, run
from swclip.training.run import read_run

HEAVY = ("torch", "transformers", "pandas", "geopandas", "pyarrow", "matplotlib", "plotly", "scipy", "safetensors")


def test_help_is_quick_and_names_every_verb() -> None:
    code = (
        "import sys\nfrom swclip.cli.app import run\n"
        "try:\n    run(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        f"print('heavy:', sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
    )
    shown = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert "heavy: []" in shown.stderr, shown.stderr
    for verb in VERBS:
        assert f"\n  {verb} " in shown.stdout.replace("│", " ").replace("\n ", "\n "), verb
    # Asking what a verb takes must not load the libraries that it works with either.
    asked = subprocess.run([sys.executable, "-c", code, "train", "--help"], capture_output=True, text=True, check=True)
    assert "heavy: []" in asked.stderr, asked.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Usage: swclip {verb}" in shown
    # A verb that has verbs of its own says what they are for; any other begins with its docstring.
    command = app[verb].default_command
    said = app[verb].help if command is None else command.__doc__
    assert said
    assert said.splitlines()[0].rstrip(".").split()[0] in shown


@pytest.mark.parametrize("verb", [name for name in app["gallery"] if not name.startswith("-")])
def test_each_verb_of_a_gallery_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["gallery", verb, "--help"]) == 0
    assert f"Usage: swclip gallery {verb}" in capsys.readouterr().out


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    import swclip

    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == swclip.__version__


@pytest.mark.parametrize(
    "arguments", [["trian"], ["train"], ["train", "x", "--stepz", "3"], ["locate", "g", "--top-k", "x"]]
)
def test_a_command_that_is_not_understood(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run(arguments)
    assert left.value.code not in (0, None)
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err


def test_ctrl_c_says_so_and_the_same_command_goes_on(
    town: Path, tiny: list[str], tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    out = tmp_path / "run"
    command = ["train", town, "--splits", town / "splits.parquet", "--out", out, "--steps=60", *tiny]
    command += ["--set=checkpoint_every=5", "--set=evaluate_every=0"]
    process = start(*command)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None and not list(out.glob("checkpoints/step-*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "interrupted; the same command goes on" in errors
    assert "Traceback" not in errors
    assert read_run(out).status == "running"
    assert not list(out.rglob(".*")), "nothing half-written"
    again = start(*command)
    _, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    assert read_run(out).status == "finished"
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps == [10, 20, 30, 40, 50, 60, 60]


def test_a_pipe_that_closes_is_no_error(made: Path, town: Path) -> None:
    command = [sys.executable, "-m", "swclip", "locate", str(made / "gallery"), str(town)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors
