"""Mapillary: Graph API v4, which needs a token. It states positions as recorded and as computed from the pictures.

An answer of a box with many photographs has only some of them, without saying so (a user counted 103, and 327 in the
quarters), so only answers with few photographs, or of small boxes, count as complete.

References:
    https://www.mapillary.com/developer/api-documentation
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from swclip.connectors.refusal import Refusal
from swclip.connectors.service import (
    BoxFullError,
    Camera,
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
from swclip.geo.coordinates import LocalFrame

LIMIT = 2_000
"""Photographs of one answer, which has no further pages."""
_FIELDS = (
    "id", "geometry", "computed_geometry", "captured_at", "compass_angle", "computed_compass_angle", "camera_type",
    "is_pano", "sequence", "creator", "make", "model", "width", "height", "quality_score",
)  # fmt: skip
FEW = 50
"""An answer with more photographs counts as complete only for a small box."""
_SMALL_RADIUS_M = 75.0
_LEAST_SIDE_M = 60.0  # boxes of 20 m are answered with 400
_FIRST, _LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)  # clocks of cameras may be wrong
_SHORTEST = timedelta(seconds=1)
_TOO_MUCH = "reduce the amount of data"
_DELETED = "does not exist"
_CAMERAS: dict[str, Camera] = {
    "perspective": "perspective",
    "brown": "perspective",
    "radial": "perspective",
    "fisheye": "fisheye",
    "equirectangular": "equirectangular",
    "spherical": "equirectangular",
}


class Mapillary(Service):
    """Mapillary's catalogue; addresses of pictures expire and are asked for just before a download."""

    name = "mapillary"
    title = "Mapillary"
    endpoint_default = "https://graph.mapillary.com"
    licence = "CC-BY-SA-4.0"
    terms = "https://www.mapillary.com/terms"
    sizes: ClassVar[dict[str, int]] = {"original": 3_000_000, "2048": 500_000, "1024": 150_000, "256": 15_000}
    size_default = "2048"
    token_variable = "MAPILLARY_TOKEN"
    token_scheme = "OAuth"
    token_required = True
    per_second = 20.0
    largest_box_km = 2.0
    addresses_expire = True

    def search(self, box: Box, query: Query) -> SearchResult:
        wide = _wide_enough(box)
        found = self._found(wide, query, query.since, query.until, by_time=wide != box)
        if len(found) > FEW and box.radius_m > _SMALL_RADIUS_M:
            raise BoxFullError
        return SearchResult.of([self._item(record) for record in found], f"{self.endpoint}/images")

    def addresses(self, ids: Sequence[str]) -> dict[str, str]:
        field = f"thumb_{self.size}_url"
        params: dict[str, str | int | float] = {"image_ids": ",".join(ids), "fields": f"id,{field}"}
        try:
            records = self.client.json(f"{self.endpoint}/images", params, _records)
        except Refusal as refusal:
            if refusal.kind not in ("gone", "bad-request"):
                raise
            if len(ids) > 1:  # one that was deleted may spoil the answer of the others
                return {key: address for one in ids for key, address in self.addresses([one]).items()}
            if refusal.kind == "gone" or _DELETED in refusal.detail:
                return {}
            raise
        pairs = ((identifier(record.get("id")), text(record.get(field))) for record in records)
        return {key: address for key, address in pairs if key is not None and address is not None}

    def _found(
        self, box: Box, query: Query, since: datetime | None, until: datetime | None, *, by_time: bool
    ) -> list[dict[str, Any]]:
        """The records of a box; of one that cannot be made smaller, by intervals of time where it is full.

        Raises:
            BoxFullError: The answer is full.
        """
        params: dict[str, str | int | float] = {
            "bbox": ",".join(f"{value:.9f}" for value in box.bbox),
            "fields": ",".join(_FIELDS),
            "limit": LIMIT,
        }
        if since is not None:
            params["start_captured_at"] = f"{since:%Y-%m-%dT%H:%M:%SZ}"
        if until is not None:
            params["end_captured_at"] = f"{until:%Y-%m-%dT%H:%M:%SZ}"
        if query.panoramas is not None:
            params["is_pano"] = "true" if query.panoramas else "false"
        try:
            records = self.client.json(f"{self.endpoint}/images", params, _records)
        except Refusal as refusal:
            if _TOO_MUCH not in refusal.detail and refusal.kind != "timeout":
                raise
            records = None
        if records is not None and len(records) < LIMIT:
            return records
        start, end = since or _FIRST, until or _LAST
        if not by_time or end - start < _SHORTEST:
            raise BoxFullError
        middle = (start + (end - start) / 2).replace(microsecond=0)
        if middle <= start:
            raise BoxFullError
        parts = ((start, middle), (middle, end))
        return [record for part in parts for record in self._found(box, query, *part, by_time=True)]

    def _item(self, record: dict[str, Any]) -> Item | Unusable:
        key = identifier(record.get("id"))
        if key is None:
            return Unusable("", "a record without an id.")
        recorded, computed = _position(record.get("geometry")), _position(record.get("computed_geometry"))
        at = recorded or computed  # some have only the computed one
        if at is None:
            return Unusable(key, "it states no position.")
        camera = _CAMERAS.get(text(record.get("camera_type")) or "")
        if record.get("is_pano") is True:
            camera = "equirectangular"
        width, height = number(record.get("width")), number(record.get("height"))
        return Item(
            id=key,
            lat_deg=at[0],
            lon_deg=at[1],
            computed_lat_deg=None if computed is None else computed[0],
            computed_lon_deg=None if computed is None else computed[1],
            heading_deg=_heading_deg(record.get("compass_angle")),
            computed_heading_deg=_heading_deg(record.get("computed_compass_angle")),
            captured_at=moment(record.get("captured_at")),
            camera=camera,
            field_of_view_deg=360.0 if camera == "equirectangular" else None,
            sequence=identifier(record.get("sequence")),
            width_px=None if width is None else int(width),
            height_px=None if height is None else int(height),
            licence=self.licence,
            author=text(table(record.get("creator")).get("username")),
            page=f"https://www.mapillary.com/app/?pKey={key}",
            quality=number(record.get("quality_score")),
            make=text(record.get("make")),
            model=text(record.get("model")),
        )


