"""Two processes under torchrun (gloo) train the same weights as one process on the same global batch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from swclip.data.manifest import read_manifest
from swclip.data.splits import read_splits
from swclip.models.locator_model import LocatorModel
from swclip.training.config import TrainingConfig, write_config
from swclip.training.loop import train


def test_two_processes_equal_one(
    town: Path,
    towers: Path,
    tmp_path: Path,
    small: Callable[..., TrainingConfig],
    environment: dict[str, str],
) -> None:
    # Chunks, words and a text tower (without dropout, which differs by process); BERT's own pooler is not used, so its
    # weights never get a gradient.
    bert = tmp_path / "bert"
    shutil.copytree(towers / "bert", bert)
    architecture = json.loads((bert / "config.json").read_text())
    architecture |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (bert / "config.json").write_text(json.dumps(architecture))
    text = {"text_tower": str(bert), "prompt": "in {city} at {location}"}
    more: dict[str, Any] = {
        "steps": 8,
        "augment": False,
        "checkpoint_every": 3,
        "seed": 1,
        "queue": {"size": 24, "noise_m": 5.0},
        "batch": {"size": 16, "chunk": 3, "position_noise_m": 2.0},
        "optimizer": {"text_rate": 1e-3},
        "model": {"image": {"head_dropout": 0.0}, "location": text},
        "objective": {"fairness": {"form": "group-dro", "weight": 0.5}, "neighbourhood": {"bandwidth_m": 0.0}},
        "bandwidth": {"form": "adaptive", "coarse_factor": 2.0},
    }
    config = small(**more)
    write_config(tmp_path / "mine.toml", config)
    splits = town / "splits.parquet"
    command = [sys.executable, "-m", "torch.distributed.run", "--no-python", "--standalone", "--nproc-per-node", "2"]
    swclip = [str(Path(sys.executable).with_name("swclip")), "train", str(town), "--splits", str(splits)]
    done = subprocess.run(
        [*command, *swclip, "--recipe", str(tmp_path / "mine.toml"), "--out", str(tmp_path / "two")],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Next: swclip evaluate") == 1, "one process speaks for all"
    train(read_manifest(town), read_splits(splits), config, tmp_path / "one")

    one, two = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("one", "two"))
    start = LocatorModel.create(config.model, read_manifest(town).positions_deg, config.seed).state_dict()
    assert one.keys() == two.keys() == start.keys()
    for part in ("image_tower", "image_head", "location.grid", "location.to_tokens", "location.text", "logit_scale"):
        names = [name for name in one if name.startswith(part)]
        moved = sum((one[name] - start[name]).square().sum().item() for name in names) ** 0.5
        apart = sum((one[name] - two[name]).square().sum().item() for name in names) ** 0.5
        assert moved > 1e-3, part
        # AdamW magnifies the last bit of gradients that are nearly zero, as those of wide kernels are.
        assert apart < 3e-2 * moved, part
    for name in (name for name in one if "pooler" in name):
        assert torch.equal(two[name], start[name]), "what no process uses does not decay"

    logs = [
        [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("one", "two")
    ]
    for first, second in zip(*logs, strict=True):
        assert second == pytest.approx(first, rel=5e-3)
