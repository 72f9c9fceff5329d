"""Distinct places, the distance to the k-th nearest place, and samples that keep neighbours."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swclip.errors import ConfigError
from swclip.geo import places as places_module
from swclip.geo.coordinates import LocalFrame
from swclip.geo.distance import pairwise_haversine_m
from swclip.geo.places import distinct_places, kth_place_m, place_leaders, sample_with_neighbours


def town(seed: int, n: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    metres = rng.uniform(0, 40, (n, 2))
    metres[n // 2 :] = metres[rng.integers(0, max(1, n // 2), n - n // 2)]  # headings of one panorama
    return LocalFrame(52.2, 0.12).to_deg(metres)


@given(seed=st.integers(0, 10_000), n=st.integers(1, 40), within=st.sampled_from([0.0, 1.0, 5.0]))
def test_distinct_places_match_the_greedy_rule(seed: int, n: int, within: float) -> None:
    positions = town(seed, n)
    places = distinct_places(positions, within)
    distance = pairwise_haversine_m(positions, positions)
    selected: list[int] = []
    for i in range(n):  # the greedy rule in a plain loop
        if all(distance[i, j] > within + 1e-6 and not np.array_equal(positions[i], positions[j]) for j in selected):
            selected.append(i)
    assert places.tolist() == selected


@given(
    seed=st.integers(0, 10_000), n=st.integers(1, 60), within=st.sampled_from([0.0, 1.0, 8.0, 100.0]),
    rows=st.integers(1, 20), pairs=st.integers(1, 100),
)  # fmt: skip
def test_each_position_belongs_to_the_first_leader_within_reach(
    seed: int, n: int, within: float, rows: int, pairs: int
) -> None:
    positions = town(seed, n)
    distance = pairwise_haversine_m(positions, positions)
    leader: list[int] = []
    for i in range(n):
        near = [j for j in range(i) if leader[j] == j and distance[i, j] <= within + 1e-6]
        leader.append(near[0] if near else i)
    with pytest.MonkeyPatch.context() as patch:  # blocks so small that the data fill many
        patch.setattr(places_module, "_ROWS_AT_ONCE", rows)
        patch.setattr(places_module, "_PAIRS_AT_ONCE", pairs)
        assert place_leaders(positions, within).tolist() == leader


@given(seed=st.integers(0, 10_000), n=st.integers(2, 30), k=st.integers(1, 6))
def test_kth_place_matches_pairwise_distances(seed: int, n: int, k: int) -> None:
    positions = town(seed, n)
    kth_m = kth_place_m(positions, k)
    places = positions[distinct_places(positions)]
    if len(places) == 1:
        assert np.isinf(kth_m).all()
        return
    for i in range(n):
        distances_m = np.sort(pairwise_haversine_m(positions[i : i + 1], places)[0])
        assert kth_m[i] == pytest.approx(distances_m[min(k, len(places) - 1)], abs=1e-4)


def test_kth_place_in_a_street_of_panoramas() -> None:
    """Places are 10 m apart on a line, with four headings each: in the middle two are 10 m away, the third is 20 m."""
    positions = LocalFrame(0.0, 0.0).to_deg(np.repeat(np.stack([np.arange(9) * 10.0, np.zeros(9)], 1), 4, axis=0))
    assert len(distinct_places(positions)) == 9
    for k, metres in ((1, 10.0), (2, 10.0), (3, 20.0), (4, 20.0)):
        assert kth_place_m(positions, k)[16:20] == pytest.approx([metres] * 4, rel=1e-3)
    assert kth_place_m(positions, 3)[0] == pytest.approx(30.0, rel=1e-3)
    with pytest.raises(ConfigError, match="k is 1 or more"):
        kth_place_m(positions, 0)


def test_sample_keeps_neighbours() -> None:
    metres = np.random.default_rng(0).uniform(0, 20_000, (20_000, 2))
    positions = LocalFrame(52.2, 0.12).to_deg(metres)
    rows = sample_with_neighbours(positions, 1_000, np.random.default_rng(1))
    repeated = sample_with_neighbours(positions, 1_000, np.random.default_rng(1))
    np.testing.assert_array_equal(rows, repeated)
    assert len(rows) == len(set(rows.tolist())) == 1_000
    assert (np.diff(rows) > 0).all()
    full, sampled = kth_place_m(positions, 1), kth_place_m(positions[rows], 1)
    uniform = kth_place_m(positions[np.random.default_rng(2).permutation(20_000)[:1_000]], 1)
    # Half of the sample is as near to its neighbours as all photographs are; the other half is not.
    assert np.quantile(sampled, 0.25) < 0.5 * np.quantile(uniform, 0.25)
    assert np.quantile(sampled, 0.25) == pytest.approx(np.quantile(full, 0.5), rel=0.2)
    np.testing.assert_array_equal(sample_with_neighbours(positions[:50], 50, np.random.default_rng(0)), np.arange(50))
    assert len(sample_with_neighbours(positions[:50], 3, np.random.default_rng(0))) <= 3
