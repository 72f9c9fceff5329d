"""Comparison of an exported graph with its model."""

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
"""Largest allowed difference of any component of a unit vector."""

Run = Callable[[Float[np.ndarray, "b ..."]], Float32[np.ndarray, "b d"]]


@dataclass(frozen=True)
class Parity:
    """Differences between the embeddings of a graph and of its model.

    Attributes:
        inputs: Number N of compared inputs.
        by_batch: {batch size: largest difference of any component over all N inputs}.
        largest_difference: Largest value of `by_batch`.
        mean_cosine: Mean cosine between embeddings of the graph and of the model, at the largest batch size.
        least_cosine: Smallest of these cosines.
    """

    inputs: int
    by_batch: dict[int, float]
    largest_difference: float
    mean_cosine: float
    least_cosine: float

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return {**vars(self), "by_batch": {str(size): value for size, value in self.by_batch.items()}}


def open_graph(path: Path, signature: Signature, threads: int | None = None) -> Run:
    """Open a graph as a function that onnxruntime runs on the CPU.

    Args:
        path: File of the graph.
        signature: Input and output of the graph.
        threads: Number of threads; chosen by onnxruntime if None.

    Raises:
        ArtefactError: onnxruntime cannot load the graph.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a separate exception for each kind of problem
        reason = " ".join(str(error).split())[:300]
        raise ArtefactError(
            f"{path.name}: onnxruntime {onnxruntime.__version__} cannot load it ({reason}); another --opset may help."
        ) from error

    def run(inputs: Float[np.ndarray, "b ..."]) -> Float32[np.ndarray, "b d"]:
        embeddings: Float32[np.ndarray, "b d"] = session.run([signature.output], {signature.input: inputs})[0]
        return embeddings

    return run


def measure_parity(
    run: Run, inputs: Float[np.ndarray, "n ..."], expected: Float32[np.ndarray, "n d"], batches: Sequence[int] = (1, 3)
) -> Parity:
    """Compare a graph with its model on the same inputs, in batches of several sizes.

    Args:
        run: The graph.
        inputs: N inputs.
        expected: (N, D) unit vectors of the model.
        batches: Batch sizes, in addition to N; the last batch of each size may be smaller.

    Example:
        >>> rows = np.eye(3, dtype=np.float32)
        >>> measure_parity(lambda x: x + np.float32(0.5), rows, rows).largest_difference
        0.5
    """
    count = len(inputs)
    by_batch: dict[int, float] = {}
    embeddings = expected
    for size in sorted({*(min(size, count) for size in batches), count}):
        embeddings = np.concatenate([run(inputs[start : start + size]) for start in range(0, count, size)])
        # The maximum keeps NaN, which counts as the largest difference.
        by_batch[size] = float(np.abs(embeddings.astype(np.float64) - expected).max())
    a, b = (rows.astype(np.float64) for rows in (embeddings, expected))
    cosine = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return Parity(
        inputs=count,
        by_batch=by_batch,
        largest_difference=float(np.max(list(by_batch.values()))),
        mean_cosine=float(cosine.mean()),
        least_cosine=float(cosine.min()),
    )


def check_parity(parity: Parity, name: str, tolerance: float = TOLERANCE) -> None:
    """Raise ArtefactError if a graph differs from its model by more than the tolerance or returns NaN."""
    if parity.largest_difference <= tolerance:
        return
    size = max(parity.by_batch, key=lambda size: np.nan_to_num(parity.by_batch[size], nan=np.inf))
    raise ArtefactError(
        f"{name}: onnxruntime's embeddings differ from the model's by up to {parity.largest_difference:.2g} (batches "
        f"of {size}, {parity.inputs} inputs), but {tolerance:g} is allowed; nothing was exported. Another --opset or "
        "release of onnxruntime may help."
    )
