"""A request's body against the clock: slow senders are let go, refused ones are heard out before the door closes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from swclip.web.problems import Problem

_HEARD_OUT_BYTES = 64 * 2**20
_HEARD_OUT_S = 2.0


class Body:
    """The pieces of a body.

    Args:
        receive: The request's ASGI channel, from which nothing was taken yet.
        pause_s: Longest wait for a piece, seconds.
        deadline: `time.monotonic()` until which all of it must be there.
    """

    def __init__(self, receive: Receive, pause_s: float, deadline: float) -> None:
        self._receive, self._pause_s, self._deadline = receive, pause_s, deadline
        self.whole = False

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body, piece by piece.

        Raises:
            Problem: It came too slowly.
            ClientDisconnect: The sender went away.
        """
        while not self.whole:
            try:
                piece = await self._next(min(self._pause_s, self._deadline - time.monotonic()))
            except TimeoutError:
                raise Problem(
                    "too-slow",
                    f"the body paused for {self._pause_s:g} s, or took too long in all; send smaller photographs.",
                ) from None
            if piece:
                yield piece

    async def hear_out(self) -> None:
        """Read and drop what is left, within bounds.

        A connection that is closed on unread bytes is reset, and the sender may never see why it was refused.
        """
        taken, until = 0, time.monotonic() + _HEARD_OUT_S
        while not self.whole and taken < _HEARD_OUT_BYTES:
            try:
                taken += len(await self._next(until - time.monotonic()))
            except (TimeoutError, ClientDisconnect):
                return

    async def _next(self, within_s: float) -> bytes:
        async with asyncio.timeout(within_s):
            message: Message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        self.whole = not message.get("more_body", False)
        return bytes(message.get("body", b""))
