from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.errors import ConfigError
from swclip.losses import TargetConfig, pair_weights, pairwise_distance_m, soft_targets

KERNELS = {
    "exponential": lambda u: math.exp(-u),
    "gaussian": lambda u: math.exp(-u * u / 2),
    "bisquare": lambda u: (1 - u * u) ** 2 if u < 1 else 0.0,
    "tricube": lambda u: (1 - u**3) ** 3 if u < 1 else 0.0,
    "inverse-distance": lambda u: 1 / (1 + u),
}


def loop_targets(distance_m, config, accuracy_m=None):
    """The formula, one pair at a time."""
    n = len(distance_m)
    shares = config.shares or (1.0,) * len(config.bandwidths_m)

    def accuracy(i):
        value = math.nan if accuracy_m is None else accuracy_m[i]
        return config.default_accuracy_m if math.isnan(value) else value

    rows = []
    for i in range(n):
        weights = []
        for j in range(n):
            weight = 0.0
            for h, share in zip(config.bandwidths_m, shares, strict=True):
                noise = accuracy(i) ** 2 + accuracy(j) ** 2 if config.gps_noise else 0.0
                weight += share / sum(shares) * KERNELS[config.kernel](distance_m[i][j] / math.sqrt(h * h + noise))
            weights.append(weight)
        rows.append([(1 - config.alpha) * (i == j) + config.alpha * weights[j] / sum(weights) for j in range(n)])
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gps_noise": False},
        {"default_accuracy_m": 8.0},
        {"bandwidths_m": (10.0, 60.0, 300.0), "shares": (0.5, 0.3, 0.4)},
        {"bandwidths_m": (15.0, 90.0)},
    ],
)
def test_targets_follow_the_formula(make_batch, kernel, alpha, options):
    batch = make_batch()
    config = TargetConfig(alpha=alpha, kernel=kernel, **options)
    distance_m = pairwise_distance_m(batch.positions_deg)
    expected = loop_targets(distance_m.tolist(), config, batch.accuracy_m.tolist())
    torch.testing.assert_close(soft_targets(distance_m, config, batch.accuracy_m), expected, rtol=1e-12, atol=1e-15)


def test_two_places_one_bandwidth_apart():
    distance_m = torch.tensor([[0.0, 25.0], [25.0, 0.0]], dtype=torch.float64)
    targets = soft_targets(distance_m, TargetConfig(bandwidths_m=(25.0,)))
    assert targets[0, 0].item() == pytest.approx(1 / (1 + math.exp(-1)))


@pytest.mark.parametrize("kernel", KERNELS)
def test_zero_accuracy_equals_no_noise_to_the_last_bit(make_batch, kernel):
    batch = make_batch()
    distance_m = pairwise_distance_m(batch.positions_deg)
    exact = soft_targets(distance_m, TargetConfig(kernel=kernel, gps_noise=False), batch.accuracy_m)
    zero = torch.zeros(len(distance_m), dtype=torch.float64)
    assert torch.equal(soft_targets(distance_m, TargetConfig(kernel=kernel), zero), exact)
    assert torch.equal(soft_targets(distance_m, TargetConfig(kernel=kernel)), exact)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_very_large_accuracy_makes_targets_uniform(make_batch, kernel):
    distance_m = pairwise_distance_m(make_batch().positions_deg)
    n = len(distance_m)
    targets = soft_targets(distance_m, TargetConfig(kernel=kernel), torch.full((n,), 1e9, dtype=torch.float64))
    torch.testing.assert_close(targets, torch.full((n, n), 1 / n, dtype=torch.float64), rtol=1e-4, atol=0.0)


def test_unknown_accuracy_takes_the_default(make_batch):
    batch = make_batch()
    distance_m = pairwise_distance_m(batch.positions_deg)
    config = TargetConfig(default_accuracy_m=12.0)
    stated = batch.accuracy_m.nan_to_num(12.0)
    assert torch.equal(soft_targets(distance_m, config, batch.accuracy_m), soft_targets(distance_m, config, stated))
    assert torch.equal(
        soft_targets(distance_m, config), soft_targets(distance_m, config, torch.full_like(stated, 12.0))
    )


