"""Checkpoints: the state with which a run resumes to the same final weights, as safetensors and JSON."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from swclip.errors import ArtefactError
from swclip.files import atomic_file
from swclip.models.weights import write_tensors

_NAME = re.compile(r"step-(\d{8})\.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after some steps.

    Attributes:
        step: Number of completed steps.
        tensors: Weights, objective state and the optimizer's moments, by name.
        facts: Values that are not tensors: the best validation score so far.
    """

    step: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with `prefix.`, without that prefix."""
        return {k.removeprefix(f"{prefix}."): v for k, v in self.tensors.items() if k.startswith(f"{prefix}.")}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state as flat tensors, named by the parameter's number."""
    return {
        f"{number}.{name}": torch.as_tensor(value)
        for number, entry in optimizer.state_dict()["state"].items()
        for name, value in entry.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restore an optimizer's state from the tensors of `optimizer_tensors`."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def write_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int = 2) -> Path:
    """Write a checkpoint completely or not at all, then delete all but the newest.

    Args:
        folder: Folder of the checkpoints.
        checkpoint: The checkpoint.
        keep: Number of checkpoints that are kept.

    Returns:
        The file.

    Raises:
        DiskFullError: The disk filled; no incomplete file is left.
    """
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
        ArtefactError: It is cut short or not a checkpoint; the message says how to resume.
    """
    try:
        with safe_open(path, framework="pt") as stream:
            facts = json.loads((stream.metadata() or {})["swclip.checkpoint"])
            tensors = {key: stream.get_tensor(key) for key in stream.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        older = [p.name for p in list_checkpoints(path.parent) if p < path]
        remedy = f"continue from {older[-1]}" if older else "start the run again"
        raise ArtefactError(
            f"{path}: the checkpoint is cut short or damaged ({error}); delete it to {remedy}."
        ) from error
    return Checkpoint(int(facts.pop("step")), tensors, facts)


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint of a run, or None where there is none."""
    paths = list_checkpoints(folder)
    return read_checkpoint(paths[-1]) if paths else None


def remove_checkpoints(folder: Path) -> None:
    """Delete the checkpoints of a finished run."""
    shutil.rmtree(folder, ignore_errors=True)


class MetricsLog:
    """Appends one JSON object a line to RUN/metrics.jsonl, and the same figures to RUN/tensorboard.

    Args:
        run: The run's folder.
        step: Number of completed steps: later lines, of a run that was killed after its last checkpoint, are deleted.
    """

    def __init__(self, run: Path, step: int = 0) -> None:
        path = run / "metrics.jsonl"
        kept = (
            [line for line in path.read_text().splitlines() if _step_of(line) <= step] if path.exists() and step else []
        )
        path.write_text("".join(f"{line}\n" for line in kept))
        self._path = path
        self._board: Any = None
        if importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard.writer import SummaryWriter

            self._board = SummaryWriter(str(run / "tensorboard"), purge_step=step)

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the figures of a step; values that are not finite become null."""
        line = {"step": step, **{k: v if math.isfinite(v) else None for k, v in figures.items()}}
        with self._path.open("a", encoding="utf-8") as stream:  # not kept open: a run may be interrupted anywhere
            stream.write(json.dumps(line) + "\n")
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Close the TensorBoard writer."""
        if self._board is not None:
            self._board.close()


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # the last line of a killed run may be cut short
