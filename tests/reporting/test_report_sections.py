"""What a report says of regions, patterns in space and its own certainty: the words follow the numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swclip.evaluation.report import Report
from swclip.metrics.calibration import ReliabilityBin
from swclip.metrics.spatial import Band, CorrelogramBands, Moran, Spatial
from swclip.reporting.confidence_section import kept, reliability_text, sureness, verdict_text
from swclip.reporting.failures_section import correlogram_chart, failures, lisa_note, moran_text
from swclip.reporting.report import cards
from swclip.reporting.tables import regional_text, retrieval_table, retrieval_text
from swclip.reporting.units import area

MORAN = Moran(i=0.31, expected=-0.002, z=9.0, p=0.001, permutations=999, neighbours=8, n=600)


@pytest.fixture(scope="module")
def report(full: Any) -> Report:
    whole: Report = full.full_evaluation(3, n_queries=400, cities=full.EIGHT).report
    return whole


def edited(report: Report, edit: Callable[[dict[str, Any]], object]) -> Report:
    """The report with its JSON edited."""
    document = report.as_dict()
    edit(document)
    return Report.model_validate(document)


def without(report: Report, **parts: None) -> Report:
    return report.model_copy(update=parts)


def band(low: float, high: float, mean: float, pairs: int = 1_000) -> Band:
    return Band(low_m=low, high_m=high, pairs=pairs, mean_distance=mean, spearman=0.2, p=0.01)


def with_bands(report: Report, image: list[Band]) -> Report:
    assert report.spatial is not None
    spatial = report.spatial.model_copy(update={"correlogram": CorrelogramBands(image=image, location=None)})
    return report.model_copy(update={"spatial": spatial})


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
    text = moran_text(MORAN.model_copy(update={"i": i, "p": p}))
    assert text.startswith(words)
    assert f"{i:.2f}" in text
    assert moran_text(None) == ""


def test_chance_is_counted_for_the_clusters(report: Report) -> None:
    assert "(Benjamini-Hochberg): of the marked about 5 % at most" in lisa_note(report)
    counts = report.spatial.lisa.counts
    found = failures(report)
    assert found is not None
    assert [(name, int(count)) for name, count, _ in found.lisa] == list(counts.items())
    assert lisa_note(without(report, spatial=None)) == ""


@pytest.mark.parametrize(
    ("means", "words"),
    [
        ([0.2, 0.4, 0.6, 0.8], "still rises at the end"),
        ([0.2, 0.7, 0.79, 0.8], "from about 140 m on they tell no more"),
        ([0.5, 0.5, 0.4, 0.3], "what is near is not more alike"),
    ],
)
def test_the_correlogram_is_read_by_where_it_flattens(report: Report, means: list[float], words: str) -> None:
    edges = [0.0, 50.0, 100.0, 200.0, 400.0]
    bands = [band(low, high, mean) for low, high, mean in zip(edges, edges[1:], means, strict=False)]
    found = failures(with_bands(report, bands))
    assert found is not None
    assert words in found.correlogram
    assert "positions" not in found.correlogram
    chart = correlogram_chart({"image": bands})
    assert chart is not None
    assert chart.series[0].x == pytest.approx([25.0, np.sqrt(5_000), np.sqrt(20_000), np.sqrt(80_000)])
    assert chart.series[0].y == means


def test_bands_without_pairs_are_left_out(report: Report) -> None:
    empty = Band(low_m=25.0, high_m=50.0, pairs=0, mean_distance=None, spearman=None, p=None)
    found = failures(with_bands(report, [band(0, 25, 0.1), empty, band(50, 100, 0.3)]))
    assert found is not None
    assert found.charts[0].series[0].y == [0.1, 0.3]
    alone = failures(with_bands(report, [empty]))
    assert alone is not None
    assert alone.charts == []


def test_a_sentence_does_not_rest_on_few_pairs(report: Report) -> None:
    bands = [band(0, 10, 0.9, pairs=16), band(10, 25, 0.1), band(25, 50, 0.2), band(50, 100, 0.4)]
    found = failures(with_bands(report, bands))
    assert found is not None
    assert found.correlogram.startswith("Two photographs 10 to 25 m apart differ by 0.10 on average")


def test_every_part_of_the_spatial_block_may_be_missing(report: Report) -> None:
    for name in Spatial.model_fields:
        assert (
            failures(edited(report, lambda document, name=name: document["spatial"].update({name: None}))) is not None
        )
    assert failures(without(report, spatial=None)) is None
    for name in ("correlogram", "mantel", "smoothness"):  # positions whose model has no location tower
        found = failures(edited(report, lambda document, name=name: document["spatial"][name].update(location=None)))
        assert found is not None
        assert found.smoothness is not None


@given(st.floats(0.05, 0.95), st.floats(0.0, 0.5), st.floats(0.0, 0.5))
def test_a_promise_is_judged_by_its_interval(level: float, below: float, above: float) -> None:
    interval = [level - below + 0.1, level + above + 0.1]
    told = kept(level, interval)
    assert (told == "as promised") == (interval[0] <= level <= interval[1])
    assert (told == "wider than they need be") == (interval[0] > level)
    assert kept(level, [0.0, level / 2]) == "too narrow"


def test_the_verdict_says_what_was_measured(report: Report) -> None:
    def measured(document: dict[str, Any]) -> None:
        own = document["calibration"]["levels"][1]
        own |= {"coverage": 0.742, "coverage_interval": [0.681, 0.788], "n": 412, "cannot_tell": 0.031}
        own["area_km2"]["median"] = 0.31
        document["calibration"]["total_area_km2"] = 12.0

    calibration = edited(report, measured).calibration
    assert calibration is not None
    assert verdict_text(calibration) == (
        "The 80 % regions hold the truth for 74.2 % [68.1 to 78.8 %] of 412 queries: too narrow. Half of them cover at "
        "most 0.31 km², of the 12 km² that the gallery covers. For 3.1 % of the queries the system cannot tell: no "
        "useful region is stated."
    )


def bins(stated: list[float], right: list[float], n: tuple[int, ...] = ()) -> list[ReliabilityBin]:
    return [
        ReliabilityBin(low=0.0, high=1.0, n=n, mean_probability=s, coverage=r, coverage_interval=[r - 0.05, r + 0.05])
        for s, r, n in zip(stated, right, n or [50] * len(stated), strict=True)
    ]


def test_stated_probabilities_are_weighed_by_how_often_they_are_stated() -> None:
    assert "overconfident" in reliability_text(bins([0.3, 0.6, 0.9], [0.1, 0.4, 0.7]))
    assert "underconfident" in reliability_text(bins([0.3, 0.6, 0.9], [0.5, 0.8, 1.0]))
    assert "too sure in some" in reliability_text(bins([0.3, 0.9], [0.5, 0.7]))
    assert "In all 3 groups" in reliability_text(bins([0.3, 0.6, 0.9], [0.32, 0.58, 0.9]))
    assert "may be chance" in reliability_text(
        bins([0.1 * at for at in range(1, 11)], [0.2, *[0.1 * at for at in range(2, 11)]])
    )
    assert "says 65.0 %" in reliability_text(bins([0.2, 0.8], [0.2, 0.8], n=(50, 150)))
    assert reliability_text([]) == ""


def test_regions_that_have_no_bound_are_told(report: Report) -> None:
    whole = sureness(report)
    assert whole is not None
    assert {chart.name for chart in whole.charts} == {"reliability", "area", "selective", "selective-within-100-m"}
    assert whole.by_city
    assert len(whole.coverage.rows) == 8  # four levels, by city too
    assert sureness(without(report, calibration=None)) is None

    def unable(document: dict[str, Any]) -> None:
        for own in document["calibration"]["levels"]:  # no query has a region: there is nothing to promise on
            own |= {"threshold": None, "area_km2": {"median": None, "mean": None, "p90": None}, "cannot_tell": 1.0}
            own["by_city"] = None
            for one in own["by_region"].values():
                one["median_area_km2"] = None

    told = sureness(edited(report, unable))
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
        ({"n": 1, "units": 1}, "learnt from 1 validation query (split"),
        ({"n": 1, "units": 1, "unreachable": 1}, "For it no cell of the gallery is right"),
        ({"n": 412, "units": 9, "unreachable": 9}, "For 9 of them no cell of the gallery is right"),
    ],
)
def test_the_method_says_what_it_was_learnt_from(report: Report, method: dict[str, Any], words: str) -> None:
    whole = {"source": "validation", "unreachable": 0, "by_city": False, "own_cities": [], **method}
    told = sureness(edited(report, lambda document: document["calibration"].update(method=whole)))
    assert told is not None
    assert words in told.method


def test_selective_answers_are_read_at_one_half(report: Report) -> None:
    told = sureness(report)
    assert told is not None
    assert "the surest 50 % of the answers" in told.selective
    flat = {"median_m": [30.0] * 20}
    worse = sureness(edited(report, lambda document: document["calibration"]["selective"].update(flat)))
    assert worse is not None
    assert worse.selective.endswith("would gain nothing.")


def test_regions_are_compared_in_a_sentence(report: Report) -> None:
    text = regional_text(report)
    for words in (report.regional.best, report.regional.worst, "of 8 regions", "0.23"):
        assert words in text
    assert regional_text(without(report, regional=None)) == ""
    for gini, words in (
        (0.05, "much alike"),
        (0.2, "some regions are harder"),
        (0.5, "concentrated"),
    ):
        told = edited(report, lambda document, gini=gini: document["regional"].update(gini=gini))
        assert words in regional_text(told)


def test_retrieval_has_a_row_for_each_score(report: Report) -> None:
    table = retrieval_table(report)
    assert [row.cells[0].text for row in table.rows] == ["recall@k at 25 m", "nDCG@k", "share in the query's city"]
    assert table.rows[1].cells[1].text == f"{report.ndcg_at_k['1']:.3f}"
    assert len(retrieval_table(without(report, ndcg_at_k=None, city_alignment_at_k=None)).rows) == 1
    assert retrieval_text(report).startswith("The mean reciprocal rank is")
    assert retrieval_text(without(report, mrr_25m=None)).startswith("The GeoScore is")


def test_the_last_card_is_the_best_there_is(report: Report) -> None:
    assert cards(report)[-1]["label"] == "80 % regions hold"
    assert cards(without(report, calibration=None))[-1]["label"] == "GeoScore"


@given(st.floats(1e-7, 1e8))
def test_areas_are_told_to_two_figures_at_least(km2: float) -> None:
    number, unit = area(km2).replace(",", "").split(" ")
    told = float(number) * (1.0 if unit == "km²" else 1e-6)
    assert told == pytest.approx(km2, rel=0.051, abs=0.51e-6)
