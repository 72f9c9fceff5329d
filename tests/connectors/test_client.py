"""The HTTP client of services: each refusal has its kind, transient ones are repeated, the token stays where it is."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from swclip.connectors.client import Client
from swclip.connectors.refusal import Refusal

Script = list[tuple[int, dict[str, str], bytes]]
OK = json.dumps({"value": 1}).encode()


class Scripted(ThreadingHTTPServer):
    """A server that gives its answers one after the other, the last one for ever."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: Script = []
        self.seen: list[tuple[float, dict[str, str]]] = []
        self.address = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client may go."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Scripted

    def do_GET(self) -> None:
        server = self.server
        server.seen.append((time.monotonic(), dict(self.headers)))
        status, headers, body = server.script[min(len(server.seen), len(server.script)) - 1]
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        if int(headers.get("Content-Length", len(body))) != len(body):
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[Scripted]:
    with Scripted() as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield running
        running.shutdown()


def ask(server: Scripted, script: Script, **options: Any) -> Any:
    server.script = script
    with Client(server.address, backoff_s=0.001, **{"attempts": 3, **options}) as client:
        return client.json(f"{server.address}/api", {"bbox": "1,2"}, lambda value, _: value)


REFUSED: list[tuple[str, tuple[int, dict[str, str], bytes], int]] = [
    ("token", (401, {}, b'{"message": "expired", "status_code": 401}'), 1),
    ("forbidden", (403, {}, b"<html>"), 1),
    ("gone", (404, {}, b""), 1),
    ("gone", (410, {}, b""), 1),
    ("bad-request", (400, {}, b'{"debug_info": {"type": "x", "message": "too large"}}'), 1),
    ("busy", (429, {"Retry-After": "0"}, b""), 3),
    ("busy", (429, {}, b""), 3),
    ("busy", (429, {"Retry-After": "4000"}, b""), 1),
    ("server-error", (500, {}, b""), 3),
    ("server-error", (503, {}, b""), 3),
    ("timeout", (504, {}, b""), 2),
    ("timeout", (408, {}, b""), 2),
    ("not-json", (200, {"Content-Type": "text/html"}, b"<html>log in</html>"), 3),
    ("not-json", (200, {}, b" <!DOCTYPE html>"), 3),
    ("truncated", (200, {}, b'{"features": [1,'), 3),
    ("truncated", (200, {"Content-Length": "100"}, b'{"features": [1,'), 3),
    ("empty-page", (200, {}, b""), 3),
]


@pytest.mark.parametrize(("kind", "answer", "requests"), REFUSED)
def test_each_refusal_has_its_kind_and_transient_ones_are_repeated(
    server: Scripted, kind: str, answer: tuple[int, dict[str, str], bytes], requests: int
) -> None:
    with pytest.raises(Refusal) as refused:
        ask(server, [answer])
    assert refused.value.kind == kind
    assert len(server.seen) == requests
    if requests > 1:  # it recovers where the server does
        server.seen.clear()
        assert ask(server, [answer, (200, {}, OK)]) == {"value": 1}


def test_a_host_that_cannot_be_reached_is_no_absence(server: Scripted) -> None:
    with Client("http://127.0.0.1:1", attempts=2, backoff_s=0.001) as client:
        with pytest.raises(Refusal, match="cannot be reached") as refused:
            client.json("http://127.0.0.1:1/api", None, lambda value, _: value)
        assert refused.value.kind == "unreachable"
        assert client.retried == {"unreachable": 1}


def test_a_server_that_does_not_answer_is_given_up(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Handler, "do_GET", lambda self: time.sleep(1.0))
    with Client(server.address, timeout_s=0.05, backoff_s=0.001) as client, pytest.raises(Refusal) as refused:
        client.json(f"{server.address}/api", None, lambda value, _: value)
    assert refused.value.kind == "timeout"


def test_retry_after_holds_all_requests_to_the_host(server: Scripted) -> None:
    ask(server, [(429, {"Retry-After": "1"}, b""), (200, {}, OK)])
    (first, _), (second, _) = server.seen
    assert second - first >= 0.9


def test_a_server_that_asks_to_wait_until_a_distant_time_is_not_waited_for(server: Scripted) -> None:
    tomorrow = format_datetime(datetime.now(UTC) + timedelta(days=1))
    with pytest.raises(Refusal, match=r"asks to wait 8\d{4} s"):
        ask(server, [(503, {"Retry-After": tomorrow}, b"")])
    assert len(server.seen) == 1


def test_requests_are_paced(server: Scripted) -> None:
    server.script = [(200, {}, OK)]
    with Client(server.address, per_second=20.0) as client:
        for _ in range(5):
            client.json(f"{server.address}/api", None, lambda value, _: value)
    times = [moment for moment, _ in server.seen]
    assert times[-1] - times[0] >= 4 * 0.05 - 0.01


def test_the_user_agent_names_the_program(server: Scripted) -> None:
    ask(server, [(200, {}, OK)])
    assert server.seen[0][1]["User-Agent"].startswith("swclip/")


def test_the_token_goes_to_the_service_alone_and_into_no_message(server: Scripted, tmp_path: Path) -> None:
    with Scripted() as other:
        threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        other.script = [(200, {"Content-Type": "image/jpeg"}, b"picture")]
        secret = "MLY|123|abcdef"
        echo = json.dumps({"error": {"message": f"Error validating {secret}"}}).encode()
        server.script = [(200, {}, OK), (302, {"Location": f"{other.address}/moved"}, b""), (401, {}, echo)]
        with Client(server.address, authorization=f"OAuth {secret}", token_variable="X_TOKEN") as client:
            client.json(f"{server.address}/api", None, lambda value, _: value)
            client.download(f"{other.address}/picture.jpg", tmp_path / "a")
            client.download(f"{server.address}/elsewhere", tmp_path / "b")  # redirected to another host
            with pytest.raises(Refusal) as refused:
                client.json(f"{server.address}/api", None, lambda value, _: value)
        other.shutdown()
    assert [headers.get("Authorization") for _, headers in server.seen] == [f"OAuth {secret}"] * 3
    assert [headers.get("Authorization") for _, headers in other.seen] == [None, None]
    assert secret not in str(refused.value)
    assert "$X_TOKEN is refused" in str(refused.value)
    assert "***" in str(refused.value)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((200, {"Content-Type": "text/html"}, b"<html>"), "not-json"),
        ((200, {"Content-Type": "image/jpeg", "Content-Length": "900"}, b"part"), "truncated"),
        ((200, {"Content-Type": "image/jpeg"}, b""), "truncated"),
        ((403, {}, b"expired"), "forbidden"),
    ],
)
def test_a_download_that_is_refused_leaves_no_file(
    server: Scripted, tmp_path: Path, answer: tuple[int, dict[str, str], bytes], kind: str
) -> None:
    server.script = [answer]
    with Client(server.address, attempts=2, backoff_s=0.001) as client, pytest.raises(Refusal) as refused:
        client.download(f"{server.address}/a.jpg?signature=secret", tmp_path / "a.jpg")
    assert refused.value.kind == kind
    assert "secret" not in str(refused.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://127.0.0.1/a", "http://", "a.jpg"])
def test_addresses_that_are_not_of_http_are_refused(server: Scripted, tmp_path: Path, address: str) -> None:
    with Client(server.address) as client, pytest.raises(Refusal) as refused:
        client.download(address, tmp_path / "a.jpg")
    assert refused.value.kind == "schema"
    assert not server.seen
