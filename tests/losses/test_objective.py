from __future__ import annotations

import pytest
import torch

from swclip.errors import ArtefactError, ConfigError
from swclip.losses import (
    FairnessConfig,
    NeighbourhoodConfig,
    Objective,
    ObjectiveConfig,
    TargetConfig,
    fairness_loss,
    neighbourhood_loss,
    pair_weights,
    pairwise_distance_m,
    soft_targets,
    spatial_contrastive_loss,
)

SCALE = torch.tensor(20.0, dtype=torch.float64).log()
TARGETS = TargetConfig(bandwidths_m=(50.0,), default_accuracy_m=4.0)


def test_the_plain_objective_equals_the_contrastive_loss_to_the_last_bit(make_batch):
    batch = make_batch(24)
    loss, parts = Objective(ObjectiveConfig(TARGETS))(
        batch.image, batch.location, SCALE, batch.positions_deg, batch.accuracy_m
    )
    targets = soft_targets(pairwise_distance_m(batch.positions_deg), TARGETS, batch.accuracy_m)
    assert torch.equal(loss, spatial_contrastive_loss(batch.image, batch.location, SCALE, targets))
    assert set(parts) == {"loss", "contrastive", "target_self"}
    assert parts["target_self"].item() == pytest.approx(targets.diagonal().mean().item())
    assert not any(value.requires_grad for value in parts.values())


def test_alpha_zero_equals_clip(make_batch):
    batch = make_batch(24)
    loss, parts = Objective(ObjectiveConfig(TargetConfig(alpha=0.0)))(
        batch.image, batch.location, SCALE, batch.positions_deg
    )
    logits = SCALE.exp() * batch.image @ batch.location.T
    labels = torch.arange(24)
    cross_entropy = torch.nn.functional.cross_entropy
    assert torch.equal(loss, (cross_entropy(logits, labels) + cross_entropy(logits.T, labels)) / 2)
    assert parts["target_self"].item() == 1.0


@pytest.mark.parametrize("form", ["distribution", "laplacian"])
@pytest.mark.parametrize("gps_noise", [True, False])
def test_the_total_is_the_weighted_sum_of_its_parts(make_batch, form, gps_noise):
    batch = make_batch(24)
    config = ObjectiveConfig(
        TargetConfig(bandwidths_m=(50.0,), default_accuracy_m=4.0, gps_noise=gps_noise),
        NeighbourhoodConfig(form=form, weight=0.4, tau=0.2, bandwidth_m=70.0, kernel="gaussian"),
        FairnessConfig(form="variance", weight=0.6),
    )
    loss, parts = Objective(config)(
        batch.image, batch.location, SCALE, batch.positions_deg, batch.accuracy_m, batch.region_ids
    )
    distance_m = pairwise_distance_m(batch.positions_deg)
    targets = soft_targets(distance_m, config.targets, batch.accuracy_m)
    per_sample = spatial_contrastive_loss(batch.image, batch.location, SCALE, targets, reduction="none")
    noise = {"accuracy_a": batch.accuracy_m, "accuracy_b": batch.accuracy_m, "default_accuracy_m": 4.0}
    weights = pair_weights(distance_m, "gaussian", (70.0,), **(noise if gps_noise else {}))
    expected = {
        "contrastive": per_sample.mean(),
        "neighbourhood": neighbourhood_loss(batch.image, weights, form, 0.2),
        "fairness": fairness_loss(per_sample, batch.region_ids, "variance"),
    }
    for name, value in expected.items():
        torch.testing.assert_close(parts[name], value.detach())
    total = expected["contrastive"] + 0.4 * expected["neighbourhood"] + 0.6 * expected["fairness"]
    torch.testing.assert_close(loss, total)
    gradients = torch.autograd.grad(loss, (batch.image, batch.location), retain_graph=True)
    for actual, exact in zip(gradients, torch.autograd.grad(total, (batch.image, batch.location)), strict=True):
        torch.testing.assert_close(actual, exact)


def test_noise_aware_limits(make_batch):
    """a = 0 is the plain loss to the last bit, with all terms; a large is the loss with flat targets."""
    batch = make_batch(24)
    terms = (NeighbourhoodConfig(weight=0.5, bandwidth_m=60.0), FairnessConfig(weight=0.5))
    aware, plain = (Objective(ObjectiveConfig(TargetConfig(gps_noise=noise), *terms)) for noise in (True, False))
    arguments = (batch.image, batch.location, SCALE, batch.positions_deg)

    def found(objective, accuracy_m):
        return objective(*arguments, torch.full((24,), accuracy_m, dtype=torch.float64), batch.region_ids)

    assert torch.equal(found(aware, 0.0)[0], found(plain, 30.0)[0])
    flat = torch.full((24, 24), 1 / 24, dtype=torch.float64)
    per_sample = spatial_contrastive_loss(batch.image, batch.location, SCALE, flat, reduction="none")
    _, parts = found(aware, 1e9)
    torch.testing.assert_close(parts["contrastive"], per_sample.mean().detach(), rtol=1e-5, atol=0.0)
    shares = [found(aware, accuracy_m)[1]["target_self"].item() for accuracy_m in (0.0, 5.0, 20.0, 80.0, 1e4)]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == pytest.approx(1 / 24, rel=1e-2)


