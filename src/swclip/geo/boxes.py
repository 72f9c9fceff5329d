"""Boxes of latitude and longitude, as services of maps and images take them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from swclip.errors import ConfigError
from swclip.geo.distance import EARTH_RADIUS_M, haversine_m

_HALF_GLOBE_DEG = 180.0


class Box(NamedTuple):
    """A box between two parallels and two meridians, in degrees.

    Attributes:
        south: Lower latitude.
        west: Lower longitude.
        north: Upper latitude.
        east: Upper longitude, not less than `west`; the box does not cross the antimeridian.
    """

    south: float
    west: float
    north: float
    east: float

    @property
    def bbox(self) -> tuple[float, float, float, float]:
        """(west, south, east, north): the order of GeoJSON and of services."""
        return self.west, self.south, self.east, self.north

    @property
    def centre_deg(self) -> tuple[float, float]:
        """Latitude and longitude of the middle of both sides."""
        return (self.south + self.north) / 2.0, (self.west + self.east) / 2.0

    @property
    def radius_m(self) -> float:
        """Radius of the circle around `centre_deg` that covers the box, metres; `east` - `west` is below 180."""
        lat, lon = self.centre_deg
        corners = np.array([self.south, self.north])
        return float(haversine_m(np.float64(lat), np.float64(lon), corners, np.float64(self.west)).max())

    @property
    def area_km2(self) -> float:
        """Area on the sphere, square kilometres."""
        height = math.sin(math.radians(self.north)) - math.sin(math.radians(self.south))
        return height * math.radians(self.east - self.west) * (EARTH_RADIUS_M / 1000.0) ** 2

    def quarters(self) -> list[Box]:
        """Split at the centre into four boxes, which share their edges and cover this box.

        Example:
            >>> [tuple(quarter) for quarter in Box(0.0, 0.0, 2.0, 4.0).quarters()]
            [(0.0, 0.0, 1.0, 2.0), (0.0, 2.0, 1.0, 4.0), (1.0, 0.0, 2.0, 2.0), (1.0, 2.0, 2.0, 4.0)]
        """
        lat, lon = self.centre_deg
        south, west, north, east = self
        return [
            Box(low, left, high, right)
            for low, high in ((south, lat), (lat, north))
            for left, right in ((west, lon), (lon, east))
        ]


def parse_bbox(text: str) -> Box:
    """Read MINLON,MINLAT,MAXLON,MAXLAT; `east` is above 180 where the box crosses the antimeridian.

    Args:
        text: Four numbers in degrees with commas between. A MINLON above MAXLON crosses the antimeridian (RFC 7946,
            section 5.2).

    Raises:
        ConfigError: There are not four numbers, they are not in this order or not on the Earth, or the box has no area.

    Example:
        >>> tuple(parse_bbox("179,-18,-179,-16"))
        (-18.0, 179.0, -16.0, 181.0)
    """
    form = "--bbox must be MINLON,MINLAT,MAXLON,MAXLAT in degrees, such as --bbox=-1.56,53.79,-1.53,53.81"
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--bbox {text!r}: {form}.") from None
    if not all(math.isfinite(value) for value in (west, south, east, north)):
        raise ConfigError(f"--bbox {text!r}: has a value that is not a finite number; {form}.")
    if abs(south) > 90.0 or abs(north) > 90.0:
        swapped = abs(west) <= 90.0 and abs(east) <= 90.0 and west < east
        hint = "; longitude comes first, and the two look swapped" if swapped else ""
        latitude = south if abs(south) > 90.0 else north
        raise ConfigError(f"--bbox {text!r}: latitude {latitude:g} is not within -90 to 90{hint}; {form}.")
    if abs(west) > 180.0 or abs(east) > 180.0:
        longitude = west if abs(west) > 180.0 else east
        raise ConfigError(f"--bbox {text!r}: longitude {longitude:g} is not within -180 to 180; {form}.")
    if south > north:
        raise ConfigError(f"--bbox {text!r}: MINLAT {south:g} is above MAXLAT {north:g}; {form}.")
    if west > east and east + 360.0 - west > _HALF_GLOBE_DEG:
        raise ConfigError(
            f"--bbox {text!r}: MINLON {west:g} is above MAXLON {east:g}, which is a box across the antimeridian of "
            f"{east + 360.0 - west:g} degrees; swap the two; {form}."
        )
    east = east if west <= east else east + 360.0
    if south == north or west == east:
        raise ConfigError(f"--bbox {text!r}: has no area; {form}.")
    return Box(south, west, north, east)
