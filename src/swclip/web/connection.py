"""One connection: a deadline for whatever it waits for, and an orderly end.

`Connection` wraps an HTTP implementation from outside, between it and asyncio's transport, so that it depends on
neither's internals. The implementation parses; the application says when a request begins, waits for its body, and is
answered (`swclip.web.middleware.Guard`); this module counts the time.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from typing import Any, Literal

from swclip.web.connection_limit import ConnectionLimit

_LINGER_S = 2.0
_LINGER_BYTES = 64 * 2**20

Phase = Literal["idle", "headers", "service", "body", "response", "unread"]
"""What a connection waits for: a request, the rest of its headers, the service, the body of the request, the client to
take the response, or (once the service closed its side) the rest of a request that nobody reads."""


class Connection(asyncio.Protocol):
    """A connection with deadlines.

    Args:
        limit: The count of connections, with the limits on times.

    Attributes:
        http: The HTTP implementation; set before the connection is made.
        client: Name of the client in the count.
        replaced: Whether a new connection takes its place.
    """

    http: asyncio.Protocol

    def __init__(self, limit: ConnectionLimit) -> None:
        self._limit = limit
        self._pause_s, self._timeout_s = limit.limits.pause_s, limit.limits.timeout_s
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None
        self._phase: Phase = "idle"
        self._since = self._deadline = self._progress = time.monotonic()
        self._written = self._taken = self._discarded = self._requests = 0
        self._answered = self._unread = False
        self.client, self.replaced = "", False

    # Called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to count."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.client = self._limit.client_of(transport.get_extra_info("peername"))
        self._limit.add(self)
        self._enter("idle", self._pause_s)
        self.http.connection_made(_Watched(transport, self))
        self._check()

    def data_received(self, data: bytes) -> None:
        """Pass bytes on, or discard them where nobody reads the rest of a request."""
        if self._phase == "unread":
            self._discarded += len(data)
            if self._discarded > _LINGER_BYTES:
                self._transport.abort()
            return
        if self._phase == "response" and self._answered:
            self._enter("idle", self._pause_s)
        if self._phase == "idle":
            self._enter("headers", self._pause_s)  # once, however many pieces they come in
        elif self._phase == "body":
            self._since = time.monotonic()
        self.http.data_received(data)

    def eof_received(self) -> bool | None:
        """The client closed its side."""
        return False if self._phase == "unread" else self.http.eof_received()

    def pause_writing(self) -> None:
        """Pass on that the client takes a response more slowly than it is written."""
        self.http.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that the client took what was written."""
        self.http.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop to count."""
        if self._timer is not None:
            self._timer.cancel()
        self._limit.discard(self)
        self.http.connection_lost(exc)

    # Called by the application

    def request_began(self) -> int:
        """A request's headers are complete; its number on this connection."""
        self._answered = self._unread = False
        self._requests += 1
        # The application answers in time by itself; this ends a connection whose request it lost.
        self._enter("service", self._timeout_s + self._pause_s)
        return self._requests

    def body_awaited(self) -> None:
        """The application waits for a part of the request's body, under its own deadline."""
        if self._phase == "service":
            self._phase, self._since = "body", time.monotonic()

    def body_received(self) -> None:
        """The application has the part that it waited for."""
        if self._phase == "body":
            self._phase = "service"

    def response_began(self, *, unread: bool) -> None:
        """The response begins.

        Args:
            unread: Whether a part of the request is not read, so that the connection cannot be used further.
        """
        self._unread = unread
        self._enter("response", self._timeout_s)

    def request_ended(self, number: int) -> None:
        """The response is written, though perhaps not yet taken by the client; the next request may have begun."""
        if number != self._requests:
            return
        self._answered = True
        if self._phase != "unread" and not self._transport.get_write_buffer_size():
            self._enter("idle", self._pause_s)

    # Called by the limit and the HTTP implementation

    @property
    def waiting_since(self) -> float | None:
        """Since when the connection waits for its client, by `time.monotonic()`; None where it does not."""
        if self.replaced:
            return None
        if self._phase in ("idle", "headers", "body", "unread"):
            return self._since
        return self._progress if self._transport.get_write_buffer_size() else None

    def replace(self) -> None:
        """End the connection for a new one."""
        self.replaced = True
        self._end("replaced")

    def count_written(self, n_bytes: int) -> None:
        """Count bytes of a response."""
        self._written += n_bytes

    @property
    def unread(self) -> bool:
        """Whether the service closed its side, and the rest of the request is discarded."""
        return self._phase == "unread"

    def close(self) -> None:
        """Close the connection after what was written.

        Closing with unread bytes resets a connection, and the client may not receive the response. So where a request
        is not read to its end, only the sending side is closed, and the rest is discarded for a while.
        """
        if self.unread or self._transport.is_closing():
            return
        if not (self._unread or self._phase == "headers"):
            self._transport.close()
            return
        self._enter("unread", min(_LINGER_S, self._pause_s))
        try:
            self._transport.write_eof()
        except OSError:  # the client is gone
            self._transport.abort()
            return
        self._transport.resume_reading()

    def _enter(self, phase: Phase, within_s: float) -> None:
        self._phase, self._since = phase, time.monotonic()
        self._deadline = self._since + within_s

    def _check(self) -> None:
        """End the connection if a deadline has passed; else look again soon."""
        now, buffered = time.monotonic(), self._transport.get_write_buffer_size()
        taken = self._written - buffered
        if taken != self._taken or not buffered:
            self._taken, self._progress = taken, now
        if self._answered and self._phase == "response" and not buffered:
            self._enter("idle", self._pause_s)
        if buffered and now - self._progress > self._pause_s:
            self._end("response")
        elif now > self._deadline:
            self._end(self._phase)
        self._timer = self._loop.call_later(min(1.0, self._pause_s / 4), self._check)

    def _end(self, reason: str) -> None:
        if not self._transport.is_closing() or self._transport.get_write_buffer_size():
            self._limit.ended(reason)
        if self._phase in ("idle", "headers") and not self._transport.get_write_buffer_size():
            self._transport.close()
            return
        # A reset frees the memory of what the client does not take, which the system would else keep for minutes.
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


class _Watched(asyncio.Transport):
    """The transport as the HTTP implementation sees it: what it writes is counted, and closing takes account of the
    rest of a request."""

    def __init__(self, transport: asyncio.Transport, connection: Connection) -> None:
        super().__init__()
        self._transport, self._connection = transport, connection

    def write(self, data: Any) -> None:
        if not self.is_closing():  # asyncio would log a line for each write after the end
            self._connection.count_written(len(data))
            self._transport.write(data)

    def close(self) -> None:
        self._connection.close()

    def abort(self) -> None:
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._connection.unread or self._transport.is_closing()

    def pause_reading(self) -> None:
        if not self._connection.unread:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()
