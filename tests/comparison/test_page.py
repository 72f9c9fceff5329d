"""Page, tables and figures of a comparison of many systems."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swclip.comparison.compare import compare
from swclip.comparison.comparison import Comparison, write_curves
from swclip.comparison.page import write_comparison
from swclip.comparison.tables import INCLUDES_ZERO, difference_table, district_table, estimator_table, system_table
from swclip.reporting.page import line_style

NAMES = [f"system-{number}" for number in range(14)]


@pytest.fixture(scope="module")
def comparison(made_up: Any) -> Comparison:
    runs = {
        name: {
            seed: made_up(1, system=20 * at + (seed or 0), spread_m=20.0 + 12.0 * ((5 * at) % 14), lost_share=0.1)
            for seed in ((0, 1) if at in (2, 3, 5) else (None,))
        }
        for at, name in enumerate(NAMES)
    }
    made = {"swclip": "0.1.0", "seeds": [0, 1]}
    return compare(runs, made, baseline=NAMES[2], reference=NAMES[5], resamples=60)


def test_best_system_is_first_and_roles_are_marked(comparison: Comparison) -> None:
    document = comparison.document
    table = system_table(document)
    medians = [document.systems[row.cells[0].text].mean.error_m.median for row in table.rows[:14]]
    assert medians == sorted(medians)
    marked = {row.cells[0].text: row.cells[0].small for row in table.rows if row.cells[0].small}
    assert marked == {NAMES[2]: "baseline", NAMES[5]: "reference"}
    assert [row.cells[0].text for row in table.rows[14:]] == ["oracle error", "constant baseline", "random baseline"]
    assert {len(row.cells) for row in table.rows} == {len(table.columns)}


@pytest.mark.parametrize("role", ["baseline", "reference"])
def test_difference_table_states_significance(comparison: Comparison, role: str) -> None:
    other = getattr(comparison, role)
    differences = getattr(comparison.document, f"from_{role}")
    rows = {row.cells[0].text: row.cells[1:] for row in difference_table(differences, comparison.document.means).rows}
    assert set(rows) == set(NAMES) - {other}
    seen = set()
    for name, cells in rows.items():
        for figure, cell in zip(("median", "mean", "within_25", "within_50", "within_100"), cells, strict=True):
            low, high = differences[name].figures[figure].interval
            includes_zero = low <= 0.0 <= high
            seen.add(includes_zero)
            assert (cell.note == INCLUDES_ZERO) == includes_zero
            assert cell.best != includes_zero
    assert seen == {True, False}


def test_differences_by_seed(comparison: Comparison) -> None:
    a, b = NAMES[3], NAMES[5]
    difference = comparison.document.from_reference[a].median
    medians = {name: [float(np.median(errors)) for errors in comparison.errors_m(name)] for name in (a, b, NAMES[0])}
    assert difference.by_seed == pytest.approx([medians[a][0] - medians[b][0], medians[a][1] - medians[b][1]])
    assert difference.value == pytest.approx(np.mean(difference.by_seed))
    # A system without seeds is compared with every seed of the other.
    alone = comparison.document.from_reference[NAMES[0]].median.by_seed
    assert alone == pytest.approx([medians[NAMES[0]][0] - value for value in medians[b]])


def test_estimator_table_marks_the_estimator_of_the_answers(comparison: Comparison) -> None:
    rows = estimator_table(comparison.document).rows
    assert [(row.cells[0].text, row.cells[1].text) for row in rows] == [
        (name, estimator) for name in comparison.document.means for estimator in ("mode", "argmax")
    ]
    assert all(row.cells[1].best == (row.cells[1].text == "mode") for row in rows)


def test_more_numerous_of_systems_and_districts_are_the_rows(comparison: Comparison, made_up: Any) -> None:
    table = district_table(comparison.document)
    assert table.columns[0] == "system"
    assert set(table.columns[1:]) == {"Leeds", "York", "Bath"}
    assert [row.cells[0].text for row in table.rows] == [*comparison.document.means, "queries"]
    few = district_table(compare({"clip": {0: made_up(1)}}, {}, resamples=10).document)
    assert few.columns == ["district", "queries", "clip"]


def test_line_styles_differ() -> None:
    assert len({line_style(number) for number in range(24)}) == 24


def test_curves_are_reproducible(comparison: Comparison, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_curves(
            [tmp_path / folder / "c.svg", tmp_path / folder / "c.png"], comparison.document, title="Costs $5 to $10"
        )
    for name in ("c.svg", "c.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    text = (tmp_path / "a" / "c.svg").read_text()
    assert all(name in text for name in (*NAMES, "oracle error", "queries with at most this error", "Costs $5 to $10"))
    assert "<dc:date>" not in text


def test_benchmark_files(comparison: Comparison, tmp_path: Path) -> None:
    assert write_comparison(tmp_path, comparison, "benchmark") == tmp_path / "benchmark.json"
    names = {"benchmark.json", "benchmark.html", "error-curves.png", "error-curves.svg", "moved.csv"}
    assert {path.name for path in tmp_path.iterdir()} == names
    document = json.loads((tmp_path / "benchmark.json").read_text())
    assert {key: value for key, value in document.items() if key != "reading"} == comparison.document.as_dict()
    text = html.unescape((tmp_path / "benchmark.html").read_text()).replace("\N{NO-BREAK SPACE}", " ")
    assert all(sentence.split(":")[0] in text for sentence in document["reading"])
    for words in (
        "interval includes 0",
        "Neither includes the other",
        "Difference from system-2",
        "Difference from system-5",
    ):
        assert words in text
