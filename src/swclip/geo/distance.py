"""Distances on the Earth: haversine on the sphere for training and search, the WGS84 geodesic for reported errors."""

from __future__ import annotations

from typing import Any

import array_api_compat
import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike

EARTH_RADIUS_M = 6_371_008.8
"""Mean Earth radius (IUGG 2R1) in metres, used everywhere."""


def haversine_m(lat1_deg: Any, lon1_deg: Any, lat2_deg: Any, lon2_deg: Any) -> Any:
    """Compute great-circle distances on the sphere of radius `EARTH_RADIUS_M`.

    The array API serves NumPy and torch with the same code, so that the soft labels of the loss and the search agree.

    Args:
        lat1_deg: Latitudes of the first points, degrees; any shape that broadcasts, float64.
        lon1_deg: Longitudes of the first points, degrees.
        lat2_deg: Latitudes of the second points, degrees.
        lon2_deg: Longitudes of the second points, degrees.

    Returns:
        Distances in metres, broadcast shape, same array type as the arguments.

    References:
        R. W. Sinnott, "Virtues of the Haversine", Sky and Telescope 68 (1984).

    Example:
        >>> import numpy as np
        >>> float(haversine_m(np.float64(0), np.float64(0), np.float64(0), np.float64(1)).round(1))
        111195.1
    """
    xp = array_api_compat.array_namespace(lat1_deg, lon1_deg, lat2_deg, lon2_deg)
    rad = np.pi / 180.0
    half_dlat = (lat2_deg - lat1_deg) * (0.5 * rad)
    half_dlon = (lon2_deg - lon1_deg) * (0.5 * rad)
    a = xp.sin(half_dlat) ** 2 + xp.cos(lat1_deg * rad) * xp.cos(lat2_deg * rad) * xp.sin(half_dlon) ** 2
    return (2.0 * EARTH_RADIUS_M) * xp.asin(xp.sqrt(xp.clip(a, 0.0, 1.0)))


def pairwise_haversine_m(a_deg: Any, b_deg: Any) -> Any:
    """Compute all great-circle distances between two sets of points.

    Args:
        a_deg: (N, 2) latitude, longitude in degrees.
        b_deg: (M, 2) latitude, longitude in degrees.

    Returns:
        (N, M) metres.
    """
    return haversine_m(a_deg[:, None, 0], a_deg[:, None, 1], b_deg[None, :, 0], b_deg[None, :, 1])


def geodesic_m(a_deg: ArrayLike, b_deg: ArrayLike) -> Float64[np.ndarray, " n"]:
    """Compute the length of the WGS84 geodesic between paired points, which reports use as localization error.

    Args:
        a_deg: (N, 2) latitude, longitude in degrees.
        b_deg: (N, 2) latitude, longitude in degrees.

    Returns:
        (N,) metres.

    References:
        C. F. F. Karney, "Algorithms for geodesics", J. Geodesy 87 (2013).
    """
    from pyproj import Geod

    a = np.asarray(a_deg, dtype=np.float64).reshape(-1, 2)
    b = np.asarray(b_deg, dtype=np.float64).reshape(-1, 2)
    _, _, length = Geod(ellps="WGS84").inv(a[:, 1], a[:, 0], b[:, 1], b[:, 0])
    return np.asarray(length, dtype=np.float64)
