"""The term of further modalities, where some photographs lack them."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.errors import ConfigError
from swclip.losses import (
    ModalitiesConfig,
    Modality,
    Objective,
    ObjectiveConfig,
    TargetConfig,
    pairwise_distance_m,
    soft_targets,
)
from swclip.losses.divergences import directional_divergences
from swclip.losses.modalities import FUSED, masked_divergences, modalities_term

SCALE = torch.tensor(1.4, dtype=torch.float64)
TARGETS = TargetConfig(alpha=0.8, bandwidths_m=(60.0,))


def oracle(modality, location, targets, present):
    """The formula, number by number."""
    n, s = len(modality), math.exp(SCALE.item())
    score = [[s * sum(a * b for a, b in zip(v, u, strict=True)) for u in location.tolist()] for v in modality.tolist()]
    available = [i for i in range(n) if present[i]]
    by_modality, by_location = [0.0] * n, [0.0] * n
    for i in available:
        total = sum(math.exp(score[i][k]) for k in range(n))
        for k in range(n):
            t = targets[i][k].item()
            by_modality[i] += t * math.log(t / (math.exp(score[i][k]) / total)) if t > 0 else 0.0
    for j in available:
        total, mass = sum(math.exp(score[k][j]) for k in available), sum(targets[j][k].item() for k in available)
        for k in available:
            t = targets[j][k].item() / mass
            by_location[j] += t * math.log(t / (math.exp(score[k][j]) / total)) if t > 0 else 0.0
    return by_modality, by_location


@settings(deadline=None, max_examples=25)
@given(st.lists(st.booleans(), min_size=1, max_size=7), st.integers(0, 10**6), st.sampled_from([0.0, 0.6, 1.0]))
def test_the_loss_follows_its_formula_for_any_missing_modalities(present, seed, alpha):
    generator, n = torch.Generator().manual_seed(seed), len(present)
    modality, location = F.normalize(torch.randn(2, n, 4, generator=generator, dtype=torch.float64), dim=2)
    positions_deg = torch.rand(n, 2, generator=generator, dtype=torch.float64) * 0.001
    targets = soft_targets(pairwise_distance_m(positions_deg), TargetConfig(alpha=alpha, kernel="bisquare"))
    result = masked_divergences(modality, location, SCALE, targets, torch.tensor(present))
    for actual, expected in zip(result, oracle(modality, location, targets, present), strict=True):
        assert actual.tolist() == pytest.approx(expected, abs=1e-12)


def test_with_all_present_it_equals_the_photographs_loss(make_batch):
    batch = make_batch(11)
    targets = soft_targets(pairwise_distance_m(batch.positions_deg), TARGETS)
    result = masked_divergences(batch.image, batch.location, SCALE, targets, torch.ones(11, dtype=torch.bool))
    for actual, expected in zip(
        result, directional_divergences(batch.image, batch.location, SCALE, targets), strict=True
    ):
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("anything", [0.0, 7.0, math.nan])
def test_values_in_the_rows_of_missing_modalities_have_no_effect(make_batch, anything):
    batch, present = make_batch(6), torch.tensor([True, False, True, True, False, True])
    targets = soft_targets(pairwise_distance_m(batch.positions_deg), TARGETS)
    modality = batch.image.detach().clone()
    wanted = sum(x.sum() for x in masked_divergences(modality, batch.location, SCALE, targets, present))
    modality[~present] = anything
    modality.requires_grad_()
    result = sum(x.sum() for x in masked_divergences(modality, batch.location, SCALE, targets, present))
    torch.testing.assert_close(result, wanted, rtol=1e-12, atol=0)
    (gradient,) = torch.autograd.grad(result, modality)
    assert (gradient[~present] == 0).all()
    assert (gradient[present].abs().sum(dim=1) > 0).all()


def test_locations_without_the_modality_remain_candidates(make_batch):
    batch, present = make_batch(5), torch.tensor([True, True, False, True, True])
    targets = soft_targets(pairwise_distance_m(batch.positions_deg), TARGETS)
    by_modality, by_location = masked_divergences(batch.image, batch.location, SCALE, targets, present)
    (through_modalities,) = torch.autograd.grad(by_modality.sum(), batch.location, retain_graph=True)
    (through_locations,) = torch.autograd.grad(by_location.sum(), batch.location)
    assert through_modalities[2].abs().max() > 0
    assert (through_locations[2] == 0).all()


def test_gradients(make_batch):
    batch, present = make_batch(5, 3), torch.tensor([True, False, True, True, False])
    targets = soft_targets(pairwise_distance_m(batch.positions_deg), TARGETS)
    scale = SCALE.clone().requires_grad_()

    def loss(modality, location, s):
        return sum(x.sum() for x in masked_divergences(modality, location, s, targets, present))

    assert torch.autograd.gradcheck(loss, (batch.image, batch.location, scale))


def _modalities(batch, caption, tile):
    generator = torch.Generator().manual_seed(3)
    n, d = batch.image.shape
    one, two, fused = F.normalize(torch.randn(3, n, d, generator=generator, dtype=torch.float64), dim=2)
    present = torch.ones(n, dtype=torch.bool)
    modalities = [Modality("caption", one, torch.tensor(caption)), Modality("map", two, torch.tensor(tile))]
    return [*modalities, Modality(FUSED, fused, present)]


def test_the_term_is_the_mean_of_the_modalities_and_the_fused_one(make_batch):
    batch = make_batch(4)
    targets = soft_targets(pairwise_distance_m(batch.positions_deg), TARGETS)
    modalities = _modalities(batch, [True, False, True, True], [False, False, False, True])
    term, parts = modalities_term(modalities, batch.location, SCALE, targets)
    means = []
    for modality in modalities:
        by_modality, by_location = oracle(modality.embedding, batch.location, targets, modality.present)
        means.append((sum(by_modality) + sum(by_location)) / (2 * int(modality.present.sum())))
    assert term.item() == pytest.approx((means[0] + means[1]) / 2 + means[2])
    assert {name: value.item() for name, value in parts.items()} == pytest.approx(
        {"view_caption": means[0], "view_map": means[1], "view_fused": means[2], "with_caption": 0.75, "with_map": 0.25}
    )


def test_a_modality_that_no_photograph_has_is_ignored(make_batch):
    batch = make_batch(4)
    targets = soft_targets(pairwise_distance_m(batch.positions_deg), TARGETS)
    modalities = _modalities(batch, [False] * 4, [True] * 4)
    modalities[0].embedding.fill_(0.0).requires_grad_()
    term, parts = modalities_term(modalities, batch.location, SCALE, targets)
    rest, _ = modalities_term(modalities[1:], batch.location, SCALE, targets)
    assert term.item() == pytest.approx(rest.item(), rel=1e-14)
    assert parts["view_caption"].item() == parts["with_caption"].item() == 0.0
    (gradient,) = torch.autograd.grad(term, modalities[0].embedding)
    assert (gradient == 0).all()
    alone, _ = modalities_term([_modalities(batch, [False] * 4, [False] * 4)[0]], batch.location, SCALE, targets)
    assert alone.item() == 0.0


@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_the_objective_adds_the_term_and_is_unchanged_without_modalities(make_batch, weight):
    batch = make_batch(8)
    modalities = _modalities(batch, [True] * 5 + [False] * 3, [False, True] * 4)
    facts = (batch.positions_deg, batch.accuracy_m)
    plain, named = Objective(ObjectiveConfig(TARGETS))(batch.image, batch.location, SCALE, *facts)
    objective = Objective(ObjectiveConfig(TARGETS, views=ModalitiesConfig(weight=weight)))
    same, same_named = objective(batch.image, batch.location, SCALE, *facts)
    assert torch.equal(same, plain)
    assert same_named.keys() == named.keys()
    loss, parts = objective(batch.image, batch.location, SCALE, *facts, modalities=modalities)
    targets = soft_targets(pairwise_distance_m(batch.positions_deg), TARGETS, batch.accuracy_m)
    term, _ = modalities_term(modalities, batch.location, SCALE, targets)
    assert loss.item() == pytest.approx(plain.item() + weight * term.item())
    assert parts["loss"].item() == loss.item()
    assert torch.equal(parts["contrastive"], named["contrastive"])


def test_invalid_values_are_refused():
    for values in ({"weight": -1.0}, {"weight": math.inf}, {"dropout": 1.0}, {"dropout": -0.1}):
        with pytest.raises(ConfigError, match=rf"views: {next(iter(values))}"):
            ModalitiesConfig(**values)
