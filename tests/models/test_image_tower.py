"""The image side: towers, poolings, sizes."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from swclip.errors import ArtefactError, ConfigError
from swclip.models.config import ImageConfig
from swclip.models.image_head import ImageHead
from swclip.models.image_tower import GemPool, ImageTower
from swclip.models.locator_model import LocatorModel, load_model
from swclip.models.towers import tower_preprocess

MakeModel = Callable[..., LocatorModel]


def _pixels(side: int, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("side", [32, 48])
@pytest.mark.parametrize("image", ["builtin:small", "dinov2", "clip", "siglip"])
def test_photographs_become_unit_vectors_at_any_size(image: str, side: int, make_model: MakeModel) -> None:
    model = make_model(image, image_side={"size_px": side})
    assert model.preprocess.size_px == side
    with torch.no_grad():
        result = model.encode_pixels(_pixels(side))
    assert result.shape == (2, 12)
    torch.testing.assert_close(result.norm(dim=1), torch.ones(2))
    assert (result[0] - result[1]).abs().max() > 1e-3


def test_poolings_follow_their_definitions(towers: Path) -> None:
    pixels = _pixels(32, 3)
    tower = {
        name: ImageTower(ImageConfig(str(towers / "dinov2"), pooling=name)).eval()  # type: ignore[arg-type]
        for name in ("auto", "cls", "mean", "cls+mean", "cls+mean+std", "gem", "grid", "pooler")
    }
    with torch.no_grad():
        output = tower["cls"].backbone(pixel_values=pixels)
        hidden, patches = output.last_hidden_state, output.last_hidden_state[:, 1:]
        assert patches.shape == (3, 16, 32)
        side = patches.transpose(1, 2).reshape(3, 32, 4, 4)
        wanted = {
            "auto": torch.cat([hidden[:, 0], patches.mean(1), patches.std(1)], dim=1),
            "cls": hidden[:, 0],
            "mean": patches.mean(1),
            "cls+mean": torch.cat([hidden[:, 0], patches.mean(1)], dim=1),
            "cls+mean+std": torch.cat([hidden[:, 0], patches.mean(1), patches.std(1)], dim=1),
            "gem": patches.clamp(min=1e-6).pow(3).mean(1).pow(1 / 3),
            "grid": F.adaptive_avg_pool2d(side, 3).flatten(1),
            "pooler": output.pooler_output,
        }
        for name, features in wanted.items():
            result = tower[name](pixels)
            torch.testing.assert_close(result, features, msg=name)
            assert result.shape[1] == tower[name].feature_dim, name


def test_last_blocks_are_pooled_and_concatenated(towers: Path) -> None:
    pixels = _pixels(32, 3)
    one = ImageTower(ImageConfig(str(towers / "dinov2"))).eval()
    two = ImageTower(ImageConfig(str(towers / "dinov2"), blocks=2)).eval()
    with torch.no_grad():
        states = one.backbone(pixel_values=pixels, output_hidden_states=True).hidden_states
        before = one.backbone.layernorm(states[-2])  # type: ignore[operator, union-attr]
        result = two(pixels)
        assert torch.equal(result[:, two.feature_dim // 2 :], one(pixels))
    torch.testing.assert_close(
        result[:, : two.feature_dim // 2], torch.cat([before[:, 0], before[:, 1:].mean(1), before[:, 1:].std(1)], dim=1)
    )
    clip = ImageTower(ImageConfig(str(towers / "clip"), pooling="mean", blocks=2)).eval()
    with torch.no_grad():
        assert clip(_pixels(32, 3)).shape == (3, clip.feature_dim)
    # The built-in tower has no blocks to choose among.
    assert ImageTower(ImageConfig(blocks=3)).feature_dim == ImageTower(ImageConfig()).feature_dim


def test_automatic_poolings(towers: Path) -> None:
    result = {name: ImageTower(ImageConfig(str(towers / name))).pooling for name in ("dinov2", "clip", "siglip")}
    assert result == {"dinov2": "cls+mean+std", "clip": "cls+mean+std", "siglip": "pooler"}
    assert ImageTower(ImageConfig()).pooling == "grid"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tower": "builtin:large"}, "builtin:large"),
        ({"tower": "/nowhere/at/all"}, "/nowhere/at/all.*builtin:street"),
        ({"tower": "TOWERS/siglip", "pooling": "cls"}, "needs a class token"),
        ({"pooling": "cls+mean"}, "needs a class token"),
        ({"tower": "TOWERS/dinov2", "blocks": 99}, "blocks, not 99"),
        ({"tower": "TOWERS/siglip", "blocks": 2}, "pooler uses only the last block"),
        ({"tower": "TOWERS"}, "the folder has no usable model"),
    ],
)
def test_unavailable_towers_are_refused(values: dict[str, Any], message: str, towers: Path) -> None:
    values["tower"] = values.get("tower", "builtin:small").replace("TOWERS", str(towers))
    with pytest.raises(ConfigError, match=message):
        ImageTower(ImageConfig(**values))


def test_the_right_side_of_a_two_tower_checkpoint_is_loaded(towers: Path, make_model: MakeModel) -> None:
    """Every weight of the saved side is there, and nothing is drawn afresh."""
    from safetensors.torch import load_file

    for name in ("clip", "siglip"):
        saved = load_file(towers / name / "model.safetensors")
        model = make_model(name, name)
        assert model.location.text is not None
        for side, tower in (("vision_model", model.image_tower.backbone), ("text_model", model.location.text.tower)):
            wanted = {k.split(f"{side}.", 1)[1]: v for k, v in saved.items() if f"{side}." in k}
            result = {k: v for k, v in tower.state_dict().items() if not k.endswith("position_ids")}
            assert result.keys() == wanted.keys()
            assert all(torch.equal(result[k], wanted[k]) for k in wanted)


def test_another_size_keeps_the_crop_of_the_photograph(towers: Path) -> None:
    default, larger = tower_preprocess(str(towers / "dinov2"), None), tower_preprocess(str(towers / "dinov2"), 64)
    assert (default.size_px, default.shortest_px) == (32, 40)
    assert (larger.size_px, larger.shortest_px) == (64, 80)
    assert default.mean == (0.5, 0.4, 0.3)
    squashed = tower_preprocess(str(towers / "siglip"), 64)
    assert (squashed.size_px, squashed.shortest_px, squashed.resize) == (64, None, "squash")


def test_generalised_mean_is_between_mean_and_maximum() -> None:
    tokens = torch.rand(4, 9, 5, generator=torch.Generator().manual_seed(0))
    pooled = GemPool()(tokens)
    assert (pooled >= tokens.mean(1) - 1e-6).all()
    assert (pooled <= tokens.amax(1) + 1e-6).all()
    torch.testing.assert_close(GemPool(1.0)(tokens), tokens.mean(1))


def test_a_head_without_width_is_linear() -> None:
    head = ImageHead(6, 4, 0, 0.5).train()
    assert not any(isinstance(module, nn.Dropout) for module in head.modules())
    features = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(head(features), F.normalize(head.linear(head.norm(features)), dim=-1))


def test_the_head_of_geoclip_has_two_layers_only() -> None:
    head = ImageHead(6, 4, 5, 0.0, "mlp")
    assert sorted(tuple(p.shape) for p in head.parameters()) == [(4,), (4, 5), (5,), (5, 6)]
    features = torch.randn(3, 6)
    _, first, _, second = head.mlp
    hidden = (features @ first.weight.T + first.bias).clamp_min(0.0)
    torch.testing.assert_close(head(features), F.normalize(hidden @ second.weight.T + second.bias, dim=-1))


def _pickled(folder: Path, trap: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (trap,)

    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))


def _configured(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def _sharded(folder: Path, shard: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": {"embeddings.cls_token": shard}})
    )


def _cut(path: Path, to: int) -> None:
    path.write_bytes(path.read_bytes()[:to])


def _piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param(lambda f: _pickled(f, f / "trap"), "pytorch_model.bin could run code", id="pickled"),
        pytest.param(lambda f: (f / "model.safetensors").unlink(), "has no weights in safetensors", id="no weights"),
        pytest.param(lambda f: _cut(f / "model.safetensors", 4), "is cut short", id="no header"),
        pytest.param(lambda f: _cut(f / "model.safetensors", -99), "is cut short", id="truncated weights"),
        pytest.param(lambda f: _piped(f / "model.safetensors"), "is not a file", id="pipe as weights"),
        pytest.param(lambda f: _piped(f / "config.json"), "is not a file", id="pipe as configuration"),
        pytest.param(lambda f: _sharded(f, "/etc/passwd"), "names '/etc/passwd'", id="shard elsewhere"),
        pytest.param(lambda f: _sharded(f, "../a.safetensors"), "names '../a.safetensors'", id="shard above"),
        pytest.param(lambda f: _sharded(f, "a.bin"), "names 'a.bin'", id="pickled shard"),
        pytest.param(lambda f: _sharded(f, "a.safetensors"), "a.safetensors: is missing", id="missing shard"),
        pytest.param(
            lambda f: (f / "model.safetensors").rename(f / "model.safetensors.index.json"),
            "index of the weights cannot be read", id="weights as index",
        ),
        pytest.param(lambda f: _configured(f, _attn_implementation="eve/kernels"), "asks for remote", id="kernel"),
        pytest.param(lambda f: _configured(f, auto_map={"AutoModel": "trap.Trap"}), "asks for remote", id="own code"),
        pytest.param(lambda f: _configured(f, transformers_weights="b.safetensors"), "other weights", id="weights"),
        pytest.param(lambda f: _configured(f, hidden_size="wide"), "no usable model", id="wrong type"),
        pytest.param(lambda f: _configured(f, quantization_config={"quant_method": "gptq"}), "no usable", id="gptq"),
        pytest.param(lambda f: (f / "config.json").write_text("[]"), "no usable model", id="a list"),
        pytest.param(lambda f: (f / "config.json").write_text("{"), "cannot be read", id="no JSON"),
    ],
)  # fmt: skip
def test_towers_from_untrusted_folders_are_errors_and_run_nothing(
    spoil: Callable[[Path], object], message: str, towers: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "tower"
    shutil.copytree(towers / "dinov2", folder)
    spoil(folder)
    with pytest.raises(ConfigError, match=message):
        ImageTower(ImageConfig(str(folder)))
    assert not (folder / "trap").exists()


def test_tower_in_several_files_is_loaded(towers: Path, tmp_path: Path) -> None:
    import transformers

    whole = transformers.AutoModel.from_pretrained(towers / "dinov2")
    whole.save_pretrained(tmp_path / "tower", max_shard_size="20KB")
    assert len(list((tmp_path / "tower").glob("*.safetensors"))) > 1
    loaded = ImageTower(ImageConfig(str(tmp_path / "tower"))).backbone.state_dict()
    for name, value in ImageTower(ImageConfig(str(towers / "dinov2"))).backbone.state_dict().items():
        assert torch.equal(value, loaded[name])


def test_saved_model_with_a_kernel_is_refused(make_model: MakeModel, tmp_path: Path) -> None:
    make_model("dinov2").save(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    values["image_architecture"]["_attn_implementation"] = "eve/kernels"
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ArtefactError, match="asks for remote code"):
        load_model(tmp_path)
