from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.errors import ConfigError
from swclip.losses import HierarchyConfig, Objective, ObjectiveConfig, TargetConfig, hierarchy_loss
from swclip.losses.hierarchy import hierarchy_terms

SCALE = torch.tensor(7.0, dtype=torch.float64).log()
# A city, its cells, and cells within them; photograph 4 has no city, photograph 6 no fine cell.
LEVELS = torch.tensor(
    [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3], [-1, 2, 3], [1, 2, 4], [1, 3, -1], [0, 1, 2], [0, 0, 0]]
)


def loop_loss(image, location, scale, level_ids):
    n, levels = len(image), len(level_ids[0])
    dot = [[scale * sum(a * b for a, b in zip(v, u, strict=True)) for u in location] for v in image]
    means = []
    for level in range(levels):
        unit = [ids[level] for ids in level_ids]
        members = [i for i in range(n) if unit[i] >= 0]
        if not members:
            continue
        total = 0.0
        for i in members:
            for logit in (lambda j, i=i: dot[i][j], lambda j, i=i: dot[j][i]):
                everywhere = sum(math.exp(logit(j)) for j in members)
                at_home = sum(math.exp(logit(j)) for j in members if unit[j] == unit[i])
                total += -math.log(at_home / everywhere) / 2
        means.append(total / len(members))
    return sum(means) / len(means)


def test_against_loops(make_batch):
    batch = make_batch(9)
    expected = loop_loss(batch.image.tolist(), batch.location.tolist(), 7.0, LEVELS.tolist())
    assert expected > 0.1
    assert hierarchy_loss(batch.image, batch.location, SCALE, LEVELS).item() == pytest.approx(expected, rel=1e-12)
    apart = hierarchy_loss(batch.image, batch.location, SCALE, LEVELS[:, :1]).item()
    assert apart == pytest.approx(loop_loss(batch.image.tolist(), batch.location.tolist(), 7.0, LEVELS[:, :1].tolist()))


def test_gradients_against_finite_differences(make_batch):
    batch = make_batch(9)
    scale = SCALE.clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v, u, s: hierarchy_loss(v, u, s, LEVELS), (batch.image, batch.location, scale)
    )


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(9)), st.permutations(range(5)), st.permutations(range(3)))
def test_order_names_and_order_of_levels_have_no_effect(order, names, levels):
    generator = torch.Generator().manual_seed(3)
    image, location = F.normalize(torch.randn(2, 9, 4, generator=generator, dtype=torch.float64), dim=2)
    renamed = torch.tensor([[names[i] if i >= 0 else -1 for i in row] for row in LEVELS.tolist()])
    loss = hierarchy_loss(image, location, SCALE, LEVELS)
    moved = hierarchy_loss(image[order], location[order], SCALE, renamed[order][:, levels])
    torch.testing.assert_close(moved, loss)


def test_one_unit_for_all_has_loss_0(make_batch):
    batch = make_batch(9)
    loss = hierarchy_loss(batch.image, batch.location, SCALE, torch.full((9, 2), 4))
    assert loss.item() == pytest.approx(0.0, abs=1e-14)
    loss.backward()
    assert batch.image.grad.abs().max() < 1e-14


def test_a_unit_for_each_equals_clip(make_batch):
    batch = make_batch(9)
    loss = hierarchy_loss(batch.image, batch.location, SCALE, torch.arange(9)[:, None].expand(9, 2))
    logits, labels = SCALE.exp() * batch.image @ batch.location.T, torch.arange(9)
    torch.testing.assert_close(loss, (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2)


def test_a_coarser_level_never_costs_more(make_batch):
    """The mass of a parent is at least that of its child, photograph by photograph."""
    batch = make_batch(9)
    fine = torch.tensor([0, 0, 1, 2, 2, 3, 4, 1, 0])
    coarse = torch.tensor([0, 0, 0, 1, 1, 1, 2, 0, 0])
    by_fine, by_coarse = (hierarchy_terms(batch.image, batch.location, SCALE, ids[:, None]) for ids in (fine, coarse))
    assert (by_coarse <= by_fine + 1e-12).all()
    assert (by_coarse < by_fine - 1e-4).any()


def test_photographs_without_a_unit_are_ignored(make_batch):
    batch = make_batch(9)
    members = [i for i in range(9) if i != 4]
    loss = hierarchy_loss(batch.image, batch.location, SCALE, LEVELS[:, :1])
    alone = hierarchy_loss(batch.image[members], batch.location[members], SCALE, LEVELS[members][:, :1])
    torch.testing.assert_close(loss, alone)
    (gradient,) = torch.autograd.grad(loss, batch.image)
    assert gradient[4].abs().max() == 0.0
    nothing = torch.full((9, 1), -1)
    torch.testing.assert_close(
        hierarchy_loss(batch.image, batch.location, SCALE, torch.cat([LEVELS[:, :1], nothing], dim=1)), loss
    )
    empty = hierarchy_loss(batch.image, batch.location, SCALE, nothing)
    empty.backward()
    assert empty.item() == 0.0


def test_a_confident_model_loses_no_digits():
    """At a scale of 100 in float32 the loss is still what it is in float64."""
    embedding = F.normalize(torch.randn(6, 32, generator=torch.Generator().manual_seed(0)), dim=1)
    ids, scale = torch.tensor([[0], [0], [1], [1], [2], [2]]), torch.tensor(100.0).log()
    exact = hierarchy_loss(embedding.double(), embedding.double(), scale.double(), ids)
    assert hierarchy_loss(embedding, embedding, scale, ids).item() == pytest.approx(exact.item(), abs=2e-6)


def test_the_objective_adds_its_weight(make_batch):
    batch = make_batch(9)
    arguments = (batch.image, batch.location, SCALE, batch.positions_deg)
    targets = TargetConfig(bandwidths_m=(50.0,))
    plain, _ = Objective(ObjectiveConfig(targets))(*arguments)
    config = ObjectiveConfig(targets, hierarchy=HierarchyConfig(weight=0.3))
    loss, parts = Objective(config)(*arguments, level_ids=LEVELS)
    term = hierarchy_loss(batch.image, batch.location, SCALE, LEVELS)
    torch.testing.assert_close(parts["hierarchy"], term.detach())
    torch.testing.assert_close(loss, plain + 0.3 * term)
    unweighted, parts = Objective(ObjectiveConfig(targets))(*arguments, level_ids=LEVELS)
    assert torch.equal(unweighted, plain)
    assert "hierarchy" not in parts
    with pytest.raises(ConfigError, match="level_ids"):
        Objective(config)(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1.0}, "weight -1.0"),
        ({"resolutions": (8, 16)}, "resolution 16"),
        ({"resolutions": (8, 8)}, "twice"),
        ({"levels": ("city", "city")}, "twice"),
        ({"weight": 1.0, "levels": (), "resolutions": ()}, "no level"),
    ],
)
def test_invalid_values_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        HierarchyConfig(**options)
