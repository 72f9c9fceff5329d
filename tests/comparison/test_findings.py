"""The critical reading of documents made by hand: what it says follows from the numbers, whatever they are."""

from __future__ import annotations

from typing import Any

import pytest

from swclip.comparison.findings import FIGURES, claims, critical_reading, shown, verdict

LESS = "\N{MINUS SIGN}"
GAIN = {"value": -20.0, "low": -30.0, "high": -10.0}
LOSS = {"value": 20.0, "low": 10.0, "high": 30.0}
NOTHING = {"value": -3.0, "low": -10.0, "high": 4.0}


def system(median: float, *, regions: dict[str, float] | None = None, seed_sd: float | None = None) -> dict[str, Any]:
    """A system of a document, with only what a reading needs."""
    guess = {"median": 500.0, "accuracy_within_m": {"25": 0.01}}
    floor = {"median": 7.0, "accuracy_within_m": {"25": 0.95}}
    return {
        "mean": {
            "error_m": {"median": median},
            "accuracy_within_m": {"25": 0.5},
            "baselines": {"floor": floor, "constant": guess},
            "by_region": {name: {"median": value} for name, value in (regions or {"all": median}).items()},
            "seeds": 1 if seed_sd is None else 3,
            "seed_sd": None if seed_sd is None else {"error_m": {"median": seed_sd}},
        }
    }


