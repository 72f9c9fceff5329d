"""Whether a photograph was taken in the gallery's area: similarity and novelty."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from swclip.calibration.in_area import InArea, novelty_evidence


@pytest.fixture(scope="module")
def draws() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "inside": generator.normal(0.6, 0.1, 400),
        "outside": generator.normal(0.4, 0.1, 800),
        "novelty": generator.normal(3.0, 0.1, 400),
        "error_m": generator.exponential(60.0, 400),
    }


def fitted(draws: dict[str, np.ndarray], **changes: object) -> InArea:
    return InArea.fit(**{"kind": "image", "weight": 1.0, **draws, **changes})  # type: ignore[arg-type]


def test_probability_is_that_of_bayes_for_a_balanced_prior(draws: dict[str, np.ndarray]) -> None:
    model = fitted(draws, novelty=None)
    # Normal densities of equal width: logit P = (0.6 - 0.4) / 0.1^2 (s - 0.5).
    assert model.slope == pytest.approx(20.0, rel=0.15)
    assert -model.offset / model.slope == pytest.approx(0.5, abs=0.01)
    probability = model.probability(draws["inside"], None)
    outside = model.probability(draws["outside"], None)
    for low in (0.2, 0.4, 0.6):  # of those with about this probability, this share is from inside
        inside, elsewhere = (((low < p) & (p < low + 0.2)).sum() for p in (probability, outside))
        assert inside / (inside + elsewhere / 2) == pytest.approx(low + 0.1, abs=0.1)


def test_novelty_lowers_the_probability_and_its_absence_does_not(draws: dict[str, np.ndarray]) -> None:
    model = fitted(draws)
    assert model.novelty_centre == pytest.approx(3.0, abs=0.02)
    assert model.novelty_spread == pytest.approx(0.1, abs=0.02)
    novelty = np.linspace(2.0, 5.0, 301)
    probability = model.probability(np.full(301, 0.6), novelty)
    assert (np.diff(probability) <= 0.0).all()
    assert probability[0] > 0.9
    assert probability[-1] < 1e-6
    usual = model.probability(np.array([0.6]), np.array([3.0]))[0]
    assert usual == pytest.approx(model.probability(np.array([0.6]), None)[0], abs=0.1)


def test_evidence_of_novelty_never_falls_with_it() -> None:
    for spread in (0.02, 0.1, 0.5, 2.0):
        evidence = novelty_evidence(np.linspace(-5.0, 15.0, 500), 3.0, spread)
        assert np.isfinite(evidence).all()
        assert (np.diff(evidence) >= -1e-12).all()


def test_threshold_keeps_the_queries_that_are_placed_within_100_m(draws: dict[str, np.ndarray]) -> None:
    model = fitted(draws)
    near = draws["error_m"] <= 100.0
    probability = model.probability(draws["inside"], draws["novelty"])
    assert np.mean(probability[near] >= model.threshold) == pytest.approx(0.95, abs=0.01)
    assert model.threshold < 0.5
    assert fitted(draws, inside=draws["inside"] + 1.0).threshold == 0.5, "an answer as likely inside never abstains"
    assert fitted(draws, error_m=draws["error_m"] + 100.0).threshold == 0.0, "no query is placed: nothing abstains"


def test_a_similarity_that_says_nothing_gives_one_half(draws: dict[str, np.ndarray]) -> None:
    model = fitted(draws, outside=draws["inside"] + 0.2, novelty=None)
    assert model.slope == 0.0
    assert model.probability(np.array([0.1, 0.9]), None) == pytest.approx([0.5, 0.5], abs=1e-3)


def test_correlated_queries_count_less(draws: dict[str, np.ndarray]) -> None:
    few = {name: values[:40] for name, values in draws.items()}
    assert fitted(few, weight=0.05).slope < fitted(few).slope


def test_values_survive_json_and_invalid_ones_are_refused(draws: dict[str, np.ndarray]) -> None:
    values = asdict(fitted(draws))
    assert InArea.from_dict(values) == fitted(draws)
    for name, value in (("slope", -1.0), ("kind", "smell"), ("threshold", float("nan")), ("novelty_spread", 0.0)):
        with pytest.raises(ValueError, match="in_area"):
            InArea.from_dict({**values, name: value})
    with pytest.raises(TypeError):
        InArea.from_dict({"slope": 1.0})
