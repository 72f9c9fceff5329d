"""Why a service did not answer: a refusal is never an absence, so each way of not answering has a kind of its own."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

import httpx

from swclip.errors import ServiceError, first_line

Kind = Literal[
    "token", "forbidden", "gone", "bad-request", "busy", "server-error", "timeout", "unreachable", "truncated",
    "not-json", "empty-page", "schema", "too-large", "stopped",
]  # fmt: skip
"""Why a request has no answer: the token was refused (401); forbidden (403); the thing does not exist (404, 410); the
request is not accepted (other 4xx); too many requests (429); 5xx; no answer in time (408, 504, or the client's own
limit); no connection; a body that ends early; HTML or other text in place of JSON or of a picture; an empty page where
there is more; an answer without fields that the service documents; a body beyond the limit of size; stopped by us."""


class Refusal(ServiceError):
    """A request to a service without an answer.

    Attributes:
        kind: What happened.
        status: Status code of the answer, None without one.
        detail: What happened, in words, without the address.
        retry_after_s: Seconds that the server asks to wait, None if it does not say.
    """

    def __init__(
        self, kind: Kind, address: str, detail: str, *, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(f"{address}: {detail}")
        self.kind: Kind = kind
        self.status = status
        self.detail = detail
        self.retry_after_s = retry_after_s


def shown_address(url: httpx.URL) -> str:
    """An address without its query, which may be signed, and without a name and password."""
    return f"{url.scheme}://{url.netloc.decode()}{url.path}"


def kind_of(status: int) -> Kind:
    kinds: dict[int, Kind] = {
        401: "forbidden", 403: "forbidden", 404: "gone", 408: "timeout", 410: "gone", 429: "busy", 504: "timeout",
    }  # fmt: skip
    return kinds.get(status, "server-error" if status >= 500 else "bad-request")


def broken_answer(error: httpx.HTTPError, address: str) -> Refusal:
    if isinstance(error, httpx.TimeoutException):
        return Refusal("timeout", address, "no answer in time.")
    if isinstance(error, (httpx.ReadError, httpx.RemoteProtocolError, httpx.DecodingError)):
        return Refusal("truncated", address, f"the answer was cut short ({first_line(error)}).")
    return Refusal("unreachable", address, f"cannot be reached ({first_line(error)}).")


def retry_after_s(value: str | None) -> float | None:
    """Seconds of a Retry-After header, which states them or a date (RFC 9110, section 10.2.3).

    Example:
        >>> retry_after_s("120"), retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT"), retry_after_s("soon")
        (120.0, 0.0, None)
    """
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def error_message(text: str) -> str:
    """What an error answer says, in the forms of the services; "" for a page of HTML."""
    try:
        body = json.loads(text)
    except ValueError:
        return ""
    for keys in (("message",), ("error", "message"), ("debug_info", "message"), ("status", "apiMessage"), ("detail",)):
        value = body
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, str):
            return value.strip().rstrip(".")[:200]
    return ""
