from __future__ import annotations

import math
import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.errors import ConfigError
from swclip.losses import (
    FairnessConfig,
    NeighbourhoodConfig,
    Objective,
    ObjectiveConfig,
    RobustConfig,
    TargetConfig,
    fairness_loss,
    neighbourhood_loss,
    pair_weights,
    pairwise_distance_m,
    regional_means,
    robust_weights,
    soft_targets,
    spatial_contrastive_loss,
)
from swclip.losses.robust_weights import trusted_divergence, weighted_mean

SCALE = torch.tensor(20.0, dtype=torch.float64).log()
TARGETS = TargetConfig(bandwidths_m=(50.0,), default_accuracy_m=4.0)
TRIMMED = RobustConfig(form="trimmed", share=0.3)
FORMS = [
    TRIMMED,
    RobustConfig(form="trimmed", share=0.3, columns=False),
    RobustConfig(form="reweighted"),
    RobustConfig(form="reweighted", influence="welsch", cutoff=1.5, columns=False),
]


def losses_of(seed=0, n=12):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, generator=generator, dtype=torch.float64).exp() * 3.0


def loop_weights(losses, config):
    """The formulas, one photograph at a time."""
    n = len(losses)
    if config.form == "trimmed":
        worst = sorted(range(n), key=lambda i: -losses[i])[: math.floor(config.share * n + 1e-9)]
        return [0.0 if i in worst else 1.0 for i in range(n)]
    median = statistics.median(losses)
    mad = statistics.median(abs(loss - median) for loss in losses)
    weights = []
    for loss in losses:
        u = max(0.0, loss - median) / (1.4826 * mad * config.cutoff)
        weights.append(math.exp(-u * u) if config.influence == "welsch" else 1.0 / (1.0 + u * u) ** 2)
    return weights


@pytest.mark.parametrize("config", FORMS)
@pytest.mark.parametrize("n", [11, 12])
def test_weights_follow_the_formula(config, n):
    losses = losses_of(n=n)
    losses[4] += 40.0
    weights = robust_weights(losses, config)
    torch.testing.assert_close(weights, torch.tensor(loop_weights(losses.tolist(), config), dtype=torch.float64))
    assert weights[4] < 1e-3 < weights.median()


@pytest.mark.parametrize(("share", "n", "left_out"), [(0.29, 100, 29), (0.3, 10, 3), (0.1, 19, 1), (0.0, 9, 0)])
def test_trimming_omits_whole_photographs(share, n, left_out):
    weights = robust_weights(losses_of(n=n), RobustConfig(form="trimmed", share=share))
    assert (weights == 0.0).sum() == left_out
    assert (weights == 1.0).sum() == n - left_out


def test_the_weight_at_the_cutoff():
    # Median 3; the deviations 0 1 1 2 2 3 and the last one have median 2, wherever beyond 5 the last one lies.
    losses = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 3.0 + 3.0 * 1.4826 * 2.0], dtype=torch.float64)
    assert robust_weights(losses, RobustConfig(form="reweighted"))[-1].item() == pytest.approx(0.25)
    welsch = RobustConfig(form="reweighted", influence="welsch")
    assert robust_weights(losses, welsch)[-1].item() == pytest.approx(math.exp(-1.0))


def test_all_weights_are_1_during_the_warm_up():
    config = RobustConfig(form="trimmed", share=0.5, warmup=0.25)
    assert (robust_weights(losses_of(), config, progress=0.2499) == 1.0).all()
    assert (robust_weights(losses_of(), config, progress=0.25) == 0.0).sum() == 6
    assert (robust_weights(losses_of(), RobustConfig()) == 1.0).all()


def test_without_spread_all_weights_are_1():
    losses = torch.tensor([0.5, 0.5, 0.5, 9.0])
    assert robust_weights(losses, RobustConfig(form="reweighted")).tolist() == [1.0] * 4


@settings(deadline=None)
@given(
    st.lists(st.floats(0.0, 50.0), min_size=1, max_size=14, unique_by=lambda x: round(x, 3)),
    st.sampled_from(FORMS),
    st.floats(0.1, 10.0),
    st.floats(-5.0, 5.0),
    st.randoms(use_true_random=False),
)
def test_weights_fall_with_the_loss_and_are_invariant_to_scale(values, config, factor, shift, random):
    losses = torch.tensor(values, dtype=torch.float64)
    weights = robust_weights(losses, config)
    assert ((weights >= 0.0) & (weights <= 1.0)).all()
    assert weights.sum() > 0.0
    assert (weights[losses.argsort()].diff() <= 0.0).all()
    scaled = robust_weights(factor * losses + shift, config)
    torch.testing.assert_close(scaled, weights, rtol=1e-6, atol=1e-9)
    order = random.sample(range(len(values)), len(values))
    torch.testing.assert_close(robust_weights(losses[order], config), weights[order])


