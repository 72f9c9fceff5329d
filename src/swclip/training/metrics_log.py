"""A run's figures as it goes: metrics.jsonl always, TensorBoard where it is installed."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class MetricsLog:
    """Appends one JSON object a line to RUN/metrics.jsonl, and the same figures to RUN/tensorboard.

    Args:
        run: The run's folder.
        step: Steps already made: lines after it, of a run that was killed past its last checkpoint, are dropped.
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
        """Write the figures of a step; what is not finite becomes null."""
        line = {"step": step, **{k: v if math.isfinite(v) else None for k, v in figures.items()}}
        with self._path.open("a", encoding="utf-8") as stream:  # not held open: a run may be interrupted anywhere
            stream.write(json.dumps(line) + "\n")
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Finish what TensorBoard writes."""
        if self._board is not None:
            self._board.close()


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # the last line of a killed run may be cut short
