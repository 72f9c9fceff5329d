"""The interfaces of services as the stand-in offers them: addresses, parameters, records and errors."""

from __future__ import annotations

import uuid
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar
from urllib.parse import quote

import numpy as np

from swclip.connectors.stand_in_data import Faults, Photographs, Record
from swclip.geo.boxes import Box
from swclip.geo.distance import EARTH_RADIUS_M, haversine_m


@dataclass(frozen=True)
class Answer:
    """An answer to a request; `body` is JSON unless it is bytes."""

    body: Any
    status: int = 200
    content_type: str = "application/json"
    page: bool = False
    """Whether it is a page of records, which the fault `empty` may empty."""


class Shape(ABC):
    """The interface of one service, as the stand-in offers it. A new service is a subclass."""

    name: ClassVar[str]
    token_scheme: ClassVar[str] = "Bearer"

    def __init__(self, photographs: Photographs, faults: Faults) -> None:
        self.photographs = photographs
        self.faults = faults
        self.picture_hosts: list[str] = []
        """Addresses of the servers that have the pictures."""
        self.total: Callable[[], int] = lambda: 0
        """Tells the number of requests so far."""

    @abstractmethod
    def answer(self, path: str, params: Mapping[str, str], turn: int) -> Answer | None:
        """The answer to a request, None where there is nothing.

        Args:
            path: Path of the address.
            params: Its parameters.
            turn: How often this request was made before.
        """

    @abstractmethod
    def error(self, status: int, message: str) -> Any:
        """The body of an error."""

    def emptied(self, body: Any) -> Any:
        """A page without its records, which still states that there are some."""
        return {**body, "features": []}

    def picture_expired(self, params: Mapping[str, str], total: int) -> bool:
        """Whether an address of a picture is not valid any more.

        Args:
            params: Parameters of the address.
            total: Number of requests so far.
        """
        return False

    def picture_address(self, record: Record, size: str) -> str:
        """Where the picture is; `StandIn` serves it there."""
        host = self.picture_hosts[record.rank % len(self.picture_hosts)]
        return f"{host}/pictures/{quote(record.name, safe='')}/{size}.jpg"

    def arranged(self, records: list[Any], turn: int) -> list[Any]:
        """Records with the faults of a list: repeated ones, and another order each time."""
        twice = [
            record for n, record in enumerate(records) if self.faults.hits(self.faults.duplicates, "twice", n, turn)
        ]
        records = records + twice
        if self.faults.shuffled and records:
            start = (turn * 7 + 3) % len(records)
            records = records[start:] + records[:start]
        return records


class PanoramaxShape(Shape):
    """The API of Panoramax (STAC)."""

    name = "panoramax"
    _NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")

    def answer(self, path: str, params: Mapping[str, str], turn: int) -> Answer | None:
        parts = path.strip("/").split("/")
        if parts == ["api", "search"]:
            west, south, east, north = (float(value) for value in params["bbox"].split(","))
            records = self.photographs.within(Box(south, west, north, east))
            if "datetime" in params:
                since, _, until = params["datetime"].partition("/")
                records = [record for record in records if between(record.captured_at, since, until)]
            records = self.arranged(records, turn)[: int(params.get("limit", 10))]
            return Answer(self._collection([self._item(record) for record in records], []), page=True)
        if len(parts) == 4 and parts[:2] == ["api", "collections"] and parts[3] == "items":
            members = [record for record in self.photographs.records if self._uuid(record.sequence) == parts[2]]
            limit, start = int(params.get("limit", 100)), int(params.get("startAfterRank", 0))
            rest = [record for record in members if record.rank > start]
            links = []
            if len(rest) > limit:
                address = f"{self.picture_hosts[0]}{path}?limit={limit}&startAfterRank={rest[limit - 1].rank}"
                links.append({"rel": "next", "href": address})
            return Answer(self._collection([self._item(record) for record in rest[:limit]], links), page=True)
        return None

    def error(self, status: int, message: str) -> Any:
        return {"message": message, "status_code": status}

    def _uuid(self, name: str) -> str:
        return str(uuid.uuid5(self._NAMESPACE, name))

    @staticmethod
    def _collection(items: list[Any], links: list[Any]) -> dict[str, Any]:
        return {"type": "FeatureCollection", "features": items, "links": links, "numberReturned": len(items)}

    def _item(self, record: Record) -> dict[str, Any]:
        key, sequence = self._uuid(record.name), self._uuid(record.sequence)
        properties = {
            "datetime": None if record.captured_at is None else f"{record.captured_at.isoformat()}+00:00",
            "license": record.licence,
            "view:azimuth": None if record.heading_deg is None else round(record.heading_deg),
            "pers:interior_orientation": {
                "camera_manufacturer": "swclip",
                "camera_model": "s",
                "field_of_view": 360 if record.panorama else 82,
            },
            "pers:pitch": record.pitch_deg,
            "pers:roll": record.roll_deg,
            "quality:horizontal_accuracy": record.accuracy_m,
            "original_file:name": f"{record.name}.jpg",
            "original_file:size": None if record.file is None else record.file.stat().st_size,
            "geovisio:producer": record.author,
            "geovisio:status": "ready",
            "geovisio:rank_in_collection": record.rank,
            "exif": {},
        }
        if self.faults.hits(self.faults.absent, "absent", record.name):
            properties = {"datetime": properties["datetime"], "license": record.licence}
        sizes = ("hd", "sd", "thumb")
        return {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": key,
            "collection": sequence,
            "geometry": {"type": "Point", "coordinates": [record.lon_deg, record.lat_deg]},
            "providers": [{"name": record.author, "roles": ["producer"]}],
            "properties": {name: value for name, value in properties.items() if value is not None},
            "assets": {
                size: {"href": self.picture_address(record, size), "type": "image/jpeg", "roles": ["data"]}
                for size in sizes
            },
            "links": [
                {"rel": "self", "href": f"{self.picture_hosts[0]}/api/collections/{sequence}/items/{key}"},
            ],
        }


