"""Runs and a gallery made with the commands."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from swclip.cli.app import run
from swclip.progress import console

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
        patch.setattr(console, "_width", 200)  # made before
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
