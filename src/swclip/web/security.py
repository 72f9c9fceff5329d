"""Request ids, security headers, the request log, unexpected errors, and API keys."""

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
    """The outermost ASGI middleware.

    The log contains the method, the declared route, the status and the time; no query strings, file names, positions or
    error messages, since these may reveal where a photograph was taken.

    Args:
        app: The application.
        meters: The metrics of the service.
        headers: Default headers of all responses.
    """

    def __init__(self, app: ASGIApp, meters: Meters, headers: Mapping[str, str]) -> None:
        self._app, self._meters = app, meters
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, request_id = time.perf_counter(), 0, uuid.uuid4()
        scope.setdefault("state", {})["instance"] = f"urn:uuid:{request_id}"

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                present = {key.lower() for key, _ in message["headers"]}
                added = [(key, value) for key, value in self._headers if key not in present]
                message = {
                    **message,
                    "headers": [*message["headers"], *added, (b"x-request-id", str(request_id).encode())],
                }
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            status = status or 499  # as nginx logs a client that disconnected
        except Exception as error:
            where = "".join(traceback.format_tb(error.__traceback__)[-6:])
            LOG.error("%s %s failed: %s\n%s", request_id, _route(scope), type(error).__name__, where)
            if status:
                raise
            problem = Problem("internal", "unexpected error; see the service's log for the id of this request.")
            await response(problem, f"urn:uuid:{request_id}")(scope, receive, send_with_headers)
        finally:
            seconds = time.perf_counter() - began
            method = scope["method"] if scope["method"] in _METHODS else "OTHER"
            self._meters.request(method, _route(scope), status, seconds)
            LOG.info("%s %s %s %d %.3fs", request_id, method, _route(scope), status, seconds)


def _route(scope: Scope) -> str:
    """The declared route, so that addresses invented by clients are neither logged nor counted separately."""
    return str(getattr(scope.get("route"), "path", "other"))


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
    return f"address {address}" if key is None else f"key {_digest(key).hex()}"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
