"""Verification of photographs by decoding them in parallel, with results that survive an interruption."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from swclip.errors import DiskFullError, InputError, SwclipError
from swclip.imaging.decode import (
    PhotographError,
    load_pixels,
    open_photograph,
)
from swclip.imaging.panoramas import Panorama
from swclip.imaging.photograph_file import photograph_file, photograph_sha256
from swclip.ingest.exif import ExifFacts, ExifNote, read_exif
from swclip.ingest.panorama_views import recognise_panorama
from swclip.ingest.xmp import MAX_PACKET_BYTES

WORK_NAME = ".prepare.jsonl"
_WORK_VERSION = 3
_DRAFT_PX = 64

_Identity = tuple[str, int, int, int]  # path, size, and times of the photograph and of its sidecar, nanoseconds


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result of verifying one file.

    Attributes:
        reason: A code of `PhotographError`, or None if the photograph is intact.
        detail: The reason in words.
        sha256: SHA-256 of the file's bytes; empty if it could not be read.
        exif: Metadata of the EXIF block, the XMP packet and the sidecar file.
        panorama: Where the photograph is or may be an equirectangular panorama.
    """

    reason: str | None
    detail: str
    sha256: str
    exif: ExifFacts
    panorama: Panorama | None = None


def verify_photograph(path: Path, max_pixels: int) -> Verdict:
    """Hash and decode one photograph completely.

    Args:
        path: The file.
        max_pixels: Larger photographs are rejected from the header.
    """
    digest = ""
    try:
        digest = photograph_sha256(path)
        with open_photograph(path, max_pixels=max_pixels) as image:
            sidecar, size_px = sidecar_of(path), image.size
            exif = read_exif(image, sidecar)
            # Decoding a JPEG at an eighth of its size still reads every byte, in a third of the time.
            image.draft(None, (_DRAFT_PX, _DRAFT_PX))
            load_pixels(image, str(path))
            panorama = recognise_panorama(image, size_px, sidecar)
    except PhotographError as error:
        return Verdict(error.reason, error.detail, digest, ExifFacts())
    return Verdict(None, "", digest, exif, panorama)


def sidecar_path(path: Path) -> Path | None:
    """Return the XMP sidecar file of a photograph: IMG.jpg.xmp or IMG.xmp for IMG.jpg; None if there is none."""
    whole, stem = str(path), os.path.splitext(path)[0]
    for name in (f"{whole}.xmp", f"{stem}.xmp", f"{whole}.XMP", f"{stem}.XMP"):
        if name != whole and os.path.lexists(name):
            return Path(name)
    return None


def sidecar_of(path: Path) -> tuple[str, bytes] | None:
    """Read the sidecar of a photograph; one that cannot be read is an empty packet, which is noted."""
    beside = sidecar_path(path)
    if beside is None:
        return None
    try:
        with photograph_file(beside) as stream:
            return beside.name, stream.read(MAX_PACKET_BYTES + 1)
    except (PhotographError, OSError):
        return beside.name, b""


