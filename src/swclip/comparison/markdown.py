"""A comparison as Markdown for a results page, with the tables of the HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swclip.comparison.findings import statistical_summary
from swclip.comparison.tables import difference_table, district_table, estimator_table, system_table
from swclip.reporting.page import Cell, Table
from swclip.reporting.units import metres


def comparison_markdown(document: Mapping[str, Any]) -> str:
    """Setting, tables and statistical summary of a comparison, without headings.

    Args:
        document: Content of benchmark.json.
    """
    systems = document["systems"]
    parts = [setting_text(document), table_markdown(system_table(document))]
    for word, key in (("baseline", "difference"), ("reference", "difference_from_reference")):
        name = document.get(word)
        if name is not None and len(systems) > 1:
            parts += [
                f"Paired difference from {name} (the {word}) with its 95 % interval; bold where it excludes 0:",
                table_markdown(difference_table(document, key)),
            ]
    if len(next(iter(systems.values()))["mean"]["by_region"]) > 1:
        parts += ["Median error by district:", table_markdown(district_table(document))]
    parts += ["Statistical summary, generated from the figures by fixed rules:", summary_markdown(document)]
    parts += [
        "<details><summary>Figures by estimator</summary>",
        table_markdown(estimator_table(document)),
        "</details>",
    ]
    return "\n\n".join(parts) + "\n"


def setting_text(document: Mapping[str, Any]) -> str:
    """Queries, gallery, oracle error, constant baseline and seeds, and the meaning of intervals and ±."""
    first = document["systems"][document["baseline"]]["mean"]
    baselines, seeds = first["baselines"], document["made_with"].get("seeds", [])
    several = any(system["mean"]["seeds"] > 1 for system in document["systems"].values())
    text = (
        f"{round(first['n_queries']):,} queries ({round(first['n_answerable']):,} with a candidate within 25 m), "
        f"{round(first['gallery_size']):,} candidates. Median oracle error "
        f"{metres(baselines['floor']['median'])}, median of the constant baseline "
        f"{metres(baselines['constant']['median'])}. Seeds {', '.join(map(str, seeds)) or 'none'}. "
        f"In brackets: 95 % interval from resampling {first['intervals']['blocks']:,} blocks of queries "
        f"({first['intervals']['block']}), the variation over other streets of the same kind."
    )
    if parts := first.get("parts"):
        text += (
            f" Pooled over {parts} splits; each query is answered once, by the model that was not trained on its city. "
            "The interval does not describe other cities."
        )
    if several:
        text += " After ±: standard deviation over seeds. The interval does not include this variation."
    return text


def summary_markdown(document: Mapping[str, Any]) -> str:
    """The statistical summary as a list."""
    return "\n".join(f"- {sentence}" for sentence in statistical_summary(document))


def table_markdown(table: Table) -> str:
    """Format a table; best cells are bold, the second line of a cell follows in brackets.

    Example:
        >>> from swclip.reporting.page import Cell, Row, Table
        >>> row = Row([Cell("clip"), Cell("9 m", "8 to 10 m", best=True)])
        >>> print(table_markdown(Table(["system", "median"], [row])))
        | system | median |
        |---|---|
        | clip | **9 m** (8 to 10 m) |
    """
    lines = [_row(table.columns), "|" + "---|" * len(table.columns)]
    lines += [_row([_cell(cell) for cell in row.cells]) for row in table.rows]
    return "\n".join(lines)


def _row(cells: Any) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _cell(cell: Cell) -> str:
    text = f"**{cell.text}**" if cell.best else cell.text
    small = cell.small if cell.small.startswith("[") else f"({cell.small})"
    return " ".join(part for part in (text, small if cell.small else "", cell.note) if part)
