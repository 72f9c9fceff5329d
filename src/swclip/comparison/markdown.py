"""A comparison as Markdown, for a page of results: the same tables as the HTML page, from the same document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swclip.comparison.findings import critical_reading
from swclip.comparison.tables import difference_table, estimator_table, region_table, system_table
from swclip.reporting.page import Cell, Table
from swclip.reporting.units import metres


def comparison_markdown(document: Mapping[str, Any]) -> str:
    """Facts, tables and reading of a comparison; no headings, which are the page's.

    Args:
        document: What benchmark.json holds.
    """
    systems = document["systems"]
    parts = [facts(document), table_markdown(system_table(document))]
    for word, key in (("baseline", "difference"), ("reference", "difference_from_reference")):
        name = document.get(word)
        if name is not None and len(systems) > 1:
            parts += [
                f"Difference from {name} (the {word}), with its paired 95 % interval; bold where it leaves 0 out:",
                table_markdown(difference_table(document, key)),
            ]
    regions = region_table(document)
    if len(next(iter(systems.values()))["mean"]["by_region"]) > 1:
        parts += ["Median by region:", table_markdown(regions)]
    parts += ["What the numbers say, written from them by fixed rules:", reading_markdown(document)]
    parts += [
        "<details><summary>The same scores read by every estimator</summary>",
        table_markdown(estimator_table(document)),
        "</details>",
    ]
    return "\n\n".join(parts) + "\n"


def facts(document: Mapping[str, Any]) -> str:
    """What was asked of what: queries, gallery, floor, guesses, seeds, and what the signs in the tables mean."""
    first = document["systems"][document["baseline"]]["mean"]
    guesses, seeds = first["baselines"], document["made_with"].get("seeds", [])
    several = any(system["mean"]["seeds"] > 1 for system in document["systems"].values())
    text = (
        f"{round(first['n_queries']):,} queries ({round(first['n_answerable']):,} with a candidate within 25 m), "
        f"{round(first['gallery_size']):,} candidates. Median of the floor {metres(guesses['floor']['median'])}, of "
        f"one guess for all {metres(guesses['constant']['median'])}. Seeds {', '.join(map(str, seeds)) or 'none'}. "
        f"In brackets the 95 % interval from resampling {first['intervals']['blocks']:,} blocks of queries "
        f"({first['intervals']['block']}): how far a figure would move on other streets of the same kind."
    )
    if parts := first.get("parts"):
        text += (
            f" Pooled over {parts} splits, each query once, answered by the system that did not see its city; the "
            "interval says nothing of other cities."
        )
    if several:
        text += (
            " After ± the standard deviation over seeds: how far it moves when trained again; neither holds the other."
        )
    return text


def reading_markdown(document: Mapping[str, Any]) -> str:
    """The critical reading as a list."""
    return "\n".join(f"- {sentence}" for sentence in critical_reading(document))


def table_markdown(table: Table) -> str:
    """A table; best cells in bold, the second line of a cell after it in brackets.

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
