"""Stated probabilities: recovered maps, ranking, few queries, correlated blocks, and JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit

from swclip.calibration.stated import LEAST_SLOPE, RADII_M, StatedProbabilities

LINES = {"dense": (1.2, 0.3), "sparse": (0.4, -1.5)}


def _draw(count: int, seed: int, area: str) -> tuple[np.ndarray, np.ndarray]:
    """Masses, and errors of 10 m with the probability of the area's line, or 900 m."""
    generator = np.random.default_rng(seed)
    mass = expit(generator.normal(0.5, 2.5, count))
    slope, offset = LINES[area]
    return mass, np.where(generator.random(count) < expit(slope * logit(mass) + offset), 10.0, 900.0)


def _fit(
    mass: np.ndarray, error_m: np.ndarray, areas: list[str], blocks: np.ndarray | None = None
) -> StatedProbabilities:
    rows = np.arange(len(mass)) if blocks is None else blocks
    return StatedProbabilities.fit(dict.fromkeys(RADII_M, mass), error_m, areas, rows)


def test_each_area_states_what_happens_in_it() -> None:
    """Maps from 400 queries each; on new queries all ten groups of similar probability are near the truth."""
    parts = [_draw(400, seed, area) for seed, area in enumerate(LINES)]
    maps = _fit(*(np.concatenate(values) for values in zip(*parts, strict=True)), ["dense"] * 400 + ["sparse"] * 400)
    for seed, area in enumerate(LINES):
        assert maps.by_area[50.0][area] == pytest.approx(LINES[area], abs=0.4)
        mass, error_m = _draw(20_000, 10 + seed, area)
        stated = maps.of(mass, [area] * len(mass), 50.0)
        for rows in np.array_split(np.argsort(stated), 10):
            assert np.mean(error_m[rows] <= 50.0) == pytest.approx(stated[rows].mean(), abs=0.1)
        assert (np.argsort(stated, kind="stable") == np.argsort(mass, kind="stable")).all(), "the ranking stays"
        overconfident = np.mean(mass[np.argsort(mass)[-2000:]]) - np.mean(error_m[np.argsort(mass)[-2000:]] <= 50.0)
        if area == "sparse":
            assert overconfident > 0.3, "the mass itself is not what happens"


def test_the_fit_is_that_of_a_general_optimizer() -> None:
    mass, error_m = _draw(60, 3, "sparse")
    blocks = np.repeat(np.arange(20), 3)
    maps = _fit(mass, error_m, ["sparse"] * 60, blocks)

    def cost(line: np.ndarray, centre: tuple[float, float]) -> float:
        p = expit(line[0] * logit(mass) + line[1])
        likelihood = -np.where(error_m <= 50.0, np.log(p), np.log1p(-p)).sum() * 20 / 60  # blocks of three
        return float(likelihood + 0.5 * (np.array([1.0, 0.25]) * (line - np.array(centre)) ** 2).sum())

    overall = minimize(cost, [1.0, 0.0], args=((1.0, 0.0),), tol=1e-12).x
    assert maps.overall[50.0] == pytest.approx(tuple(overall), abs=1e-4)
    own = minimize(cost, overall, args=(maps.overall[50.0],), tol=1e-12).x
    assert maps.by_area[50.0]["sparse"] == pytest.approx(tuple(own), abs=1e-4)


def test_an_area_with_few_queries_is_drawn_to_the_map_of_all() -> None:
    mass, error_m = _draw(400, 1, "dense")
    few_mass, few_error_m = np.full(2, 0.9), np.array([10.0, 900.0])
    maps = _fit(np.append(mass, few_mass), np.append(error_m, few_error_m), ["dense"] * 400 + ["few"] * 2)
    without = maps.of(np.array([0.9]), ["an area without queries"], 50.0)
    assert without == pytest.approx(expit(maps.overall[50.0][0] * logit(0.9) + maps.overall[50.0][1]))
    assert 0.5 < maps.of(np.array([0.9]), ["few"], 50.0)[0] < without[0], "not one half, as of the two queries"
    half = _fit(np.append(mass, [0.9]), np.append(error_m, [10.0]), ["dense"] * 400 + ["few"])
    assert half.of(np.array([0.9]), ["few"], 50.0) == pytest.approx(without, abs=0.03)
    nothing = _fit(np.zeros(0), np.zeros(0), [])
    assert nothing.overall[50.0] == (1.0, 0.0), "the mass itself"


def test_an_area_far_from_the_others_is_not_drawn_to_them() -> None:
    """Forty queries of a sparse city, of which hardly any is right, beside a dense city whose are nearly all."""
    mass, _ = _draw(40, 6, "dense")
    near, _ = _draw(200, 7, "dense")
    error_m = np.concatenate([np.full(200, 10.0), np.where(np.arange(40) < 2, 10.0, 900.0)])
    maps = _fit(np.concatenate([near, mass]), error_m, ["dense"] * 200 + ["sparse"] * 40)
    assert maps.of(mass, ["sparse"] * 40, 50.0).mean() == pytest.approx(2 / 40, abs=0.06)


def test_a_mass_that_says_nothing_keeps_its_order() -> None:
    mass, error_m = _draw(500, 2, "dense")
    maps = _fit(1.0 - mass, error_m, ["dense"] * 500)
    slope, _ = maps.overall[50.0]
    assert slope == LEAST_SLOPE
    stated = maps.of(np.array([0.0, 0.1, 0.9, 1.0]), ["dense"] * 4, 50.0)
    assert (np.diff(stated) > 0).all()
    assert ((stated > 0) & (stated < 1)).all()
    assert np.mean(maps.of(1.0 - mass, ["dense"] * 500, 50.0)) == pytest.approx(np.mean(error_m <= 50.0), abs=0.02)


def test_maps_survive_json() -> None:
    maps = _fit(*_draw(50, 4, "dense"), ["Leeds"] * 20 + ["York"] * 30)
    assert StatedProbabilities.from_dict(json.loads(json.dumps(maps.to_dict()))) == maps
    for wrong in ({}, {"25": {"all": [1.0], "areas": {}}}, {"25": {"all": [-1.0, 0.0], "areas": {}}}):
        with pytest.raises((KeyError, ValueError)):
            StatedProbabilities.from_dict(wrong)