class MapillaryShape(Shape):
    """The Graph API of Mapillary. A box with many photographs has only some of them in its answer."""

    name = "mapillary"
    token_scheme = "OAuth"
    SAMPLED = 150
    """From so many photographs in a box on, the answer is a part of them."""
    VALID = 40
    """An address of a picture is valid for so many requests to the stand-in."""
    _LARGEST_DEG2 = 0.01
    _SMALLEST_DEG = 2e-4
    _OPTIONAL = ("computed_geometry", "computed_compass_angle", "creator", "make", "model", "quality_score", "is_pano")

    def answer(self, path: str, params: Mapping[str, str], turn: int) -> Answer | None:
        if path != "/images":
            return None
        if "image_ids" in params:
            ids = params["image_ids"].split(",")
            if len(ids) > 50:
                return Answer(self._bad("Too many ids"), 400)
            chosen = [self.by_id[key] for key in ids if key in self.by_id and not self._vanished(self.by_id[key])]
            return Answer({"data": [self._record(record, params["fields"]) for record in chosen]})
        west, south, east, north = (float(value) for value in params["bbox"].split(","))
        if (east - west) * (north - south) > self._LARGEST_DEG2 or min(east - west, north - south) < self._SMALLEST_DEG:
            return Answer(self._bad("bbox is too large or too small"), 400)
        records = self.photographs.within(Box(south, west, north, east))
        since, until = params.get("start_captured_at", ""), params.get("end_captured_at", "")
        if since or until:
            records = [record for record in records if between(record.captured_at, since, until)]
        if "is_pano" in params:
            records = [record for record in records if record.panorama == (params["is_pano"] == "true")]
        records = records[::-1]  # those at the edge first
        if len(records) > self.SAMPLED and (east - west) * (north - south) > 4e-6:
            records = [record for n, record in enumerate(records) if n % 3]
        records = self.arranged(records, turn)[: int(params["limit"])]
        return Answer({"data": [self._record(record, params["fields"]) for record in records]})

    def error(self, status: int, message: str) -> Any:
        if status == 400:
            return self._bad(message)
        return {"error": {"message": message, "type": "OAuthException", "code": 190, "fbtrace_id": "A1b2C3"}}

    @staticmethod
    def _bad(message: str) -> Any:
        return {"debug_info": {"type": "ProcessingError", "message": message}}

    def picture_expired(self, params: Mapping[str, str], total: int) -> bool:
        return total > int(params.get("oe", "0"), 16)

    @cached_property
    def by_id(self) -> dict[str, Record]:
        """The photographs by their id, a number of 16 digits."""
        return {self._id(record): record for record in self.photographs.records}

    @staticmethod
    def _id(record: Record) -> str:
        return str(10**15 + zlib.crc32(record.name.encode()))

    def _vanished(self, record: Record) -> bool:
        return self.faults.hits(self.faults.vanished, "vanished", record.name)

    def _record(self, record: Record, fields: str) -> dict[str, Any]:
        computed = [record.lon_deg + 2e-5, record.lat_deg - 1e-5]
        pictures = {
            f"thumb_{size}_url": f"{self.picture_address(record, size)}?oe={self.total() + self.VALID:x}"
            for size in ("256", "1024", "2048", "original")
        }
        values = {
            "id": self._id(record),
            "geometry": {"type": "Point", "coordinates": [record.lon_deg, record.lat_deg]},
            "computed_geometry": {"type": "Point", "coordinates": computed},
            "captured_at": None if record.captured_at is None else round(record.captured_at.timestamp() * 1000),
            "compass_angle": record.heading_deg,
            "computed_compass_angle": None if record.heading_deg is None else (record.heading_deg + 1.5) % 360.0,
            "camera_type": "equirectangular" if record.panorama else "perspective",
            "is_pano": record.panorama,
            "sequence": record.sequence,
            "creator": {"username": record.author, "id": "7"},
            "make": "swclip",
            "model": "s",
            "width": 4000,
            "height": 3000,
            "quality_score": 0.75,
            **pictures,
        }
        if self.faults.hits(self.faults.absent, "absent", record.name):
            values = {name: value for name, value in values.items() if name not in self._OPTIONAL}
        return {name: values[name] for name in fields.split(",") if values.get(name) is not None}


