"""Photographs, names, positions and EXIF values do not reach the disk, the log or the metrics."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from fixtures.service import encoded
from swclip.retrieval.locator import Locator

from .test_locate import with_gps

NAME = "my-secret-garden.jpg"


def test_nothing_is_written_to_disk(
    serve: Any, locator: Locator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uploads larger than what frameworks keep in memory; all ways to open a file for writing are monitored."""
    opened: list[str] = []

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        flags = arguments[2] if watching and event == "open" else None
        # Descriptors are the pipes to decoders, which cannot write files (test_decoding.py).
        if (
            isinstance(flags, int)
            and not isinstance(arguments[0], int)
            and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        ):
            opened.append(str(arguments[0]))

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    watching = False
    sys.addaudithook(watch)
    large = encoded("BMP", (1500, 1000))
    assert len(large) > 4_000_000
    with serve(locator) as served, served.client() as client:
        watching = True
        response = client.post("/v2/locate", files=[("photographs", (NAME, large)), ("photographs", (NAME, large))])
        watching = False
    assert response.status_code == 200
    assert opened == []
    assert list(tmp_path.iterdir()) == []


def test_log_and_metrics_contain_no_private_data(
    serve: Any, locator: Locator, photographs: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    prior = {"type": "Polygon", "coordinates": [[[-2, 53], [0, 53], [0, 54], [-2, 54], [-2, 53]]]}
    data = {"near_lat_deg": "53.80123", "near_lon_deg": "-1.54567", "near_radius_m": "500", "prior": json.dumps(prior)}
    marked = with_gps(photographs[0], 53.8, -1.5)
    with serve(locator) as served, served.client() as client:
        caplog.clear()
        reply = client.post(
            "/v2/locate",
            data={**data, "compare_exif": "true"},
            files=[("photographs", (NAME, marked, "image/x-secret"))],
        )
        client.post("/v2/locate", data={"near_lat_deg": "53.80123"}, files=[("photographs", (NAME, marked))])
        client.post("/v2/locate?lat=53.80123", files=[("photographs", (NAME, marked[:200]))])
        client.get("/v2/gallery/photographs/my-secret-garden?lat=53.80123")
        client.get("/my-secret-garden")
        metrics = client.get("/metrics").text
    assert reply.status_code == 200
    answer = reply.json()["results"][0]["answer"]
    log = "\n".join(
        record.getMessage() for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))
    )
    assert "POST /v2/locate 200" in log
    for text in (log, metrics):
        for private in ("secret", "53.8", "1.54567", str(answer["lat_deg"]), str(answer["lon_deg"]), "?"):
            assert private not in text.replace("# HELP", ""), private
    assert re.search(r'swclip_photographs_total\{outcome="usable"\} \d', metrics)
    assert 'route="other"' in metrics


def test_response_does_not_contain_file_names(client: Any, photographs: list[bytes]) -> None:
    for data in (photographs[0], b"junk", io.BytesIO(photographs[0]).read(50)):
        assert "secret" not in client.post("/v2/locate", files=[("photographs", (NAME, data))]).text
