"""Parity matches its definition, and detects wrong graphs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from swclip.errors import ArtefactError
from swclip.export.graph import IMAGE, write_image
from swclip.export.parity import check_parity, measure_parity, open_graph
from swclip.models.locator_model import LocatorModel


def _unit(rng: np.random.Generator, rows: int) -> np.ndarray:
    vectors = rng.standard_normal((rows, 6))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_parity_is_the_largest_difference_over_all_batches() -> None:
    rng = np.random.default_rng(0)
    expected = _unit(rng, 7)
    inputs = np.arange(7.0)[:, None]
    batches: list[list[float]] = []

    def run(batch: np.ndarray) -> np.ndarray:
        # The error is proportional to the batch size, in one component of the last row.
        batches.append(batch[:, 0].tolist())
        embeddings = expected[batch[:, 0].astype(int)].copy()
        embeddings[-1, 2] += 0.01 * len(batch)
        return embeddings

    parity = measure_parity(run, inputs, expected, (3, 1, 99))
    assert batches == [
        *([float(row)] for row in range(7)),
        [0.0, 1.0, 2.0],
        [3.0, 4.0, 5.0],
        [6.0],
        [float(row) for row in range(7)],
    ]
    assert list(parity.by_batch) == [1, 3, 7]
    assert parity.by_batch == pytest.approx({1: 0.01, 3: 0.03, 7: 0.07}, abs=1e-6)
    assert parity.largest_difference == max(parity.by_batch.values())
    changed = expected[6].astype(float) + np.array([0, 0, 0.07, 0, 0, 0])
    least = float(changed @ expected[6] / np.linalg.norm(changed) / np.linalg.norm(expected[6]))
    assert parity.least_cosine == pytest.approx(least, abs=1e-6)
    assert parity.mean_cosine == pytest.approx((6 + least) / 7, abs=1e-6)


def test_check_passes_up_to_the_tolerance() -> None:
    rows = np.zeros((2, 3), dtype=np.float32)
    rows[:, 0] = 1.0
    check_parity(measure_parity(lambda x: x, rows, rows), "image.onnx")
    off = measure_parity(lambda x: x + np.float32(0.25), rows, rows)
    check_parity(off, "image.onnx", 0.25)
    with pytest.raises(ArtefactError, match=r"image.onnx: .* by up to 0.25 \(batches of 1, 2 inputs\).*nothing was"):
        check_parity(off, "image.onnx", 0.2499)


def test_check_rejects_nan() -> None:
    rows = np.eye(3, dtype=np.float32)

    def run(batch: np.ndarray) -> np.ndarray:
        return np.full_like(batch, np.nan) if len(batch) == 2 else batch

    with pytest.raises(ArtefactError, match=r"by up to nan \(batches of 2"):
        check_parity(measure_parity(run, rows, rows, (1, 2)), "image.onnx")


def test_check_rejects_changed_weights(
    make_model: Callable[..., LocatorModel],
    pixels: Callable[[int, int], np.ndarray],
    encoded: Callable[[LocatorModel, np.ndarray], np.ndarray],
    tmp_path: Path,
) -> None:
    model, values = make_model(), pixels(5, 32)
    expected, path = encoded(model, values), tmp_path / "image.onnx"
    write_image(model, path)
    check_parity(measure_parity(open_graph(path, IMAGE), values, expected), path.name)
    proto = onnx.load(path)
    (weights,) = (array for array in proto.graph.initializer if array.name.endswith("image_head.linear.weight"))
    changed = onnx.numpy_helper.to_array(weights).copy()
    changed[0, 0] += 0.01  # one weight; a whole row would have no effect after layer normalisation
    weights.CopyFrom(onnx.numpy_helper.from_array(changed, weights.name))
    onnx.save(proto, path)
    with pytest.raises(ArtefactError, match=r"image.onnx: onnxruntime's embeddings differ from the model's by up to"):
        check_parity(measure_parity(open_graph(path, IMAGE), values, expected), path.name)


def test_invalid_graph_is_named(tmp_path: Path) -> None:
    (tmp_path / "image.onnx").write_bytes(b"no graph")
    with pytest.raises(ArtefactError, match=r"image.onnx: onnxruntime .* cannot load it"):
        open_graph(tmp_path / "image.onnx", IMAGE)
