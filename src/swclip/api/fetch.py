"""`swclip.fetch`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swclip.api.objects import PathLike
from swclip.progress import step_progress

if TYPE_CHECKING:
    from datetime import datetime

    from swclip.connectors.dataset import Positions
    from swclip.connectors.fetch import FetchResult, Politeness
    from swclip.imaging.panoramas import ViewOptions
    from swclip.progress import Steps


def fetch(
    out: PathLike,
    service: str = "panoramax",
    *,
    area: PathLike | None = None,
    bbox: str | tuple[float, float, float, float] | None = None,
    near: tuple[float, float] | None = None,
    radius_m: float | None = None,
    geocoder: str | None = None,
    every_m: float | None = None,
    sectors: int = 4,
    captures: int = 1,
    per_place: int | None = None,
    since: datetime | str | None = None,
    until: datetime | str | None = None,
    panoramas: bool | None = None,
    min_quality: float | None = None,
    size: str | None = None,
    city: str | None = None,
    views: int | ViewOptions | None = None,
    positions: Positions = "recorded",
    dry_run: bool = False,
    update: bool = False,
    partial: bool = False,
    endpoint: str | None = None,
    max_megapixels: float = 100.0,
    politeness: Politeness | None = None,
    progress: bool | Steps | None = None,
) -> FetchResult:
    """Download the photographs that a street-imagery service has of an area, with their manifest.

    The same call resumes an interrupted one: nothing is searched or downloaded twice. A token is read from the
    environment (MAPILLARY_TOKEN, PANORAMAX_TOKEN).

    Args:
        out: Folder for manifest.parquet, images/, fetch.json (the request), rejected.csv and fetch.sqlite (the state).
        service: "panoramax", "mapillary" or "kartaview".
        area: A file of polygons; with `geocoder`, the name of a place. One of `area`, `bbox` and `near` is needed.
        bbox: West, south, east and north in degrees, or their text.
        near: Latitude and longitude of the centre of a circle, degrees.
        radius_m: Its radius in metres.
        geocoder: Address of a service that finds places by name as Nominatim does.
        every_m: Thin out: photographs of one direction are at least this many metres apart.
        sectors: Directions of thinning: headings that differ by 360 / `sectors` degrees or more are different ones.
        captures: Photographs of one place and direction, each of another drive; known-places needs at least 2.
        per_place: Photographs within `every_m`, of all directions together.
        since: Captured at or after this time (ISO 8601 if text; UTC without a time zone).
        until: Captured before this time.
        panoramas: True for panoramas alone, False for none, None for both.
        min_quality: Smallest quality that the service states, 0 to 1.
        size: Size of the pictures, one of the service's: "sd" of panoramax, "2048" of mapillary and so on.
        city: City of all photographs; the name of the area, where a geocoder found it, if None.
        views: Number of perspective views by which each 360-degree panorama is replaced, or all options of them
            (`swclip.imaging.panoramas.ViewOptions`). None keeps panoramas whole.
        positions: "recorded" by the cameras, or "computed" by the service from the pictures where it did.
        dry_run: Search and plan only.
        update: Search again, and add what is new.
        partial: Finish although the service refuses a part; the result states what is missing.
        endpoint: Address of an instance of the service.
        max_megapixels: Reject larger images by their header.
        politeness: `swclip.connectors.fetch.Politeness`: how the service is asked.
        progress: True for progress bars, or a callback that is called with (step, done, total).

    Returns:
        The result with `plan`, `manifest` (None of a dry run), `missing` and `left_out`.

    Raises:
        ConfigError: An argument is invalid, the folder was begun with another request, or there is no token.
        InputError: The service has no such photograph of the area, or the place has no unique area.
        ServiceError: The service or the geocoder refuses; what was fetched is kept, and the same call resumes.
    """
    from swclip.connectors.area import requested_area
    from swclip.connectors.fetch import fetch as download
    from swclip.connectors.service import Query
    from swclip.connectors.thinning import Thinning

    box = bbox if bbox is None or isinstance(bbox, str) else ",".join(str(float(value)) for value in bbox)
    name = None if area is None else str(area)
    requested = requested_area(name, bbox=box, near=near, radius_m=radius_m, geocoder=geocoder)
    query = Query.between(since, until, panoramas)
    thinning = Thinning(every_m, sectors, captures, per_place, min_quality)
    with step_progress(progress) as report:
        return download(
            service, requested, out, endpoint=endpoint, size=size, query=query, thinning=thinning, positions=positions,
            city=city, views=views, dry_run=dry_run, update=update, partial=partial, max_megapixels=max_megapixels,
            politeness=politeness, progress=report,
        )  # fmt: skip
