"""Cities and cells of a posterior: sums, nesting, and their relation to the point."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h3
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.answers.formats import as_text
from swclip.calibration.posterior_config import PosteriorConfig
from swclip.errors import ConfigError, MismatchError
from swclip.gallery.gallery import Gallery
from swclip.geo.neighbours import SphereIndex
from swclip.models.embed import embed_photographs
from swclip.retrieval.hierarchy import Hierarchy, cell_answer, most_probable, probability_of, resolution_of
from swclip.retrieval.locator import Locator
from swclip.retrieval.posterior import log_posterior

Make = Callable[..., Gallery]
Photographs = Callable[[int], list[Path]]
CONFIG = PosteriorConfig(0.1, 0.1, 0.4, smoothing_m=150.0)


def posterior(generator: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    values = generator.random((rows, columns)) ** 4
    return values / values.sum(axis=1, keepdims=True)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.sets(st.integers(4, 12), min_size=1, max_size=4))
def test_a_parent_has_the_sum_of_its_children(seed: int, resolutions: set[int]) -> None:
    generator = np.random.default_rng(seed)
    places = np.array([53.8, -1.55]) + generator.uniform(-0.02, 0.02, (60, 2))
    hierarchy = Hierarchy.of(places, [None] * 60, tuple(resolutions))
    assert hierarchy.resolutions == tuple(sorted(resolutions))
    p = posterior(generator, 3, 60)
    result = [level.probabilities(p) for level in hierarchy.cells]
    for coarse, fine, by_coarse, by_fine in zip(hierarchy.cells, hierarchy.cells[1:], result, result[1:], strict=False):
        for at, unit in enumerate(coarse.units):
            children = [i for i, child in enumerate(fine.units) if h3.cell_to_parent(child, coarse.resolution) == unit]
            np.testing.assert_allclose(by_fine[:, children].sum(axis=1), by_coarse[:, at], rtol=1e-12)
    for values in result:
        np.testing.assert_allclose(values.sum(axis=1), 1.0, rtol=1e-12)


def test_a_unit_is_the_sum_of_its_candidates(make_gallery: Make) -> None:
    gallery = make_gallery(1)
    hierarchy = Hierarchy.of(gallery.positions_deg, gallery.cities, (9,))
    p = posterior(np.random.default_rng(2), 4, len(gallery))
    by_city = hierarchy.city.probabilities(p)
    for row in range(4):
        for at, city in enumerate(hierarchy.city.units):
            mass = sum(p[row, m] for m, name in enumerate(gallery.cities) if name == city)
            assert by_city[row, at] == pytest.approx(mass)
            assert probability_of(hierarchy.city, p[row], city) == pytest.approx(mass)
        nowhere = sum(p[row, m] for m, name in enumerate(gallery.cities) if name is None)
        assert by_city[row].sum() == pytest.approx(1.0 - nowhere)
        (level,) = hierarchy.cells
        shares = most_probable(level, p[row], k=3)
        best = np.argsort(-level.probabilities(p[row : row + 1])[0], kind="stable")[:3]
        assert [share.unit for share in shares] == [level.units[at] for at in best]
        assert [share.probability for share in shares] == sorted((s.probability for s in shares), reverse=True)
    assert probability_of(hierarchy.city, p[0], "Atlantis") == 0.0
    assert hierarchy.city.number_of(None) == -1


def test_a_subset_of_the_candidates_keeps_its_units(make_gallery: Make) -> None:
    gallery = make_gallery(1)
    hierarchy, rows = Hierarchy.of(gallery.positions_deg, gallery.cities), np.array([2, 5, 11])
    p = posterior(np.random.default_rng(0), 1, 3)
    whole = np.zeros((1, len(gallery)))
    whole[:, rows] = p
    for part, level in zip(hierarchy.take(rows).levels, hierarchy.levels, strict=True):
        np.testing.assert_allclose(part.probabilities(p), level.probabilities(whole))
    with pytest.raises(MismatchError, match="3 candidates"):
        hierarchy.take(rows).city.probabilities(whole)


def test_the_most_probable_unit_and_that_of_the_point_are_both_stated() -> None:
    # Leeds: one sure place. York: more mass, scattered.
    places = np.array([[53.80, -1.55], [53.96, -1.08], [53.95, -1.10], [53.97, -1.06]])
    hierarchy = Hierarchy.of(places, ["Leeds", "York", "York", "York"], (4, 9))
    p = np.array([0.4, 0.2, 0.2, 0.2])
    units = hierarchy.units_at(places[[p.argmax()]], SphereIndex(places))
    assert units["city"] == ["Leeds"]
    assert most_probable(hierarchy.city, p, 1)[0].unit == "York"
    coarse, fine = (cell_answer(level, p, units[level.name][0]) for level in hierarchy.cells)
    assert (coarse.cell_id, coarse.probability) == (
        hierarchy.cells[0].units[hierarchy.cells[0].unit_of[1]],
        0.6000000000000001,
    )
    assert coarse.point_cell_id != coarse.cell_id
    assert coarse.point_cell_probability == pytest.approx(0.4)
    assert (fine.cell_id, fine.probability) == (fine.point_cell_id, fine.point_cell_probability)
    with pytest.raises(ConfigError, match="'city' has no H3 resolution"):
        resolution_of(hierarchy.city)


def test_all_probabilities_of_an_answer_come_from_one_posterior(
    make_gallery: Make, model: object, photographs: Photographs
) -> None:
    gallery, paths = make_gallery(1), photographs(3)
    answers = Locator(gallery, model, CONFIG, resolutions=(7, 10)).locate(paths)
    smooth = np.exp(log_posterior(embed_photographs(model, paths), gallery, CONFIG, smooth=True).astype(np.float64))
    hierarchy = Hierarchy.of(gallery.positions_deg, gallery.cities, (7, 10))
    for row, answer in enumerate(answers):
        by_city = hierarchy.city.probabilities(smooth[row : row + 1])[0]
        assert answer.city == hierarchy.city.units[by_city.argmax()]
        assert answer.city_probability == pytest.approx(by_city.max(), rel=1e-4)
        assert answer.point_city == answer.candidates[0].city
        if answer.point_city is not None:
            mass = by_city[hierarchy.city.units.index(answer.point_city)]
            assert answer.point_city_probability == pytest.approx(mass, rel=1e-4)
        assert [cell.resolution for cell in answer.cells] == [7, 10]
        for cell, level in zip(answer.cells, hierarchy.cells, strict=True):
            values = level.probabilities(smooth[row : row + 1])[0]
            assert cell.cell_id == level.units[values.argmax()]
            assert cell.probability == pytest.approx(values.max(), rel=1e-4)
            assert cell.point_cell_id == h3.cell_to_parent(
                h3.latlng_to_cell(answer.lat_deg, answer.lon_deg, 10), cell.resolution
            )
            assert (cell.lat_deg, cell.lon_deg) == pytest.approx(h3.cell_to_latlng(cell.cell_id), abs=1e-7)
        assert (answer.scored_share, answer.left_out_at_most) == (1.0, 0.0)
    nameless = replace(gallery, cities=[None] * len(gallery))
    (answer,) = Locator(nameless, model, CONFIG).locate(paths[0])
    assert (answer.city, answer.city_probability, answer.point_city, answer.point_city_probability) == (None,) * 4
    assert len(answer.cells) == 3


def test_every_format_has_city_and_cells(make_gallery: Make, model: object, photographs: Photographs) -> None:
    answers = Locator(make_gallery(1), model, CONFIG, resolutions=(8, 10)).locate([*photographs(2), Path("no.jpg")])
    lines = as_text(answers, "jsonl").splitlines()
    assert [json.loads(line) for line in lines] == json.loads(as_text(answers, "json"))
    cells = json.loads(lines[0])["cells"]
    assert [cell["resolution"] for cell in cells] == [8, 10]
    rows = list(csv.DictReader(io.StringIO(as_text(answers, "csv"))))
    assert rows[0]["answer_city"] == answers[0].city
    assert float(rows[0]["answer_city_probability"]) == answers[0].city_probability
    assert rows[0]["answer_cell_10"] == answers[0].cells[1].cell_id
    assert float(rows[0]["answer_cell_10_point_probability"]) == answers[0].cells[1].point_cell_probability
    assert rows[-1]["answer_cell_8"] == rows[-1]["answer_city"] == ""
    properties = [entry["properties"] for entry in json.loads(as_text(answers, "geojson"))["features"]]
    assert properties[1]["cell_8"] == answers[1].cells[0].cell_id
    assert properties[1]["cell_8_probability"] == answers[1].cells[0].probability
    assert "cell_8" not in properties[2]


@pytest.mark.parametrize("resolutions", [(), (4, 16)])
def test_resolutions_that_do_not_exist_are_refused(resolutions: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="H3 resolution"):
        Hierarchy.of([[51.5, -0.1]], [None], resolutions)
