"""Errors are problem details that say what to do, without private data."""

from __future__ import annotations

import json
import socket
from typing import Any

import httpx
import pytest

from fixtures.service import Served, encoded, send
from swclip.web.problems import KINDS, MEDIA_TYPE, ProblemDetail

URN = "urn:swclip:problem:"


def problem(response: httpx.Response, kind: str) -> ProblemDetail:
    """The problem detail of a response."""
    assert response.headers["content-type"] == MEDIA_TYPE, response.text
    detail = ProblemDetail.model_validate_json(response.text)
    assert (detail.type, detail.status) == (URN + kind, response.status_code)
    assert detail.status == KINDS[kind].status
    assert detail.title == KINDS[kind].title
    assert detail.instance == "urn:uuid:" + response.headers["x-request-id"]
    return detail


@pytest.mark.parametrize(
    ("fields", "named", "words"),
    [
        ({"top_k": "0"}, "top_k", "greater than or equal to 1"),
        ({"top_k": "many"}, "top_k", "valid integer"),
        ({"top_k": "51"}, "top_k", "less than or equal to 50"),
        ({"region": "0.99"}, "region", "0.95"),
        ({"region": "nan"}, "region", ""),
        ({"estimator": "best"}, "estimator", "'mode', 'argmax' or 'geometric-median'"),
        ({"combined": "perhaps"}, "combined", "valid boolean"),
        ({"topk": "5"}, "topk", "Extra inputs"),
        ({"prior": "{}"}, "prior", "must be a GeoJSON"),
        ({"near_lat_deg": "5"}, "request", "must be used together"),
        ({"near_lat_deg": "95", "near_lon_deg": "0", "near_radius_m": "10"}, "near_lat_deg", "90"),
        ({"near_lat_deg": "0", "near_lon_deg": "0", "near_radius_m": "10"}, "near_lat_deg", "devices write"),
        ({"near_lat_deg": "5", "near_lon_deg": "0", "near_radius_m": "0"}, "near_radius_m", "greater than 0"),
        ({"near_lat_deg": "5", "near_lon_deg": "inf", "near_radius_m": "1"}, "near_lon_deg", ""),
    ],
)
def test_invalid_options(
    client: httpx.Client, photographs: list[bytes], fields: dict[str, str], named: str, words: str
) -> None:
    detail = problem(client.post("/v2/locate", **send(photographs[:1], **fields)), "invalid-options")
    assert detail.errors is not None
    assert named in {error.field for error in detail.errors}
    assert words in detail.detail


def test_each_of_several_unusable_photographs_has_its_problem(client: httpx.Client, photographs: list[bytes]) -> None:
    unusable = [b"no picture", photographs[0][:200], b""]
    detail = problem(client.post("/v2/locate", **send(unusable)), "not-a-photograph")
    assert detail.photograph == 0
    assert detail.problems is not None
    kinds = ["not-a-photograph", "photograph-damaged", "photograph-damaged"]
    assert [(one.photograph, one.type) for one in detail.problems] == [
        (at, URN + kind) for at, kind in enumerate(kinds)
    ]
    assert problem(client.post("/v2/locate", **send(unusable[:1])), "not-a-photograph").problems is None


def test_empty_options_are_ignored(client: httpx.Client, photographs: list[bytes]) -> None:
    assert client.post("/v2/locate", **send(photographs[:1], prior="", estimator="", top_k="")).status_code == 200


def test_area_without_candidates(client: httpx.Client, photographs: list[bytes]) -> None:
    away = {"type": "Polygon", "coordinates": [[[10, 10], [11, 10], [11, 11], [10, 10]]]}
    problem(client.post("/v2/locate", **send(photographs[:1], prior=json.dumps(away))), "prior-excludes-all")


def test_body_that_is_not_a_form(client: httpx.Client, photographs: list[bytes]) -> None:
    for content_type in ("image/jpeg", "application/json", "", "multipart/mixed; boundary=x", "nonsense"):
        headers = {"content-type": content_type}
        problem(client.post("/v2/locate", content=photographs[0], headers=headers), "not-multipart")
    problem(client.post("/v2/locate"), "not-multipart")
    problem(client.post("/v2/locate", data={"top_k": "3"}), "not-multipart")
    for body in (b"", b"--x", b"--x--\r\n", b"not a boundary", b"--x\r\nno header\r\n\r\nx\r\n--x--"):
        detail = client.post("/v2/locate", content=body, headers={"content-type": "multipart/form-data; boundary=x"})
        assert detail.status_code in (400, 422), body
        assert detail.headers["content-type"] == MEDIA_TYPE
    for boundary in ("", "; boundary=", "; boundary=" + "x" * 500):
        headers = {"content-type": "multipart/form-data" + boundary}
        problem(client.post("/v2/locate", content=b"--x--", headers=headers), "malformed-request")


