"""The page: files of the package, read once, and the policy that lets it load nothing else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from swclip.web.settings import Tiles

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class StaticFile:
    """A file of the page.

    Attributes:
        content: Its bytes.
        media_type: Its type.
        etag: Changes with the content.
    """

    content: bytes
    media_type: str
    etag: str


def static_files() -> dict[str, StaticFile]:
    """All files of the page by name: nothing else can be asked for."""
    found = {}
    shared = files("swclip.reporting").joinpath("templates", "map_layers.js")  # the reports have the same map
    for entry in (*files("swclip.web").joinpath("static").iterdir(), shared):
        suffix = entry.name[entry.name.rfind(".") :]
        if entry.is_file() and suffix in _TYPES:
            content = entry.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
            found[entry.name] = StaticFile(content, _TYPES[suffix], etag)
    return found


def page_policy(tiles: Tiles | None) -> str:
    """The Content-Security-Policy of the page: its own files, pictures it made itself, and the map tiles."""
    pictures = "img-src 'self' blob:" + (f" {tiles.origin}" if tiles is not None else "")
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; {pictures}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


NO_PAGE_POLICY = "default-src 'none'; frame-ancestors 'none'"
"""Of everything that is not the page."""
