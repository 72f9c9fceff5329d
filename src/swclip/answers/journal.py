"""Answers on their way to a file: kept batch by batch beside it, so that a killed run goes on where it was.

`FILE.partial/` holds header.json (what is asked, of which gallery), photographs.txt (the names), answers.jsonl, and
state.json, which says how much of answers.jsonl counts. A batch is written and forced to the disk before state.json is
replaced, so whatever moment a process dies at, the state speaks of whole batches; what lies beyond it is cut off.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from swclip.answers.formats import JSON_LINES
from swclip.answers.record import Answer
from swclip.answers.schema import answer_from_json
from swclip.errors import ArtefactError, ConfigError, InputError, MismatchError
from swclip.files import atomic_file, read_json
from swclip.ingest.named_photographs import digest_of_names, join_names
from swclip.locks import sole_holder

JOURNAL_VERSION = "1"
NAMED = 20
"""Photographs without an answer that are named; the others are counted."""

_HEADER, _NAMES, _ANSWERS, _STATE = "header.json", "photographs.txt", "answers.jsonl", "state.json"
_FINISHED, _REGIONS = "finished", "regions"
_FILES = (_HEADER, _NAMES, _ANSWERS, _STATE, _FINISHED, _REGIONS)
_OURS = {name + ending for name in _FILES for ending in ("", ".new")}
_AT_ONCE = 256


@dataclass
class Failures:
    """Photographs without an answer.

    Attributes:
        count: How many.
        named: (photograph, reason) of the first `NAMED`.
    """

    count: int = 0
    named: list[tuple[str, str]] = field(default_factory=list)

    def add(self, answers: Sequence[Answer]) -> None:
        """Count those of some answers."""
        for answer in answers:
            if answer.error is not None:
                self.count += 1
                if len(self.named) < NAMED:
                    self.named.append((answer.photograph, answer.error))


class AnswerJournal:
    """The journal of one file of answers.

    Args:
        out: The file that the answers are for.

    Attributes:
        folder: Where the journal lies, `FILE.partial`.
        done: Photographs that are answered.
        failures: Those of them that could not be read.
    """

    def __init__(self, out: Path) -> None:
        self.folder = out.with_name(out.name + ".partial")
        self.done = 0
        self._ours = False  # not before it is known that what lies there is of the same question
        self.failures = Failures()
        self._bytes, self._crc = 0, 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes out of the journal. One in which nothing was answered is taken away in the end.

        Raises:
            ConfigError: Another process is at work on it.
        """
        busy = ConfigError(
            f"{self.folder}: another process is writing the same answers; wait for it, or choose another --out."
        )
        with sole_holder(self.folder, busy):
            try:
                yield
            finally:
                if self._ours and not self.done and self.folder.is_dir():
                    self._clear()
                with suppress(OSError):  # something is in it, or it is gone
                    self.folder.rmdir()

    def begin(self, header: Mapping[str, Any], photographs: Sequence[str], *, restart: bool = False) -> None:
        """Begin, or go on where an earlier process was.

        Args:
            header: What is asked and of what; an earlier process must have had the same.
            photographs: Names, in order.
            restart: Throw away what an earlier process left.

        Raises:
            MismatchError: An earlier process was asked something else.
            ArtefactError: What it left is damaged.
            InputError: The folder cannot be written, or holds something else.
        """
        named = {"count": len(photographs), "sha256": digest_of_names(photographs)}
        # Through JSON, as the earlier process's header was: a tuple is a list then.
        asked = json.loads(_as_bytes({"journal": JOURNAL_VERSION, **header, "photographs": named}))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.folder}: cannot write there ({error.strerror}); choose another --out.") from error
        self._refuse_strangers()
        if restart or not (self.folder / _HEADER).exists():
            self._ours = True
            self._clear()
            _write(self.folder / _NAMES, join_names(photographs))
            _write(self.folder / _HEADER, _as_bytes(asked))
            return
        self._check_header(asked)
        self._read_state(len(photographs))
        self._ours = True

    def append(self, answers: Sequence[Answer], photographs: int) -> None:
        """Keep the answers to the next photographs.

        Args:
            answers: In the order asked.
            photographs: How many they are the answers to.
        """
        text = "".join(map(JSON_LINES.item, answers)).encode()
        with open(self.folder / _ANSWERS, "ab") as stream:
            stream.truncate(self._bytes)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        self._bytes, self._crc = self._bytes + len(text), zlib.crc32(text, self._crc)
        self.done += photographs
        self.failures.add(answers)
        state = {"done": self.done, "bytes": self._bytes, "crc32": self._crc, "failures": asdict(self.failures)}
        _write(self.folder / _STATE, _as_bytes(state))

    def replay(self) -> Iterator[list[Answer]]:
        """All answers, a few at a time.

        Raises:
            ArtefactError: They are not what was written.
        """
        path, crc = self.folder / _ANSWERS, 0
        left, batch = self._bytes, list[Answer]()
        if not left:
            return
        with path.open("rb") as stream:
            while left > 0 and (line := stream.readline()):
                left, crc = left - len(line), zlib.crc32(line, crc)
                batch.append(answer_from_json(line, f"{path} ({self._again})"))
                if len(batch) == _AT_ONCE:
                    yield batch
                    batch = []
        if left or crc != self._crc:
            raise self._damaged(path)
        yield batch

    def finish(self, files: Mapping[Path, Path]) -> None:
        """Put finished files into their places, and take the journal away.

        Args:
            files: Where each of `finished` and `regions` that was written belongs.
        """
        for written, target in files.items():
            _put(written, target)
        # The header goes first: without it a folder that is half taken away is no journal to go on with.
        (self.folder / _HEADER).unlink()
        shutil.rmtree(self.folder)

    @property
    def finished(self) -> Path:
        """Where the file is written before it takes its place."""
        return self.folder / _FINISHED

    @property
    def regions(self) -> Path:
        """Where the file of the regions' outlines is."""
        return self.folder / _REGIONS

    @property
    def names_file(self) -> Path:
        """The names of the photographs, one a line."""
        return self.folder / _NAMES

    _again = "--restart begins anew"

    def _check_header(self, asked: Mapping[str, Any]) -> None:
        found = read_json(self.folder / _HEADER, f"the journal's header ({self._again})")
        differences = list(_differences(found, asked, ""))
        if not differences:
            return
        listed = "\n".join(f"  {name}: {there} there, {now} now" for name, there, now in differences)
        names = ""
        if any(name.startswith("photographs.") for name, _, _ in differences):
            names = f" The photographs of then are listed in {self.names_file}, which --list takes."
        raise MismatchError(
            f"{self.folder}: holds answers of an interrupted run that was asked something else:\n{listed}\n"
            f"Ask the same to go on with it; {self._again} and loses what is answered there.{names}"
        )

    def _read_state(self, photographs: int) -> None:
        path = self.folder / _STATE
        if not path.exists():
            return
        state = read_json(path, f"the journal's state ({self._again})")
        try:
            self.done, self._bytes, self._crc = state["done"], state["bytes"], state["crc32"]
            named = [(str(name), str(reason)) for name, reason in state["failures"]["named"]]
            self.failures = Failures(int(state["failures"]["count"]), named)
            size = (self.folder / _ANSWERS).stat().st_size
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise self._damaged(path) from error
        if size < self._bytes or self.done > photographs:
            raise self._damaged(self.folder / _ANSWERS)

    def _damaged(self, path: Path) -> ArtefactError:
        return ArtefactError(f"{path}: the journal is cut short or damaged; {self._again}.")

    def _refuse_strangers(self) -> None:
        strangers = sorted(path.name for path in self.folder.iterdir() if path.name not in _OURS)
        if strangers:
            raise InputError(
                f"{self.folder}: holds {strangers[0]}, so it is no journal; choose another --out, or move it."
            )

    def _clear(self) -> None:
        (self.folder / _HEADER).unlink(missing_ok=True)
        for name in _OURS:
            (self.folder / name).unlink(missing_ok=True)


def _differences(there: Any, now: Any, name: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(there, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*there, *now)):
            yield from _differences(there.get(key), now.get(key), f"{name}.{key}" if name else str(key))
    elif there != now:
        yield name, json.dumps(there, ensure_ascii=False), json.dumps(now, ensure_ascii=False)


def _as_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def _write(path: Path, data: bytes) -> None:
    """Write a file that is either the old one or the new one, even if the power fails."""
    beside = path.with_name(path.name + ".new")
    with beside.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(path)


def _put(written: Path, target: Path) -> None:
    with written.open("rb") as stream:
        os.fsync(stream.fileno())
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        written.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with atomic_file(target) as beside:  # it belongs on another disk
            shutil.copyfile(written, beside)
