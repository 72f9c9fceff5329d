"""POST /v1/locate: what an answer says, for one photograph and for several, with and without a prior."""
from __future__ import annotations

import httpx

from .conftest import send


def test_smoke(client: httpx.Client, photographs: list[bytes]) -> None:
    found = client.post("/v1/locate", **send(photographs[:2], include_posterior="true", compare_exif="true"))
    print(found.status_code, found.headers, found.text[:3000])
    assert found.status_code == 200
    for path in ("/v1/gallery", "/v1/gallery/points", "/healthz", "/readyz", "/metrics", "/v1/openapi.json", "/nowhere"):
        got = client.get(path)
        print(path, got.status_code, got.headers, got.text[:1500])
