"""The public modules: their formulas, CLIP to the last bit, and the values and gradients of the training."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swclip.errors import ConfigError, InputError
from swclip.losses import (
    FairnessConfig,
    NeighbourhoodConfig,
    NeighbourhoodConsistencyLoss,
    Objective,
    ObjectiveConfig,
    RegionalFairnessLoss,
    SpatialContrastiveLoss,
    SWCLIPLoss,
    TargetConfig,
)

LOG_SCALE = torch.tensor(20.0, dtype=torch.float64).log()


def gradients(loss, batch):
    return torch.autograd.grad(loss, (batch.image, batch.location), retain_graph=True)


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def clip_loss(image, location, logit_scale):
    """CLIP's loss, as its paper has it."""
    logits = logit_scale.exp() * image @ location.T
    labels = torch.arange(len(logits))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("gather", [True, False])
def test_alpha_0_equals_clip_to_the_last_bit(make_batch, seed, normalize, gather):
    batch = make_batch(37, 12, seed=seed)
    image, location = batch.image, batch.location
    if normalize:
        image, location = 3.0 * image, 0.2 * location
    log_scale = LOG_SCALE.clone().requires_grad_()
    loss_fn = SpatialContrastiveLoss(alpha=0.0, normalize=normalize, gather=gather)
    loss = loss_fn(image, location, batch.positions_deg, logit_scale=log_scale)
    unit = (F.normalize(x, dim=1) if normalize else x for x in (image, location))
    expected = clip_loss(*unit, log_scale)
    assert torch.equal(loss, expected)
    weights = (batch.image, batch.location, log_scale)
    assert equal(torch.autograd.grad(loss, weights, retain_graph=True), torch.autograd.grad(expected, weights))


def test_the_loss_follows_its_formula(make_batch):
    batch = make_batch(7)
    positions, accuracies = batch.positions_deg.tolist(), batch.accuracy_m.nan_to_num(4.0).tolist()

    def distance_m(i, j):
        (lat1, lon1), (lat2, lon2) = (map(math.radians, positions[k]) for k in (i, j))
        a = math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
        return 2 * 6_371_008.8 * math.asin(math.sqrt(a))

    def kernel(i, j):
        total = 0.0
        for share, bandwidth_m in ((0.75, 40.0), (0.25, 200.0)):
            h = math.sqrt(bandwidth_m**2 + accuracies[i] ** 2 + accuracies[j] ** 2)
            total += share * math.exp(-0.5 * (distance_m(i, j) / h) ** 2)
        return total

    score = (20.0 * batch.image @ batch.location.T).tolist()
    total = 0.0
    for i in range(7):
        mass = sum(kernel(i, k) for k in range(7))
        row = sum(math.exp(score[i][k]) for k in range(7))
        column = sum(math.exp(score[k][i]) for k in range(7))
        for j in range(7):
            t = 0.2 * (i == j) + 0.8 * kernel(i, j) / mass
            total += t * math.log(t * row / math.exp(score[i][j])) + t * math.log(t * column / math.exp(score[j][i]))
    loss_fn = SpatialContrastiveLoss((40.0, 200.0), "gaussian", 0.8, shares=(3.0, 1.0), default_accuracy_m=4.0)
    loss = loss_fn(
        5.0 * batch.image, batch.location, positions, accuracy_m=batch.accuracy_m.numpy(), logit_scale=LOG_SCALE
    )
    assert loss.item() == pytest.approx(total / 14, rel=1e-11)


