"""A folder that one process holds at a time: the lock of a killed process is let go by the system."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from swclip.errors import SwclipError


@contextmanager
def sole_holder(folder: Path, busy: SwclipError) -> Iterator[None]:
    """Hold a folder.

    The folder itself is locked, so that no file is left by it. Where there are no such locks (Windows, some network
    drives) nothing is held.

    Args:
        folder: The folder; made where it is not there.
        busy: What to raise where another process holds it.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = _open(folder)
    if handle is None:
        yield  # who writes there next has a better message
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            os.close(handle)
            raise busy from error
    if not _is_still(folder, handle):  # who held it has finished and taken the folder away
        os.close(handle)
        with sole_holder(folder, busy):
            yield
        return
    try:
        yield
    finally:
        os.close(handle)


def _open(folder: Path) -> int | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder, os.O_RDONLY)
    except OSError:
        return None


def _is_still(folder: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(folder), os.fstat(handle))
    except OSError:
        return False
