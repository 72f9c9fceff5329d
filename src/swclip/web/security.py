"""What surrounds every request: its name, its headers, its line in the log, and the last net for errors."""

from __future__ import annotations

import logging
import time
import traceback
import uuid
from collections.abc import Mapping

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from swclip.web.meters import Meters
from swclip.web.problems import Problem, response

LOG = logging.getLogger("swclip.web")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Guard:
    """ASGI middleware, the outermost one.

    The log has the method, the route as it is declared, the status and the time; no query, file name, position or
    message of an error, since those may say where a photograph is from.

    Args:
        app: The application.
        meters: Where requests are counted.
        headers: Headers of every response that does not set them itself.
    """

    def __init__(self, app: ASGIApp, meters: Meters, headers: Mapping[str, str]) -> None:
        self._app, self._meters = app, meters
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, name = time.perf_counter(), 0, uuid.uuid4()
        scope.setdefault("state", {})["instance"] = f"urn:uuid:{name}"

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                there = {key.lower() for key, _ in message["headers"]}
                added = [(key, value) for key, value in self._headers if key not in there]
                message = {**message, "headers": [*message["headers"], *added, (b"x-request-id", str(name).encode())]}
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except ClientDisconnect:
            status = status or 499  # what nginx writes for a client that went away
        except Exception as error:
            where = "".join(traceback.format_tb(error.__traceback__)[-6:])
            LOG.error("%s %s failed: %s\n%s", name, _route(scope), type(error).__name__, where)
            if status:
                raise
            problem = Problem("internal", "this should not happen; the service's log has the request's name.")
            await response(problem, f"urn:uuid:{name}")(scope, receive, answer)
        finally:
            seconds = time.perf_counter() - began
            method = scope["method"] if scope["method"] in _METHODS else "OTHER"
            self._meters.request(method, _route(scope), status, seconds)
            LOG.info("%s %s %s %d %.3fs", name, method, _route(scope), status, seconds)


def _route(scope: Scope) -> str:
    """The route as it was declared: what a client made up must neither be logged nor counted by itself."""
    return str(getattr(scope.get("route"), "path", "other"))