def test_isolated_photographs_are_counted(make_batch):
    batch = make_batch(5)
    positions_deg = batch.positions_deg.clone()
    positions_deg[3] += 1.0
    config = ObjectiveConfig(neighbourhood=NeighbourhoodConfig(weight=1.0, bandwidth_m=100.0))
    _, parts = Objective(config)(batch.image, batch.location, SCALE, positions_deg)
    assert parts["isolated"].item() == 1


def test_group_dro_keeps_its_weights_in_the_state(make_batch):
    batch = make_batch(24)
    config = ObjectiveConfig(TARGETS, fairness=FairnessConfig(form="group-dro", weight=1.0, eta=0.5))
    objective = Objective(config, n_regions=3)
    before = objective(batch.image, batch.location, SCALE, batch.positions_deg, None, batch.region_ids)
    assert "fairness.group_dro.log_q" in objective.state_dict()
    q = objective.fairness.group_dro.q
    assert q.sum().item() == pytest.approx(1.0)
    after = objective(batch.image, batch.location, SCALE, batch.positions_deg, None, batch.region_ids)
    assert after[1]["fairness"] > before[1]["fairness"], "the worst region gains weight"
    torch.testing.assert_close(before[0].detach(), before[1]["contrastive"] + before[1]["fairness"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_low_precision_embeddings_train(make_batch, dtype):
    batch = make_batch(24, 16, dtype=dtype)
    config = ObjectiveConfig(
        TARGETS, NeighbourhoodConfig(weight=0.5, bandwidth_m=50.0), FairnessConfig(form="cvar", weight=0.5)
    )
    arguments = (SCALE.float(), batch.positions_deg, batch.accuracy_m, batch.region_ids)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = Objective(config)(batch.image, batch.location, *arguments)
    loss.backward()
    assert loss.dtype == torch.float32
    assert batch.image.grad.isfinite().all()
    exact, _ = Objective(config)(batch.image.double(), batch.location.double(), *arguments)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-4, atol=1e-5)


def test_missing_input_is_refused(make_batch):
    batch = make_batch(4)
    fair = ObjectiveConfig(fairness=FairnessConfig(weight=1.0))
    with pytest.raises(ConfigError, match="district of each photograph"):
        Objective(fair)(batch.image, batch.location, SCALE, batch.positions_deg)
    with pytest.raises(ConfigError, match="n_regions"):
        Objective(ObjectiveConfig(fairness=FairnessConfig(form="group-dro", weight=1.0)))


@pytest.mark.parametrize("follows", [True, False])
def test_the_neighbourhood_follows_the_bandwidth_scale_at_bandwidth_0(make_batch, follows):
    batch = make_batch(24)
    scale = torch.full((24,), 2.0, dtype=torch.float64)
    term = NeighbourhoodConfig(weight=0.5, bandwidth_m=0.0 if follows else 25.0)
    objective = Objective(ObjectiveConfig(TargetConfig(bandwidths_m=(30.0, 90.0)), term))
    facts = (batch.image, batch.location, SCALE, batch.positions_deg, batch.accuracy_m)
    _, parts = objective(*facts, bandwidth_scale=scale)
    same = NeighbourhoodConfig(weight=0.5, bandwidth_m=60.0 if follows else 25.0)
    oracle = Objective(ObjectiveConfig(TargetConfig(bandwidths_m=(60.0, 180.0)), same))
    loss, expected = oracle(*facts)
    assert torch.equal(parts["neighbourhood"], expected["neighbourhood"])
    assert torch.equal(parts["loss"], loss)


def test_the_state_of_another_version_is_refused():
    config = ObjectiveConfig(fairness=FairnessConfig(form="group-dro", weight=1.0))
    objective = Objective(config, n_regions=3)
    state = objective.state_dict()
    objective.load_state_dict(state)
    older = {"group_dro.log_q": state["fairness.group_dro.log_q"]}
    with pytest.raises(ArtefactError, match=r"another version of swclip.*`checkpoints`"):
        objective.load_state_dict(older)
