"""Fine-tuning of an image tower: the last blocks, or LoRA adapters that are merged into the saved weights."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from swclip.data.manifest import read_manifest
from swclip.data.splits import indices, read_splits
from swclip.errors import ConfigError
from swclip.models.config import ImageConfig
from swclip.models.embed import photograph_vectors, tower_features
from swclip.models.feature_cache import FeatureCache
from swclip.models.image_tower import ImageTower
from swclip.models.locator_model import LocatorModel, load_model
from swclip.models.token_cache import transformer_blocks
from swclip.models.whitening import Whitening
from swclip.training.config import TrainingConfig
from swclip.training.distributed import join_processes
from swclip.training.fine_tuning import LoraAdapters, TuningConfig, token_cache, tune
from swclip.training.inputs import PhotographSource
from swclip.training.loop import run_steps, train, training_inputs
from swclip.training.setup import set_up_training

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


@pytest.mark.parametrize("tokens", ["none", "float32"])
def test_features_of_the_tower_before_tuning_are_whitened(
    tokens: str, small: Callable[..., TrainingConfig], town: Path, towers: Path, tmp_path: Path
) -> None:
    config = small(
        model={"image": {"tower": str(towers / "dinov2"), "size_px": 32}},
        tuning={"blocks": 1, "tokens": tokens},
        optimizer={"tower_rate": 1e-2},
        whitening={"dimensions": 6},
        steps=4,
    )
    manifest, splits = read_manifest(town), read_splits(town / "splits.parquet")
    train(manifest, splits, config, tmp_path / "run", cache=FeatureCache(tmp_path / "cache"))
    model, first = load_model(tmp_path / "run"), tower_of(towers, "dinov2").state_dict()
    assert model.frozen_tower is not None
    for name, value in model.frozen_tower.state_dict().items():
        assert torch.equal(value, first[name]), name
    assert any(not torch.equal(value, first[name]) for name, value in model.image_tower.state_dict().items())
    paths = [manifest.image_paths[row] for row in np.sort(indices(splits, manifest, "train"))]
    frozen = LocatorModel.create(config.model, manifest.positions_deg)
    expected = Whitening.fit(tower_features(frozen, paths), 6)
    assert model.whitening is not None
    np.testing.assert_allclose(model.whitening.mean, expected.mean, atol=1e-5)
    vectors = photograph_vectors(model, paths[:3])
    assert vectors.whitened is not None
    np.testing.assert_array_equal(vectors.whitened, model.whitening(tower_features(frozen, paths[:3])))
    cached = photograph_vectors(model, paths[:3], cache=FeatureCache(tmp_path / "features"))
    np.testing.assert_array_equal(cached.whitened, vectors.whitened)
    np.testing.assert_array_equal(cached.embeddings, vectors.embeddings)


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
    with pytest.raises(ConfigError, match=r"tuning\.after 20: the image tower would never be trained.*are 20 steps"):
        small(tuning={"after": 20})
    with pytest.raises(ConfigError, match=r"tuning\.after 2: .* since freeze_image is true"):
        small(freeze_image=True, tuning={"after": 2})
    with pytest.raises(ConfigError, match="blocks -1 must be 0 or more"):
        TuningConfig(blocks=-1)
    with pytest.raises(ConfigError, match=r"tokens_gb -1\.0 must be above 0"):
        TuningConfig(tokens_gb=-1.0)
    with pytest.raises(ConfigError, match="lora_alpha"):
        TuningConfig(lora_alpha=float("nan"))


def losses(folder: Path) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row["loss"] for row in map(json.loads, lines) if "loss" in row]


@pytest.mark.slow
@pytest.mark.parametrize(("lora_rank", "after", "kinds"), [(0, 0, ["float32", "float16"]), (2, 7, ["float32"])])
def test_stored_tokens_give_the_losses_and_weights_of_the_uncached_run(
    lora_rank: int,
    after: int,
    kinds: list[str],
    small: Callable[..., TrainingConfig],
    town: Path,
    towers: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Photographs kept in memory are in half precision; without those the inputs of both ways are the same.
    monkeypatch.setattr("swclip.training.setup.PhotographSource", partial(PhotographSource, memory_bytes=0))
    cache = FeatureCache(tmp_path / "cache")
    weights, curves = {}, {}
    for kind in ("none", *kinds):
        config = small(
            model={"image": {"tower": str(towers / "dinov2"), "size_px": 32}},
            tuning={"blocks": 1, "lora_rank": lora_rank, "after": after, "tokens": kind},
            optimizer={"tower_rate": 1e-3, "lora_rate": 1e-2},
            batch={"chunk": 5},
            augment=False,
            steps=12,
        )
        out = tmp_path / kind
        train(read_manifest(town), read_splits(town / "splits.parquet"), config, out, cache=cache)
        weights[kind], curves[kind] = load_file(out / "model" / "model.safetensors"), losses(out)
    assert len(set(curves["none"])) == 2
    np.testing.assert_allclose(curves["float32"], curves["none"], rtol=1e-5)
    for name, weight in weights["none"].items():
        # AdamW divides by the gradient's size: where that is rounding error, so is the step.
        close = torch.isclose(weights["float32"][name], weight, rtol=1e-3, atol=1e-4).float().mean()
        assert close > 0.99, name
    if "float16" in kinds:
        np.testing.assert_allclose(curves["float16"], curves["none"], rtol=2e-3)
    assert len(list((tmp_path / "cache" / "tokens").iterdir())) == len(kinds)


@pytest.mark.parametrize("kind", ["float16", "none"])
def test_the_tower_is_frozen_until_the_heads_are_trained(
    kind: str, small: Callable[..., TrainingConfig], town: Path, towers: Path, tmp_path: Path
) -> None:
    manifest, splits = read_manifest(town), read_splits(town / "splits.parquet")
    config = small(
        model={"image": {"tower": str(towers / "dinov2"), "size_px": 32}},
        tuning={"blocks": 1, "after": 6, "tokens": kind},
        optimizer={"tower_rate": 1e-2},
        augment=kind == "none",
        steps=8,
    )
    cache = FeatureCache(tmp_path / "cache")
    with join_processes(torch.device("cpu")) as process:
        rows = indices(splits, manifest, "train")
        setup = set_up_training(manifest, splits, rows, config, tmp_path / "run", cache, process, lambda *_: None)
    shapes, rates = [], []
    block = transformer_blocks(setup.model.image_tower)[-1].mlp.fc1.weight
    first = block.detach().clone()
    group = next(g for g in setup.optimizer.param_groups if any(p is block for p in g["params"]))
    step = setup.optimizer.step

    def watched() -> None:
        rates.append(group["lr"])
        step()
        assert torch.equal(block, first) == (len(rates) <= 6)

    setup.optimizer.step = watched  # type: ignore[method-assign]
    for _, _, inputs, _ in training_inputs(setup):
        shapes.append(inputs.ndim)
    assert shapes == [2] * 6 + [3 if kind == "float16" else 4] * 2
    run_steps(setup, lambda *_: None)
    assert rates[:6] == [0.0] * 6
    assert rates[6] == pytest.approx(1e-2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "augmentation changes the pixels each time"),
        ({"tuning": {"tokens_gb": 1e-6}}, "exceed the limit of 1e-06 GB"),
        ({"tuning": {"tokens": "none"}}, None),
        ({"tuning": {"blocks": 2}}, None),
    ],
)
def test_where_tokens_are_not_stored_the_log_says_why(
    values: dict[str, Any],
    message: str | None,
    small: Callable[..., TrainingConfig],
    town: Path,
    towers: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    values = {**values, "tuning": {"blocks": 1, **values.get("tuning", {})}}
    values.setdefault("augment", message is not None and "augmentation" in message)
    config = small(model={"image": {"tower": str(towers / "dinov2"), "size_px": 32}}, steps=1, **values)
    manifest = read_manifest(town)
    model = LocatorModel.create(config.model, manifest.positions_deg)
    result = token_cache(config.tuning, config.augment, model, FeatureCache(tmp_path), manifest.image_paths)
    assert (message or "") in caplog.text
    assert result is None
    assert not list(tmp_path.rglob("*.safetensors"))
