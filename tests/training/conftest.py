"""The command line in a separate process."""

from __future__ import annotations

import os

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