def form(*parts: bytes, end: bytes = b"--x--\r\n") -> dict[str, Any]:
    body = b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + end
    return {"content": body, "headers": {"content-type": "multipart/form-data; boundary=x"}}


def part(name: str, value: bytes, file: bool = False) -> bytes:
    head = b'Content-Disposition: form-data; name="' + name.encode() + b'"'
    return head + (b'; filename="a"' if file else b"") + b"\r\n\r\n" + value


def test_malformed_forms(client: httpx.Client, photographs: list[bytes]) -> None:
    whole = part("photographs", photographs[0], file=True)
    assert client.post("/v2/locate", **form(whole)).status_code == 200
    problem(client.post("/v2/locate", **form(whole, end=b"")), "malformed-request")
    problem(client.post("/v2/locate", **form(b"Content-Type: image/jpeg\r\n\r\nx")), "malformed-request")
    detail = problem(client.post("/v2/locate", **form()), "invalid-options")
    assert "photographs: is missing" in detail.detail
    detail = problem(client.post("/v2/locate", **form(part("photographs", photographs[0]))), "invalid-options")
    assert "send it as a file" in detail.detail
    assert client.post("/v2/locate", **form(whole, part("top_k", b"3", file=True))).status_code == 200
    twice = problem(
        client.post("/v2/locate", **form(whole, part("top_k", b"1"), part("top_k", b"2"))), "invalid-options"
    )
    assert "sent twice" in twice.detail
    for file in (False, True):
        problem(client.post("/v2/locate", **form(whole, part("top_k", b"\xff\xfe", file=file))), "invalid-options")
    problem(client.post("/v2/locate", **form(whole, part("prior", b"x" * 300_000))), "invalid-options")
    many = [part(f"f{number}", b"1") for number in range(40)]
    problem(client.post("/v2/locate", **form(whole, *many)), "invalid-options")
    header = b"X: " + b"y" * 100_000 + b"\r\n" + whole
    assert client.post("/v2/locate", **form(header)).status_code == 400


def test_unknown_paths_and_methods(client: httpx.Client) -> None:
    for path in ("/nowhere", "/v2", "/v2/nothing", "/static/app.py", "/static/..%2f..%2fapp.py", "/docs", "/redoc"):
        problem(client.get(path), "not-found")
    problem(client.get("/v2/gallery/photographs/p00-0"), "not-found")  # not without a manifest
    for method, path in (("GET", "/v2/locate"), ("DELETE", "/v2/gallery"), ("POST", "/healthz"), ("TRACE", "/")):
        response = client.request(method, path)
        problem(response, "method-not-allowed")
        assert response.headers["allow"]


def test_version_1_points_to_version_2(client: httpx.Client, photographs: list[bytes]) -> None:
    for response in (
        client.post("/v1/locate", **send(photographs[:2])),
        client.get("/v1/gallery/photographs/my-home"),
        client.get("/v1/openapi.json"),
    ):
        detail = problem(response, "version-gone")
        assert "/v2/locate" in detail.detail
        assert "answer.lat_deg" in detail.detail
        assert "my-home" not in response.text


def test_invalid_query_parameters(client: httpx.Client) -> None:
    for limit in ("0", "-1", "x", "1000000"):
        detail = problem(client.get("/v2/gallery/points", params={"limit": limit}), "invalid-options")
        assert detail.errors is not None
        assert [error.field for error in detail.errors] == ["limit"]


def test_malformed_http(served: Served) -> None:
    host, port = served.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as wire:
        wire.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        reply = b"".join(iter(lambda: wire.recv(4096), b""))
    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert MEDIA_TYPE.encode() in head
    assert json.loads(body)["type"] == URN + "malformed-request"


def test_decoder_messages_are_not_exposed(client: httpx.Client) -> None:
    secret = b"GPS 51.5 -0.1 home"
    for data in (secret, b"\xff\xd8\xff" + secret, encoded("PNG")[:60] + secret, b""):
        response = client.post("/v2/locate", files=[("photographs", ("my-home-address.jpg", data))])
        assert response.status_code in (415, 422)
        assert "51.5" not in response.text
        assert "my-home" not in response.text


def test_unexpected_error_is_a_problem_and_the_service_continues(
    serve: Any,
    locator: Any,
    photographs: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with serve(locator) as served, served.client() as client:
        with monkeypatch.context() as patch:
            patch.setattr(served.service.locator, "answer_posteriors", lambda *a, **b: 1 / 0)
            detail = problem(client.post("/v2/locate", **send(photographs[:1])), "internal")
        assert "division" not in detail.detail
        assert "ZeroDivisionError" in caplog.text
        assert "division by zero" not in caplog.text  # a message may quote what was sent
        assert client.post("/v2/locate", **send(photographs[:1])).status_code == 200


def test_security_headers(client: httpx.Client) -> None:
    for path in ("/", "/v2/gallery", "/nowhere", "/static/app.js"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "server" not in headers
        assert "access-control-allow-origin" not in headers
    policy = client.get("/").headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "http" not in policy
