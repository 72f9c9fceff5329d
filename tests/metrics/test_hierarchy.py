"""City and cell: the figures against loops, and proper scores."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import h3
import numpy as np
import pandas as pd
import pytest

from swclip.evaluation.measure import MeasureConfig, measure
from swclip.evaluation.predictions import read_predictions, write_predictions
from swclip.geo.coordinates import LocalFrame
from swclip.metrics.hierarchy import LEAST_PROBABILITY, LevelMeter, level_scores

QUERIES, CANDIDATES = 24, 60


@pytest.fixture
def problem() -> tuple[np.ndarray, list[Any], np.ndarray, list[Any], np.ndarray]:
    """Truth, its cities (some not known, one without candidates), candidates, their cities, posterior."""
    generator = np.random.default_rng(5)
    truth = LocalFrame(53.8, -1.55).to_deg(generator.uniform(-900, 900, (QUERIES, 2)))
    places = LocalFrame(53.8, -1.55).to_deg(generator.uniform(-900, 900, (CANDIDATES, 2)))
    cities = [("Leeds", "York", None, "Hull")[row % 4] for row in range(QUERIES)]
    theirs = [("York", "Leeds", None)[row % 3] for row in range(CANDIDATES)]
    p = generator.random((QUERIES, CANDIDATES)) ** 6
    return truth, cities, places, theirs, p / p.sum(axis=1, keepdims=True)


def test_the_figures_are_those_of_loops(problem: Any) -> None:
    truth, cities, places, theirs, p = problem
    meter = LevelMeter(truth, cities, places, theirs, resolutions=(8, 9))
    for part in np.split(p, [1, 10]):
        meter.add(part)
    points = places[p.argmax(axis=1)]
    report = meter.report(points)
    assert list(report) == ["city", "cell_8", "cell_9"]

    def cell(position: np.ndarray, resolution: int) -> str:
        return str(h3.cell_to_parent(h3.latlng_to_cell(*position, 9), resolution))

    named = {
        "city": (cities, theirs),
        **{f"cell_{r}": ([cell(c, r) for c in truth], [cell(c, r) for c in places]) for r in (8, 9)},
    }
    for name, (true, units) in named.items():
        right = point = n = answerable = 0
        of_true = brier = surprise = 0.0
        for row in range(QUERIES):
            if true[row] is None:
                continue
            n += 1
            mass: dict[str, float] = {}
            for m in range(CANDIDATES):
                if units[m] is not None:
                    mass[units[m]] = mass.get(units[m], 0.0) + p[row, m]
            right += max(mass, key=lambda unit, mass=mass: mass[unit]) == true[row]
            point += units[int(p[row].argmax())] == true[row]
            of_true += mass.get(true[row], 0.0)
            brier += sum((value - (unit == true[row])) ** 2 for unit, value in mass.items()) + (true[row] not in mass)
            if true[row] in mass:
                answerable += 1
                surprise += -math.log(mass[true[row]])
        found = report[name]
        assert (found.n, found.n_answerable, found.units) == (n, answerable, len(set(units) - {None}))
        assert found.accuracy == pytest.approx(right / n)
        assert found.accuracy_of_point == pytest.approx(point / n)
        assert found.mean_probability == pytest.approx(of_true / n)
        assert found.brier == pytest.approx(brier / n)
        assert found.log_score == pytest.approx(surprise / answerable)
    assert report["city"].n_answerable < report["city"].n < QUERIES, "or the example would not tell"
    predicted, probability = meter.cities()
    by_city = np.array([[p[row][np.array(theirs) == city].sum() for city in ("Leeds", "York")] for row in range(24)])
    assert predicted == [("Leeds", "York")[at] for at in by_city.argmax(axis=1)]
    np.testing.assert_allclose(np.array(probability, dtype=float), by_city.max(axis=1))


def test_the_scores_are_proper() -> None:
    """Nothing is gained by stating another probability than one's own."""
    own = np.array([0.2, 0.5, 0.3])

    def expected(stated: np.ndarray) -> tuple[float, float]:
        of_true, brier = level_scores(np.tile(stated, (3, 1)), np.arange(3))
        return float(own @ brier), float(own @ -np.log(of_true))

    honest = expected(own)
    for other in ([0.1, 0.6, 0.3], [0.0001, 0.9998, 0.0001], [1 / 3, 1 / 3, 1 / 3], [0.25, 0.5, 0.25]):
        assert all(np.array(expected(np.array(other))) > np.array(honest))
    assert [float(score[0]) for score in level_scores(np.array([[1.0, 0.0]]), np.array([0]))] == [1.0, 0.0]
    assert [float(score[0]) for score in level_scores(np.array([[1.0, 0.0]]), np.array([1]))] == [0.0, 2.0]


