"""Statistical summary of hand-made documents, and winners by district."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swclip.comparison.findings import (
    FIGURES,
    MIN_BLOCKS,
    claims,
    excludes_zero,
    statistical_summary,
    verdict,
    winners_by_district,
)
from swclip.metrics.bootstrap import resample_blocks

LESS = "\N{MINUS SIGN}"

GAIN = {"value": -20.0, "low": -30.0, "high": -10.0}

LOSS = {"value": 20.0, "low": 10.0, "high": 30.0}

NOTHING = {"value": -3.0, "low": -10.0, "high": 4.0}


def system(median: float, *, districts: dict[str, float] | None = None, seed_sd: float | None = None) -> dict[str, Any]:
    """A system of a document, with the keys that the summary reads."""
    constant = {"median": 500.0, "accuracy_within_m": {"25": 0.01}}
    oracle = {"median": 7.0, "accuracy_within_m": {"25": 0.95}}
    return {
        "mean": {
            "error_m": {"median": median},
            "accuracy_within_m": {"25": 0.5},
            "baselines": {"floor": oracle, "constant": constant},
            "by_region": {name: {"median": value} for name, value in (districts or {"all": median}).items()},
            "seeds": 1 if seed_sd is None else 3,
            "seed_sd": None if seed_sd is None else {"error_m": {"median": seed_sd}},
        }
    }


def difference(against: str, median: dict[str, Any], within_100: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A difference with the given figures; the others are not significant."""
    zero = {"value": 0.0, "low": -0.01, "high": 0.01}
    return {"from": against, **dict.fromkeys(FIGURES, zero), "median": median, "within_100": within_100, **more}


def document(systems: dict[str, Any], baseline: str = "clip", reference: str | None = "sw-clip") -> dict[str, Any]:
    return {"systems": systems, "baseline": baseline, "reference": reference, "made_with": {}}


@pytest.fixture
def made() -> dict[str, Any]:
    soft = {"value": 0.054, "low": 0.015, "high": 0.09}
    ours = system(90.0, districts={"Leeds": 120.0, "York": 60.0}) | {"difference": difference("clip", NOTHING, soft)}
    worse = {key: -value for key, value in soft.items()}
    worse["low"], worse["high"] = worse["high"], worse["low"]
    clip = system(93.0, districts={"Leeds": 80.0, "York": 130.0}) | {
        "difference_from_reference": difference("sw-clip", {"value": 3.0, "low": -4.0, "high": 10.0}, worse)
    }
    one_hot = system(110.0, districts={"Leeds": 130.0, "York": 90.0}) | {
        "difference": difference("clip", NOTHING, soft),
        "difference_from_reference": difference("sw-clip", LOSS, worse),
    }
    plus = system(12.0, districts={"Leeds": 14.0, "York": 10.0}) | {
        "difference": difference("clip", GAIN, soft),
        "difference_from_reference": difference("sw-clip", GAIN, worse),
    }
    near = system(600.0, districts={"Leeds": 700.0, "York": 500.0}) | {
        "difference": difference("clip", LOSS, worse),
        "difference_from_reference": difference("sw-clip", LOSS, worse),
    }
    return document(
        {"clip": clip, "sw-clip": ours, "sw-clip-one-hot": one_hot, "sw-clip-plus": plus, "nearest-neighbour": near}
    )


def test_claim_states_significant_and_other_figures_with_intervals(made: dict[str, Any]) -> None:
    first = statistical_summary(made)[0]
    start = (
        "sw-clip improves on one-hot CLIP: supported. Interval excludes 0: within 100 m +5.4 points [+1.5, +9.0]. Inter"
    )
    assert first.startswith(start)
    assert f"median {LESS}3.0 m [{LESS}10, +4.0]" in first


