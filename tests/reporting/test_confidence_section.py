"""Texts and tables of prediction regions and calibration follow the figures."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.reports import edited, without
from swclip.evaluation.report import Report
from swclip.metrics.calibration import ReliabilityBin
from swclip.reporting.confidence_section import confidence_section, coverage_summary, coverage_verdict
from swclip.reporting.reliability import reliability_text


@given(st.floats(0.05, 0.95), st.floats(0.0, 0.5), st.floats(0.0, 0.5))
def test_coverage_verdict_follows_the_interval(level: float, below: float, above: float) -> None:
    interval = [level - below + 0.1, level + above + 0.1]
    verdict = coverage_verdict(level, interval)
    assert (verdict == "calibrated") == (interval[0] <= level <= interval[1])
    assert (verdict == "over-covering") == (interval[0] > level)
    assert coverage_verdict(level, [0.0, level / 2]) == "under-covering"


def test_coverage_summary(report: Report) -> None:
    def measured(document: dict[str, Any]) -> None:
        level = document["calibration"]["levels"][1]
        level |= {"coverage": 0.742, "coverage_interval": [0.681, 0.788], "n": 412, "cannot_tell": 0.031}
        level["area_km2"]["median"] = 0.31
        document["calibration"]["total_area_km2"] = 12.0

    calibration = edited(report, measured).calibration
    assert calibration is not None
    assert coverage_summary(calibration) == (
        "The 80 % regions contain the true position of 74.2 % [68.1 to 78.8 %] of 412 queries: under-covering. The "
        "median area of a region is 0.31 km²; the gallery covers 12 km². The system abstains for 3.1 % of the "
        "queries: it states no region."
    )


def bins(stated: list[float], right: list[float], n: tuple[int, ...] = ()) -> list[ReliabilityBin]:
    return [
        ReliabilityBin(low=0.0, high=1.0, n=n, mean_probability=s, coverage=r, coverage_interval=[r - 0.05, r + 0.05])
        for s, r, n in zip(stated, right, n or [50] * len(stated), strict=True)
    ]


def test_reliability_text_weights_bins_by_queries() -> None:
    assert "overconfident" in reliability_text(bins([0.3, 0.6, 0.9], [0.1, 0.4, 0.7]))
    assert "underconfident" in reliability_text(bins([0.3, 0.6, 0.9], [0.5, 0.8, 1.0]))
    assert "overconfident in some" in reliability_text(bins([0.3, 0.9], [0.5, 0.7]))
    assert "In all 3 bins" in reliability_text(bins([0.3, 0.6, 0.9], [0.32, 0.58, 0.9]))
    assert "may be chance" in reliability_text(
        bins([0.1 * at for at in range(1, 11)], [0.2, *[0.1 * at for at in range(2, 11)]])
    )
    assert "answer is 65.0 %" in reliability_text(bins([0.2, 0.8], [0.2, 0.8], n=(50, 150)))
    assert reliability_text([]) == ""


def test_the_page_begins_with_what_stated_probabilities_meant(report: Report) -> None:
    section = confidence_section(report)
    assert section is not None
    assert section.stated.startswith(
        "Stated probabilities: an error below 50 m is stated with 50.0 % on average, and is true of 46.0 % [41.0 % to"
    ) or section.stated.startswith("Stated probabilities: an error below 50 m is stated with 50.0 % on average")
    assert "The surest tenth states 95.0 %; 85.6 %" in section.stated
    assert "They are farthest from the truth in" in section.stated
    chart = next(chart for chart in section.charts if chart.name == "stated")
    assert next(series.name for series in chart.series) == "all"
    assert len(chart.series) > 2

    def bare(document: dict[str, Any]) -> None:
        document["calibration"]["stated"] |= {"calibrated": False, "by_region": {}}

    alone = confidence_section(edited(report, bare))
    assert alone is not None
    assert alone.stated.startswith("Stated probabilities (posterior mass, not calibrated): ")
    assert "farthest" not in alone.stated
    earlier = confidence_section(edited(report, lambda document: document["calibration"].pop("stated")))
    assert earlier is not None
    assert (earlier.stated, next(chart.name for chart in earlier.charts)) == ("", "reliability")


def test_unbounded_regions_are_reported(report: Report) -> None:
    whole = confidence_section(report)
    assert whole is not None
    names = {chart.name for chart in whole.charts}
    assert names == {"stated", "reliability", "area", "selective", "selective-within-100-m"}
    assert len(whole.coverage.rows) == 4
    assert whole.areas is not None
    assert [cell.text for cell in whole.areas.rows[1].cells[1:]] == ["60", "24", "1", "25 m", "its own queries"]
    assert "calibrated by area" in whole.method
    one = confidence_section(edited(report, lambda document: document["calibration"]["method"].pop("areas")))
    assert one is not None
    assert one.areas is None
    assert confidence_section(without(report, calibration=None)) is None

    def unable(document: dict[str, Any]) -> None:
        for level in document["calibration"]["levels"]:  # no query has a bounded region
            level |= {"threshold": None, "area_km2": {"median": None, "mean": None, "p90": None}, "cannot_tell": 1.0}
            for district in level["by_region"].values():
                district["median_area_km2"] = None

    section = confidence_section(edited(report, unable))
    assert section is not None
    assert "Most of them are unbounded. The system abstains for 100.0 % of the queries" in section.summary
    assert [cell.text for cell in section.coverage.rows[0].cells[3:]] == ["unbounded"] * 3 + ["100.0 %"]


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (
            {"source": "halves of the queries", "n": 232, "units": 90},
            "calibrated on the other half of the 232 queries, because",
        ),
        ({"n": 412, "units": 60}, "calibrated on 412 validation queries from 60 places or blocks (split"),
        ({"n": 412, "units": 1}, "calibrated on 412 validation queries from one place or block (split"),
        ({"n": 412, "units": 412}, "calibrated on 412 validation queries (split"),
        ({"n": 1, "units": 1}, "calibrated on 1 validation query (split"),
        ({"n": 1, "units": 1, "unreachable": 1}, "Its true cell contains no candidate"),
        ({"n": 412, "units": 9, "unreachable": 9}, "The true cell of 9 of them contains no candidate"),
    ],
)
def test_method_text_states_the_calibration_set(report: Report, method: dict[str, Any], words: str) -> None:
    whole = {"source": "validation", "unreachable": 0, "by_city": False, "own_cities": [], **method}
    section = confidence_section(edited(report, lambda document: document["calibration"].update(method=whole)))
    assert section is not None
    assert words in section.method


def test_risk_coverage_text_is_at_one_half(report: Report) -> None:
    section = confidence_section(report)
    assert section is not None
    assert "the most confident 50 % of the answers" in section.risk_coverage
    flat = {"median_m": [30.0] * 20}
    worse = confidence_section(edited(report, lambda document: document["calibration"]["selective"].update(flat)))
    assert worse is not None
    assert worse.risk_coverage.endswith("gains nothing.")