@pytest.mark.parametrize("fairness", ["variance", "cvar", "group-dro"])
@pytest.mark.parametrize("form", ["distribution", "laplacian"])
def test_training_and_the_modules_have_equal_values_and_gradients(make_batch, form, fairness):
    batch = make_batch(29, 8)
    targets = TargetConfig(0.9, "bisquare", (60.0, 300.0), default_accuracy_m=3.0)
    config = ObjectiveConfig(
        targets,
        NeighbourhoodConfig(form, 0.4, bandwidth_m=80.0, kernel="gaussian"),
        FairnessConfig(fairness, 0.6, eta=0.5),
    )
    objective = Objective(config, n_regions=3)
    facts = (batch.positions_deg, batch.accuracy_m, batch.region_ids)
    total, parts = objective(batch.image, batch.location, LOG_SCALE, *facts)

    modules = {"normalize": False, "gather": True}
    contrastive = SpatialContrastiveLoss((60.0, 300.0), "bisquare", 0.9, default_accuracy_m=3.0, **modules)
    near = NeighbourhoodConsistencyLoss(80.0, "gaussian", form=form, default_accuracy_m=3.0, **modules)
    fair = RegionalFairnessLoss(fairness, n_regions=3, eta=0.5)
    by_sample = SpatialContrastiveLoss(
        (60.0, 300.0), "bisquare", 0.9, default_accuracy_m=3.0, reduction="none", **modules
    )
    facts = {"accuracy_m": batch.accuracy_m, "logit_scale": LOG_SCALE}
    rows = (batch.image, batch.location, batch.positions_deg)
    losses = {
        "contrastive": contrastive(*rows, **facts),
        "neighbourhood": near(batch.image, batch.positions_deg, accuracy_m=batch.accuracy_m),
        "fairness": fair(by_sample(*rows, **facts), batch.region_ids),
    }
    for name, loss in losses.items():
        assert torch.equal(loss.detach(), parts[name]), name
    apart = losses["contrastive"] + 0.4 * losses["neighbourhood"] + 0.6 * losses["fairness"]
    assert torch.equal(apart, total)
    fair = RegionalFairnessLoss(fairness, n_regions=3, eta=0.5)
    together = SWCLIPLoss(contrastive, near, fair, lambda_nc=0.4, lambda_fair=0.6)
    loss = together(*rows, batch.region_ids, **facts)
    assert torch.equal(loss, total)
    assert equal(gradients(loss, batch), gradients(total, batch))
    for actual, expected in zip(gradients(apart, batch), gradients(total, batch), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-15)


def test_training_uses_the_modules():
    config = ObjectiveConfig(fairness=FairnessConfig("group-dro", 1.0))
    kinds = {type(module) for module in Objective(config, n_regions=2).children()}
    assert {SpatialContrastiveLoss, NeighbourhoodConsistencyLoss, RegionalFairnessLoss} == kinds
    assert not list(Objective(config, n_regions=2).parameters())


def test_positions_are_arrays_or_tensors(make_batch):
    batch = make_batch(9)
    loss_fn = SpatialContrastiveLoss(40.0)
    losses = [loss_fn(batch.image, batch.location, p) for p in (batch.positions_deg, batch.positions_deg.numpy())]
    assert torch.equal(*losses)


def test_without_reduction_the_mean_of_the_values_is_the_loss(make_batch):
    batch = make_batch(9)
    rows = (batch.image, batch.location, batch.positions_deg)
    by_sample = SpatialContrastiveLoss(40.0, reduction="none")(*rows)
    assert by_sample.shape == (9,)
    torch.testing.assert_close(by_sample.mean(), SpatialContrastiveLoss(40.0)(*rows))


def test_one_direction_is_photograph_to_location_only(make_batch):
    batch = make_batch(9)
    rows = (batch.image, batch.location, batch.positions_deg)
    loss = SpatialContrastiveLoss(alpha=0.0, symmetric=False)(*rows, logit_scale=LOG_SCALE)
    expected = F.cross_entropy(LOG_SCALE.exp() * batch.image @ batch.location.T, torch.arange(9))
    torch.testing.assert_close(loss, expected)


def test_a_learned_scale_is_trained_up_to_100(make_batch):
    batch = make_batch(9)
    loss_fn = SpatialContrastiveLoss(40.0, scale=10.0)
    assert [name for name, _ in loss_fn.named_parameters()] == ["logit_scale"]
    loss_fn(batch.image, batch.location, batch.positions_deg).backward()
    assert loss_fn.logit_scale.grad.abs() > 0
    with torch.no_grad():
        loss_fn.logit_scale.fill_(7.0)
    loss_fn.eval()(batch.image, batch.location, batch.positions_deg)
    assert loss_fn.logit_scale.item() == 7.0
    loss_fn.train()(batch.image, batch.location, batch.positions_deg)
    assert loss_fn.logit_scale.item() == pytest.approx(math.log(100.0))
    other = SpatialContrastiveLoss(40.0)
    other.load_state_dict(loss_fn.state_dict())
    assert torch.equal(other.logit_scale, loss_fn.logit_scale)


