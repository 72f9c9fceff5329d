"""Agreement and query changes: hand-made examples, loops and symmetry."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swclip.comparison.query_changes import agreement, changes_between_seeds, log_ratio, query_changes, query_table

N = 40
FRAME = pd.DataFrame(
    {
        "image_id": [f"q{row:02d}" for row in range(N)],
        "lat_deg": np.linspace(53.0, 53.1, N),
        "lon_deg": np.linspace(-1.0, -1.1, N),
        "city": "York",
        "region": ["York", "Leeds"] * (N // 2),
        "block": "b",
        "floor_m": 1.0,
    }
)


def errors(seed: int, seeds: int) -> np.ndarray:
    return np.random.default_rng(seed).lognormal(4.0, 1.5, (seeds, N))


@pytest.mark.parametrize("radius", [25, 100])
def test_agreement_equals_a_loop_over_pairs_of_seeds(radius: int) -> None:
    a, b = errors(0, 3), errors(1, 2)
    count = {"both": 0, "only_first": 0, "only_second": 0, "neither": 0}
    for run_a in a.tolist():
        for run_b in b.tolist():
            for x, y in zip(run_a, run_b, strict=True):
                kind = {(1, 1): "both", (1, 0): "only_first", (0, 1): "only_second", (0, 0): "neither"}
                count[kind[x <= radius, y <= radius]] += 1
    found = agreement(a, b, radius)
    assert dict(found) == pytest.approx({key: value / (6 * N) for key, value in count.items()})
    assert sum(dict(found).values()) == pytest.approx(1.0)
    turned = agreement(b, a, radius)
    assert (turned.both, turned.only_first) == pytest.approx((found.both, found.only_second))


def test_radius_is_inclusive() -> None:
    assert agreement(np.array([[100.0]]), np.array([[100.1]]), 100.0).only_first == 1.0


def test_query_changes_equal_sorting() -> None:
    systems = {"a": errors(0, 3), "b": errors(1, 1)}
    found = query_changes(FRAME, systems, "a", "b")
    typical = {
        name: [statistics.median(column) for column in of_system.T.tolist()] for name, of_system in systems.items()
    }
    ratio = [math.log(max(x, 10.0) / max(y, 10.0)) for x, y in zip(typical["a"], typical["b"], strict=True)]
    order = sorted(range(N), key=lambda row: ratio[row])
    assert [row.image_id for row in found.gains] == [f"q{row:02d}" for row in order[:10]]
    assert [row.image_id for row in found.losses] == [f"q{row:02d}" for row in order[::-1][:10]]
    best = found.gains[0]
    assert best.error_m == pytest.approx(typical["a"][order[0]])
    assert best.against_m == pytest.approx(typical["b"][order[0]])
    assert best.change_m == pytest.approx(best.error_m - best.against_m)
    assert best.times == pytest.approx(math.exp(-ratio[order[0]]))
    assert best.region == ("York", "Leeds")[order[0] % 2]
    halved = [
        max(x, 10.0) <= 0.5 * max(y, 10.0)
        for run in systems["a"].tolist()
        for x, y in zip(run, systems["b"][0].tolist(), strict=True)
    ]
    assert found.nearer == pytest.approx(statistics.mean(halved))


def test_errors_below_ten_metres_are_equal_and_factor_is_inclusive() -> None:
    a, b = np.array([[1.0, 20.0, 40.0]]), np.array([[9.0, 10.0, 80.0]])
    frame = FRAME.iloc[:3]
    found = query_changes(frame, {"a": a, "b": b}, "a", "b")
    assert [row.image_id for row in found.gains] == ["q02"]
    assert [row.image_id for row in found.losses] == ["q01"]
    assert (found.nearer, found.farther) == pytest.approx((1 / 3, 1 / 3))
    assert log_ratio(np.array([9.0]), np.array([1.0])).tolist() == [0.0]


@given(st.integers(0, 1000), st.integers(1, 3), st.integers(1, 3))
def test_reversed_pair_swaps_gains_and_losses(seed: int, s: int, t: int) -> None:
    systems = {"a": errors(seed, s), "b": errors(seed + 1, t)}
    there, back = query_changes(FRAME, systems, "a", "b"), query_changes(FRAME, systems, "b", "a")
    assert (there.nearer, there.farther) == (back.farther, back.nearer)
    assert [row.image_id for row in there.gains] == [row.image_id for row in back.losses]
    assert [row.change_m for row in there.losses] == [-row.change_m for row in back.gains]


def test_changes_between_seeds_is_the_mean_over_ordered_pairs() -> None:
    seeds = errors(4, 3)
    shares = [
        statistics.mean(
            max(x, 10.0) <= 0.5 * max(y, 10.0) for x, y in zip(seeds[s].tolist(), seeds[t].tolist(), strict=True)
        )
        for s in range(3)
        for t in range(3)
        if s != t
    ]
    assert changes_between_seeds(seeds) == pytest.approx(statistics.mean(shares))
    assert changes_between_seeds(seeds[:1]) is None


def test_query_table_has_every_query_once_and_largest_changes_first() -> None:
    systems = {"base": errors(0, 1), "other": errors(1, 2)}
    table = query_table(FRAME, systems, {"base": ["0"], "other": ["0", "7"]}, "base")
    assert sorted(table["image_id"]) == FRAME["image_id"].tolist()
    assert list(table.columns[7:]) == [
        "base_error_m",
        "other_error_m",
        "other_seed_0_error_m",
        "other_seed_7_error_m",
        "other_change_m",
    ]
    row = {image_id: at for at, image_id in enumerate(FRAME["image_id"])}
    for line in table.itertuples():
        assert line.base_error_m == systems["base"][0, row[line.image_id]]
        assert line.other_change_m == pytest.approx(line.other_error_m - line.base_error_m)
    changes = np.abs(log_ratio(table["other_error_m"].to_numpy(), table["base_error_m"].to_numpy()))
    assert (np.diff(changes) <= 1e-12).all()
