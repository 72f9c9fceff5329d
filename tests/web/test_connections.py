"""Limits on the number of connections: silent ones are replaced, busy ones are not, and descriptors may run out."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from fixtures.service import BlockedModel, Served, send
from swclip.errors import ConfigError
from swclip.retrieval.locator import Locator
from swclip.web.connection_limit import ConnectionLimit, network_of
from swclip.web.settings import Limits

from .test_problems import URN

PROBE = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def connect(address: str) -> socket.socket:
    host, port = address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def probe(address: str) -> int:
    """The status of a request by a new connection."""
    with connect(address) as connection:
        connection.sendall(PROBE)
        return int(b"".join(iter(lambda: connection.recv(65536), b"")).split()[1])


def open_connections(served: Served) -> float:
    """Number of open connections, without that of this request."""
    with served.client() as client:
        return metric(client, "swclip_connections") - 1


def metric(client: httpx.Client, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


@pytest.mark.parametrize(
    ("limits", "proxy", "most"),
    [
        (Limits(max_connections_per_address=8), None, 8),
        (Limits(max_connections=8, max_connections_per_address=4), "127.0.0.1", 8),
        (Limits(max_connections=8), None, 8),
    ],
    ids=["of an address", "of a proxy", "of all"],
)
def test_silent_connections_are_replaced(
    serve: Any, locator: Locator, limits: Limits, proxy: str | None, most: int
) -> None:
    with serve(locator, limits, proxy=proxy) as served, ExitStack() as stack:
        silent = [stack.enter_context(connect(served.address)) for _ in range(most)]
        deadline = time.monotonic() + 30
        while (opened := open_connections(served)) < most - 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert opened >= most - 1
        time.sleep(0.6)  # by then a client has sent something, or is silent
        for _ in range(3 * most):
            assert probe(served.address) == 200
        assert open_connections(served) <= most
        assert silent[0].recv(1) == b""  # the oldest was the first to go
        with served.client() as client:
            assert metric(client, 'swclip_connections_ended_total{reason="replaced"}') >= 1


def test_requests_in_work_are_not_replaced(
    serve: Any, locator: Locator, photographs: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        serve(locator, Limits(max_connections_per_address=3)) as served,
        ThreadPoolExecutor(3) as pool,
        ExitStack() as stack,
    ):
        blocked = BlockedModel(served, monkeypatch)

        def ask(_: int) -> int:
            with served.client() as client:
                return client.post("/v2/locate", **send(photographs[:1])).status_code

        futures = [pool.submit(ask, number) for number in range(3)]
        deadline = time.monotonic() + 30
        while served.service.admission.active < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        refused = stack.enter_context(connect(served.address))
        reply = b"".join(iter(lambda: refused.recv(65536), b""))
        assert reply.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 5" in reply
        assert (URN + "busy").encode() in reply
        blocked.release.set()
        assert [future.result(60) for future in futures] == [200, 200, 200]
        assert probe(served.address) == 200


@contextmanager
def small_process(timeout_s: float = 30.0) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server without a gallery in a process that may open 96 files, with its address."""
    program = Path(__file__).parents[1] / "fixtures" / "small_server.py"
    command = [sys.executable, str(program), "96", str(timeout_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_process_whose_event_loop_is_blocked_ends() -> None:
    with small_process(timeout_s=0.5) as (process, address), connect(address) as connection:
        connection.sendall(PROBE.replace(b"/healthz", b"/block"))
        time.sleep(0.3)
        process.terminate()
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert errors == "the service did not stop in time (--timeout-s), and is ended.\n"


def test_silent_connections_beyond_the_descriptors() -> None:
    with small_process() as (process, address), ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(connect(address)).sendall(PROBE[:12])
        time.sleep(0.6)
        assert [probe(address) for _ in range(40)] == [200] * 40
        # Other parts of the process now take all descriptors that are left.
        with connect(address) as control:
            control.sendall(PROBE.replace(b"/healthz", b"/exhaust"))
            assert b"open" in b"".join(iter(lambda: control.recv(4096), b""))
        for _ in range(2):  # after a second, asyncio tries again
            stack.enter_context(connect(address)).sendall(PROBE)
            time.sleep(0.7)
        process.terminate()
        _, errors = process.communicate(timeout=30)
    assert errors.count("connections cannot be accepted (Too many open files)") == 1
    assert len(errors.splitlines()) < 4, errors


def test_too_few_descriptors_and_wrong_proxies_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with monkeypatch.context() as patch:
        patch.setattr(resource, "getrlimit", lambda _: (70, hard))
        with pytest.raises(ConfigError, match="may open 70 files, too few to serve; allow 576"):
            ConnectionLimit(Limits())
        patch.setattr(resource, "getrlimit", lambda _: (256, hard))
        assert ConnectionLimit(Limits()).most == 192
        patch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, hard))
        assert ConnectionLimit(Limits(max_connections=100)).most == 100
    for proxy in ("localhost", "10.0.0.0/33", "127.0.0.1;10.0.0.1"):
        with pytest.raises(ConfigError, match="--proxy"):
            ConnectionLimit(Limits(), proxy=proxy)


@pytest.mark.parametrize(
    ("proxy", "address", "client"),
    [
        (None, ("192.0.2.7", 1), "192.0.2.7"),
        ("192.0.2.0/24", ("192.0.2.7", 1), ""),
        ("192.0.2.8, ::1", ("192.0.2.7", 1), "192.0.2.7"),
        ("192.0.2.8, ::1", ("::1", 1, 0, 0), ""),
        ("192.0.2.7", ("::ffff:192.0.2.7", 1, 0, 0), ""),
        ("*", ("2001:db8::7", 1, 0, 0), ""),
        (None, ("fe80::1%eth0", 1, 0, 2), "fe80::/64"),
        (None, "", ""),  # a socket of the file system
    ],
)
def test_clients_are_counted_by_address(proxy: str | None, address: Any, client: str) -> None:
    assert ConnectionLimit(Limits(), proxy=proxy).client_of(address) == client


def test_networks() -> None:
    assert network_of("2001:db8:1:2:3:4:5:6") == network_of("2001:db8:1:2::") == "2001:db8:1:2::/64"
    assert network_of("2001:db8:1:3::1") != network_of("2001:db8:1:2::1")
