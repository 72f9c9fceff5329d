"""What a report says of regions, patterns in space and its own certainty: the words follow the numbers."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swclip.reporting.confidence_section import kept, reliability_text, sureness, verdict_text
from swclip.reporting.failures_section import correlogram_chart, failures, lisa_note, moran_text
from swclip.reporting.report import cards
from swclip.reporting.tables import regional_text, retrieval_table, retrieval_text
from swclip.reporting.units import area

MORAN = {"i": 0.31, "expected": -0.002, "z": 9.0, "p": 0.001, "permutations": 999, "neighbours": 8, "n": 600}


@pytest.fixture(scope="module")
def report(full: Any) -> dict[str, Any]:
    whole: dict[str, Any] = full.full_evaluation(3, n_queries=400, cities=full.EIGHT).report
    return whole


def band(low: float, high: float, mean: float) -> dict[str, Any]:
    return {"low_m": low, "high_m": high, "pairs": 1_000, "mean_distance": mean, "spearman": 0.2, "p": 0.01}


@pytest.mark.parametrize(
    ("i", "p", "words"),
    [
        (0.31, 0.001, "Large errors lie together"),
        (-0.2, 0.001, "Neighbours differ more"),
        (0.31, 0.05, "No pattern is shown"),
        (0.0, 0.9, "No pattern is shown"),
    ],
)
def test_moran_is_told_as_it_is(i: float, p: float, words: str) -> None:
    text = moran_text({**MORAN, "i": i, "p": p})
    assert text.startswith(words)
    assert f"{i:.2f}" in text
    assert moran_text(None) == ""


def test_chance_is_counted_for_the_clusters(report: dict[str, Any]) -> None:
    assert "(Benjamini-Hochberg): of the marked about 5 % at most" in lisa_note(report)
    plain = copy.deepcopy(report["spatial"])
    del plain["lisa"]["correction"]
    assert "about 20 of the 400 queries" in lisa_note({"spatial": plain})
    counts = report["spatial"]["lisa"]["counts"]
    found = failures(report)
    assert found is not None
    assert [(name, int(count)) for name, count, _ in found.lisa] == list(counts.items())
    assert lisa_note({"spatial": None}) == ""


@pytest.mark.parametrize(
    ("means", "words"),
    [
        ([0.2, 0.4, 0.6, 0.8], "still rises at the end"),
        ([0.2, 0.7, 0.79, 0.8], "from about 140 m on they tell no more"),
        ([0.5, 0.5, 0.4, 0.3], "what is near is not more alike"),
    ],
)
def test_the_correlogram_is_read_by_where_it_flattens(means: list[float], words: str) -> None:
    edges = [0.0, 50.0, 100.0, 200.0, 400.0]
    bands = [band(low, high, mean) for low, high, mean in zip(edges, edges[1:], means, strict=False)]
    report = {"spatial": {"correlogram": {"image": bands, "location": None}}}
    found = failures(report)
    assert found is not None
    assert words in found.correlogram
    assert "positions" not in found.correlogram
    chart = correlogram_chart({"image": bands})
    assert chart is not None
    assert chart.series[0].x == pytest.approx([25.0, np.sqrt(5_000), np.sqrt(20_000), np.sqrt(80_000)])
    assert chart.series[0].y == means


def test_bands_without_pairs_are_left_out() -> None:
    bands = [band(0, 25, 0.1), {**band(25, 50, 0.0), "pairs": 0, "mean_distance": None, "spearman": None, "p": None}]
    found = failures({"spatial": {"correlogram": {"image": [*bands, band(50, 100, 0.3)], "location": None}}})
    assert found is not None
    assert found.charts[0].series[0].y == [0.1, 0.3]
    assert failures({"spatial": {"correlogram": {"image": bands[1:], "location": None}}}).charts == []  # type: ignore[union-attr]


def test_a_sentence_does_not_rest_on_few_pairs() -> None:
    bands = [{**band(0, 10, 0.9), "pairs": 16}, band(10, 25, 0.1), band(25, 50, 0.2), band(50, 100, 0.4)]
    found = failures({"spatial": {"correlogram": {"image": bands}}})
    assert found is not None
    assert found.correlogram.startswith("Two photographs 10 to 25 m apart differ by 0.10 on average")


def test_every_part_of_the_spatial_block_may_be_missing(report: dict[str, Any]) -> None:
    for name in report["spatial"]:
        less = {"spatial": {**copy.deepcopy(report["spatial"]), name: None}}
        assert failures(less) is not None
    assert failures({"spatial": None}) is None
    assert failures({}) is None
    for name in ("correlogram", "mantel", "smoothness"):  # positions whose model has no location tower
        less = copy.deepcopy(report)
        less["spatial"][name]["location"] = None
        found = failures(less)
        assert found is not None
        assert found.smoothness is not None


@given(st.floats(0.05, 0.95), st.floats(0.0, 0.5), st.floats(0.0, 0.5))
def test_a_promise_is_judged_by_its_interval(level: float, below: float, above: float) -> None:
    interval = [level - below + 0.1, level + above + 0.1]
    told = kept(level, interval)
    assert (told == "as promised") == (interval[0] <= level <= interval[1])
    assert (told == "wider than they need be") == (interval[0] > level)
    assert kept(level, [0.0, level / 2]) == "too narrow"


def test_the_verdict_says_what_was_measured(report: dict[str, Any]) -> None:
    calibration = copy.deepcopy(report["calibration"])
    own = calibration["levels"][1]
    own |= {"coverage": 0.742, "coverage_interval": [0.681, 0.788], "n": 412, "cannot_tell": 0.031}
    own["area_km2"]["median"] = 0.31
    calibration["total_area_km2"] = 12.0
    assert verdict_text(calibration) == (
        "The 80 % regions hold the truth for 74.2 % [68.1 to 78.8 %] of 412 queries: too narrow. Half of them cover at "
        "most 0.31 km², of the 12 km² that the gallery covers. For 3.1 % of the queries the system cannot tell: no "
        "useful region is stated."
    )


def bins(stated: list[float], right: list[float], half: float = 0.05) -> list[dict[str, Any]]:
    return [
        {"low": 0, "high": 1, "n": 50, "mean_probability": s, "coverage": r, "coverage_interval": [r - half, r + half]}
        for s, r in zip(stated, right, strict=True)
    ]


def test_stated_probabilities_are_weighed_by_how_often_they_are_stated() -> None:
    assert "overconfident" in reliability_text(bins([0.3, 0.6, 0.9], [0.1, 0.4, 0.7]))
    assert "underconfident" in reliability_text(bins([0.3, 0.6, 0.9], [0.5, 0.8, 1.0]))
    assert "too sure in some" in reliability_text(bins([0.3, 0.9], [0.5, 0.7]))
    assert "In all 3 groups" in reliability_text(bins([0.3, 0.6, 0.9], [0.32, 0.58, 0.9]))
    assert "may be chance" in reliability_text(
        bins([0.1 * at for at in range(1, 11)], [0.2, *[0.1 * at for at in range(2, 11)]])
    )
    uneven = bins([0.2, 0.8], [0.2, 0.8])
    uneven[1]["n"] = 150
    assert "says 65.0 %" in reliability_text(uneven)
    assert reliability_text([]) == ""


def test_every_part_of_the_calibration_may_be_missing(report: dict[str, Any]) -> None:
    whole = sureness(report)
    assert whole is not None
    assert {chart.name for chart in whole.charts} == {"reliability", "area", "selective", "selective-within-100-m"}
    assert whole.by_city
    assert len(whole.coverage.rows) == 8  # four levels, by city too
    for name in ("reliability", "area_curve", "selective", "total_area_km2"):
        less = copy.deepcopy(report)
        less["calibration"][name] = None
        assert sureness(less) is not None
    assert sureness({"calibration": None}) is None
    unable = copy.deepcopy(report)
    for own in unable["calibration"]["levels"]:  # no query has a region: there is nothing to promise on
        own |= {"threshold": None, "area_km2": {"median": None, "mean": None, "p90": None}, "cannot_tell": 1.0}
        own["by_city"] = None
        for one in own["by_region"].values():
            one["median_area_km2"] = None
    told = sureness(unable)
    assert told is not None
    assert "Most of them have no bound. For 100.0 % of the queries the system cannot tell" in told.verdict
    assert [cell.text for cell in told.coverage.rows[0].cells[3:]] == ["no bound", "no bound", "no bound", "100.0 %"]


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (
            {"source": "halves of the queries", "n": 232, "units": 90},
            "learnt from the other half of the 232 queries, for",
        ),
        ({"n": 412, "units": 60}, "learnt from 412 validation queries of 60 places or blocks (split"),
        ({"n": 412, "units": 1}, "learnt from 412 validation queries of one place or block (split"),
        ({"n": 412, "units": 412}, "learnt from 412 validation queries (split"),
        ({"n": 412}, "learnt from 412 validation queries (split"),
        ({"n": 1, "units": 1}, "learnt from 1 validation query (split"),
        ({"n": 1, "units": 1, "unreachable": 1}, "For it no cell of the gallery is right"),
        ({"n": 412, "unreachable": 9}, "For 9 of them no cell of the gallery is right"),
    ],
)
def test_the_method_says_what_it_was_learnt_from(report: dict[str, Any], method: dict[str, Any], words: str) -> None:
    own = copy.deepcopy(report)
    own["calibration"]["method"] = {"source": "validation", "unreachable": 0, "by_city": False, **method}
    told = sureness(own)
    assert told is not None
    assert words in told.method


def test_selective_answers_are_read_at_one_half(report: dict[str, Any]) -> None:
    told = sureness(report)
    assert told is not None
    assert "the surest 50 % of the answers" in told.selective
    flat = copy.deepcopy(report)
    flat["calibration"]["selective"]["median_m"] = [30.0] * 20
    worse = sureness(flat)
    assert worse is not None
    assert worse.selective.endswith("would gain nothing.")


def test_regions_are_compared_in_a_sentence(report: dict[str, Any]) -> None:
    text = regional_text(report)
    for words in (report["regional"]["best"], report["regional"]["worst"], "of 8 regions", "0.23"):
        assert words in text
    assert regional_text({"regional": None}) == ""
    for gini, words in (
        (0.05, "much alike"),
        (0.2, "some regions are harder"),
        (0.5, "concentrated"),
        (None, "regions."),
    ):
        assert words in regional_text({"regional": {**report["regional"], "gini": gini}})


def test_retrieval_has_a_row_for_each_score(report: dict[str, Any]) -> None:
    table = retrieval_table(report)
    assert [row.cells[0].text for row in table.rows] == ["recall@k at 25 m", "nDCG@k", "share in the query's city"]
    assert table.rows[1].cells[1].text == f"{report['ndcg_at_k']['1']:.3f}"
    old = {name: own for name, own in report.items() if name not in ("ndcg_at_k", "geoscore")}
    old["city_alignment_at_k"] = None
    assert len(retrieval_table(old).rows) == 1
    assert "GeoScore" in retrieval_text(report)
    assert "GeoScore" not in retrieval_text(old)


def test_the_last_card_is_the_best_there_is(report: dict[str, Any]) -> None:
    assert cards(report)[-1]["label"] == "80 % regions hold"
    assert cards({**report, "calibration": None})[-1]["label"] == "GeoScore"
    assert cards({**report, "calibration": None, "geoscore": None})[-1]["label"] == "recall@1 at 25 m"


@given(st.floats(1e-7, 1e8))
def test_areas_are_told_to_two_figures_at_least(km2: float) -> None:
    number, unit = area(km2).replace(",", "").split(" ")
    told = float(number) * (1.0 if unit == "km²" else 1e-6)
    assert told == pytest.approx(km2, rel=0.051, abs=0.51e-6)
