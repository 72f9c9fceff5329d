"""Who is ahead in each region: against plain medians and loops, ties, and regions too small to say."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swclip.comparison.findings import MIN_BLOCKS, region_winners
from swclip.metrics.bootstrap import resample_blocks

REGIONS = ["Hull"] * 12 + ["Leeds"] * 30 + ["York"] * 30
BLOCKS = [f"b{row // 3}" for row in range(72)]  # Hull has 4 blocks, the others 10


def errors(seed: int, seeds: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).lognormal(4.0, 0.6, (seeds, 72))


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    systems = {"a": errors(0), "b": errors(1, 3), "c": errors(2, 1)}
    systems["a"][:, 42:] /= 4.0  # a is far ahead in York
    resampled = resample_blocks(BLOCKS, 200, np.random.default_rng(0))
    return {"systems": systems, "resampled": resampled, **region_winners(systems, REGIONS, BLOCKS, resampled, "b")}


def test_medians_and_places_against_loops(found: dict[str, Any]) -> None:
    for name, own in found["regions"].items():
        rows = [row for row in range(72) if REGIONS[row] == name]
        assert own["n"] == len(rows)
        assert own["blocks"] == len({BLOCKS[row] for row in rows})
        medians = {
            system: statistics.mean(statistics.median(run[row] for row in rows) for run in runs.tolist())
            for system, runs in found["systems"].items()
        }
        assert own["median"] == pytest.approx(medians)
        first, second, _ = sorted(medians, key=lambda system: medians[system])
        assert (own["first"], own["second"]) == (first, second)
        assert own["gap"]["value"] == pytest.approx(medians[first] - medians[second])
        assert set(own["difference"]) == {"a", "c"}


def test_intervals_against_loops(found: dict[str, Any]) -> None:
    own = found["regions"]["York"]
    drawn = []
    for rows in found["resampled"]:
        here = [row for row in rows.tolist() if REGIONS[row] == "York"]
        if here:
            of = {
                system: statistics.mean(statistics.median(run[row] for row in here) for run in runs.tolist())
                for system, runs in found["systems"].items()
            }
            drawn.append(of["a"] - of["b"])
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (own["difference"]["a"]["low"], own["difference"]["a"]["high"]) == pytest.approx((low, high))
    assert own["first"] == "a"
    assert own["gap"]["high"] < 0.0
    assert found["wins"]["a"]["shown"] >= 1
    assert sum(of["regions"] for of in found["wins"].values()) == 3


def test_a_region_of_few_blocks_has_no_interval(found: dict[str, Any]) -> None:
    hull = found["regions"]["Hull"]
    assert hull["blocks"] < MIN_BLOCKS <= found["regions"]["York"]["blocks"]
    assert hull["gap"]["low"] is None
    assert hull["gap"]["high"] is None
    assert hull["difference"]["a"]["low"] is None
    assert hull["gap"]["value"] < 0.0, "who is ahead is said all the same"


def test_no_one_is_ahead_alone_or_in_a_tie() -> None:
    same = errors(3)
    resampled = resample_blocks(BLOCKS, 20, np.random.default_rng(0))
    alone = region_winners({"a": same}, REGIONS, BLOCKS, resampled, "a")
    tied = region_winners({"a": same, "b": same}, REGIONS, BLOCKS, resampled, "a")
    for found in (alone, tied):
        assert all(own["first"] is None and own["gap"] is None for own in found["regions"].values())
        assert all(own == {"regions": 0, "shown": 0} for own in found["wins"].values())


@given(st.integers(0, 2**32 - 1))
def test_the_order_of_queries_and_of_systems_does_not_matter(seed: int) -> None:
    order = np.random.default_rng(seed).permutation(72)
    a, b = errors(0), errors(1)
    straight = region_winners({"a": a, "b": b}, REGIONS, BLOCKS, [np.arange(72)], "a")
    turned = region_winners(
        {"b": b[:, order], "a": a[:, order]},
        [REGIONS[row] for row in order],
        [BLOCKS[row] for row in order],
        [np.arange(72)],
        "a",
    )
    assert straight["regions"] == turned["regions"]
    assert straight["wins"] == turned["wins"]