def test_photographs_at_one_position_share_the_mass():
    positions_deg = torch.tensor([[10.0, 20.0]] * 4 + [[11.0, 20.0]], dtype=torch.float64)
    targets = soft_targets(pairwise_distance_m(positions_deg), TargetConfig(kernel="bisquare"))
    assert targets[1].tolist() == [0.25, 0.25, 0.25, 0.25, 0.0]
    one_hot = soft_targets(pairwise_distance_m(positions_deg), TargetConfig(alpha=0.0))
    assert torch.equal(one_hot, torch.eye(5, dtype=torch.float64))


def test_a_single_photograph_has_its_location_as_target_for_any_kernel():
    distance_m = torch.tensor([[0.0, 1e6], [1e6, 0.0]], dtype=torch.float64)
    for kernel in ("exponential", "gaussian", "bisquare", "tricube"):
        assert torch.equal(soft_targets(distance_m, TargetConfig(kernel=kernel)), torch.eye(2, dtype=torch.float64))


def test_a_row_without_kernel_mass_has_its_match_as_target():
    distance_m = torch.tensor([[500.0, 600.0]], dtype=torch.float64)
    targets = soft_targets(distance_m, TargetConfig(kernel="bisquare"), first_match=1)
    assert targets.tolist() == [[0.0, 1.0]]


def test_rows_of_a_part_are_rows_of_the_whole(make_batch):
    batch = make_batch()
    config = TargetConfig(alpha=0.7)
    whole = soft_targets(pairwise_distance_m(batch.positions_deg), config, batch.accuracy_m)
    part = slice(3, 7)
    distance_m = pairwise_distance_m(batch.positions_deg[part], batch.positions_deg)
    rows = soft_targets(distance_m, config, batch.accuracy_m[part], batch.accuracy_m, first_match=3)
    assert torch.equal(rows, whole[part])


def test_across_the_antimeridian_and_at_the_poles():
    across = torch.tensor([[0.0, 179.9999], [0.0, -179.9999], [0.0, 0.0]], dtype=torch.float64)
    at_home = torch.tensor([[0.0, -0.0001], [0.0, 0.0001], [0.0, 180.0]], dtype=torch.float64)
    near, far = (soft_targets(pairwise_distance_m(p), TargetConfig()) for p in (across, at_home))
    torch.testing.assert_close(near, far, rtol=1e-6, atol=1e-12)
    assert near[0, 1] > 0.2
    pole = torch.tensor([[90.0, 0.0], [90.0, 135.0]], dtype=torch.float64)
    torch.testing.assert_close(soft_targets(pairwise_distance_m(pole), TargetConfig()), torch.full_like(pole, 0.5))


positions = st.lists(st.tuples(st.floats(-89.9, 89.9), st.floats(-180.0, 180.0)), min_size=1, max_size=7)
configs = st.builds(
    TargetConfig,
    alpha=st.floats(0.0, 1.0),
    kernel=st.sampled_from(sorted(KERNELS)),
    bandwidths_m=st.lists(st.floats(1.0, 1e6), min_size=1, max_size=3).map(tuple),
)


@settings(deadline=None)
@given(positions, configs, st.randoms(use_true_random=False))
def test_rows_are_distributions_and_follow_a_permutation(places, config, random):
    positions_deg = torch.tensor(places, dtype=torch.float64)
    targets = soft_targets(pairwise_distance_m(positions_deg), config)
    assert (targets >= 0.0).all()
    torch.testing.assert_close(targets.sum(1), torch.ones(len(places), dtype=torch.float64))
    order = random.sample(range(len(places)), len(places))
    permuted = soft_targets(pairwise_distance_m(positions_deg[order]), config)
    torch.testing.assert_close(permuted, targets[order][:, order], rtol=1e-9, atol=1e-12)


@settings(deadline=None)
@given(positions, configs, st.floats(-180.0, 180.0))
def test_targets_are_invariant_to_a_rotation_about_the_axis(places, config, turn_deg):
    positions_deg = torch.tensor(places, dtype=torch.float64)
    turned = positions_deg.clone()
    turned[:, 1] = (turned[:, 1] + turn_deg + 180.0) % 360.0 - 180.0
    # The turn itself rounds longitudes to about 1e-14 of a turn, some nanometres; the narrowest bandwidth is a metre.
    before, after = (soft_targets(pairwise_distance_m(p), config) for p in (positions_deg, turned))
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-7)


