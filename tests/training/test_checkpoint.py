"""Checkpoints and the log: written completely or not at all, and later log lines are dropped."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from swclip.errors import ArtefactError
from swclip.training.checkpoint import (
    Checkpoint,
    MetricsLog,
    list_checkpoints,
    newest_checkpoint,
    optimizer_tensors,
    read_checkpoint,
    restore_optimizer,
    write_checkpoint,
)


def test_a_checkpoint_survives_writing_and_reading(tmp_path: Path) -> None:
    tensors = {
        "model.a": torch.randn(3, 4).T,
        "model.b": torch.tensor(2.5),
        "optimizer.0.step": torch.tensor(7, dtype=torch.int64),
    }
    path = write_checkpoint(tmp_path, Checkpoint(7, tensors, {"best": 0.25}))
    found = read_checkpoint(path)
    assert (found.step, found.facts) == (7, {"best": 0.25})
    assert found.tensors.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found.tensors[name].dtype == value.dtype
        assert torch.equal(found.tensors[name], value)
    assert found.part("model").keys() == {"a", "b"}


def test_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    for step in (5, 10, 200, 1000):
        write_checkpoint(tmp_path, Checkpoint(step, {"x": torch.tensor(step)}, {}), keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == [
        "step-00000200.safetensors",
        "step-00001000.safetensors",
    ]
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.step == 1000


@pytest.mark.parametrize("left", [0, 5, 40, -1])
def test_a_truncated_checkpoint_is_named(tmp_path: Path, left: int) -> None:
    path = write_checkpoint(tmp_path, Checkpoint(3, {"x": torch.randn(50)}, {}))
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ArtefactError, match=r"step-00000003\.safetensors.*delete it to start the run again"):
        newest_checkpoint(tmp_path)


def test_a_restored_optimizer_continues_identically() -> None:
    def fresh() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1))
        unused = nn.Parameter(torch.zeros(2))
        groups = [{"params": [unused, *model[0].parameters()], "lr": 0.1}, {"params": list(model[1].parameters())}]
        return model, torch.optim.AdamW(groups, lr=0.01)

    def go(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            optimizer.zero_grad()
            model(torch.full((2, 4), float(step))).sum().backward()
            optimizer.step()

    whole, optimizer = fresh()
    go(whole, optimizer, range(6))
    half, first = fresh()
    go(half, first, range(3))
    resumed, second = fresh()
    resumed.load_state_dict(half.state_dict())
    restore_optimizer(second, optimizer_tensors(first))
    go(resumed, second, range(3, 6))
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_log_lines_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 10, "loss": 1}\n{"step": 20, "loss": 2}\n{"step": 30, "loss": 3}\n{"step": 4')
    log = MetricsLog(tmp_path, step=20)
    log.write(30, {"loss": 3.5, "odd": math.nan})
    log.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [{"step": 10, "loss": 1}, {"step": 20, "loss": 2}, {"step": 30, "loss": 3.5, "odd": None}]
    MetricsLog(tmp_path).close()
    assert path.read_text() == "", "a run from the start has nothing behind it"
