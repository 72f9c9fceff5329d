"""Graphs against the model: every tower and pooling, every form of the location encoder, any batch size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from swclip.errors import ConfigError
from swclip.export import graph
from swclip.export.graph import IMAGE, LOCATION, check_location, write_image, write_location
from swclip.export.parity import open_graph
from swclip.models import coordinate_encoders
from swclip.models.locator_model import LocatorModel

pytestmark = pytest.mark.slow

Make = Callable[..., LocatorModel]
Pixels = Callable[[int, int], np.ndarray]
Encode = Callable[[LocatorModel, np.ndarray], np.ndarray]

IMAGE_SIDES: list[tuple[str, dict[str, Any]]] = [
    ("builtin:small", {}),
    ("builtin:small", {"pooling": "gem", "head_width": 0}),
    ("dinov2", {"pooling": "cls+mean", "head": "mlp"}),
    ("dinov2", {"pooling": "gem", "size_px": 48}),
    ("dinov2", {"pooling": "cls+mean+std", "blocks": 2}),
    ("dinov2", {"pooling": "grid"}),
    ("dinov2", {"pooling_grid": (2, 1)}),
    ("clip", {"pooling": "pooler", "size_px": 48}),
    ("siglip", {}),
]


@pytest.mark.parametrize(("tower", "side"), IMAGE_SIDES)
def test_image_encoders_match_the_model_for_any_batch_size(
    tower: str, side: dict[str, Any], make_model: Make, pixels: Pixels, encoded: Encode, tmp_path: Path
) -> None:
    model = make_model(tower, image_side=side)
    write_image(model, tmp_path / "image.onnx")
    run = open_graph(tmp_path / "image.onnx", IMAGE)
    for count in (1, 2, 5):
        values = pixels(count, model.preprocess.size_px)
        embeddings = run(values)
        assert embeddings.dtype == np.float32
        np.testing.assert_allclose(embeddings, encoded(model, values), atol=2e-6)
        np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1.0, rtol=1e-5)


def test_graph_has_a_fingerprint_and_no_local_paths(make_model: Make, tmp_path: Path) -> None:
    model = make_model()
    write_image(model, tmp_path / "image.onnx", 20)
    proto = onnx.load(tmp_path / "image.onnx")
    onnx.checker.check_model(proto)
    assert [entry.version for entry in proto.opset_import if entry.domain == ""] == [20]
    assert {entry.key: entry.value for entry in proto.metadata_props} == {"swclip_fingerprint": model.fingerprint}
    shape = proto.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in shape] == ["batch", 3, 32, 32]
    assert str(Path(torch.__file__).parent).encode() not in (tmp_path / "image.onnx").read_bytes()
    assert b"image_tower.py" not in (tmp_path / "image.onnx").read_bytes()


def test_model_in_training_mode_is_exported_in_evaluation_mode(
    make_model: Make, pixels: Pixels, encoded: Encode, tmp_path: Path
) -> None:
    model, values = make_model(), pixels(3, 32)
    expected = encoded(model, values)
    model.train()
    write_image(model, tmp_path / "image.onnx")
    assert all(module.training for module in model.modules())
    np.testing.assert_allclose(open_graph(tmp_path / "image.onnx", IMAGE)(values), expected, atol=2e-6)


def test_large_weights_are_written_to_a_separate_file(
    make_model: Make, pixels: Pixels, encoded: Encode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "_PROTOBUF_BYTES", 1000)
    model, values = make_model(), pixels(3, 32)
    write_image(model, tmp_path / "image.onnx")
    assert (tmp_path / "image.onnx.data").stat().st_size > (tmp_path / "image.onnx").stat().st_size
    np.testing.assert_allclose(open_graph(tmp_path / "image.onnx", IMAGE)(values), encoded(model, values), atol=2e-6)


@pytest.mark.parametrize(
    ("text", "location", "words"),
    [
        ("none", {}, {}),
        ("none", {"form": "fourier"}, {}),
        ("builtin:small", {"direct": False}, {}),
        ("bert", {"prompt": "a photo taken in {city} at {location}", "context_tokens": 2}, {"city": "Leeds"}),
        ("clip", {"prompt": "street {street} at {location}"}, {}),
        ("siglip", {}, {}),
    ],
)
def test_location_encoders_match_the_model(
    text: str, location: dict[str, Any], words: dict[str, str], make_model: Make, tmp_path: Path
) -> None:
    model = make_model(text=text, **location)
    write_location(model, tmp_path / "location.onnx", words)
    run = open_graph(tmp_path / "location.onnx", LOCATION)
    rng = np.random.default_rng(0)
    for count in (1, 2, 40):
        positions = np.stack([rng.uniform(-90, 90, count), rng.uniform(-180, 180, count)], axis=1)
        with torch.no_grad():
            wanted = model.position_embeddings(torch.from_numpy(positions), [words] * count).numpy()
        np.testing.assert_allclose(run(positions), wanted, atol=2e-6)
    # Metres matter: positions ten metres apart are told apart as the model does.
    pair = np.array([[51.5, -0.1], [51.50009, -0.1]])
    with torch.no_grad():
        apart = np.diff(model.position_embeddings(torch.from_numpy(pair), [words] * 2).numpy(), axis=0)
    assert np.abs(apart).max() > 1e-4
    np.testing.assert_allclose(np.diff(run(pair), axis=0), apart, atol=2e-6)


def test_float32_earth_radius_would_be_detected(
    make_model: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The radius is a tensor because the exporter rounds Python floats to float32.
    model, positions = make_model(), np.random.default_rng(0).uniform(-80, 80, (40, 2))
    with torch.no_grad():
        expected = model.position_embeddings(torch.from_numpy(positions)).numpy()
    monkeypatch.setattr(coordinate_encoders, "_RADIUS_M", float(coordinate_encoders._RADIUS_M))
    write_location(model, tmp_path / "location.onnx", {})
    assert np.abs(open_graph(tmp_path / "location.onnx", LOCATION)(positions) - expected).max() > 1e-4


@pytest.mark.parametrize(
    ("text", "location", "words", "message"),
    [
        (
            "none",
            {"form": "cells"},
            {},
            "form 'cells' cannot be converted to ONNX: it looks up the H3 cell of each position",
        ),
        ("builtin:small", {"form": "template"}, {}, "form 'template' .* has no tokenizer"),
        ("none", {}, {"city": "Leeds"}, "--word city=.*has no field"),
        ("builtin:small", {"prompt": "in {city} at {location}"}, {"street": "Mill Road"}, "has city besides"),
    ],
)
def test_rejects_unsupported_forms_and_words(
    text: str, location: dict[str, Any], words: dict[str, str], message: str, make_model: Make
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_location(make_model(text=text, **location), words)


def test_rejects_old_opsets(make_model: Make, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--opset 17: the graphs need 18 or more"):
        write_image(make_model(), tmp_path / "image.onnx", 17)
    assert not list(tmp_path.iterdir())
