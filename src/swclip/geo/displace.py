"""Moving points on the sphere by metres east and north, without seam or pole."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike

from swclip.geo.coordinates import unit_vectors
from swclip.geo.distance import EARTH_RADIUS_M


def displaced(positions_deg: ArrayLike, east_north_m: ArrayLike) -> Float64[np.ndarray, "n 2"]:
    """Points reached along great circles.

    Args:
        positions_deg: (N, 2) latitude, longitude in degrees.
        east_north_m: (N, 2) metres to the east and to the north at the start; the length is the distance gone.

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
    way = (move[:, :1] * east + move[:, 1:] * north) / np.where(length_m > 0.0, length_m, 1.0)[:, None]
    x, y, z = (np.cos(angle) * unit_vectors(start) + np.sin(angle) * way).T
    reached = np.degrees(np.stack([np.arctan2(z, np.hypot(x, y)), np.arctan2(y, x)], axis=1))
    # Who does not move stays where he is to the last bit.
    return np.where((length_m > 0.0)[:, None], reached, start)
