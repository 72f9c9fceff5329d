"""experiment.html: the photographs, and the systems on each split, with links to the pages of the comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swclip.comparison.document import ComparisonDocument
from swclip.comparison.findings import statistical_summary
from swclip.comparison.tables import system_table
from swclip.connectors.fetch import SERVICES
from swclip.data.splits import Splits
from swclip.experiments.description import Experiment
from swclip.reporting.page import Cell, Row, Table, write_page

if TYPE_CHECKING:
    from swclip.comparison.benchmark import Benchmark


def write_experiment_page(
    path: Path,
    experiment: Experiment,
    record: Mapping[str, Any],
    splits: Mapping[str, Sequence[Splits]],
    benchmarks: Mapping[str, Benchmark],
) -> None:
    """Write the page.

    Args:
        path: The HTML file, beside `results`.
        experiment: The experiment.
        record: The content of experiment.json.
        splits: The splits files of each entry, by its name.
        benchmarks: The comparison of the systems on each, by the same name.
    """
    sections = []
    for title, done in benchmarks.items():
        link = done.files[-1].with_suffix(".html").relative_to(path.parent).as_posix() if done.files else None
        sections.append(
            {
                "anchor": title,
                "title": title,
                "link": link,
                "splits": _counts(splits[title]),
                "parts": [
                    (name, system_table(document), statistical_summary(document)) for name, document in _documents(done)
                ],
                "failures": [str(failure) for failure in done.failures],
            }
        )
    cities = ", ".join(record["areas"])
    made = record["made_with"]
    page = {
        "title": f"{len(record['areas'])} {'city' if len(record['areas']) == 1 else 'cities'}",
        "setting": f"{SERVICES[experiment.service].title}, {record['photographs']['number']:,} photographs of {cities}",
        "summary": " ".join(experiment.notes),
        "leakage": None,
        "with_leakage": False,
        "contents": [("areas", "Photographs"), *((section["anchor"], section["title"]) for section in sections)],
        "areas": _areas(record["areas"]),
        "sections": sections,
        "random_draws": None,
        "block": "block_id",
        "provenance": [(key, str(value)) for key, value in made.items() if value is not None],
        "record": "experiment.json",
    }
    write_page(path, "experiment.html.j2", page, {})


def _documents(done: Benchmark) -> list[tuple[str, ComparisonDocument]]:
    """The comparisons that the page shows, with their names; of cities left out in turn the pooled one."""
    if done.pooled is not None:
        return [("all cities, each left out once", done.pooled.document)]
    return [(name, comparison.document) for name, comparison in done.comparisons.items()]


def _counts(parts: Sequence[Splits]) -> str:
    """The photographs of splits in words: of one file, or the number of queries of several."""
    if len(parts) > 1:
        return f"{len(parts)} cities left out in turn, {sum(one.meta['counts']['query'] for one in parts):,} queries"
    counts = parts[0].meta["counts"]
    return (
        f"{counts['train']:,} photographs for training, {counts['val']:,} validation queries, "
        f"{counts['query']:,} queries, {counts['candidates_for_query']:,} candidates"
    )


def _areas(areas: Mapping[str, Any]) -> Table:
    rows = []
    for city, one in areas.items():
        years = sorted(year for year in one["years"] if year != "unknown")
        licences = ", ".join(f"{name}: {count:,}" for name, count in one["licences"].items())
        left_out = sum(one["left_out"].values()) + sum(one["missing"].values())
        rows.append(
            Row(
                [
                    Cell(city),
                    Cell(f"{one['photographs']:,}"),
                    Cell(f"{one['bytes'] / 1e6:,.1f} MB"),
                    Cell(f"{one['area_km2']:,.3g} km²"),
                    Cell(f"{one['sequences']:,}"),
                    Cell(" to ".join(dict.fromkeys((years[0], years[-1]))) if years else "unknown"),
                    Cell(licences),
                    Cell(f"{left_out:,}"),
                ]
            )
        )
    return Table(["city", "photographs", "size", "area", "sequences", "years", "licences", "left out"], rows)
