"""One training a folder: a second one is refused for as long as the first one runs."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from swclip.errors import ConfigError


@contextmanager
def sole_trainer(folder: Path) -> Iterator[None]:
    """Hold a run's folder while it is trained in.

    The folder itself is locked, so that no file is left by it and a killed process lets go. Of several processes under
    torchrun the leading one holds it. Where there are no such locks (Windows, some network drives) nothing is held.

    Args:
        folder: The run's folder; made where it is not there.

    Raises:
        ConfigError: Another training holds it.
    """
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    try:
        import fcntl
    except ImportError:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        yield  # who writes there next has a better message
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            os.close(handle)
            raise ConfigError(
                f"{folder}: another process is training in this folder; wait for it, or choose another --out."
            ) from error
    try:
        yield
    finally:
        os.close(handle)
