from __future__ import annotations

import json
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.data.samplers import NeighbourBatchSampler, RandomBatchSampler
from swclip.errors import ConfigError, MismatchError
from swclip.geo.distance import pairwise_haversine_m

RADIUS_M = 60.0


def town(n=400, seed=0, headings=1):
    """Positions over about 400 m x 400 m, each as often as there are headings."""
    rng = np.random.default_rng(seed)
    places = [52.2, 0.12] + rng.random((n // headings, 2)) * [0.0036, 0.0059]
    return np.repeat(places, headings, axis=0)


def neighbour_sampler(positions_deg=None, batch_size=64, **options):
    positions_deg = town() if positions_deg is None else positions_deg
    if "k" not in options:
        options.setdefault("radius_m", RADIUS_M)
    return NeighbourBatchSampler(positions_deg, batch_size, **options)


def samplers(seed=0, **options):
    return [RandomBatchSampler(400, 64, seed=seed, **options), neighbour_sampler(seed=seed, **options)]


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 60),
    seed=st.integers(0, 2**31),
    share=st.floats(0.0, 1.0),
    neighbours=st.integers(0, 9),
    step=st.integers(0, 10_000),
    nearest=st.booleans(),
    balance=st.booleans(),
)
def test_a_batch_has_its_size_and_no_duplicates(n, seed, share, neighbours, step, nearest, balance):
    sampler = NeighbourBatchSampler(
        town(n, seed),
        max(1, round(share * n)),
        neighbours_per_anchor=neighbours,
        **({"k": 4} if nearest else {"radius_m": RADIUS_M}),
        regions=["a" if i % 5 else None for i in range(n)],
        balance_regions=balance,
        seed=seed,
    )
    rows = sampler.batch(step)
    assert rows.dtype == np.int64
    assert len(rows) == len(set(rows.tolist())) == sampler.batch_size
    assert rows.min() >= 0
    assert rows.max() < n


def test_the_same_seed_and_step_give_the_same_batch():
    for first, second, other in zip(samplers(3), samplers(3), samplers(4), strict=True):
        backwards = {step: first.batch(step) for step in reversed(range(9))}
        for step, rows in backwards.items():
            assert rows.tolist() == second.batch(step).tolist()
            assert rows.tolist() != other.batch(step).tolist()
        assert backwards[0].tolist() != backwards[1].tolist()


def test_changing_a_returned_batch_has_no_effect():
    for sampler in samplers():
        rows = sampler.batch(2)
        expected = rows.tolist()
        rows[:] = 0
        assert sampler.batch(2).tolist() == expected


def test_a_restored_sampler_resumes():
    for sampler, fresh in zip(samplers(), samplers(), strict=True):
        list(islice(sampler, 11))
        state = json.loads(json.dumps(sampler.state_dict()))
        rest = [rows.tolist() for rows in islice(sampler, 5)]
        fresh.load_state_dict(state)
        assert [rows.tolist() for rows in islice(fresh, 5)] == rest


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"batch_size": 32},
        {"radius_m": 61.0},
        {"k": 5},
        {"neighbours_per_anchor": 2},
        {"positions_deg": town(seed=1)},
        {"max_per_position": 1},
        {"regions": ["a", "b"] * 200, "balance_regions": True},
    ],
)
def test_a_state_of_other_data_or_settings_is_refused(other):
    state = neighbour_sampler().state_dict()
    with pytest.raises(MismatchError, match="resume with its options"):
        neighbour_sampler(**other).load_state_dict(state)
    with pytest.raises(MismatchError):
        RandomBatchSampler(400, 64).load_state_dict(state)


def test_slices_of_the_processes_form_the_global_batch():
    alone = samplers()
    parts = [samplers(rank=rank, world_size=4) for rank in range(4)]
    for which, sampler in enumerate(alone):
        for step in range(5):
            slices = [part[which].batch(step) for part in parts]
            assert [len(rows) for rows in slices] == [16] * 4
            assert np.concatenate(slices).tolist() == sampler.global_batch(step).tolist()
        parts[0][which].load_state_dict(sampler.state_dict())  # another number of processes may take over


def test_random_batches_have_every_photograph_once_per_epoch():
    sampler = RandomBatchSampler(400, 50)
    assert len(sampler) == 8
    epochs = [np.concatenate([sampler.batch(8 * epoch + i) for i in range(8)]) for epoch in range(2)]
    assert all(sorted(rows.tolist()) == list(range(400)) for rows in epochs)
    assert epochs[0].tolist() != epochs[1].tolist()


def test_neighbours_follow_their_anchor_within_the_radius():
    positions_deg = town()
    sampler = neighbour_sampler(positions_deg)
    for step in range(20):
        groups = sampler.batch(step).reshape(-1, 4)  # in this town everybody finds three
        for anchor, *near in groups:
            distance_m = pairwise_haversine_m(positions_deg[[anchor]], positions_deg[near])
            assert distance_m.max() <= RADIUS_M


def test_neighbours_are_among_the_k_nearest():
    positions_deg = town()
    sampler = neighbour_sampler(positions_deg, k=20)
    order = pairwise_haversine_m(positions_deg, positions_deg).argsort(axis=1)
    for anchor, *near in sampler.batch(0).reshape(-1, 4):
        assert set(near) <= set(order[anchor, 1:21].tolist())


def test_with_k_neighbours_they_are_exactly_the_nearest():
    positions_deg = town()
    sampler = neighbour_sampler(positions_deg, batch_size=4, k=3)
    order = pairwise_haversine_m(positions_deg, positions_deg).argsort(axis=1)
    for step in range(20):
        anchor, *near = sampler.batch(step)
        assert set(near) == set(order[anchor, 1:4].tolist())


