"""The server: listens, lets go of those who say nothing, and ends when what it has begun is done."""

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

_ENDINGS = (signal.SIGINT, signal.SIGTERM)


def protocol_of(pause_s: float) -> type[H11Protocol]:
    """HTTP/1.1 that closes connections whose headers do not come in time, and refuses nonsense as a problem.

    Args:
        pause_s: How long a connection's first request may take until its headers are whole, seconds.
    """

    class Protocol(H11Protocol):
        _slow: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._slow = self.loop.call_later(pause_s, self._let_go)

        def handle_events(self) -> None:
            super().handle_events()
            if self._slow is not None and self.cycle is not None:
                self._slow.cancel()
                self._slow = None

        def connection_lost(self, exc: Exception | None) -> None:
            if self._slow is not None:
                self._slow.cancel()
            super().connection_lost(exc)

        def send_400_response(self, msg: str) -> None:
            body = Problem("malformed-request", "this is not HTTP/1.1; check what sends it.").body()
            content = json.dumps(body.model_dump(exclude_none=True)).encode()
            head = (
                f"HTTP/1.1 400 Bad Request\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {len(content)}\r\n"
                "connection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + content)
            self.transport.close()

        def _let_go(self) -> None:
            self.transport.close()

    return Protocol


class Server(uvicorn.Server):
    """uvicorn that ends well on Ctrl-C and SIGTERM: what was begun is finished, and the exit is no failure."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Listen for the signals that end a service, without sending them on to whoever started it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in _ENDINGS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        InputError: The address is taken, or is not this machine's.
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
            f"cannot listen at {host} port {port} ({error.strerror}); choose another with --host and --port."
        ) from error
    return listening


def make_server(app: FastAPI, limits: Limits, *, proxy: str | None = None) -> Server:
    """A server, not yet started.

    Args:
        app: The application.
        limits: How long to wait for what.
        proxy: Addresses of proxies whose X-Forwarded-For is believed, separated by commas; None for none.
    """
    config = uvicorn.Config(
        app,
        http=protocol_of(limits.pause_s),
        ws="none",
        lifespan="on",
        access_log=False,  # it would write queries; the application has a line of its own
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
    """Serve until a signal ends it.

    Args:
        server: The server.
        listening: Where.
        started: Called with its address once requests are answered.
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
    """The address of a socket that listens."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
