"""The set-up of a run: districts, and checkpoints that cannot be restored."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from swclip.data.manifest import read_manifest
from swclip.data.splits import read_splits
from swclip.errors import ArtefactError, ConfigError
from swclip.training.config import TrainingConfig
from swclip.training.loop import train


def test_photographs_without_a_city_are_one_district(
    town: Path, small: Callable[..., TrainingConfig], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table, splits = read_manifest(town), read_splits(town / "splits.parquet")
    nowhere = dataclasses.replace(table, frame=table.frame.assign(city=None))
    fair = {"fairness": {"weight": 0.5}}
    one_city = dataclasses.replace(table, frame=table.frame.assign(city="Leeds"))
    runs = {"nowhere": nowhere, "one-city": one_city}
    for name, manifest in runs.items():
        train(manifest, splits, small(steps=2, objective=fair), tmp_path / name)
    assert "no photograph has a city: all are one district" in caplog.text
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in runs]
    assert weights[0] == weights[1]
    with pytest.raises(ConfigError, match="column 'licence' has no district"):
        train(table, splits, small(steps=2, objective=fair, region="licence"), tmp_path / "licence")


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
