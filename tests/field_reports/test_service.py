"""Attacks on the service and requests that broke it, each with what must happen instead."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from fixtures.service import Served, send, serving, started_process, write_town_gallery
from swclip.data.manifest import read_manifest
from swclip.gallery.build import thumbnails_of
from swclip.gallery.read_write import save_gallery
from swclip.gallery.schema import manifest_details
from swclip.gallery.store import GalleryStore
from swclip.retrieval.locator import Locator
from swclip.web.problems import MEDIA_TYPE
from swclip.web.server import listen
from swclip.web.settings import Limits
from swclip.web.thumbnails import Thumbnails

LIMITS = Limits(pause_s=0.4, timeout_s=0.8)
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
FORM = b"Content-Type: multipart/form-data; boundary=x\r\n"


@pytest.fixture(scope="module")
def gallery(town: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_town_gallery(town, tmp_path_factory.mktemp("attacked") / "gallery")


@pytest.fixture(scope="module")
def locator(gallery: Path) -> Locator:
    return Locator.from_gallery(gallery)


@dataclass(frozen=True)
class Attack:
    """A connection that should keep the service waiting.

    Attributes:
        sent: What it sends first.
        repeated: What it then sends again and again; nothing where empty.
        reply: How the reply begins; empty for none.
        reads: Whether it takes replies.
        reason: What the service says it waited for.
    """

    sent: bytes
    repeated: bytes = b""
    reply: bytes = b""
    reads: bool = True
    reason: str = "headers"


ATTACKS = {
    "silence": Attack(b"", reason="idle"),
    "silence after a request": Attack(HEALTH, reply=b"HTTP/1.1 200", reason="idle"),
    "the start of a request": Attack(b"GET /hea"),
    "the start of a second request": Attack(HEALTH + b"GET /hea", reply=b"HTTP/1.1 200"),
    "slow headers": Attack(b"GET / HTTP/1.1\r\nX: ", b"a"),
    "slow second headers": Attack(HEALTH + b"GET / HTTP/1.1\r\nX: ", b"a", reply=b"HTTP/1.1 200"),
    "empty lines": Attack(b"\r\n", b"\r\n", reply=b"HTTP/1.1 400", reason="unread"),
    "GET with a slow body": Attack(
        HEALTH[:-2] + b"Content-Length: 9999\r\n\r\n", b"a", reply=b"HTTP/1.1 200", reason="unread"
    ),
    "GET with a body that never comes": Attack(
        HEALTH[:-2] + b"Content-Length: 9999\r\n\r\n", reply=b"HTTP/1.1 200", reason="unread"
    ),
    "POST to an unknown address": Attack(
        b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n",
        b"a",
        reply=b"HTTP/1.1 404",
        reason="unread",
    ),
    "POST to an old address": Attack(
        b"POST /v1/locate HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n",
        b"a",
        reply=b"HTTP/1.1 410",
        reason="unread",
    ),
    "slow chunks": Attack(
        b"POST /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"1\r\na\r\n",
        reply=b"HTTP/1.1 405",
        reason="unread",
    ),
    "a slow photograph": Attack(
        b"POST /v2/locate HTTP/1.1\r\nHost: x\r\n" + FORM + b"Content-Length: 9999\r\n\r\n--x\r\n",
        b"a",
        reply=b"HTTP/1.1 408",
        reason="unread",
    ),
    "a malformed request that goes on": Attack(b"\x16\x03\x01\r\n\r\n", b"a", reply=b"HTTP/1.1 400", reason="unread"),
    "replies that are never read": Attack(
        b"GET /static/style.css HTTP/1.1\r\nHost: x\r\n\r\n" * 2000, reads=False, reason="response"
    ),
}


class Attacker(threading.Thread):
    """Carries out an attack until the connection is ended.

    Attributes:
        heard: What the service replied.
        ended: Whether the service ended the connection.
    """

    def __init__(self, address: str, attack: Attack) -> None:
        super().__init__(daemon=True)
        self.attack, self.heard, self.ended = attack, b"", False
        host, port = address.removeprefix("http://").split(":")
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(0.05)
        self.socket.connect((host, int(port)))

    def run(self) -> None:
        deadline = time.monotonic() + 20
        closed = False
        with self.socket:
            try:
                self._send(self.attack.sent)
                while time.monotonic() < deadline and not (closed and not self.attack.repeated):
                    self._send(self.attack.repeated)
                    closed = self._hear()
            except OSError:  # reset
                closed = True
        self.ended = closed

    def _send(self, data: bytes) -> None:
        with suppress(TimeoutError):  # the service takes no more
            self.socket.sendall(data)

    def _hear(self) -> bool:
        if not self.attack.reads:
            time.sleep(0.05)
            return self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) != b"\x01"  # no longer established
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            return False
        self.heard += data
        if not data:
            time.sleep(0.05)
        return not data


@pytest.fixture(scope="module")
def attacked(locator: Locator) -> Iterator[tuple[dict[str, Attacker], str]]:
    """All attacks at once on one service, and its metrics afterwards."""
    with serving(locator, LIMITS) as served:
        attackers = {name: Attacker(served.address, attack) for name, attack in ATTACKS.items()}
        for attacker in attackers.values():
            attacker.start()
        with served.client() as client:
            assert client.get("/healthz").status_code == 200
            for attacker in attackers.values():
                attacker.join(30)
            metrics = client.get("/metrics").text
            deadline = time.monotonic() + 20
            while "swclip_connections 1.0" not in metrics and time.monotonic() < deadline:
                time.sleep(0.05)
                metrics = client.get("/metrics").text
        yield attackers, metrics


@pytest.mark.parametrize("name", ATTACKS)
def test_connections_that_keep_the_service_waiting_are_ended(
    attacked: tuple[dict[str, Attacker], str], name: str
) -> None:
    attacker, metrics = attacked[0][name], attacked[1]
    assert attacker.ended
    assert attacker.heard.startswith(attacker.attack.reply)
    assert bool(attacker.heard) == bool(attacker.attack.reply)
    assert f'swclip_connections_ended_total{{reason="{attacker.attack.reason}"}}' in metrics


def test_no_connection_is_left(attacked: tuple[dict[str, Attacker], str]) -> None:
    assert "swclip_connections 1.0" in attacked[1]  # the one that asked


HUGE = "1" + "0" * 400
CORNERS = "[[[0, 0], [1, 0], [1, 1], [0, 0]]]"


def polygon(corner: str) -> str:
    return f'{{"type": "Polygon", "coordinates": [[[0, 0], [1, 0], {corner}, [0, 0]]]}}'


def nested(depth: int) -> str:
    text = f'{{"type": "Polygon", "coordinates": {CORNERS}}}'
    for _ in range(depth):
        text = f'{{"type": "FeatureCollection", "features": [{text}]}}'
    return text


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"prior": polygon(f"[{HUGE}, 1]")}, id="a corner of 10^400"),
        pytest.param({"prior": polygon(f"[1, -{HUGE}]")}, id="a corner of -10^400"),
        pytest.param({"prior": polygon("[1" + "0" * 5000 + ", 1]")}, id="a corner of 10^5000"),
        pytest.param({"prior": polygon("[1e999, 1]")}, id="a corner of infinity"),
        pytest.param({"prior": polygon("[NaN, 1]")}, id="a corner of NaN"),
        pytest.param({"prior": polygon("[Infinity, -Infinity]")}, id="corners of Infinity"),
        pytest.param({"prior": polygon("[1e308, 1e308]")}, id="the largest double"),
        pytest.param({"prior": polygon("[[1], 1]")}, id="a corner of lists"),
        pytest.param({"prior": polygon("[null, true]")}, id="a corner of null"),
        pytest.param({"prior": polygon('["1", {}]')}, id="a corner of text"),
        pytest.param({"prior": '{"type": "Polygon", "coordinates": ' + "[" * 20_000 + "]" * 20_000 + "}"}, id="deep"),
        *(pytest.param({"prior": nested(depth)}, id=f"{depth} collections") for depth in (200, 320, 400, 480, 900)),
        pytest.param({"prior": '{"type": "MultiPolygon", "coordinates": [1]}'}, id="a multipolygon of a number"),
        pytest.param({"prior": '{"type": "MultiPolygon", "coordinates": []}'}, id="a multipolygon of nothing"),
        pytest.param({"prior": '{"crs": {"properties": {"name": [1]}}, "type": 5}'}, id="a type of 5"),
        *(
            pytest.param({name: value}, id=f"{name} {value[:12]}")
            for name in ("top_k", "region", "near_lat_deg", "near_lon_deg", "near_radius_m")
            for value in (HUGE, "-" + HUGE, "1e999", "nan", "-inf", "1" + "0" * 5000, "0x10", "1_0_", "\u0663x", "[1]")
        ),
    ],
)
def test_numbers_that_are_none_are_refused(service: Served, photograph: bytes, fields: dict[str, str]) -> None:
    near = {"near_lat_deg": "53.8", "near_lon_deg": "-1.55", "near_radius_m": "100"}
    more = near if next(iter(fields)).startswith("near") else {}
    with service.client() as client:
        reply = client.post("/v2/locate", **send([photograph], **{**more, **fields}))
    assert reply.status_code in (400, 422), reply.text
    assert reply.headers["content-type"] == MEDIA_TYPE
    assert len(reply.text) < 2000


@pytest.mark.parametrize("limit", [HUGE, "-" + HUGE, "1e5", "nan", "inf", "1" + "0" * 5000])
def test_query_numbers_that_are_none_are_refused(service: Served, limit: str) -> None:
    with service.client() as client:
        reply = client.get("/v2/gallery/points", params={"limit": limit})
    assert (reply.status_code, reply.headers["content-type"]) == (422, MEDIA_TYPE)


@pytest.fixture(scope="module")
def service(locator: Locator) -> Iterator[Served]:
    with serving(locator, origins=["https://example.org"]) as served:
        yield served


@pytest.fixture(scope="module")
def photograph(town: Path) -> bytes:
    return read_manifest(town).image_paths[0].read_bytes()


@pytest.mark.parametrize(
    ("origin", "method", "header", "reason"),
    [
        ("https://elsewhere.org", "POST", "authorization", "origin"),
        ("https://example.org", "DELETE", "authorization", "method"),
        ("https://example.org", "POST", "x-other", "headers"),
        ("null", "PUT", "x-other", "origin, method, headers"),
    ],
)
def test_refused_preflight_is_a_problem(service: Served, origin: str, method: str, header: str, reason: str) -> None:
    asked = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": header}
    with service.client() as client:
        reply = client.options("/v2/locate", headers=asked)
    assert (reply.status_code, reply.headers["content-type"]) == (400, MEDIA_TYPE)
    assert reply.json()["type"] == "urn:swclip:problem:refused"
    assert reply.json()["instance"] == "urn:uuid:" + reply.headers["x-request-id"]
    assert f"not allowed: {reason}" in reply.json()["detail"]
    assert int(reply.headers["content-length"]) == len(reply.content)
    assert "origin" in reply.headers["vary"].lower()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/healthz", 200),
        ("/v2/gallery", 200),
        ("/static/app.js", 200),
        ("/nowhere", 404),
        ("/v2/locate", 405),
        ("/v1/locate", 410),
        ("/v2/gallery/points?limit=0", 422),
    ],
)
def test_head_is_get_without_a_body(service: Served, path: str, status: int) -> None:
    with service.client() as client:
        head, get = client.head(path), client.get(path)
    assert head.status_code == get.status_code == status
    assert head.content == b""
    for name in ("content-type", "content-length", "allow", "etag"):
        if name == "content-length" and status >= 400:
            assert int(head.headers[name]) > 0  # problems name the request
        else:
            assert head.headers.get(name) == get.headers.get(name), name


def test_other_methods_are_problems(service: Served) -> None:
    with service.client() as client:
        for method in ("OPTIONS", "TRACE", "BREW"):
            reply = client.request(method, "/v2/locate")
            assert (reply.status_code, reply.headers["content-type"]) == (405, MEDIA_TYPE)


def test_thumbnails_of_a_gallery_that_is_gone(town: Path, locator: Locator, tmp_path: Path) -> None:
    manifest = read_manifest(town)
    folder = tmp_path / "gallery"
    save_gallery(
        locator.gallery,
        folder,
        locator.model,
        details=manifest_details(manifest),
        thumbnails=thumbnails_of(manifest, 20),
    )
    with (
        serving(locator, thumbnails=Thumbnails.of_gallery(GalleryStore.open(folder))) as served,
        served.client() as client,
    ):
        assert client.get("/v2/gallery/photographs/p00-0").status_code == 200
        shutil.rmtree(folder)
        gone = client.get("/v2/gallery/photographs/p01-0")
        assert (gone.status_code, gone.headers["content-type"]) == (404, MEDIA_TYPE)
        assert client.get("/v2/gallery/photographs/p00-0").status_code == 200  # remembered
        assert client.get("/readyz").status_code == 200


def test_port_is_taken_once_the_service_has_opened_it() -> None:
    """SO_REUSEADDR lets two sockets be bound to a port, until one of them listens."""
    with listen("127.0.0.1", 0) as listening, socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(listening.getsockname())


def test_decoder_that_hangs_costs_one_answer(locator: Locator, photograph: bytes) -> None:
    with serving(locator, Limits(decoders=2, decode_s=1.5)) as served, served.client() as client:
        assert client.post("/v2/locate", **send([photograph] * 2)).status_code == 200
        os.kill(served.service.decoders.process_ids[0], signal.SIGSTOP)
        results = client.post("/v2/locate", **send([photograph] * 4)).json()["results"]
        problems = [result["problem"] for result in results if result["problem"] is not None]
        assert [problem["type"] for problem in problems] == ["urn:swclip:problem:photograph-too-large"]
        assert "too long to decode" in problems[0]["detail"]
        for process_id in served.service.decoders.process_ids:
            with suppress(ProcessLookupError):  # the first is gone already
                os.kill(process_id, signal.SIGKILL)  # as the system does where memory runs out
        results = client.post("/v2/locate", **send([photograph] * 4)).json()["results"]
        assert all(result["problem"] is None for result in results)


@pytest.mark.slow
def test_decoder_that_hangs_does_not_hold_up_the_end(gallery: Path, photograph: bytes) -> None:
    # --quiet: the address is printed all the same.
    process, address = started_process(gallery, "--quiet", "--timeout-s", "3", "--decoders", "1")
    replies: list[int] = []
    with process, httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
        try:
            assert client.post("/v2/locate", **send([photograph])).status_code == 200
            (decoder,) = (
                int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            )
            os.kill(decoder, signal.SIGSTOP)
            asking = threading.Thread(
                target=lambda: replies.append(client.post("/v2/locate", **send([photograph])).status_code)
            )
            asking.start()
            time.sleep(0.3)
            assert client.get("/healthz").status_code == 200
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=30)
        asking.join(30)
    assert process.returncode == 0, errors
    assert replies == [503]
    assert "Traceback" not in errors
    assert not Path(f"/proc/{decoder}").exists()
