"""What a service allows and how it answers: every limit in one place, each with a flag of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from swclip.errors import ConfigError

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Limits:
    """What one request and all of them together may take."""

    max_upload_mb: float = 20.0
    "Largest photograph, megabytes."
    max_files: int = 8
    "Most photographs in one request."
    max_request_mb: float = 64.0
    "Largest request, megabytes."
    max_megapixels: float = 60.0
    "Largest picture once decoded; refused from its header, before any pixel is."
    concurrency: int = 16
    "Requests whose photographs are held in memory at once."
    queue: int = 64
    "Requests that may wait for one of those places; further ones get 503 with Retry-After."
    rate_per_minute: float = 0.0
    "Requests a minute that one client (key, or address without keys) may make, 429 beyond; 0 for no limit."
    timeout_s: float = 30.0
    "Longest that one request may take from its first byte to its answer, seconds."
    pause_s: float = 10.0
    "Longest pause within a request's headers or body, seconds."
    max_batch: int = 16
    "Photographs that the model sees at once."
    max_wait_ms: float = 4.0
    "How long the first photograph of a batch waits for others, milliseconds."
    decoders: int = 2
    "Threads that decode photographs."
    max_cells: int = 3000
    "Most cells of a posterior that an answer lists."
    max_points: int = 20_000
    "Most candidates that are sent for the map."

    def __post_init__(self) -> None:
        for field in fields(self):
            value, zero = getattr(self, field.name), field.name in _MAY_BE_ZERO
            if not (math.isfinite(value) and (value > 0 or (zero and value == 0))):
                flag = "--" + field.name.replace("_", "-")
                raise ConfigError(f"{flag} is {value}; give a number {'of 0 or more' if zero else 'above 0'}.")
        if self.max_request_mb < self.max_upload_mb:
            raise ConfigError(
                f"--max-request-mb is {self.max_request_mb:g}, less than the {self.max_upload_mb:g} of one photograph "
                "(--max-upload-mb); raise it."
            )

    @property
    def upload_bytes(self) -> int:
        """Largest photograph, bytes."""
        return int(self.max_upload_mb * MEGABYTE)

    @property
    def request_bytes(self) -> int:
        """Largest request, bytes."""
        return int(self.max_request_mb * MEGABYTE)

    @property
    def pixels(self) -> int:
        """Largest picture, pixels."""
        return int(self.max_megapixels * 1e6)


_MAY_BE_ZERO = frozenset({"queue", "rate_per_minute", "max_wait_ms"})


@dataclass(frozen=True)
class Tiles:
    """Map pictures of somebody else's, drawn under the gallery's points.

    Attributes:
        url: Address with {z}, {x} and {y}.
        attribution: Whose they are, shown on the map.
    """

    url: str
    attribution: str

    def __post_init__(self) -> None:
        missing = [name for name in ("{z}", "{x}", "{y}") if name not in self.url]
        if missing or not self.url.startswith(("https://", "http://")):
            raise ConfigError(
                f"--tiles {self.url!r}: give an address with {{z}}, {{x}} and {{y}}, such as "
                "https://tiles.example.org/{z}/{x}/{y}.png"
            )
        if any(character in self.url for character in " ;,'\"\\\n\r\t"):
            raise ConfigError(f"--tiles {self.url!r}: an address holds no spaces, quotes, commas or semicolons.")
        if not self.attribution.strip():
            raise ConfigError("--tiles needs --attribution: the words that the map's makers ask to be shown.")

    @property
    def origin(self) -> str:
        """Scheme and host, as the page's content policy names them; a pattern such as {s} is not one."""
        scheme, _, rest = self.url.partition("://")
        host = rest.split("/", 1)[0]
        if "{" in host or not host:
            raise ConfigError(f"--tiles {self.url!r}: the host must be one name, without a pattern.")
        return f"{scheme}://{host}"
