"""One street-imagery service: what all of them have in common, and what a photograph of theirs is before its pixels.

A new service is one file with a subclass of `Service`, and its name in `swclip.connectors.fetch.SERVICES`.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

from swclip.connectors.client import Client
from swclip.connectors.refusal import Refusal
from swclip.errors import ConfigError
from swclip.geo.boxes import Box
from swclip.geo.coordinates import position_problem

SUSPICIOUS = 5
"""An answer of so many records that are all unusable is a change of the interface, and not so many odd records."""

SMALLEST_RADIUS_M = 1.0
"""A box of this size is not split any more."""

Camera = Literal["perspective", "fisheye", "equirectangular"]


@dataclass(frozen=True, slots=True)
class Item:
    """A photograph of a service, as its catalogue describes it; None for what it does not state.

    Attributes:
        id: Its identifier, unique within the service.
        lat_deg: Latitude, WGS84, as recorded by the camera.
        lon_deg: Longitude, WGS84, as recorded by the camera.
        computed_lat_deg: Latitude that the service computed from the pictures.
        computed_lon_deg: Longitude that the service computed from the pictures.
        accuracy_m: Horizontal accuracy of the recorded position, metres.
        heading_deg: Degrees clockwise from north, as recorded.
        computed_heading_deg: The same, computed from the pictures.
        captured_at: Time of capture, UTC.
        camera: Kind of projection.
        field_of_view_deg: Horizontal angle of the picture; 360 for whole panoramas.
        pitch_deg: Elevation of the camera above the horizon; of a panorama, of its centre.
        roll_deg: Roll of the camera, as GPano:PoseRollDegrees.
        sequence: Identifier of the drive.
        rank: Place within the drive.
        width_px: Width of the original picture.
        height_px: Height of the original picture.
        bytes: Size of the file of the chosen size.
        licence: Name of the licence, SPDX where the service uses it.
        author: Who must be named.
        page: Address of the photograph's page or record, for attribution.
        quality: The service's figure of quality, 0 to 1.
        make: Maker of the camera.
        model: Model of the camera.
        address: Address of the picture; None where it expires and `Service.addresses` tells it.
    """

    id: str
    lat_deg: float
    lon_deg: float
    computed_lat_deg: float | None = None
    computed_lon_deg: float | None = None
    accuracy_m: float | None = None
    heading_deg: float | None = None
    computed_heading_deg: float | None = None
    captured_at: datetime | None = None
    camera: Camera | None = None
    field_of_view_deg: float | None = None
    pitch_deg: float | None = None
    roll_deg: float | None = None
    sequence: str | None = None
    rank: int | None = None
    width_px: int | None = None
    height_px: int | None = None
    bytes: int | None = None
    licence: str | None = None
    author: str | None = None
    page: str | None = None
    quality: float | None = None
    make: str | None = None
    model: str | None = None
    address: str | None = None

    @property
    def pano(self) -> bool | None:
        """Whether it is a whole panorama; None if the service does not say."""
        return None if self.camera is None else self.camera == "equirectangular"


@dataclass(frozen=True, slots=True)
class Unusable:
    """A record of an answer that describes no photograph, and why."""

    id: str
    detail: str


@dataclass(frozen=True, slots=True)
class SearchResult:
    """All photographs of a box, and the records that cannot be used."""

    items: list[Item]
    unusable: list[Unusable]

    @classmethod
    def of(cls, records: Sequence[Item | Unusable], address: str) -> SearchResult:
        """Sort the records of an answer.

        Raises:
            Refusal: Several records are there, and none describes a photograph: the interface has changed.
        """
        items = [record for record in records if isinstance(record, Item)]
        unusable = [record for record in records if isinstance(record, Unusable)]
        if len(unusable) >= SUSPICIOUS and not items:
            first = f"none of {len(records)} records is a photograph (the first: {unusable[0].detail})"
            raise Refusal("schema", address, f"{first}; has the service's interface changed?")
        return cls(items, unusable)


class BoxFullError(Exception):
    """The answer reached the service's limit, or the box is too dense to be answered in time: ask for its quarters.

    Args:
        result: What was answered, of a box that is not split any more.
    """

    def __init__(self, result: SearchResult | None = None) -> None:
        super().__init__()
        self.result = result


@dataclass(frozen=True)
class Query:
    """What a search may leave out. A service passes on what its interface can filter; the caller filters again.

    Attributes:
        since: Earliest time of capture, UTC.
        until: Time of capture before which photographs are wanted, UTC.
        panoramas: True for whole panoramas alone, False for none, None for both.
    """

    since: datetime | None = None
    until: datetime | None = None
    panoramas: bool | None = None

    @classmethod
    def between(
        cls, since: datetime | str | None, until: datetime | str | None, panoramas: bool | None = None
    ) -> Query:
        """A query of times or their ISO 8601 text; those without a time zone are UTC.

        Raises:
            ConfigError: A text is no time, or `since` is not before `until`.

        Example:
            >>> Query.between("2020-01-01", None).since
            datetime.datetime(2020, 1, 1, 0, 0, tzinfo=datetime.timezone.utc)
        """
        first, last = _time("--since", since), _time("--until", until)
        if first is not None and last is not None and first >= last:
            raise ConfigError(f"--since {since} is not before --until {until}.")
        return cls(first, last, panoramas)


def _time(option: str, value: datetime | str | None) -> datetime | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        raise ConfigError(f"{option} {value!r}: must be a date or time as in 2024-05-31 or 2024-05-31T12:00.") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


class Service(ABC):
    """A street-imagery service.

    Args:
        client: Makes the requests.
        endpoint: Address of the instance, without a slash at the end.
        size: One of `sizes`.
    """

    name: ClassVar[str]
    """As the command line names it."""
    title: ClassVar[str]
    """As people name it."""
    endpoint_default: ClassVar[str]
    licence: ClassVar[str | None] = None
    """The licence of all photographs; None where each states its own."""
    terms: ClassVar[str]
    """Address of the terms of use."""
    sizes: ClassVar[dict[str, int]]
    """Bytes of a usual photograph by the name of the size, to estimate a download before any is known."""
    size_default: ClassVar[str]
    token_variable: ClassVar[str | None] = None
    """Environment variable of the token; None where the service takes none."""
    token_scheme: ClassVar[str] = "Bearer"
    token_required: ClassVar[bool] = False
    per_second: ClassVar[float]
    """Requests in a second to one host that the service tolerates."""
    largest_box_km: ClassVar[float]
    """Length of the sides of the largest box that is worth a request."""
    addresses_expire: ClassVar[bool] = False
    """Whether the addresses of pictures expire, so that `addresses` tells them just before a download."""
    addresses_at_once: ClassVar[int] = 50
    """Photographs of one call of `addresses`."""

    def __init__(self, client: Client, endpoint: str, size: str) -> None:
        self.client = client
        self.endpoint = endpoint
        self.size = size

    @classmethod
    def authorization(cls, environment: Mapping[str, str] = os.environ) -> str | None:
        """The Authorization header from the environment.

        Raises:
            ConfigError: The service needs a token and there is none, or it has characters that no token has.
        """
        if cls.token_variable is None:
            return None
        token = environment.get(cls.token_variable, "").strip()
        if not token:
            if cls.token_required:
                raise ConfigError(f"{cls.title} needs a token: set the environment variable {cls.token_variable}.")
            return None
        if not token.isascii() or not token.isprintable() or " " in token:
            raise ConfigError(f"${cls.token_variable} is not a token: it has spaces or letters that no token has.")
        return f"{cls.token_scheme} {token}"

    @abstractmethod
    def search(self, box: Box, query: Query) -> SearchResult:
        """All photographs within a box.

        Args:
            box: Where; photographs outside it may be in the answer and are left out by the caller.
            query: What may be left out.

        Raises:
            BoxFullError: The answer is not complete; the quarters of the box are to be asked for.
            Refusal: There is no answer.
        """

    def addresses(self, ids: Sequence[str]) -> dict[str, str]:
        """Current addresses of pictures, of services whose addresses expire.

        Args:
            ids: At most `addresses_at_once`.

        Returns:
            {id: address}; a photograph that no longer exists is left out.

        Raises:
            Refusal: There is no answer; a photograph that does not exist is none.
        """
        raise NotImplementedError(f"{self.name} states addresses in its catalogue")


def number(value: Any) -> float | None:
    """A number of a JSON answer, also one written as text; None for anything else, and for NaN and infinity."""
    if isinstance(value, bool):
        return None
    try:
        result = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return result if abs(result) < 1e308 else None  # False for NaN as well


def text(value: Any) -> str | None:
    """Text of a JSON answer, without spaces around it; None for anything else and for none."""
    return value.strip() or None if isinstance(value, str) else None


def identifier(value: Any) -> str | None:
    """An identifier of a JSON answer, which is text or an integer; None for anything else."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else text(value)


def table(value: Any) -> dict[str, Any]:
    """An object of a JSON answer; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def position(lat: Any, lon: Any) -> tuple[float, float] | None:
    """Latitude and longitude of a JSON answer, None where they are no position."""
    pair = number(lat), number(lon)
    return None if pair[0] is None or pair[1] is None or position_problem(*pair) is not None else (pair[0], pair[1])


def moment(value: Any) -> datetime | None:
    """A time of a JSON answer in UTC: ISO 8601 (UTC without an offset), or milliseconds since 1970; None otherwise."""
    try:
        if isinstance(value, str):
            stated = datetime.fromisoformat(value)
            return (stated if stated.tzinfo is not None else stated.replace(tzinfo=UTC)).astimezone(UTC)
        milliseconds = number(value)
        return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000.0, UTC)
    except (ValueError, OverflowError, OSError):
        return None
