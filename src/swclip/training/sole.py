"""One training a folder: a second one is refused for as long as the first one runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from swclip.errors import ConfigError
from swclip.locks import sole_holder


@contextmanager
def sole_trainer(folder: Path) -> Iterator[None]:
    """Hold a run's folder while it is trained in; of several processes under torchrun the leading one holds it.

    Args:
        folder: The run's folder; made where it is not there.

    Raises:
        ConfigError: Another training holds it.
    """
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    busy = ConfigError(f"{folder}: another process is training in this folder; wait for it, or choose another --out.")
    with sole_holder(folder, busy):
        yield
