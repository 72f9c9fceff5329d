"""Recipes small enough to train in a second, and the command line as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from swclip.training.config import TrainingConfig, load_recipe

SMALL: dict[str, Any] = {
    "steps": 20,
    "evaluate_every": 10,
    "checkpoint_every": 10,
    "batch": {"size": 16},
    "model": {
        "embedding_dim": 16,
        "image": {"size_px": 32, "head_width": 32},
        "location": {
            "text_tower": "none",
            "grid_levels": 4,
            "grid_coarsest_m": 800.0,
            "grid_finest_m": 50.0,
            "grid_log2_size": 8,
            "hidden_width": 32,
        },
    },
}


def merged(values: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Nested tables, the second over the first."""
    out = dict(values)
    for key, value in more.items():
        out[key] = merged(out.get(key, {}), value) if isinstance(value, dict) else value
    return out


@pytest.fixture(scope="session")
def small() -> Callable[..., TrainingConfig]:
    """A shipped recipe made small; keywords replace further values."""

    def make(recipe: str = "sw-clip", **more: Any) -> TrainingConfig:
        return load_recipe(recipe, merged(SMALL, more))

    return make


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
