"""Limits of the service; each is a flag of `swclip serve`."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from swclip.errors import ConfigError

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Limits:
    """Limits on requests, and settings of batching."""

    max_upload_mb: float = 20.0
    "Maximum size of a photograph in megabytes."
    max_files: int = 8
    "Maximum number of photographs per request."
    max_request_mb: float = 64.0
    "Maximum size of a request in megabytes."
    max_megapixels: float = 60.0
    "Maximum size of a decoded image in megapixels; larger ones are refused by their header, before decoding."
    concurrency: int = 16
    "Maximum number of requests in progress, whose photographs are in memory."
    queue: int = 64
    "Maximum number of requests that wait; further ones get status 503 with Retry-After."
    rate_per_minute: float = 0.0
    "Maximum requests per minute and client (API key or address), with status 429 beyond it; 0 for no limit."
    timeout_s: float = 30.0
    "Maximum time of a request from its first byte to its response, in seconds."
    pause_s: float = 10.0
    "Maximum time for the headers of a request, and maximum pause before them, in its body and in taking the response."
    decode_s: float = 10.0
    "Maximum time to decode a photograph, in seconds; the process that decodes it is ended then."
    max_connections: int = 512
    "Maximum number of connections, and 64 fewer than open files; a new one replaces the longest silent one."
    max_connections_per_address: int = 128
    "Maximum number of connections of an IPv4 address or an IPv6 network (/64); those of --proxy have no such limit."
    max_batch: int = 16
    "Maximum number of photographs per batch of the model."
    max_wait_ms: float = 4.0
    "How long the first photograph of a batch waits for others, in milliseconds."
    decoders: int = 2
    "Number of processes that decode photographs."
    max_cells: int = 3000
    "Maximum number of posterior cells listed in an answer."
    max_points: int = 20_000
    "Maximum number of candidates sent for the map."

    def __post_init__(self) -> None:
        for field in fields(self):
            value, allows_zero = getattr(self, field.name), field.name in _MAY_BE_ZERO
            if not (math.isfinite(value) and (value > 0 or (allows_zero and value == 0))):
                flag = "--" + field.name.replace("_", "-")
                raise ConfigError(f"{flag} {value}: must be {'0 or more' if allows_zero else 'above 0'}.")
        if self.max_request_mb < self.max_upload_mb:
            raise ConfigError(
                f"--max-request-mb {self.max_request_mb:g}: must be at least --max-upload-mb ({self.max_upload_mb:g})."
            )

    @property
    def upload_bytes(self) -> int:
        """Maximum size of a photograph in bytes."""
        return int(self.max_upload_mb * MEGABYTE)

    @property
    def request_bytes(self) -> int:
        """Maximum size of a request in bytes."""
        return int(self.max_request_mb * MEGABYTE)

    @property
    def pixels(self) -> int:
        """Maximum size of a decoded image in pixels."""
        return int(self.max_megapixels * 1e6)


_MAY_BE_ZERO = frozenset({"queue", "rate_per_minute", "max_wait_ms"})
