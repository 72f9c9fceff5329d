"""The file of a photograph: opened in one place, with a reason for each file that cannot be used."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, TypeVar

from swclip.errors import InputError, first_line
from swclip.imaging.packed import PackedPhotograph, packed_bytes, packed_photograph, packed_sha256

T = TypeVar("T")
Reason = Literal["missing", "empty", "truncated", "not-an-image", "too-large"]

MAX_FILE_BYTES = 4 * 2**30
"""Limit of a file's size: an uncompressed picture of 100 megapixels has less."""


class PhotographError(InputError):
    """A file that cannot be used as a photograph.

    Attributes:
        name: Path of the file, or a description of its bytes.
        reason: The reason as a code: missing, empty, truncated, not-an-image or too-large.
        detail: The reason in words, without the file's name.
    """

    def __init__(self, name: str, reason: Reason, detail: str) -> None:
        super().__init__(f"{name}: {detail}")
        self.name = name
        self.reason: Reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[PhotographError], tuple[str, Reason, str]]:
        return type(self), (self.name, self.reason, self.detail)  # picklable, for worker processes


def photograph_file(path: str | os.PathLike[str]) -> io.BufferedReader | io.BytesIO:
    """Open the file of a photograph for reading, without waiting.

    Every photograph that a user names is opened here: a device or a pipe could be read without end. The bytes of a
    packed photograph (`swclip.imaging.packed`) are in memory.

    Raises:
        PhotographError: The file is missing, empty, unreadable, too large, or not a regular file.
    """
    name = os.fspath(path)
    packed = packed_photograph(path)
    if packed is not None:
        return io.BytesIO(_bytes_of(packed, name))
    try:
        _check_file(os.stat(path), name)  # before opening, which has effects on some devices
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        stream = os.fdopen(os.open(path, flags), "rb")
    except FileNotFoundError:
        raise PhotographError(name, "missing", "there is no such file; check the path.") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise PhotographError(name, "missing", f"cannot be read ({first_line(error)}).") from error
    try:
        _check_file(os.fstat(stream.fileno()), name)  # another file may have taken the name
    except PhotographError:
        stream.close()
        raise
    return stream


def photograph_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read the file of a photograph.

    Raises:
        PhotographError: The file cannot be opened or read; see `photograph_file`.
    """
    with photograph_file(path) as stream:
        try:
            return stream.read()
        except OSError as error:
            raise PhotographError(os.fspath(path), "missing", f"cannot be read ({first_line(error)}).") from error


def photograph_exists(path: str | os.PathLike[str]) -> bool:
    """Whether there is a file of this name, or a packed photograph."""
    packed = packed_photograph(path)
    return os.path.isfile(path) if packed is None else packed_bytes(packed) is not None


def photograph_sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of the file of a photograph as hexadecimal.

    Raises:
        PhotographError: The file cannot be opened; see `photograph_file`.
    """
    packed = packed_photograph(path)
    digest = None if packed is None else packed_sha256(packed)
    if digest is not None:
        return digest.hex()
    with photograph_file(path) as stream:
        try:
            return hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise PhotographError(os.fspath(path), "missing", f"cannot be read ({first_line(error)}).") from error


def in_threads(
    function: Callable[[str | os.PathLike[str]], T], paths: Sequence[str | os.PathLike[str]], workers: int | None = None
) -> Iterator[T]:
    """Yield the result of a function for each photograph, in their order; decoding releases the GIL.

    The queue is short, because a million tasks would fill a GB.

    Args:
        function: Reads one photograph.
        paths: The files.
        workers: Number of threads; the number of processors if None.
    """
    count = workers or os.cpu_count() or 1
    waiting: deque[Future[T]] = deque()
    pool = ThreadPoolExecutor(max_workers=count)
    try:
        for path in paths:
            waiting.append(pool.submit(function, path))
            if len(waiting) > 8 * count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # Also reached on Ctrl-C: running tasks finish, queued ones are cancelled.
        pool.shutdown(wait=True, cancel_futures=True)


def _bytes_of(packed: PackedPhotograph, name: str) -> bytes:
    data = packed_bytes(packed)
    if data is None:
        raise PhotographError(name, "missing", f"the packed data set has no {packed.column} in row {packed.row}.")
    return data


def _check_file(status: os.stat_result, name: str) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise PhotographError(name, "not-an-image", "is a folder; give a photograph.")
    if not stat.S_ISREG(status.st_mode):
        raise PhotographError(name, "not-an-image", "is a device, pipe or socket; give the file of a photograph.")
    if status.st_size == 0:
        raise PhotographError(name, "empty", "is an empty file; copy or download it again.")
    if status.st_size > MAX_FILE_BYTES:
        limit = MAX_FILE_BYTES / 2**30
        raise PhotographError(
            name, "too-large", f"has {status.st_size / 2**30:.1f} GiB, more than the limit of {limit:g}; reduce it."
        )
