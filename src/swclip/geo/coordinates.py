"""Positions: validation of latitude and longitude, unit vectors, and a local frame in metres."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64
from numpy.typing import ArrayLike

from swclip.geo.distance import EARTH_RADIUS_M


def valid_positions(lat_deg: ArrayLike, lon_deg: ArrayLike) -> Bool[np.ndarray, " n"]:
    """Return True where latitude is within [-90, 90], longitude within [-180, 180], and both are finite."""
    lat = np.asarray(lat_deg, dtype=np.float64)
    lon = np.asarray(lon_deg, dtype=np.float64)
    return np.isfinite(lat) & np.isfinite(lon) & (np.abs(lat) <= 90.0) & (np.abs(lon) <= 180.0)


NO_FIX_DEG = 1e-6
"""A position this near to (0, 0), a tenth of a metre, is what devices write when they have none."""

PositionReason = Literal["coordinate-missing", "coordinate-nan", "coordinate-out-of-range", "coordinate-zero"]


@dataclass(frozen=True, slots=True)
class PositionProblem:
    """Why two numbers are not a position.

    Attributes:
        reason: coordinate-missing, coordinate-nan, coordinate-out-of-range or coordinate-zero.
        axis: The coordinate at fault: lat or lon.
        detail: The reason in words.
    """

    reason: PositionReason
    axis: Literal["lat", "lon"]
    detail: str


def position_problem(lat_deg: float | None, lon_deg: float | None) -> PositionProblem | None:
    """Return why a latitude and longitude cannot be the position of a photograph, or None.

    Every position that comes from outside meets this rule: tables, EXIF, file names, predictions, priors.

    Args:
        lat_deg: Latitude in degrees; None where there is none.
        lon_deg: Longitude in degrees.

    Example:
        >>> position_problem(53.8, -1.55) is None, position_problem(114.3, 30.5).detail
        (True, 'latitude 114.3 is not within -90 to 90; the two look swapped')
        >>> position_problem(0.0, 0.0).reason
        'coordinate-zero'
    """
    if lat_deg is None or lon_deg is None:
        return PositionProblem("coordinate-missing", "lat" if lat_deg is None else "lon", "there is no position")
    lat, lon = float(lat_deg), float(lon_deg)
    if not (math.isfinite(lat) and math.isfinite(lon)):
        detail = f"latitude {lat:g}, longitude {lon:g} is not a pair of finite numbers"
        return PositionProblem("coordinate-nan", "lon" if math.isfinite(lat) else "lat", detail)
    if abs(lat) > 90.0:
        swap = "; the two look swapped" if abs(lon) <= 90.0 and abs(lat) <= 180.0 else ""
        return PositionProblem("coordinate-out-of-range", "lat", f"latitude {lat} is not within -90 to 90{swap}")
    if abs(lon) > 180.0:
        return PositionProblem("coordinate-out-of-range", "lon", f"longitude {lon} is not within -180 to 180")
    if abs(lat) < NO_FIX_DEG and abs(lon) < NO_FIX_DEG:
        detail = "(0, 0) is in the Atlantic; devices write it when they have no position"
        return PositionProblem("coordinate-zero", "lat", detail)
    return None


def unit_vectors(positions_deg: ArrayLike) -> Float64[np.ndarray, "n 3"]:
    """Convert positions to points on the unit sphere.

    Args:
        positions_deg: (N, 2) latitude, longitude in degrees.

    Returns:
        (N, 3) unit vectors: x through (0, 0), z through the north pole.
    """
    rad = np.radians(np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2))
    lat, lon = rad[:, 0], rad[:, 1]
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


def centroid_deg(positions_deg: ArrayLike) -> Float64[np.ndarray, " 2"]:
    """Return the mean of points on the sphere; the antimeridian needs no special case.

    Args:
        positions_deg: (N, 2) latitude, longitude in degrees, N >= 1.

    Returns:
        (2,) latitude, longitude of the mean unit vector; (0, 0) where the points cancel out.
    """
    mean = unit_vectors(positions_deg).mean(axis=0)
    lat = np.degrees(np.arctan2(mean[2], np.hypot(mean[0], mean[1])))
    return np.array([lat, np.degrees(np.arctan2(mean[1], mean[0]))])


@dataclass(frozen=True)
class LocalFrame:
    """A flat equirectangular frame around an origin: east and north in metres.

    Within 10 km of the origin, distances are within 0.3 % of the haversine distance at latitudes below 60 degrees, and
    within 0.45 % below 70 degrees, because the east-west scale is exact only at the origin's latitude.

    Attributes:
        lat_deg: Latitude of the origin, degrees.
        lon_deg: Longitude of the origin, degrees.
    """

    lat_deg: float
    lon_deg: float

    @classmethod
    def around(cls, positions_deg: ArrayLike) -> LocalFrame:
        """Build a frame at the centroid of (N, 2) positions in degrees."""
        lat, lon = centroid_deg(positions_deg)
        return cls(float(lat), float(lon))

    def to_xy_m(self, positions_deg: ArrayLike) -> Float64[np.ndarray, "n 2"]:
        """Convert (N, 2) latitude, longitude in degrees to (N, 2) east, north in metres."""
        p = np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2)
        dlon = (p[:, 1] - self.lon_deg + 180.0) % 360.0 - 180.0
        east = np.radians(dlon) * EARTH_RADIUS_M * np.cos(np.radians(self.lat_deg))
        north = np.radians(p[:, 0] - self.lat_deg) * EARTH_RADIUS_M
        return np.stack([east, north], axis=1)

    def to_deg(self, xy_m: ArrayLike) -> Float64[np.ndarray, "n 2"]:
        """Convert (N, 2) east, north in metres to (N, 2) latitude, longitude in degrees."""
        xy = np.asarray(xy_m, dtype=np.float64).reshape(-1, 2)
        lat = self.lat_deg + np.degrees(xy[:, 1] / EARTH_RADIUS_M)
        lon = self.lon_deg + np.degrees(xy[:, 0] / (EARTH_RADIUS_M * np.cos(np.radians(self.lat_deg))))
        return np.stack([lat, (lon + 180.0) % 360.0 - 180.0], axis=1)


def displaced(positions_deg: ArrayLike, east_north_m: ArrayLike) -> Float64[np.ndarray, "n 2"]:
    """Displace positions along great circles.

    Args:
        positions_deg: (N, 2) latitude, longitude in degrees.
        east_north_m: (N, 2) direction at the start, east and north; its length is the distance in metres.

    Returns:
        (N, 2) latitude, longitude in degrees.

    Example:
        >>> displaced([[0.0, 179.9999]], [[22.239, 0.0]]).round(6).tolist()
        [[0.0, -179.9999]]
    """
    start = np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2)
    move = np.asarray(east_north_m, dtype=np.float64).reshape(-1, 2)
    lat, lon = np.radians(start).T
    east = np.stack([-np.sin(lon), np.cos(lon), np.zeros_like(lon)], axis=1)
    north = np.stack([-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)], axis=1)
    length_m = np.hypot(move[:, 0], move[:, 1])
    angle = (length_m / EARTH_RADIUS_M)[:, None]
    direction = (move[:, :1] * east + move[:, 1:] * north) / np.where(length_m > 0.0, length_m, 1.0)[:, None]
    x, y, z = (np.cos(angle) * unit_vectors(start) + np.sin(angle) * direction).T
    reached = np.degrees(np.stack([np.arctan2(z, np.hypot(x, y)), np.arctan2(y, x)], axis=1))
    # A displacement of zero returns the start position to the last bit.
    return np.where((length_m > 0.0)[:, None], reached, start)


_DIGITS = 7


def rounded_deg(value: float) -> float:
    """Degrees to the centimetre: further digits would only look exact.

    Example:
        >>> rounded_deg(53.80000001234)
        53.8
    """
    return round(float(value), _DIGITS)
