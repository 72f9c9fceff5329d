"""The command line in a separate process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a command: its own feature cache, and as many threads as there are here."""
    return {
        **os.environ,
        "SWCLIP_CACHE": str(tmp_path_factory.mktemp("cache")),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
        "COLUMNS": "200",
    }


@pytest.fixture(scope="session")
def start(environment: dict[str, str]) -> Callable[..., subprocess.Popen[str]]:
    """Start `swclip ...` as a process of its own."""

    def begin(*arguments: str | Path, **more: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "swclip", *map(str, arguments)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **more,
        )

    return begin