def _records(answer: Any, address: str) -> list[dict[str, Any]]:
    records = table(answer).get("data")
    if not isinstance(records, list):
        raise Refusal("schema", address, "the answer has no list `data`; has the service's interface changed?")
    return [table(record) for record in records]


def _position(geometry: Any) -> tuple[float, float] | None:
    """Latitude and longitude of a GeoJSON point, None where it is no position."""
    coordinates = table(geometry).get("coordinates")
    pair = coordinates[:2] if isinstance(coordinates, list) else []
    return position(pair[1], pair[0]) if len(pair) == 2 else None


def _heading_deg(value: Any) -> float | None:
    degrees = number(value)
    return None if degrees is None or degrees < 0.0 else degrees % 360.0  # -1 means unknown


def _wide_enough(box: Box) -> Box:
    """The box, or a larger one around its centre that the service accepts; the caller drops what is outside."""
    frame = LocalFrame(*box.centre_deg)
    (east_m, north_m) = frame.to_xy_m([[box.north, box.east]])[0]
    half_m = _LEAST_SIDE_M / 2.0
    if east_m >= half_m and north_m >= half_m:
        return box
    reach = frame.to_deg([[max(east_m, half_m), max(north_m, half_m)]])[0] - box.centre_deg
    lat, lon = box.centre_deg
    west, east = max(-180.0, lon - reach[1] % 360.0), min(180.0, lon + reach[1] % 360.0)
    return Box(max(-90.0, lat - reach[0]), west, min(90.0, lat + reach[0]), east)