def test_a_fixed_scale_equals_a_passed_one(make_batch):
    batch = make_batch(9, dtype=torch.float32)
    rows = (batch.image, batch.location, batch.positions_deg)
    fixed = SpatialContrastiveLoss(40.0, scale=20.0, learn_scale=False)
    assert not list(fixed.parameters())
    passed = SpatialContrastiveLoss(40.0, scale=None)
    assert not passed.state_dict()
    assert torch.equal(fixed(*rows), passed(*rows, logit_scale=math.log(20.0)))
    scale = torch.nn.Parameter(torch.tensor(2.0))
    passed(*rows, logit_scale=scale).backward()
    assert scale.grad.abs() > 0
    with pytest.raises(ConfigError, match="pass logit_scale, the logarithm"):
        passed(*rows)
    with pytest.raises(InputError, match="is the logarithm"):
        passed(*rows, logit_scale=scale.exp() * 4)


def test_a_bandwidth_scale_equals_another_bandwidth(make_batch):
    batch = make_batch(9)
    rows = (batch.image, batch.location, batch.positions_deg)
    scaled = SpatialContrastiveLoss(30.0)(*rows, bandwidth_scale=2.0)
    assert torch.equal(scaled, SpatialContrastiveLoss(60.0)(*rows))
    near = NeighbourhoodConsistencyLoss(30.0)(batch.image, batch.positions_deg, bandwidth_scale=np.full(9, 2.0))
    assert torch.equal(near, NeighbourhoodConsistencyLoss(60.0)(batch.image, batch.positions_deg))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(range(9)))
def test_the_order_of_the_batch_has_no_effect(make_batch, order):
    batch = make_batch(9)
    loss_fn = SWCLIPLoss(SpatialContrastiveLoss(50.0))
    rows = (batch.image, batch.location, batch.positions_deg, batch.region_ids)
    loss = loss_fn(*rows, accuracy_m=batch.accuracy_m)
    permuted = loss_fn(*(row[order] for row in rows), accuracy_m=batch.accuracy_m[order])
    torch.testing.assert_close(permuted, loss, rtol=1e-12, atol=1e-13)


def test_gradients_of_the_total(make_batch):
    batch = make_batch(5, 3)
    loss_fn = SWCLIPLoss(SpatialContrastiveLoss(50.0, normalize=True), lambda_nc=0.5, lambda_fair=0.5)

    def loss(image, location):
        return loss_fn(image, location, batch.positions_deg, batch.region_ids, logit_scale=LOG_SCALE)

    assert torch.autograd.gradcheck(loss, (batch.image, batch.location))


def test_the_total_has_its_terms_without_those_of_weight_0(make_batch):
    batch = make_batch(9)
    rows = (batch.image, batch.location, batch.positions_deg)
    plain = SWCLIPLoss(SpatialContrastiveLoss(50.0), lambda_nc=0.0, lambda_fair=0.0)
    assert torch.equal(plain(*rows), SpatialContrastiveLoss(50.0)(*rows))
    assert set(plain.terms(*rows)) == {"loss", "contrastive"}
    with pytest.raises(ConfigError, match="pass region_ids, or lambda_fair=0"):
        SWCLIPLoss()(*rows)
    following = SWCLIPLoss(SpatialContrastiveLoss((70.0, 30.0), "gaussian")).neighbourhood
    assert (following.config.bandwidth_m, following.config.kernel) == (30.0, "gaussian")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SpatialContrastiveLoss(0.0), "bandwidth 0.0 m"),
        (lambda: SpatialContrastiveLoss(kernel="box"), "kernel 'box'"),
        (lambda: SpatialContrastiveLoss(alpha=1.5), "alpha 1.5"),
        (lambda: SpatialContrastiveLoss((1.0, 2.0), shares=(1.0,)), "1 shares for 2"),
        (lambda: SpatialContrastiveLoss(scale=0.0), "scale 0.0"),
        (lambda: SpatialContrastiveLoss(scale=1000.0), "at most 100"),
        (lambda: SpatialContrastiveLoss(reduction="sum"), "'sum'"),
        (lambda: NeighbourhoodConsistencyLoss(0.0), "bandwidth 0.0 m"),
        (lambda: NeighbourhoodConsistencyLoss(tau=0.0), "tau"),
        (lambda: NeighbourhoodConsistencyLoss(default_accuracy_m=-1.0), "default_accuracy_m"),
        (lambda: RegionalFairnessLoss("minimax"), "'minimax'"),
        (lambda: RegionalFairnessLoss("group-dro"), "n_regions"),
        (lambda: SWCLIPLoss(lambda_nc=-1.0), "lambda_nc -1.0"),
        (lambda: SWCLIPLoss(SpatialContrastiveLoss(reduction="none")), "reduction='mean'"),
    ],
)
def test_invalid_options_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_repr():
    assert "bandwidth_m=(25.0,), kernel='exponential', alpha=1.0" in repr(SpatialContrastiveLoss())
