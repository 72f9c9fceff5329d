"""The set-up of a run: checkpoints that cannot be restored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from swclip.data.manifest import read_manifest
from swclip.data.splits import read_splits
from swclip.errors import ArtefactError
from swclip.training.config import TrainingConfig
from swclip.training.loop import train


class _Killed(Exception):
    pass


def test_lora_adapters_of_an_earlier_release_are_refused(
    town: Path, towers: Path, small: Callable[..., TrainingConfig], tmp_path: Path
) -> None:
    tower = {"tower": str(towers / "dinov2"), "size_px": 32}
    config = small(steps=4, checkpoint_every=2, tuning={"blocks": 1, "lora_rank": 2}, model={"image": tower})
    data = read_manifest(town), read_splits(town / "splits.parquet")

    def kill(task: str, done: int, total: int) -> None:
        if task == "training" and done == 3:
            raise _Killed

    with pytest.raises(_Killed):
        train(*data, config, tmp_path / "run", progress=kill)
    (path,) = (tmp_path / "run" / "checkpoints").iterdir()
    with safe_open(path, framework="pt") as stream:
        metadata = stream.metadata()
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (not a mapping)
    assert any(name.startswith("lora.") for name in tensors)
    save_file({name.replace("lora.", "corrections."): value for name, value in tensors.items()}, path, metadata)
    with pytest.raises(ArtefactError, match="no LoRA adapters under the name of this release"):
        train(*data, config, tmp_path / "run")
