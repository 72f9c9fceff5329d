"""`swclip inspect`: what a manifest has, which photographs are suspicious, and which splits it can bear."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from swclip.cli.help import ADVANCED, off

if TYPE_CHECKING:
    from swclip.inspection.inspection import Inspection
    from swclip.inspection.trial_splits import Quantiles


def inspect(
    manifest: Path,
    /,
    *,
    out: Path | None = None,
    format: Literal["table", "json"] = "table",
    pixels: Literal["auto", "all", "none"] | int = "auto",
    photographs: Annotated[bool, off("--no-photographs")] = True,
    tiles: Annotated[str | None, ADVANCED] = None,
    attribution: Annotated[str, ADVANCED] = "",
    seed: Annotated[int, ADVANCED] = 0,
    workers: Annotated[int | None, ADVANCED] = None,
) -> None:
    """Show what a manifest has, what is suspicious, and what it can bear.

    Writes OUT/inspection.html (one file that opens offline), OUT/inspection.json, OUT/suspicious.csv (photographs to
    look at, with the threshold that each exceeds) and OUT/photographs.parquet (values of every photograph), and prints
    a summary. Each protocol and several block sizes are tried, and the one to begin with is named with its command.
    Photographs that were read are not read again: if interrupted, run the same command again to resume.

    Args:
        manifest: The manifest that `swclip prepare` or `swclip synth` wrote: the folder or its manifest.parquet.
        out: Output folder; by default `inspection` in the folder of the manifest.
        format: table, or json: the figures on standard output.
        pixels: How many photographs are read for blur, brightness, duplicates and cameras: all, none, a number of them
            drawn at random, or auto: all of up to 20,000, else so many.
        photographs: Show no photographs on the page, for pages that are shared.
        tiles: A base map below the map of the page: osm (OpenStreetMap), another name of xyzservices, or a URL such as
            https://tiles.example.org/{z}/{x}/{y}.png. The browser of a reader requests the tiles from that host. By
            default the page requests nothing.
        attribution: Attribution of the tiles; needed for a URL.
        seed: Seed of the photographs that --pixels NUMBER draws.
        workers: Threads that decode photographs; by default one per processor.

    Examples:
        swclip inspect data
        # a large manifest: positions, sequences and splits alone, as JSON
        swclip inspect data --pixels none --format json
        swclip inspect data --pixels 5000 --tiles osm --out inspected
    """
    from swclip.api import photographs as api
    from swclip.cli.console import command_line, console, next_step
    from swclip.data.manifest import manifest_file
    from swclip.inspection.trial_splits import split_command
    from swclip.reporting.inspection_page import PAGE_NAME
    from swclip.reporting.tiles import Tiles

    base_map = None if tiles is None else Tiles.of(tiles, attribution)
    data = manifest_file(manifest).parent
    folder = data / "inspection" if out is None else out
    inspection = api.inspect(
        manifest, folder, pixels=pixels, seed=seed, pictures=photographs, tiles=base_map, workers=workers,
        command=command_line(), progress=True,
    )  # fmt: skip
    if format == "json":
        sys.stdout.write(inspection.report.model_dump_json(indent=2) + "\n")
    else:
        _print(inspection)
        print(folder / PAGE_NAME)
    if len(inspection.suspicious):
        console.print(f"Suspicious photographs: {folder / 'suspicious.csv'}", markup=False, soft_wrap=True)
    best = inspection.recommended
    words = [f"open {folder / PAGE_NAME} in a browser"]
    next_step("inspect", *(words if best is None else split_command(best.protocol, best.block_m, str(data))))


def _print(inspection: Inspection) -> None:
    from swclip.cli.console import console, print_table
    from swclip.inspection.advice import advice_text, captures_text, split_name
    from swclip.reporting.inspection_page import oracle_text

    report = inspection.report
    print_table(f"{report.made_with['manifest']}: {report.photographs:,} photographs", ["", ""], _rows(inspection))
    listed = [[name, f"{count:,}"] for name, count in report.suspicious.items() if count]
    if listed:
        print_table("Suspicious photographs", ["reason", "photographs"], listed)
    print_table(
        "What they can bear",
        ["protocol", "verdict", "queries", "blocks with queries", "oracle error, median"],
        [
            [
                split_name(trial),
                trial.verdict,
                f"{trial.queries:,}",
                f"{trial.query_blocks:,}",
                "" if trial.oracle_error_m is None else oracle_text(trial.oracle_error_m.median),
            ]
            for trial in report.splits
        ],
    )
    for trial in report.splits:
        for reason in trial.reasons:
            console.print(f"{split_name(trial)}: {reason}", markup=False, soft_wrap=True)
    for sentence in (captures_text(report), advice_text(inspection)):
        console.print(sentence, markup=False, soft_wrap=True)


def _rows(inspection: Inspection) -> list[list[str]]:
    from swclip.reporting.units import area, metres

    report = inspection.report
    pixels, dates = report.pixels, report.dates
    total_km2 = sum(city.area_km2 for city in report.cities)

    def spread(values: Quantiles | None, unit: str = "") -> str:
        if values is None:
            return "unknown"
        texts = [metres(value) if not unit else f"{value:,.0f} {unit}" for value in (values.median, values.p95)]
        return f"median {texts[0]}, 95 % {texts[1]}"

    rows = [
        ["cities", f"{len(report.cities):,}"],
        ["places", f"{report.places.places:,}, {report.places.with_several:,} with several captures"],
        ["area", f"{area(total_km2)}, {report.photographs / total_km2:,.0f} photographs per km²"],
        ["nearest other place", spread(report.spacing_m)],
        ["accuracy", spread(report.accuracy_m)],
        ["dates", "unknown" if dates.earliest is None else f"{dates.earliest[:10]} to {str(dates.latest)[:10]}"],
        ["with heading", f"{report.headings.known:,}"],
        ["sequences", f"{report.sequences.sequences:,}"],
        ["speed", spread(report.sequences.speed_km_h, "km/h")],
        ["licences", ", ".join(report.licences.values) or "not stated"],
    ]
    if pixels is None:
        return [*rows, ["photographs read", "none"]]
    return [
        *rows,
        ["photographs read", f"{pixels.read:,}, {pixels.unreadable:,} unreadable"],
        ["cameras", ", ".join(pixels.cameras.values) or "not stated"],
        ["identical, near-duplicates", f"{pixels.identical:,}, {pixels.near_duplicates:,}"],
    ]
