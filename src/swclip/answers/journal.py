"""A journal of answers beside their file, batch by batch, so that a killed run can resume.

`FILE.partial/` contains header.json (the request and the gallery), photographs.txt (the names) and answers.jsonl. Each
batch is appended to answers.jsonl, followed by a line with its checksum, and flushed to disk. Whenever a process dies,
complete batches are recognised, and an incomplete one after them is dropped and answered again.
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
_HEADER_OF_VERSION_1 = "state.json"
_FILES = (_HEADER, _NAMES, _ANSWERS, _FINISHED, _REGIONS, _HEADER_OF_VERSION_1)
_OUR_FILES = {name + ending for name in _FILES for ending in ("", ".new")}
_END_OF_BATCH = re.compile(rb'\{"done": (\d+), "crc32": (\d+)\}\n')


class AnswerJournal:
    """The journal of one file of answers.

    Args:
        out: The file that the answers are for.

    Attributes:
        folder: The journal's folder, `FILE.partial`.
        done: Number of answered photographs.
    """

    def __init__(self, out: Path) -> None:
        self.folder = out.with_name(out.name + ".partial")
        self.done = 0
        self._ours = False  # until the folder is known to belong to the same request
        self._bytes = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock the journal against other processes. A journal without answers is removed at the end.

        Raises:
            ConfigError: Another process is writing it.
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
                with suppress(OSError):  # not empty, or already removed
                    self.folder.rmdir()

    def begin(self, header: Mapping[str, Any], names: bytes, *, restart: bool = False) -> None:
        """Start the journal, or resume the one that an earlier process left.

        Args:
            header: The request, the gallery and a digest of the photographs' names; only a journal with the same header
                is resumed.
            names: The names of the photographs, as a file that `--list` reads.
            restart: Discard what an earlier process left.

        Raises:
            MismatchError: An earlier process had another request, or its journal is of another version.
            ArtefactError: The header is damaged.
            InputError: The folder cannot be written, or contains other files.
        """
        # Through JSON, like the earlier header, so that tuples compare equal to lists.
        header = json.loads(_as_bytes({"journal": JOURNAL_VERSION, **header}))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.folder}: cannot write there ({error.strerror}); choose another --out.") from error
        self._refuse_other_files()
        if restart or not (self.folder / _HEADER).exists():
            self._ours = True
            self._clear()
            _write(self.folder / _NAMES, names)
            _write(self.folder / _HEADER, _as_bytes(header))
            return
        self._check_header(header)
        for _, done, size in self._batches():
            self.done, self._bytes = done, self._bytes + size
        self._ours = True

    def append(self, answers: Sequence[Answer], photographs: int) -> None:
        """Save the answers to the next photographs.

        Args:
            answers: The answers, in the order of the photographs.
            photographs: Number of the photographs that they answer.
        """
        text = "".join(map(JSON_LINES.item, answers)).encode()
        done = self.done + photographs
        batch = text + b'{"done": %d, "crc32": %d}\n' % (done, zlib.crc32(text))
        with open(self.folder / _ANSWERS, "ab") as stream:
            stream.truncate(self._bytes)
            stream.write(batch)
            stream.flush()
            # Before the slow flush to disk, so that Ctrl-C during it does not lose the batch.
            self.done, self._bytes = done, self._bytes + len(batch)
            os.fsync(stream.fileno())

    def replay(self) -> Iterator[list[Answer]]:
        """Yield all answers, batch by batch.

        Raises:
            ArtefactError: The journal was changed since it was written.
        """
        path, done = self.folder / _ANSWERS, 0
        for lines, so_far, _ in self._batches():
            yield [answer_from_json(line, f"{path} ({self._restart_hint})") for line in lines]
            done = so_far
        if done != self.done:
            raise ArtefactError(f"{path}: was changed while it was read; {self._restart_hint}.")

    def _batches(self) -> Iterator[tuple[list[bytes], int, int]]:
        """Lines, photographs done and bytes of each complete batch, up to the first incomplete one."""
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
        """Move the finished files to their targets, and remove the journal.

        Args:
            files: The target of `finished` and, where it was written, of `regions`.
        """
        for written, target in files.items():
            _move(written, target)
        # The header is removed first, so that a partly removed folder is not resumed as a journal.
        (self.folder / _HEADER).unlink()
        shutil.rmtree(self.folder)

    @property
    def finished(self) -> Path:
        """Path where the file is written before it is moved to its target."""
        return self.folder / _FINISHED

    @property
    def regions(self) -> Path:
        """Path where the outlines of the regions are written."""
        return self.folder / _REGIONS

    @property
    def names_file(self) -> Path:
        """The file with the names of the photographs, one per line."""
        return self.folder / _NAMES

    _restart_hint = "--restart starts over"

    def _check_header(self, header: Mapping[str, Any]) -> None:
        earlier = read_json(self.folder / _HEADER, f"the journal's header ({self._restart_hint})")
        differences = list(_differences(earlier, header, ""))
        if not differences:
            return
        listed = "\n".join(f"  {name}: {before} before, {now} now" for name, before, now in differences)
        names = ""
        if any(name.startswith("photographs.") for name, _, _ in differences):
            names = f" The earlier photographs are listed in {self.names_file}; pass it with --list."
        raise MismatchError(
            f"{self.folder}: contains the answers of an interrupted run with another request:\n{listed}\n"
            f"Repeat that request to resume it; {self._restart_hint} and discards those answers.{names}"
        )

    def _refuse_other_files(self) -> None:
        others = sorted(path.name for path in self.folder.iterdir() if path.name not in _OUR_FILES)
        if others:
            raise InputError(
                f"{self.folder}: contains {others[0]}, so it is not a journal; choose another --out, or move it."
            )

    def _clear(self) -> None:
        (self.folder / _HEADER).unlink(missing_ok=True)
        for name in _OUR_FILES:
            (self.folder / name).unlink(missing_ok=True)


def _differences(before: Any, now: Any, name: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*before, *now)):
            yield from _differences(before.get(key), now.get(key), f"{name}.{key}" if name else str(key))
    elif before != now:
        yield name, json.dumps(before, ensure_ascii=False), json.dumps(now, ensure_ascii=False)


def _as_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def _write(path: Path, data: bytes) -> None:
    """Replace a file atomically, even on a power failure."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def _move(written: Path, target: Path) -> None:
    with written.open("rb") as stream:
        os.fsync(stream.fileno())
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        written.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with atomic_file(target) as temporary:  # the target is on another disk
            shutil.copyfile(written, temporary)