def test_weighted_mean():
    values = torch.tensor([1.0, 5.0, 100.0], requires_grad=True)
    assert weighted_mean(values, torch.tensor([3.0, 1.0, 0.0])).item() == 2.0
    nothing = weighted_mean(values, torch.zeros(3))
    nothing.backward()
    assert nothing.item() == 0.0
    assert values.grad.tolist() == [0.0] * 3


def loop_divergence(rows, columns, scale, targets, trust):
    result = []
    for i in range(len(rows)):
        mass = sum(trust[k] * targets[i][k] for k in range(len(columns)))
        odds = [w * math.exp(scale * sum(a * b for a, b in zip(rows[i], c, strict=True)))
                for w, c in zip(trust, columns, strict=True)]  # fmt: skip
        total = 0.0
        for j in range(len(columns)):
            wanted = trust[j] * targets[i][j] / mass
            if wanted > 0.0:
                total += wanted * math.log(wanted / (odds[j] / sum(odds)))
        result.append(total)
    return result


def test_divergence_over_weighted_columns(make_batch):
    batch = make_batch()
    targets = soft_targets(pairwise_distance_m(batch.positions_deg), TARGETS)
    trust = torch.tensor([1.0, 0.0, 0.4, 1.0, 0.9, 0.0, 1.0, 1e-3, 1.0], dtype=torch.float64)
    result = trusted_divergence(batch.location, batch.image, SCALE, targets, trust)
    expected = loop_divergence(
        batch.location.tolist(), batch.image.tolist(), SCALE.exp().item(), targets.tolist(), trust.tolist()
    )
    assert result.tolist() == pytest.approx(expected)
    assert torch.autograd.gradcheck(
        lambda a, b, s: trusted_divergence(a, b, s, targets, trust),
        (batch.location, batch.image, SCALE.clone().requires_grad_()),
    )
    (gradient,) = torch.autograd.grad(result.sum(), batch.image)
    assert (gradient[trust == 0.0] == 0.0).all()
    assert (gradient[trust > 0.0] != 0.0).any(dim=1).all()


def test_a_column_of_weight_0_is_removed(make_batch):
    batch = make_batch()
    kept = torch.tensor([0, 2, 3, 4, 6, 7, 8])
    trust = torch.zeros(9, dtype=torch.float64)
    trust[kept] = 1.0
    distance_m = pairwise_distance_m(batch.positions_deg)
    whole = trusted_divergence(batch.location, batch.image, SCALE, soft_targets(distance_m, TARGETS), trust)
    fewer = soft_targets(distance_m[kept][:, kept], TARGETS)
    ones = torch.ones(len(kept), dtype=torch.float64)
    part = trusted_divergence(batch.location[kept], batch.image[kept], SCALE, fewer, ones)
    torch.testing.assert_close(whole[kept], part)


def test_a_row_with_its_target_on_columns_of_weight_0_has_divergence_0(make_batch):
    batch = make_batch(2)
    trust = torch.tensor([1.0, 0.0], dtype=torch.float64)
    one_hot = torch.eye(2, dtype=torch.float64)
    result = trusted_divergence(batch.location, batch.image, SCALE, one_hot, trust)
    result.sum().backward()
    assert result.tolist() == [0.0, 0.0]
    assert batch.image.grad.isfinite().all()


@pytest.mark.parametrize("config", FORMS)
def test_the_objective_is_the_weighted_sum(make_batch, config):
    batch = make_batch(24)
    neighbourhood = NeighbourhoodConfig(weight=0.4, bandwidth_m=70.0)
    whole = ObjectiveConfig(TARGETS, neighbourhood, FairnessConfig("cvar", weight=0.6, fraction=0.4), config)
    arguments = (batch.image, batch.location, SCALE, batch.positions_deg, batch.accuracy_m, batch.region_ids)
    loss, parts = Objective(whole)(*arguments)
    distance_m = pairwise_distance_m(batch.positions_deg)
    targets = soft_targets(distance_m, TARGETS, batch.accuracy_m)
    per_sample = spatial_contrastive_loss(batch.image, batch.location, SCALE, targets, reduction="none")
    trust = torch.tensor(loop_weights(per_sample.tolist(), config), dtype=torch.float64)
    noise = {"accuracy_a": batch.accuracy_m, "accuracy_b": batch.accuracy_m, "default_accuracy_m": 4.0}
    weights = pair_weights(distance_m, "exponential", (70.0,), **noise)
    if config.columns:
        logits = SCALE.exp() * batch.image @ batch.location.T
        by_image = (targets * (targets.log() - logits.log_softmax(1))).sum(1)
        by_location = trusted_divergence(batch.location, batch.image, SCALE, targets, trust)
        per_sample, weights = (by_image + by_location) / 2, weights * trust
    expected = (trust * per_sample).sum() / trust.sum()
    rows = [neighbourhood_row(batch.image, weights, i) for i in range(24)]
    near = sum(w * row for w, row in zip(trust.tolist(), rows, strict=True)) / trust.sum()
    means = []
    for region in range(3):
        inside = batch.region_ids == region
        if trust[inside].sum() > 0.0:
            means.append((trust[inside] * per_sample[inside]).sum() / trust[inside].sum())
    worst = sorted(means, key=lambda mean: -mean.item())[: math.ceil(0.4 * len(means))]
    total = expected + 0.4 * near + 0.6 * sum(worst) / len(worst)
    torch.testing.assert_close(parts["contrastive"], expected.detach())
    torch.testing.assert_close(loss, total)
    for actual, expected in zip(*(torch.autograd.grad(x, (batch.image, batch.location), retain_graph=True)
                              for x in (loss, total)), strict=True):  # fmt: skip
        torch.testing.assert_close(actual, expected)
    if config.form == "trimmed":
        assert parts["trimmed"].item() == pytest.approx(7 / 24)
    else:
        assert parts["trust"].item() == pytest.approx(trust.mean().item())


