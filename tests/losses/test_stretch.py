"""Bandwidths that differ by photograph: against loops, and the same to the last bit where they do not."""

from __future__ import annotations

import math

import pytest
import torch

from swclip.losses import NeighbourhoodConfig, Objective, ObjectiveConfig, TargetConfig, pair_weights, soft_targets
from swclip.losses.targets import pairwise_distance_m

SCALE = torch.tensor(20.0, dtype=torch.float64).log()


def test_the_weights_are_those_of_nested_loops(make_batch):
    batch = make_batch(12)
    distance_m = pairwise_distance_m(batch.positions_deg)
    stretch = torch.linspace(0.2, 3.0, 12, dtype=torch.float64)
    accuracy = torch.linspace(0.0, 9.0, 12, dtype=torch.float64)
    plain = pair_weights(
        distance_m, "exponential", (20.0, 90.0), (3.0, 1.0), bandwidth_scale_a=stretch, bandwidth_scale_b=stretch
    )
    noisy = pair_weights(
        distance_m,
        "exponential",
        (20.0,),
        None,
        accuracy,
        accuracy,
        0.0,
        bandwidth_scale_a=stretch,
        bandwidth_scale_b=stretch,
    )
    for i in range(12):
        for j in range(12):
            d, both = distance_m[i, j].item(), math.sqrt(stretch[i].item() * stretch[j].item())
            wanted = 0.75 * math.exp(-d / (20.0 * both)) + 0.25 * math.exp(-d / (90.0 * both))
            assert plain[i, j].item() == pytest.approx(wanted, rel=1e-12)
            width = math.sqrt((20.0 * both) ** 2 + accuracy[i].item() ** 2 + accuracy[j].item() ** 2)
            assert noisy[i, j].item() == pytest.approx(math.exp(-d / width), rel=1e-12)
    assert torch.equal(plain, plain.T), "one symmetric matrix serves both directions"


@pytest.mark.parametrize("gps_noise", [True, False])
def test_a_stretch_for_all_is_that_bandwidth(make_batch, gps_noise):
    batch = make_batch(16)
    distance_m = pairwise_distance_m(batch.positions_deg)
    one, four = (TargetConfig(bandwidths_m=(h,), gps_noise=gps_noise) for h in (15.0, 60.0))
    for factor, config in ((1.0, one), (4.0, four)):
        stretch = torch.full((16,), factor, dtype=torch.float64)
        found = soft_targets(distance_m, one, batch.accuracy_m, bandwidth_scale_a=stretch)
        assert torch.equal(found, soft_targets(distance_m, config, batch.accuracy_m))


def test_rows_of_a_part_are_rows_of_the_whole(make_batch):
    batch = make_batch(10)
    distance_m = pairwise_distance_m(batch.positions_deg)
    stretch = torch.linspace(0.5, 2.0, 10, dtype=torch.float64)
    config = TargetConfig(bandwidths_m=(40.0,))
    whole = soft_targets(distance_m, config, bandwidth_scale_a=stretch)
    part = soft_targets(
        distance_m[4:7], config, first_match=4, bandwidth_scale_a=stretch[4:7], bandwidth_scale_b=stretch
    )
    assert torch.equal(part, whole[4:7])


@pytest.mark.parametrize("follows", [True, False])
def test_the_neighbourhood_follows_where_asked(make_batch, follows):
    batch = make_batch(24)
    stretch = torch.full((24,), 2.0, dtype=torch.float64)
    term = NeighbourhoodConfig(weight=0.5, bandwidth_m=0.0 if follows else 25.0)
    objective = Objective(ObjectiveConfig(TargetConfig(bandwidths_m=(30.0, 90.0)), term))
    _, parts = objective(
        batch.image, batch.location, SCALE, batch.positions_deg, batch.accuracy_m, bandwidth_scale=stretch
    )
    same = NeighbourhoodConfig(weight=0.5, bandwidth_m=60.0 if follows else 25.0)
    oracle = Objective(ObjectiveConfig(TargetConfig(bandwidths_m=(60.0, 180.0)), same))
    loss, wanted = oracle(batch.image, batch.location, SCALE, batch.positions_deg, batch.accuracy_m)
    assert torch.equal(parts["neighbourhood"], wanted["neighbourhood"])
    assert torch.equal(parts["loss"], loss)
