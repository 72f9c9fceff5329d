"""Means over seeds, differences, the best system by district, and the console table."""

from __future__ import annotations

import json
import statistics
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swclip.comparison.compare import MIN_BLOCKS, compare, winners_by_district
from swclip.comparison.comparison import Comparison
from swclip.comparison.document import Winners, Wins
from swclip.comparison.tables import console_table
from swclip.errors import ConfigError, MismatchError
from swclip.metrics.bootstrap import BlockResamples, resample_blocks


@pytest.fixture(scope="module")
def comparison(made_up: Any) -> Comparison:
    systems = {"clip": {"spread_m": 90.0, "lost_share": 0.3}, "sw-clip": {"spread_m": 20.0, "lost_share": 0.05}}
    runs = {
        name: {seed: made_up(1, system=10 * at + seed, **options) for seed in (1, 2)}
        for at, (name, options) in enumerate(systems.items())
    }
    return compare(runs, {"swclip": "0.1.0"}, resamples=200)


def test_document_has_the_documented_keys(comparison: Comparison) -> None:
    document = comparison.document.as_dict()
    assert set(document["systems"]) == {"clip", "sw-clip"}
    assert document["made_with"] == {"swclip": "0.1.0"}
    for system in document["systems"].values():
        assert set(system["seeds"]) == {"1", "2"}
        for report in (*system["seeds"].values(), system["mean"]):
            assert {"n_queries", "gallery_size", "error_m", "accuracy_within_m", "recall_at_k_25m"} <= set(report)
            assert {"baselines", "by_region", "intervals"} <= set(report)
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_means_over_seeds(comparison: Comparison) -> None:
    for name, system in comparison.document.as_dict()["systems"].items():
        for group, key in (("error_m", "median"), ("accuracy_within_m", "100"), ("recall_at_k_25m", "5")):
            values = [report[group][key] for report in system["seeds"].values()]
            assert system["mean"][group][key] == pytest.approx(sum(values) / len(values))
        medians = [float(np.median(errors)) for errors in comparison.errors_m(name)]
        assert system["mean"]["seed_sd"]["error_m"]["median"] == pytest.approx(np.std(medians, ddof=1))
        low, high = system["mean"]["intervals"]["error_m"]["median"]
        assert low <= system["mean"]["error_m"]["median"] <= high


def test_difference_from_the_baseline(comparison: Comparison) -> None:
    systems = comparison.document.systems
    assert systems["clip"].difference is None
    difference = systems["sw-clip"].difference
    assert difference is not None
    assert difference.against == "clip"
    expected = systems["sw-clip"].mean.error_m.median - systems["clip"].mean.error_m.median
    assert difference.median.value == pytest.approx(expected)
    assert difference.median.high < 0.0  # four times sharper scores


def test_console_table(comparison: Comparison) -> None:
    title, columns, rows = console_table(comparison.document)
    assert "mean of 2 seeds" in title
    assert {len(row) for row in rows} == {len(columns)}
    assert [row[0] for row in rows] == ["clip", "sw-clip", "(oracle error)", "(random baseline)"]
    assert rows[0][-1] == ""
    assert rows[1][-1].startswith("-")


def test_systems_with_different_queries_raise(made_up: Any) -> None:
    with pytest.raises(MismatchError, match="one manifest"):
        compare({"a": {0: made_up(1)}, "b": {0: made_up(1, per_city=64)}}, {})


def test_empty_comparison_raises(made_up: Any) -> None:
    with pytest.raises(ConfigError, match="at least one system"):
        compare({}, {})
    with pytest.raises(ConfigError, match="at least one seed"):
        compare({"a": {}}, {})
    with pytest.raises(ConfigError, match="'b'"):
        compare({"a": {0: made_up(1)}}, {}, baseline="b")


DISTRICTS = ["Hull"] * 12 + ["Leeds"] * 30 + ["York"] * 30

BLOCKS = [f"b{row // 3}" for row in range(72)]  # Hull has 4 blocks, the others 10


