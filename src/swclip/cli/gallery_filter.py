"""The flags that say which entries of a gallery are meant."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cyclopts import Parameter

from swclip.errors import ConfigError

if TYPE_CHECKING:
    from swclip.gallery.filters import EntryFilter


@Parameter(name="*", negative_iterable=())
@dataclass(frozen=True)
class FilterOptions:
    """Conditions, all of which must hold."""

    image_id: list[str] | None = None
    "This photograph; again for further ones."
    city: list[str] | None = None
    "In this city; again for further ones."
    source: list[str] | None = None
    "From this source; again for further ones."
    within: Path | None = None
    "Within the polygons of this GeoJSON file, or on their border."
    near: str | None = None
    "LAT,LON in degrees: within --radius-m of this point (written --near=-33.9,151.2 where it begins with a minus)."
    radius_m: float | None = None
    "Metres round --near."
    since: str | None = None
    "Captured at this date or time (ISO 8601, UTC) or later; entries without a time are not meant."
    until: str | None = None
    "Captured before this date or time."
    only: Literal["photographs", "positions"] | None = None
    "photographs, or positions without one."

    def read(self) -> EntryFilter:
        """The filter; reads the polygons.

        Raises:
            ConfigError: A value cannot be read, or --near and --radius-m do not go together.
            InputError: The polygons cannot be used.
        """
        from swclip.geo.areas import read_area
        from swclip.gallery.filters import EntryFilter

        if (self.near is None) != (self.radius_m is None):
            raise ConfigError("--near and --radius-m go together: a point and the metres round it.")
        return EntryFilter(
            image_ids=self.image_id,
            cities=self.city,
            sources=self.source,
            since=_time("--since", self.since),
            until=_time("--until", self.until),
            within=None if self.within is None else read_area(self.within),
            near=_point(self.near),
            radius_m=self.radius_m,
            photographs=None if self.only is None else self.only == "photographs",
        )


def _time(flag: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{flag} {text!r}: is no date or time such as 2020-05-01 or 2020-05-01T12:00:00.") from None
    return time if time.tzinfo is None else time.astimezone(UTC).replace(tzinfo=None)


def _point(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        lat, lon = (float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--near {text!r}: must be LAT,LON in degrees, such as 51.5074,-0.1278.") from None
    return lat, lon
