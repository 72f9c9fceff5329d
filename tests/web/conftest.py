"""A gallery of the small town, and services of it: real servers on the loopback interface, in threads."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image

from fixtures.models import tiny_model
from swclip.calibration.conformal import Calibration, write_calibration
from swclip.calibration.posterior_config import PosteriorConfig
from swclip.data.manifest import read_manifest
from swclip.gallery.build import build_gallery, manifest_candidates
from swclip.gallery.read_write import save_gallery
from swclip.retrieval.locator import Locator
from swclip.web.app import create_app
from swclip.web.server import address_of, listen, make_server
from swclip.web.service import Service
from swclip.web.settings import Limits


@pytest.fixture(scope="session")
def gallery_folder(town: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery of the town with its model, and a calibration from made-up tails."""
    manifest = read_manifest(town)
    model = tiny_model(manifest.positions_deg, seed=3)
    posterior = PosteriorConfig(0.2, 0.02, 0.8, smoothing_m=15.0)
    folder = tmp_path_factory.mktemp("served") / "gallery"
    save_gallery(build_gallery(model, manifest_candidates(manifest), manifest, posterior=posterior), folder, model)
    tails = np.linspace(0.02, 1.0, 49)
    write_calibration(folder / "model", Calibration(tails, ("Leeds",) * 49, 11, 25.0))
    return folder


@pytest.fixture(scope="session")
def locator(gallery_folder: Path) -> Locator:
    return Locator.from_gallery(gallery_folder)


@dataclass(frozen=True)
class Served:
    """A running service."""

    address: str
    app: FastAPI

    @property
    def service(self) -> Service:
        service: Service = self.app.state.service
        return service

    def client(self, **more: Any) -> httpx.Client:
        return httpx.Client(base_url=self.address, timeout=60, trust_env=False, **more)


@contextmanager
def serving(locator: Locator, limits: Limits | None = None, **more: Any) -> Iterator[Served]:
    """Serve a gallery in a thread until the block ends."""
    limits = limits or Limits()
    app = create_app(locator, limits, **more)
    server, listening = make_server(app, limits), listen("127.0.0.1", 0)
    started = threading.Event()

    async def serve() -> None:
        task = asyncio.create_task(server.serve([listening]))
        while not server.started and not task.done():
            await asyncio.sleep(0.01)
        started.set()
        await task

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    started.wait(60)
    try:
        yield Served(address_of(listening), app)
    finally:
        server.should_exit = True
        thread.join(60)
        listening.close()
        assert not thread.is_alive(), "the server does not end"


@pytest.fixture(scope="session")
def serve() -> Callable[..., Any]:
    """Serve with the settings of a test."""
    return serving


@pytest.fixture(scope="session")
def served(locator: Locator) -> Iterator[Served]:
    with serving(locator) as running:
        yield running


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    with served.client() as opened:
        yield opened


@pytest.fixture(scope="session")
def photographs(town: Path) -> list[bytes]:
    """The bytes of the town's photographs, in the order of the manifest."""
    return [path.read_bytes() for path in read_manifest(town).image_paths]


def encoded(kind: str, size: tuple[int, int] = (48, 40), seed: int = 0, **more: Any) -> bytes:
    """A noise image in a file format."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **more)
    return stream.getvalue()


def send(photographs: list[bytes], **fields: Any) -> dict[str, Any]:
    """The arguments of httpx for a form."""
    return {
        "files": [("photographs", ("a.jpg", data)) for data in photographs],
        "data": {name: str(value) for name, value in fields.items()},
    }
