"""The ASGI application: routes, and their OpenAPI description."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files as package_files
from typing import Any

from fastapi import APIRouter, FastAPI, Path, Query, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response

from swclip.reporting.tiles import Tiles
from swclip.retrieval.locator import Locator
from swclip.versions import own_version
from swclip.web import responses as schemas
from swclip.web.admission import Keys, client_name
from swclip.web.form import request_schema
from swclip.web.gallery_description import GalleryResponse, gallery_response, points_geojson
from swclip.web.middleware import METRICS_TYPE, CrossOrigin, Guard
from swclip.web.problems import Problem, documented, install
from swclip.web.service import Service
from swclip.web.settings import Limits
from swclip.web.thumbnails import Thumbnails

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "geolocation=(), camera=(), microphone=()",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",  # for all responses except the page
}
_DESCRIPTION = (
    "Locates photographs. Errors are problem details (RFC 9457). Photographs are not stored, and their EXIF metadata "
    "is not used for the answer."
)
_BEARER = HTTPBearer(auto_error=False, description="An API key.")
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, description="An API key, in a separate header.")
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_GEOJSON = "application/geo+json"
_COLLECTION = {"type": "object", "required": ["type", "features", "candidates", "shown"]}
_VERSION_1_GONE = (
    "version 1 is no longer available. Use the same addresses below /v2, such as /v2/locate; an answer there is the "
    "record of `swclip locate` (/v2/openapi.json): the point is `answer.lat_deg` and `answer.lon_deg`, the coverage is "
    "`answer.region.probability`, `calibrated` is `answer.region.calibrated`, and `posterior` and `exif` are beside "
    "`answer`."
)
_COMMON_PROBLEMS = ("too-many-requests", "internal")
_LOCATE_PROBLEMS = (
    "malformed-request", "too-slow", "photograph-too-large", "request-too-large", "not-multipart", "not-a-photograph",
    "photograph-damaged", "invalid-options", "prior-excludes-all", "busy", "not-ready", "too-late",
)  # fmt: skip


def create_app(
    locator: Locator,
    limits: Limits | None = None,
    *,
    keys: Keys | None = None,
    thumbnails: Thumbnails | None = None,
    tiles: Tiles | None = None,
    origins: Sequence[str] = (),
) -> FastAPI:
    """The ASGI application of a gallery.

    Args:
        locator: The gallery and its model.
        limits: Limits on requests; None for the defaults.
        keys: API keys that /v2 requires; None for none.
        thumbnails: Thumbnails of the gallery's photographs; None to show none.
        tiles: Map tiles for the page; None for none.
        origins: Origins whose pages may call this service (CORS).
    """
    service = Service(locator, limits or Limits())
    keys = keys or Keys([])

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await service.close()

    app = FastAPI(
        title="swclip",
        version=own_version(),
        description=_DESCRIPTION,
        lifespan=lifespan,
        openapi_url="/v2/openapi.json",
        docs_url=None,  # they load scripts from another host
        redoc_url=None,
    )
    app.state.service = service
    install(app)
    app.include_router(_api(service, keys, thumbnails, tiles))
    app.include_router(_operations(service))
    app.include_router(_version_1())
    app.include_router(_page(tiles))
    app.add_middleware(GZipMiddleware, minimum_size=2048)
    if origins:
        app.add_middleware(
            CrossOrigin,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "X-API-Key"],
            expose_headers=["Retry-After", "X-Request-Id"],
        )
    app.add_middleware(Guard, meters=service.meters, headers=_HEADERS)
    return app


def _api(service: Service, keys: Keys, thumbnails: Thumbnails | None, tiles: Tiles | None) -> APIRouter:
    """The API, which the page uses too."""
    gallery = service.locator.gallery
    description = gallery_response(service.locator, service.limits, thumbnails=thumbnails is not None, tiles=tiles)
    problems = documented(*_COMMON_PROBLEMS, *(("key-needed",) if len(keys) else ()))
    api = APIRouter(prefix="/v2", dependencies=[Security(_access_check(service, keys))], responses=problems)

    @api.post(
        "/locate",
        summary="Locate photographs",
        response_model=schemas.LocateResponse,
        responses=documented(*_LOCATE_PROBLEMS, *_COMMON_PROBLEMS),
        openapi_extra={"requestBody": _request_body(service.limits.max_files)},
    )
    async def locate(request: Request) -> Response:
        result = await service.locate(request)
        return Response(result.model_dump_json(), headers={"Cache-Control": "no-store"}, media_type="application/json")

    @api.get("/gallery", summary="Describe the gallery")
    async def describe() -> GalleryResponse:
        return description

    @api.get(
        "/gallery/points",
        summary="The gallery's candidates for a map; a sample of large galleries",
        response_class=Response,
        responses={
            200: {"description": "GeoJSON, one MultiPoint per city.", "content": {_GEOJSON: {"schema": _COLLECTION}}},
            **documented("invalid-options"),
        },
    )
    def points(
        limit: int = Query(
            service.limits.max_points, ge=1, le=service.limits.max_points, description="Maximum number of points."
        ),
    ) -> Response:
        content = json.dumps(points_geojson(gallery, limit), separators=(",", ":"), ensure_ascii=False)
        return Response(content, media_type=_GEOJSON, headers={"Cache-Control": "private, max-age=300"})

    if thumbnails is not None:

        @api.get(
            "/gallery/photographs/{image_id:path}",
            summary="A reduced photograph of the gallery, without EXIF",
            response_class=Response,
            responses={
                200: {"description": "JPEG.", "content": {"image/jpeg": {"schema": {"type": "string"}}}},
                **documented("not-found", "invalid-options"),
            },
        )
        def photograph(image_id: str = Path(description="An image id of a candidate.")) -> Response:
            data = thumbnails.jpeg(image_id)
            if data is None:
                raise Problem("not-found", "the gallery has no such photograph, or it can no longer be read.")
            return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    return api


def _access_check(service: Service, keys: Keys) -> Callable[..., Awaitable[None]]:
    """The access check: API keys, if there are any, and the rate limit."""

    def count(request: Request, key: str | None) -> None:
        service.rate.check(client_name(key, request.client.host if request.client else None))

    async def with_key(
        request: Request,
        bearer: HTTPAuthorizationCredentials | None = Security(_BEARER),  # noqa: B008 (as FastAPI requires)
        header: str | None = Security(_HEADER),
    ) -> None:
        key = header if bearer is None else bearer.credentials
        if not keys.accepts(key):
            detail = "send an API key as `Authorization: Bearer KEY` or as `X-API-Key: KEY`."
            raise Problem("key-needed", detail, headers={"WWW-Authenticate": "Bearer"})
        count(request, key)

    async def without_key(request: Request) -> None:
        count(request, None)

    return with_key if len(keys) else without_key


def _operations(service: Service) -> APIRouter:
    """Routes for operators of the service."""
    router = APIRouter(tags=["operations"])

    @router.get("/healthz", summary="Whether the process is alive")
    async def alive() -> schemas.Health:
        return schemas.Health()

    @router.get("/readyz", summary="Whether photographs can be located", responses=documented("not-ready"))
    async def ready() -> schemas.Health:
        if not service.ready:
            raise Problem("not-ready", "the model's thread has stopped; restart the service.")
        return schemas.Health()

    @router.get(
        "/metrics",
        summary="Metrics for Prometheus",
        response_class=Response,
        responses={200: {"description": "Text.", "content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> Response:
        return Response(service.meters.text(), media_type=METRICS_TYPE)

    return router


def _version_1() -> APIRouter:
    """The routes of version 1, whose response points to the new ones."""
    router = APIRouter(include_in_schema=False)

    @router.api_route("/v1/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    async def gone() -> Response:
        raise Problem("version-gone", _VERSION_1_GONE)

    return router


def _page(tiles: Tiles | None) -> APIRouter:
    """The routes of the page and its files."""
    router = APIRouter(include_in_schema=False)
    files, policy = static_files(), page_policy(tiles)

    def reply(request: Request, name: str) -> Response:
        file = files.get(name)
        if file is None:
            raise Problem("not-found", "check the address.")
        headers = {"ETag": file.etag, "Cache-Control": "no-cache"}
        if name.endswith(".html"):
            headers["Content-Security-Policy"] = policy
        if request.headers.get("if-none-match") == file.etag:
            return Response(status_code=304, headers=headers)
        return Response(file.content, headers=headers, media_type=file.media_type)

    @router.get("/")
    async def page(request: Request) -> Response:
        return reply(request, "index.html")

    @router.get("/static/{name}")
    async def static(request: Request, name: str) -> Response:
        return reply(request, name)

    return router


@dataclass(frozen=True)
class _StaticFile:
    """A file of the page.

    Attributes:
        content: The bytes of the file.
        media_type: The media type.
        etag: A hash of the content.
    """

    content: bytes
    media_type: str
    etag: str


def static_files() -> dict[str, _StaticFile]:
    """All files of the page by name; no other files are served."""
    files = {}
    templates = package_files("swclip.reporting").joinpath("templates")
    shared = [templates.joinpath(name) for name in ("map_layers.js", "colours.css")]  # the reports have the same
    for entry in (*package_files("swclip.web").joinpath("static").iterdir(), *shared):
        suffix = entry.name[entry.name.rfind(".") :]
        if entry.is_file() and suffix in _TYPES:
            content = entry.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
            files[entry.name] = _StaticFile(content, _TYPES[suffix], etag)
    return files


def page_policy(tiles: Tiles | None) -> str:
    """The Content-Security-Policy of the page: files of the service, images created by the page, and map tiles."""
    images = "img-src 'self' blob:" + (f" {tiles.origin}" if tiles is not None else "")
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; {images}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _request_body(max_files: int) -> dict[str, Any]:
    return {"required": True, "content": {"multipart/form-data": {"schema": request_schema(max_files)}}}
