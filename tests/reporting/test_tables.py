"""Tables and texts of a report."""

from __future__ import annotations

from fixtures.reports import edited, without
from swclip.evaluation.report import Report
from swclip.reporting.tables import district_gap_text, retrieval_table, retrieval_text


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
