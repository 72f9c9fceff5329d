"""Who is let in: places for requests whose photographs are in memory, a bounded queue, a rate for each client."""

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
    """Places for requests, and a queue for those that find none free.

    Args:
        places: Requests that are let in at once.
        queue: Requests that may wait; further ones are refused.
    """

    def __init__(self, places: int, queue: int) -> None:
        self._free, self._places, self._queue = asyncio.Semaphore(places), places, queue
        self.waiting = self.inside = 0
        self._mean_s = 0.5

    @asynccontextmanager
    async def place(self, deadline: float) -> AsyncIterator[None]:
        """Wait for a place and hold it.

        Args:
            deadline: `time.monotonic()` until which to wait.

        Raises:
            Problem: The queue is full, or no place came free in time.
        """
        if self._free.locked() and self.waiting >= self._queue:
            raise busy(self.retry_after_s)
        self.waiting += 1
        try:
            # Not `wait_for`: it can lose a cancellation that comes together with the place.
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._free.acquire()
        except TimeoutError:
            raise busy(self.retry_after_s, "no place came free in time") from None
        finally:
            self.waiting -= 1
        self.inside += 1
        began = time.monotonic()
        try:
            yield
        finally:
            self._free.release()
            self.inside -= 1
            self._mean_s += 0.1 * (time.monotonic() - began - self._mean_s)

    @property
    def retry_after_s(self) -> int:
        """When those that are there now should be done, whole seconds."""
        return min(60, max(1, math.ceil(self._mean_s * (1 + self.waiting / self._places))))


class Rate:
    """A bucket of requests for each client, refilled as time goes by; the clients seen last are remembered.

    Args:
        per_minute: Requests a minute, and as many at once after a quiet minute; 0 for no limit.
        clock: Seconds.

    Example:
        >>> rate = Rate(1, clock=lambda: 0.0)
        >>> rate.check("a")
        >>> try:
        ...     rate.check("a")
        ... except Problem as problem:
        ...     problem.kind, problem.headers
        ('too-many-requests', {'Retry-After': '60'})
    """

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._most, self._clock = per_minute / 60.0, max(1.0, per_minute), clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def check(self, client: str) -> None:
        """Count a request.

        Raises:
            Problem: The client has used up its rate.
        """
        if self._per_s == 0:
            return
        now = self._clock()
        left, at = self._left.pop(client, (self._most, now))
        left = min(self._most, left + (now - at) * self._per_s)
        self._left[client] = (left - 1.0 if left >= 1.0 else left, now)
        while len(self._left) > _CLIENTS:
            self._left.popitem(last=False)
        if left < 1.0:
            wait_s = math.ceil((1.0 - left) / self._per_s)
            raise Problem(
                "too-many-requests",
                f"{self._per_s * 60:g} requests a minute are allowed; try again in {wait_s} s.",
                headers={"Retry-After": str(wait_s)},
            )
