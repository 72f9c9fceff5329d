"""What surrounds every request: its name, its headers, its line in the log, and the last net for errors."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import time
import traceback
import uuid
from collections.abc import Mapping, Sequence

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from swclip.errors import ConfigError
from swclip.web.meters import Meters
from swclip.web.problems import Problem, response

LOG = logging.getLogger("swclip.web")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Guard:
    """ASGI middleware, the outermost one.

    The log has the method, the route as it is declared, the status and the time; no query, file name, position or
    message of an error, since those may say where a photograph is from.

    Args:
        app: The application.
        meters: Where requests are counted.
        headers: Headers of every response that does not set them itself.
    """

    def __init__(self, app: ASGIApp, meters: Meters, headers: Mapping[str, str]) -> None:
        self._app, self._meters = app, meters
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, name = time.perf_counter(), 0, uuid.uuid4()
        scope.setdefault("state", {})["instance"] = f"urn:uuid:{name}"

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                there = {key.lower() for key, _ in message["headers"]}
                added = [(key, value) for key, value in self._headers if key not in there]
                message = {**message, "headers": [*message["headers"], *added, (b"x-request-id", str(name).encode())]}
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except ClientDisconnect:
            status = status or 499  # what nginx writes for a client that went away
        except Exception as error:
            where = "".join(traceback.format_tb(error.__traceback__)[-6:])
            LOG.error("%s %s failed: %s\n%s", name, _route(scope), type(error).__name__, where)
            if status:
                raise
            problem = Problem("internal", "this should not happen; the service's log has the request's name.")
            await response(problem, f"urn:uuid:{name}")(scope, receive, answer)
        finally:
            seconds = time.perf_counter() - began
            method = scope["method"] if scope["method"] in _METHODS else "OTHER"
            self._meters.request(method, _route(scope), status, seconds)
            LOG.info("%s %s %s %d %.3fs", name, method, _route(scope), status, seconds)


def _route(scope: Scope) -> str:
    """The route as it was declared: what a client made up must neither be logged nor counted by itself."""
    return str(getattr(scope.get("route"), "path", "other"))


VARIABLE = "SWCLIP_API_KEYS"
"""Environment variable with the keys, separated by commas. A flag would show them to everybody who lists processes."""

_LEAST = 16


class Keys:
    """The keys that are accepted; none accepts everybody.

    Args:
        keys: The keys.

    Example:
        >>> keys = Keys(["correct-horse-battery"])
        >>> keys.accepts("correct-horse-battery"), keys.accepts("wrong"), Keys([]).accepts(None)
        (True, False, True)
    """

    def __init__(self, keys: Sequence[str]) -> None:
        for number, key in enumerate(keys, start=1):
            if len(key) < _LEAST or not key.isascii() or not key.isprintable():
                raise ConfigError(
                    f"{VARIABLE}: key {number} of {len(keys)} is shorter than {_LEAST} characters or not plain ASCII; "
                    "make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
                )
        self._digests = [_digest(key) for key in keys]

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Keys:
        """The keys in `SWCLIP_API_KEYS`.

        Raises:
            ConfigError: The variable is set and holds no usable key: a slip that would leave the service open.
        """
        text = environment.get(VARIABLE)
        if text is None:
            return cls([])
        keys = [key.strip() for key in text.split(",") if key.strip()]
        if not keys:
            raise ConfigError(f"{VARIABLE} is set and holds no key; unset it to serve without keys.")
        return cls(keys)

    def __len__(self) -> int:
        return len(self._digests)

    def accepts(self, key: str | None) -> bool:
        """Whether a key is one of them; in the same time whichever it is, or none."""
        if not self._digests:
            return True
        given, found = _digest(key or ""), False
        for digest in self._digests:  # all of them, and digests of one length: the time tells nothing
            found |= hmac.compare_digest(given, digest)
        return found


def client_name(key: str | None, address: str | None) -> str:
    """What a client is counted under: a digest of its key, or its address."""
    return f"address {address}" if key is None else f"key {_digest(key).hex()}"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