class WorkFile:
    """Verdicts of an interrupted run, one per line; files that have changed since are verified again.

    Only intact photographs are stored, because a defective file may be repaired or a missing plugin installed.
    """

    def __init__(self, path: Path, max_pixels: int) -> None:
        self.path = path
        self._header = {"swclip": "prepare", "version": _WORK_VERSION, "max_pixels": max_pixels}
        self._verdicts = self._read()
        try:
            if not self._verdicts:
                path.write_text(json.dumps(self._header) + "\n", encoding="utf-8")
            # Line buffering writes each verdict at once, so that a killed run loses none.
            self._stream = path.open("a", encoding="utf-8", buffering=1)
            if self._verdicts and not path.read_bytes().endswith(b"\n"):
                self._stream.write("\n")  # the last line of a killed run may be incomplete
        except OSError as error:
            raise _write_error(path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._stream.close()
        except OSError as failure:
            if error is None:
                raise _write_error(self.path, failure) from failure

    def get(self, path: Path) -> Verdict | None:
        """Return the verdict on a file, or None if there is none or the file has changed."""
        return self._verdicts.get(_identity(path))

    def add(self, path: Path, verdict: Verdict) -> None:
        """Store the verdict on an intact photograph.

        Raises:
            DiskFullError: The disk is full; earlier verdicts remain usable.
        """
        identity = _identity(path)
        if verdict.reason is not None or identity is None:
            return
        facts = {} if verdict.exif == ExifFacts() else asdict(verdict.exif)
        line = {"file": identity, "sha256": verdict.sha256, "exif": facts}
        if verdict.panorama is not None:
            line["panorama"] = asdict(verdict.panorama)
        try:
            self._stream.write(json.dumps(line) + "\n")
        except OSError as error:
            raise _write_error(self.path, error) from error

    def remove(self) -> None:
        """Remove the file after a complete run."""
        self._stream.close()
        self.path.unlink(missing_ok=True)

    def _read(self) -> dict[_Identity | None, Verdict]:
        verdicts: dict[_Identity | None, Verdict] = {}
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return {}
        for number, line in enumerate(lines):
            try:
                value: Any = json.loads(line)
                if number == 0:
                    if value != self._header:
                        return {}  # written by another version or with another limit
                    continue
                name, size, time, sidecar_time = value["file"]
                exif = ExifFacts(**value["exif"])
                exif = replace(exif, notes=tuple(ExifNote(*note) for note in exif.notes))
                panorama = Panorama(**value["panorama"]) if "panorama" in value else None
                verdicts[(str(name), int(size), int(time), int(sidecar_time))] = Verdict(
                    None, "", str(value["sha256"]), exif, panorama
                )
            except (ValueError, KeyError, TypeError):
                if number == 0:
                    return {}
        return verdicts


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
        paths: The files, without repetitions.
        work: Stores the verdicts.
        max_pixels: Limit of `verify_photograph`.
        workers: Number of threads; the number of processors, at most 16, if None. Decoding releases the GIL.
        progress: Called with the number of verified files and the total number.

    Yields:
        The file, its verdict, and whether the verdict is from an earlier run; in the order of `paths`.
    """
    count = workers or min(16, os.cpu_count() or 1)
    waiting: deque[tuple[Path, Verdict | Future[Verdict]]] = deque()
    pool = ThreadPoolExecutor(max_workers=count, thread_name_prefix="swclip-verify")
    done = 0

    def finish() -> tuple[Path, Verdict, bool]:
        path, result = waiting[0]  # removed when it is stored: Ctrl-C may come before
        verdict = result if isinstance(result, Verdict) else result.result()
        if result is not verdict:
            work.add(path, verdict)
        waiting.popleft()
        return path, verdict, result is verdict

    try:
        for path in paths:
            stored = work.get(path)
            waiting.append((path, stored if stored is not None else pool.submit(verify_photograph, path, max_pixels)))
            # The queue is limited, because a million queued files would hold a million results.
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
        # Also reached on Ctrl-C and on errors: running tasks finish, queued tasks are cancelled.
        pool.shutdown(wait=True, cancel_futures=True)
        with contextlib.suppress(SwclipError, ValueError):  # the disk is full, or the file was closed first
            for path, result in waiting:
                if isinstance(result, Future) and not result.cancelled() and result.exception() is None:
                    work.add(path, result.result())


def _identity(path: Path) -> _Identity | None:
    try:
        status = path.stat()
        beside = sidecar_path(path)
        sidecar_time = 0 if beside is None else beside.lstat().st_mtime_ns
    except (OSError, ValueError):
        return None
    return str(path), status.st_size, status.st_mtime_ns, sidecar_time


def _write_error(path: Path, error: OSError) -> DiskFullError | InputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(
            f"{path}: the disk is full; free some space and run the same command again, which resumes where it stopped."
        )
    return InputError(f"{path}: cannot write there ({error.strerror}); choose another folder with --out.")
