"""The journal of answers: after an interruption at any moment, the next run resumes with complete batches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.answers.formats import REGIONS
from swclip.answers.journal import AnswerJournal
from swclip.answers.record import Answer
from swclip.answers.table import answer_file, text_file
from swclip.errors import ArtefactError, ConfigError, InputError, MismatchError

NAMES = [f"{n}.jpg" for n in range(7)]
HEADER = {
    "gallery": {"content": "abc", "version": "1"},
    "options": {"top_k": 5, "cells": (6, 8), "beam": None},
    "photographs": {"count": 7, "sha256": "abc"},
}


def answers(*names: str) -> list[Answer]:
    point = {"lat_deg": 53.8, "lon_deg": -1.55, "probability_within_50m": 1 / 3}
    return [Answer(photograph=name, **(point if int(name[0]) % 3 else {"error": "is empty"})) for name in names]


def started_journal(out: Path, header: dict[str, object] = HEADER, restart: bool = False) -> AnswerJournal:
    journal = AnswerJournal(out)
    journal.begin(header, "\n".join(NAMES).encode(), restart=restart)
    return journal


def test_answers_are_saved_and_replayed(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "answers.csv"
    first = started_journal(out)
    assert (first.done, list(first.replay())) == (0, [])
    first.append(answers("0.jpg", "1.jpg", "2.jpg"), 3)
    second = started_journal(out)
    assert second.done == 3
    second.append(answers("3.jpg", "4.jpg"), 2)
    assert [a for batch in started_journal(out).replay() for a in batch] == answers(*NAMES[:5])
    assert not out.exists()


def test_finish_moves_the_files_and_removes_the_journal(tmp_path: Path) -> None:
    out, regions = tmp_path / "answers.json", tmp_path / "maps" / "regions.geojson"
    out.write_text("old")
    journal = started_journal(out)
    journal.append(answers("0.jpg"), 1)
    journal.finished.write_text("new")
    journal.regions.write_text("shapes")
    assert out.read_text() == "old"
    journal.finish({journal.regions: regions, journal.finished: out})
    assert (out.read_text(), regions.read_text()) == ("new", "shapes")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.json", "maps"]


@given(beyond=st.binary(max_size=40))
@settings(max_examples=25)
def test_incomplete_batch_is_dropped(beyond: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    out = tmp_path_factory.mktemp("journal") / "a.json"
    journal = started_journal(out)
    journal.append(answers("0.jpg", "1.jpg"), 2)
    with (journal.folder / "answers.jsonl").open("ab") as stream:
        stream.write(beyond)  # a batch of which a part was written when the process died
    again = started_journal(out)
    assert [a for batch in again.replay() for a in batch] == answers("0.jpg", "1.jpg")
    again.append(answers("2.jpg"), 1)
    assert [a for batch in started_journal(out).replay() for a in batch] == answers("0.jpg", "1.jpg", "2.jpg")


def test_batch_truncated_at_any_byte_is_dropped(tmp_path: Path) -> None:
    journal = started_journal(tmp_path / "a.json")
    journal.append(answers("0.jpg"), 1)
    kept = journal.folder.joinpath("answers.jsonl").stat().st_size
    journal.append(answers("1.jpg", "2.jpg"), 2)
    whole = journal.folder.joinpath("answers.jsonl").read_bytes()
    for size in range(kept, len(whole)):
        # Cut there, or of its full size with zeros from there on, as after a power cut.
        for torn in (whole[:size], whole[:size] + b"\0" * (len(whole) - size)):
            journal.folder.joinpath("answers.jsonl").write_bytes(torn)
            assert started_journal(tmp_path / "a.json").done == 1
    journal.folder.joinpath("answers.jsonl").write_bytes(whole)
    assert started_journal(tmp_path / "a.json").done == 3


@pytest.mark.parametrize("left", [(), ("photographs.txt",), ("photographs.txt", "header.json.new")])
def test_journal_without_header_is_started(left: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "a.json.partial"
    folder.mkdir()
    for name in left:
        (folder / name).write_text("{")
    assert started_journal(tmp_path / "a.json").done == 0
    assert started_journal(tmp_path / "a.json").done == 0


def test_partly_removed_journal_is_started_again(tmp_path: Path) -> None:
    journal = started_journal(tmp_path / "a.json")
    journal.append(answers("0.jpg"), 1)
    (journal.folder / "header.json").unlink()
    again = started_journal(tmp_path / "a.json")
    assert (again.done, list(again.replay())) == (0, [])
    assert not (journal.folder / "answers.jsonl").exists()


def test_another_request_is_refused_with_the_differences(tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    journal = started_journal(out)
    journal.append(answers("0.jpg"), 1)
    other = {**HEADER, "gallery": {"content": "def", "version": "1"}}
    other["options"] = {"top_k": 3, "cells": (6, 8), "new": True}
    with pytest.raises(MismatchError) as refused:
        started_journal(out, other)
    message = str(refused.value)
    for line in (
        'gallery.content: "abc" before, "def" now',
        "options.top_k: 5 before, 3 now",
        "options.new: null before",
    ):
        assert line in message
    assert "version" not in message
    assert "options.beam" not in message, "null options are equal to missing ones"
    assert "--restart" in message
    with pytest.raises(MismatchError, match=r"photographs\.count: 7 before, 8 now") as refused:
        started_journal(out, {**HEADER, "photographs": {"count": 8, "sha256": "abc"}})
    assert str(journal.names_file) in str(refused.value)
    assert journal.names_file.read_text().split() == NAMES
    assert started_journal(out).done == 1
    assert started_journal(out, other, restart=True).done == 0
    assert started_journal(out, other).done == 0


def test_journal_of_an_older_version_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "a.json.partial"
    folder.mkdir()
    (folder / "header.json").write_text(json.dumps({"journal": "1", **HEADER}))
    (folder / "answers.jsonl").write_text("{}\n")
    (folder / "state.json").write_text('{"done": 1}')
    with pytest.raises(MismatchError, match=r'journal: "1" before, "2" now\n.*--restart starts over'):
        started_journal(tmp_path / "a.json")
    assert started_journal(tmp_path / "a.json", restart=True).done == 0
    assert not (folder / "state.json").exists()


def test_damaged_header_is_refused(tmp_path: Path) -> None:
    journal = started_journal(tmp_path / "a.json")
    journal.append(answers("0.jpg"), 1)
    (journal.folder / "header.json").write_text("\0\0")
    with pytest.raises(ArtefactError, match="--restart starts over"):
        started_journal(tmp_path / "a.json")
    assert started_journal(tmp_path / "a.json", restart=True).done == 0


def test_batches_after_a_damaged_one_are_dropped(tmp_path: Path) -> None:
    journal = started_journal(tmp_path / "a.json")
    journal.append(answers("0.jpg"), 1)
    journal.append(answers("1.jpg"), 1)
    journal.append(answers("2.jpg"), 1)
    path = journal.folder / "answers.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"1.jpg"', b'"9.jpg"'))
    again = started_journal(tmp_path / "a.json")
    assert [a for batch in again.replay() for a in batch] == answers("0.jpg")
    path.unlink()
    with pytest.raises(ArtefactError, match="--restart starts over"):
        list(again.replay())
    assert started_journal(tmp_path / "a.json").done == 0


def test_folder_with_other_files_is_not_changed(tmp_path: Path) -> None:
    folder = tmp_path / "a.json.partial"
    folder.mkdir()
    (folder / "thesis.tex").write_text("mine")
    for restart in (False, True):
        with pytest.raises(InputError, match=r"thesis\.tex"):
            started_journal(tmp_path / "a.json", restart=restart)
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]
    (tmp_path / "b.json.partial").write_text("a file")
    with pytest.raises(InputError, match=r"b\.json\.partial: cannot write there"):
        started_journal(tmp_path / "b.json")


class Died(BaseException):
    """Raised where a process is assumed to die."""


def run_steps(out: Path) -> None:
    """Run all steps of a command with its journal."""
    journal = started_journal(out)
    for at in range(journal.done, len(NAMES), 2):
        journal.append(answers(*NAMES[at : at + 2]), len(NAMES[at : at + 2]))
    with answer_file(journal.finished, "csv") as file, text_file(journal.regions, REGIONS) as regions:
        for batch in journal.replay():
            file.write(batch)
            regions.write(batch)
    journal.finish({journal.regions: out.with_name("regions.geojson"), journal.finished: out})


def test_run_that_dies_at_any_step_resumes_to_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "whole").mkdir()
    run_steps(tmp_path / "whole" / "a.csv")
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert sorted(whole) == ["a.csv", "regions.geojson"]
    for step in range(1000):
        out = tmp_path / f"{step}" / "a.csv"
        left = step

        def dying(real: Callable[..., object]) -> Callable[..., object]:
            def call(*args: object, **more: object) -> object:
                nonlocal left
                left -= 1
                if left < 0:
                    raise Died
                return real(*args, **more)

            return call

        with monkeypatch.context() as patch:
            for owner, name in (
                (os, "fsync"), (Path, "replace"), (Path, "unlink"), (Path, "open"), (Path, "mkdir"), (os, "unlink"),
            ):  # fmt: skip
                patch.setattr(owner, name, dying(getattr(owner, name)))
            try:
                run_steps(out)
                break
            except Died:
                pass
        run_steps(out)
        assert {path.name: path.read_bytes() for path in out.parent.iterdir()} == whole, step
    assert 20 < step < 999


def test_journal_is_locked_against_other_processes(tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    code = "import sys; from pathlib import Path; from swclip.answers.journal import AnswerJournal\n"
    code += "with AnswerJournal(Path(sys.argv[1])).held(): print('in', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "in\n"
        with pytest.raises(ConfigError, match="another process is writing the same answers"), AnswerJournal(out).held():
            pass
        other.kill()
        other.wait()
    with AnswerJournal(out).held():
        pass
    assert not list(tmp_path.iterdir()), "an unused folder is removed"
