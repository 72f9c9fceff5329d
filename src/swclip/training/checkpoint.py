"""Checkpoints: everything a run needs to go on to the same final weights, as safetensors and JSON."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from swclip.errors import ArtefactError
from swclip.files import atomic_file
from swclip.models.locator_model import write_tensors

_NAME = re.compile(r"step-(\d{8})\.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after some steps.

    Attributes:
        step: Steps made.
        tensors: Weights, objective state and the optimizer's moments, by name.
        facts: What is not a tensor: the best validation so far, the rates' configuration.
    """

    step: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under `prefix.`, without it."""
        return {k.removeprefix(f"{prefix}."): v for k, v in self.tensors.items() if k.startswith(f"{prefix}.")}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state as flat tensors, named by the parameter's number."""
    return {
        f"{number}.{name}": torch.as_tensor(value)
        for number, entry in optimizer.state_dict()["state"].items()
        for name, value in entry.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` took."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def write_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int = 2) -> Path:
    """Write a checkpoint whole or not at all, then drop all but the newest `keep`."""
    path = folder / f"step-{checkpoint.step:08d}.safetensors"
    with atomic_file(path) as beside:
        facts = json.dumps({"step": checkpoint.step, **checkpoint.facts})
        write_tensors(beside, checkpoint.tensors, {"swclip.checkpoint": facts})
    for old in list_checkpoints(folder)[:-keep]:
        old.unlink()
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in a folder, oldest first."""
    return sorted(path for path in folder.glob("step-*.safetensors") if _NAME.fullmatch(path.name))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        ArtefactError: It is cut short or not one; the message says how to go on.
    """
    try:
        with safe_open(path, framework="pt") as stream:
            facts = json.loads((stream.metadata() or {})["swclip.checkpoint"])
            tensors = {key: stream.get_tensor(key) for key in stream.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        older = [p.name for p in list_checkpoints(path.parent) if p < path]
        way = f"continue from {older[-1]}" if older else "start the run again"
        raise ArtefactError(f"{path}: the checkpoint is cut short or damaged ({error}); delete it to {way}.") from error
    return Checkpoint(int(facts.pop("step")), tensors, facts)


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint of a run, or None where there is none."""
    paths = list_checkpoints(folder)
    return read_checkpoint(paths[-1]) if paths else None


def remove_checkpoints(folder: Path) -> None:
    """Drop the checkpoints of a run that is finished."""
    shutil.rmtree(folder, ignore_errors=True)
