"""Photographs of one place, answered together, and answers with a prior: real files, decoded and embedded."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import shapely

from swclip.answers.formats import Format, as_text
from swclip.answers.record import Answer
from swclip.calibration.conformal import Calibration
from swclip.calibration.posterior_config import PosteriorConfig
from swclip.gallery.gallery import Gallery
from swclip.models.embed import embed_photographs
from swclip.retrieval.locator import Locator
from swclip.retrieval.pooling import EXPONENT
from swclip.retrieval.posterior import gallery_kernel, log_posterior, smoothed
from swclip.retrieval.prior import NoCandidatesError, Prior, UnknownCityError

Photographs = Callable[[int], list[Path]]
CONFIG = PosteriorConfig(0.2, 0.1, 0.4, smoothing_m=150.0)
QUERIES = Calibration(np.linspace(0.01, 0.99, 99), (None,) * 99, 11, 25.0)


@pytest.fixture
def locator(make_gallery: Callable[..., Gallery], model: object) -> Locator:
    return Locator(make_gallery(1), model, CONFIG, calibration=QUERIES)


def alone(locator: Locator, paths: list[Path]) -> np.ndarray:
    query = embed_photographs(locator.model, paths)
    return np.exp(log_posterior(query, locator.gallery, CONFIG).astype(np.float64))


def stated(locator: Locator, p: np.ndarray) -> np.ndarray:
    kernel = gallery_kernel(locator.gallery, CONFIG.smoothing_m, CONFIG.kernel)
    return np.exp(smoothed(np.log(p / p.sum())[None], kernel))[0]


def listed(locator: Locator, answer: Answer) -> dict[int, float]:
    numbers = {name: at for at, name in enumerate(locator.gallery.candidate_ids)}
    return {numbers[candidate.candidate_id]: candidate.probability for candidate in answer.candidates}


def test_one_answer_to_several_photographs(locator: Locator, photographs: Photographs) -> None:
    paths = photographs(3)
    (answer,) = locator.locate(paths, together=True, top_k=30)
    product = alone(locator, paths).prod(axis=0) ** (1 / 3**EXPONENT)
    expected = stated(locator, product)
    assert listed(locator, answer) == pytest.approx(dict(enumerate(expected)), rel=1e-4)
    assert answer.photographs == tuple(map(str, paths))
    assert answer.photograph == str(paths[0])
    best = locator.gallery.positions_deg[product.argmax()]
    assert (answer.argmax_lat_deg, answer.argmax_lon_deg) == pytest.approx(tuple(best), abs=1e-7)
    np.testing.assert_allclose(locator.posterior_of(paths), expected, rtol=1e-4)


def test_the_evidence_of_each_of_several_photographs_equals_that_of_a_single_one(
    locator: Locator, photographs: Photographs
) -> None:
    paths = photographs(3)
    (answer,) = locator.locate(paths, together=True, top_k=30)
    singles = [
        {candidate.candidate_id: candidate for candidate in single.candidates}
        for single in locator.locate(paths, top_k=30)
    ]
    for candidate in answer.candidates:
        assert (candidate.location_similarity, candidate.image_share) == (None, None)
        assert [stated_evidence.photograph for stated_evidence in candidate.evidence] == [str(path) for path in paths]
        for stated_evidence, single in zip(candidate.evidence, singles, strict=True):
            by_itself = single[candidate.candidate_id]
            assert by_itself.evidence == ()
            assert stated_evidence.probability == pytest.approx(by_itself.probability, rel=1e-9)
            assert stated_evidence.image_share == pytest.approx(by_itself.image_share, abs=2e-6)
            assert stated_evidence.location_similarity == pytest.approx(by_itself.location_similarity, abs=2e-6)
            assert stated_evidence.image_ids == by_itself.image_ids
            assert stated_evidence.image_similarities == pytest.approx(by_itself.image_similarities, abs=2e-6)
        nearest = {
            name: max(
                dict(zip(stated_evidence.image_ids, stated_evidence.image_similarities, strict=True))[name]
                for stated_evidence in candidate.evidence
            )
            for name in candidate.image_ids
        }
        assert candidate.image_similarities == pytest.approx([nearest[name] for name in candidate.image_ids])
        assert list(candidate.image_similarities) == sorted(candidate.image_similarities, reverse=True)


def test_the_order_of_photographs_has_no_effect(locator: Locator, photographs: Photographs) -> None:
    paths = photographs(4)
    (candidate,), (other,) = (locator.locate(order, together=True, top_k=30) for order in (paths, paths[::-1]))
    assert listed(locator, candidate) == pytest.approx(listed(locator, other), rel=1e-6)
    assert (candidate.lat_deg, candidate.lon_deg) == (other.lat_deg, other.lon_deg)


def test_together_a_single_photograph_has_its_usual_answer(locator: Locator, photographs: Photographs) -> None:
    path = photographs(1)[0]
    assert locator.locate(path, together=True) == locator.locate(path)
    assert locator.locate([], together=True) == []


def test_an_undecodable_photograph_is_stated_and_the_others_are_answered(
    locator: Locator, photographs: Photographs
) -> None:
    paths = photographs(3)
    (expected,) = locator.locate([paths[0], paths[2]], together=True)
    paths[1].write_text("a letter")
    result, letter, nowhere = locator.locate([paths[0], paths[1], Path("no.jpg"), paths[2]], together=True)
    assert result == expected
    assert result.photographs == (str(paths[0]), str(paths[2]))
    assert (letter.photograph, nowhere.photograph) == (str(paths[1]), "no.jpg")
    assert "not an image" in str(letter.error)
    assert "no such file" in str(nowhere.error)
    (candidate, other) = locator.locate([paths[1], Path("no.jpg")], together=True)
    assert candidate.error
    assert other.error
    for name in get_args(Format):
        if name != "parquet":
            assert "no such file" in as_text([result, letter, nowhere], name)


def test_regions_are_calibrated_only_for_one_photograph_without_a_prior(
    locator: Locator, photographs: Photographs, caplog: pytest.LogCaptureFixture
) -> None:
    paths, near = photographs(2), Prior(near_deg=(51.5, -0.1), radius_m=500.0)
    with caplog.at_level(logging.WARNING):
        for answer in locator.locate(paths):
            assert answer.region is not None
            assert answer.region.calibrated
        assert not caplog.text
        for options in ({"together": True}, {"prior": near}, {"prior": near, "together": True}):
            caplog.clear()
            for answer in locator.locate(paths, **options):
                assert answer.region is not None
                assert not answer.region.calibrated
                assert answer.region.cells
            assert "the calibration is for single photographs without a prior" in caplog.text
        caplog.clear()
        assert locator.locate(paths, together=True, region=None)[0].region is None
        assert not caplog.text


def test_a_city_and_an_area_exclude_candidates(locator: Locator, photographs: Photographs) -> None:
    paths, gallery = photographs(2), locator.gallery
    west, middle = gallery.positions_deg[:, 1] < -0.1, shapely.box(-1, 50, -0.1, 52)
    in_city = np.array([city == "city 1" for city in gallery.cities])
    p = alone(locator, paths)
    for prior, inside in (
        (Prior(city="City 1"), in_city),
        (Prior(within=middle), west),
        (Prior("city 1", middle), in_city & west),
    ):
        rows = np.flatnonzero(inside)
        where = locator.restricted(rows)
        for row, answer in enumerate(locator.locate(paths, prior=prior, top_k=30)):
            kept = p[row, rows] / p[row, rows].sum()
            expected = dict(zip(rows.tolist(), stated(where, kept), strict=True))
            assert listed(locator, answer) == pytest.approx(expected, rel=1e-4)
            assert sum(expected.values()) == pytest.approx(1.0)
        (whole,) = locator.locate(paths[:1], prior=prior)
        assert whole.region is not None
        assert not whole.region.calibrated
        result = locator.posterior_of(paths[0], prior=prior)
        assert set(np.flatnonzero(result)) <= set(rows.tolist())
        assert result.sum() == pytest.approx(1.0)


def test_a_rough_position_is_a_prior_that_counts_once_for_several_photographs(
    locator: Locator, photographs: Photographs
) -> None:
    paths, gallery = photographs(3), locator.gallery
    near = Prior(near_deg=tuple(gallery.positions_deg[4]), radius_m=400.0)
    prior_weights = near.weights(gallery.positions_deg)
    assert prior_weights is not None
    assert prior_weights.log_weight is not None
    weight = np.exp(prior_weights.log_weight)
    (answer,) = locator.locate(paths, prior=near, together=True, top_k=30)
    product = alone(locator, paths).prod(axis=0) ** (1 / 3**EXPONENT)
    assert listed(locator, answer) == pytest.approx(dict(enumerate(stated(locator, product * weight))), rel=1e-4)
    singles = alone(locator, paths)
    for row, single in enumerate(locator.locate(paths, prior=near, top_k=30)):
        by_prior = stated(locator, singles[row] * weight)
        assert listed(locator, single) == pytest.approx(dict(enumerate(by_prior)), rel=1e-4)
    sure = replace(near, radius_m=1.0)
    (certain,) = locator.locate(paths, prior=sure, together=True)
    assert certain.candidates[0].candidate_id == "c4"


def test_an_empty_prior_changes_nothing(locator: Locator, photographs: Photographs) -> None:
    paths = photographs(2)
    assert locator.locate(paths, prior=Prior()) == locator.locate(paths)


def test_an_unknown_city_and_an_empty_area_are_refused(locator: Locator, photographs: Photographs) -> None:
    paths = photographs(1)
    with pytest.raises(UnknownCityError, match="it has city 1, city 2"):
        locator.locate(paths, prior=Prior(city="city one"))
    with pytest.raises(NoCandidatesError):
        locator.locate(paths, prior=Prior(within=shapely.box(0, 0, 1, 1)))
