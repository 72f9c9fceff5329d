"""Who is admitted: API keys, a rate limit per client, slots for requests in progress, and a bounded queue."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import os
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from swclip.errors import ConfigError
from swclip.web.connection_limit import network_of
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


VARIABLE = "SWCLIP_API_KEYS"
"""Environment variable with the keys, separated by commas. A flag would be visible in the process list."""

_MIN_LENGTH = 16


class Keys:
    """The accepted API keys; without keys all requests are accepted.

    Args:
        keys: The keys.

    Example:
        >>> keys = Keys(["correct-horse-battery"])
        >>> keys.accepts("correct-horse-battery"), keys.accepts("wrong"), Keys([]).accepts(None)
        (True, False, True)
    """

    def __init__(self, keys: Sequence[str]) -> None:
        for number, key in enumerate(keys, start=1):
            if len(key) < _MIN_LENGTH or not key.isascii() or not key.isprintable():
                raise ConfigError(
                    f"{VARIABLE}: key {number} of {len(keys)} is shorter than {_MIN_LENGTH} characters or not plain "
                    "ASCII; create one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
                )
        self._digests = [_digest(key) for key in keys]

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Keys:
        """The keys in `SWCLIP_API_KEYS`.

        Raises:
            ConfigError: The variable is set without a usable key, which would leave the service open.
        """
        text = environment.get(VARIABLE)
        if text is None:
            return cls([])
        keys = [key.strip() for key in text.split(",") if key.strip()]
        if not keys:
            raise ConfigError(f"{VARIABLE} is set but contains no key; unset it to serve without keys.")
        return cls(keys)

    def __len__(self) -> int:
        return len(self._digests)

    def accepts(self, key: str | None) -> bool:
        """Whether a key is accepted, in constant time."""
        if not self._digests:
            return True
        key_digest, accepted = _digest(key or ""), False
        for digest in self._digests:  # no early exit, and digests of equal length, so that the time reveals nothing
            accepted |= hmac.compare_digest(key_digest, digest)
        return accepted


def client_name(key: str | None, address: str | None) -> str:
    """The name under which a client is counted: a digest of its key, or its address."""
    return f"address {network_of(address or 'unknown')}" if key is None else f"key {_digest(key).hex()}"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