def test_one_sure_error_leaves_the_log_score_finite() -> None:
    meter = LevelMeter([[53.8, -1.55]], ["Leeds"], [[53.8, -1.55], [53.96, -1.08]], ["Leeds", "York"])
    meter.add(np.array([[0.0, 1.0]]))
    found = meter.report([[53.96, -1.08]])["city"]
    assert found.log_score == pytest.approx(-math.log(LEAST_PROBABILITY))
    assert (found.accuracy, found.accuracy_of_point, found.brier) == (0.0, 0.0, 2.0)


def test_without_known_cities_there_are_cells_alone(problem: Any) -> None:
    truth, cities, places, theirs, p = problem
    for known, own in (([None] * QUERIES, theirs), (cities, [None] * CANDIDATES)):
        meter = LevelMeter(truth, known, places, own, (8,))
        meter.add(p)
        assert list(meter.report(truth)) == ["cell_8"]
    assert meter.cities() == ([None] * QUERIES, [None] * QUERIES)


def _tables(problem: Any) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    truth, cities, places, theirs, p = problem
    asked = pd.DataFrame({"image_id": [f"q{i}" for i in range(QUERIES)], "city": cities})
    there = pd.DataFrame({"candidate_id": [f"c{i}" for i in range(CANDIDATES)], "city": theirs})
    there["image_ids"] = [[] for _ in range(CANDIDATES)]
    return (
        asked.assign(lat_deg=truth[:, 0], lon_deg=truth[:, 1]),
        there.assign(lat_deg=places[:, 0], lon_deg=places[:, 1]),
        np.log(p).astype(np.float32),
    )


def test_measured_is_what_answers_state(problem: Any, tmp_path: Path) -> None:
    asked, there, log_p = _tables(problem)
    estimators = {"argmax": lambda scores, positions: positions[scores.argmax(axis=1)]}
    config = MeasureConfig("argmax", resamples=20, resolutions=(9,))
    found = measure(asked, there, [log_p], estimators, np.zeros((0, 2)), config)
    meter = LevelMeter(problem[0], problem[1], problem[2], problem[3], (9,))
    meter.add(problem[4])
    expected = meter.report(problem[2][problem[4].argmax(axis=1)])
    for name, own in expected.items():
        assert dict(found.report.levels[name]) == pytest.approx(dict(own), rel=1e-4)
    flat = measure(
        asked, there, [log_p], estimators, np.zeros((0, 2)), config, smoothing=lambda p: np.full(p.shape, 1.0 / 60.0)
    )
    assert flat.report.levels["city"].mean_probability == pytest.approx(20 / 60 * 12 / 18, rel=1e-6)
    assert flat.report.error_m == found.report.error_m, "the point is of the posterior as it was"
    write_predictions(tmp_path / "predictions.parquet", found.predictions)
    back = read_predictions(tmp_path / "predictions.parquet")
    assert back["city_predicted"].tolist() == meter.cities()[0]
    assert back["city_probability"].tolist() == pytest.approx(meter.cities()[1], rel=1e-4)
