"""The journal of a file of answers: whatever moment a run ends at, the next one goes on with whole batches."""

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

from swclip.answers.journal import NAMED, AnswerJournal
from swclip.answers.record import Answer
from swclip.answers.region_shapes import REGIONS
from swclip.answers.table import answer_file, text_file
from swclip.errors import ArtefactError, ConfigError, InputError, MismatchError

NAMES = [f"{n}.jpg" for n in range(7)]
HEADER = {"gallery": {"content": "abc", "version": "1"}, "options": {"top_k": 5, "cells": (6, 8), "beam": None}}


def answers(*names: str) -> list[Answer]:
    return [Answer(name, 53.8, -1.55, 1 / 3) if int(name[0]) % 3 else Answer(name, error="is empty") for name in names]


def begun(
    out: Path, names: list[str] = NAMES, header: dict[str, object] = HEADER, restart: bool = False
) -> AnswerJournal:
    journal = AnswerJournal(out)
    journal.begin(header, names, restart=restart)
    return journal


def test_answers_are_kept_and_found_again(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "answers.csv"
    first = begun(out)
    assert (first.done, list(first.replay())) == (0, [])
    first.append(answers("0.jpg", "1.jpg", "2.jpg"), 3)
    second = begun(out)
    assert second.done == 3
    assert (second.failures.count, second.failures.named) == (1, [("0.jpg", "is empty")])
    second.append(answers("3.jpg", "4.jpg"), 2)
    assert [a for batch in begun(out).replay() for a in batch] == answers(*NAMES[:5])
    assert second.failures.count == 2
    assert not out.exists()


def test_the_file_takes_its_place_and_the_journal_goes(tmp_path: Path) -> None:
    out, regions = tmp_path / "answers.json", tmp_path / "maps" / "regions.geojson"
    out.write_text("old")
    journal = begun(out)
    journal.append(answers("0.jpg"), 1)
    journal.finished.write_text("new")
    journal.regions.write_text("shapes")
    assert out.read_text() == "old"
    journal.finish({journal.regions: regions, journal.finished: out})
    assert (out.read_text(), regions.read_text()) == ("new", "shapes")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.json", "maps"]


@given(beyond=st.binary(max_size=40))
@settings(max_examples=25)
def test_what_lies_beyond_the_state_is_cut_off(beyond: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    out = tmp_path_factory.mktemp("journal") / "a.json"
    journal = begun(out)
    journal.append(answers("0.jpg", "1.jpg"), 2)
    with (journal.folder / "answers.jsonl").open("ab") as stream:
        stream.write(beyond)  # a batch of which a part was written when the process died
    (journal.folder / "state.json.new").write_text("{")
    again = begun(out)
    assert [a for batch in again.replay() for a in batch] == answers("0.jpg", "1.jpg")
    again.append(answers("2.jpg"), 1)
    assert [a for batch in begun(out).replay() for a in batch] == answers("0.jpg", "1.jpg", "2.jpg")


@pytest.mark.parametrize("left", [(), ("photographs.txt",), ("photographs.txt", "header.json.new")])
def test_a_journal_that_was_never_begun_is_begun(left: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "a.json.partial"
    folder.mkdir()
    for name in left:
        (folder / name).write_text("{")
    assert begun(tmp_path / "a.json").done == 0
    assert begun(tmp_path / "a.json").done == 0


def test_half_a_journal_that_was_being_taken_away_is_begun_anew(tmp_path: Path) -> None:
    journal = begun(tmp_path / "a.json")
    journal.append(answers("0.jpg"), 1)
    (journal.folder / "header.json").unlink()
    again = begun(tmp_path / "a.json")
    assert (again.done, list(again.replay())) == (0, [])
    assert not (journal.folder / "state.json").exists()


def test_something_else_asked_is_refused_with_what_differs(tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    journal = begun(out)
    journal.append(answers("0.jpg"), 1)
    other = {"gallery": {"content": "def", "version": "1"}, "options": {"top_k": 3, "cells": (6, 8), "new": True}}
    with pytest.raises(MismatchError) as refused:
        begun(out, header=other)
    message = str(refused.value)
    for line in ('gallery.content: "abc" there, "def" now', "options.top_k: 5 there, 3 now", "options.new: null there"):
        assert line in message
    assert "version" not in message
    assert "options.beam" not in message, "what is not given is null"
    assert "--restart" in message
    with pytest.raises(MismatchError, match=r"photographs\.count: 7 there, 8 now") as refused:
        begun(out, [*NAMES, "8.jpg"])
    assert str(journal.names_file) in str(refused.value)
    with pytest.raises(MismatchError, match=r"photographs\.sha256"):
        begun(out, NAMES[::-1])
    assert begun(out).done == 1
    assert begun(out, header=other, restart=True).done == 0
    assert begun(out, header=other).done == 0


def test_the_names_are_listed_as_they_were_given(tmp_path: Path) -> None:
    from swclip.ingest.named_photographs import read_name_list

    for names in (["a.jpg", "b \udce9.jpg"], ["a\nb.jpg", "c.jpg"]):
        journal = begun(tmp_path / "a.json", names, restart=True)
        assert read_name_list(journal.names_file) == names
        assert begun(tmp_path / "a.json", read_name_list(journal.names_file)).done == 0


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def turned(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"53.8", b"53.9"))


def spoilt_by(path: Path, text: str) -> None:
    path.write_text(text)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: cut(folder / "answers.jsonl"),
        lambda folder: (folder / "answers.jsonl").unlink(),
        lambda folder: turned(folder / "answers.jsonl"),
        lambda folder: spoilt_by(folder / "state.json", "{"),
        lambda folder: spoilt_by(folder / "state.json", "{}"),
        lambda folder: spoilt_by(folder / "state.json", "[1]"),
        lambda folder: spoilt_by(folder / "header.json", "\0\0"),
    ],
)
def test_a_damaged_journal_is_not_gone_on_with(spoil: object, tmp_path: Path) -> None:
    journal = begun(tmp_path / "a.json")
    journal.append(answers("0.jpg", "1.jpg"), 2)
    spoil(journal.folder)
    with pytest.raises(ArtefactError, match="--restart begins anew"):
        list(begun(tmp_path / "a.json").replay())
    assert begun(tmp_path / "a.json", restart=True).done == 0


def test_somebody_elses_folder_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a.json.partial"
    folder.mkdir()
    (folder / "thesis.tex").write_text("mine")
    for restart in (False, True):
        with pytest.raises(InputError, match=r"thesis\.tex"):
            begun(tmp_path / "a.json", restart=restart)
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]
    (tmp_path / "b.json.partial").write_text("a file")
    with pytest.raises(InputError, match=r"b\.json\.partial: cannot write there"):
        begun(tmp_path / "b.json")


