"""Tables of districts, agreement, query changes and further figures."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from swclip.comparison.comparison import Comparison, compare
from swclip.comparison.detail_tables import (
    agreement_bars,
    agreement_table,
    changes_by_pair,
    changes_table,
    further_table,
    winner_sentences,
    winner_tables,
)


@pytest.fixture(scope="module")
def comparison(made_up: Any) -> Comparison:
    runs = {
        name: {seed: made_up(1, system=10 * at + seed, spread_m=spread) for seed in (0, 1)}
        for at, (name, spread) in enumerate((("clip", 90.0), ("sw", 20.0), ("plus", 18.0)))
    }
    return compare(runs, {}, reference="sw", resamples=40)


def district(first: str | None, gap: dict[str, float | None] | None, n: int = 20) -> dict[str, Any]:
    median = {"a": 10.0, "b": 12.0}
    return {"n": n, "blocks": 9, "median": median, "first": first, "second": "b", "gap": gap, "difference": {}}


def test_winner_tables_state_significance() -> None:
    regions = {
        "significant": district("a", {"value": -2.0, "low": -3.0, "high": -1.0}, 40),
        "not significant": district("a", {"value": -2.0, "low": -3.0, "high": 1.0}, 30),
        "few blocks": district("a", {"value": -2.0, "low": None, "high": None}),
        "tie": {**district(None, None, 10), "second": None},
    }
    wins = {"a": {"regions": 3, "shown": 1}, "b": {"regions": 0, "shown": 0}}
    document = {"winners": {"min_blocks": 8, "regions": regions, "wins": wins}}
    table, rest = winner_tables(document)
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
    assert winner_sentences(document) == [
        "System with the smallest median, by number of districts (4): a in 3 (1 significant)."
    ]


def test_many_districts_are_folded_and_false_positives_counted() -> None:
    gap = {"value": -2.0, "low": -3.0, "high": 1.0}
    regions = {f"r{at:02d}": district("a", {**gap, "high": -1.0} if at == 3 else gap) for at in range(40)}
    document = {"winners": {"min_blocks": 8, "regions": regions, "wins": {"a": {"regions": 40, "shown": 1}}}}
    first, rest = winner_tables(document)
    assert rest is not None
    assert (len(first.rows), len(rest.rows)) == (15, 25)
    text = "The intervals of 1 of 40 gaps exclude 0; without any differences, about 2 would exclude it by chance."
    assert text in winner_sentences(document)


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


def test_further_figures_of_reports_that_have_them(comparison: Comparison) -> None:
    document = deepcopy(comparison.document)
    for system in document["systems"].values():
        # A report of version 1 has none of these.
        for key in ("ndcg_at_k", "geoscore", "regional", "spatial", "calibration"):
            del system["mean"][key]
    table, note = further_table(document)
    assert table.columns == ["system", "recall@5", "recall@20", "MRR"]
    assert "GeoScore" not in note
    levels = [{"level": 0.5}, {"level": 0.8, "coverage": 0.81, "area_km2": {"median": 0.0123}}]
    document["systems"]["plus"]["mean"] |= {
        "geoscore": 4800.2,
        "ndcg_at_k": {"20": 0.5},
        "spatial": None,
        "calibration": {"levels": levels},
    }
    table, note = further_table(document)
    assert table.columns[4:] == ["nDCG@20", "GeoScore", "80 % coverage", "80 % area"]
    texts = {row.cells[0].text: [cell.text for cell in row.cells[4:]] for row in table.rows}
    assert texts["plus"] == ["0.500", "4,800", "81.0 %", "0.0123 km²"]
    assert texts["clip"] == ["\N{EN DASH}"] * 4
    assert note.endswith("A dash means that the reports of the system do not have the figure.")
    assert "GeoScore" in note
