"""Decoding every photograph once to know that it is whole, in parallel, and remembering it if interrupted."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from swclip.errors import DiskFullError, InputError
from swclip.files import sha256_of_file
from swclip.imaging.decode import PhotographError, load_pixels, open_photograph
from swclip.ingest.exif import ExifFacts, read_exif

WORK_NAME = ".prepare.jsonl"
_WORK_VERSION = 1
_READ_WHOLE_BYTES = 64 * 2**20
_DRAFT_PX = 64


@dataclass(frozen=True, slots=True)
class Verdict:
    """What verifying one file found.

    Attributes:
        reason: A code of `PhotographError`, or None where the photograph is whole.
        detail: The reason in words.
        sha256: Of the file's bytes; empty where it could not be read.
        exif: What its EXIF block says.
    """

    reason: str | None
    detail: str
    sha256: str
    exif: ExifFacts


def verify_photograph(path: Path, max_pixels: int) -> Verdict:
    """Read, hash and decode one photograph to its last byte.

    Args:
        path: The file.
        max_pixels: Larger ones are refused from the header.
    """
    digest = ""
    try:
        size = path.stat().st_size
        if 0 < size <= _READ_WHOLE_BYTES and path.is_file():
            data: Path | bytes = path.read_bytes()
            digest = hashlib.sha256(data if isinstance(data, bytes) else b"").hexdigest()
        else:
            data = path
            digest = sha256_of_file(path) if path.is_file() else ""
    except (OSError, ValueError):
        data = path  # opening it says what is wrong
    try:
        with open_photograph(data, max_pixels=max_pixels) as image:
            exif = read_exif(image)
            # A JPEG is decoded at an eighth of its size: every byte is still read, in a third of the time.
            image.draft(None, (_DRAFT_PX, _DRAFT_PX))
            load_pixels(image, str(path))
    except PhotographError as error:
        return Verdict(error.reason, error.detail, digest, ExifFacts())
    return Verdict(None, "", digest, exif)


class WorkFile:
    """Verdicts of an interrupted run, a line each; a file that changed since is verified again.

    Only whole photographs are remembered: what was wrong with a file may be mended, or be a missing plugin.
    """

    def __init__(self, path: Path, max_pixels: int) -> None:
        self.path = path
        self._heading = {"swclip": "prepare", "version": _WORK_VERSION, "max_pixels": max_pixels}
        self._known = self._read()
        try:
            if not self._known:
                path.write_text(json.dumps(self._heading) + "\n", encoding="utf-8")
            # Line buffered: each verdict is in the file when the next begins, so a killed run loses none.
            self._stream = path.open("a", encoding="utf-8", buffering=1)
            if self._known and not path.read_bytes().endswith(b"\n"):
                self._stream.write("\n")  # the last line of a killed run may be half a line
        except OSError as error:
            raise _cannot_keep(path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._stream.close()
        except OSError as failure:
            if error is None:
                raise _cannot_keep(self.path, failure) from failure

    def recall(self, path: Path) -> Verdict | None:
        """The verdict on a file that is as it was when it was verified."""
        return self._known.get(_identity(path))

    def remember(self, path: Path, verdict: Verdict) -> None:
        """Keep a verdict on a whole photograph.

        Raises:
            DiskFullError: There is no room; what was kept before stays usable.
        """
        identity = _identity(path)
        if verdict.reason is not None or identity is None:
            return
        line = {"file": identity, "sha256": verdict.sha256, "exif": asdict(verdict.exif)}
        try:
            self._stream.write(json.dumps(line) + "\n")
        except OSError as error:
            raise _cannot_keep(self.path, error) from error

    def remove(self) -> None:
        """Remove the file: the run is done."""
        self._stream.close()
        self.path.unlink(missing_ok=True)

    def _read(self) -> dict[tuple[str, int, int] | None, Verdict]:
        known: dict[tuple[str, int, int] | None, Verdict] = {}
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return {}
        for number, line in enumerate(lines):
            try:
                value: Any = json.loads(line)
                if number == 0:
                    if value != self._heading:
                        return {}  # another version or another limit: what it found does not hold
                    continue
                name, size, time = value["file"]
                exif = ExifFacts(**value["exif"])
                known[(str(name), int(size), int(time))] = Verdict(None, "", str(value["sha256"]), exif)
            except (ValueError, KeyError, TypeError):
                if number == 0:
                    return {}
        return known


def verify_all(
    paths: Sequence[Path],
    work: WorkFile,
    *,
    max_pixels: int,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[Path, Verdict, bool]]:
    """Verify photographs in parallel.

    Args:
        paths: The files, each once.
        work: Where verdicts are remembered.
        max_pixels: Limit of `verify_photograph`.
        workers: Threads; the number of processors, at most 16, if None. Decoding leaves Python's lock.
        progress: Called with the number done and the number in all.

    Yields:
        The file, its verdict, and whether that was remembered from an earlier run; in the order of `paths`.
    """
    count = workers or min(16, os.cpu_count() or 1)
    waiting: deque[tuple[Path, Verdict | Future[Verdict]]] = deque()
    pool = ThreadPoolExecutor(max_workers=count, thread_name_prefix="swclip-verify")
    done = 0

    def finish() -> tuple[Path, Verdict, bool]:
        path, result = waiting.popleft()
        if isinstance(result, Verdict):
            return path, result, True
        verdict = result.result()
        work.remember(path, verdict)
        return path, verdict, False

    try:
        for path in paths:
            known = work.recall(path)
            waiting.append((path, known if known is not None else pool.submit(verify_photograph, path, max_pixels)))
            # A window, not all at once: a million queued files would hold a million results.
            if len(waiting) > 8 * count:
                yield finish()
                done += 1
                if progress is not None:
                    progress(done, len(paths))
        while waiting:
            yield finish()
            done += 1
            if progress is not None:
                progress(done, len(paths))
    finally:
        # Reached on Ctrl-C and on an error too: what is being decoded ends, what waits is dropped.
        pool.shutdown(wait=True, cancel_futures=True)


def _identity(path: Path) -> tuple[str, int, int] | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return str(path), status.st_size, status.st_mtime_ns


def _cannot_keep(path: Path, error: OSError) -> DiskFullError | InputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(
            f"{path}: the disk is full; free some space and run the same command again, it goes on where it stopped."
        )
    return InputError(f"{path}: cannot write there ({error.strerror}); choose another folder with --out.")
