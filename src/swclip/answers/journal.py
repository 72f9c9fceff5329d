"""Answers on their way to a file: kept batch by batch beside it, so that a killed run resumes where it was.

`FILE.partial/` holds header.json (the request and the gallery), photographs.txt (the names) and answers.jsonl. A batch
is appended to answers.jsonl with a last line that holds its checksum, and is forced to the disk: whatever moment a
process dies at, whole batches are recognised, and the torn one after them is dropped and answered again.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from swclip.answers.formats import JSON_LINES
from swclip.answers.record import Answer, answer_from_json
from swclip.errors import ArtefactError, ConfigError, InputError, MismatchError
from swclip.files import atomic_file, read_json
from swclip.locks import sole_holder

JOURNAL_VERSION = "2"

_HEADER, _NAMES, _ANSWERS = "header.json", "photographs.txt", "answers.jsonl"
_FINISHED, _REGIONS = "finished", "regions"
_OF_VERSION_1 = "state.json"
_FILES = (_HEADER, _NAMES, _ANSWERS, _FINISHED, _REGIONS, _OF_VERSION_1)
_OURS = {name + ending for name in _FILES for ending in ("", ".new")}
_END_OF_BATCH = re.compile(rb'\{"done": (\d+), "crc32": (\d+)\}\n')


class AnswerJournal:
    """The journal of one file of answers.

    Args:
        out: The file that the answers are for.

    Attributes:
        folder: The journal's folder, `FILE.partial`.
        done: Photographs that are answered.
    """

    def __init__(self, out: Path) -> None:
        self.folder = out.with_name(out.name + ".partial")
        self.done = 0
        self._ours = False  # not before the folder is known to be of the same request
        self._bytes = 0

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

    def begin(self, header: Mapping[str, Any], names: bytes, *, restart: bool = False) -> None:
        """Begin, or resume where an earlier process was.

        Args:
            header: The request, the gallery and a digest of the photographs' names; an earlier process must have had
                the same.
            names: The names as a file that `--list` reads.
            restart: Throw away what an earlier process left.

        Raises:
            MismatchError: An earlier process had another request, or its journal is of another version.
            ArtefactError: The header is damaged.
            InputError: The folder cannot be written, or holds something else.
        """
        # Through JSON, as the earlier process's header was: a tuple is a list then.
        wanted = json.loads(_as_bytes({"journal": JOURNAL_VERSION, **header}))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.folder}: cannot write there ({error.strerror}); choose another --out.") from error
        self._refuse_strangers()
        if restart or not (self.folder / _HEADER).exists():
            self._ours = True
            self._clear()
            _write(self.folder / _NAMES, names)
            _write(self.folder / _HEADER, _as_bytes(wanted))
            return
        self._check_header(wanted)
        for _, done, size in self._batches():
            self.done, self._bytes = done, self._bytes + size
        self._ours = True

    def append(self, answers: Sequence[Answer], photographs: int) -> None:
        """Keep the answers to the next photographs.

        Args:
            answers: In the order of the photographs.
            photographs: How many they are the answers to.
        """
        text = "".join(map(JSON_LINES.item, answers)).encode()
        done = self.done + photographs
        batch = text + b'{"done": %d, "crc32": %d}\n' % (done, zlib.crc32(text))
        with open(self.folder / _ANSWERS, "ab") as stream:
            stream.truncate(self._bytes)
            stream.write(batch)
            stream.flush()
            # Before it is forced to the disk, which takes a while: Ctrl-C meanwhile loses nothing that is written.
            self.done, self._bytes = done, self._bytes + len(batch)
            os.fsync(stream.fileno())

    def replay(self) -> Iterator[list[Answer]]:
        """All answers, batch by batch.

        Raises:
            ArtefactError: They are not what was written.
        """
        path, done = self.folder / _ANSWERS, 0
        for lines, so_far, _ in self._batches():
            yield [answer_from_json(line, f"{path} ({self._again})") for line in lines]
            done = so_far
        if done != self.done:
            raise ArtefactError(f"{path}: was changed while it was read; {self._again}.")

    def _batches(self) -> Iterator[tuple[list[bytes], int, int]]:
        """Lines, photographs done and bytes of each whole batch, up to the first that is torn."""
        path, lines, crc, size = self.folder / _ANSWERS, list[bytes](), 0, 0
        if not path.exists():
            return
        with path.open("rb") as stream:
            for line in stream:
                size += len(line)
                end = _END_OF_BATCH.fullmatch(line)
                if end is None:
                    lines.append(line)
                    crc = zlib.crc32(line, crc)
                    continue
                if int(end[2]) != crc:
                    return
                yield lines, int(end[1]), size
                lines, crc, size = [], 0, 0

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

    def _check_header(self, wanted: Mapping[str, Any]) -> None:
        found = read_json(self.folder / _HEADER, f"the journal's header ({self._again})")
        differences = list(_differences(found, wanted, ""))
        if not differences:
            return
        listed = "\n".join(f"  {name}: {there} there, {now} now" for name, there, now in differences)
        names = ""
        if any(name.startswith("photographs.") for name, _, _ in differences):
            names = f" The photographs of then are listed in {self.names_file}, which --list takes."
        raise MismatchError(
            f"{self.folder}: holds answers of an interrupted run of another request:\n{listed}\n"
            f"Repeat the same request to resume it; {self._again} and loses what is answered there.{names}"
        )

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
