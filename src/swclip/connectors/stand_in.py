"""A stand-in of a street-imagery service on this machine: it serves a manifest's photographs in the service's shapes.

It is for trying `swclip fetch` and whole experiments without a network, and for tests: faults of real services can be
switched on. The faults of a request depend on its address and on how often it was made, and not on the clock, so that
a client that tries again always comes to the same end. It is a geocoder too, which knows the manifest's cities by name.

    python -m swclip.connectors.stand_in cities --port 8100
    swclip fetch panoramax --endpoint http://127.0.0.1:8100 --geocoder http://127.0.0.1:8100 --area London --out london
"""

from __future__ import annotations

import argparse
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from swclip.connectors.stand_in_data import MANY_FAULTS, Faults, Photographs
from swclip.connectors.stand_in_shapes import SHAPES, Answer


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
        self.shape.total = lambda: self.total
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
            if stand_in.shape.picture_expired(dict(parse_qsl(url.query)), total):
                self._send(Answer(b"URL signature expired", 403, "text/plain"), {})
                return
            self._picture(url.path, turn)
            return
        params = dict(parse_qsl(url.query))
        answer = stand_in.shape.answer(url.path, params, turn)
        if answer is None and url.path in ("/search", "/lookup"):
            answer = Answer(stand_in.shape.photographs.places(params))
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
            return Answer(self.server.stand_in.shape.emptied(answer.body))
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