def test_neighbours_are_drawn_uniformly():
    # One anchor with eight neighbours around it, far from all others: each should come along equally often.
    positions_deg = np.concatenate([[[52.0, 0.0]], [[52.0, 0.0001]] * 8, town(91)])
    sampler = neighbour_sampler(positions_deg, batch_size=3, neighbours_per_anchor=2)
    counts = np.zeros(100)
    for step in range(8000):
        rows = sampler.batch(step)
        if rows[0] == 0:
            counts[rows[1:]] += 1
    assert counts[1:9].sum() == counts.sum()
    expected = counts.sum() / 8
    assert np.abs(counts[1:9] - expected).max() < 5 * np.sqrt(expected)


def test_each_photograph_is_an_anchor_once_per_epoch():
    sampler = neighbour_sampler(batch_size=40, neighbours_per_anchor=3)  # 10 anchors a batch, 40 batches
    anchors = np.concatenate([sampler.batch(step).reshape(-1, 4)[:, 0] for step in range(40)])
    assert sorted(anchors.tolist()) == list(range(400))


def test_a_batch_has_far_more_close_pairs_than_a_random_one():
    positions_deg = town(2000) * 10.0 - [470.0, 0.0]  # 4 km across
    near, far = NeighbourBatchSampler(positions_deg, 64, radius_m=RADIUS_M), RandomBatchSampler(2000, 64)

    def close_pairs(sampler):
        total = 0
        for step in range(20):
            rows = sampler.batch(step)
            total += (pairwise_haversine_m(positions_deg[rows], positions_deg[rows]) < RADIUS_M).sum() - 64
        return total

    assert close_pairs(near) > 5 * close_pairs(far)


def test_without_neighbours_random_photographs_fill_the_batch():
    positions_deg = np.stack([np.linspace(40.0, 60.0, 50), np.zeros(50)], axis=1)
    sampler = neighbour_sampler(positions_deg, batch_size=20)
    rows = sampler.batch(0)
    assert len(set(rows.tolist())) == 20
    assert len(neighbour_sampler(positions_deg, batch_size=50).batch(0)) == 50


def test_districts_have_equally_many_anchors():
    positions_deg = town(400)
    regions = ["village"] * 21 + ["town"] * 81 + ["city"] * 297 + [None]  # threes: no batch straddles two epochs
    sampler = neighbour_sampler(
        positions_deg, batch_size=12, neighbours_per_anchor=0, regions=regions, balance_regions=True
    )
    for step in range(60):
        names = [regions[row] for row in sampler.batch(step)]
        for name in ("village", "town", "city"):
            # 12 anchors over four regions; the lone photograph without one can enter once, and a random one fills in.
            assert 3 <= names.count(name) <= 5


def test_a_balanced_district_uses_all_its_photographs():
    regions = ["a"] * 30 + ["b"] * 370
    sampler = neighbour_sampler(batch_size=20, neighbours_per_anchor=0, regions=regions, balance_regions=True)
    rows = np.concatenate([sampler.batch(step) for step in range(3)])
    assert sorted(rows[rows < 30].tolist()) == list(range(30))


@pytest.mark.parametrize("limit", [1, 2])
def test_photographs_of_one_position_are_limited(limit):
    positions_deg = town(400, headings=4)
    sampler = neighbour_sampler(positions_deg, max_per_position=limit)
    unlimited = 0
    for step in range(20):
        _, counts = np.unique(positions_deg[sampler.batch(step)], axis=0, return_counts=True)
        assert counts.max() <= limit
        _, counts = np.unique(positions_deg[neighbour_sampler(positions_deg).batch(step)], axis=0, return_counts=True)
        unlimited = max(unlimited, counts.max())
    assert unlimited > limit
    full = neighbour_sampler(positions_deg, batch_size=100 * limit, max_per_position=limit)
    assert len(set(full.batch(0).tolist())) == 100 * limit


def test_batches_of_a_large_data_set_are_filled_by_rejection():
    positions_deg = np.random.default_rng(0).uniform([-60.0, -180.0], [60.0, 180.0], (20_000, 2))
    sampler = NeighbourBatchSampler(positions_deg, 64, radius_m=10.0)
    rows = np.concatenate([sampler.batch(step) for step in range(100)])
    assert len(set(sampler.batch(0).tolist())) == 64
    # A quarter are anchors, each once; the rest is random over the whole collection, both halves alike.
    assert 0.45 < (rows < 10_000).mean() < 0.55


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 401}, "larger than the 400.*at most 400"),
        ({"batch_size": 0}, "batch size 0"),
        ({"world_size": 3}, "among 3 processes"),
        ({"rank": 2, "world_size": 2}, "rank 2"),
        ({"seed": -1}, "seed -1"),
        ({"neighbours_per_anchor": -1}, "neighbours_per_anchor -1"),
        ({"radius_m": None}, "either radius_m or k"),
        ({"radius_m": 5.0, "k": 5}, "either radius_m or k"),
        ({"radius_m": 0.0}, "radius_m 0.0"),
        ({"k": 0}, "k 0"),
        ({"balance_regions": True}, "pass regions"),
        ({"balance_regions": True, "regions": ["a"]}, "1 districts for 400"),
        ({"max_per_position": 0}, "max_per_position 0"),
        ({"positions_deg": town(400, headings=40), "max_per_position": 3}, "fill 30"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        neighbour_sampler(**options)
