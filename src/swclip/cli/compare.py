"""`swclip compare`: compare reports of separate evaluations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from swclip.cli.help import ADVANCED, off


def compare(
    reports: list[str],
    /,
    *,
    out: Path,
    baseline: str | None = None,
    reference: str | None = None,
    common: bool = False,
    photographs: Annotated[bool, off("--no-photographs")] = True,
    estimator: Annotated[Literal["mode", "argmax", "geometric-median"] | None, ADVANCED] = None,
    resamples: Annotated[int, ADVANCED] = 1000,
    seed: Annotated[int, ADVANCED] = 0,
    manifest: Annotated[Path | None, ADVANCED] = None,
    splits: Annotated[Path | None, ADVANCED] = None,
    tiles: Annotated[str | None, ADVANCED] = None,
    attribution: Annotated[str, ADVANCED] = "",
) -> None:
    """Compare reports that `swclip evaluate` wrote.

    Shows paired differences, figures by district, and the queries whose errors changed most. Writes OUT/compare.json,
    OUT/compare.html (one file that opens offline), OUT/moved.csv (every query with the error of every system) and
    OUT/curves.png and .svg, and prints a summary. Queries are matched by image_id.

    Args:
        reports: Two or more report folders, each FOLDER or NAME=FOLDER. Folders with the same NAME are seeds of one
            system, whose figures are averaged. A folder that contains report folders means all of them.
        out: Output folder.
        baseline: The system to which the others are compared; the first by default.
        reference: A second system to which the others are compared.
        common: Compare only the queries that all reports share, and count the others. Without it, reports of different
            queries are an error.
        photographs: Do not show photographs on the page.
        estimator: Compare all reports by the answers of this estimator; by default that of the reports where they
            agree, else mode.
        resamples: Number of bootstrap resamples of the blocks of queries.
        seed: Seed of the bootstrap.
        manifest: Path of the manifest, if it was moved; for the photographs on the page.
        splits: Path of the splits, if they were moved; for the candidates on the map and the leakage report.
        tiles: A base map below the maps of the page: osm (OpenStreetMap), another name of xyzservices, or a URL such as
            https://tiles.example.org/{z}/{x}/{y}.png. The browser of a reader requests the tiles from that host. By
            default the page requests nothing.
        attribution: Attribution of the tiles; needed for a URL.

    Examples:
        swclip compare reports/clip reports/sw-clip --out compared
        # two seeds of each system; figures are averaged
        swclip compare clip=r/c0 clip=r/c1 sw-clip=r/s0 sw-clip=r/s1 \\
            --baseline clip --out compared
    """
    from swclip.cli.console import command_line, console, next_step, print_table
    from swclip.comparison.compare_reports import compare_reports
    from swclip.comparison.page import write_comparison
    from swclip.comparison.reports_on_disk import find_comparison_data
    from swclip.comparison.tables import console_table
    from swclip.reporting.tiles import Tiles

    base_map = None if tiles is None else Tiles.of(tiles, attribution)
    compared = compare_reports(
        reports,
        baseline=baseline,
        reference=reference,
        common=common,
        estimator=estimator,
        resamples=resamples,
        seed=seed,
        command=command_line(),
    )
    page_data = find_comparison_data(compared, manifest=manifest, splits=splits)
    written = write_comparison(
        out,
        page_data.comparison,
        "compare",
        manifest=page_data.manifest if photographs else None,
        leakage=page_data.leakage,
        tiles=base_map,
    )
    print_table(*console_table(compared.document))
    for note in [*compared.document.notes, *page_data.notes]:
        console.print(f"Note: {note}", markup=False, soft_wrap=True)
    print(written)
    next_step("compare", f"open {out / 'compare.html'} in a browser")
