"""`swclip locate` to files: interruptions, concurrent runs, unreadable photographs and formats."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import geopandas
import pyarrow.parquet as pq
import pytest

from fixtures.processes import Command
from swclip.cli.app import run
from swclip.errors import ConfigError

Start = Callable[..., Command]
KILLS, COUNT = 6, 120
UNREADABLE = 7


@pytest.fixture(scope="session")
def many(town: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of 120 photographs; every tenth cannot be read, for three different reasons."""
    folder = tmp_path_factory.mktemp("many")
    good = sorted(town.glob("*.jpg"))
    names = []
    for number in range(COUNT):
        path = folder / f"{number:03d}.jpg"
        if number % 10 != 3:
            path = good[number % len(good)]
        elif number % 30 == 3:
            path.write_text("a letter")
        elif number % 30 == 13:
            path.write_bytes(good[0].read_bytes()[:300])
        names.append(f"{path}\n")
    (folder / "list").write_text("".join(names))
    return folder / "list"


def locate_command(made: Path, many: Path, out: Path, *more: str) -> list[str]:
    return ["locate", str(made / "gallery"), "--list", str(many), "--out", str(out), "--batch-size", "2", *more]


def n_answered(journal: Path) -> int:
    """Number of photographs with answers in a journal."""
    answers = journal / "answers.jsonl"
    if not answers.exists():
        return 0
    return int(([0, *re.findall(r'^{"done": (\d+), "crc32": \d+}\n', answers.read_text(), re.MULTILINE)])[-1])


