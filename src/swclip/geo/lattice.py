"""A lattice of equally spaced points over the whole Earth, and the part of it within a box.

Lines of latitude are `spacing_m` apart, and so are the points on each line. Spacings are rounded so that a whole number
of them fits around the Earth:

    phi_k    = -90 deg + (k + 1/2) 180 deg / n          n   = round(pi R / spacing)
    lambda_j = -180 deg + (j + 1/2) 360 deg / n_k       n_k = max(1, round(2 pi R cos(phi_k) / spacing))

The lattice is fixed to the Earth and does not depend on the area it covers: neighbouring areas join without gaps or
duplicate points, a larger area only adds points, and the antimeridian needs no special case. Every position is within
about 0.71 spacings of a point.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from swclip.geo.distance import EARTH_RADIUS_M


def line_count(spacing_m: float) -> int:
    """Return n, the number of lines of latitude.

    Example:
        >>> line_count(1_000_000.0)
        20
    """
    return max(1, round(np.pi * EARTH_RADIUS_M / spacing_m))


def line_lat_deg(line: int, spacing_m: float) -> float:
    """Return the latitude of line k in degrees."""
    return -90.0 + (line + 0.5) * 180.0 / line_count(spacing_m)


def lines_between(south_deg: float, north_deg: float, spacing_m: float) -> range:
    """Return the lines k whose latitude is within [south, north]."""
    step = 180.0 / line_count(spacing_m)
    first = int(np.ceil((south_deg + 90.0) / step - 0.5))
    last = int(np.floor((north_deg + 90.0) / step - 0.5))
    return range(max(first, 0), min(last, line_count(spacing_m) - 1) + 1)


def line_points(line: int, west_deg: float, east_deg: float, spacing_m: float) -> Float64[np.ndarray, "n 2"]:
    """Return the points of a line whose longitude is within [west, east].

    Args:
        line: Number k of the line.
        west_deg: Western longitude in degrees, at least -180.
        east_deg: Eastern longitude in degrees, at most 180.
        spacing_m: Spacing of the lattice in metres.

    Returns:
        (N, 2) latitude, longitude in degrees, from west to east.
    """
    lat = line_lat_deg(line, spacing_m)
    count = max(1, round(2.0 * np.pi * EARTH_RADIUS_M * np.cos(np.radians(lat)) / spacing_m))
    step = 360.0 / count
    first = max(int(np.ceil((west_deg + 180.0) / step - 0.5)), 0)
    last = min(int(np.floor((east_deg + 180.0) / step - 0.5)), count - 1)
    lon = -180.0 + (np.arange(first, last + 1) + 0.5) * step
    return np.stack([np.full(len(lon), lat), lon], axis=1)
