"""Projected coordinates: conversion to latitude and longitude, refused outside the area a projection is made for."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64
from numpy.typing import ArrayLike

from swclip.errors import ConfigError

_SLACK_DEG = 1.0
"""Data sets of one city may cross the edge of a projection's area of use."""

# Zones of UTM are used beyond their six degrees (western Norway, Svalbard), but never beyond these eastings.
_UTM_EASTINGS_M = (100_000.0, 900_000.0)
_LARGEST_DEG = 180.0


def utm_crs(zone: int, north: bool) -> str:
    """Return the EPSG code of a UTM zone on WGS84.

    Example:
        >>> utm_crs(50, True), utm_crs(1, False)
        ('EPSG:32650', 'EPSG:32701')
    """
    return f"EPSG:{32600 + zone if north else 32700 + zone}"


def projected_to_deg(easting_m: ArrayLike, northing_m: ArrayLike, crs: str) -> Float64[np.ndarray, "n 2"]:
    """Convert projected coordinates to latitude and longitude on WGS84.

    Args:
        easting_m: (N,) eastings of the projection, metres.
        northing_m: (N,) northings of the projection, metres.
        crs: The projection, such as EPSG:32650.

    Returns:
        (N, 2) latitude, longitude in degrees; infinite where `projection_problem` names a problem.

    Raises:
        ConfigError: The projection is not known, or its unit is not the metre.

    Example:
        >>> projected_to_deg([500_000.0], [0.0], "EPSG:32631").round(9).tolist()
        [[0.0, 3.0]]
    """
    east, north = (np.asarray(values, dtype=np.float64).reshape(-1) for values in (easting_m, northing_m))
    projection, transformer = _projection(crs)
    lon, lat = (np.asarray(values, dtype=np.float64) for values in transformer.transform(east, north))
    positions = np.stack([lat, lon], axis=1)
    positions[_like_degrees(east, north, projection) | ~_in_use(east, positions, projection)] = np.inf
    return positions


def problems_of_projected(
    east: Float64[np.ndarray, " n"],
    north: Float64[np.ndarray, " n"],
    positions_deg: Float64[np.ndarray, "n 2"],
    crs: Any,
) -> dict[int, str]:
    """Return {row: why its coordinates cannot be a position in a coordinate system}.

    Args:
        east: (N,) eastings in the unit of the projection.
        north: (N,) northings.
        positions_deg: (N, 2) their latitude and longitude on WGS84.
        crs: A `pyproj.CRS`; one with latitude and longitude has no problems.
    """
    if not crs.is_projected:
        return {}
    like_degrees = _like_degrees(east, north, crs)
    problems = {}
    for at in np.flatnonzero(like_degrees | ~_in_use(east, positions_deg, crs)).tolist():
        reason = "look like degrees" if like_degrees[at] else "are outside its area of use"
        problems[at] = f"its coordinates {east[at]:g}, {north[at]:g} {reason}, and it is in {crs.name}"
    return problems


def projection_problem(easting_m: float, northing_m: float, crs: str) -> str | None:
    """Return why an easting and northing cannot be a position in a projection, or None.

    Args:
        easting_m: Easting of the projection, metres.
        northing_m: Northing of the projection, metres.
        crs: The projection, such as EPSG:32650.

    Raises:
        ConfigError: The projection is not known, or its unit is not the metre.

    Example:
        >>> projection_problem(114.33386, 30.5066, "EPSG:32650")
        'easting 114.334, northing 30.5066 look like degrees, and EPSG:32650 has metres'
    """
    if math.isfinite(projected_to_deg([easting_m], [northing_m], crs)[0, 0]):
        return None
    text = f"easting {easting_m:g}, northing {northing_m:g}"
    if _like_degrees(np.array([easting_m]), np.array([northing_m]), _projection(crs)[0])[0]:
        return f"{text} look like degrees, and {crs} has metres"
    return f"{text} is outside the area of use of {crs}"


def _like_degrees(
    east: Float64[np.ndarray, " n"], north: Float64[np.ndarray, " n"], projection: Any
) -> Bool[np.ndarray, " n"]:
    """True where both are at most 180, which no published projection has on land; one made for a site may."""
    if projection.area_of_use is None:
        return np.zeros(len(east), dtype=np.bool_)
    return np.asarray((np.abs(east) <= _LARGEST_DEG) & (np.abs(north) <= _LARGEST_DEG), dtype=np.bool_)


def _in_use(
    east: Float64[np.ndarray, " n"], positions_deg: Float64[np.ndarray, "n 2"], projection: Any
) -> Bool[np.ndarray, " n"]:
    finite: Bool[np.ndarray, " n"] = np.isfinite(positions_deg).all(axis=1)
    area = projection.area_of_use
    if area is None:
        return finite
    lat, lon = np.where(finite[:, None], positions_deg, 0.0).T
    inside: Bool[np.ndarray, " n"] = finite & (lat >= area.south - _SLACK_DEG) & (lat <= area.north + _SLACK_DEG)
    if projection.utm_zone is not None:
        inside &= (east >= _UTM_EASTINGS_M[0]) & (east <= _UTM_EASTINGS_M[1])
        return inside
    # Eastwards from the western edge, so that an area across the antimeridian needs no special case.
    width = (area.east - area.west) % 360.0 or 360.0
    inside &= (lon - area.west + _SLACK_DEG) % 360.0 <= width + 2.0 * _SLACK_DEG
    return inside


@lru_cache(maxsize=128)
def _projection(crs: str) -> tuple[Any, Any]:
    from pyproj import CRS, Transformer
    from pyproj.exceptions import CRSError

    try:
        projection = CRS.from_user_input(crs)
    except CRSError as error:
        raise ConfigError(f"--crs {crs}: is not a known projection; write for example EPSG:32650.") from error
    if not projection.is_projected:
        raise ConfigError(f"--crs {crs}: is not a projection with easting and northing; write for example EPSG:32650.")
    unit = projection.axis_info[0].unit_name
    if unit != "metre":
        raise ConfigError(f"--crs {crs}: its unit is the {unit}, but metres are needed; write for example EPSG:32650.")
    return projection, Transformer.from_crs(projection, 4326, always_xy=True)
