"""A comparison as data frames and HTML: the figures of its document."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from swclip.comparison.compare import compare
from swclip.comparison.comparison import Comparison

NASTY = "<b>&"


@pytest.fixture(scope="module")
def comparison(made_up: Any) -> Comparison:
    runs = {
        "base": {0: made_up(1, system=1, spread_m=70.0)},
        NASTY: {seed: made_up(1, system=5 + seed) for seed in (0, 1)},
    }
    return compare(runs, {}, resamples=40)


def test_systems_frame(comparison: Comparison) -> None:
    frame = comparison.systems.set_index("system")
    assert frame["median_m"].is_monotonic_increasing
    for name, system in comparison.document.systems.items():
        mean = system.mean
        assert frame.loc[name, "median_m"] == mean.error_m.median
        ends = [frame.loc[name, "within_50_low"], frame.loc[name, "within_50_high"]]
        assert ends == mean.intervals.accuracy_within_m["50"]
        assert frame.loc[name, "seeds"] == len(system.seeds)
    assert np.isnan(frame.loc["base", "median_m_sd"])
    assert frame.loc[NASTY, "median_m_sd"] == comparison.document.systems[NASTY].mean.seed_sd.error_m["median"]


def test_differences_frame(comparison: Comparison) -> None:
    frame = comparison.differences
    assert len(frame) == 5
    for row in frame.itertuples():
        expected = comparison.document.systems[NASTY].difference.figures[row.figure]
        assert (row.system, row.against, row.value) == (NASTY, "base", expected.value)
        assert (row.low, row.high) == expected.interval
        assert row.shown == expected.excludes_zero
        assert row.better == ((expected.value < 0) != row.figure.startswith("within"))


def test_districts_frame(comparison: Comparison) -> None:
    frame = comparison.regions
    assert len(frame) == 3 * 2
    for name, winner in comparison.document.winners.regions.items():
        rows = frame[frame["region"] == name].set_index("system")
        assert rows.loc[winner.first, "rank"] == 1
        assert rows.loc[winner.second, "rank"] == 2
        assert np.isnan(rows.loc["base", "difference_m"])
        assert rows.loc[NASTY, "difference_m"] == winner.difference[NASTY].value
    assert frame["low_m"].dtype == np.float64


def test_query_changes_and_plot(comparison: Comparison) -> None:
    assert len(comparison.query_changes) == 45
    first = comparison.query_changes.iloc[0]
    assert first[f"{NASTY}_change_m"] == pytest.approx(first[f"{NASTY}_error_m"] - first["base_error_m"])
    axes = comparison.plot("Two").axes[0]
    assert [line.get_label() for line in axes.get_lines()[2:]] == [*comparison.systems["system"], "oracle error"]
    assert axes.get_title(loc="left") == "Two"


def test_html_escapes_names(comparison: Comparison) -> None:
    html = comparison._repr_html_()
    assert "&lt;b&gt;&amp;" in html
    assert NASTY not in html
    assert html.count("<table>") == html.count("</table>") == 2
    assert "Paired difference from base" in html
