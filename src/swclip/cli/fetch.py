"""`swclip fetch`: download the photographs that a street-imagery service has of an area, with their manifest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from swclip.cli.help import ADVANCED, group
from swclip.cli.options import AreaOptions, ViewsOptions

if TYPE_CHECKING:
    from swclip.connectors.fetch import FetchResult, Politeness
    from swclip.connectors.search import Plan
    from swclip.connectors.service import Query
    from swclip.connectors.thinning import Thinning

_WHICH = group("Which photographs")


@Parameter(name="*", group=_WHICH.group)
@dataclass(frozen=True)
class SelectionOptions:
    """Filters and thinning; both act before anything is downloaded."""

    every_m: float | None = None
    "Thin out: photographs of one direction are at least this many metres apart."
    sectors: int = 4
    "Directions of thinning: headings that differ by 360 / SECTORS degrees or more are different ones."
    captures: int = 1
    "Photographs of one place and direction, each of another drive. The protocol known-places needs 2 or more."
    per_place: int | None = None
    "Photographs within --every-m, of all directions together."
    since: str | None = None
    "Captured at or after this date or time (ISO 8601, UTC)."
    until: str | None = None
    "Captured before this date or time."
    panoramas: Literal["all", "only", "none"] = "all"
    "Panoramas (360 degrees): with the others, alone, or none."
    min_quality: float | None = None
    "Smallest quality that the service states, 0 to 1."

    def read(self) -> tuple[Query, Thinning]:
        """The filters that the service is told, and the thinning.

        Raises:
            ConfigError: A value is invalid.
        """
        from swclip.connectors.service import Query
        from swclip.connectors.thinning import Thinning

        panoramas = {"all": None, "only": True, "none": False}[self.panoramas]
        thinning = Thinning(self.every_m, self.sectors, self.captures, self.per_place, self.min_quality)
        return Query.between(self.since, self.until, panoramas), thinning


@Parameter(name="*", group=ADVANCED.group)
@dataclass(frozen=True)
class PolitenessOptions:
    """How the service is asked."""

    connections: int = 8
    "Requests at the same time."
    per_second: float | None = None
    "Requests to one host in a second; by default what the service tolerates, 0 for no limit."
    attempts: int = 6
    "How often a request is made before its refusal is final."
    backoff_s: float = 1.0
    "First wait before a repeated request, seconds; it doubles each time and is drawn at random up to that."
    timeout_s: float = 60.0
    "Longest time without a byte, seconds."

    def read(self) -> Politeness:
        """As the engine takes it."""
        from swclip.connectors.fetch import Politeness

        return Politeness(self.connections, self.per_second, self.attempts, self.backoff_s, self.timeout_s)


def fetch(
    service: str = "panoramax",
    /,
    *,
    out: Path,
    area: AreaOptions | None = None,
    selection: SelectionOptions | None = None,
    size: str | None = None,
    city: str | None = None,
    views: ViewsOptions | None = None,
    dry_run: bool = False,
    update: bool = False,
    partial: bool = False,
    positions: Literal["recorded", "computed"] = "recorded",
    endpoint: Annotated[str | None, ADVANCED] = None,
    max_megapixels: Annotated[float, ADVANCED] = 100.0,
    politeness: PolitenessOptions | None = None,
) -> None:
    """Download street photographs of an area, with their manifest.

    The photographs come from a street-imagery service: panoramax has open licences and needs no token. First the plan
    is printed: how many photographs, how large, under which licences. The result needs no `swclip prepare`. If
    interrupted, run the same command again to resume: nothing is searched or downloaded twice.

    A service that refuses or fails is asked again, politely; what is missing in the end is stated, and is an error
    unless --partial accepts it. A token is read from the environment and written nowhere.

    Args:
        service: The service: panoramax, mapillary (its token is in the environment variable MAPILLARY_TOKEN) or
            kartaview.
        out: Folder for manifest.parquet, images/, fetch.json (the request), rejected.csv and fetch.sqlite (the state).
        size: Size of the pictures; panoramax: hd (original), sd (2048 pixels wide, the default) or thumb (500);
            mapillary: original, 2048 (the default), 1024 or 256; kartaview: proc (the default) or th.
        city: City of all photographs; by default the name of the area, where --geocoder found it.
        views: Perspective views of panoramas.
        dry_run: Search, print the plan, and stop. The same command without this continues with the download.
        update: Search again, and add what is new since.
        partial: Finish although the service refuses a part.
        positions: Positions and headings of the manifest: as the cameras recorded them, or as the service computed them
            from the pictures, where it did. Both are in the manifest.
        endpoint: Address of an instance of the service.
        max_megapixels: Reject larger images by their header, before decoding.

    Examples:
        swclip fetch --bbox=-1.56,53.79,-1.53,53.81 --out leeds --dry-run
        # two captures of each place and direction, 10 m apart
        swclip fetch --near=53.8,-1.5 --radius-m 800 --every-m 10 --captures 2 --out a
        swclip fetch --area city.geojson --since 2020-01-01 --out city
        # four views of each 360-degree panorama
        swclip fetch --area city.geojson --panoramas only --views 4 --out views
        # weeks later: what is new
        swclip fetch --area city.geojson --since 2020-01-01 --out city --update
    """
    from swclip.cli.console import next_step
    from swclip.connectors.fetch import fetch as download
    from swclip.progress import progress_bars

    query, thinning = (selection or SelectionOptions()).read()
    view_options = (views or ViewsOptions()).options()
    requested = (area or AreaOptions()).read()
    with progress_bars() as progress:
        result = download(
            service,
            requested,
            out,
            endpoint=endpoint,
            size=size,
            query=query,
            thinning=thinning,
            positions=positions,
            city=city,
            views=view_options,
            dry_run=dry_run,
            update=update,
            partial=partial,
            max_megapixels=max_megapixels,
            politeness=(politeness or PolitenessOptions()).read(),
            progress=progress,
            show_plan=_print_plan,
        )
    _print_result(result)
    if result.path is not None:
        print(result.path)
        splits = out / "splits.parquet"
        next_step("fetch", "swclip", "split", out, "--protocol", "known-places", "--out", splits)
    else:
        next_step("fetch", "the same command without --dry-run downloads them; the search is not repeated.")


def _print_plan(plan: Plan) -> None:
    from swclip.cli.console import console, print_table

    rows = [["in the area", f"{plan.found:,}"]]
    rows += [[f"left out: {reason}", f"{count:,}"] for reason, count in plan.filtered.items()]
    rows += [["left out: thinning", f"{plan.thinned:,}"]] if plan.thinned else []
    rows += [["of the data set", f"{plan.photographs:,}"], ["to download", f"{plan.to_download:,}"]]
    rows += [["of the data set, panoramas", f"{plan.panoramas:,}"]] if plan.panoramas else []
    size = f"{plan.bytes_to_download / 1e6:,.1f} MB"
    rows += [[f"size of these ({plan.bytes_from})", size]]
    rows += [["records that are no photographs", f"{plan.unusable:,}"]] if plan.unusable else []
    print_table(f"Plan: {plan.area_km2:,.3g} km2, {plan.sequences:,} sequences", ["", "photographs"], rows)
    for name, counts in (("Licences", plan.licences), ("Years", plan.years), ("Largest", plan.largest_sequences)):
        text = ", ".join(f"{key}: {count:,}" for key, count in counts.items())
        console.print(f"{name}: {text}", soft_wrap=True, markup=False)


def _print_result(result: FetchResult) -> None:
    from swclip.cli.console import console

    for name, counts in (
        ("Requests that were repeated", result.retried),
        ("Left out, with reasons in rejected.csv", result.left_out),
        ("MISSING, since the service refused", result.missing),
    ):
        if counts:
            text = ", ".join(f"{count:,} x {reason}" for reason, count in counts.items())
            console.print(f"{name}: {text}", soft_wrap=True, markup=False)
    if result.path is not None:
        views = f", {result.views:,} of them views of {result.panoramas:,} panoramas" if result.views else ""
        console.print(f"{result.photographs:,} photographs{views}", markup=False)
    for note in result.notes:
        console.print(f"Note: {note.code} ({note.count}): {note.detail}", soft_wrap=True, markup=False)
