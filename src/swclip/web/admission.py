"""Admission control: slots for requests in progress, a bounded queue, and a rate limit per client."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from swclip.web.problems import Problem, busy

_CLIENTS = 10_000


class Admission:
    """Slots for requests in progress, and a queue for requests that wait for a slot.

    Args:
        slots: Maximum number of requests in progress.
        queue: Maximum number of waiting requests; further ones are refused.
    """

    def __init__(self, slots: int, queue: int) -> None:
        self._free, self._slots, self._queue = asyncio.Semaphore(slots), slots, queue
        self.waiting = self.active = 0
        self._mean_s = 0.5

    @asynccontextmanager
    async def slot(self, deadline: float) -> AsyncIterator[None]:
        """Wait for a slot and hold it.

        Args:
            deadline: Latest time to wait for, by `time.monotonic()`.

        Raises:
            Problem: The queue is full, or no slot became free in time.
        """
        if self._free.locked() and self.waiting >= self._queue:
            raise busy(self.retry_after_s)
        self.waiting += 1
        try:
            # Not `wait_for`, which can lose a cancellation that arrives together with the slot.
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._free.acquire()
        except TimeoutError:
            raise busy(self.retry_after_s, "no slot became free in time") from None
        finally:
            self.waiting -= 1
        self.active += 1
        began = time.monotonic()
        try:
            yield
        finally:
            self._free.release()
            self.active -= 1
            self._mean_s += 0.1 * (time.monotonic() - began - self._mean_s)

    @property
    def retry_after_s(self) -> int:
        """Estimated time until the current requests are done, in whole seconds."""
        return min(60, max(1, math.ceil(self._mean_s * (1 + self.waiting / self._slots))))


class RateLimiter:
    """A token bucket per client; only the most recent clients are remembered.

    Args:
        per_minute: Requests per minute, and the size of a burst after an idle minute; 0 for no limit.
        clock: Returns the time in seconds.

    Example:
        >>> rate = RateLimiter(1, clock=lambda: 0.0)
        >>> rate.check("a")
        >>> try:
        ...     rate.check("a")
        ... except Problem as problem:
        ...     problem.kind, problem.headers
        ('too-many-requests', {'Retry-After': '60'})
    """

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._capacity, self._clock = per_minute / 60.0, max(1.0, per_minute), clock
        self._tokens: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def check(self, client: str) -> None:
        """Count a request.

        Raises:
            Problem: The client exceeds its rate.
        """
        if self._per_s == 0:
            return
        now = self._clock()
        tokens, updated = self._tokens.pop(client, (self._capacity, now))
        tokens = min(self._capacity, tokens + (now - updated) * self._per_s)
        self._tokens[client] = (tokens - 1.0 if tokens >= 1.0 else tokens, now)
        while len(self._tokens) > _CLIENTS:
            self._tokens.popitem(last=False)
        if tokens < 1.0:
            wait_s = math.ceil((1.0 - tokens) / self._per_s)
            raise Problem(
                "too-many-requests",
                f"{self._per_s * 60:g} requests per minute are allowed; try again in {wait_s} s.",
                headers={"Retry-After": str(wait_s)},
            )
