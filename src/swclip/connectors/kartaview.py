"""KartaView 2.0 (formerly OpenStreetCam): photographs around a point, in pages; no token.

Its search by box is not answered any more (408), so a box is asked for as the circle around it. Dense circles time out
too; the caller then asks for the quarters of the box, whose circles are half as large.
"""

from __future__ import annotations

from typing import Any, ClassVar

from swclip.connectors.refusal import Kind, Refusal
from swclip.connectors.service import (
    BoxFullError,
    Item,
    Query,
    SearchResult,
    Service,
    Unusable,
    identifier,
    moment,
    number,
    position,
    table,
    text,
)
from swclip.geo.boxes import Box

PAGE = 150
"""Photographs of one page, the largest that the service gives."""
MAX_PAGES = 20
"""A circle with more pages is asked for in parts: late pages take long."""
_NO_RESULTS = "601"


class KartaView(Service):
    """KartaView's catalogue."""

    name = "kartaview"
    title = "KartaView"
    endpoint_default = "https://api.openstreetcam.org"
    licence = "CC-BY-SA-4.0"
    terms = "https://kartaview.org/terms"
    sizes: ClassVar[dict[str, int]] = {"proc": 500_000, "th": 20_000}
    size_default = "proc"
    per_second = 5.0
    largest_box_km = 0.7

    def search(self, box: Box, query: Query) -> SearchResult:
        lat, lon = box.centre_deg
        records: list[Item | Unusable] = []
        for page in range(1, MAX_PAGES + 1):
            params: dict[str, str | int | float] = {
                "lat": f"{lat:.9f}",
                "lng": f"{lon:.9f}",
                "radius": max(1, round(box.radius_m + 0.5)),
                "join": "sequence",
                "itemsPerPage": PAGE,
                "page": page,
            }
            data, more = self.client.json(f"{self.endpoint}/2.0/photo/", params, _page)
            records += [self._item(record) for record in data]
            if not more:
                return SearchResult.of(records, f"{self.endpoint}/2.0/photo/")
        raise BoxFullError

    def _item(self, record: Any) -> Item | Unusable:
        record = table(record)
        key = identifier(record.get("id"))
        if key is None:
            return Unusable("", "a record without an id.")
        at = position(record.get("lat"), record.get("lng"))
        if at is None:
            return Unusable(key, f"its position ({record.get('lat')}, {record.get('lng')}) is none.")
        address = text(record.get(f"fileurl{self.size.title()}"))
        if address is None:
            return Unusable(key, f"it has no picture of size {self.size}.")
        computed = position(record.get("matchLat"), record.get("matchLng"))
        heading_deg, field_of_view_deg = number(record.get("heading")), number(record.get("fieldOfView"))
        sequence = table(record.get("sequence"))
        sequence_id = identifier(sequence.get("id")) or identifier(record.get("sequenceId"))
        rank = number(record.get("sequenceIndex"))
        width, height = number(record.get("width")), number(record.get("height"))
        plane = record.get("projection") == "PLANE" or bool(field_of_view_deg)
        pano = record.get("projection") == "SPHERE" or (field_of_view_deg is not None and field_of_view_deg >= 360.0)
        return Item(
            id=key,
            lat_deg=at[0],
            lon_deg=at[1],
            computed_lat_deg=None if computed is None else computed[0],
            computed_lon_deg=None if computed is None else computed[1],
            heading_deg=None if heading_deg is None or heading_deg < 0.0 else heading_deg % 360.0,
            captured_at=moment(record.get("shotDate")),
            camera="equirectangular" if pano else "perspective" if plane else None,
            field_of_view_deg=field_of_view_deg or None,
            sequence=sequence_id,
            rank=None if rank is None else int(rank),
            width_px=None if not width else int(width),
            height_px=None if not height else int(height),
            licence=self.licence,
            author=text(sequence.get("userName")) or text(sequence.get("username")),
            page=None
            if sequence_id is None or rank is None
            else f"https://kartaview.org/details/{sequence_id}/{int(rank)}/track-info",
            address=address,
        )


def _page(answer: Any, address: str) -> tuple[list[Any], bool]:
    """The records of a page, and whether there are more pages."""
    status, result = table(table(answer).get("status")), table(table(answer).get("result"))
    code = number(status.get("httpCode"))
    if code is not None and code >= 400:  # in an answer that HTTP calls a success
        kinds: dict[int, Kind] = {408: "timeout", 429: "busy", 504: "timeout"}
        kind = kinds.get(int(code), "server-error" if code >= 500 else "bad-request")
        said = text(status.get("apiMessage")) or text(status.get("httpMessage")) or "no reason"
        raise Refusal(kind, address, f"status {code:.0f}: {said}.", status=int(code))
    data = result.get("data")
    if not isinstance(data, list):
        if identifier(status.get("apiCode")) == _NO_RESULTS:
            return [], False
        raise Refusal("schema", address, "the answer has no list `result.data`; has the service's interface changed?")
    more = result.get("hasMoreData") in (True, 1, "1", "true")
    if more and not data:
        raise Refusal("empty-page", address, "the page is empty, although it states that there are more.")
    return data, more
