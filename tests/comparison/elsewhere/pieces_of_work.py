"""Work for other processes, which must be able to import it: a test module itself they cannot."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from swclip.errors import InputError
from swclip.imaging.decode import PhotographError

Progress = Callable[[str, int, int], None]


class Weather(Exception):
    """Not of the package."""


def count(to: int, progress: Progress) -> tuple[int, int]:
    """Counts, and says where it did and with how many threads."""
    import torch

    for done in range(to):
        progress("counting", done + 1, to)
    logging.getLogger("swclip.pieces").warning("counted to %d", to)
    return os.getpid(), torch.get_num_threads()


def refuse(progress: Progress) -> None:
    """Fails as a wrong input does."""
    raise InputError("row 3: is wrong; mend it.")


def refuse_photograph(progress: Progress) -> None:
    """Fails with an error whose class takes more than a text."""
    raise PhotographError(Path("a.jpg"), "empty", "is empty.")


def break_down(progress: Progress) -> None:
    """Fails as a program does."""
    raise Weather("rain")


def vanish(progress: Progress) -> None:
    """Ends its process, as the system does to one that takes too much memory."""
    os._exit(7)


def linger(folder: Path, progress: Progress) -> None:
    """Writes that it began, waits, and clears up when stopped."""
    (folder / "began").touch()
    try:
        time.sleep(60)
    finally:
        (folder / "cleared").touch()
