"""Whether an exported graph gives what the model gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from swclip.errors import ArtefactError
from swclip.export.graph import Signature

TOLERANCE = 1e-4
"""Largest difference allowed in any number of a unit vector."""

Run = Callable[[Float[np.ndarray, "b ..."]], Float32[np.ndarray, "b d"]]


@dataclass(frozen=True)
class Parity:
    """How far the embeddings of a graph are from the model's.

    Attributes:
        inputs: N, how many were compared.
        by_batch: Largest difference of any number, by the batch size that all N were run with.
        largest_difference: The largest of these.
        mean_cosine: Mean cosine of a graph's embedding to the model's, at the largest batch.
        least_cosine: The smallest.
    """

    inputs: int
    by_batch: dict[int, float]
    largest_difference: float
    mean_cosine: float
    least_cosine: float

    def to_dict(self) -> dict[str, Any]:
        """The values for JSON."""
        return {**vars(self), "by_batch": {str(size): value for size, value in self.by_batch.items()}}


def open_graph(path: Path, signature: Signature, threads: int | None = None) -> Run:
    """A graph as a function, run by onnxruntime on the CPU.

    Args:
        path: The file.
        signature: Its input and output.
        threads: Threads it computes with; as many as onnxruntime chooses where None.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has an exception of its own for each kind of thing it cannot load
        reason = " ".join(str(error).split())[:300]
        raise ArtefactError(
            f"{path.name}: onnxruntime {onnxruntime.__version__} cannot load it ({reason}); another --opset may do."
        ) from error

    def run(inputs: Float[np.ndarray, "b ..."]) -> Float32[np.ndarray, "b d"]:
        found: Float32[np.ndarray, "b d"] = session.run([signature.output], {signature.input: inputs})[0]
        return found

    return run


def measure_parity(
    run: Run, inputs: Float[np.ndarray, "n ..."], wanted: Float32[np.ndarray, "n d"], batches: Sequence[int] = (1, 3)
) -> Parity:
    """Run a graph on the same inputs as the model, in batches of several sizes.

    Args:
        run: The graph.
        inputs: N inputs.
        wanted: (N, D) the model's unit vectors of them.
        batches: Batch sizes, beside all N at once; the last batch of each holds what is left.

    Example:
        >>> rows = np.eye(3, dtype=np.float32)
        >>> measure_parity(lambda x: x + np.float32(0.5), rows, rows).largest_difference
        0.5
    """
    count = len(inputs)
    by_batch: dict[int, float] = {}
    found = wanted
    for size in sorted({*(min(size, count) for size in batches), count}):
        found = np.concatenate([run(inputs[at : at + size]) for at in range(0, count, size)])
        # NaN is the largest difference there is: the maximum keeps it.
        by_batch[size] = float(np.abs(found.astype(np.float64) - wanted).max())
    one, other = (rows.astype(np.float64) for rows in (found, wanted))
    cosine = (one * other).sum(axis=1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))
    return Parity(
        inputs=count,
        by_batch=by_batch,
        largest_difference=float(np.max(list(by_batch.values()))),
        mean_cosine=float(cosine.mean()),
        least_cosine=float(cosine.min()),
    )


def check_parity(parity: Parity, what: str, tolerance: float = TOLERANCE) -> None:
    """Raise ArtefactError where a graph is further from the model than allowed, or gives no numbers."""
    if parity.largest_difference <= tolerance:
        return
    size = max(parity.by_batch, key=lambda size: np.nan_to_num(parity.by_batch[size], nan=np.inf))
    raise ArtefactError(
        f"{what}: onnxruntime's embeddings differ from the model's by up to {parity.largest_difference:.2g} (batches "
        f"of {size}, {parity.inputs} inputs), and {tolerance:g} is allowed; nothing was exported. Another --opset or "
        "release of onnxruntime may do better."
    )
