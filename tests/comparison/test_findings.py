"""Statistical summary of hand-made documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from swclip.comparison.document import FIGURES, ComparisonDocument, Difference, System, SystemDifference, read_document
from swclip.comparison.findings import claims, statistical_summary, verdict
from swclip.comparison.mean_report import SeedDeviation

LESS = "\N{MINUS SIGN}"

GOLDEN = read_document(Path(__file__).with_name("golden_comparison.json"))
GAIN = Difference(value=-20.0, low=-30.0, high=-10.0)
LOSS = Difference(value=20.0, low=10.0, high=30.0)
NOTHING = Difference(value=-3.0, low=-10.0, high=4.0)


def system(
    median: float,
    *,
    districts: dict[str, float] | None = None,
    seed_sd: float | None = None,
    **differences: SystemDifference,
) -> System:
    """A system with these figures."""
    mean = GOLDEN.systems["sw-clip"].mean
    district, baselines = mean.by_region["York"], mean.baselines
    oracle = baselines.floor.model_copy(update={"median": 7.0, "accuracy_within_m": {"25": 0.95}})
    constant = baselines.constant.model_copy(update={"median": 500.0, "accuracy_within_m": {"25": 0.01}})
    medians = {"all": median} if districts is None else districts
    figures = {
        "error_m": mean.error_m.model_copy(update={"median": median}),
        "accuracy_within_m": {**mean.accuracy_within_m, "25": 0.5},
        "baselines": baselines.model_copy(update={"floor": oracle, "constant": constant}),
        "by_region": {name: district.model_copy(update={"median": value}) for name, value in medians.items()},
        "seeds": 1 if seed_sd is None else 3,
        "seed_sd": None if seed_sd is None else SeedDeviation(error_m={"median": seed_sd}, accuracy_within_m={}),
    }
    return System(seeds={}, mean=mean.model_copy(update=figures), **differences)


def difference(against: str, median: Difference, within_100: Difference) -> SystemDifference:
    """A difference with these figures; the others are not significant."""
    figures = dict.fromkeys(FIGURES, Difference(value=0.0, low=-0.01, high=0.01))
    return SystemDifference.model_validate({"from": against, **figures, "median": median, "within_100": within_100})


def document(
    systems: dict[str, System], reference: str | None = "sw-clip", made_with: dict[str, Any] | None = None
) -> ComparisonDocument:
    update = {"systems": systems, "baseline": "clip", "reference": reference, "made_with": made_with or {}}
    return GOLDEN.model_copy(update=update)


@pytest.fixture
def made() -> ComparisonDocument:
    soft = Difference(value=0.054, low=0.015, high=0.09)
    worse, little = soft.negated(), Difference(value=3.0, low=-4.0, high=10.0)
    return document(
        {
            "clip": system(
                93.0,
                districts={"Leeds": 80.0, "York": 130.0},
                difference_from_reference=difference("sw-clip", little, worse),
            ),
            "sw-clip": system(
                90.0, districts={"Leeds": 120.0, "York": 60.0}, difference=difference("clip", NOTHING, soft)
            ),
            "sw-clip-one-hot": system(
                110.0,
                districts={"Leeds": 130.0, "York": 90.0},
                difference=difference("clip", NOTHING, soft),
                difference_from_reference=difference("sw-clip", LOSS, worse),
            ),
            "sw-clip-plus": system(
                12.0,
                districts={"Leeds": 14.0, "York": 10.0},
                difference=difference("clip", GAIN, soft),
                difference_from_reference=difference("sw-clip", GAIN, worse),
            ),
            "nearest-neighbour": system(
                600.0,
                districts={"Leeds": 700.0, "York": 500.0},
                difference=difference("clip", LOSS, worse),
                difference_from_reference=difference("sw-clip", LOSS, worse),
            ),
        }
    )


def test_claim_states_significant_and_other_figures_with_intervals(made: ComparisonDocument) -> None:
    first = statistical_summary(made)[0]
    start = (
        "sw-clip improves on one-hot CLIP: supported. Interval excludes 0: within 100 m +5.4 points [+1.5, +9.0]. Inter"
    )
    assert first.startswith(start)
    assert f"median {LESS}3.0 m [{LESS}10, +4.0]" in first


def test_ablation_is_a_claim_about_its_component(made: ComparisonDocument) -> None:
    sentence = next(
        text for text in statistical_summary(made) if text.startswith("Soft labels improve on one-hot labels")
    )
    assert (
        f"supported. Interval excludes 0: median {LESS}20 m [{LESS}30, {LESS}10], within 100 m +5.4 points [+1.5, +9.0]"
        in sentence
    )


def test_extension_of_the_reference_is_claimed_to_be_better(made: ComparisonDocument) -> None:
    sentence = next(text for text in statistical_summary(made) if text.startswith("sw-clip-plus improves on sw-clip:"))
    assert "mixed" in sentence
    assert f"within 100 m {LESS}5.4 points" in sentence


@pytest.mark.parametrize(
    ("median", "share", "expected"),
    [
        (GAIN, NOTHING, "supported"),
        (LOSS, NOTHING, "not supported, the opposite is significant"),
        (GAIN, Difference(value=-0.1, low=-0.2, high=-0.05), "mixed"),
        (NOTHING, Difference(value=0.1, low=0.0, high=0.2), "not supported, no significant difference"),
        # Rounding of a share is not a difference.
        (NOTHING, Difference(value=0.1, low=2e-17, high=0.2), "not supported, no significant difference"),
    ],
)
def test_verdict(median: Difference, share: Difference, expected: str) -> None:
    systems = {"clip": system(90.0), "other": system(80.0, difference=difference("clip", median, share))}
    (claim,) = claims(document(systems, reference=None))
    assert verdict(claim) == expected
    assert statistical_summary(document(systems, reference=None))[0].startswith(
        f"other improves on one-hot CLIP: {expected}. "
    )


def test_reversed_difference_has_the_opposite_sign(made: ComparisonDocument) -> None:
    (claim,) = [claim for claim in claims(made) if claim.against == "sw-clip-one-hot"]
    there = made.from_reference["sw-clip-one-hot"].median
    assert claim.differences["median"] == there.negated()


def test_hardest_district_oracle_error_and_constant_baseline(made: ComparisonDocument) -> None:
    text = " ".join(statistical_summary(made))
    assert "The district with the largest median error is York for clip (130 m); Leeds for sw-clip (120 m)" in text
    assert "a median of 7.0 m, with 95.0 % within 25 m" in text
    assert "45.0 points below it" in text
    assert "Median errors of at most 2 times the median oracle error" in text
    assert "gains: sw-clip-plus (12 m)." in text
    assert "no better than the constant baseline (500 m): nearest-neighbour (600 m)" in text


def test_expected_false_positives_count_each_pair_once(made: ComparisonDocument) -> None:
    (sentence,) = [text for text in statistical_summary(made) if text.startswith("Of ")]
    # Four differences from clip and three from sw-clip; that of clip from sw-clip repeats the first. Significant are
    # one figure of sw-clip and of sw-clip-one-hot from clip, and two of each of the other five.
    assert sentence.startswith(f"Of {7 * len(FIGURES)} intervals of differences, 12 exclude 0")
    assert "about 2 would exclude it by chance" in sentence


def test_inconsistent_seeds_are_named() -> None:
    inconsistent = GAIN.model_copy(update={"by_seed": [-50.0, -15.0, 5.0]})
    systems = {
        "clip": system(90.0, seed_sd=2.0),
        "other": system(70.0, seed_sd=30.0, difference=difference("clip", inconsistent, NOTHING)),
    }
    text = " ".join(statistical_summary(document(systems, reference=None)))
    assert (
        "The median error varies most over the seeds of other: standard deviation 30 m over 3 seeds, mean 70 m" in text
    )
    assert "with different signs in single seeds: median of other minus clip." in text
    alone = {"clip": system(90.0), "other": system(70.0, difference=systems["other"].difference)}
    one = statistical_summary(document(alone, reference=None))
    assert any("one seed of each system" in sentence for sentence in one)


def test_summary_of_one_system_has_its_notes() -> None:
    alone = document({"clip": system(90.0)}, reference=None, made_with={"notes": ["a and b are the same."]})
    sentences = statistical_summary(alone)
    assert "a and b are the same." in sentences
    assert not any("improves on" in sentence or "district" in sentence for sentence in sentences)
