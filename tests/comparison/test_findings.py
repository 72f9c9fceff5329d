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
GAIN = Difference(value=-20.0, low=-30.0, high=-10.0, p=0.002)
LOSS = Difference(value=20.0, low=10.0, high=30.0, p=0.002)
NOTHING = Difference(value=-3.0, low=-10.0, high=4.0, p=0.5)
MORE = Difference(value=0.1, low=0.05, high=0.2, p=0.002)
FEWER = MORE.negated()
EQUAL = Difference(value=0.0, low=-0.01, high=0.01, p=1.0)


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


def difference(
    against: str, median: Difference, within_100: Difference, within_25: Difference = EQUAL
) -> SystemDifference:
    """A difference with these figures; the others are not significant."""
    figures = {**dict.fromkeys(FIGURES, EQUAL), "median": median, "within_25": within_25, "within_100": within_100}
    return SystemDifference.model_validate({"from": against, **figures})


def document(
    systems: dict[str, System], reference: str | None = "sw-clip", made_with: dict[str, Any] | None = None
) -> ComparisonDocument:
    update = {"systems": systems, "baseline": "clip", "reference": reference, "made_with": made_with or {}}
    return GOLDEN.model_copy(update=update)


@pytest.fixture
def made() -> ComparisonDocument:
    soft = Difference(value=0.054, low=0.015, high=0.09, p=0.01)
    worse, little = soft.negated(), Difference(value=3.0, low=-4.0, high=10.0, p=0.5)
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


def test_claim_states_primary_and_other_figures_with_intervals(made: ComparisonDocument) -> None:
    first = statistical_summary(made)[0]
    assert first.startswith(
        "sw-clip improves on one-hot CLIP: not supported, no significant gain in the median or within 25 m. Primary "
        f"figures: median {LESS}3.0 m ({LESS}3.2 % of 93 m) [{LESS}10, +4.0], corrected p = 1.00; within 25 m"
    )
    assert "Interval excludes 0: within 100 m +5.4 points [+1.5, +9.0]. Interval includes 0: mean" in first


def test_ablation_is_a_claim_about_its_component(made: ComparisonDocument) -> None:
    sentence = next(
        text for text in statistical_summary(made) if text.startswith("Soft labels improve on one-hot labels")
    )
    assert (
        f"supported. Primary figures: median {LESS}20 m ({LESS}18.2 % of 110 m) [{LESS}30, {LESS}10], corr" in sentence
    )


def test_extension_of_the_reference_is_claimed_to_be_better(made: ComparisonDocument) -> None:
    sentence = next(text for text in statistical_summary(made) if text.startswith("sw-clip-plus improves on sw-clip:"))
    assert "mixed, within 100 m is worse" in sentence
    assert f"within 100 m {LESS}5.4 points" in sentence


NO_GAIN = "not supported, no significant gain in the median or within 25 m"