class KartaViewShape(Shape):
    """KartaView 2.0: circles in pages, numbers as text. Boxes and dense circles are answered with 408."""

    name = "kartaview"
    DENSE = 400
    """A circle with more photographs than this times out."""

    def answer(self, path: str, params: Mapping[str, str], turn: int) -> Answer | None:
        if path != "/2.0/photo/":
            return None
        if "lat" not in params:
            return Answer(self.error(408, "Query timeout"), 408)
        at, radius_m = (float(params["lat"]), float(params["lng"])), float(params["radius"])
        reach = np.degrees(radius_m / EARTH_RADIUS_M)
        wide = reach / np.cos(np.radians(at[0]))
        near = self.photographs.within(Box(at[0] - reach, at[1] - wide, at[0] + reach, at[1] + wide))
        lat, lon = np.array([(record.lat_deg, record.lon_deg) for record in near]).reshape(-1, 2).T
        away_m = haversine_m(np.float64(at[0]), np.float64(at[1]), lat, lon)
        near = [record for record, metres in zip(near, away_m.tolist(), strict=True) if metres <= radius_m]
        if len(near) > self.DENSE:
            return Answer(self.error(408, "Query timeout"), 408)
        size, page = min(150, int(params.get("itemsPerPage", 40))), int(params.get("page", 1))
        records = near[(page - 1) * size : page * size]
        result = {
            "data": [self._record(record) for record in self.arranged(records, turn)],
            "hasMoreData": page * size < len(near),
        }
        status = {"apiCode": "600", "apiMessage": "Success", "httpCode": 200, "httpMessage": "Success"}
        return Answer({"status": status, "result": result}, page=bool(near))

    def emptied(self, body: Any) -> Any:
        return {**body, "result": {"data": [], "hasMoreData": True}}

    def error(self, status: int, message: str) -> Any:
        code = {"apiCode": "690", "apiMessage": message, "httpCode": status, "httpMessage": message}
        return {"status": code, "result": None}

    def _record(self, record: Record) -> dict[str, Any]:
        values = {
            "id": str(zlib.crc32(record.name.encode())),
            "lat": f"{record.lat_deg:.9f}",
            "lng": f"{record.lon_deg:.9f}",
            "matchLat": f"{record.lat_deg + 1e-5:.6f}",
            "matchLng": "0" if record.rank % 5 == 0 else f"{record.lon_deg:.6f}",
            "heading": "" if record.heading_deg is None else f"{record.heading_deg:g}",
            "shotDate": None if record.captured_at is None else f"{record.captured_at:%Y-%m-%d %H:%M:%S}",
            "fieldOfView": "360" if record.panorama else "75",
            "projection": "SPHERE" if record.panorama else "PLANE",
            "width": "1920",
            "height": "1080",
            "sequenceIndex": str(record.rank),
            "fileurlProc": self.picture_address(record, "proc"),
            "fileurlTh": self.picture_address(record, "th"),
            "sequence": {"id": str(zlib.crc32(record.sequence.encode())), "userName": record.author},
        }
        if self.faults.hits(self.faults.absent, "absent", record.name):
            for name in ("matchLat", "matchLng", "heading", "fieldOfView", "projection", "width", "height", "sequence"):
                del values[name]
        return {name: value for name, value in values.items() if value is not None}


SHAPES: dict[str, type[Shape]] = {shape.name: shape for shape in (PanoramaxShape, MapillaryShape, KartaViewShape)}
"""Shapes by the name of the service."""


def between(taken: datetime | None, since: str, until: str) -> bool:
    """Whether a time is within an interval of STAC, whose ends may be open."""
    if taken is None:
        return False
    text = f"{taken.isoformat(timespec='seconds')}Z"
    return (since in ("", "..") or text >= since) and (until in ("", "..") or text <= until)
