"""Means over seeds, differences, and the console table of a comparison."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from swclip.comparison.comparison import Comparison, compare, comparison_table
from swclip.errors import ConfigError, MismatchError


@pytest.fixture(scope="module")
def comparison(made_up: Any) -> Comparison:
    systems = {"clip": {"spread_m": 90.0, "lost_share": 0.3}, "sw-clip": {"spread_m": 20.0, "lost_share": 0.05}}
    runs = {
        name: {seed: made_up(1, system=10 * at + seed, **options) for seed in (1, 2)}
        for at, (name, options) in enumerate(systems.items())
    }
    return compare(runs, {"swclip": "0.1.0"}, resamples=200)


def test_document_has_the_documented_keys(comparison: Comparison) -> None:
    document = comparison.document
    assert set(document["systems"]) == {"clip", "sw-clip"}
    assert document["made_with"] == {"swclip": "0.1.0"}
    for system in document["systems"].values():
        assert set(system["seeds"]) == {"1", "2"}
        for report in (*system["seeds"].values(), system["mean"]):
            assert {"n_queries", "gallery_size", "error_m", "accuracy_within_m", "recall_at_k_25m"} <= set(report)
            assert {"baselines", "by_region", "intervals"} <= set(report)
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_means_over_seeds(comparison: Comparison) -> None:
    for name, system in comparison.document["systems"].items():
        for group, key in (("error_m", "median"), ("accuracy_within_m", "100"), ("recall_at_k_25m", "5")):
            values = [report[group][key] for report in system["seeds"].values()]
            assert system["mean"][group][key] == pytest.approx(sum(values) / len(values))
        medians = [float(np.median(errors)) for errors in comparison.errors_m(name)]
        assert system["mean"]["seed_sd"]["error_m"]["median"] == pytest.approx(np.std(medians, ddof=1))
        low, high = system["mean"]["intervals"]["error_m"]["median"]
        assert low <= system["mean"]["error_m"]["median"] <= high


def test_difference_from_the_baseline(comparison: Comparison) -> None:
    systems = comparison.document["systems"]
    assert "difference" not in systems["clip"]
    difference = systems["sw-clip"]["difference"]
    assert difference["from"] == "clip"
    expected = systems["sw-clip"]["mean"]["error_m"]["median"] - systems["clip"]["mean"]["error_m"]["median"]
    assert difference["median"]["value"] == pytest.approx(expected)
    assert difference["median"]["high"] < 0.0  # four times sharper scores


def test_console_table(comparison: Comparison) -> None:
    title, columns, rows = comparison_table(comparison.document)
    assert "mean of 2 seeds" in title
    assert {len(row) for row in rows} == {len(columns)}
    assert [row[0] for row in rows] == ["clip", "sw-clip", "(oracle error)", "(random baseline)"]
    assert rows[0][-1] == ""
    assert rows[1][-1].startswith("-")


def test_systems_with_different_queries_raise(made_up: Any) -> None:
    with pytest.raises(MismatchError, match="one manifest"):
        compare({"a": {0: made_up(1)}, "b": {0: made_up(1, per_city=64)}}, {})


def test_empty_comparison_raises(made_up: Any) -> None:
    with pytest.raises(ConfigError, match="at least one system"):
        compare({}, {})
    with pytest.raises(ConfigError, match="at least one seed"):
        compare({"a": {}}, {})
    with pytest.raises(ConfigError, match="'b'"):
        compare({"a": {0: made_up(1)}}, {}, baseline="b")
