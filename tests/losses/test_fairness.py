from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.errors import ConfigError, InputError
from swclip.losses import FairnessConfig, GroupDRO, RegionalFairnessLoss, fairness_loss, regional_means

REGIONS = torch.tensor([2, 0, 0, 1, -1, 2, 2, 5])


def losses_of(seed=0, n=8):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, generator=generator, dtype=torch.float64).requires_grad_()


def loop_means(per_sample, region_ids):
    groups = {}
    for value, region in zip(per_sample, region_ids, strict=True):
        if region >= 0:
            groups.setdefault(region, []).append(value)
    return {region: sum(values) / len(values) for region, values in sorted(groups.items())}


def test_district_means_ignore_photographs_without_a_district():
    per_sample = losses_of()
    means, ids = regional_means(per_sample, REGIONS)
    expected = loop_means(per_sample.tolist(), REGIONS.tolist())
    assert ids.tolist() == list(expected) == [0, 1, 2, 5]
    assert means.tolist() == pytest.approx(list(expected.values()))


def test_variance_follows_the_formula():
    per_sample = losses_of()
    means = list(loop_means(per_sample.tolist(), REGIONS.tolist()).values())
    centre = sum(means) / len(means)
    expected = sum((mean - centre) ** 2 for mean in means) / len(means)
    assert fairness_loss(per_sample, REGIONS, "variance").item() == pytest.approx(expected)


@pytest.mark.parametrize(("fraction", "worst"), [(0.1, 1), (0.25, 1), (0.3, 2), (0.5, 2), (0.75, 3), (1.0, 4)])
def test_cvar_is_the_mean_of_the_worst_districts(fraction, worst):
    per_sample = losses_of()
    means = sorted(loop_means(per_sample.tolist(), REGIONS.tolist()).values(), reverse=True)
    expected = sum(means[:worst]) / worst
    assert fairness_loss(per_sample, REGIONS, "cvar", fraction).item() == pytest.approx(expected)


@pytest.mark.parametrize("form", ["variance", "cvar"])
def test_equal_districts(form):
    per_sample = torch.full((8,), 0.7, dtype=torch.float64)
    expected = {"variance": 0.0, "cvar": 0.7}[form]
    assert fairness_loss(per_sample, REGIONS, form).item() == pytest.approx(expected)


@pytest.mark.parametrize("form", ["variance", "cvar"])
def test_gradients_against_finite_differences(form):
    per_sample = losses_of()
    (gradient,) = torch.autograd.grad(fairness_loss(per_sample, REGIONS, form), per_sample)
    step = 1e-6
    for i in range(len(per_sample)):
        up, down = per_sample.detach().clone(), per_sample.detach().clone()
        up[i] += step
        down[i] -= step
        slope = (fairness_loss(up, REGIONS, form) - fairness_loss(down, REGIONS, form)) / (2 * step)
        assert gradient[i].item() == pytest.approx(slope.item(), abs=1e-8)
    assert gradient[4] == 0.0, "a photograph without a region takes no part"
    assert torch.autograd.gradcheck(lambda x: fairness_loss(x, REGIONS, form), (per_sample,))


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.0, 10.0), st.integers(-1, 4)), min_size=1, max_size=12),
    st.permutations(range(5)),
    st.sampled_from(["variance", "cvar"]),
)
def test_order_and_names_of_districts_have_no_effect(samples, names, form):
    values, ids = zip(*samples, strict=True)
    per_sample, region_ids = torch.tensor(values, dtype=torch.float64), torch.tensor(ids)
    renamed = torch.tensor([names[i] if i >= 0 else -1 for i in ids])
    loss = fairness_loss(per_sample, region_ids, form)
    torch.testing.assert_close(fairness_loss(per_sample.flip(0), renamed.flip(0), form), loss)


@pytest.mark.parametrize("loss", [fairness_loss, GroupDRO(3)])
def test_a_batch_without_districts(loss):
    per_sample = losses_of(n=2)
    value = loss(per_sample, torch.tensor([-1, -1]))
    value.backward()
    assert value.item() == 0.0
    assert per_sample.grad.tolist() == [0.0, 0.0]


