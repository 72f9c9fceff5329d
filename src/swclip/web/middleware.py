"""What surrounds every request: id, security headers, log, metrics, errors, and cross-origin requests."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
import uuid
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from swclip.web.connection import Connection
from swclip.web.problems import Problem, response

LOG = logging.getLogger("swclip.web")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
METRICS_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Meters:
    """The metrics of one service, in a separate registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "swclip_requests", "Requests served.", ["method", "route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "swclip_request_seconds", "Time from a request's headers to its last byte.", ["route"], buckets=_SECONDS,
            registry=self.registry,
        )  # fmt: skip
        self._photographs = Counter(
            "swclip_photographs", "Photographs in requests, by outcome.", ["outcome"],
            registry=self.registry,
        )  # fmt: skip
        self._connections = Counter(
            "swclip_connections_ended", "Connections that the service ended or refused, by what it waited for.",
            ["reason"], registry=self.registry,
        )  # fmt: skip
        self._batch = Histogram(
            "swclip_batch_photographs", "Photographs per batch of the model.", buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self.registry,
        )  # fmt: skip

    def watch(self, name: str, description: str, value: Callable[[], float]) -> None:
        """Add a gauge that calls `value` when it is read."""
        Gauge(f"swclip_{name}", description, registry=self.registry).set_function(value)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def photograph(self, outcome: str) -> None:
        """Count a photograph by outcome: "usable", or the kind of problem."""
        self._photographs.labels(outcome).inc()

    def connection(self, reason: str) -> None:
        """Count a connection that the service ended or refused."""
        self._connections.labels(reason).inc()

    def batch(self, photographs: int) -> None:
        """Count a batch of the model."""
        self._batch.observe(photographs)

    def text(self) -> bytes:
        """The metrics in the Prometheus text format."""
        return generate_latest(self.registry)


class Guard:
    """The outermost ASGI middleware.

    The log contains the method, the declared route, the status and the time; no query strings, file names, positions or
    error messages, since these may reveal where a photograph was taken.

    Args:
        app: The application.
        meters: The metrics of the service.
        headers: Default headers of all responses.
    """

    def __init__(self, app: ASGIApp, meters: Meters, headers: Mapping[str, str]) -> None:
        self._app, self._meters = app, meters
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, request_id, method = time.perf_counter(), uuid.uuid4(), scope["method"]
        instance = f"urn:uuid:{request_id}"
        state = scope.setdefault("state", {})
        state["instance"] = instance
        exchange = _Exchange(
            receive, send, _has_body(scope), [*self._headers, (b"x-request-id", str(request_id).encode())],
            state.get("connection"),
        )  # fmt: skip
        if method == "HEAD":  # is GET without the body, which the server leaves out
            scope = {**scope, "method": "GET"}
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            exchange.status = exchange.status or 499  # as nginx logs a client that disconnected
        except asyncio.CancelledError:
            if exchange.status:
                raise
            problem = Problem("not-ready", "the service is shutting down; try again later.")
            await response(problem, instance)(scope, exchange.receive, exchange.send)
        except Exception as error:
            where = "".join(traceback.format_tb(error.__traceback__)[-6:])
            LOG.error("%s %s failed: %s\n%s", request_id, _route(scope), type(error).__name__, where)
            if exchange.status:
                raise
            problem = Problem("internal", "unexpected error; see the service's log for the id of this request.")
            await response(problem, instance)(scope, exchange.receive, exchange.send)
        finally:
            exchange.end()
            seconds = time.perf_counter() - began
            method = method if method in _METHODS else "OTHER"
            self._meters.request(method, _route(scope), exchange.status, seconds)
            LOG.info("%s %s %s %d %.3fs", request_id, method, _route(scope), exchange.status, seconds)


class _Exchange:
    """A request and its response, as they pass.

    Args:
        receive: The ASGI channel of the request.
        send: The ASGI channel of the response.
        has_body: Whether the request has a body.
        headers: Headers of the response, unless it has them.
        connection: The connection, which gets to know what it waits for; None with another server.
    """

    def __init__(
        self,
        receive: Receive,
        send: Send,
        has_body: bool,
        headers: list[tuple[bytes, bytes]],
        connection: Connection | None,
    ) -> None:
        self._receive, self._send, self._headers, self._connection = receive, send, headers, connection
        self._unread = has_body
        self.status = 0
        self._number = 0 if connection is None else connection.request_began()

    async def receive(self) -> Message:
        """The next part of the request."""
        if self._connection is None or not self._unread:
            return await self._receive()
        self._connection.body_awaited()
        message = await self._receive()
        self._connection.body_received()
        self._unread = bool(message.get("more_body", False))
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the response. After a request that is not read to its end the connection is closed."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            present = {key.lower() for key, _ in message["headers"]}
            added = [(key, value) for key, value in self._headers if key not in present]
            if self._unread:
                added.append((b"connection", b"close"))
            message = {**message, "headers": [*message["headers"], *added]}
            if self._connection is not None:
                self._connection.response_began(unread=self._unread)
        await self._send(message)

    def end(self) -> None:
        """The application is done with the request."""
        if self._connection is not None:
            self._connection.request_ended(self._number)


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def _route(scope: Scope) -> str:
    """The declared route, so that addresses invented by clients are neither logged nor counted separately."""
    return str(getattr(scope.get("route"), "path", "other"))


class CrossOrigin(CORSMiddleware):
    """Starlette's CORS middleware, with a problem where a preflight is refused."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http" or scope["method"] != "OPTIONS":
            await super().__call__(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if "origin" in headers and "access-control-request-method" in headers:
            reply = self.preflight_response(request_headers=headers)
            if reply.status_code >= 400:
                kept = {name: value for name, value in reply.headers.items() if not name.startswith("content-")}
                reason = bytes(reply.body).decode().removeprefix("Disallowed CORS ")
                detail = f"pages of this origin may not send it (not allowed: {reason}); see --cors of swclip serve."
                reply = response(Problem("refused", detail, headers=kept), scope["state"]["instance"])
            await reply(scope, receive, send)
            return
        await super().__call__(scope, receive, send)
