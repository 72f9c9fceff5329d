"""Panoramax: open street imagery of many instances, found through one catalogue (STAC).

The search of a box has no further pages, so a box whose answer is full is split; the smallest are asked for with the
largest limit of the interface. Pictures are on the hosts of the
instances, at the addresses that the catalogue gives.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any, ClassVar

from swclip.connectors.refusal import Refusal
from swclip.connectors.service import (
    SMALLEST_RADIUS_M,
    BoxFullError,
    Item,
    Query,
    SearchResult,
    Service,
    Unusable,
    moment,
    number,
    table,
    text,
)
from swclip.geo.boxes import Box
from swclip.geo.coordinates import position_problem

LIMIT = 1_000
"""Photographs of one answer; the interface allows 10,000, whose answers take long."""
MOST = 10_000
"""Photographs of one answer about a box that is not split any more."""


class Panoramax(Service):
    """The catalogue of all instances, or one instance."""

    name = "panoramax"
    title = "Panoramax"
    endpoint_default = "https://api.panoramax.xyz"
    terms = "https://panoramax.fr"
    sizes: ClassVar[dict[str, int]] = {"hd": 4_000_000, "sd": 500_000, "thumb": 35_000}
    size_default = "sd"
    token_variable = "PANORAMAX_TOKEN"
    per_second = 20.0
    largest_box_km = 5.0

    def search(self, box: Box, query: Query) -> SearchResult:
        limit = LIMIT if box.radius_m > SMALLEST_RADIUS_M else MOST
        params: dict[str, str | int | float] = {"bbox": ",".join(f"{value:.9f}" for value in box.bbox), "limit": limit}
        if query.since is not None or query.until is not None:
            params["datetime"] = f"{_time(query.since)}/{_time(query.until)}"
        return self.client.json(f"{self.endpoint}/api/search", params, partial(self._result, limit=limit))

    def _result(self, answer: Any, address: str, limit: int) -> SearchResult:
        features = answer.get("features") if isinstance(answer, dict) else None
        if not isinstance(features, list):
            raise Refusal("schema", address, "the answer has no list `features`; has the service's interface changed?")
        stated = next((n for n in (number(answer.get(key)) for key in ("numberMatched", "numberReturned")) if n), 0)
        if not features and stated:
            raise Refusal("empty-page", address, f"the page is empty, although it states {stated:.0f} photographs.")
        if len(features) >= limit and limit < MOST:
            raise BoxFullError
        result = SearchResult.of([self._item(feature) for feature in features], address)
        if len(features) >= limit:
            raise BoxFullError(result)
        return result

    def _item(self, feature: Any) -> Item | Unusable:
        record = table(feature)
        key = text(record.get("id"))
        if key is None:
            return Unusable("", "a record without an id.")
        coordinates = table(record.get("geometry")).get("coordinates")
        pair = coordinates[:2] if isinstance(coordinates, list) else []
        lon, lat = (number(pair[0]), number(pair[1])) if len(pair) == 2 else (None, None)
        problem = position_problem(lat, lon)
        if lat is None or lon is None or problem is not None:
            return Unusable(key, f"{'it states no position' if problem is None else problem.detail}.")
        properties = table(record.get("properties"))
        status = text(properties.get("geovisio:status"))
        if status not in (None, "ready"):
            return Unusable(key, f"its status is {status!r}, not 'ready'.")
        address = text(table(table(record.get("assets")).get(self.size)).get("href"))
        if address is None:
            return Unusable(key, f"it has no picture of size {self.size}.")
        optics = table(properties.get("pers:interior_orientation"))
        sensor = optics.get("sensor_array_dimensions")
        width, height = (
            (number(side) for side in sensor) if isinstance(sensor, list) and len(sensor) == 2 else (None, None)
        )
        field_of_view_deg = number(optics.get("field_of_view"))
        rank, size = number(properties.get("geovisio:rank_in_collection")), number(properties.get("original_file:size"))
        accuracy_m, heading_deg = (
            number(properties.get("quality:horizontal_accuracy")),
            number(properties.get("view:azimuth")),
        )
        return Item(
            id=key,
            lat_deg=lat,
            lon_deg=lon,
            accuracy_m=accuracy_m if accuracy_m is not None and accuracy_m > 0.0 else None,
            heading_deg=None if heading_deg is None else heading_deg % 360.0,
            captured_at=moment(properties.get("datetime")),
            camera=None
            if field_of_view_deg is None
            else "equirectangular"
            if field_of_view_deg >= 360.0
            else "perspective",
            field_of_view_deg=field_of_view_deg,
            pitch_deg=number(properties.get("pers:pitch")),
            roll_deg=number(properties.get("pers:roll")),
            sequence=text(record.get("collection")),
            rank=None if rank is None else int(rank),
            width_px=None if width is None else int(width),
            height_px=None if height is None else int(height),
            bytes=int(size) if self.size == "hd" and size is not None else None,
            licence=text(properties.get("license")),
            author=text(properties.get("geovisio:producer")) or _producer(record.get("providers")),
            page=_page(record.get("links"))
            or f"{self.endpoint}/api/collections/{record.get('collection')}/items/{key}",
            make=text(optics.get("camera_manufacturer")),
            model=text(optics.get("camera_model")),
            address=address,
        )


def _time(value: datetime | None) -> str:
    return ".." if value is None else f"{value:%Y-%m-%dT%H:%M:%SZ}"


def _producer(providers: Any) -> str | None:
    """The name of the producer, or of the first provider."""
    tables = [table(provider) for provider in providers] if isinstance(providers, list) else []
    tables.sort(key=lambda table: "producer" not in (table.get("roles") or ()))
    return next((name for table in tables if (name := text(table.get("name"))) is not None), None)


def _page(links: Any) -> str | None:
    """The address of the photograph's page, or of its record."""
    tables = [table(link) for link in links] if isinstance(links, list) else []
    pages = [link for link in tables if link.get("rel") == "alternate" and link.get("type") == "text/html"]
    records = [link for link in tables if link.get("rel") == "self"]
    return next((address for link in (*pages, *records) if (address := text(link.get("href"))) is not None), None)
