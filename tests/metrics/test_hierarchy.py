"""Figures by hierarchy level against loops, and proper scores."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import h3
import numpy as np
import pandas as pd
import pytest

from swclip.evaluation.measure import MeasureConfig, measure
from swclip.evaluation.result import read_predictions, write_predictions
from swclip.geo.coordinates import LocalFrame
from swclip.metrics.hierarchy import LEAST_PROBABILITY, LevelMeter, level_scores

QUERIES, CANDIDATES = 24, 60


@pytest.fixture
def problem() -> tuple[np.ndarray, list[Any], np.ndarray, list[Any], np.ndarray]:
    """Truth, its cities (some unknown, one without candidates), candidates, their cities, posterior."""
    generator = np.random.default_rng(5)
    truth = LocalFrame(53.8, -1.55).to_deg(generator.uniform(-900, 900, (QUERIES, 2)))
    places = LocalFrame(53.8, -1.55).to_deg(generator.uniform(-900, 900, (CANDIDATES, 2)))
    cities = [("Leeds", "York", None, "Hull")[row % 4] for row in range(QUERIES)]
    candidate_cities = [("York", "Leeds", None)[row % 3] for row in range(CANDIDATES)]
    p = generator.random((QUERIES, CANDIDATES)) ** 6
    return truth, cities, places, candidate_cities, p / p.sum(axis=1, keepdims=True)


def test_figures_equal_loops(problem: Any) -> None:
    truth, cities, places, candidate_cities, p = problem
    meter = LevelMeter(truth, cities, places, candidate_cities, resolutions=(8, 9))
    for part in np.split(p, [1, 10]):
        meter.add(part)
    points = places[p.argmax(axis=1)]
    report = meter.report(points)
    assert list(report) == ["city", "cell_8", "cell_9"]

    def cell(position: np.ndarray, resolution: int) -> str:
        return str(h3.cell_to_parent(h3.latlng_to_cell(*position, 9), resolution))

    units_of = {
        "city": (cities, candidate_cities),
        **{f"cell_{r}": ([cell(c, r) for c in truth], [cell(c, r) for c in places]) for r in (8, 9)},
    }
    for name, (true, units) in units_of.items():
        right = point = n = answerable = 0
        true_mass = brier = log_loss = 0.0
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
            true_mass += mass.get(true[row], 0.0)
            brier += sum((value - (unit == true[row])) ** 2 for unit, value in mass.items()) + (true[row] not in mass)
            if true[row] in mass:
                answerable += 1
                log_loss += -math.log(mass[true[row]])
        result = report[name]
        assert (result.n, result.n_answerable, result.units) == (n, answerable, len(set(units) - {None}))
        assert result.accuracy == pytest.approx(right / n)
        assert result.accuracy_of_point == pytest.approx(point / n)
        assert result.mean_probability == pytest.approx(true_mass / n)
        assert result.brier == pytest.approx(brier / n)
        assert result.log_score == pytest.approx(log_loss / answerable)
    assert report["city"].n_answerable < report["city"].n < QUERIES, "the example must contain both cases"
    predicted, probability = meter.cities()
    by_city = np.array(
        [[p[row][np.array(candidate_cities) == city].sum() for city in ("Leeds", "York")] for row in range(24)]
    )
    assert predicted == [("Leeds", "York")[at] for at in by_city.argmax(axis=1)]
    np.testing.assert_allclose(np.array(probability, dtype=float), by_city.max(axis=1))


def test_the_scores_are_proper() -> None:
    """The expected score is best for the true distribution."""
    distribution = np.array([0.2, 0.5, 0.3])

    def expected(stated: np.ndarray) -> tuple[float, float]:
        true_mass, brier = level_scores(np.tile(stated, (3, 1)), np.arange(3))
        return float(distribution @ brier), float(distribution @ -np.log(true_mass))

    best = expected(distribution)
    for other in ([0.1, 0.6, 0.3], [0.0001, 0.9998, 0.0001], [1 / 3, 1 / 3, 1 / 3], [0.25, 0.5, 0.25]):
        assert all(np.array(expected(np.array(other))) > np.array(best))
    assert [float(score[0]) for score in level_scores(np.array([[1.0, 0.0]]), np.array([0]))] == [1.0, 0.0]
    assert [float(score[0]) for score in level_scores(np.array([[1.0, 0.0]]), np.array([1]))] == [0.0, 2.0]


def test_a_confident_error_has_a_finite_log_score() -> None:
    meter = LevelMeter([[53.8, -1.55]], ["Leeds"], [[53.8, -1.55], [53.96, -1.08]], ["Leeds", "York"])
    meter.add(np.array([[0.0, 1.0]]))
    result = meter.report([[53.96, -1.08]])["city"]
    assert result.log_score == pytest.approx(-math.log(LEAST_PROBABILITY))
    assert (result.accuracy, result.accuracy_of_point, result.brier) == (0.0, 0.0, 2.0)


def test_without_cities_only_cells_are_reported(problem: Any) -> None:
    truth, cities, places, candidate_cities, p = problem
    for query_cities, names in (([None] * QUERIES, candidate_cities), (cities, [None] * CANDIDATES)):
        meter = LevelMeter(truth, query_cities, places, names, (8,))
        meter.add(p)
        assert list(meter.report(truth)) == ["cell_8"]
    assert meter.cities() == ([None] * QUERIES, [None] * QUERIES)


def _tables(problem: Any) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    truth, cities, places, candidate_cities, p = problem
    queries = pd.DataFrame({"image_id": [f"q{i}" for i in range(QUERIES)], "city": cities})
    candidates = pd.DataFrame({"candidate_id": [f"c{i}" for i in range(CANDIDATES)], "city": candidate_cities})
    candidates["image_ids"] = [[] for _ in range(CANDIDATES)]
    return (
        queries.assign(lat_deg=truth[:, 0], lon_deg=truth[:, 1]),
        candidates.assign(lat_deg=places[:, 0], lon_deg=places[:, 1]),
        np.log(p).astype(np.float32),
    )


def test_measure_reports_the_smoothed_posterior(problem: Any, tmp_path: Path) -> None:
    queries, candidates, log_p = _tables(problem)
    estimators = {"argmax": lambda scores, positions: positions[scores.argmax(axis=1)]}
    config = MeasureConfig("argmax", resamples=20, resolutions=(9,))
    result = measure(queries, candidates, [log_p], estimators, np.zeros((0, 2)), config)
    meter = LevelMeter(problem[0], problem[1], problem[2], problem[3], (9,))
    meter.add(problem[4])
    expected = meter.report(problem[2][problem[4].argmax(axis=1)])
    for name, figures in expected.items():
        assert dict(result.report.levels[name]) == pytest.approx(dict(figures), rel=1e-4)
    flat = measure(
        queries,
        candidates,
        [log_p],
        estimators,
        np.zeros((0, 2)),
        config,
        smoothing=lambda p: np.full(p.shape, 1.0 / 60.0),
    )
    assert flat.report.levels["city"].mean_probability == pytest.approx(20 / 60 * 12 / 18, rel=1e-6)
    assert flat.report.error_m == result.report.error_m, "the point is of the posterior before smoothing"
    write_predictions(tmp_path / "predictions.parquet", result.predictions)
    back = read_predictions(tmp_path / "predictions.parquet")
    assert back["city_predicted"].tolist() == meter.cities()[0]
    assert back["city_probability"].tolist() == pytest.approx(meter.cities()[1], rel=1e-4)
