"""Tables of districts, agreement, query changes and further figures."""

from __future__ import annotations

from typing import Any

import pytest

from swclip.comparison.compare import compare
from swclip.comparison.comparison import Comparison
from swclip.comparison.detail_tables import (
    agreement_bars,
    agreement_table,
    changes_by_pair,
    changes_table,
    further_table,
    winner_sentences,
    winner_tables,
)
from swclip.comparison.document import Difference, Winner, Winners, Wins
from swclip.comparison.mean_report import MeanReport


@pytest.fixture(scope="module")
def comparison(made_up: Any) -> Comparison:
    runs = {
        name: {seed: made_up(1, system=10 * at + seed, spread_m=spread) for seed in (0, 1)}
        for at, (name, spread) in enumerate((("clip", 90.0), ("sw", 20.0), ("plus", 18.0)))
    }
    return compare(runs, {}, reference="sw", resamples=40)


def district(first: str | None, gap: Difference | None, n: int = 20) -> Winner:
    median, second = {"a": 10.0, "b": 12.0}, None if first is None else "b"
    return Winner(n=n, blocks=9, median=median, first=first, second=second, gap=gap, difference={})


def gap(low: float | None, high: float | None) -> Difference:
    return Difference(value=-2.0, low=low, high=high)


def test_winner_tables_state_significance() -> None:
    regions = {
        "significant": district("a", gap(-3.0, -1.0), 40),
        "not significant": district("a", gap(-3.0, 1.0), 30),
        "few blocks": district("a", gap(None, None)),
        "tie": district(None, None, 10),
    }
    wins = {"a": Wins(regions=3, shown=1), "b": Wins(regions=0, shown=0)}
    winners = Winners(min_blocks=8, regions=regions, wins=wins)
    table, rest = winner_tables(winners)
    assert rest is None
    rows = {row.cells[0].text: row.cells for row in table.rows}
    assert list(rows) == ["significant", "not significant", "few blocks", "tie"]
    assert [rows[name][-1].note for name in rows] == ["", "interval includes 0", "no interval, fewer than 8 blocks", ""]
    assert [rows[name][2].best for name in rows] == [True, False, False, False]
    assert (rows["tie"][2].text, rows["tie"][2].small) == ("tied", "10 m")
    assert (rows["few blocks"][2].text, rows["few blocks"][2].small, rows["few blocks"][3].small) == (
        "a",
        "10 m",
        "12 m",
    )
    assert winner_sentences(winners) == [
        "System with the smallest median, by number of districts (4): a in 3 (1 significant)."
    ]


def test_many_districts_are_folded_and_false_positives_counted() -> None:
    regions = {f"r{at:02d}": district("a", gap(-3.0, -1.0 if at == 3 else 1.0)) for at in range(40)}
    winners = Winners(min_blocks=8, regions=regions, wins={"a": Wins(regions=40, shown=1)})
    first, rest = winner_tables(winners)
    assert rest is not None
    assert (len(first.rows), len(rest.rows)) == (15, 25)
    text = "The intervals of 1 of 40 gaps exclude 0; without any differences, about 2 would exclude it by chance."
    assert text in winner_sentences(winners)


def test_agreement_bars_of_a_pair_in_either_order(comparison: Comparison) -> None:
    for names in (("clip", "plus"), ("plus", "clip")):
        bars = agreement_bars(comparison.document, *names)
        assert [bar.radius_m for bar in bars] == [25, 100]
        assert [part.name for part in bars[0].parts] == ["both", "only plus", "only clip", "neither"]
        assert sum(part.share for part in bars[1].parts) == pytest.approx(1.0)
    assert len(agreement_table(comparison.document).rows) == 3 * 2


def test_changes_by_pair(comparison: Comparison) -> None:
    table = changes_table(comparison.document)
    assert [row.cells[0].text for row in table.rows] == [
        "sw compared with clip",
        "plus compared with clip",
        "plus compared with sw",
        "clip, between seeds",
        "sw, between seeds",
        "plus, between seeds",
    ]
    assert [row.reference for row in table.rows] == [False] * 3 + [True] * 3
    pairs = changes_by_pair(comparison.document, "sw", "plus")
    assert (pairs[0].system, pairs[0].against) == ("plus", "sw")
    gains = next(pair for pair in pairs if pair.system == "sw").gains
    assert gains is not None
    assert gains.columns == ["query", "sw", "clip", "change"]
    assert len(gains.rows) == 10


def test_further_figures_of_reports_that_have_them(comparison: Comparison, full: Any) -> None:
    document = comparison.document
    # A report of version 1 has none of these.
    absent = {"ndcg_at_k": None, "regional": None, "spatial": None, "calibration": None}
    systems = {
        name: system.model_copy(update={"mean": system.mean.model_copy(update=absent)})
        for name, system in document.systems.items()
    }
    table, note = further_table(document.model_copy(update={"systems": systems}))
    assert table.columns == ["system", "recall@5", "recall@20", "MRR", "GeoScore"]
    assert "GeoScore" in note
    assert "District gap" not in note
    report = full.full_evaluation(n_queries=60, n_candidates=120).report
    figures = MeanReport.of([report], report.intervals)
    level = figures.coverage_at(0.8).model_copy(update={"coverage": 0.81})
    level = level.model_copy(update={"area_km2": level.area_km2.model_copy(update={"median": 0.0123})})
    measured = {
        "geoscore": 4800.2,
        "ndcg_at_k": {"20": 0.5},
        "calibration": figures.calibration.model_copy(update={"levels": [level]}),
    }
    plus = systems["plus"]
    systems["plus"] = plus.model_copy(update={"mean": plus.mean.model_copy(update=measured)})
    table, note = further_table(document.model_copy(update={"systems": systems}))
    assert table.columns[4:] == ["nDCG@20", "GeoScore", "80 % coverage", "80 % area"]
    texts = {row.cells[0].text: [cell.text for cell in row.cells[4:]] for row in table.rows}
    assert texts["plus"] == ["0.500", "4,800", "81.0 %", "0.0123 km²"]
    dash = "\N{EN DASH}"
    assert [texts["clip"][at] for at in (0, 2, 3)] == [dash, dash, dash]
    assert note.endswith("A dash means that the reports of the system do not have the figure.")
