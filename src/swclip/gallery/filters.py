"""Select entries of a gallery by id, city, place, date and source.

A predicate in SQL selects while Lance reads; the exact border of an area or a circle is then applied here, to the
remaining positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float64

from swclip.errors import ConfigError
from swclip.geo.coordinates import position_problem
from swclip.geo.distance import EARTH_RADIUS_M, haversine_m

if TYPE_CHECKING:
    from swclip.geo.areas import Area

_SLACK_DEG = 1e-6  # boxes only narrow what is read: rounding must not cut off entries on the border


@dataclass(frozen=True, eq=False)
class EntryFilter:
    """Conditions that must all hold; without any, every entry is selected.

    Attributes:
        image_ids: One of these photographs.
        candidate_ids: At one of these candidates.
        cities: In one of these cities.
        sources: From one of these sources.
        since: Captured at this time or later; entries without a time are left out.
        until: Captured before this time; entries without a time are left out.
        within: Inside this area, or on its border.
        near: Within `radius_m` of this latitude, longitude in degrees, by haversine.
        radius_m: Metres.
        photographs: True for photographs, False for positions without one, None for both.
    """

    image_ids: Sequence[str] | None = None
    candidate_ids: Sequence[str] | None = None
    cities: Sequence[str] | None = None
    sources: Sequence[str] | None = None
    since: datetime | None = None
    until: datetime | None = None
    within: Area | None = None
    near: tuple[float, float] | None = None
    radius_m: float | None = None
    photographs: bool | None = None

    def __post_init__(self) -> None:
        if (self.near is None) != (self.radius_m is None):
            raise ConfigError("near and radius_m go together: a point and the metres round it.")
        problem = None if self.near is None else position_problem(*self.near)
        # Entries at (0, 0) can be looked for, to remove them.
        if problem is not None and problem.reason != "coordinate-zero":
            raise ConfigError(f"near {self.near}: is not a latitude and longitude in degrees; {problem.detail}.")
        if self.radius_m is not None and not 0.0 < self.radius_m < math.inf:
            raise ConfigError(f"radius_m {self.radius_m}: must be a positive number of metres.")
        for name in ("since", "until"):
            time = getattr(self, name)
            if time is not None and time.tzinfo is not None:
                raise ConfigError(f"{name} {time}: must be without a zone, as the gallery's times are (UTC).")

    @property
    def exact(self) -> bool:
        """Whether `sql` alone decides; otherwise `keeps` must be applied to its result too."""
        return self.within is None and self.near is None

    @property
    def empty(self) -> bool:
        """Whether there are no conditions."""
        return all(value is None for value in vars(self).values())

    def sql(self) -> str | None:
        """The predicate for Lance; None where every row must be read.

        Example:
            >>> EntryFilter(cities=["King's Lynn"], photographs=True).sql()
            "(city IN ('King''s Lynn')) AND (image_id IS NOT NULL)"
        """
        parts = []
        named = (
            ("image_id", self.image_ids),
            ("candidate_id", self.candidate_ids),
            ("city", self.cities),
            ("source", self.sources),
        )
        for column, values in named:
            if values is not None:
                parts.append(is_in(column, values))
        if self.since is not None:
            parts.append(f"captured_at >= {_time(self.since)}")
        if self.until is not None:
            parts.append(f"captured_at < {_time(self.until)}")
        if self.photographs is not None:
            parts.append(f"image_id IS {'NOT ' if self.photographs else ''}NULL")
        if self.within is not None:
            parts.append(" OR ".join(box_sql(*box) for box in self.within.boxes_deg))
        if self.near is not None and self.radius_m is not None:
            reach = math.degrees(self.radius_m / EARTH_RADIUS_M)
            parts.append(box_sql(self.near[0] - reach, -180.0, self.near[0] + reach, 180.0))
        return " AND ".join(f"({part})" for part in parts) or None

    def keeps(self, positions_deg: Float64[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
        """Whether positions are within the area and the circle.

        Args:
            positions_deg: (N, 2) latitude, longitude in degrees.
        """
        inside = np.ones(len(positions_deg), dtype=bool)
        if self.near is not None and self.radius_m is not None:
            lat, lon = np.float64(self.near[0]), np.float64(self.near[1])
            inside &= haversine_m(positions_deg[:, 0], positions_deg[:, 1], lat, lon) <= self.radius_m
        if self.within is not None:
            inside &= self.within.contains(positions_deg)
        return inside


def is_in(column: str, values: Sequence[str]) -> str:
    """SQL: whether a text column equals one of the values.

    Example:
        >>> is_in("city", ["York"]), is_in("city", [])
        ("city IN ('York')", 'false')
    """
    quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    return f"{column} IN ({quoted})" if quoted else "false"


def _time(value: datetime) -> str:
    return f"timestamp '{value.isoformat(sep=' ', timespec='milliseconds')}'"


def box_sql(south: float, west: float, north: float, east: float) -> str:
    """SQL: whether a position is in a box of degrees, or within rounding of it."""
    low_lat, low_lon = south - _SLACK_DEG, west - _SLACK_DEG
    high_lat, high_lon = north + _SLACK_DEG, east + _SLACK_DEG
    return (
        f"(lat_deg >= {low_lat:.9f} AND lat_deg <= {high_lat:.9f} "
        f"AND lon_deg >= {low_lon:.9f} AND lon_deg <= {high_lon:.9f})"
    )