@pytest.mark.parametrize(
    ("median", "within_25", "within_100", "expected"),
    [
        pytest.param(GAIN, EQUAL, EQUAL, "supported", id="median"),
        pytest.param(NOTHING, MORE, EQUAL, "supported", id="share"),
        pytest.param(GAIN, MORE, MORE, "supported", id="all"),
        pytest.param(LOSS, EQUAL, EQUAL, "not supported, the opposite is significant", id="opposite"),
        pytest.param(GAIN, FEWER, EQUAL, "mixed, within 25 m is worse", id="primary figures disagree"),
        pytest.param(
            GAIN,
            Difference(value=-0.03, low=-0.08, high=0.02, p=0.3),
            EQUAL,
            "mixed, within 25 m is worse",
            id="a relevant primary loss need not be significant",
        ),
        pytest.param(GAIN, EQUAL, FEWER, "mixed, within 100 m is worse", id="another figure loses"),
        pytest.param(NOTHING, EQUAL, MORE, NO_GAIN, id="gains of other figures are not enough"),
        # p = 0.03 is significant alone, but not as one of two primary figures.
        pytest.param(GAIN.model_copy(update={"p": 0.03}), EQUAL, EQUAL, NO_GAIN, id="corrected"),
        pytest.param(
            Difference(value=-2.0, low=-3.0, high=-1.0, p=0.002),
            EQUAL,
            EQUAL,
            "not supported, the significant gain is too small to matter",
            id="2 m of 90 m",
        ),
        pytest.param(
            NOTHING,
            Difference(value=0.004, low=0.002, high=0.006, p=0.002),
            EQUAL,
            "not supported, the significant gain is too small to matter",
            id="0.4 points",
        ),
        # Documents without p-values, and rounding of a share.
        pytest.param(GAIN.model_copy(update={"p": None}), EQUAL, EQUAL, NO_GAIN, id="no p-value"),
        pytest.param(NOTHING, Difference(value=0.1, low=2e-17, high=0.2, p=0.06), EQUAL, NO_GAIN, id="rounding"),
    ],
)
def test_verdict(median: Difference, within_25: Difference, within_100: Difference, expected: str) -> None:
    found = difference("clip", median, within_100, within_25)
    systems = {"clip": system(90.0), "other": system(80.0, difference=found)}
    (claim,) = claims(document(systems, reference=None))
    assert verdict(claim) == expected
    assert statistical_summary(document(systems, reference=None))[0].startswith(
        f"other improves on one-hot CLIP: {expected}. "
    )


def test_two_kilometres_of_four_thousand_are_no_gain() -> None:
    found = difference("clip", Difference(value=-2_526.0, low=-3_000.0, high=-2_000.0, p=0.002), EQUAL)
    systems = {"clip": system(4_551_000.0), "other": system(4_548_474.0, difference=found)}
    sentence = statistical_summary(document(systems, reference=None))[0]
    assert "too small to matter" in sentence
    assert f"median {LESS}2,526 m ({LESS}0.1 % of 4,551 km)" in sentence


def test_claims_are_corrected_together() -> None:
    at = GAIN.model_copy(update={"p": 0.01})
    others = {f"s{number}": system(70.0, difference=difference("clip", at, EQUAL)) for number in range(3)}
    found = claims(document({"clip": system(90.0), **others}, reference=None))
    # Six tests: the three of 0.01 are corrected by 6, 5 and 4, and are monotone.
    assert [claim.corrected_p["median"] for claim in found] == pytest.approx([0.06, 0.06, 0.06])
    assert {verdict(claim) for claim in found} == {NO_GAIN}
    alone = claims(document({"clip": system(90.0), "s0": others["s0"]}, reference=None))
    assert [verdict(claim) for claim in alone] == ["supported"]


def test_too_few_resamples_are_stated() -> None:
    systems = {"clip": system(90.0), "other": system(80.0, difference=difference("clip", GAIN, EQUAL))}
    (sentence,) = [text for text in statistical_summary(document(systems, reference=None)) if "Holm" in text]
    # The golden document has 20 resamples: the least p is 2 / 21, twice that for two tests.
    assert "2 comparisons (Holm)" in sentence
    assert "smallest corrected p-value is about 0.19, so none can be significant: at least 80" in sentence


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
    assert "little left to gain: sw-clip-plus (12 m)." in text
    assert "no better than the constant baseline (500 m): nearest-neighbour (600 m)" in text


def test_expected_false_positives_count_each_pair_once(made: ComparisonDocument) -> None:
    (sentence,) = [text for text in statistical_summary(made) if text.startswith("Of ")]
    # Four differences from clip and three from sw-clip; that of clip from sw-clip repeats the first. Significant are
    # one figure of sw-clip and of sw-clip-one-hot from clip, and two of each of the other five.
    assert sentence.startswith(f"Of {7 * len(FIGURES)} intervals of differences, not corrected, 12 exclude 0")
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
