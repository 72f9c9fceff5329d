"""Figures by district against plain medians, their paired intervals, blocks and exchangeable units."""

from __future__ import annotations

import statistics

import numpy as np
import pandas as pd
import pytest

from swclip.errors import InputError
from swclip.metrics.bootstrap import ERROR_STATISTICS, paired_differences, resample_blocks
from swclip.metrics.districts import district_differences, district_figures, exchangeable_units, resampling_blocks


def errors(seed: int, seeds: int = 2, n: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).lognormal(4.0, 1.0, (seeds, n))


DISTRICTS = ["York"] * 30 + ["Leeds"] * 20 + ["Hull"] * 10


def test_figures_equal_plain_medians() -> None:
    runs = errors(0)
    figures = district_figures(runs, DISTRICTS)
    by_run = []
    for run in runs.tolist():
        medians = {
            name: statistics.median(run[i] for i in range(60) if DISTRICTS[i] == name) for name in set(DISTRICTS)
        }
        by_run.append((medians, max(medians.values()), max(medians.values()) - min(medians.values())))
    for name in set(DISTRICTS):
        assert figures[f"region:{name}"] == pytest.approx(statistics.mean(medians[name] for medians, _, _ in by_run))
    assert figures["worst_region_median"] == pytest.approx(statistics.mean(worst for _, worst, _ in by_run))
    assert figures["region_gap"] == pytest.approx(statistics.mean(gap for _, _, gap in by_run))
    assert figures["median"] == pytest.approx(statistics.mean(statistics.median(run) for run in runs.tolist()))
    assert figures["mean"] == pytest.approx(runs.mean())


def test_pooled_differences_equal_paired_differences() -> None:
    a, b = errors(0), errors(1, seeds=3)
    resampled = resample_blocks([str(i // 4) for i in range(60)], 200, np.random.default_rng(0))
    pooled = district_differences(a, b, DISTRICTS, resampled)
    expected = paired_differences(a, b, resampled, {key: ERROR_STATISTICS[key] for key in ("median", "mean")})
    for key, interval in expected.items():
        differences = pooled[key]
        assert (differences.value, differences.low, differences.high) == pytest.approx(
            (interval.value, interval.low, interval.high)
        )


def test_only_the_improved_district_differs() -> None:
    b = errors(2)
    a = b.copy()
    a[:, 50:] /= 3.0
    resampled = resample_blocks([str(i) for i in range(60)], 300, np.random.default_rng(0))
    differences = district_differences(a, b, DISTRICTS, resampled)
    assert differences["region:Hull"].high < 0.0
    assert (differences["region:York"].value, differences["region:York"].low, differences["region:York"].high) == (
        0.0,
        0.0,
        0.0,
    )


def test_a_resample_without_a_district_is_ignored_for_it() -> None:
    a, b = np.array([1.0, 2.0, 3.0, 9.0]), np.array([2.0, 3.0, 4.0, 4.0])
    resampled = [np.array([0, 1, 2]), np.array([0, 1, 3]), np.array([2, 3, 3])]
    differences = district_differences(a, b, ["x", "x", "x", "y"], resampled)
    assert (differences["region:y"].low, differences["region:y"].high) == (5.0, 5.0)


def test_the_number_of_districts_must_equal_the_number_of_errors() -> None:
    with pytest.raises(InputError, match="60 errors need as many districts"):
        district_figures(errors(0), DISTRICTS[:-1])


FRAME = pd.DataFrame({"place_id": ["a", "a", "b", "c"], "block_id": ["x", "x", "x", "y"]})
POSITIONS = np.array([[51.5, -0.1], [51.5, -0.1], [51.5000001, -0.1], [51.6, -0.1]])


def test_units_are_places_for_known_places_and_blocks_for_new_streets() -> None:
    assert exchangeable_units(FRAME, POSITIONS, "known-places") == ["a", "a", "b", "c"]
    for protocol in ("new-streets", "new-city", None):
        assert exchangeable_units(FRAME, POSITIONS, protocol) == resampling_blocks(FRAME, POSITIONS)[0]
    assert exchangeable_units(FRAME, POSITIONS, "new-streets") == ["x", "x", "x", "y"]


def test_places_without_an_id_are_identified_by_position() -> None:
    for frame in (FRAME.drop(columns="place_id"), FRAME.assign(place_id=["a", None, "b", "c"])):
        one, two, three, four = exchangeable_units(frame, POSITIONS, "known-places")
        assert one == two == three != four
