"""Tokens between two blocks of a tower: both parts equal the whole, and what is stored is bounded and computed once."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from swclip.errors import ConfigError, InputError
from swclip.imaging.preprocess import Preprocess
from swclip.models.embed import embed_photographs, tower_features
from swclip.models.feature_cache import FeatureCache
from swclip.models.image_tower import ImageTower
from swclip.models.location_text import LocationEncoder
from swclip.models.locator_model import LocatorModel
from swclip.models.token_cache import SplitTower, TokenCache, TokenSource, transformer_blocks

Make = Callable[[int], list[Path]]
PICTURE = (3, 32, 32)
SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 2}
FAMILIES = {
    "Dinov2Model": {"model_type": "dinov2", "mlp_ratio": 2},
    "DINOv3ViTModel": {"model_type": "dinov3_vit", "num_register_tokens": 2},
    "ViTModel": {"model_type": "vit"},
    "CLIPVisionModel": {"model_type": "clip_vision_model"},
    "SiglipVisionModel": {"model_type": "siglip_vision_model"},
}


@pytest.fixture(scope="module")
def deep(make_model: Callable[..., LocatorModel]) -> Callable[..., LocatorModel]:
    """A model with an image tower of four blocks and random weights."""

    def make(family: str = "Dinov2Model", blocks: int = 1, seed: int = 0) -> LocatorModel:
        config = make_model().config
        image = dataclasses.replace(config.image, tower="deep", blocks=blocks)
        architecture = {**SMALL, "image_size": 32, "patch_size": 8, **FAMILIES[family], "swclip_class": family}
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            tower = ImageTower(image, architecture)
            for parameter in tower.parameters():  # some families start with zeros, which hide mistakes
                nn.init.normal_(parameter, std=0.2)
        location = LocationEncoder(config.location, config.embedding_dim, [])
        preprocess = Preprocess(size_px=32, resize="squash")
        return LocatorModel(dataclasses.replace(config, image=image), preprocess, tower, location).eval()

    return make


def pixels(count: int) -> Tensor:
    return torch.randn(count, *PICTURE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("upper", "pooled"), [(1, 1), (3, 1), (2, 2), (1, 3)])
@pytest.mark.parametrize("family", FAMILIES)
def test_both_parts_equal_the_whole_tower(
    family: str, upper: int, pooled: int, deep: Callable[..., LocatorModel]
) -> None:
    if pooled > 1 and family == "SiglipVisionModel":
        pytest.skip("its pooler uses only the last block")
    model = deep(family, pooled)
    split = SplitTower(model, upper, PICTURE)
    assert split.lower == 4 - max(upper, pooled)
    tokens = split.tokens(pixels(5))
    assert tokens.shape == (5, *split.shape)
    whole = model.image_tower(pixels(5))
    torch.testing.assert_close(split.features(tokens), whole, rtol=1e-5, atol=1e-6)
    other = split.features(split.tokens(pixels(5).flip(0)))
    assert (other - whole).abs().max() > 1e-3, "the tokens matter, not the blank picture"
    torch.testing.assert_close(model.image_tower(pixels(5)), whole, rtol=0, atol=0)  # the tower is as before


def test_the_upper_part_has_the_gradients_of_the_whole(deep: Callable[..., LocatorModel]) -> None:
    gradients = []
    for stored in (False, True):
        model = deep()
        split = SplitTower(model, 2, PICTURE)
        for parameter in model.image_tower.parameters():
            parameter.requires_grad_(False)
        for block in transformer_blocks(model.image_tower)[2:]:
            block.requires_grad_(True)
        features = split.features(split.tokens(pixels(4))) if stored else model.image_tower(pixels(4))
        features.pow(2).sum().backward()
        gradients.append({n: p.grad for n, p in model.image_tower.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert gradients[0]
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-5, atol=1e-5, msg=name)


def test_only_what_tokens_depend_on_changes_their_identity(deep: Callable[..., LocatorModel]) -> None:
    def identity(model: LocatorModel, upper: int = 2, picture: tuple[int, ...] = PICTURE) -> str:
        return SplitTower(model, upper, picture).feature_fingerprint

    first = identity(deep())
    model = deep()
    with torch.no_grad():
        for block in transformer_blocks(model.image_tower)[2:]:
            for parameter in block.parameters():
                parameter += 1.0
    assert identity(model) == first, "trained blocks"
    assert identity(model, 1) != first
    assert identity(model, 2, (3, 40, 32)) != first
    assert identity(deep(seed=1)) != first
    with torch.no_grad():
        transformer_blocks(model.image_tower)[1].mlp.fc1.bias[0] += 1.0
    assert identity(model) != first, "a frozen block"
    model = deep()
    model.preprocess = dataclasses.replace(model.preprocess, mean=(0.0, 0.0, 0.0))
    assert identity(model) != first


def counted(model: LocatorModel, passes: list[int]) -> LocatorModel:
    """Count the pictures that pass the first block."""
    norm = transformer_blocks(model.image_tower)[0].norm1
    norm.register_forward_pre_hook(lambda _, inputs: passes.append(len(inputs[0])))
    return model


def test_stored_tokens_give_the_features_of_the_tower_and_are_computed_once(
    deep: Callable[..., LocatorModel], photographs: Make, tmp_path: Path
) -> None:
    paths, passes = photographs(11), list[int]()
    model = counted(deep(), passes)
    cache = TokenCache.of(FeatureCache(tmp_path), model, 2, "float32", paths[0])
    expected = tower_features(model, paths)
    cache.rows(model, paths[:4])  # as an interrupted run leaves it
    passes.clear()
    np.testing.assert_array_equal(cache.features(model, paths), expected)
    assert sum(passes) == 7 + 1, "seven were missing; one blank picture shows the shape"
    passes.clear()
    moved = [path.rename(path.with_name(f"moved-{path.name}")) for path in paths]
    np.testing.assert_array_equal(embed_photographs(model, moved, cache=cache), embed_photographs(model, moved))
    assert sum(passes) == 1 + 11, "by content; the other eleven are those of the comparison"
    rows = cache.rows(model, moved)
    tokens = TokenSource(rows, cache.split(model).shape).rows(np.array([3, 0, 3]))
    with torch.no_grad():
        features = cache.split(model).features(tokens)
    np.testing.assert_allclose(features.numpy(), expected[[3, 0, 3]], rtol=1e-5, atol=1e-5)
    moved[2].write_text("no picture")
    with pytest.raises(InputError, match="1 photograph"):
        cache.rows(model, moved)
    failures: list[tuple[Path, str]] = []
    features = cache.features(model, moved, failures=failures)
    assert [path for path, _ in failures] == [moved[2]]
    assert np.isnan(features[2]).all()
    np.testing.assert_array_equal(np.delete(features, 2, 0), np.delete(expected, 2, 0))
    assert np.isnan(cache.features(model, [moved[2]], failures=[])).all()


def test_half_precision_halves_the_size_and_changes_features_little(
    deep: Callable[..., LocatorModel], photographs: Make, tmp_path: Path
) -> None:
    paths, model, size = photographs(6), deep(), {}
    features = {}
    for kind in ("float32", "float16"):
        cache = TokenCache.of(FeatureCache(tmp_path / kind), model, 2, kind, paths[0])
        features[kind] = cache.features(model, paths)
        size[kind] = sum(file.stat().st_size for file in (tmp_path / kind / "tokens").rglob("*.safetensors"))
    assert 0.5 <= size["float16"] / size["float32"] < 0.6
    difference = np.linalg.norm(features["float16"] - features["float32"], axis=1)
    assert 0.0 < (difference / np.linalg.norm(features["float32"], axis=1)).max() < 2e-3


def test_values_beyond_half_precision_are_refused(
    deep: Callable[..., LocatorModel], photographs: Make, tmp_path: Path
) -> None:
    paths, model = photographs(2), deep()
    with torch.no_grad():
        transformer_blocks(model.image_tower)[1].mlp.fc2.bias[:] = 1e6
    cache = TokenCache.of(FeatureCache(tmp_path), model, 2, "float16", paths[0])
    with pytest.raises(ConfigError, match=r"which float16 does not reach.*tuning.tokens=float32"):
        cache.rows(model, paths)


def test_the_disk_is_bounded_and_the_oldest_tokens_give_way(
    deep: Callable[..., LocatorModel], photographs: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths, folders = photographs(5), []
    caplog.set_level(logging.INFO)
    for number in range(3):
        model = deep(seed=number)
        cache = TokenCache.of(FeatureCache(tmp_path), model, 2, "float16", paths[0])
        each = 17 * 32 * 2
        limit_gb = 2.5 * 5 * each / 1e9  # for two towers, with the shards' headers and keys
        assert cache.reserve(model, paths, 0.9 * 5 * each / 1e9) is not None
        assert cache.reserve(model, paths, limit_gb) is None
        cache.rows(model, paths)
        folders.append(cache.cache.folder_of(cache.split(model)))
        os.utime(folders[-1], (time.time() - 100 + number,) * 2)
    assert [folder.exists() for folder in folders] == [False, True, True]
    assert f"5 photographs x {each / 1e3:.0f} kB" in caplog.text
    assert "tokens of an earlier run are removed" in caplog.text
    caplog.clear()
    assert cache.reserve(model, paths, limit_gb) is None
    assert "5 photographs are there already" in caplog.text
    assert "removed" not in caplog.text
