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
from swclip.reporting.confidence_section import confidence_section, coverage_summary, coverage_verdict, reliability_text
from swclip.reporting.failures_section import correlogram_chart, failures_section, lisa_note, moran_text
from swclip.reporting.report import cards
from swclip.reporting.tables import district_gap_text, retrieval_table, retrieval_text
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
        (0.31, 0.001, "Large errors are clustered"),
        (-0.2, 0.001, "Errors are dispersed"),
        (0.31, 0.05, "No spatial autocorrelation is detected"),
        (0.0, 0.9, "No spatial autocorrelation is detected"),
    ],
)
def test_moran_text_follows_sign_and_significance(i: float, p: float, words: str) -> None:
    text = moran_text(MORAN.model_copy(update={"i": i, "p": p}))
    assert text.startswith(words)
    assert f"{i:.2f}" in text
    assert moran_text(None) == ""


def test_lisa_note_states_the_correction(report: Report) -> None:
    assert "(Benjamini-Hochberg): at most about 5 % of the marked queries" in lisa_note(report)
    counts = report.spatial.lisa.counts
    section = failures_section(report)
    assert section is not None
    assert [(name, int(count)) for name, count, _ in section.lisa] == list(counts.items())
    assert lisa_note(without(report, spatial=None)) == ""


@pytest.mark.parametrize(
    ("means", "words"),
    [
        ([0.2, 0.4, 0.6, 0.8], "rises up to the largest distance"),
        ([0.2, 0.7, 0.79, 0.8], "Beyond about 140 m it no longer rises"),
        ([0.5, 0.5, 0.4, 0.3], "nearby pairs are not more similar"),
    ],
)
def test_correlogram_text_depends_on_where_it_flattens(report: Report, means: list[float], words: str) -> None:
    edges = [0.0, 50.0, 100.0, 200.0, 400.0]
    bands = [band(low, high, mean) for low, high, mean in zip(edges, edges[1:], means, strict=False)]
    section = failures_section(with_bands(report, bands))
    assert section is not None
    assert words in section.correlogram
    assert "positions" not in section.correlogram
    chart = correlogram_chart({"image": bands})
    assert chart is not None
    assert chart.series[0].x == pytest.approx([25.0, np.sqrt(5_000), np.sqrt(20_000), np.sqrt(80_000)])
    assert chart.series[0].y == means


def test_bands_without_pairs_are_left_out(report: Report) -> None:
    empty = Band(low_m=25.0, high_m=50.0, pairs=0, mean_distance=None, spearman=None, p=None)
    section = failures_section(with_bands(report, [band(0, 25, 0.1), empty, band(50, 100, 0.3)]))
    assert section is not None
    assert section.charts[0].series[0].y == [0.1, 0.3]
    alone = failures_section(with_bands(report, [empty]))
    assert alone is not None
    assert alone.charts == []


def test_correlogram_text_ignores_bands_with_few_pairs(report: Report) -> None:
    bands = [band(0, 10, 0.9, pairs=16), band(10, 25, 0.1), band(25, 50, 0.2), band(50, 100, 0.4)]
    section = failures_section(with_bands(report, bands))
    assert section is not None
    assert section.correlogram.startswith("The mean embedding distance is 0.10 for photographs 10 to 25 m apart")


def test_every_part_of_the_spatial_statistics_is_optional(report: Report) -> None:
    for name in Spatial.model_fields:
        assert (
            failures_section(edited(report, lambda document, name=name: document["spatial"].update({name: None}))) is not None
        )
    assert failures_section(without(report, spatial=None)) is None
    for name in ("correlogram", "mantel", "smoothness"):  # positions whose model has no location tower
        section = failures_section(edited(report, lambda document, name=name: document["spatial"][name].update(location=None)))
        assert section is not None
        assert section.smoothness is not None


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


def test_unbounded_regions_are_reported(report: Report) -> None:
    whole = confidence_section(report)
    assert whole is not None
    assert {chart.name for chart in whole.charts} == {"reliability", "area", "selective", "selective-within-100-m"}
    assert whole.by_city
    assert len(whole.coverage.rows) == 8  # four levels, by city too
    assert confidence_section(without(report, calibration=None)) is None

    def unable(document: dict[str, Any]) -> None:
        for level in document["calibration"]["levels"]:  # no query has a bounded region
            level |= {"threshold": None, "area_km2": {"median": None, "mean": None, "p90": None}, "cannot_tell": 1.0}
            level["by_city"] = None
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


def test_district_gap_text(report: Report) -> None:
    text = district_gap_text(report)
    for words in (report.regional.best, report.regional.worst, "of 8 districts", "0.23"):
        assert words in text
    assert district_gap_text(without(report, regional=None)) == ""
    for gini, words in (
        (0.05, "are similar"),
        (0.2, "some districts are harder"),
        (0.5, "concentrated"),
    ):
        changed = edited(report, lambda document, gini=gini: document["regional"].update(gini=gini))
        assert words in district_gap_text(changed)


def test_retrieval_table_and_text(report: Report) -> None:
    table = retrieval_table(report)
    assert [row.cells[0].text for row in table.rows] == ["recall@k at 25 m", "nDCG@k", "share in the query's city"]
    assert table.rows[1].cells[1].text == f"{report.ndcg_at_k['1']:.3f}"
    assert len(retrieval_table(without(report, ndcg_at_k=None, city_alignment_at_k=None)).rows) == 1
    assert retrieval_text(report).startswith("The mean reciprocal rank is")
    assert retrieval_text(without(report, mrr_25m=None)).startswith("The GeoScore is")


def test_last_card_is_coverage_or_geoscore(report: Report) -> None:
    assert cards(report)[-1]["label"] == "coverage at 80 %"
    assert cards(without(report, calibration=None))[-1]["label"] == "GeoScore"


@given(st.floats(1e-7, 1e8))
def test_areas_have_at_least_two_significant_figures(km2: float) -> None:
    number, unit = area(km2).replace(",", "").split(" ")
    parsed = float(number) * (1.0 if unit == "km²" else 1e-6)
    assert parsed == pytest.approx(km2, rel=0.051, abs=0.51e-6)