def test_ablation_is_a_claim_about_its_component(made: dict[str, Any]) -> None:
    sentence = next(
        text for text in statistical_summary(made) if text.startswith("Soft labels improve on one-hot labels")
    )
    assert (
        f"supported. Interval excludes 0: median {LESS}20 m [{LESS}30, {LESS}10], within 100 m +5.4 points [+1.5, +9.0]"
        in sentence
    )


def test_extension_of_the_reference_is_claimed_to_be_better(made: dict[str, Any]) -> None:
    sentence = next(text for text in statistical_summary(made) if text.startswith("sw-clip-plus improves on sw-clip:"))
    assert "mixed" in sentence
    assert f"within 100 m {LESS}5.4 points" in sentence


@pytest.mark.parametrize(
    ("median", "share", "expected"),
    [
        (GAIN, NOTHING, "supported"),
        (LOSS, NOTHING, "not supported, the opposite is significant"),
        (GAIN, {"value": -0.1, "low": -0.2, "high": -0.05}, "mixed"),
        (NOTHING, {"value": 0.1, "low": 0.0, "high": 0.2}, "not supported, no significant difference"),
        # Rounding of a share is not a difference.
        (NOTHING, {"value": 0.1, "low": 2e-17, "high": 0.2}, "not supported, no significant difference"),
    ],
)
def test_verdict(median: dict[str, float], share: dict[str, float], expected: str) -> None:
    systems = {"clip": system(90.0), "other": system(80.0) | {"difference": difference("clip", median, share)}}
    (claim,) = claims(document(systems, reference=None))
    assert verdict(claim) == expected
    assert statistical_summary(document(systems, reference=None))[0].startswith(
        f"other improves on one-hot CLIP: {expected}. "
    )


def test_reversed_difference_has_the_opposite_sign(made: dict[str, Any]) -> None:
    (claim,) = [claim for claim in claims(made) if claim.against == "sw-clip-one-hot"]
    there = made["systems"]["sw-clip-one-hot"]["difference_from_reference"]["median"]
    interval = claim.difference["median"]
    assert (interval["value"], interval["low"], interval["high"]) == (-there["value"], -there["high"], -there["low"])
    assert excludes_zero(interval) == excludes_zero(there)


def test_hardest_district_oracle_error_and_constant_baseline(made: dict[str, Any]) -> None:
    text = " ".join(statistical_summary(made))
    assert "The district with the largest median error is York for clip (130 m); Leeds for sw-clip (120 m)" in text
    assert "a median of 7.0 m, with 95.0 % within 25 m" in text
    assert "45.0 points below it" in text
    assert "Median errors of at most 2 times the median oracle error" in text
    assert "gains: sw-clip-plus (12 m)." in text
    assert "no better than the constant baseline (500 m): nearest-neighbour (600 m)" in text


def test_expected_false_positives_count_each_pair_once(made: dict[str, Any]) -> None:
    (sentence,) = [text for text in statistical_summary(made) if text.startswith("Of ")]
    # Four differences from clip and three from sw-clip; that of clip from sw-clip repeats the first. Significant are
    # one figure of sw-clip and of sw-clip-one-hot from clip, and two of each of the other five.
    assert sentence.startswith(f"Of {7 * len(FIGURES)} intervals of differences, 12 exclude 0")
    assert "about 2 would exclude it by chance" in sentence


def test_inconsistent_seeds_are_named() -> None:
    inconsistent = GAIN | {"by_seed": [-50.0, -15.0, 5.0]}
    systems = {
        "clip": system(90.0, seed_sd=2.0),
        "other": system(70.0, seed_sd=30.0) | {"difference": difference("clip", inconsistent, NOTHING)},
    }
    text = " ".join(statistical_summary(document(systems, reference=None)))
    assert (
        "The median error varies most over the seeds of other: standard deviation 30 m over 3 seeds, mean 70 m" in text
    )
    assert "with different signs in single seeds: median of other minus clip." in text
    one = statistical_summary(
        document({"clip": system(90.0), "other": systems["other"] | system(70.0)}, reference=None)
    )
    assert any("one seed of each system" in sentence for sentence in one)


