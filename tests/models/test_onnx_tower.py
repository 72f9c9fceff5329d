"""Image towers in ONNX files: what they compute, how they are saved, and files that cannot be used."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto

from fixtures.onnx_towers import STATED, WIDTH, write_onnx_tower
from swclip.errors import ConfigError, PackageError
from swclip.models.config import ImageConfig, TowerConfig
from swclip.models.embed import embed_photographs
from swclip.models.image_tower import ImageTower, image_preprocess
from swclip.models.locator_model import LocatorModel, load_model

MakeModel = Callable[..., LocatorModel]


@pytest.fixture
def onnx_tower(tmp_path: Path) -> Path:
    """A tower with normalisation in its metadata."""
    return write_onnx_tower(tmp_path / "tower.onnx")


def _tower(path: Path, **values: Any) -> ImageTower:
    return ImageTower(TowerConfig(str(path), **values)).eval()


def _pixels(count: int = 3, high: int = 32, wide: int = 32) -> torch.Tensor:
    return torch.randn(count, 3, high, wide, generator=torch.Generator().manual_seed(1))


def _expected(path: Path, pixels: torch.Tensor) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"pixels": pixels.numpy()})


def test_features_are_the_outputs_of_the_graph(onnx_tower: Path) -> None:
    pixels = _pixels()
    embedding, map_ = (torch.from_numpy(array) for array in _expected(onnx_tower, pixels))
    tokens = map_.flatten(2)
    expected = {
        "auto": embedding,
        "pooler": embedding,
        "cls": embedding,
        "mean": tokens.mean(2),
        "cls+mean+std": torch.cat([embedding, tokens.mean(2), tokens.std(2)], dim=1),
    }
    for pooling, features in expected.items():
        tower = _tower(onnx_tower, pooling=pooling)
        result = tower(pixels)
        torch.testing.assert_close(result, features, msg=pooling)
        assert result.shape[1] == tower.feature_dim, pooling
    cells = _tower(onnx_tower, pooling="cls+mean", pooling_grid=(2, 2))(pixels)
    torch.testing.assert_close(cells[:, :WIDTH], embedding)
    torch.testing.assert_close(cells[:, WIDTH : 2 * WIDTH], map_[:, :, :2, :2].mean((2, 3)))


@pytest.mark.parametrize(
    ("values", "tolerance"),
    [
        ({"shape": ("n", 32, 32, 3)}, 1e-6),
        ({"shape": (2, 3, 32, 32)}, 1e-6),
        ({"shape": (1, 3, 32, 32)}, 1e-6),
        ({"shape": ("n", 3, "h", "w"), "metadata": {**STATED, "size": "32"}}, 1e-6),
        ({"kind": TensorProto.FLOAT16}, 1e-2),
        ({"outputs": ("vectors",)}, 1e-6),
    ],
    ids=["channels last", "batches of 2", "batches of 1", "free sides", "float16", "another name"],
)
def test_layouts_types_and_batches_give_the_same(
    values: dict[str, Any], tolerance: float, onnx_tower: Path, tmp_path: Path
) -> None:
    pixels = _pixels(5)
    other = _tower(write_onnx_tower(tmp_path / "other.onnx", **values))
    torch.testing.assert_close(other(pixels), _tower(onnx_tower)(pixels), atol=tolerance, rtol=tolerance)
    assert torch.equal(other(pixels)[3:4], other(pixels[3:4])), "independent of the batch"


def test_preprocessing_is_stated_by_metadata_a_file_beside_it_or_the_configuration(tmp_path: Path) -> None:
    def preprocess(path: Path, **values: Any) -> Any:
        config = TowerConfig(str(path), **values)
        return image_preprocess(config, ImageTower(config))

    stated = preprocess(write_onnx_tower(tmp_path / "stated.onnx"))
    assert (stated.size_px, stated.resize, stated.mean, stated.std) == (32, "squash", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    silent = write_onnx_tower(tmp_path / "silent.onnx", metadata={})
    assert preprocess(silent, normalisation="imagenet").mean == (0.485, 0.456, 0.406)
    assert preprocess(silent, normalisation="none").std == (1.0, 1.0, 1.0)
    assert preprocess(silent, normalisation="clip", crop="centre").resize == "shortest-crop"
    free = write_onnx_tower(tmp_path / "free.onnx", shape=("n", 3, "h", "w"))
    assert preprocess(free, size_px=48).size_px == 48
    whole = preprocess(free, size_px=48, crop="whole")
    assert (whole.resize, whole.shape_px) == ("whole", None)
    wide = preprocess(write_onnx_tower(tmp_path / "wide.onnx", shape=("n", 3, 24, 40)))
    assert wide.shape_px == (24, 40)
    values = {"size": {"shortest_edge": 40}, "crop_size": 32, "image_mean": [0.1] * 3, "image_std": [0.2] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
    beside = preprocess(silent)
    assert (beside.resize, beside.shortest_px, beside.mean) == ("shortest-crop", 40, (0.1, 0.1, 0.1))
    assert preprocess(tmp_path / "stated.onnx").mean == (0.5, 0.4, 0.3), "the metadata of the file are nearer"


def test_a_saved_model_contains_the_graph(
    onnx_tower: Path, make_model: MakeModel, photographs: Callable[[int], list[Path]], tmp_path: Path
) -> None:
    paths = photographs(3)
    model = make_model(image_side={"tower": str(onnx_tower), "size_px": None})
    before = embed_photographs(model, paths)
    model.save(tmp_path / "model")
    sha256 = hashlib.sha256(onnx_tower.read_bytes()).hexdigest()
    onnx_tower.unlink()
    again = load_model(tmp_path / "model")
    assert again.fingerprint == model.fingerprint
    assert again.feature_fingerprint == model.feature_fingerprint
    assert again.image_tower.architecture is not None
    assert again.image_tower.architecture["sha256"] == sha256
    assert np.array_equal(embed_photographs(again, paths), before)
    assert np.array_equal(embed_photographs(copy.deepcopy(again), paths), before)


def test_another_graph_has_another_fingerprint(onnx_tower: Path, make_model: MakeModel) -> None:
    model = make_model(image_side={"tower": str(onnx_tower), "size_px": None})
    proto = onnx.load(onnx_tower)
    proto.doc_string = "the same weights, another file"
    onnx.save(proto, onnx_tower)
    other = make_model(image_side={"tower": str(onnx_tower), "size_px": None})
    assert model.feature_fingerprint != other.feature_fingerprint
    assert model.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    ("written", "configured", "message"),
    [
        ({"shape": ("n", 1, 32, 32)}, {}, r"shape \('n', 1, 32, 32\), but pictures are"),
        ({"shape": (3, 32, 32)}, {}, r"but pictures are \(N, 3, H, W\)"),
        ({"kind": TensorProto.UINT8, "shape": (1, 3, 32, 32)}, {}, r"tensor\(uint8\), but normalised pixels are"),
        ({"outputs": ("logits", "spatial")}, {"pooling": "mean"}, "has no output 'tokens'"),
        ({"metadata": {}}, {}, r"does not state how its pixels are normalised.*--normalisation imagenet"),
        ({"metadata": {"image_mean": "0.5 0.5"}}, {}, r"image_mean = '0.5 0.5' .* is not JSON"),
        ({"metadata": {"image_mean": "[0.5]", "image_std": "[1, 1, 1]"}}, {}, "mean and std need three values"),
        ({"shape": ("n", 3, "h", "w")}, {}, r"takes pictures of any size.*--size-px 224"),
        ({"shape": ("n", 3, "h", 32)}, {}, "one only is fixed"),
        ({}, {"size_px": 48}, "takes pictures of 32 x 32 pixels only"),
        ({}, {"crop": "whole"}, "takes pictures of 32 x 32 pixels only"),
        ({"shape": ("n", 3, 24, 40)}, {"crop": "centre"}, "width_px is for resize 'squash'"),
        ({}, {"blocks": 2}, "2 blocks cannot be pooled"),
        ({"extra_input": True}, {}, "has 2 inputs"),
        ({"external": True}, {}, r"save it as one file .* onnx\.save"),
    ],
)
def test_unusable_files_are_refused(
    written: dict[str, Any], configured: dict[str, Any], message: str, tmp_path: Path
) -> None:
    if "shape" in written and (len(written["shape"]) == 3 or "kind" in written):
        path = _without_weights(tmp_path / "tower.onnx", **written)
    else:
        path = write_onnx_tower(tmp_path / "tower.onnx", **written)
    config = TowerConfig(str(path), **configured)
    with pytest.raises(ConfigError, match=message):
        image_preprocess(config, ImageTower(config))


def _without_weights(path: Path, shape: tuple[int, ...], kind: int = TensorProto.FLOAT) -> Path:
    from onnx import helper

    ends = [helper.make_tensor_value_info(name, kind, shape) for name in ("pixels", "embedding")]
    graph = helper.make_graph([helper.make_node("Identity", ["pixels"], ["embedding"])], "tower", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_missing_and_damaged_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / "none.onnx"
    with pytest.raises(ConfigError, match=r"none\.onnx.*cannot be read"):
        _tower(missing)
    missing.write_bytes(b"no graph")
    with pytest.raises(ConfigError, match=r"none\.onnx.*onnxruntime .* cannot load it"):
        _tower(missing)
    monkeypatch.setattr("swclip.models.onnx_tower.find_spec", lambda name: None)
    with pytest.raises(PackageError, match=r"pip install 'swclip\[onnx\]'"):
        _tower(missing)


def test_several_outputs_need_a_name(tmp_path: Path) -> None:
    proto = onnx.load(write_onnx_tower(tmp_path / "tower.onnx", outputs=("one",)))
    proto.graph.node.append(onnx.helper.make_node("Identity", ["one"], ["two"]))
    proto.graph.output.append(onnx.helper.make_tensor_value_info("two", TensorProto.FLOAT, ["n", WIDTH]))
    onnx.save(proto, tmp_path / "tower.onnx")
    with pytest.raises(ConfigError, match=r"outputs one \('n', 6\), two \('n', 6\); name the one .* 'embedding'"):
        _tower(tmp_path / "tower.onnx")


def test_it_cannot_be_trained(onnx_tower: Path) -> None:
    from swclip.training.config import load_recipe

    for values in ({"tower": str(onnx_tower)}, {"beside": [{"tower": "builtin:small"}]}):
        overrides = {"model": {"image": values}}
        with pytest.raises(ConfigError, match=r"cannot be trained.*--freeze image"):
            load_recipe("sw-clip", {**overrides, "freeze_image": False})
        assert load_recipe("sw-clip", {**overrides, "freeze_image": True}).model.image.towers
    assert ImageConfig(str(onnx_tower)).is_onnx
