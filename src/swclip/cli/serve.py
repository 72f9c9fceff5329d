"""`swclip serve`: answer photographs over HTTP, with a page."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from swclip.errors import ConfigError
from swclip.web.settings import Limits, Tiles

_NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


def serve(
    gallery: str,
    /,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    photographs: Path | None = None,
    tiles: str | None = None,
    attribution: str = "",
    cors: list[str] | None = None,
    proxy: str | None = None,
    model: Path | None = None,
    threads: int | None = None,
    quiet: bool = False,
    limits: Annotated[Limits, Parameter(name="*")] = Limits(),  # noqa: B008 (it is frozen)
) -> None:
    """Answer photographs over HTTP, with a page to drop them on.

    The page is at /, the API at /v2 (described by /v2/openapi.json), /healthz, /readyz and /metrics are for those who
    run it. No photograph is stored. Keys that /v2 asks for are read from the environment variable SWCLIP_API_KEYS,
    separated by commas; without it everybody who reaches the address may ask. Ctrl-C and SIGTERM let what was begun be
    finished.

    Args:
        gallery: The gallery that `swclip index` wrote: a folder, or a URL such as s3://bucket/gallery.
        host: Address to listen at; 0.0.0.0 for all of this machine's.
        port: Port; 0 for any that is free.
        photographs: A manifest whose photographs may be shown beside answers, small and without EXIF; without it the
            thumbnails that the gallery holds are shown.
        tiles: Map tiles to draw under the gallery's points, such as https://tiles.example.org/{z}/{x}/{y}.png. Browsers
            then ask that host, which learns what part of the map is looked at.
        attribution: Whose tiles they are, shown on the map.
        cors: A site whose pages may ask this service, such as https://example.org; again for further ones.
        proxy: Addresses of proxies whose X-Forwarded-For is believed, separated by commas.
        model: Insist that the gallery was made by this run.
        threads: Threads that the model computes with; as many as torch chooses if not given.
        quiet: Leave out the log's line for each request; what fails is logged all the same.
        limits: What is allowed.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(f"`swclip serve` needs {', '.join(missing)}; install them with: pip install 'swclip[serve]'")
    shown = None if tiles is None else Tiles(tiles, attribution)

    import logging

    import torch

    from swclip.cli.console import console
    from swclip.data.manifest import read_manifest
    from swclip.gallery.store import GalleryStore
    from swclip.retrieval.locator import Locator
    from swclip.web.app import create_app
    from swclip.web.security import VARIABLE, Keys
    from swclip.web.server import listen, make_server, run
    from swclip.web.uploads import Thumbnails

    logging.getLogger("swclip.web").setLevel(logging.WARNING if quiet else logging.INFO)
    if threads is not None:
        torch.set_num_threads(threads)
    keys = Keys.from_environment()

    def started(address: str) -> None:
        console.print(f"swclip answers at {address} (Ctrl-C ends it)")
        if not len(keys) and host not in ("127.0.0.1", "::1", "localhost"):
            console.print(f"Everybody who reaches it may ask: set {VARIABLE} to keys, or let a proxy ask for them.")

    with listen(host, port) as listening:  # a port that is taken is said before minutes of loading, not after
        locator = Locator.from_gallery(gallery, model, search="memory")
        if photographs is None:
            small = Thumbnails.of_gallery(GalleryStore.open(gallery))
        else:
            small = Thumbnails.of_manifest(read_manifest(photographs), locator.gallery.image_ids)
        app = create_app(locator, limits, keys=keys, thumbnails=small, tiles=shown, origins=cors or ())
        run(make_server(app, limits, proxy=proxy), listening, started)
