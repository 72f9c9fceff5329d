"""One step: chunks against the whole batch, rates and groups of weights."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from swclip.losses import NeighbourhoodConfig, Objective, ObjectiveConfig, TargetConfig
from swclip.models.locator_model import LocatorModel
from swclip.training.config import OptimizerConfig, TrainingConfig
from swclip.training.step import Batch, forward_backward, parameter_groups, rate_factor, seeded

OBJECTIVE = ObjectiveConfig(TargetConfig(bandwidths_m=(80.0,)), NeighbourhoodConfig(weight=0.5, bandwidth_m=80.0))


def _model(config: TrainingConfig) -> LocatorModel:
    model = LocatorModel.create(config.model, [[53.8, -1.55]], seed=2)
    return model.double().train()


def _batch(model: LocatorModel, count: int = 7) -> Batch:
    generator = torch.Generator().manual_seed(4)
    places = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 0.003
    return Batch(
        torch.randn(count, model.image_tower.feature_dim, generator=generator, dtype=torch.float64),
        torch.tensor([53.8, -1.55], dtype=torch.float64) + places,
        None,
        torch.full((count,), torch.nan, dtype=torch.float64),
        torch.zeros(count, dtype=torch.int64),
    )


def _gradients(model: LocatorModel) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("chunk", [1, 3, 6])
def test_chunks_give_the_gradient_of_the_whole_batch(chunk: int, small: Callable[..., TrainingConfig]) -> None:
    model = _model(small(model={"image": {"head_dropout": 0.0}}))
    batch, objective = _batch(model), Objective(OBJECTIVE)
    whole = forward_backward(model, objective, batch, encode=model.encode_image_features)
    wanted = _gradients(model)
    model.zero_grad()
    figures = forward_backward(model, objective, batch, encode=model.encode_image_features, chunk=chunk)
    result = _gradients(model)
    assert result.keys() == wanted.keys()
    assert {"image_head.linear.weight", "logit_scale", "location.grid.table.weight"} <= result.keys()
    for name, gradient in wanted.items():
        assert gradient.abs().max() > 0, name
        # The towers are float64 here, the loss is float32 always.
        torch.testing.assert_close(result[name], gradient, rtol=1e-5, atol=1e-8, msg=name)
    assert {n: v.item() for n, v in figures.items()} == pytest.approx({n: v.item() for n, v in whole.items()})


def test_with_dropout_a_chunk_is_embedded_twice_with_the_same_mask(small: Callable[..., TrainingConfig]) -> None:
    model = _model(small(model={"image": {"head_dropout": 0.5}}))
    batch, objective, key = _batch(model), Objective(OBJECTIVE), (9, 1)
    figures = forward_backward(model, objective, batch, encode=model.encode_image_features, chunk=4, key=key)
    result = _gradients(model)
    model.zero_grad()
    # The oracle keeps the graph of both chunks, each with the mask of its own seed.
    rows = []
    for number, part in enumerate([slice(0, 4), slice(4, 7)]):
        with seeded(*key, number):
            rows.append(model.encode_image_features(batch.inputs[part]))
    location = model.position_embeddings(batch.positions_deg)
    image = torch.cat(rows).float()
    loss, _ = objective(image, location.float(), model.logit_scale, batch.positions_deg, batch.accuracy_m)
    loss.backward()
    assert figures["loss"].item() == pytest.approx(loss.item(), rel=1e-9)
    for name, gradient in _gradients(model).items():
        torch.testing.assert_close(result[name], gradient, rtol=1e-6, atol=1e-9, msg=name)
    model.zero_grad()
    other = forward_backward(model, objective, batch, encode=model.encode_image_features, chunk=4, key=(9, 2))
    assert other["loss"].item() != figures["loss"].item(), "another step, another mask"


def test_random_numbers_of_a_step_depend_only_on_its_key(small: Callable[..., TrainingConfig], towers: Path) -> None:
    """Also the dropout of a pretrained text tower: a resumed run must draw it again."""
    config = small(model={"image": {"head_dropout": 0.3}, "location": {"text_tower": str(towers / "bert")}})
    model = LocatorModel.create(config.model, [[53.8, -1.55]], seed=2).train()
    batch = _batch(model)
    batch = dataclasses.replace(batch, inputs=batch.inputs.float())
    losses = []
    for outside in (0, 1):
        torch.manual_seed(outside)
        before = torch.get_rng_state()
        losses.append(
            forward_backward(model, Objective(OBJECTIVE), batch, encode=model.encode_image_features, key=(5, 6))[
                "loss"
            ].item()
        )
        assert torch.equal(torch.get_rng_state(), before), "the global generator is put back"
    assert losses[0] == losses[1]
    assert (
        forward_backward(model, Objective(OBJECTIVE), batch, encode=model.encode_image_features, key=(5, 7))[
            "loss"
        ].item()
        != losses[0]
    )


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=4), st.lists(st.integers(0, 10**9), min_size=1, max_size=4))
def test_different_keys_draw_different_numbers(one: list[int], two: list[int]) -> None:
    def draw(key: list[int]) -> Tensor:
        with seeded(*key):
            return torch.rand(4)

    assert torch.equal(draw(one), draw(two)) == (one == two)


def test_bfloat16_changes_the_gradient_little(small: Callable[..., TrainingConfig]) -> None:
    for location in ({"form": "fourier"}, {"text_tower": "builtin:small"}):
        config = small(model={"image": {"head_dropout": 0.0}, "location": location})
        model = LocatorModel.create(config.model, [[53.8, -1.55]], seed=2).train()
        batch = _batch(model, 4)
        batch = dataclasses.replace(batch, inputs=batch.inputs.float())
        flat = []
        for autocast in (nullcontext(), torch.autocast("cpu", torch.bfloat16)):
            model.zero_grad()
            forward_backward(
                model, Objective(OBJECTIVE), batch, encode=model.encode_image_features, chunk=2, autocast=autocast
            )
            result = _gradients(model)
            assert all(g.dtype == torch.float32 for g in result.values())
            flat.append(torch.cat([g.flatten() for g in result.values()]))
        cosine = torch.cosine_similarity(flat[0], flat[1], dim=0).item()
        assert cosine > 0.98, location
        assert not torch.equal(*flat), "bfloat16 was used"


def test_the_learning_rate_follows_its_schedule() -> None:
    config = OptimizerConfig(warmup=0.1, final=0.2)
    rates = [rate_factor(step, 100, config) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.2 + 0.8 / 2)  # halfway down the cosine
    assert rates[40] == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi / 3)) / 2)
    assert rates[99] == pytest.approx(0.2, abs=1e-3)
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rate_factor(0, 1, OptimizerConfig()) == 1.0


def test_weights_are_grouped_by_rate_and_decay(small: Callable[..., TrainingConfig], towers: Path) -> None:
    rates = {"rate": 1.0, "tower_rate": 2.0, "text_rate": 3.0, "grid_rate": 4.0, "scale_rate": 5.0, "weight_decay": 0.1}

    def grouped(**more: object) -> dict[str, tuple[float, float]]:
        config = small(optimizer=rates, **more)
        model = LocatorModel.create(config.model, [[53.8, -1.55]])
        names = {id(p): name for name, p in model.named_parameters()}
        groups = parameter_groups(model, config)
        result = [names[id(p)] for group in groups for p in group["params"]]
        assert len(result) == len(set(result))
        learning = {name for name, p in model.named_parameters() if p.requires_grad}
        assert set(result) == learning
        return {names[id(p)]: (g["base_rate"], g["weight_decay"]) for g in groups for p in g["params"]}

    pretrained = grouped(
        model={"image": {"tower": str(towers / "dinov2")}, "location": {"text_tower": str(towers / "bert")}}
    )
    assert pretrained["location.text.tower.embeddings.word_embeddings.weight"] == (3.0, 0.1)
    assert pretrained["location.text.tower.embeddings.LayerNorm.bias"] == (3.0, 0.0)
    assert pretrained["location.to_tokens.0.weight"] == (1.0, 0.1)
    assert pretrained["location.grid.table.weight"] == (4.0, 0.0)
    assert pretrained["image_tower.backbone.layernorm.bias"] == (2.0, 0.0)
    assert pretrained["image_head.linear.weight"] == (1.0, 0.1)
    assert pretrained["logit_scale"] == (5.0, 0.0)

    scratch = grouped(model={"location": {"text_tower": "builtin:small", "form": "cells"}})
    assert scratch["image_tower.backbone.patches.0.weight"] == (1.0, 0.1)
    assert scratch["location.text.tower.words.weight"] == (1.0, 0.0)
    assert scratch["location.cells.table.weight"] == (4.0, 0.0)

    frozen = grouped(freeze_image=True)
    assert not any(name.startswith("image_tower.") for name in frozen)
    assert "image_head.linear.weight" in frozen
