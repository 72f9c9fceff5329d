"""Photographs that were not taken in the gallery's area, by queries whose surroundings are removed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fixtures.galleries import TinyModel
from swclip.calibration.conformal import Calibration
from swclip.calibration.in_area import InArea
from swclip.calibration.posterior_config import PosteriorConfig
from swclip.gallery.gallery import Gallery
from swclip.geo.coordinates import LocalFrame
from swclip.models.photograph_vectors import PhotographVectors
from swclip.models.whitening import Whitening
from swclip.retrieval.locator import Locator
from swclip.retrieval.region_fit import fit_in_area, in_area_probability

DIM, STREETS, PER_STREET = 24, 12, 20
IMAGES = PosteriorConfig(0.1, 0.1, 0.5, 20.0)
LOCATIONS = replace(IMAGES, image_weight=0.0)
DONE = np.full(60, 10.0)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def streets() -> tuple[Gallery, PhotographVectors, np.ndarray]:
    """Two cities of streets 1 km apart; photographs of one street resemble each other, as do those of a city."""
    generator = np.random.default_rng(0)
    city = generator.normal(size=(2, DIM))
    street = generator.normal(size=(STREETS, DIM)) + 0.7 * np.repeat(city, STREETS // 2, axis=0)

    def photographs(count: int) -> np.ndarray:
        return unit(np.repeat(street, count, axis=0) + 0.8 * generator.normal(size=(STREETS * count, DIM)))

    def positions(count: int) -> np.ndarray:
        east = np.repeat(1_000.0 * np.arange(STREETS) + 50_000.0 * (np.arange(STREETS) >= STREETS // 2), count)
        return LocalFrame(52.0, 0.0).to_deg(np.stack([east, generator.uniform(0.0, 100.0, len(east))], axis=1))

    places = positions(PER_STREET)
    embeddings = photographs(PER_STREET)
    gallery = Gallery(
        [f"c{row}" for row in range(len(places))],
        places,
        ["Ely" if row < len(places) / 2 else "York" for row in range(len(places))],
        embeddings,
        embeddings,
        np.arange(len(places)),
        [f"p{row}" for row in range(len(places))],
        {"fingerprint": "tiny-0"},
    )
    queries = PhotographVectors(photographs(5), novelty=generator.normal(3.0, 0.1, 5 * STREETS).astype(np.float32))
    return gallery, queries, positions(5)


def test_queries_rank_above_photographs_of_streets_that_are_not_in_the_gallery(
    streets: tuple[Gallery, PhotographVectors, np.ndarray],
) -> None:
    gallery, queries, truth = streets
    model = fit_in_area(queries, truth, gallery, IMAGES, DONE, units=STREETS)
    assert model is not None
    assert (model.kind, model.n_queries) == ("image", len(queries))
    inside = in_area_probability(queries, gallery, IMAGES, model)
    generator = np.random.default_rng(1)
    elsewhere = PhotographVectors(unit(generator.normal(size=(60, DIM))), novelty=queries.novelty)
    outside = in_area_probability(elsewhere, gallery, IMAGES, model)
    assert inside is not None
    assert outside is not None
    assert np.median(inside) > 0.8
    assert np.mean(outside < model.threshold) > 0.8
    assert np.mean(inside >= model.threshold) >= 0.9
    strange = replace(queries, novelty=queries.novelty + np.float32(1.0))  # type: ignore[operator]
    probability = in_area_probability(strange, gallery, IMAGES, model)
    assert probability is not None
    assert (probability < model.threshold).all(), "another camera"


def test_novelty_decides_alone_in_a_gallery_without_photographs(
    streets: tuple[Gallery, PhotographVectors, np.ndarray],
) -> None:
    gallery, queries, truth = streets
    model = fit_in_area(queries, truth, gallery, LOCATIONS, DONE, units=STREETS)
    assert model is not None
    assert model.kind == "none"
    assert queries.novelty is not None
    strange = replace(queries, novelty=queries.novelty + np.float32(0.5))
    inside, outside = (in_area_probability(each, gallery, LOCATIONS, model) for each in (queries, strange))
    assert inside is not None
    assert outside is not None
    assert np.median(inside) > 0.6
    assert np.median(outside) < 0.1
    assert np.mean(inside >= model.threshold) == pytest.approx(0.95, abs=0.02)
    assert fit_in_area(replace(queries, novelty=None), truth, gallery, LOCATIONS, DONE, units=STREETS) is None


def test_nothing_is_fitted_on_few_queries(streets: tuple[Gallery, PhotographVectors, np.ndarray]) -> None:
    gallery, queries, truth = streets
    few = slice(0, 19)
    assert fit_in_area(queries.take(few), truth[few], gallery, IMAGES, DONE[few], units=4) is None


def test_a_gallery_of_another_kind_leaves_it_open(streets: tuple[Gallery, PhotographVectors, np.ndarray]) -> None:
    gallery, queries, truth = streets
    model = fit_in_area(queries, truth, gallery, IMAGES, DONE, units=STREETS)
    bare = replace(
        gallery, image_embeddings=gallery.image_embeddings[:0], image_rows=gallery.image_rows[:0], image_ids=[]
    )
    assert in_area_probability(queries, bare, IMAGES, model) is None
    assert in_area_probability(queries, gallery, IMAGES, None) is None


def test_answers_state_it_and_abstain(
    make_gallery: Callable[..., Gallery], model: TinyModel, photographs: Callable[[int], list[Path]]
) -> None:
    paths, gallery = photographs(3), make_gallery(1)
    whole = Calibration(np.linspace(0.01, 0.99, 99), (None,) * 99, 11, 25.0)

    def answers(in_area: InArea | None, **options: object) -> list:
        locator = Locator(gallery, model, IMAGES, calibration=replace(whole, in_area=in_area))
        return locator.locate(paths, **options)

    certain = InArea("image", 1.0, 20.0, None, None, 0.5, 100)
    for answer, plain in zip(answers(certain), answers(None), strict=True):
        assert plain.in_area_probability is None
        assert answer.in_area_probability == pytest.approx(1.0)
        assert answer.model_copy(update={"in_area_probability": None}) == plain
    for answer in answers(replace(certain, offset=-4.0)):
        assert 0.0 < answer.in_area_probability < 0.5
        assert answer.region.cannot_tell
        assert answer.region.cells == ()
        assert "was probably not taken in the gallery's area (probability 0.0" in answer.region.reason
        assert answer.lat_deg is not None, "the point is stated for a photograph that was taken there after all"
    together = answers(replace(certain, offset=-4.0), together=True)[0]
    assert together.in_area_probability is None, "calibrated for single photographs"
    batches = [answers(certain, batch_size=size) for size in (1, 3)]
    assert batches[0] == batches[1]


def test_novelty_is_the_mahalanobis_distance_from_training_photographs() -> None:
    generator = np.random.default_rng(2)
    mixing = generator.normal(size=(6, 6))
    features = (generator.normal(size=(500, 6)) @ mixing + 5.0).astype(np.float32)
    whitening = Whitening.fit(features, 6)
    centred = features.astype(np.float64) - features.mean(axis=0)
    precision = np.linalg.inv(np.cov(features.T.astype(np.float64), bias=True))
    expected = 0.5 * np.log(np.einsum("nf,fg,ng->n", centred, precision, centred))
    assert np.allclose(whitening.log_distance(features), expected, atol=1e-3)
    assert whitening.log_distance(features[:1])[0] == whitening.log_distance(features)[0]
    assert np.isnan(whitening.log_distance(np.full((1, 6), np.nan, dtype=np.float32))).all()
