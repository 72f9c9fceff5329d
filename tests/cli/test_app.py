"""The command line: help texts, start-up time and interruptions."""

from __future__ import annotations

import json
import logging
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.processes import Command
from swclip.cli.app import COMMANDS, run
from swclip.errors import ConfigError, SwclipError
from swclip.training.run import read_run

HEAVY = ("torch", "transformers", "pandas", "geopandas", "pyarrow", "matplotlib", "plotly", "scipy", "safetensors")


def test_help_lists_every_command_without_heavy_imports() -> None:
    code = (
        "import sys\nfrom swclip.cli.app import run\n"
        "try:\n    run(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        f"print('heavy:', sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
    )
    shown = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert "heavy: []" in shown.stderr, shown.stderr
    # The fixtures set a wide terminal, so that no summary is wrapped.
    lines = dict(re.findall(r"^│ (\S+) +(\S.*?) *│$", shown.stdout, re.MULTILINE))
    assert {name: lines.get(name) for name in COMMANDS} == COMMANDS
    # The help of a command must not import the libraries that it uses either.
    shown = subprocess.run([sys.executable, "-c", code, "train", "--help"], capture_output=True, text=True, check=True)
    assert "heavy: []" in shown.stderr, shown.stderr


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    import swclip

    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == swclip.__version__


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], 'error: Unknown command "trian". Did you mean "train"? See: swclip --help'),
        (["train"], "error: MANIFEST is missing. See: swclip train --help"),
        (["train", "x", "--splits"], "error: --splits needs a value. See: swclip train --help"),
        (["evaluate", "x", "y", "--out", "z"], "error: 'y' is one argument too many. See: swclip evaluate --help"),
        (
            ["serve", "x", "--prt", "3"],
            "error: Unknown option: --prt. Did you mean --port? See: swclip serve --help",
        ),
        (["gallery", "info", "x", "--format", "xml"], "See: swclip gallery info --help"),
        (["locate", "g", "--top-k", "x"], "unable to convert"),
    ],
)
def test_an_invalid_command_line_is_one_sentence_and_the_code_of_an_invalid_option(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == ConfigError.exit_code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert message in captured.err


def test_verbose_shows_log_messages_and_the_traceback_of_an_error(
    made: Path,
    town: Path,
    tmp_path: Path,
    tiny: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    again = ["train", str(town), f"--splits={town / 'splits.parquet'}", f"--out={made / 'run'}", "--steps=4", *tiny]
    for flags, shown in (([], False), (["-v"], True)):
        # In place of pytest's own: the command line adds a handler where there is none.
        monkeypatch.setattr(logging.getLogger(), "handlers", [])
        assert run([*again, "--seed=0", *flags]) == 0
        assert ("the run is finished; nothing to do" in capsys.readouterr().err) == shown
        assert run(["evaluate", str(tmp_path), "--out", str(tmp_path / "report"), *flags]) == 3
        assert ("Traceback" in capsys.readouterr().err) == shown


def test_each_kind_of_error_has_a_code_of_its_own() -> None:
    kinds = [SwclipError, *SwclipError.__subclasses__()]
    codes = [kind.exit_code for kind in kinds]
    assert len(set(codes)) == len(codes)
    assert not {0, 130, 143} & set(codes)


@pytest.mark.slow
def test_training_resumes_after_ctrl_c(
    town: Path, tiny: list[str], tmp_path: Path, start: Callable[..., Command]
) -> None:
    out = tmp_path / "run"
    command = ["train", town, "--splits", town / "splits.parquet", "--out", out, "--steps=60", *tiny]
    command += ["--set=checkpoint_every=5", "--set=evaluate_every=0"]
    process = start(*command, kill_at=10, kill_by=signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "interrupted; run the same command again to resume" in errors
    assert "Traceback" not in errors
    assert read_run(out).status == "running"
    assert not list(out.rglob(".*")), "no partial files"
    again = start(*command)
    _, errors = again.communicate()
    assert again.returncode == 0, errors
    assert read_run(out).status == "finished"
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps == [10, 20, 30, 40, 50, 60, 60]


@pytest.mark.slow
def test_closed_pipe_is_not_an_error(made: Path, town: Path) -> None:
    command = [sys.executable, "-m", "swclip", "locate", str(made / "gallery"), str(town)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors
