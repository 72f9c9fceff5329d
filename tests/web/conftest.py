"""A gallery of the small town, and services of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fixtures.service import Served, serving, write_town_gallery
from swclip.data.manifest import read_manifest
from swclip.retrieval.locator import Locator


@pytest.fixture(scope="session")
def gallery_folder(town: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery of the town."""
    return write_town_gallery(town, tmp_path_factory.mktemp("served") / "gallery")


@pytest.fixture(scope="session")
def locator(gallery_folder: Path) -> Locator:
    return Locator.from_gallery(gallery_folder)


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


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open pages of a service; at the end check for requests to other hosts and for errors."""
    contexts, errors, requests = [], [], []

    def opened(served: Served, width: int = 1280, path: str = "/", *, ready: bool = True, **more: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 860}, **more)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: errors.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append((served.address, request.url)))
        page.goto(served.address + path)
        if ready:
            page.wait_for_selector("html[data-ready=yes]")
        page.errors = errors
        return page

    yield opened
    for context in contexts:
        context.close()
    assert errors == []
    external = [url for address, url in requests if not url.startswith((address + "/", "blob:", "data:"))]
    assert external == []
