"""`swclip compare`: reports that were made apart, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def compare(
    reports: list[str],
    /,
    *,
    out: Path,
    baseline: str | None = None,
    reference: str | None = None,
    common: Annotated[bool, Parameter(negative="")] = False,
    resamples: int = 1000,
    seed: int = 0,
    manifest: Path | None = None,
    splits: Path | None = None,
    photographs: Annotated[bool, Parameter(negative="--no-photographs")] = True,
) -> None:
    """Compare reports that `swclip evaluate` wrote: paired differences, regions, and the queries that moved most.

    Writes OUT/compare.json, OUT/compare.html (one file that opens without a network), OUT/moved.csv (every query with
    every system's error) and OUT/curves.png and .svg, and prints the headline figures. Queries are matched by their
    image_id, in whatever order the files hold them.

    Args:
        reports: Two report folders or more, each FOLDER or NAME=FOLDER. Folders of one NAME are seeds of one system:
            figures are means over them. A folder of several report folders stands for all of them.
        out: The folder to write to.
        baseline: The system that differences are taken from; if not given, the first.
        reference: A second system that differences are taken from.
        common: Compare on the queries that all reports have, and say how many were left out. If not given, reports of
            different queries are refused.
        resamples: Bootstrap resamples of the blocks of queries.
        seed: Of the bootstrap.
        manifest: Where the manifest is now, for the photographs on the page, if it was moved.
        splits: Where the splits are now, for the candidates on the map and the leakage report, if they were moved.
        photographs: Whether the page shows photographs.
    """
    from swclip.cli.console import command_line, console, print_table
    from swclip.comparison.compare_reports import compare_reports
    from swclip.comparison.comparison import comparison_table
    from swclip.comparison.page import write_compare
    from swclip.comparison.reports_on_disk import find_surroundings

    compared = compare_reports(
        reports,
        baseline=baseline,
        reference=reference,
        common=common,
        resamples=resamples,
        seed=seed,
        command=command_line(),
    )
    found = find_surroundings(compared, manifest=manifest, splits=splits)
    written = write_compare(
        out, found.comparison, manifest=found.manifest if photographs else None, leakage=found.leakage
    )
    print_table(*comparison_table(compared.document))
    for note in [*compared.document["notes"], *found.notes]:
        console.print(f"Note: {note}", markup=False)
    console.print(f"Open {out / 'compare.html'} in a browser.", markup=False)
    print(written)