def less(against: str, median: dict[str, Any], within_100: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A difference: the named figures, and nothing shown in the others."""
    zero = {"value": 0.0, "low": -0.01, "high": 0.01}
    return {"from": against, **dict.fromkeys(FIGURES, zero), "median": median, "within_100": within_100, **more}


def document(systems: dict[str, Any], baseline: str = "clip", reference: str | None = "sw-clip") -> dict[str, Any]:
    return {"systems": systems, "baseline": baseline, "reference": reference, "made_with": {}}


@pytest.fixture
def made() -> dict[str, Any]:
    soft = {"value": 0.054, "low": 0.015, "high": 0.09}
    ours = system(90.0, regions={"Leeds": 120.0, "York": 60.0}) | {"difference": less("clip", NOTHING, soft)}
    worse = {key: -value for key, value in soft.items()}
    worse["low"], worse["high"] = worse["high"], worse["low"]
    clip = system(93.0, regions={"Leeds": 80.0, "York": 130.0}) | {
        "difference_from_reference": less("sw-clip", {"value": 3.0, "low": -4.0, "high": 10.0}, worse)
    }
    one_hot = system(110.0, regions={"Leeds": 130.0, "York": 90.0}) | {
        "difference": less("clip", NOTHING, soft),
        "difference_from_reference": less("sw-clip", LOSS, worse),
    }
    plus = system(12.0, regions={"Leeds": 14.0, "York": 10.0}) | {
        "difference": less("clip", GAIN, soft),
        "difference_from_reference": less("sw-clip", GAIN, worse),
    }
    near = system(600.0, regions={"Leeds": 700.0, "York": 500.0}) | {
        "difference": less("clip", LOSS, worse),
        "difference_from_reference": less("sw-clip", LOSS, worse),
    }
    return document(
        {"clip": clip, "sw-clip": ours, "sw-clip-one-hot": one_hot, "sw-clip-plus": plus, "nearest-neighbour": near}
    )


def test_what_is_shown_and_what_is_not_is_said_with_its_interval(made: dict[str, Any]) -> None:
    first = critical_reading(made)[0]
    said = "sw-clip against one-hot CLIP: holds. Shown: within 100 m +5.4 points [+1.5, +9.0]; not shown"
    assert first.startswith(said)
    assert f"median {LESS}3.0 m [{LESS}10, +4.0]" in first


def test_a_part_that_is_left_out_is_read_the_other_way_round(made: dict[str, Any]) -> None:
    sentence = next(text for text in critical_reading(made) if text.startswith("Soft labels against one-hot labels"))
    assert f"holds. Shown: median {LESS}20 m [{LESS}30, {LESS}10], within 100 m +5.4 points [+1.5, +9.0]" in sentence


def test_something_built_on_the_reference_is_claimed_itself(made: dict[str, Any]) -> None:
    sentence = next(text for text in critical_reading(made) if text.startswith("sw-clip-plus against sw-clip:"))
    assert "mixed" in sentence
    assert f"within 100 m {LESS}5.4 points" in sentence


@pytest.mark.parametrize(
    ("median", "share", "expected"),
    [
        (GAIN, NOTHING, "holds"),
        (LOSS, NOTHING, "the reverse is shown"),
        (GAIN, {"value": -0.1, "low": -0.2, "high": -0.05}, "mixed"),
        (NOTHING, {"value": 0.1, "low": 0.0, "high": 0.2}, "no difference shown"),
        # The last bit of a share is not a difference.
        (NOTHING, {"value": 0.1, "low": 2e-17, "high": 0.2}, "no difference shown"),
    ],
)
def test_the_verdict_on_a_claim(median: dict[str, float], share: dict[str, float], expected: str) -> None:
    systems = {"clip": system(90.0), "mine": system(80.0) | {"difference": less("clip", median, share)}}
    (claim,) = claims(document(systems, reference=None))
    assert verdict(claim) == expected
    assert critical_reading(document(systems, reference=None))[0].startswith(f"mine against one-hot CLIP: {expected}. ")


def test_turning_a_difference_round_twice_changes_nothing(made: dict[str, Any]) -> None:
    (claim,) = [claim for claim in claims(made) if claim.against == "sw-clip-one-hot"]
    there = made["systems"]["sw-clip-one-hot"]["difference_from_reference"]["median"]
    own = claim.difference["median"]
    assert (own["value"], own["low"], own["high"]) == (-there["value"], -there["high"], -there["low"])
    assert shown(own) == shown(there)


def test_the_worst_region_the_floor_and_the_guess_are_named(made: dict[str, Any]) -> None:
    text = " ".join(critical_reading(made))
    assert "The region with the largest median is York for clip (130 m); Leeds for sw-clip (120 m)" in text
    assert "a median of 7.0 m and 95.0 % within 25 m" in text
    assert "which leaves 45.0 points" in text
    assert "Medians of at most 2 times the floor" in text
    assert "show: sw-clip-plus (12 m)." in text
    assert "no better than one guess for all (500 m): nearest-neighbour (600 m)" in text


def test_chance_is_counted_once_a_pair(made: dict[str, Any]) -> None:
    (sentence,) = [text for text in critical_reading(made) if text.startswith("Of ")]
    # Four differences from clip, three from sw-clip: that of clip from sw-clip is the first one again. Shown are one
    # figure of sw-clip and of sw-clip-one-hot from clip, and two of each of the other five.
    assert sentence.startswith(f"Of {7 * len(FIGURES)} intervals of differences 12 leave 0 out")
    assert "about 2 would by chance" in sentence


def test_seeds_that_disagree_are_named() -> None:
    torn = GAIN | {"by_seed": [-50.0, -15.0, 5.0]}
    systems = {
        "clip": system(90.0, seed_sd=2.0),
        "mine": system(70.0, seed_sd=30.0) | {"difference": less("clip", torn, NOTHING)},
    }
    text = " ".join(critical_reading(document(systems, reference=None)))
    assert "the median moves most for mine: standard deviation 30 m over 3 seeds, around 70 m" in text
    assert "not of one sign in every seed: median of mine less clip." in text
    one = critical_reading(document({"clip": system(90.0), "mine": systems["mine"] | system(70.0)}, reference=None))
    assert any("one seed of each system" in sentence for sentence in one)


def test_notes_are_passed_on_and_one_system_alone_can_be_read() -> None:
    alone = document({"clip": system(90.0)}, reference=None) | {"made_with": {"notes": ["a and b are the same."]}}
    sentences = critical_reading(alone)
    assert "a and b are the same." in sentences
    assert not any("against" in sentence or "region" in sentence for sentence in sentences)