def test_a_terminal_gets_a_sentence_per_photograph_and_a_pipe_json(
    made: Path, town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no\nphoto.jpg").write_text("a letter")
    photographs = [str(town / "p00-0.jpg"), str(tmp_path / "no\nphoto.jpg")]
    command = ["locate", str(made / "gallery"), *photographs]
    capsys.readouterr()
    assert run(command) == UNREADABLE
    answers = json.loads(capsys.readouterr().out)
    assert run([*command, "--format", "text"]) == UNREADABLE
    text = capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run(command) == UNREADABLE
    assert capsys.readouterr().out == text
    found, missing = text.splitlines()
    answer = answers[0]
    at = f"{answer['lat_deg']:.5f}, {answer['lon_deg']:.5f}"
    assert found.startswith(f"{photographs[0]}: {answer['city']}, {at}; ")
    assert f"; {answer['probability_within_50m']:.0%} within 50 m; " in found
    assert found.endswith(f"&mlon={answer['lon_deg']:.5f}&zoom=17")
    assert missing.startswith(f"{tmp_path}/no\N{REPLACEMENT CHARACTER}photo.jpg: no answer: ")
    assert run([*command, "--format", "json"]) == UNREADABLE
    assert json.loads(capsys.readouterr().out) == answers, "also on a terminal, when it is asked for"


def test_an_effort_that_a_gallery_does_not_have_changes_nothing(
    made: Path, town: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = []
    for effort in ("fast", "balanced", "best"):
        capsys.readouterr()
        assert run(["locate", str(made / "gallery"), str(town / "p00-0.jpg"), "--effort", effort]) == 0
        answers.append(capsys.readouterr().out)
    assert len(set(answers)) == 1
    assert run(["locate", str(made / "gallery"), str(town / "p00-0.jpg"), "--effort", "slow"]) == ConfigError.exit_code


@pytest.mark.slow
def test_killed_runs_resume_and_write_identical_files(made: Path, many: Path, tmp_path: Path, start: Start) -> None:
    whole, out, regions = tmp_path / "whole.parquet", tmp_path / "out.parquet", tmp_path / "regions.geojson"
    process = start(*locate_command(made, many, whole, "--region-out", str(tmp_path / "whole.geojson")))
    _, errors = process.communicate()
    assert process.returncode == UNREADABLE, errors
    files = whole.read_bytes(), (tmp_path / "whole.geojson").read_bytes()

    moments, progress, kills, code, output = random.Random(17), [0], 0, -signal.SIGKILL, ""
    journal = tmp_path / "out.parquet.partial"
    while kills < KILLS or code == -signal.SIGKILL:
        process = start(*locate_command(made, many, out, "--region-out", str(regions)))
        if kills < KILLS:
            enough = progress[-1] % COUNT + moments.randrange(COUNT // 4)
            while process.poll() is None and n_answered(journal) < enough:
                time.sleep(0.002)
            time.sleep(moments.uniform(0.0, 0.02))
            process.send_signal(signal.SIGKILL)
        output += process.communicate()[1]
        code = process.returncode
        if code == -signal.SIGKILL:
            kills += 1
            progress.append(n_answered(journal))
        else:
            assert code == UNREADABLE
            assert (out.read_bytes(), regions.read_bytes()) == files
            out.unlink()
            regions.unlink()
            progress.append(0)
    assert any(0 < done < COUNT for done in progress), f"no run was killed between its batches: {progress}"
    assert "resuming after" in output
    assert "Traceback" not in output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["whole.geojson", "whole.parquet"]


@pytest.mark.slow
def test_interrupted_run_keeps_its_answers_and_says_how_to_resume(
    made: Path, many: Path, tmp_path: Path, start: Start
) -> None:
    out = tmp_path / "answers.csv"
    long = tmp_path / "long"
    long.write_text(many.read_text() * 40)
    command = locate_command(made, long, out)
    process = start(*command)
    folder = tmp_path / "answers.csv.partial"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None and not n_answered(folder):
        time.sleep(0.01)
    # A second process must not write the same answers. The first is stopped, so that it cannot finish meanwhile.
    process.send_signal(signal.SIGSTOP)
    second = start(*command)
    _, errors = second.communicate(timeout=300)
    assert second.returncode == 5, errors
    assert "another process is writing the same answers" in errors
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    done = n_answered(folder)
    assert 0 < done < 40 * COUNT
    assert f"interrupted: {done} of {40 * COUNT} photographs are answered and kept in {folder}" in errors
    assert "Run the same command again to resume" in errors
    assert not out.exists()
    # Another request is refused; --restart discards the journal.
    for more in (["--top-k", "3"], ["--region", "0.9"]):
        assert run([*command, *more]) == 4
    assert n_answered(folder) == done
    short = locate_command(made, many, out)
    assert run(short) == 4
    assert run([*short, "--restart"]) == UNREADABLE
    assert out.read_text().startswith("photograph,photographs,rank,")
    assert not folder.exists()


def test_resuming_with_another_gallery_is_refused(
    made: Path, many: Path, town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made / "gallery", tmp_path / "gallery")
    out = tmp_path / "a.jsonl"
    command = ["locate", str(tmp_path / "gallery"), "--list", str(many), "--out", str(out)]
    folder = tmp_path / "a.jsonl.partial"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("swclip.answers.journal.AnswerJournal.finish", interrupted)
        assert run(command) == 130
    assert f"interrupted: {COUNT} of {COUNT} photographs are answered and kept" in capsys.readouterr().err
    (tmp_path / "gallery").rename(tmp_path / "old")
    assert run(["index", str(made / "run"), str(town), "--out", str(tmp_path / "gallery"), "--no-photographs"]) == 0
    capsys.readouterr()
    assert run(command) == 4
    errors = capsys.readouterr().err
    assert "gallery.content" in errors
    assert "gallery.photographs: 60 before, 0 now" in errors
    assert "gallery.model" not in errors
    shutil.rmtree(tmp_path / "gallery")
    (tmp_path / "old").rename(tmp_path / "gallery")
    assert run(command) == UNREADABLE
    assert not folder.exists()
    assert len(out.read_text().splitlines()) == COUNT


def interrupted(*_: object, **options: object) -> None:
    raise KeyboardInterrupt


def test_unreadable_photographs_are_counted_and_the_first_listed(
    made: Path, many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "answers.jsonl"
    (tmp_path / "twice").write_text(many.read_text() * 2)
    assert run([*locate_command(made, tmp_path / "twice", out)[:-1], "50"]) == UNREADABLE
    errors = capsys.readouterr().err
    assert "error: 24 of 240 photographs could not be read:" in errors
    assert errors.count(str(many.parent)) == 20
    assert f"and 4 more; {out} states all reasons" in errors
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [number for number, line in enumerate(lines) if line["error"]] == list(range(3, 2 * COUNT, 10))
    assert len({line["error"] for line in lines if line["error"]}) == 3


def test_file_and_standard_output_are_identical(
    made: Path, many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photographs = many.read_text().splitlines()[:5]
    for format in ("json", "jsonl", "csv", "geojson", "kml"):
        out = tmp_path / f"answers.{format}"
        command = ["locate", str(made / "gallery"), *photographs, "--batch-size", "1"]
        capsys.readouterr()
        assert run([*command, "--format", format, "--region-out", str(tmp_path / "regions")]) == UNREADABLE
        regions = (tmp_path / "regions").read_bytes()
        assert run([*command, "--out", str(out), "--region-out", str(tmp_path / "regions")]) == UNREADABLE
        assert capsys.readouterr().out.encode() == out.read_bytes()
        assert (tmp_path / "regions").read_bytes() == regions
    assert len(geopandas.read_file(tmp_path / "answers.geojson")) == 5
    ElementTree.parse(tmp_path / "answers.kml")
    out.write_text("an old one")
    assert run([*command, "--out", str(out)]) == UNREADABLE
    assert out.read_text().startswith("<?xml")
    assert run([*command, "--out", str(tmp_path / "a.parquet")]) == UNREADABLE
    assert pq.read_table(tmp_path / "a.parquet")["photograph"].to_pylist() == photographs


def test_answers_do_not_depend_on_the_batch(made: Path, many: Path, tmp_path: Path) -> None:
    files = []
    for size in (1, 7, 50):
        out = tmp_path / f"{size}.jsonl"
        assert run([*locate_command(made, many, out)[:-1], str(size)]) == UNREADABLE
        files.append(out.read_bytes())
    assert files[0] == files[1] == files[2]


def test_file_names_that_are_not_utf_8_are_escaped(made: Path, town: Path, tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")
    shutil.copy(town / "p00-0.jpg", name)
    out = tmp_path / "answers.json"
    assert run(["locate", str(made / "gallery"), name, "--out", str(out)]) == 0
    (answer,) = json.loads(out.read_text(encoding="utf-8"))
    assert answer["photograph"].endswith("/caf\\xe9.jpg")
    assert answer["lat_deg"]


def test_interruption_before_the_first_answers_leaves_no_files(
    made: Path, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.csv"
    monkeypatch.setattr("swclip.retrieval.locator.Locator.locate", interrupted)
    assert run(locate_command(made, many, out)) == 130
    assert "before the first photographs were answered" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert run(["locate", str(made / "gallery"), "--list", str(many)]) == 130
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"0 of {COUNT} photographs were answered. With --out FILE the answers are kept" in captured.err


def test_misspelt_option_is_not_taken_for_a_photograph(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["locate", str(made / "gallery"), "a.jpg", "--restrat"]) == 5
    assert "--restrat: there is no such option" in capsys.readouterr().err


def test_names_are_read_from_standard_input(made: Path, many: Path) -> None:
    command = [sys.executable, "-m", "swclip", "locate", str(made / "gallery"), "-", "--format", "jsonl"]
    names = many.read_text().splitlines()[:3]
    done = subprocess.run(command, input="\0".join([*names, ""]), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["photograph"] for line in done.stdout.splitlines()] == names


def test_warning_of_every_batch_is_logged_once(
    made: Path, many: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(made / "gallery", tmp_path / "gallery")
    (tmp_path / "gallery" / "model" / "regions.json").unlink()
    assert run(["locate", str(tmp_path / "gallery"), *many.read_text().splitlines()[:3], "--batch-size", "1"]) == 0
    out = str(tmp_path / "a.json")
    assert (
        run(["locate", str(tmp_path / "gallery"), "--list", str(many), "--batch-size", "8", "--out", out]) == UNREADABLE
    )
    assert caplog.text.count("regions contain a share of the posterior") == 2


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--out", "FOLDER"], 5, "unknown extension"),
        (["--out", "FOLDER", "--format", "csv"], 2, "is a folder"),
        (["--out", "a.json", "--region-out", "./a.json"], 5, "are the same file"),
        (["--format", "parquet"], 5, "with --out FILE.parquet"),
        (["--out", "a.txt"], 5, "unknown extension"),
        (["--restart"], 5, "--restart needs --out"),
        (["--batch-size", "0"], 5, "must be at least 1"),
        (["--list-column", "photo"], 5, "goes with --list"),
        (["--out", "a.json", "--top-k", "0"], 5, "top_k is 0"),
        (["--out", "FILE/a.json"], 2, "cannot write there"),
    ],
)
def test_invalid_options_are_refused_and_leave_no_files(
    more: list[str],
    code: int,
    message: str,
    made: Path,
    town: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("FOLDER").mkdir()
    Path("FILE").write_text("")
    assert run(["locate", str(made / "gallery"), str(town / "p00-0.jpg"), *more]) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["FILE", "FOLDER"]
