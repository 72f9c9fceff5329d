"""The HTTP client of all services: paced, patient, and exact about why a request was refused.

Transient refusals are tried again, and what remains is an error with its kind. The token goes to the service alone, in
a header; it is in no address, message or file.
"""

from __future__ import annotations

import json
import logging
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
import tenacity

from swclip.connectors.refusal import Refusal, broken_answer, error_message, kind_of, retry_after_s, shown_address
from swclip.errors import first_line
from swclip.versions import own_version

_TRANSIENT = ("busy", "server-error", "timeout", "unreachable", "truncated", "not-json", "empty-page")
_TIMEOUT_ATTEMPTS = 2  # an area that is too dense to be answered in time is better made smaller than asked for again
_CHUNK_BYTES = 1 << 16
MAX_BYTES = 500_000_000
"""Limit of a photograph's size; a server that sends without end is refused."""

T = TypeVar("T")
logger = logging.getLogger(__name__)


class Client:
    """Requests to a service and to the hosts of its photographs; safe to use from several threads.

    Args:
        endpoint: Address of the service; only its origin (scheme, host, port) gets the token.
        authorization: Value of the Authorization header, such as "Bearer ...", or None.
        token_variable: Environment variable of the token, for messages.
        per_second: Requests to one host in a second; None for no limit.
        connections: Connections at the same time.
        attempts: How often a request is made before its refusal is final.
        backoff_s: First wait before a repeated request; it doubles each time and is drawn at random up to that.
        max_wait_s: Longest time that `Retry-After` may ask to wait.
        timeout_s: Longest time without a byte.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        authorization: str | None = None,
        token_variable: str | None = None,
        per_second: float | None = None,
        connections: int = 8,
        attempts: int = 6,
        backoff_s: float = 1.0,
        max_wait_s: float = 300.0,
        timeout_s: float = 60.0,
    ) -> None:
        self.retried: Counter[str] = Counter()
        self._origin = _origin(httpx.URL(endpoint))
        self._authorization = authorization
        self._token_variable = token_variable
        self._interval_s = 0.0 if per_second is None else 1.0 / per_second
        self._attempts = attempts
        self._backoff = tenacity.wait_random_exponential(multiplier=backoff_s, max=60.0)
        self._max_wait_s = max_wait_s
        self._lock = threading.Lock()
        self._next_s: dict[str, float] = {}
        self._stopped = threading.Event()
        self._http = httpx.Client(
            headers={"User-Agent": f"swclip/{own_version()} (street-view geo-localization; one user's own download)"},
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            timeout=timeout_s,
            follow_redirects=True,
            verify=_certificates(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._http.close()

    def stop(self) -> None:
        """Let waiting and reading requests of all threads end with a refusal."""
        self._stopped.set()

    def json(self, url: str, params: Mapping[str, str | int | float] | None, parse: Callable[[Any, str], T]) -> T:
        """Get a JSON answer.

        Args:
            url: The address, which may come from an earlier answer.
            params: Parameters of the query; None to use those of `url`.
            parse: Called with the JSON value and the address for messages; a transient `Refusal` that it raises repeats
                the request. Its result is returned.

        Raises:
            Refusal: There is no such answer, after all attempts.
        """
        return self._patiently(lambda: parse(*self._json(url, params)))

    def download(self, url: str, target: Path) -> int:
        """Write the picture at an address to a file; return its size in bytes. A refusal leaves no file.

        Raises:
            Refusal: The address gives no picture, after all attempts.
        """
        try:
            return self._patiently(lambda: self._download(url, target))
        except Refusal:
            target.unlink(missing_ok=True)
            raise

    def size_bytes(self, url: str) -> int | None:
        """The size of a picture as its server states it, without its bytes; None if it does not say or refuses."""
        try:
            response = self._send("HEAD", url, None)
        except Refusal:
            return None
        try:
            return int(response.headers["content-length"])
        except (KeyError, ValueError):
            return None
        finally:
            response.close()

    def _patiently(self, request: Callable[[], T]) -> T:
        """Make a request, and repeat it while its refusal is transient and attempts are left."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, Refusal) and self._again(error)),
            stop=self._is_last,
            wait=self._wait_s,
            before_sleep=self._count,
            sleep=self._sleep,
            reraise=True,
        )
        return retrying(request)

    def _again(self, refusal: Refusal) -> bool:
        return (
            refusal.kind in _TRANSIENT
            and (refusal.retry_after_s or 0.0) <= self._max_wait_s
            and not self._stopped.is_set()
        )

    def _is_last(self, state: tenacity.RetryCallState) -> bool:
        refusal = _refusal(state)
        return state.attempt_number >= (
            min(_TIMEOUT_ATTEMPTS, self._attempts) if refusal.kind == "timeout" else self._attempts
        )

    def _wait_s(self, state: tenacity.RetryCallState) -> float:
        # Retry-After holds every request to its host, see `_take_turn`.
        return 0.0 if _refusal(state).retry_after_s is not None else self._backoff(state)

    def _count(self, state: tenacity.RetryCallState) -> None:
        refusal = _refusal(state)
        with self._lock:
            self.retried[refusal.kind] += 1
        logger.info("%s; attempt %d of %d follows", refusal, state.attempt_number + 1, self._attempts)

    def _sleep(self, seconds: float) -> None:
        self._stopped.wait(seconds)

    def _take_turn(self, host: str) -> None:
        """Wait until the host may be asked: paced, and not before the time that it named itself."""
        while not self._stopped.is_set():
            with self._lock:
                now = time.monotonic()
                start = self._next_s.get(host, 0.0)
                if start <= now:
                    self._next_s[host] = now + self._interval_s
                    return
            self._sleep(start - now)

    def _hold(self, host: str, seconds: float) -> None:
        with self._lock:
            self._next_s[host] = max(self._next_s.get(host, 0.0), time.monotonic() + min(seconds, self._max_wait_s))

    def _json(self, url: str, params: Mapping[str, str | int | float] | None) -> tuple[Any, str]:
        response = self._send("GET", url, params, {"Accept": "application/json, application/geo+json"})
        address = shown_address(response.request.url)
        try:
            body = self._read(response, address)
        finally:
            response.close()
        try:
            return json.loads(body), address
        except ValueError as error:
            kind = response.headers.get("content-type", "").partition(";")[0]
            if "html" in kind or body.lstrip()[:1] == b"<":
                raise Refusal("not-json", address, "answers with a web page where JSON is documented.") from None
            detail = f"the JSON of its answer is cut short or broken ({first_line(error)})."
            raise Refusal(
                "truncated" if body else "empty-page", address, detail if body else "the answer is empty."
            ) from None

    def _read(self, response: httpx.Response, address: str) -> bytes:
        try:
            body = bytearray()
            for chunk in response.iter_bytes(_CHUNK_BYTES):
                body += chunk
                self._check_progress(len(body), address)
            return bytes(body)
        except httpx.HTTPError as error:
            raise broken_answer(error, address) from error

    def _download(self, url: str, target: Path) -> int:
        response = self._send("GET", url, None, {"Accept": "image/*", "Accept-Encoding": "identity"})
        address = shown_address(response.request.url)
        size = 0
        try:
            if response.headers.get("content-type", "").startswith(("text/", "application/json")):
                raise Refusal("not-json", address, "answers with text where a picture should be.")
            with target.open("wb") as stream:
                for chunk in response.iter_raw(_CHUNK_BYTES):
                    stream.write(chunk)
                    size += len(chunk)
                    self._check_progress(size, address)
        except httpx.HTTPError as error:
            raise broken_answer(error, address) from error
        finally:
            response.close()
        if size == 0:
            raise Refusal("truncated", address, "the picture has no bytes.")
        return size

    def _check_progress(self, size: int, address: str) -> None:
        if size > MAX_BYTES:
            raise Refusal("too-large", address, f"sends more than {MAX_BYTES / 1e6:.0f} MB.")
        if self._stopped.is_set():
            raise Refusal("stopped", address, "the download was stopped.")

    def _send(
        self,
        method: str,
        url: str,
        params: Mapping[str, str | int | float] | None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send a request and return its answer with status 200, the body unread."""
        try:
            request = self._http.build_request(method, url, params=params, headers=headers)
        except (httpx.InvalidURL, TypeError) as error:
            raise Refusal("schema", self._redacted(url), f"is not an address ({first_line(error)}).") from error
        address = shown_address(request.url)
        if request.url.scheme not in ("http", "https"):
            raise Refusal("schema", address, "is not an address of HTTP.")
        if self._authorization is not None and _origin(request.url) == self._origin:
            request.headers["Authorization"] = self._authorization
        self._take_turn(request.url.netloc.decode())
        if self._stopped.is_set():
            raise Refusal("stopped", address, "the download was stopped.")
        try:
            response = self._http.send(request, stream=True)
        except httpx.HTTPError as error:
            raise broken_answer(error, address) from error
        if response.status_code == 200:
            return response
        try:
            raise self._refused(response)
        finally:
            response.close()

    def _refused(self, response: httpx.Response) -> Refusal:
        status, url = response.status_code, response.request.url
        wait_s = retry_after_s(response.headers.get("retry-after"))
        if status in (429, 503) and wait_s is not None:
            self._hold(url.netloc.decode(), wait_s)
        try:
            response.read()
            said = self._redacted(error_message(response.text))
        except httpx.HTTPError:
            said = ""
        detail = f"HTTP {status} {response.reason_phrase}" + (f": {said}" if said else "")
        if status == 401 and _origin(url) == self._origin:
            return Refusal("token", shown_address(url), self._about_token(detail), status=status)
        if wait_s is not None:
            detail += f"; it asks to wait {wait_s:.0f} s"
        return Refusal(kind_of(status), shown_address(url), f"{detail}.", status=status, retry_after_s=wait_s)

    def _about_token(self, detail: str) -> str:
        if self._token_variable is None:
            return f"{detail}. The service asks for a token, which it is documented not to need."
        state = "is refused" if self._authorization is not None else "is not set"
        return (
            f"{detail}. The token in ${self._token_variable} {state}: set a valid one and run the same command again; "
            "what was fetched is kept."
        )

    def _redacted(self, text: str) -> str:
        if self._authorization is None:
            return text
        return text.replace(self._authorization.rpartition(" ")[2], "***")


@cache
def _certificates() -> ssl.SSLContext:
    return httpx.create_ssl_context()  # reading them takes a tenth of a second


def _refusal(state: tenacity.RetryCallState) -> Refusal:
    error = None if state.outcome is None else state.outcome.exception()
    assert isinstance(error, Refusal)  # nothing else is retried
    return error


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
