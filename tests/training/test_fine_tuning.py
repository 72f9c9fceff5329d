"""Fine-tuning of an image tower: the last blocks, or LoRA adapters that are merged into the saved weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from swclip.data.manifest import read_manifest
from swclip.data.splits import read_splits
from swclip.errors import ConfigError
from swclip.models.config import ImageConfig
from swclip.models.image_tower import ImageTower
from swclip.models.locator_model import load_model
from swclip.training.config import TrainingConfig
from swclip.training.fine_tuning import LoraAdapters, TuningConfig, tune
from swclip.training.loop import train

FAMILIES = ["dinov2", "clip", "siglip"]


def tower_of(towers: Path, family: str) -> ImageTower:
    return ImageTower(ImageConfig(tower=str(towers / family), size_px=32))


def learning(tower: ImageTower) -> set[str]:
    return {name for name, p in tower.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_last_block_and_later_layers_are_trained(towers: Path, family: str) -> None:
    tower = tower_of(towers, family)
    assert tune(tower, TuningConfig(blocks=1), seed=0) is None
    names = learning(tower)
    assert any(".1." in name for name in names)
    assert not any(".0." in name and "layer" in name for name in names)
    assert not any("embeddings" in name or "pre_layrnorm" in name for name in names)
    assert any("layernorm" in name and "encoder" not in name for name in names), "the norm after the blocks"
    before = {name for name, _ in tower.named_parameters()} - names
    assert any("embeddings" in name for name in before)
    pixels = torch.zeros(2, 3, 32, 32)
    tower(pixels).sum().backward()
    assert all((p.grad is not None) <= (name in names) for name, p in tower.named_parameters())


def test_all_blocks_are_all_but_the_embeddings(towers: Path) -> None:
    tower = tower_of(towers, "dinov2")
    tune(tower, TuningConfig(blocks=2), seed=0)
    assert {name for name, _ in tower.named_parameters()} - learning(tower) == {
        name for name, _ in tower.named_parameters() if "embeddings" in name
    }


def test_nothing_is_frozen_where_the_whole_tower_is_trained(towers: Path) -> None:
    tower = tower_of(towers, "clip")
    assert tune(tower, TuningConfig(), seed=0) is None
    assert learning(tower) == {name for name, _ in tower.named_parameters()}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("blocks", [0, 1])
def test_new_adapters_equal_the_pretrained_tower(towers: Path, family: str, blocks: int) -> None:
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    plain, tower = tower_of(towers, family), tower_of(towers, family)
    adapters = tune(tower, TuningConfig(blocks=blocks, lora_rank=2), seed=0)
    assert adapters is not None
    assert learning(tower) == set()
    assert len(adapters.up) == (6 if blocks else 12)  # q, k, v, output and the two layers of the perceptron
    # Not bit for bit: without gradients the attention of SigLIP's pooler takes a faster way.
    torch.testing.assert_close(tower(pixels), plain(pixels), rtol=1e-5, atol=1e-6)
    tower(pixels).pow(2).sum().backward()
    # With B = 0 the gradient reaches B and not yet A.
    assert all(p.grad is not None and p.grad.abs().sum() == 0 for p in adapters.down)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in adapters.up)


def test_an_adapter_follows_its_formula() -> None:
    layer = nn.Linear(3, 2).double()
    adapters = LoraAdapters({"one": layer}, rank=2, alpha=6.0, seed=4).double()
    with torch.no_grad():
        adapters.up[0].copy_(torch.tensor([[0.5, -1.0], [2.0, 0.25]]))
    a, b, w, bias = (t.detach().numpy().copy() for t in (adapters.down[0], adapters.up[0], layer.weight, layer.bias))
    x = np.array([0.3, -0.7, 1.1])
    expected = [
        bias[o] + sum((w[o, i] + 6.0 / 2 * sum(b[o, k] * a[k, i] for k in range(2))) * x[i] for i in range(3))
        for o in range(2)
    ]
    np.testing.assert_allclose(layer(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-12)
    kept = layer.weight.detach().clone()
    with adapters.merged():
        np.testing.assert_allclose(layer.weight.detach().numpy(), w + 3.0 * b @ a, rtol=1e-12)
        np.testing.assert_allclose(layer(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-12)
    assert torch.equal(layer.weight, kept)
    np.testing.assert_allclose(layer(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-12)


def test_weights_are_restored_if_saving_fails() -> None:
    layer = nn.Linear(3, 2)
    adapters = LoraAdapters({"one": layer}, rank=1, alpha=1.0, seed=0)
    with torch.no_grad():
        adapters.up[0].fill_(1.0)
    kept = layer.weight.detach().clone()
    with pytest.raises(OSError, match="full"), adapters.merged():
        raise OSError("the disk is full")
    assert torch.equal(layer.weight, kept)
    assert adapters.active


@pytest.mark.parametrize("lora_rank", [0, 3])
def test_a_run_changes_only_the_trained_weights(
    lora_rank: int, small: Callable[..., TrainingConfig], town: Path, towers: Path, tmp_path: Path
) -> None:
    config = small(
        model={"image": {"tower": str(towers / "dinov2"), "size_px": 32}},
        tuning={"blocks": 1, "lora_rank": lora_rank},
        optimizer={"tower_rate": 1e-3, "lora_rate": 1e-2},
    )
    train(read_manifest(town), read_splits(town / "splits.parquet"), config, tmp_path / "run")
    first = tower_of(towers, "dinov2").state_dict()
    saved = load_file(tmp_path / "run" / "model" / "model.safetensors")
    moved = {name for name, value in first.items() if not torch.equal(saved[f"image_tower.{name}"], value)}
    assert {name for name in saved if name.startswith("image_tower.")} == {f"image_tower.{name}" for name in first}
    if lora_rank:
        assert moved == {
            n for n in first if "layer.1." in n and n.endswith(("proj.weight", "fc1.weight", "fc2.weight"))
        }
        layer = "backbone.encoder.layer.1.mlp.fc1.weight"
        change = saved[f"image_tower.{layer}"] - first[layer]
        assert int(torch.linalg.matrix_rank(change, rtol=1e-3)) <= lora_rank
    else:
        assert moved
        assert all("layer.1." in name or name.startswith("backbone.layernorm") for name in moved)
    load_model(tmp_path / "run")  # a model as any other


def test_towers_that_cannot_be_tuned_are_refused(small: Callable[..., TrainingConfig], towers: Path) -> None:
    with pytest.raises(ConfigError, match=r"tuning\.blocks 3: the image tower has 2 blocks"):
        tune(tower_of(towers, "clip"), TuningConfig(blocks=3), seed=0)
    with pytest.raises(ConfigError, match=r"'builtin' image tower has no sequence of transformer blocks"):
        tune(ImageTower(ImageConfig(tower="builtin:small")), TuningConfig(lora_rank=4), seed=0)
    with pytest.raises(ConfigError, match="freeze_image excludes the image tower from training, but tuning"):
        small(freeze_image=True, tuning={"blocks": 1})
    with pytest.raises(ConfigError, match="must be 0 or more"):
        TuningConfig(blocks=-1)
    with pytest.raises(ConfigError, match="lora_alpha"):
        TuningConfig(lora_alpha=float("nan"))
