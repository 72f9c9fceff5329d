"""Limits on requests: bytes, pixels, photographs, time, keys and rates."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from fixtures.service import BlockedModel, Served, encoded, send
from swclip.retrieval.locator import Locator
from swclip.web.admission import Keys
from swclip.web.settings import Limits

from .test_problems import problem

KEY = "correct-horse-battery"


def wire(served: Served) -> socket.socket:
    host, port = served.address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def heard(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def test_limits_on_bytes_pixels_and_photographs(serve: Any, locator: Locator, photographs: list[bytes]) -> None:
    limits = Limits(max_upload_mb=0.1, max_request_mb=0.25, max_files=3, max_megapixels=0.01)
    with serve(locator, limits) as served, served.client() as client:
        assert client.post("/v2/locate", **send(photographs[:3])).status_code == 200
        for count in (4, 60):
            many = problem(client.post("/v2/locate", **send(photographs[:1] * count)), "request-too-large")
            assert "3 photographs" in many.detail
        large = problem(client.post("/v2/locate", **send([photographs[0], b"\xff" * 120_000])), "photograph-too-large")
        assert large.photograph == 1
        wide = problem(client.post("/v2/locate", **send([encoded("PNG", (200, 100))])), "photograph-too-large")
        assert wide.photograph == 0
        assert client.post("/v2/locate", **send([encoded("PNG", (100, 100))])).status_code == 200
        problem(client.post("/v2/locate", **send([b"\xff" * 90_000] * 3)), "request-too-large")
        # With Content-Length it is refused before a byte is read; without, as soon as it exceeds the limit.
        response = client.post("/v2/locate", **send([b"\xff" * 3_000_000]))
        problem(response, "request-too-large")
        assert response.headers["connection"] == "close"

        def endless() -> Any:
            yield b'--x\r\nContent-Disposition: form-data; name="photographs"; filename="a"\r\n\r\n'
            for _ in range(60):
                yield b"\xff" * 50_000

        headers = {"content-type": "multipart/form-data; boundary=x"}
        streamed = client.post("/v2/locate", content=endless(), headers=headers)
        assert (streamed.status_code, streamed.headers["connection"]) == (413, "close")
        assert client.post("/v2/locate", **send(photographs[:1])).status_code == 200


def test_decompression_bomb_is_refused_by_its_header(client: httpx.Client) -> None:
    bomb = encoded("PNG", (2, 2))
    grown = bomb[:16] + (50_000).to_bytes(4, "big") * 2 + bomb[24:]
    grown = grown[:29] + zlib.crc32(grown[12:29]).to_bytes(4, "big") + grown[33:]
    problem(client.post("/v2/locate", **send([grown])), "photograph-too-large")
    problem(client.post("/v2/locate", **send([gzip.compress(b"\0" * 10_000_000)])), "not-a-photograph")


def test_paused_request_times_out(serve: Any, locator: Locator) -> None:
    with serve(locator, Limits(pause_s=0.3)) as served:
        head = b"POST /v2/locate HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        with wire(served) as slow_body, wire(served) as slow_head, wire(served) as silent:
            slow_body.sendall(head + b"Content-Length: 1000\r\n\r\n--x\r\n")
            slow_head.sendall(b"POST /v2/locate HTTP/1.1\r\nHost")
            reply = heard(slow_body)
            assert reply.startswith(b"HTTP/1.1 408 ")
            assert b"urn:swclip:problem:too-slow" in reply
            assert b"connection: close" in reply.lower()
            assert heard(slow_head) == b""
            assert heard(silent) == b""
        with served.client() as client:
            assert client.get("/healthz").status_code == 200


def test_slow_request_times_out(serve: Any, locator: Locator) -> None:
    with serve(locator, Limits(pause_s=5, timeout_s=0.6)) as served, wire(served) as connection:
        connection.sendall(
            b"POST /v2/locate HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
            b"Content-Length: 100000\r\n\r\n--x\r\n"
        )
        replies: list[bytes] = []
        listener = threading.Thread(target=lambda: replies.append(heard(connection)))
        listener.start()
        try:
            while listener.is_alive():
                connection.sendall(b"y")
                time.sleep(0.05)
        except OSError:  # the connection was closed
            pass
        listener.join(60)
        assert replies[0].startswith(b"HTTP/1.1 408 ")


def test_disconnected_client_is_not_an_error(served: Served, photographs: list[bytes], caplog: Any) -> None:
    for sent in (b"", b"--x\r\n"):
        with wire(served) as connection:
            connection.sendall(
                b"POST /v2/locate HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
                b"Content-Length: 1000\r\n\r\n" + sent
            )
    deadline = time.monotonic() + 30
    while served.service.admission.active and time.monotonic() < deadline:
        time.sleep(0.01)
    assert served.service.admission.active == 0
    with served.client() as client:
        assert client.post("/v2/locate", **send(photographs[:1])).status_code == 200
        assert 'status="499"' in client.get("/metrics").text
    assert "failed" not in caplog.text


def test_busy_service_sends_retry_after(
    serve: Any, locator: Locator, photographs: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(locator, Limits(concurrency=2, queue=1)) as served, ThreadPoolExecutor(8) as pool:
        blocked = BlockedModel(served, monkeypatch)

        def ask(_: int) -> httpx.Response:
            with served.client() as client:
                return client.post("/v2/locate", **send(photographs[:1]))

        futures = [pool.submit(ask, number) for number in range(3)]
        deadline = time.monotonic() + 60
        while served.service.admission.waiting < 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        full = ask(3)
        problem(full, "busy")
        assert 1 <= int(full.headers["retry-after"]) <= 60
        with served.client() as client:
            assert client.get("/healthz").status_code == 200  # other routes still respond
            metrics = client.get("/metrics").text
            assert "swclip_requests_inside 2.0" in metrics
            assert "swclip_requests_waiting 1.0" in metrics
        blocked.release.set()
        assert [future.result(60).status_code for future in futures] == [200, 200, 200]


def test_request_times_out(
    serve: Any, locator: Locator, photographs: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(locator, Limits(timeout_s=0.5, concurrency=2)) as served, served.client() as client:
        blocked = BlockedModel(served, monkeypatch)
        late = client.post("/v2/locate", **send(photographs[:1]))
        problem(late, "too-late")
        assert late.headers["retry-after"]
        blocked.release.set()
        assert served.service.admission.active == 0


def test_requests_in_progress_are_finished_at_shutdown(
    serve: Any, locator: Locator, photographs: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadPoolExecutor(1) as pool:
        with serve(locator) as served:
            blocked = BlockedModel(served, monkeypatch)

            def ask() -> int:
                with served.client() as client:
                    return client.post("/v2/locate", **send(photographs[:1])).status_code

            future = pool.submit(ask)
            blocked.entered.wait(60)
            threading.Timer(0.3, blocked.release.set).start()
        assert future.result(60) == 200
        assert not served.service.ready


def test_stopped_service_is_not_ready(serve: Any, locator: Locator, photographs: list[bytes]) -> None:
    with serve(locator) as served, served.client() as client:
        assert client.get("/readyz").json() == {"status": "ok"}
        served.service._batcher.close()
        problem(client.get("/readyz"), "not-ready")
        problem(client.post("/v2/locate", **send(photographs[:1])), "not-ready")
        assert client.get("/healthz").status_code == 200


def test_keys_are_required(serve: Any, locator: Locator, photographs: list[bytes]) -> None:
    with serve(locator, keys=Keys([KEY, "another-key-of-ours"])) as served, served.client() as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {KEY}"}, {"X-API-Key": "x"}):
            for method, path in (("GET", "/v2/gallery"), ("POST", "/v2/locate"), ("GET", "/v2/gallery/points")):
                refused = client.request(method, path, headers=headers)
                problem(refused, "key-needed")
                assert refused.headers["www-authenticate"] == "Bearer"
                assert KEY not in refused.text
        for headers in ({"Authorization": f"Bearer {KEY}"}, {"X-API-Key": "another-key-of-ours"}):
            assert client.get("/v2/gallery", headers=headers).status_code == 200
            assert client.post("/v2/locate", headers=headers, **send(photographs[:1])).status_code == 200
        for path in ("/", "/healthz", "/readyz", "/metrics", "/static/app.js"):
            assert client.get(path).status_code == 200
        schemes = client.get("/v2/openapi.json").json()["components"]["securitySchemes"]
        assert set(schemes) == {"HTTPBearer", "APIKeyHeader"}


def test_rate_limit(serve: Any, locator: Locator) -> None:
    with serve(locator, Limits(rate_per_minute=3)) as served, served.client() as client:
        responses = [client.get("/v2/gallery") for _ in range(5)]
        assert [response.status_code for response in responses] == [200, 200, 200, 429, 429]
        problem(responses[3], "too-many-requests")
        assert 1 <= int(responses[3].headers["retry-after"]) <= 20
        assert client.get("/healthz").status_code == 200


def test_cors_allows_only_the_configured_origins(serve: Any, locator: Locator) -> None:
    site = {"Origin": "https://example.org"}
    preflight = {**site, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    with serve(locator, origins=["https://example.org"]) as served, served.client() as client:
        assert client.get("/v2/gallery", headers=site).headers["access-control-allow-origin"] == "https://example.org"
        assert client.options("/v2/locate", headers=preflight).status_code == 200
        other = client.get("/v2/gallery", headers={"Origin": "https://elsewhere.org"})
        assert "access-control-allow-origin" not in other.headers
        missing = client.get("/nowhere", headers=site)
        assert missing.headers["access-control-allow-origin"] == "https://example.org"
    with serve(locator) as served, served.client() as client:
        assert client.options("/v2/locate", headers=preflight).status_code == 405
        assert "access-control-allow-origin" not in client.get("/v2/gallery", headers=site).headers


def send_concurrently(served: Served, photographs: list[bytes]) -> list[httpx.Response]:
    """Send each photograph by a separate client, all concurrently."""
    bodies = [httpx.Request("POST", "http://x", **send([data])) for data in photographs]

    async def ask(client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
        headers = {"content-type": request.headers["content-type"]}
        return await client.post("/v2/locate", content=request.read(), headers=headers)

    async def all_of_them() -> list[httpx.Response]:
        most = httpx.Limits(max_connections=len(bodies), max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=served.address, timeout=300, limits=most, trust_env=False) as client:
            return await asyncio.gather(*(ask(client, body) for body in bodies))

    return asyncio.run(all_of_them())


def test_concurrent_requests_get_the_same_answers(serve: Any, locator: Locator, photographs: list[bytes]) -> None:
    with serve(
        locator, Limits(concurrency=64, queue=200, timeout_s=300, pause_s=120, max_connections_per_address=256)
    ) as served:
        with served.client() as client:
            single = [client.post("/v2/locate", **send([data])).json()["results"][0]["answer"] for data in photographs]
        responses = send_concurrently(served, [photographs[number % len(photographs)] for number in range(200)])
        metrics = served.service.meters.text().decode().splitlines()
    assert {response.status_code for response in responses} == {200}
    for number, response in enumerate(responses):
        answer, expected = response.json()["results"][0]["answer"], single[number % len(photographs)]
        assert (answer["lat_deg"], answer["lon_deg"]) == (expected["lat_deg"], expected["lon_deg"])
        for candidate, expected_candidate in zip(answer["candidates"], expected["candidates"], strict=True):
            assert candidate["candidate_id"] == expected_candidate["candidate_id"]
            # The rounding of float32 sums depends on the batch.
            assert candidate["probability"] == pytest.approx(expected_candidate["probability"], abs=1e-5, rel=1e-4)
    batches = next(line for line in metrics if line.startswith("swclip_batch_photographs_count")).split()[1]
    assert float(batches) < len(photographs) + 200, "no two photographs were ever seen together"


def test_batches_of_one_are_bit_identical(serve: Any, locator: Locator, photographs: list[bytes]) -> None:
    with serve(locator, Limits(concurrency=40, timeout_s=300, max_batch=1)) as served:
        with served.client() as client:
            single = [client.post("/v2/locate", **send([data])).text for data in photographs[:10]]
        responses = send_concurrently(served, [photographs[number % 10] for number in range(40)])
    assert [response.text for response in responses] == [single[number % 10] for number in range(40)]
