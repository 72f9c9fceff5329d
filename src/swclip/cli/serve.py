"""`swclip serve`: serve a gallery over HTTP, with an API and a web page."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from swclip.cli.help import ADVANCED, group
from swclip.errors import PackageError
from swclip.reporting.tiles import Tiles
from swclip.web.settings import Limits

_REQUIRED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


def serve(
    gallery: str,
    /,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    photographs: Path | None = None,
    tiles: str | None = None,
    attribution: str = "",
    device: str = "auto",
    verify: Annotated[int | None, ADVANCED] = None,
    cors: Annotated[list[str] | None, ADVANCED] = None,
    proxy: Annotated[str | None, ADVANCED] = None,
    effort: Annotated[Literal["fast", "balanced", "best"], ADVANCED] = "best",
    model: Annotated[Path | None, ADVANCED] = None,
    threads: Annotated[int | None, ADVANCED] = None,
    limits: Annotated[Limits, Parameter(name="*"), group("Limits")] = Limits(),  # noqa: B008 (frozen)
) -> None:
    """Serve a gallery over HTTP, with an API and a web page.

    The page is at / and the API at /v2 (described by /v2/openapi.json); /healthz, /readyz and /metrics are for
    operators. Photographs are not stored. API keys are read from the environment variable SWCLIP_API_KEYS, separated
    by commas; without it anybody who can reach the address can use the API. On Ctrl-C or SIGTERM the service finishes
    the requests in progress and stops. With --quiet, only the address is printed, and only requests that fail are
    logged.

    Args:
        gallery: The gallery that `swclip index` wrote: a folder, or a URL such as s3://bucket/gallery.
        host: Address to listen on; 0.0.0.0 for all addresses of the machine.
        port: Port to listen on; 0 for any free port.
        photographs: A manifest whose photographs are shown beside answers, reduced and without EXIF; by default the
            thumbnails of the gallery are shown.
        tiles: A base map below the points of the gallery: osm (OpenStreetMap), another name of xyzservices, or a URL
            template such as https://tiles.example.org/{z}/{x}/{y}.png. Browsers request the tiles from that host, which
            thereby learns which part of the map is viewed. By default there is none.
        attribution: Attribution of the tiles, shown on the map; needed for a URL.
        verify: Compare this many of the most probable candidates with the photograph in detail, by the patch features
            that the gallery stores (swclip index --patch-features); 0 for none. It takes about 20 ms for 20 candidates
            with four photographs each. By default the number that the model was fitted with, where its validation
            queries gained; regions are calibrated for that number and for 0.
        device: auto (a GPU if there is one), cpu, cuda, cuda:1 or mps.
        cors: Origin whose pages may call this service, such as https://example.org; can be repeated.
        proxy: Addresses of proxies whose X-Forwarded-For header is trusted, separated by commas.
        effort: The evidence that answers use, as in `swclip locate`.
        model: Fail unless the gallery was made with this run.
        threads: CPU threads of the model; by default torch chooses.
        limits: Limits on requests.

    Examples:
        swclip serve gallery
        # for other machines, with keys; photographs beside the answers
        SWCLIP_API_KEYS=secret swclip serve gallery --host 0.0.0.0 --photographs data
    """
    missing = [name for name in _REQUIRED if find_spec(name) is None]
    if missing:
        raise PackageError(f"`swclip serve` needs {', '.join(missing)}; install them with: pip install 'swclip[serve]'")
    map_tiles = None if tiles is None else Tiles.of(tiles, attribution)

    import logging
    import os

    import torch

    from swclip.cli.console import console, next_step
    from swclip.data.manifest import read_manifest
    from swclip.gallery.store import GalleryStore
    from swclip.models.blocks import available_device
    from swclip.retrieval.locator import Locator
    from swclip.web.admission import VARIABLE, Keys
    from swclip.web.app import create_app
    from swclip.web.server import listen, make_server, run
    from swclip.web.thumbnails import Thumbnails

    logging.getLogger("swclip.web").setLevel(logging.WARNING if console.quiet else logging.INFO)
    if threads is not None:
        torch.set_num_threads(threads)
    keys = Keys.from_environment()
    os.environ.pop(VARIABLE, None)  # the processes that decode photographs need not know the keys

    def started(address: str) -> None:
        print(f"swclip serves at {address} (press Ctrl-C to stop)", flush=True)
        next_step("serve", f"open {address} in a browser")
        if not len(keys) and host not in ("127.0.0.1", "::1", "localhost"):
            console.print(f"Anybody who can reach this address can use it; set {VARIABLE} to require keys.")

    with listen(host, port) as listening:  # first, so that a port in use is reported before minutes of loading
        locator = Locator.from_gallery(gallery, model, search="memory", effort=effort, verify=verify)
        locator.to(available_device(device))
        if photographs is None:
            thumbnails = Thumbnails.of_gallery(GalleryStore.open(gallery))
        else:
            thumbnails = Thumbnails.of_manifest(read_manifest(photographs), locator.gallery.image_ids)
        app = create_app(locator, limits, keys=keys, thumbnails=thumbnails, tiles=map_tiles, origins=cors or ())
        run(make_server(app, limits, proxy=proxy), listening, started)