def test_only_the_first_failures_are_named(tmp_path: Path) -> None:
    names = [f"{n}.jpg" for n in range(NAMED + 5)]
    journal = begun(tmp_path / "a.json", names)
    journal.append([Answer(name, error="is empty") for name in names], len(names))
    for found in (journal, begun(tmp_path / "a.json", names)):
        assert (found.failures.count, len(found.failures.named)) == (NAMED + 5, NAMED)
    state = json.loads((journal.folder / "state.json").read_text())
    assert len(state["failures"]["named"]) == NAMED


class Died(BaseException):
    """What happens to a process at some moment: nothing after it is done."""


def go(out: Path) -> None:
    """All that a run does with its journal."""
    journal = begun(out)
    for at in range(journal.done, len(NAMES), 2):
        journal.append(answers(*NAMES[at : at + 2]), len(NAMES[at : at + 2]))
    with answer_file(journal.finished, "csv") as file, text_file(journal.regions, REGIONS) as regions:
        for batch in journal.replay():
            file.write(batch)
            regions.write(batch)
    journal.finish({journal.regions: out.with_name("regions.geojson"), journal.finished: out})


def test_a_run_that_dies_at_any_step_ends_with_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "whole").mkdir()
    go(tmp_path / "whole" / "a.csv")
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
                go(out)
                break
            except Died:
                pass
        go(out)
        assert {path.name: path.read_bytes() for path in out.parent.iterdir()} == whole, step
    assert 30 < step < 999


def test_one_process_at_a_time(tmp_path: Path) -> None:
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
    assert not list(tmp_path.iterdir()), "a folder that was never used is taken away"
