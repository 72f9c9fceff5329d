"""Far look-alikes: against nested loops, and which of them hold when."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.data.look_alikes import NOBODY, LookAlikes, Mined, far_look_alikes
from swclip.data.samplers import NeighbourBatchSampler
from swclip.errors import ArtefactError, ConfigError
from swclip.geo.distance import haversine_m


def _world(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors and places within about 300 m."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), np.array([52.2, 0.12]) + rng.random((count, 2)) * [0.0027, 0.0044]


def _loop(a: np.ndarray, a_deg: np.ndarray, p: np.ndarray, p_deg: np.ndarray, apart: np.ndarray, k: int) -> list[list]:
    """From the formula, one pair at a time."""
    found = []
    for own, place, radius in zip(a, a_deg, apart, strict=True):
        far = [
            (-float(np.dot(own, other)), j)
            for j, (other, there) in enumerate(zip(p, p_deg, strict=True))
            if float(haversine_m(*map(np.float64, (*place, *there)))) > radius
        ]
        found.append([j for _, j in sorted(far)[:k]])
    return found


@pytest.mark.parametrize("rows_at_once", [1, 7, 1000])
def test_look_alikes_equal_a_loop(monkeypatch: pytest.MonkeyPatch, rows_at_once: int) -> None:
    monkeypatch.setattr("swclip.data.look_alikes._ROWS_AT_ONCE", rows_at_once)
    vectors, places = _world(0, 40)
    asked = np.arange(0, 40, 3)
    apart = np.random.default_rng(1).uniform(50.0, 330.0, len(asked))
    which, similarity = far_look_alikes(vectors[asked], places[asked], vectors, places, apart, 6)
    oracle = _loop(vectors[asked], places[asked], vectors, places, apart, 6)
    assert [[j for j in row if j != NOBODY] for row in which.tolist()] == oracle
    assert {len(row) for row in oracle} >= {6}, "some have as many as were asked for"
    assert min(map(len, oracle)) < 6, "and some have fewer"
    for row, own, of in zip(which, similarity, asked, strict=True):
        there = row != NOBODY
        np.testing.assert_allclose(own[there], vectors[row[there]] @ vectors[of], atol=1e-6)
        assert (own[~there] == -np.inf).all()


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000), data=st.data())
def test_the_order_of_the_pool_does_not_matter(seed: int, data: st.DataObject) -> None:
    vectors, places = _world(seed, 15)
    order = np.array(data.draw(st.permutations(range(15))))
    apart = np.full(15, 120.0)
    ours, _ = far_look_alikes(vectors, places, vectors, places, apart, 4)
    theirs, _ = far_look_alikes(vectors, places, vectors[order], places[order], apart, 4)
    np.testing.assert_array_equal(np.where(theirs == NOBODY, NOBODY, order[theirs]), ours)


def test_the_table_that_holds_is_that_of_the_step_and_survives_a_checkpoint() -> None:
    kept = LookAlikes()
    assert kept.at(100) is None
    assert kept.state() == {}
    for first in (11, 21, 31):
        kept.put(Mined(first, np.array([0, 4]), np.array([[first, 2], [3, NOBODY]])))
    again = LookAlikes()
    again.restore(kept.state())
    for one in (kept, again):
        assert one.at(20) is None, "that of step 11 has gone: no batch before step 21 is to come"
        for step, first in ((21, 21), (30, 21), (31, 31), (500, 31)):
            held = one.at(step)
            assert held is not None
            assert held.first_step == first
            assert held.of(0).tolist() == [first, 2]
            assert held.of(4).tolist() == [3]
            assert held.of(2).tolist() == held.of(9).tolist() == []
    with pytest.raises(ArtefactError, match=r"0\.rows"):
        LookAlikes().restore({name: value for name, value in kept.state().items() if name != "0.rows"})


def _sampler(look_alikes: LookAlikes, hard_share: float = 0.25, **options: int) -> NeighbourBatchSampler:
    _, places = _world(3, 300)
    return NeighbourBatchSampler(
        places, 40, radius_m=60.0, hard_share=hard_share, look_alikes=look_alikes, seed=5, **options
    )


def _mined(first_step: int, count: int = 300, k: int = 8) -> Mined:
    vectors, places = _world(3, count)
    which, _ = far_look_alikes(vectors, places, vectors, places, np.full(count, 150.0), k)
    return Mined(first_step, np.arange(count), which)


def test_a_batch_holds_its_share_of_look_alikes_of_its_anchors() -> None:
    look_alikes, mined = LookAlikes(), _mined(4)
    sampler = _sampler(look_alikes)
    before = sampler.global_batch(5)
    look_alikes.put(mined)
    for step in (4, 5, 37):
        rows = sampler.global_batch(step)
        assert len(set(rows.tolist())) == 40
        anchors = sampler.anchors(step, 1)
        assert len(anchors) == 8, "a quarter of 40 is kept for look-alikes, and an anchor has 3 neighbours"
        assert set(anchors.tolist()) <= set(rows.tolist())
        drawn = rows[30:]
        alike = {int(other) for anchor in anchors for other in mined.of(int(anchor))}
        assert set(drawn.tolist()) <= alike
        # One each in turn: 10 look-alikes of 8 anchors, so that every anchor has one or two.
        assert not set(rows[:30].tolist()) & set(drawn.tolist())
    np.testing.assert_array_equal(sampler.global_batch(3), _sampler(LookAlikes()).global_batch(3))
    assert set(before.tolist()) != set(sampler.global_batch(5).tolist())


def test_without_a_share_the_batches_are_what_they_were() -> None:
    full, plain = LookAlikes(), _sampler(LookAlikes(), 0.0)
    full.put(_mined(0))
    for step in range(5):
        np.testing.assert_array_equal(_sampler(full, 0.0).global_batch(step), plain.global_batch(step))


def test_where_look_alikes_run_out_others_fill_the_batch() -> None:
    look_alikes = LookAlikes()
    look_alikes.put(Mined(0, np.array([0]), np.array([[NOBODY]])))
    rows = _sampler(look_alikes).global_batch(2)
    assert len(set(rows.tolist())) == 40


@settings(deadline=None, max_examples=40)
@given(share=st.floats(0.0, 0.99), size=st.integers(1, 60), neighbours=st.integers(0, 5), step=st.integers(0, 99))
def test_a_batch_has_its_size_whatever_the_share(share: float, size: int, neighbours: int, step: int) -> None:
    look_alikes = LookAlikes()
    look_alikes.put(_mined(0, count=60))
    _, places = _world(3, 60)
    sampler = NeighbourBatchSampler(
        places, size, neighbours_per_anchor=neighbours, k=4, hard_share=share, look_alikes=look_alikes
    )
    rows = sampler.global_batch(step)
    assert len(set(rows.tolist())) == len(rows) == size


def test_processes_share_a_batch_with_look_alikes() -> None:
    look_alikes = LookAlikes()
    look_alikes.put(_mined(0))
    whole = _sampler(look_alikes).global_batch(7)
    parts = [_sampler(look_alikes, rank=rank, world_size=2).batch(7) for rank in range(2)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_shares_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"hard_share 1\.0"):
        _sampler(LookAlikes(), 1.0)
    with pytest.raises(ConfigError, match="needs look_alikes"):
        NeighbourBatchSampler([[0.0, 0.0]] * 4, 2, radius_m=1.0, hard_share=0.5)
