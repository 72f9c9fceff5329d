"""Runs and a gallery made with the commands, and commands as separate processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from swclip.cli.app import run

TINY = [
    "--text-tower=none",
    "--size-px=32",
    "--batch-size=16",
    "--set=model.embedding_dim=8",
    "--set=model.image.head_width=16",
    "--set=model.location.grid_log2_size=6",
    "--set=model.location.hidden_width=16",
]


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    """Flags for a small model."""
    return TINY


@pytest.fixture(scope="session", autouse=True)
def _separate_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWCLIP_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("COLUMNS", "200")
        yield


@pytest.fixture(scope="session")
def made(town: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two finished runs, `run` and `other`, and the gallery of `run`."""
    folder = tmp_path_factory.mktemp("made")
    splits = f"--splits={town / 'splits.parquet'}"
    for name, seed in (("run", 0), ("other", 1)):
        assert run(["train", str(town), splits, f"--out={folder / name}", "--steps=4", f"--seed={seed}", *TINY]) == 0
    assert run(["index", str(folder / "run"), str(town), f"--out={folder / 'gallery'}"]) == 0
    return folder


@pytest.fixture
def town_copy(town: Path, tmp_path: Path) -> Path:
    """A copy of the town that tests may modify."""
    shutil.copytree(town, tmp_path / "town")
    return tmp_path / "town"


@pytest.fixture(scope="session")
def start() -> Callable[..., subprocess.Popen[str]]:
    """Start `swclip ...` as a separate process."""

    def begin(*arguments: str | Path, **more: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "swclip", *map(str, arguments)],
            env=os.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **more,
        )

    return begin
