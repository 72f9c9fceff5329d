"""Corrupted photographs and forms are refused or answered, and never cause an internal error.

`SWCLIP_FUZZ` is how many files are mutated; some hundreds where it is not set.
"""

from __future__ import annotations

import io
import os
import resource
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from fixtures.service import Served, encoded, send
from swclip.retrieval.locator import Locator
from swclip.web.problems import MEDIA_TYPE, ProblemDetail
from swclip.web.settings import Limits

COUNT = int(os.environ.get("SWCLIP_FUZZ", "480"))
AT_ONCE = 8
REFUSED = {400, 408, 413, 415, 422}
MOST_GROWN_BYTES = 600 * 2**20


def seeds() -> list[bytes]:
    """Files of all supported formats, and of some unsupported ones."""
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jpg", b"\0" * 5_000_000)
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kinds = [encoded(kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "MPO")]
    kinds += [
        encoded("JPEG", progressive=True),
        encoded("TIFF", compression="tiff_lzw"),
        encoded("WEBP", lossless=True),
    ]
    return [*kinds, svg, bomb.getvalue(), b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"%PDF-1.7\n"]


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """The data with some bytes changed, removed, repeated, or replaced by extreme values of counters and lengths."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        at = int(
            rng.integers(0, 1 + (len(changed) if rng.random() < 0.6 else min(64, len(changed))))
        )  # headers more often
        width = int(rng.integers(1, 9))
        kind = rng.integers(0, 5)
        if kind == 0:
            changed[at : at + width] = rng.bytes(width)
        elif kind == 1:
            changed[at : at + width] = (b"\xff" if rng.random() < 0.5 else b"\0") * width
        elif kind == 2:
            changed = changed[:at] or bytearray(b"\0")
        elif kind == 3:
            changed[at:at] = changed[at : at + 16 * width]
        else:
            del changed[at : at + width]
    return bytes(changed)


def files(count: int) -> Iterator[bytes]:
    rng, kinds = np.random.default_rng(11), seeds()
    yield from kinds
    for number in range(count):
        yield mutated(kinds[number % len(kinds)], rng)


def peak_bytes(served: Served) -> int:
    """Peak memory of the service and its decoders."""
    decoders = [Path(f"/proc/{number}/status").read_text() for number in served.service.decoders.process_ids]
    peaks_kb = [int(text.split("VmHWM:")[1].split()[0]) for text in decoders]
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + sum(peaks_kb)) * 1024


def test_corrupted_photographs(serve: Any, locator: Locator) -> None:
    statuses: Counter[int] = Counter()
    with serve(locator, Limits(max_megapixels=4, timeout_s=120)) as served, served.client() as client:
        every = list(files(COUNT))
        client.post("/v2/locate", **send([encoded("PNG")] * 2))  # starts the decoders
        before = peak_bytes(served)
        for start in range(0, len(every), AT_ONCE):
            response = client.post("/v2/locate", **send(every[start : start + AT_ONCE], compare_exif="true"))
            if response.status_code == 200:
                for result in response.json()["results"]:
                    assert (result["answer"] is None) != (result["problem"] is None)
                    statuses[200 if result["problem"] is None else result["problem"]["status"]] += 1
            else:
                assert response.headers["content-type"] == MEDIA_TYPE
                statuses[response.status_code] += 1
        assert client.get("/readyz").status_code == 200
        failed = [line for line in client.get("/metrics").text.splitlines() if 'status="5' in line]
        assert peak_bytes(served) - before < MOST_GROWN_BYTES
    assert not failed
    assert set(statuses) <= {200, *REFUSED}
    assert statuses[200] > COUNT / 10
    assert statuses[415] + statuses[422] > COUNT / 10


def test_corrupted_forms(serve: Any, locator: Locator, photographs: list[bytes]) -> None:
    rng = np.random.default_rng(12)
    request = httpx.Request("POST", "http://x", **send(photographs[:2], top_k=3, region=0.8, combined="true"))
    whole, content_type = request.read(), request.headers["content-type"]
    with serve(locator, Limits(pause_s=20)) as served, served.client() as client:

        def ask(body: bytes) -> httpx.Response:
            return client.post("/v2/locate", content=body, headers={"content-type": content_type})

        bodies = [mutated(whole, rng) for _ in range(COUNT // 4)]
        bodies += [whole[: int(cut)] for cut in rng.integers(0, len(whole), COUNT // 16)]
        with ThreadPoolExecutor(4) as pool:
            statuses = Counter(response.status_code for response in pool.map(ask, bodies))
        for response in pool_of_types(client, whole):
            ProblemDetail.model_validate_json(response.text)
            assert response.status_code in (400, 415, 422)
        assert ask(whole).status_code == 200
    assert set(statuses) <= {200, *REFUSED}
    assert statuses[400] > 0


def pool_of_types(client: httpx.Client, body: bytes) -> Iterator[httpx.Response]:
    for content_type in (
        "multipart/form-data",
        "multipart/form-data; boundary=" + "é" * 3,
        'multipart/form-data; boundary="unclosed',
        "application/x-www-form-urlencoded",
        "text/plain; charset=utf-16",
        "image/png",
        "*/*",
        ";;;",
    ):
        yield client.post("/v2/locate", content=body, headers={"content-type": content_type.encode("latin-1")})


def test_repeated_large_images_do_not_leak_memory(serve: Any, locator: Locator) -> None:
    large = [encoded("JPEG", (2000, 1500), seed=seed) for seed in range(2)]
    with serve(locator) as served, served.client() as client:

        def ask(_: int) -> int:
            return client.post("/v2/locate", **send(large, combined="true")).status_code

        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(ask, range(4))) == {200}
            after_first = peak_bytes(served)
            assert set(pool.map(ask, range(16))) == {200}
        assert peak_bytes(served) - after_first < 150 * 2**20
