"""Reading request bodies within time limits, and draining those of refused requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from swclip.web.problems import Problem

_DRAIN_BYTES = 64 * 2**20
_DRAIN_S = 2.0


class Body:
    """The body of a request, read in chunks.

    Args:
        receive: The request's ASGI channel, not yet read from.
        pause_s: Maximum wait for a chunk in seconds.
        deadline: Latest time for the end of the body, by `time.monotonic()`.
    """

    def __init__(self, receive: Receive, pause_s: float, deadline: float) -> None:
        self._receive, self._pause_s, self._deadline = receive, pause_s, deadline
        self.complete = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the chunks of the body.

        Raises:
            Problem: The body arrived too slowly.
            ClientDisconnect: The client disconnected.
        """
        while not self.complete:
            try:
                chunk = await self._next(min(self._pause_s, self._deadline - time.monotonic()))
            except TimeoutError:
                raise Problem(
                    "too-slow",
                    f"the body paused for {self._pause_s:g} s, or took too long in total; send smaller photographs.",
                ) from None
            if chunk:
                yield chunk

    async def drain(self) -> None:
        """Read and discard the rest of the body, within bounds.

        Closing a connection with unread bytes resets it, and the client may not receive the response.
        """
        n_bytes, deadline = 0, time.monotonic() + _DRAIN_S
        while not self.complete and n_bytes < _DRAIN_BYTES:
            try:
                n_bytes += len(await self._next(deadline - time.monotonic()))
            except (TimeoutError, ClientDisconnect):
                return

    async def _next(self, within_s: float) -> bytes:
        async with asyncio.timeout(within_s):
            message: Message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        self.complete = not message.get("more_body", False)
        return bytes(message.get("body", b""))