def test_group_dro_against_a_loop():
    dro = GroupDRO(6, eta=0.3)
    q = [1 / 6] * 6
    for seed in range(20):
        per_sample = losses_of(seed)
        means = loop_means(per_sample.tolist(), REGIONS.tolist())
        loss = dro(per_sample, REGIONS)
        q = [weight * math.exp(0.3 * means.get(region, 0.0)) for region, weight in enumerate(q)]
        q = [weight / sum(q) for weight in q]
        present = sum(q[region] for region in means)
        assert loss.item() == pytest.approx(sum(q[region] / present * mean for region, mean in means.items()), rel=1e-5)
        assert dro.q.tolist() == pytest.approx(q, rel=1e-5)
        (gradient,) = torch.autograd.grad(loss, per_sample)
        assert gradient[1].item() == pytest.approx(q[0] / present / 2, rel=1e-5)
    assert q[3] == q[4] < 1 / 6, "regions never seen lose to those that were"


def test_group_dro_gradients_against_finite_differences():
    """Of the loss at the weights that the step has moved to: the weights themselves carry no gradient."""
    dro = GroupDRO(6, eta=0.7)
    dro.log_q.copy_(torch.tensor([0.3, 0.1, 0.2, 0.15, 0.05, 0.2]).log())
    per_sample = losses_of()
    (gradient,) = torch.autograd.grad(dro(per_sample, REGIONS), per_sample)
    dro.eval()
    step = 1e-6
    for i in range(len(per_sample)):
        nudge = torch.zeros_like(per_sample)
        nudge[i] = step
        with torch.no_grad():
            slope = (dro(per_sample + nudge, REGIONS) - dro(per_sample - nudge, REGIONS)) / (2 * step)
        assert gradient[i].item() == pytest.approx(slope.item(), abs=1e-8)
    assert gradient[4] == 0.0
    assert torch.autograd.gradcheck(lambda x: dro(x, REGIONS), (per_sample,))


def test_group_dro_is_constant_in_evaluation_and_is_saved():
    dro = GroupDRO(6, eta=1.0)
    dro(losses_of(), REGIONS)
    moved = dro.q.clone()
    dro.eval()
    dro(losses_of(1), REGIONS)
    assert torch.equal(dro.q, moved)
    restored = GroupDRO(6, eta=1.0)
    restored.load_state_dict(dro.state_dict())
    assert torch.equal(restored.q, moved)
    assert not torch.equal(moved, GroupDRO(6).q)


def test_the_weight_of_an_easy_district_can_recover():
    dro = GroupDRO(2, eta=1.0)
    for _ in range(300):
        dro(torch.tensor([0.0, 1.0]), torch.tensor([0, 1]))
    assert dro.q[0] < 1e-30
    for _ in range(300):
        dro(torch.tensor([1.0, 0.0]), torch.tensor([0, 1]))
    assert dro.q.tolist() == pytest.approx([0.5, 0.5], abs=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "rawls"}, "'rawls'"),
        ({"weight": math.inf}, "weight inf"),
        ({"eta": -1.0}, "eta -1.0"),
        ({"fraction": 0.0}, "fraction 0.0"),
        ({"fraction": 1.5}, "fraction 1.5"),
    ],
)
def test_invalid_values_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        FairnessConfig(**options)


def test_group_dro_refuses_unknown_districts():
    with pytest.raises(ConfigError, match="district id 5 with 3 districts"):
        GroupDRO(3)(losses_of(), REGIONS)
    with pytest.raises(ConfigError, match="at least one district"):
        GroupDRO(0)
    with pytest.raises(ConfigError, match="use GroupDRO"):
        fairness_loss(losses_of(), REGIONS, "group-dro")


def test_the_module_equals_the_function_or_group_dro():
    losses, regions = torch.tensor([1.0, 4.0, 2.0, 9.0]), [0, 1, 0, -1]
    ids = torch.tensor(regions)
    assert torch.equal(RegionalFairnessLoss()(losses, regions), fairness_loss(losses, ids))
    cvar = RegionalFairnessLoss("cvar", fraction=0.5)(losses, ids.numpy())
    assert torch.equal(cvar, fairness_loss(losses, ids, "cvar", 0.5))
    module, dro = RegionalFairnessLoss("group-dro", n_regions=2, eta=0.5), GroupDRO(2, 0.5)
    for _ in range(3):
        assert torch.equal(module(losses, regions), dro(losses, ids))
    assert torch.equal(module.state_dict()["group_dro.log_q"], dro.log_q)


def test_the_module_refuses_invalid_input():
    with pytest.raises(InputError, match=r"losses has shape \(2, 2\).*reduction='none'"):
        RegionalFairnessLoss()(torch.ones(2, 2), [0, 1])
    with pytest.raises(InputError, match="region_ids has 3 rows"):
        RegionalFairnessLoss()(torch.ones(2), [0, 1, 2])