def neighbourhood_row(image, weights, i):
    """KL of one photograph's neighbourhood; the photograph's own neighbourhood loss of the public function, alone."""
    others = [j for j in range(len(image)) if j != i]
    wanted = weights[i, others] / weights[i, others].sum()
    log_p = (image[i] @ image[others].T / 0.1).log_softmax(0)
    return torch.special.xlogy(wanted, wanted).sum() - (wanted * log_p).sum()


def test_one_row_of_the_neighbourhood_is_the_public_loss(make_batch):
    batch = make_batch(6)
    weights = pair_weights(pairwise_distance_m(batch.positions_deg), "exponential", (70.0,))
    rows = [neighbourhood_row(batch.image, weights, i) for i in range(6)]
    torch.testing.assert_close(neighbourhood_loss(batch.image, weights), sum(rows) / 6)


@pytest.mark.parametrize("columns", [True, False])
def test_gradients_of_the_trimmed_objective(make_batch, columns):
    """Weights are constant between the losses' ties, so the gradient is that of the value; finite differences agree."""
    batch = make_batch(7, 3)
    config = RobustConfig(form="trimmed", share=0.3, columns=columns)
    objective = Objective(ObjectiveConfig(TARGETS, robust=config))
    assert torch.autograd.gradcheck(
        lambda image, location, scale: objective(image, location, scale, batch.positions_deg)[0],
        (batch.image, batch.location, SCALE.clone().requires_grad_()),
    )


def test_a_wrong_photograph_no_longer_moves_the_others(make_batch):
    """Its embedding does not matter to the loss; without `columns` the others still choose among it."""
    batch = make_batch(12)
    # All but number 5 are at home; 5 says it is where it is not.
    location = batch.location.detach()
    image = location.clone()
    image[5] = -location[5]
    losses = {}
    for columns in (True, False):
        config = RobustConfig(form="trimmed", share=0.1, columns=columns)
        objective = Objective(ObjectiveConfig(TargetConfig(bandwidths_m=(5.0,)), robust=config))
        moved = image.clone()
        moved[5] = -location[4]
        pair = [objective(v, location, SCALE, batch.positions_deg)[0].item() for v in (image, moved)]
        losses[columns] = abs(pair[0] - pair[1])
    assert losses[True] < 1e-12
    assert losses[False] > 1e-9


def test_regional_means_with_weights():
    per_sample = torch.tensor([1.0, 3.0, 9.0, 4.0], dtype=torch.float64)
    regions = torch.tensor([0, 0, 1, 2])
    weights = torch.tensor([3.0, 1.0, 0.0, 0.5], dtype=torch.float64)
    means, ids = regional_means(per_sample, regions, weights)
    assert (means.tolist(), ids.tolist()) == ([1.5, 4.0], [0, 2])
    assert fairness_loss(per_sample, regions, "cvar", weights=weights).item() == 4.0


def test_down_weighting_is_off_by_default(make_batch):
    batch = make_batch(12)
    arguments = (batch.image, batch.location, SCALE, batch.positions_deg)
    plain, parts = Objective(ObjectiveConfig(TARGETS))(*arguments)
    waiting, _ = Objective(ObjectiveConfig(TARGETS, robust=TRIMMED))(*arguments, progress=0.1)
    assert {"trimmed", "trust"}.isdisjoint(parts)
    torch.testing.assert_close(waiting, plain, rtol=1e-14, atol=0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "huber"}, "'huber'"),
        ({"influence": "cauchy"}, "'cauchy'"),
        ({"share": 1.0}, "share 1.0"),
        ({"share": -0.1}, "share -0.1"),
        ({"warmup": 1.5}, "warmup 1.5"),
        ({"cutoff": 0.0}, "cutoff 0.0"),
        ({"cutoff": math.nan}, "cutoff nan"),
    ],
)
def test_invalid_values_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        RobustConfig(**options)
