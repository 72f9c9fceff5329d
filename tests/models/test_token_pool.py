"""Learnt pooling of tokens: from the formulas, and on features that were kept."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from swclip.errors import ConfigError
from swclip.models.config import ImageConfig, LocationConfig, ModelConfig
from swclip.models.image_tower import GemPool, ImageTower
from swclip.models.locator_model import LocatorModel, load_model
from swclip.models.token_pool import AttentionPool, SignedGem, TokenPool


def _tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_signed_means_equal_a_loop() -> None:
    tokens = _tokens(3, 7, 4).double()
    found = SignedGem(2.5).double()(tokens)
    for b in range(3):
        for c in range(4):
            mean = sum(math.copysign(abs(x) ** 2.5, x) for x in tokens[b, :, c].tolist()) / 7
            assert found[b, c].item() == pytest.approx(math.copysign(abs(mean) ** 0.4, mean), rel=1e-6)


def test_signed_means_have_closed_forms() -> None:
    tokens = _tokens(2, 9, 5)
    torch.testing.assert_close(SignedGem(1.0)(tokens), tokens.mean(1))
    torch.testing.assert_close(SignedGem(3.0)(tokens.abs()), GemPool(3.0)(tokens.abs()))
    strongest = tokens.gather(1, tokens.abs().argmax(1, keepdim=True))[:, 0]
    torch.testing.assert_close(SignedGem(60.0).double()(tokens.double()), strongest.double(), rtol=0.06, atol=1e-6)
    torch.testing.assert_close(SignedGem()(-tokens), -SignedGem()(tokens))


def test_the_power_learns_and_zero_has_a_gradient() -> None:
    pool = SignedGem()
    tokens = torch.zeros(1, 2, 3).requires_grad_()
    (pool(tokens) + pool(_tokens(1, 2, 3))).sum().backward()
    assert pool.log_power.grad is not None
    assert pool.log_power.grad != 0
    assert tokens.grad is not None
    assert torch.isfinite(tokens.grad).all()
    double = SignedGem(2.0).double()
    assert torch.autograd.gradcheck(double, (_tokens(2, 3, 2).double().requires_grad_(),))


def test_attention_equals_a_loop() -> None:
    pool, tokens = AttentionPool(5, 4, 3).double(), _tokens(2, 4, 5).double()
    pool.requires_grad_(False)
    pool.bias.copy_(_tokens(3, 4, seed=1))
    found = pool(tokens)
    assert found.shape == (2, pool.output_dim)
    for b in range(2):
        z = [F.layer_norm(tokens[b, n], (5,)) for n in range(4)]
        out = []
        for q in range(3):
            weight = [
                math.exp(float(pool.query[q] @ (pool.key.weight @ z[n])) / math.sqrt(64) + float(pool.bias[q, n]))
                for n in range(4)
            ]
            values = [pool.value.weight @ z[n] + pool.value.bias for n in range(4)]
            out.append(sum(w * v for w, v in zip(weight, values, strict=True)) / sum(weight))
        torch.testing.assert_close(found[b], torch.cat(out), rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=20)
@given(order=st.permutations(range(6)))
def test_the_order_of_the_cells_does_not_matter_without_their_bias(order: list[int]) -> None:
    tokens = _tokens(2, 6, 5)
    torch.manual_seed(0)
    for pool in (SignedGem(), AttentionPool(5, 6, 2)):
        torch.testing.assert_close(pool(tokens[:, order]), pool(tokens), rtol=1e-4, atol=1e-5)


def test_a_pool_reads_the_tokens_behind_what_is_pooled() -> None:
    pooled, tokens = _tokens(2, 7), _tokens(2, 4, 5, seed=1)
    whole = TokenPool("gem", 7, 5, 4, 1)
    found = whole(torch.cat([pooled, tokens.flatten(1)], dim=1))
    torch.testing.assert_close(found, torch.cat([pooled, SignedGem()(tokens)], dim=1))
    assert found.shape[1] == whole.output_dim


def test_a_tower_gives_the_cells_of_its_blocks(towers: Path) -> None:
    pixels = _tokens(2, 3, 32, 32)
    config = ImageConfig(str(towers / "dinov2"), blocks=2)
    plain = ImageTower(config).eval()
    tower = ImageTower(dataclasses.replace(config, tokens="gem", token_grid=2)).eval()
    with torch.no_grad():
        found = tower(pixels)
        assert torch.equal(found[:, : tower.pooled_dim], plain(pixels))
        states = plain.backbone(pixel_values=pixels, output_hidden_states=True).hidden_states[-2:]
        normed = [plain.backbone.layernorm(state)[:, 1:].reshape(2, 4, 4, 32) for state in states]
    cells = found[:, tower.pooled_dim :].reshape(2, 2, 2, 64)
    for row in range(2):
        for column in range(2):
            for block, state in enumerate(normed):
                mean = state[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].mean(dim=(1, 2))
                torch.testing.assert_close(cells[:, row, column, 32 * block : 32 * block + 32], mean)
    assert (plain.token_grid, plain.feature_dim) == (0, plain.pooled_dim)


def _model(tokens: Any, **image: Any) -> LocatorModel:
    location = LocationConfig(text_tower="none", grid_levels=2, grid_log2_size=6, hidden_width=8)
    config = ModelConfig(ImageConfig(size_px=32, head_width=8, tokens=tokens, **image), location, embedding_dim=6)
    return LocatorModel.create(config, np.array([[51.5, -0.1]]), 0).eval()


@pytest.mark.parametrize("tokens", ["gem", "attention"])
def test_a_model_with_tokens_survives_its_folder_and_its_features(tokens: str, tmp_path: Path) -> None:
    model, pixels = _model(tokens, token_grid=2), _tokens(3, 3, 32, 32)
    assert model.feature_dtype == "float16"
    model.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert again.fingerprint == model.fingerprint
    with torch.no_grad():
        whole = model.encode_pixels(pixels)
        torch.testing.assert_close(again.encode_pixels(pixels), whole)
        kept = model.image_features(pixels).half().float()
        torch.testing.assert_close(model.encode_image_features(kept), whole, rtol=0.0, atol=5e-3)
        torch.testing.assert_close(model.pooled(kept), kept[:, : model.image_tower.pooled_dim])


def test_features_with_and_without_tokens_are_not_confused() -> None:
    prints = {
        _model("none").feature_fingerprint,
        _model("gem", token_grid=2).feature_fingerprint,
        _model("gem", token_grid=3).feature_fingerprint,
    }
    assert len(prints) == 3
    # What is learnt of them is no matter of the features.
    assert _model("attention", token_grid=3).feature_fingerprint in prints


def test_a_model_without_tokens_is_what_it_was() -> None:
    """Neither its identity nor its weights depend on settings that it does not use."""
    assert _model("none").fingerprint == _model("none", token_grid=7, token_queries=3).fingerprint
    assert not [name for name in _model("none").state_dict() if "token" in name]
    assert _model("none").feature_dtype == "float32"


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError, match="token_grid 0"):
        ImageConfig(tokens="gem", token_grid=0)
    with pytest.raises(ConfigError, match="token_queries 0"):
        ImageConfig(tokens="attention", token_queries=0)
