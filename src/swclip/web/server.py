"""The HTTP server: uvicorn with limits on connections, and an end in time."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, cast

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from swclip.errors import InputError
from swclip.web.connection import Connection
from swclip.web.connection_limit import ConnectionLimit, Listener
from swclip.web.problems import MEDIA_TYPE, Problem
from swclip.web.settings import Limits

LOG = logging.getLogger("swclip.web")
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_BACKLOG = 1024


def _message(problem: Problem, status: str) -> bytes:
    """A whole HTTP response, for what never reaches the application."""
    body = json.dumps(problem.body().model_dump(exclude_none=True)).encode()
    headers = {
        "content-type": MEDIA_TYPE,
        "content-length": str(len(body)),
        "cache-control": "no-store",
        "connection": "close",
        **problem.headers,
    }
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


_MALFORMED = _message(
    Problem("malformed-request", "the request is not valid HTTP/1.1; check the client."), "400 Bad Request"
)
_REFUSED = _message(
    Problem("busy", "there are too many connections; try again in 5 s.", headers={"retry-after": "5"}),
    "503 Service Unavailable",
)


class _Http(H11Protocol):
    """uvicorn's HTTP/1.1, with problem details for malformed requests."""

    def send_400_response(self, msg: str) -> None:
        self.transport.write(_MALFORMED)
        self.transport.close()


class Server(uvicorn.Server):
    """A uvicorn server that limits connections, and stops on Ctrl-C and SIGTERM, without a failure exit code.

    Args:
        config: uvicorn's configuration.
        limit: The limit of connections.
        prepare: What `run` does before the service is announced.
    """

    def __init__(self, config: uvicorn.Config, limit: ConnectionLimit, prepare: Callable[[], Awaitable[None]]) -> None:
        super().__init__(config)
        self.limit, self.prepare = limit, prepare
        self._ending = False

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve on listening sockets until the server is stopped."""
        asyncio.get_running_loop().set_exception_handler(self.limit.on_loop_error)
        for listening in sockets or []:
            if isinstance(listening, Listener):
                listening.limit = self.limit
        await super().serve(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle the signals that stop the service, without raising them again afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in _STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop in an orderly way; if that takes longer than a request may, end the process."""
        super().handle_exit(sig, frame)
        if not self._ending:
            self._ending = True
            last = threading.Timer(self.limit.limits.timeout_s, _end_process)
            last.daemon = True
            last.start()


def _end_process() -> None:
    LOG.error("the service did not stop in time (--timeout-s), and is ended.")
    os._exit(1)


def listen(host: str, port: int) -> Listener:
    """Open a listening socket, so that no other process can take the address; clients wait until they are served.

    Raises:
        InputError: The address is in use, or does not belong to this machine.
    """
    listening = None
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = Listener(family, kind, number)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError as error:
        if listening is not None:
            listening.close()
        raise InputError(
            f"cannot listen on {host} port {port} ({error.strerror}); choose another address with --host and --port."
        ) from error
    return listening


def make_server(app: FastAPI, limits: Limits, *, proxy: str | None = None) -> Server:
    """Create a server without starting it.

    Args:
        app: The application of `create_app`.
        limits: The limits on connections and times.
        proxy: Addresses of proxies whose X-Forwarded-For header is trusted, separated by commas; None for none.

    Raises:
        ConfigError: The process may open too few files, or `proxy` is not a list of addresses.
    """
    service = app.state.service
    limit = ConnectionLimit(limits, proxy=proxy, refusal=_REFUSED, ended=service.meters.connection)
    service.meters.watch("connections", "Open connections.", lambda: len(limit))

    def http(*, app_state: dict[str, Any], **settings: Any) -> Connection:
        connection = Connection(limit)
        connection.http = _Http(app_state={**app_state, "connection": connection}, **settings)
        return connection

    config = uvicorn.Config(
        app,
        http=cast(type[asyncio.Protocol], http),
        ws="none",
        lifespan="on",
        access_log=False,  # it would log query strings; the application has its own request log
        log_config=None,
        log_level="error",  # its warnings are one per malformed request, which clients could fill a disk with
        server_header=False,
        proxy_headers=proxy is not None,
        forwarded_allow_ips=proxy,
        timeout_keep_alive=int(limits.pause_s) + 1,  # `Connection` is first
        timeout_graceful_shutdown=max(1, int(limits.timeout_s) - 1),
        backlog=_BACKLOG,
    )
    return Server(config, limit, service.decoders.start)


def run(server: Server, listening: socket.socket, started: Callable[[str], None]) -> None:
    """Serve until a signal stops the server.

    Args:
        server: The server.
        listening: The listening socket.
        started: Called with the address once the server accepts requests.
    """

    async def serve() -> None:
        serving = asyncio.create_task(server.serve([listening]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.02)
        if server.started:
            await server.prepare()
            started(address_of(listening))
        await serving

    asyncio.run(serve())


def address_of(listening: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
