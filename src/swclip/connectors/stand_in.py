"""A stand-in of a street-imagery service on this machine: it serves a manifest's photographs in the service's shapes.

It is for trying `swclip fetch` and whole experiments without a network, and for tests: faults of real services can be
switched on. The faults of a request depend on its address and on how often it was made, and not on the clock, so that
a client that tries again always comes to the same end.

    python -m swclip.connectors.stand_in cities --port 8100
    swclip fetch panoramax --endpoint http://127.0.0.1:8100 --bbox=-0.14,51.50,-0.11,51.52 --out london
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import socket
import struct
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import numpy as np
import pandas as pd
from PIL import Image

from swclip.data.manifest import read_manifest
from swclip.geo.boxes import Box


@cache
def _small_picture() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 12), (90, 120, 150)).save(stream, "JPEG")
    return stream.getvalue()


@dataclass(frozen=True, slots=True)
class Record:
    """A photograph of the stand-in; `file` is None for a generated picture."""

    name: str
    lat_deg: float
    lon_deg: float
    heading_deg: float | None
    captured_at: datetime | None
    accuracy_m: float | None
    sequence: str
    rank: int
    licence: str
    author: str
    file: Path | None

    def picture(self) -> bytes:
        """Bytes of the picture; generated ones differ from each other."""
        if self.file is not None:
            return self.file.read_bytes()
        return _small_picture() + self.name.encode()  # decoders ignore what follows the end of a JPEG


class Photographs:
    """The photographs of a stand-in, found by box."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = list(records)
        self._positions = np.array([(record.lat_deg, record.lon_deg) for record in records]).reshape(-1, 2)

    @classmethod
    def of_manifest(cls, path: str | Path, licence: str = "CC0-1.0", author: str = "swclip synth") -> Photographs:
        """Those of a manifest, in the order of its rows."""
        manifest = read_manifest(path)
        ranks: Counter[str] = Counter()
        records = []
        for row, file in zip(manifest.frame.to_dict("records"), manifest.image_paths, strict=True):
            sequence = _known(row["sequence_id"]) or _known(row["place_id"]) or "alone"
            ranks[sequence] += 1
            taken = _known(row["captured_at"])
            records.append(
                Record(
                    name=row["image_id"],
                    lat_deg=row["lat_deg"],
                    lon_deg=row["lon_deg"],
                    heading_deg=_known(row["heading_deg"]),
                    captured_at=None if taken is None else taken.to_pydatetime(),
                    accuracy_m=_known(row["accuracy_m"]),
                    sequence=sequence,
                    rank=ranks[sequence],
                    licence=_known(row["licence"]) or licence,
                    author=_known(row.get("author")) or author,
                    file=file,
                )
            )
        return cls(records)

    @classmethod
    def generated(cls, count: int, box: Box, seed: int = 0) -> Photographs:
        """Photographs at random positions of a box, without files."""
        rng = np.random.default_rng(seed)
        lat, lon = rng.uniform(box.south, box.north, count), rng.uniform(box.west, box.east, count)
        days = rng.integers(0, 2_000, count)
        records = [
            Record(
                name=f"generated-{n}",
                lat_deg=float(lat[n]),
                lon_deg=float(lon[n]),
                heading_deg=float(n * 47 % 360),
                captured_at=datetime.fromordinal(737_000 + int(days[n])),
                accuracy_m=3.0,
                sequence=f"drive-{n // 100}",
                rank=n % 100 + 1,
                licence=("CC-BY-SA-4.0", "etalab-2.0")[n // 100 % 2],
                author=f"driver {n // 100 % 7}",
                file=None,
            )
            for n in range(count)
        ]
        return cls(records)

    def within(self, box: Box) -> list[Record]:
        """Those inside a box or on its border, the nearest to its centre first."""
        lat, lon = self._positions.T
        inside = np.flatnonzero((lat >= box.south) & (lat <= box.north) & (lon >= box.west) & (lon <= box.east))
        centre = box.centre_deg
        away = np.hypot(lat[inside] - centre[0], (lon[inside] - centre[1]) * np.cos(np.radians(centre[0])))
        return [self.records[n] for n in inside[np.argsort(away, kind="stable")]]

    @cached_property
    def by_name(self) -> dict[str, Record]:
        """The photographs by name."""
        return {record.name: record for record in self.records}


@dataclass(frozen=True)
class Faults:
    """What goes wrong. Shares are of requests or photographs; a request fails `times` times before it succeeds.

    Attributes:
        reset: Share of answers that end in mid-body.
        busy: Share of requests that get 429 with `Retry-After: 0`.
        error: Share of requests that get 503.
        html: Share of JSON answers that are a web page.
        truncated: Share of JSON answers that are cut short although their length is right.
        empty: Share of pages that are empty although more is stated.
        times: How often these happen to one request.
        vanished: Share of photographs whose picture no longer exists.
        defective: Share of photographs whose file is cut short on the server.
        absent: Share of records without the fields that may be absent.
        duplicates: Share of records that an answer has twice.
        shuffled: Answers change their order from request to request.
        latency_s: Seconds before each answer.
        burst: After this many requests, as many again get 429 with `Retry-After: 1`; 0 for none.
        expires_after: The token is refused after this many requests; 0 for never.
        forbidden: Every request gets 403.
    """

    reset: float = 0.0
    busy: float = 0.0
    error: float = 0.0
    html: float = 0.0
    truncated: float = 0.0
    empty: float = 0.0
    times: int = 1
    vanished: float = 0.0
    defective: float = 0.0
    absent: float = 0.0
    duplicates: float = 0.0
    shuffled: bool = False
    latency_s: float = 0.0
    burst: int = 0
    expires_after: int = 0
    forbidden: bool = False

    def hits(self, share: float, *key: object) -> bool:
        """Whether a fault of this share happens to what the key names; always the same."""
        digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
        return bool(struct.unpack("<Q", digest)[0] / 2**64 < share)


MANY_FAULTS = Faults(
    reset=0.05, busy=0.05, error=0.05, html=0.05, truncated=0.05, empty=0.05, vanished=0.02, defective=0.02, absent=0.1,
    duplicates=0.1, shuffled=True,
)  # fmt: skip
"""A bad day of a service."""


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
                records = [record for record in records if _between(record.captured_at, since, until)]
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
            "pers:interior_orientation": {"camera_manufacturer": "swclip", "camera_model": "s", "field_of_view": 82},
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


SHAPES: dict[str, type[Shape]] = {shape.name: shape for shape in (PanoramaxShape,)}
"""Shapes by the name of the service."""


class StandIn:
    """A running stand-in: two servers on loopback, of which the second has half of the pictures.

    Args:
        photographs: What it has.
        service: Whose shapes it speaks.
        faults: What goes wrong.
        token: The token that requests for JSON need; None for none.
        ports: Ports of the two servers; 0 for a free one.

    Attributes:
        address: Its endpoint.
        ports: Ports of its two servers.
        total: Number of requests, of both servers.
        requests: Number of requests by path without query, of both servers.
        pictures: How often the whole picture of each photograph was sent, by name.
        leaked: Whether a server of pictures got the token that is for the endpoint alone.
    """

    def __init__(
        self,
        photographs: Photographs,
        service: str = "panoramax",
        faults: Faults | None = None,
        *,
        token: str | None = None,
        ports: tuple[int, int] = (0, 0),
    ) -> None:
        self.faults = faults or Faults()
        self.token = token
        self.total = 0
        self.requests: Counter[str] = Counter()
        self.pictures: Counter[str] = Counter()
        self.leaked = False
        self.shape = SHAPES[service](photographs, self.faults)
        self._turns: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._servers = [_Server(self, port, pictures_alone=bool(n)) for n, port in enumerate(ports)]
        self.shape.picture_hosts = [server.address for server in self._servers]
        self.address = self._servers[0].address
        self.ports = (self._servers[0].server_port, self._servers[1].server_port)

    def __enter__(self) -> Self:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def turn(self, path: str, address: str) -> tuple[int, int]:
        """Count a request; return how many there were before, of this address and of all."""
        with self._lock:
            before, total = self._turns[address], self.total
            self._turns[address] += 1
            self.total += 1
            self.requests[path] += 1
            return before, total


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, stand_in: StandIn, port: int, *, pictures_alone: bool) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.stand_in = stand_in
        self.pictures_alone = pictures_alone
        self.address = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet
    server: _Server

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        stand_in, faults = self.server.stand_in, self.server.stand_in.faults
        url = urlsplit(self.path)
        turn, total = stand_in.turn(url.path, self.path)
        time.sleep(faults.latency_s)
        if self.server.pictures_alone and "Authorization" in self.headers:
            stand_in.leaked = True
        refused = self._refused(stand_in, faults, turn, total)
        if refused is not None:
            status, message, headers = refused
            self._send(Answer(stand_in.shape.error(status, message), status), headers)
            return
        if url.path.startswith("/pictures/"):
            self._picture(url.path, turn)
            return
        answer = stand_in.shape.answer(url.path, dict(parse_qsl(url.query)), turn)
        if answer is None:
            answer = Answer(stand_in.shape.error(404, "Not found"), 404)
        self._send(self._spoilt(answer, turn), {})

    def _refused(
        self, stand_in: StandIn, faults: Faults, turn: int, total: int
    ) -> tuple[int, str, dict[str, str]] | None:
        if faults.forbidden:
            return 403, "Access denied", {}
        if not self.server.pictures_alone and stand_in.token is not None and not self.path.startswith("/pictures/"):
            given = self.headers.get("Authorization", "")
            if given != f"{stand_in.shape.token_scheme} {stand_in.token}":
                return 401, f"Invalid token {given.rpartition(' ')[2]}", {}
            if faults.expires_after and total >= faults.expires_after:
                return 401, "Session has expired", {}
        if faults.burst and faults.burst <= total < 2 * faults.burst:
            return 429, "Too many requests", {"Retry-After": "1"}
        if turn < faults.times:
            if faults.hits(faults.busy, "busy", self.path, turn):
                return 429, "Too many requests", {"Retry-After": "0"}
            if faults.hits(faults.error, "error", self.path, turn):
                return 503, "Service unavailable", {}
        return None

    def _spoilt(self, answer: Answer, turn: int) -> Answer:
        faults = self.server.stand_in.faults
        if turn >= faults.times or answer.status != 200:
            return answer
        if faults.hits(faults.html, "html", self.path, turn):
            return Answer(b"<!DOCTYPE html><title>Log in to this network</title>", content_type="text/html")
        if faults.hits(faults.truncated, "truncated", self.path, turn):
            return Answer(json.dumps(answer.body).encode()[:-7])
        if answer.page and faults.hits(faults.empty, "empty", self.path, turn):
            body = answer.body
            key = next((key for key in ("features", "data", "result") if key in body), None)
            return answer if key is None or not body[key] else Answer({**body, key: []})
        return answer

    def _picture(self, path: str, turn: int) -> None:
        stand_in = self.server.stand_in
        name = unquote(path.split("/")[2])
        record = stand_in.shape.photographs.by_name.get(name)
        if record is None or stand_in.faults.hits(stand_in.faults.vanished, "vanished", name):
            self._send(Answer(stand_in.shape.error(404, "This picture does not exist"), 404), {})
            return
        data = record.picture()
        if stand_in.faults.hits(stand_in.faults.defective, "defective", name):
            data = data[: len(data) // 2]
        if self._send(Answer(data, content_type="image/jpeg"), {}) and self.command == "GET":
            with stand_in._lock:
                stand_in.pictures[name] += 1

    def _send(self, answer: Answer, headers: Mapping[str, str]) -> bool:
        """Send an answer; return whether all of it was sent."""
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        faults, turn = self.server.stand_in.faults, self.server.stand_in._turns[self.path] - 1
        self.send_response(answer.status)
        for name, value in (
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(body))),
            *headers.items(),
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return True
        if answer.status == 200 and turn < faults.times and faults.hits(faults.reset, "reset", self.path, turn):
            self.wfile.write(body[: len(body) // 2])
            # A reset, and not an end: what the client has not read is lost.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return False
        self.wfile.write(body)
        self.wfile.flush()
        return True

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are counted, not printed."""


def _known(value: Any) -> Any:
    """A value of a table, None where there is none."""
    return None if value is None or pd.isna(value) else value


def _between(taken: datetime | None, since: str, until: str) -> bool:
    """Whether a time is within an interval of STAC, whose ends may be open."""
    if taken is None:
        return False
    text = f"{taken.isoformat(timespec='seconds')}Z"
    return (since in ("", "..") or text >= since) and (until in ("", "..") or text <= until)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve a manifest until Ctrl-C; print the address of the service."""
    parser = argparse.ArgumentParser(prog="python -m swclip.connectors.stand_in", description=__doc__)
    parser.add_argument("manifest", help="folder of a manifest, such as one of `swclip synth`")
    parser.add_argument("--service", choices=sorted(SHAPES), default="panoramax")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--faults", action="store_true", help="behave as a service on a bad day")
    options = parser.parse_args(arguments)
    photographs = Photographs.of_manifest(options.manifest)
    faults = MANY_FAULTS if options.faults else Faults()
    with StandIn(photographs, options.service, faults, ports=(options.port, 0)) as server:
        print(server.address, flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