def test_weights_are_symmetric(make_batch):
    batch = make_batch()
    weights = pair_weights(
        pairwise_distance_m(batch.positions_deg),
        "gaussian",
        (30.0,),
        accuracy_a=batch.accuracy_m,
        accuracy_b=batch.accuracy_m,
        default_accuracy_m=3.0,
    )
    assert torch.equal(weights, weights.T)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.1}, "alpha 1.1"),
        ({"alpha": math.nan}, "alpha nan"),
        ({"kernel": "cubic"}, "'cubic'.*exponential"),
        ({"bandwidths_m": ()}, "empty"),
        ({"bandwidths_m": (25.0, 0.0)}, "0.0 m"),
        ({"bandwidths_m": (math.inf,)}, "inf m"),
        ({"shares": (0.5, 0.5)}, "2 shares for 1"),
        ({"shares": (0.0,)}, "positive sum"),
        ({"default_accuracy_m": -1.0}, "default_accuracy_m -1.0"),
    ],
)
def test_invalid_values_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        TargetConfig(**options)


def test_a_negative_accuracy_and_rows_that_do_not_fit():
    distance_m = torch.zeros(2, 2, dtype=torch.float64)
    with pytest.raises(ConfigError, match=r"-3\.0 m is negative"):
        soft_targets(distance_m, TargetConfig(), torch.tensor([1.0, -3.0], dtype=torch.float64))
    with pytest.raises(ConfigError, match="do not fit"):
        soft_targets(distance_m, TargetConfig(), first_match=1)


def test_scaled_weights_equal_those_of_nested_loops(make_batch):
    batch = make_batch(12)
    distance_m = pairwise_distance_m(batch.positions_deg)
    scale = torch.linspace(0.2, 3.0, 12, dtype=torch.float64)
    accuracy = torch.linspace(0.0, 9.0, 12, dtype=torch.float64)
    plain = pair_weights(
        distance_m, "exponential", (20.0, 90.0), (3.0, 1.0), bandwidth_scale_a=scale, bandwidth_scale_b=scale
    )
    noisy = pair_weights(
        distance_m,
        "exponential",
        (20.0,),
        None,
        accuracy,
        accuracy,
        0.0,
        bandwidth_scale_a=scale,
        bandwidth_scale_b=scale,
    )
    for i in range(12):
        for j in range(12):
            d, both = distance_m[i, j].item(), math.sqrt(scale[i].item() * scale[j].item())
            expected = 0.75 * math.exp(-d / (20.0 * both)) + 0.25 * math.exp(-d / (90.0 * both))
            assert plain[i, j].item() == pytest.approx(expected, rel=1e-12)
            width = math.sqrt((20.0 * both) ** 2 + accuracy[i].item() ** 2 + accuracy[j].item() ** 2)
            assert noisy[i, j].item() == pytest.approx(math.exp(-d / width), rel=1e-12)
    assert torch.equal(plain, plain.T), "one symmetric matrix serves both directions"


@pytest.mark.parametrize("gps_noise", [True, False])
def test_an_equal_bandwidth_scale_equals_another_bandwidth(make_batch, gps_noise):
    batch = make_batch(16)
    distance_m = pairwise_distance_m(batch.positions_deg)
    one, four = (TargetConfig(bandwidths_m=(h,), gps_noise=gps_noise) for h in (15.0, 60.0))
    for factor, config in ((1.0, one), (4.0, four)):
        scale = torch.full((16,), factor, dtype=torch.float64)
        actual = soft_targets(distance_m, one, batch.accuracy_m, bandwidth_scale_a=scale)
        assert torch.equal(actual, soft_targets(distance_m, config, batch.accuracy_m))


def test_scaled_rows_of_a_part_are_rows_of_the_whole(make_batch):
    batch = make_batch(10)
    distance_m = pairwise_distance_m(batch.positions_deg)
    scale = torch.linspace(0.5, 2.0, 10, dtype=torch.float64)
    config = TargetConfig(bandwidths_m=(40.0,))
    whole = soft_targets(distance_m, config, bandwidth_scale_a=scale)
    part = soft_targets(distance_m[4:7], config, first_match=4, bandwidth_scale_a=scale[4:7], bandwidth_scale_b=scale)
    assert torch.equal(part, whole[4:7])
