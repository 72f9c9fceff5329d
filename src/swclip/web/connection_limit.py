"""How many connections there may be, in all and from one address.

A connection takes a descriptor of the process, and a client that opens one and stays silent pays nothing for it. So a
new connection beyond a limit replaces the one that has waited for its client the longest. Clients that talk are served
at any time; it is the silent ones that leave. Where all talk, a new connection is refused.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from swclip.errors import ConfigError
from swclip.web.settings import Limits

LOG = logging.getLogger("swclip.web")
_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_RESERVED = 64  # descriptors for all that is not a connection: the gallery, thumbnails, decoders, libraries
_FEWEST = 16
_REFUSED_IN_A_ROW = 64
_LOG_EVERY_S = 60.0
_SILENT_S = 0.5  # a client that is not silent has sent its request by then


class Replaceable(Protocol):
    """A connection, as far as the limit is concerned."""

    client: str
    replaced: bool

    @property
    def waiting_since(self) -> float | None:
        """Since when it waits for its client, by `time.monotonic()`; None where it does not."""

    def replace(self) -> None:
        """End it for a new one, before the event loop's next turn."""


class ConnectionLimit:
    """Counts connections, and decides about new ones.

    Args:
        limits: The limits of the service.
        proxy: Addresses and networks of trusted proxies, separated by commas, or "*". Their connections are those of
            many clients, and are limited only in all.
        refusal: Bytes that a refused client gets.
        ended: Called with the reason for which the service ended or refused a connection.

    Attributes:
        most: Maximum number of connections, at most as many as the process may open.

    Raises:
        ConfigError: The process may open too few descriptors, or `proxy` is not a list of addresses.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        proxy: str | None = None,
        refusal: bytes = b"",
        ended: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.limits, self.ended, self._refusal = limits, ended, refusal
        self.most = min(limits.max_connections, _max_descriptors() - _RESERVED)
        if self.most < min(_FEWEST, limits.max_connections):
            raise ConfigError(
                f"this process may open {_max_descriptors()} files, too few to serve; allow "
                f"{_RESERVED + limits.max_connections} (`ulimit -n`, or LimitNOFILE of systemd)."
            )
        self._proxies = None if proxy == "*" else _networks(proxy)
        self._sockets: Counter[str] = Counter()
        self._connections: set[Replaceable] = set()
        self._leaving = 0
        self._exhausted_s = self._logged_s = -_LOG_EVERY_S

    def __len__(self) -> int:
        return self._sockets.total()

    def accept(self, listening: socket.socket) -> tuple[socket.socket, Any]:
        """Accept the next connection for which there is room, or can be made; others are refused.

        Args:
            listening: A listening socket that does not block.

        Raises:
            BlockingIOError: No connection is waiting, or one that was replaced is not closed yet.
            OSError: The process has no descriptor left; raised at most once a second.
        """
        for _ in range(_REFUSED_IN_A_ROW):  # then the other connections have their turn
            if self._leaving:
                break
            try:
                accepted, address = socket.socket.accept(listening)
            except OSError as error:
                if error.errno in _NO_DESCRIPTORS:
                    self._make_descriptor()
                raise
            client = self.client_of(address)
            if self._has_room(client):
                self._sockets[client] += 1
                return _Counted(accepted, self._sockets, client), address
            self.ended("refused")
            _refuse(accepted, self._refusal)
        raise BlockingIOError

    def client_of(self, address: Any) -> str:
        """The name under which a connection is counted: its address, the network of IPv6, or "" for a proxy."""
        if not isinstance(address, tuple):
            return ""
        ip = _ip_address(str(address[0]))
        if self._proxies is None or any(ip in network for network in self._proxies):
            return ""
        return network_of(str(address[0]))

    def add(self, connection: Replaceable) -> None:
        """Note a connection, which may be replaced while it waits for its client."""
        self._connections.add(connection)

    def discard(self, connection: Replaceable) -> None:
        """Forget a connection that is closed."""
        self._connections.discard(connection)
        self._leaving -= connection.replaced

    def on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle an event loop's error: without descriptors there is one line a minute, not one for each attempt."""
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in _NO_DESCRIPTORS and "socket" in context):
            loop.default_exception_handler(context)
        elif time.monotonic() - self._logged_s >= _LOG_EVERY_S:
            self._logged_s = time.monotonic()
            LOG.error("connections cannot be accepted (%s); %d are open.", error.strerror, len(self))

    def _has_room(self, client: str) -> bool:
        if client and self._sockets[client] >= self.limits.max_connections_per_address:
            return self._replace(item for item in self._connections if item.client == client)
        return len(self) < self.most or self._replace(self._connections)

    def _replace(self, connections: Iterable[Replaceable]) -> bool:
        """End the connection that has waited for its client the longest; False where none has waited for a while."""
        waiting = ((since, item) for item in connections if (since := item.waiting_since) is not None)
        longest = min(waiting, key=lambda entry: entry[0], default=None)
        if longest is None or time.monotonic() - longest[0] < _SILENT_S:
            return False
        self._leaving += 1
        longest[1].replace()
        return True

    def _make_descriptor(self) -> None:
        """Replace a connection where descriptors ran out in spite of the limit.

        asyncio then stops to accept for a second, but first tries for the rest of its turn, and reports each attempt.
        """
        if time.monotonic() - self._exhausted_s < 1.0:
            raise BlockingIOError
        self._exhausted_s = time.monotonic()
        self._replace(self._connections)


class Listener(socket.socket):
    """A listening socket whose new connections can be limited.

    Attributes:
        limit: The limit; None for none.
    """

    limit: ConnectionLimit | None = None

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection; see `ConnectionLimit.accept`."""
        return super().accept() if self.limit is None else self.limit.accept(self)


class _Counted(socket.socket):
    """A connection's socket, counted until its descriptor is closed."""

    def __init__(self, accepted: socket.socket, counts: Counter[str], client: str) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
        self._counts, self._client = counts, client

    def close(self) -> None:
        if self.fileno() != -1:
            self._counts[self._client] -= 1
            if not self._counts[self._client]:
                del self._counts[self._client]
        super().close()


def network_of(address: str) -> str:
    """What one client has: an IPv4 address, or the /64 network of an IPv6 address.

    Example:
        >>> network_of("192.0.2.7"), network_of("::ffff:192.0.2.7"), network_of("2001:db8::7"), network_of("unknown")
        ('192.0.2.7', '192.0.2.7', '2001:db8::/64', 'unknown')
    """
    try:
        ip = _ip_address(address)
    except ValueError:
        return address
    return str(ip if ip.version == 4 else ipaddress.ip_network((ip, 64), strict=False))


def _ip_address(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    ip = ipaddress.ip_address(address.partition("%")[0])  # without an interface
    return ip if isinstance(ip, ipaddress.IPv4Address) else ip.ipv4_mapped or ip


def _networks(proxy: str | None) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    try:
        return [ipaddress.ip_network(part.strip()) for part in (proxy or "").split(",") if part.strip()]
    except ValueError as error:
        raise ConfigError(f"--proxy {proxy!r}: {error}; give addresses or networks, separated by commas.") from None


def _refuse(accepted: socket.socket, refusal: bytes) -> None:
    with accepted:
        accepted.setblocking(False)
        try:
            accepted.send(refusal)
            accepted.shutdown(socket.SHUT_WR)
        except OSError:  # the client is gone
            pass


def _max_descriptors() -> int:
    if sys.platform == "win32":
        return 8192  # what its C runtime allows; sockets are not even counted there
    import resource

    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 2**20 if soft == resource.RLIM_INFINITY else soft
