"""Pooling over held-out cities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from swclip.comparison.compare import compare
from swclip.comparison.pooling import pool_evaluations
from swclip.errors import InputError, MismatchError
from swclip.evaluation.result import Evaluation
from swclip.geo.distance import geodesic_m

CITIES = {"Leeds": (53.8008, -1.5491), "York": (53.96, -1.0873), "Bath": (51.3811, -2.359)}


@pytest.fixture(scope="module")
def parts(made_up: Any) -> list[Evaluation]:
    found = []
    for number, (city, centre) in enumerate(CITIES.items()):
        part = made_up(number, per_city=40 + 20 * number, cities={city: centre})
        part.predictions["image_id"] = f"{city} " + part.predictions["image_id"]
        found.append(part)
    return found


def test_each_query_is_counted_once_and_not_each_city(parts: list[Evaluation]) -> None:
    pooled = pool_evaluations(parts)
    errors = np.concatenate([part.predictions["error_m"] for part in parts])
    report = pooled.report
    assert report.n_queries == len(errors) == len(pooled.predictions)
    assert report.error_m.median == np.median(errors)
    assert report.error_m.mean == pytest.approx(errors.mean())
    assert report.accuracy_within_m["100"] == np.mean(errors <= 100.0)
    assert report.error_m.median != pytest.approx(np.mean([part.report.error_m.median for part in parts]))
    hits = sum(round(part.report.recall_at_k_25m["5"] * part.report.n_queries) for part in parts)
    assert report.recall_at_k_25m["5"] == pytest.approx(hits / len(errors))
    assert report.n_answerable == sum(part.report.n_answerable for part in parts)
    weights = [part.report.n_queries for part in parts]
    sizes = [part.report.gallery_size for part in parts]
    assert report.gallery_size == pytest.approx(np.average(sizes, weights=weights))
    assert set(report.by_region) == set(CITIES)
    for part, city in zip(parts, CITIES, strict=True):
        assert report.by_region[city].median == part.report.by_region[city].median
    for name in ("mode", "argmax"):
        own = np.concatenate([part.errors_m[name] for part in parts])
        assert report.estimators[name].error_m.median == np.median(own)
    assert parts[0].report.model_fields_set - {"made_with"} <= report.model_fields_set
    for name, level in report.levels.items():
        levels = [part.report.levels[name] for part in parts]
        right = sum(round(entry.accuracy * entry.n) for entry in levels)
        assert level.n == sum(entry.n for entry in levels)
        assert level.accuracy == pytest.approx(right / level.n)
    assert report.levels


def test_each_query_has_the_baselines_of_its_part(parts: list[Evaluation]) -> None:
    pooled = pool_evaluations(parts).report.baselines
    oracle = np.concatenate([part.predictions["floor_m"] for part in parts])
    assert pooled.floor.median == np.median(oracle)
    errors = []
    for part in parts:
        constant = part.report.baselines.constant
        for row in part.predictions.itertuples():
            errors.append(geodesic_m([row.lat_deg, row.lon_deg], [constant.lat_deg, constant.lon_deg])[0])
    assert pooled.constant.mean == pytest.approx(np.mean(errors))
    # Random candidates are from the city of the query: from all cities their errors would be 100 km.
    assert pooled.random.p99 < 2_000.0


def test_blocks_of_different_cities_differ(parts: list[Evaluation]) -> None:
    for part in parts:
        part.predictions["block"] = part.predictions["block"].str.replace("^[A-Z][a-z]+", "here", regex=True)
    pooled = pool_evaluations(parts)
    assert pooled.report.intervals.blocks == sum(part.predictions["block"].nunique() for part in parts)


def test_pooled_systems_can_be_compared(parts: list[Evaluation]) -> None:
    pooled = pool_evaluations(parts)
    document = compare({"a": {0: pooled}, "b": {0: pooled, 1: pooled}}, {}, resamples=20).document
    assert document.from_baseline["b"].median.value == 0.0


def test_repeated_query_raises(parts: list[Evaluation]) -> None:
    with pytest.raises(MismatchError, match="is a query of two"):
        pool_evaluations([parts[0], parts[0]])
    with pytest.raises(InputError, match="no evaluations"):
        pool_evaluations([])
