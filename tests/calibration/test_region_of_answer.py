"""Prediction regions of answers: against the posterior, output formats, abstentions."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import geopandas
import h3
import numpy as np
import pytest
from scipy.special import expit, logit

from swclip.answers.formats import REGIONS, as_text
from swclip.answers.record import Answer
from swclip.answers.table import text_file
from swclip.calibration.conformal import Calibration
from swclip.calibration.posterior_config import PosteriorConfig
from swclip.calibration.region import tail_mass
from swclip.calibration.region_cells import RegionCells, adapted_cells
from swclip.calibration.region_of_answer import RegionBuilder, RegionRequest
from swclip.calibration.stated import RADII_M, StatedProbabilities
from swclip.errors import ConfigError
from swclip.gallery.gallery import Gallery
from swclip.models.embed import embed_photographs
from swclip.retrieval.locator import Locator
from swclip.retrieval.posterior import log_posterior
from swclip.retrieval.prior import Prior

Photographs = Callable[[int], list[Path]]
CONFIG = PosteriorConfig(0.05, 0.1, 0.4, smoothing_m=30.0)
QUERIES = Calibration(np.linspace(0.01, 0.99, 99), (None,) * 99, 11, 25.0)


@pytest.fixture
def locator(make_gallery: Callable[..., Gallery], model: object) -> Locator:
    return Locator(make_gallery(1), model, CONFIG, calibration=QUERIES)


@pytest.mark.parametrize("level", [0.5, 0.8])
def test_a_region_contains_the_cells_whose_tails_reach_the_threshold(
    locator: Locator, photographs: Photographs, level: float
) -> None:
    paths, gallery = photographs(3), locator.gallery
    region_cells = RegionCells.of(gallery.positions_deg)
    query = embed_photographs(locator.model, paths)
    mass = region_cells.mass(np.exp(log_posterior(query, gallery, CONFIG, smooth=True).astype(np.float64)))
    every = np.arange(len(region_cells))
    for row, answer in enumerate(locator.locate(paths, region=level)):
        region = answer.region
        assert region is not None
        tails = tail_mass(np.tile(mass[row], (len(region_cells), 1)), region_cells.area_km2, every)
        inside = {region_cells.cell_ids[at] for at in every if tails[at] >= 1.0 - level + 1e-6}
        assert set(h3.uncompact_cells(region.cells, 11)) == inside
        assert region.area_km2 == pytest.approx(sum(h3.cell_area(cell, unit="km^2") for cell in inside), abs=1e-6)
        assert (region.probability, region.cannot_tell, region.reason) == (level, False, None)


def test_regions_grow_with_their_level(locator: Locator, photographs: Photographs) -> None:
    paths = photographs(2)
    areas = [[answer.region.area_km2 for answer in locator.locate(paths, region=level)] for level in (0.5, 0.8, 0.95)]
    assert np.all(np.diff(np.array(areas), axis=0) >= 0)
    assert [answer.region for answer in locator.locate(paths, region=None)] == [None, None]
    assert locator.locate(paths) == locator.locate(paths, region=0.8)


def test_other_fields_of_an_answer_do_not_depend_on_the_region(
    locator: Locator, photographs: Photographs, model: object, caplog: pytest.LogCaptureFixture
) -> None:
    paths = photographs(2)
    bare = Locator(locator.gallery, model, CONFIG)
    with caplog.at_level(logging.WARNING):
        without = bare.locate(paths)
    assert "coverage is not calibrated" in caplog.text
    assert "train it again on splits with validation queries" in caplog.text
    bare_of_regions = [answer.model_copy(update={"region": None}) for answer in without]
    assert bare_of_regions == [answer.model_copy(update={"region": None}) for answer in locator.locate(paths)]
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert bare.locate(paths, region=None) == bare_of_regions
    assert not caplog.text


@pytest.mark.parametrize("level", [0.5, 0.8])
def test_without_a_calibration_a_region_is_the_smallest_area_that_contains_its_share(
    locator: Locator, photographs: Photographs, model: object, level: float
) -> None:
    paths, gallery = photographs(3), locator.gallery
    region_cells = adapted_cells(gallery.positions_deg, gallery.cities)
    query = embed_photographs(locator.model, paths)
    mass = region_cells.mass(np.exp(log_posterior(query, gallery, CONFIG, smooth=True).astype(np.float64)))
    for row, answer in enumerate(Locator(gallery, model, CONFIG).locate(paths, region=level)):
        region = answer.region
        assert region is not None
        assert not region.calibrated
        held, inside = 0.0, set()
        for cell in np.argsort(-mass[row] / region_cells.area_km2):
            if held >= level:
                break
            held += mass[row, cell]
            inside.add(region_cells.cell_ids[cell])
        assert set(h3.uncompact_cells(region.cells, 11)) == inside


def test_an_abstention_states_its_reason(locator: Locator, photographs: Photographs, model: object) -> None:
    path = photographs(1)[0]

    def region(calibration: Calibration, **options: float) -> tuple[bool, int, str, float | None]:
        (answer,) = Locator(locator.gallery, model, CONFIG, calibration=calibration).locate(path, **options)
        own = answer.region
        assert own is not None
        return own.cannot_tell, len(own.cells), str(own.reason), own.area_km2

    few = Calibration(np.full(8, 0.5), (None,) * 8, 11, 25.0)
    reason = "the 8 validation queries of all areas are in 8 blocks, too few for a coverage of 0.9, which needs 9"
    assert region(few, region=0.9) == (True, 0, reason, None)
    lost = Calibration(np.full(50, 1e-9), (None,) * 50, 11, 25.0)
    silent, cells, reason, area = region(lost)
    assert (silent, cells) == (True, 0)
    assert "no smaller than a random one" in reason
    assert area is not None
    silent, cells, reason, area = region(QUERIES, region_limit_km2=1e-4)
    assert (silent, cells) == (True, 0)
    assert reason.endswith("above the limit of 0.0001 km2")
    for wrong in (0.0, 1.0, 80.0):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            locator.locate(path, region=wrong)
    with pytest.raises(ConfigError, match="give an area above 0"):
        RegionRequest(0.8, -1.0)


def test_the_stated_probability_of_a_single_photograph_is_calibrated(
    locator: Locator, photographs: Photographs, model: object
) -> None:
    paths = photographs(2)
    maps = StatedProbabilities(dict.fromkeys(RADII_M, (0.5, -1.0)), {key: {} for key in RADII_M})
    mapped = Locator(locator.gallery, model, CONFIG, calibration=replace(QUERIES, stated=maps))
    raw = [answer.probability_within_50m or 0.0 for answer in locator.locate(paths)]
    stated = [answer.probability_within_50m or 0.0 for answer in mapped.locate(paths)]
    assert stated == pytest.approx([expit(0.5 * logit(p) - 1.0) for p in raw], rel=1e-9)
    assert [answer.probability_within_50m for answer in mapped.locate(paths, region=None)] == stated
    assert [mapped.locate(path)[0].probability_within_50m for path in paths] == stated, "alone or together"
    # It was calibrated for single photographs without a prior.
    (both,), (both_raw,) = (each.locate(paths, together=True) for each in (mapped, locator))
    assert both.probability_within_50m == both_raw.probability_within_50m
    near = Prior(near_deg=tuple(locator.gallery.positions_deg[0]), radius_m=500.0)
    for one, other in zip(mapped.locate(paths, prior=near), locator.locate(paths, prior=near), strict=True):
        assert one.probability_within_50m == other.probability_within_50m


@pytest.fixture
def answers(locator: Locator, photographs: Photographs) -> list[Answer]:
    return locator.locate([*photographs(2), Path("nowhere.jpg")], top_k=2)


def test_the_formats_of_a_region(answers: list[Answer]) -> None:
    read = json.loads(as_text(answers, "json"))
    first = answers[0].region
    assert first is not None
    assert read[0]["region"] == {
        "probability": 0.8, "area_km2": first.area_km2, "cannot_tell": False, "resolution": 11,
        "cells": list(first.cells), "reason": None, "calibrated": True,
        "area": first.area, "calibrated_on": "all areas",
    }  # fmt: skip
    assert read[2]["region"] is None
    rows = list(csv.DictReader(io.StringIO(as_text(answers, "csv"))))
    assert [float(row["answer_region_area_km2"]) for row in rows[:2]] == [first.area_km2] * 2
    assert (rows[0]["answer_region_probability"], rows[0]["answer_region_cannot_tell"]) == ("0.8", "False")
    assert (rows[0]["answer_region_calibrated"], rows[4]["answer_region_calibrated"]) == ("True", "")
    assert rows[4]["answer_region_area_km2"] == ""
    points = json.loads(as_text(answers, "geojson"))["features"]
    assert [point["geometry"] and point["geometry"]["type"] for point in points] == ["Point", "Point", None]
    assert points[0]["properties"]["region_area_km2"] == first.area_km2
    assert "region" not in points[0]["properties"]


def test_outlines_are_read_by_geopandas_with_equal_areas(answers: list[Answer], tmp_path: Path) -> None:
    path = tmp_path / "regions.geojson"
    with text_file(path, REGIONS) as file:
        file.write(answers)
    frame = geopandas.read_file(path)
    assert frame["photograph"].tolist() == [answer.photograph for answer in answers]
    assert frame.geometry[2] is None
    assert frame["error"][2]
    for row, answer in enumerate(answers[:2]):
        region = answer.region
        assert region is not None
        shape = frame.geometry[row]
        assert shape.is_valid
        area = frame.geometry.iloc[[row]].to_crs("EPSG:27700").area.iloc[0] / 1e6
        assert area == pytest.approx(region.area_km2, rel=5e-3)


@pytest.mark.parametrize(
    ("area", "level", "scope", "reason"),
    [
        ("Cambridge", 0.8, "area", None),
        (
            "Cambridge", 0.99, "area",
            "the 60 validation queries of Cambridge are in 60 blocks, too few for a coverage of 0.99, which needs 99",
        ),
        (
            "Ely", 0.8, "area",
            "the 165 validation queries of Ely are in 165 blocks, and the true places of 42 of them are out of reach "
            "of every candidate: too many for a coverage of 0.8",
        ),
        ("Ely", 0.5, "area", None),
        (
            "Hull", 0.9, "all areas",
            "the 228 validation queries of all areas (Hull has queries in 3 of 20 blocks needed for a calibration by "
            "itself) are in 228 blocks, and the true places of 42 of them are out of reach of every candidate: too "
            "many for a coverage of 0.9",
        ),
        (
            "York", 0.9, "all areas",
            "the 228 validation queries of all areas (York has no query for a calibration by itself) are in 228 "
            "blocks, and the true places of 42 of them are out of reach of every candidate: too many for a coverage of "
            "0.9",
        ),
    ],
)  # fmt: skip
def test_an_abstention_is_that_of_the_photograph_s_area(
    area: str, level: float, scope: str, reason: str | None
) -> None:
    """One city with a quarter of its validation queries out of reach, beside one with none, and two with few."""
    cities = ["Cambridge", "Ely", "Hull", "York"]
    cells = RegionCells.of([[52.2 + at, 0.1] for at in range(4)], cities)
    tails = [np.linspace(0.01, 1.0, 60), np.zeros(42), np.linspace(0.01, 1.0, 123), np.full(3, 0.5)]
    areas = ("Cambridge",) * 60 + ("Ely",) * 165 + ("Hull",) * 3
    calibration = Calibration(np.concatenate(tails), areas, 11, {})
    posterior = np.full(4, 0.01)
    posterior[cities.index(area)] = 0.97
    region = RegionBuilder(cells, calibration, RegionRequest(level)).region(posterior)
    assert (region.area, region.calibrated_on, region.reason) == (area, scope, reason)
    assert region.cannot_tell == (region.area_km2 is None) == (reason is not None)