def test_summary_of_one_system_has_its_notes() -> None:
    alone = document({"clip": system(90.0)}, reference=None) | {"made_with": {"notes": ["a and b are the same."]}}
    sentences = statistical_summary(alone)
    assert "a and b are the same." in sentences
    assert not any("improves on" in sentence or "district" in sentence for sentence in sentences)


DISTRICTS = ["Hull"] * 12 + ["Leeds"] * 30 + ["York"] * 30

BLOCKS = [f"b{row // 3}" for row in range(72)]  # Hull has 4 blocks, the others 10


def errors(seed: int, seeds: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).lognormal(4.0, 0.6, (seeds, 72))


@pytest.fixture(scope="module")
def winners() -> dict[str, Any]:
    systems = {"a": errors(0), "b": errors(1, 3), "c": errors(2, 1)}
    systems["a"][:, 42:] /= 4.0  # a is much better in York
    resampled = resample_blocks(BLOCKS, 200, np.random.default_rng(0))
    return {
        "systems": systems,
        "resampled": resampled,
        **winners_by_district(systems, DISTRICTS, BLOCKS, resampled, "b"),
    }


def test_winner_medians_and_ranks_equal_loops(winners: dict[str, Any]) -> None:
    for name, winner in winners["regions"].items():
        rows = [row for row in range(72) if DISTRICTS[row] == name]
        assert winner["n"] == len(rows)
        assert winner["blocks"] == len({BLOCKS[row] for row in rows})
        medians = {
            system: statistics.mean(statistics.median(run[row] for row in rows) for run in runs.tolist())
            for system, runs in winners["systems"].items()
        }
        assert winner["median"] == pytest.approx(medians)
        first, second, _ = sorted(medians, key=lambda system: medians[system])
        assert (winner["first"], winner["second"]) == (first, second)
        assert winner["gap"]["value"] == pytest.approx(medians[first] - medians[second])
        assert set(winner["difference"]) == {"a", "c"}


def test_winner_intervals_equal_loops(winners: dict[str, Any]) -> None:
    winner = winners["regions"]["York"]
    drawn = []
    for rows in winners["resampled"]:
        here = [row for row in rows.tolist() if DISTRICTS[row] == "York"]
        if here:
            medians = {
                system: statistics.mean(statistics.median(run[row] for row in here) for run in runs.tolist())
                for system, runs in winners["systems"].items()
            }
            drawn.append(medians["a"] - medians["b"])
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (winner["difference"]["a"]["low"], winner["difference"]["a"]["high"]) == pytest.approx((low, high))
    assert winner["first"] == "a"
    assert winner["gap"]["high"] < 0.0
    assert winners["wins"]["a"]["shown"] >= 1
    assert sum(count["regions"] for count in winners["wins"].values()) == 3


def test_district_with_few_blocks_has_no_interval(winners: dict[str, Any]) -> None:
    hull = winners["regions"]["Hull"]
    assert hull["blocks"] < MIN_BLOCKS <= winners["regions"]["York"]["blocks"]
    assert hull["gap"]["low"] is None
    assert hull["gap"]["high"] is None
    assert hull["difference"]["a"]["low"] is None
    assert hull["gap"]["value"] < 0.0, "the winner is stated without an interval"


def test_no_winner_for_one_system_or_a_tie() -> None:
    same = errors(3)
    resampled = resample_blocks(BLOCKS, 20, np.random.default_rng(0))
    alone = winners_by_district({"a": same}, DISTRICTS, BLOCKS, resampled, "a")
    tied = winners_by_district({"a": same, "b": same}, DISTRICTS, BLOCKS, resampled, "a")
    for winners in (alone, tied):
        assert all(winner["first"] is None and winner["gap"] is None for winner in winners["regions"].values())
        assert all(count == {"regions": 0, "shown": 0} for count in winners["wins"].values())


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
    assert straight["regions"] == turned["regions"]
    assert straight["wins"] == turned["wins"]
