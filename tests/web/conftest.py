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
