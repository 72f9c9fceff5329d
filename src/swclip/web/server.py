"""The HTTP server, with timeouts for idle connections and a graceful shutdown."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from swclip.errors import InputError
from swclip.web.problems import MEDIA_TYPE, Problem
from swclip.web.settings import Limits

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def protocol_of(pause_s: float) -> type[H11Protocol]:
    """The HTTP/1.1 protocol with a timeout for request headers and problem details for malformed requests.

    Args:
        pause_s: Maximum time for the headers of a connection's first request, in seconds.
    """

    class Protocol(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._timer = self.loop.call_later(pause_s, self._close)

        def handle_events(self) -> None:
            super().handle_events()
            if self._timer is not None and self.cycle is not None:
                self._timer.cancel()
                self._timer = None

        def connection_lost(self, exc: Exception | None) -> None:
            if self._timer is not None:
                self._timer.cancel()
            super().connection_lost(exc)

        def send_400_response(self, msg: str) -> None:
            body = Problem("malformed-request", "the request is not valid HTTP/1.1; check the client.").body()
            content = json.dumps(body.model_dump(exclude_none=True)).encode()
            head = (
                f"HTTP/1.1 400 Bad Request\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {len(content)}\r\n"
                "connection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + content)
            self.transport.close()

        def _close(self) -> None:
            self.transport.close()

    return Protocol


class Server(uvicorn.Server):
    """A uvicorn server that stops gracefully on Ctrl-C and SIGTERM, without a failure exit code."""

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


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket.

    Raises:
        InputError: The address is in use, or does not belong to this machine.
    """
    listening = None
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, number)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
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
        app: The application.
        limits: The limits, for timeouts.
        proxy: Addresses of proxies whose X-Forwarded-For header is trusted, separated by commas; None for none.
    """
    config = uvicorn.Config(
        app,
        http=protocol_of(limits.pause_s),
        ws="none",
        lifespan="on",
        access_log=False,  # it would log query strings; the application has its own request log
        log_config=None,
        server_header=False,
        proxy_headers=proxy is not None,
        forwarded_allow_ips=proxy,
        timeout_keep_alive=max(1, int(limits.pause_s)),
        timeout_graceful_shutdown=int(limits.timeout_s) + 1,
        backlog=1024,
    )
    return Server(config)


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
            started(address_of(listening))
        await serving

    asyncio.run(serve())


def address_of(listening: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
