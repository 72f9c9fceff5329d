"""Exclusive use of a folder by one process; the operating system releases the lock of a killed process."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from swclip.errors import SwclipError


@contextmanager
def sole_holder(folder: Path, busy: SwclipError) -> Iterator[bool]:
    """Lock a folder for this process.

    The lock is on the folder itself and leaves no file. On systems without such locks (Windows, some network drives)
    the folder is not locked.

    Args:
        folder: The folder; created if missing.
        busy: Error to raise if another process holds the lock.

    Yields:
        Whether the folder is locked; False on systems without such locks, and where the folder cannot be created.

    Raises:
        SwclipError: `busy`, if another process holds the lock.
    """
    try:
        import fcntl
    except ImportError:
        yield False
        return
    handle = _open(folder)
    if handle is None:
        yield False  # the next write to the folder raises a better message
        return
    locked = True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            os.close(handle)
            raise busy from error
        locked = False
    if not _is_same_folder(folder, handle):  # the previous holder removed the folder
        os.close(handle)
        with sole_holder(folder, busy) as locked:
            yield locked
        return
    try:
        yield locked
    finally:
        os.close(handle)


def _open(folder: Path) -> int | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder, os.O_RDONLY)
    except OSError:
        return None


def _is_same_folder(folder: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(folder), os.fstat(handle))
    except OSError:
        return False