def errors(seed: int, seeds: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).lognormal(4.0, 0.6, (seeds, 72))


@pytest.fixture(scope="module")
def errors_m() -> dict[str, np.ndarray]:
    systems = {"a": errors(0), "b": errors(1, 3), "c": errors(2, 1)}
    systems["a"][:, 42:] /= 4.0  # a is much better in York
    return systems


@pytest.fixture(scope="module")
def resampled() -> BlockResamples:
    return resample_blocks(BLOCKS, 200, np.random.default_rng(0))


@pytest.fixture(scope="module")
def winners(errors_m: dict[str, np.ndarray], resampled: BlockResamples) -> Winners:
    return winners_by_district(errors_m, DISTRICTS, BLOCKS, resampled, "b")


def test_winner_medians_and_ranks_equal_loops(winners: Winners, errors_m: dict[str, np.ndarray]) -> None:
    for name, winner in winners.regions.items():
        rows = [row for row in range(72) if DISTRICTS[row] == name]
        assert winner.n == len(rows)
        assert winner.blocks == len({BLOCKS[row] for row in rows})
        medians = {
            system: statistics.mean(statistics.median(run[row] for row in rows) for run in runs.tolist())
            for system, runs in errors_m.items()
        }
        assert winner.median == pytest.approx(medians)
        first, second, _ = sorted(medians, key=lambda system: medians[system])
        assert (winner.first, winner.second) == (first, second)
        assert winner.gap.value == pytest.approx(medians[first] - medians[second])
        assert set(winner.difference) == {"a", "c"}


def test_winner_intervals_equal_loops(
    winners: Winners, errors_m: dict[str, np.ndarray], resampled: BlockResamples
) -> None:
    winner = winners.regions["York"]
    drawn = []
    for rows in resampled:
        here = [row for row in rows.tolist() if DISTRICTS[row] == "York"]
        if here:
            medians = {
                system: statistics.mean(statistics.median(run[row] for row in here) for run in runs.tolist())
                for system, runs in errors_m.items()
            }
            drawn.append(medians["a"] - medians["b"])
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (winner.difference["a"].low, winner.difference["a"].high) == pytest.approx((low, high))
    assert winner.first == "a"
    assert winner.gap.high < 0.0
    assert winners.wins["a"].shown >= 1
    assert sum(count.regions for count in winners.wins.values()) == 3


def test_district_with_few_blocks_has_no_interval(winners: Winners) -> None:
    hull = winners.regions["Hull"]
    assert hull.blocks < MIN_BLOCKS <= winners.regions["York"].blocks
    assert hull.gap.low is None
    assert hull.gap.high is None
    assert hull.difference["a"].low is None
    assert hull.gap.value < 0.0, "the winner is stated without an interval"


def test_no_winner_for_one_system_or_a_tie() -> None:
    same = errors(3)
    resampled = resample_blocks(BLOCKS, 20, np.random.default_rng(0))
    alone = winners_by_district({"a": same}, DISTRICTS, BLOCKS, resampled, "a")
    tied = winners_by_district({"a": same, "b": same}, DISTRICTS, BLOCKS, resampled, "a")
    for winners in (alone, tied):
        assert all(winner.first is None and winner.gap is None for winner in winners.regions.values())
        assert all(count == Wins(regions=0, shown=0) for count in winners.wins.values())


@given(st.integers(0, 2**32 - 1))
def test_winners_do_not_depend_on_order(seed: int) -> None:
    order = np.random.default_rng(seed).permutation(72)
    a, b = errors(0), errors(1)
    straight = winners_by_district({"a": a, "b": b}, DISTRICTS, BLOCKS, [np.arange(72)], "a")
    turned = winners_by_district(
        {"b": b[:, order], "a": a[:, order]},
        [DISTRICTS[row] for row in order],
        [BLOCKS[row] for row in order],
        [np.arange(72)],
        "a",
    )
    assert straight.regions == turned.regions
    assert straight.wins == turned.wins
