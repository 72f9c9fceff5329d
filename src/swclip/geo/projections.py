"""Other coordinate systems: projected coordinates and positions of other geodetic datums, converted to WGS84.

Projected coordinates are refused outside the area that their projection is made for.
"""

from __future__ import annotations

import math
import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float64
from numpy.typing import ArrayLike

from swclip.errors import ConfigError

if TYPE_CHECKING:
    from pyproj import Transformer


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


WGS84 = 4326
"""EPSG code of the datum of all positions in swclip."""

# Spellings that the EPSG database does not have, without punctuation. A blank value stands for WGS84, the datum of GPS.
_CODES = {
    **dict.fromkeys(("", "WGS84", "WGS1984", "WGS", "WORLDGEODETICSYSTEM1984", "WORLDGEODETICSYSTEM84", "GPS"), WGS84),
    **dict.fromkeys(("TOKYO", "TOKYOMEAN", "TOKYODATUM", "TOKYO1918"), 4301),
    **dict.fromkeys(("NAD27", "NAD1927", "NORTHAMERICAN1927", "NORTHAMERICANDATUM1927"), 4267),
    **dict.fromkeys(("NAD83", "NAD1983", "NORTHAMERICAN1983", "NORTHAMERICANDATUM1983"), 4269),
    **dict.fromkeys(("ED50", "EUROPEAN1950", "EUROPEANDATUM1950"), 4230),
    **dict.fromkeys(("OSGB36", "OSGB1936", "ORDNANCESURVEYOFGREATBRITAIN1936"), 4277),
    **dict.fromkeys(("SK42", "PULKOVO42"), 4284),
    "CGCS2000": 4490,
}


def datum_code(name: str) -> int | None:
    """Return the EPSG code of the geographic coordinate system of a datum; None if it is not known.

    Args:
        name: A name in any usual spelling, such as "WGS-84", "TOKYO" or "EPSG:4301"; empty for WGS84.

    Example:
        >>> datum_code("WGS-84"), datum_code("TOKYO"), datum_code("GCJ-02")
        (4326, 4301, None)
    """
    plain = _plain(name)
    if plain in _CODES:
        return _CODES[plain]
    number = re.fullmatch(r"EPSG(\d{4,5})", plain)
    return _codes_by_name().get(plain) if number is None else _known(int(number[1]))


def to_wgs84(lat_deg: float, lon_deg: float, code: int) -> tuple[float, float] | None:
    """Convert a position to WGS84 with the best transformation that PROJ has for its surroundings.

    Args:
        lat_deg: Latitude in degrees.
        lon_deg: Longitude in degrees.
        code: EPSG code of its geographic coordinate system, from `datum_code`.

    Returns:
        Latitude and longitude in degrees; None if PROJ has no transformation.

    Example:
        >>> [round(value, 6) for value in to_wgs84(35.6615, 139.7414, 4301)]
        [35.66474, 139.738169]
    """
    if code == WGS84:
        return lat_deg, lon_deg
    transformer = _transformer(code)
    if transformer is None:
        return None
    lat, lon = transformer.transform(lat_deg, lon_deg)
    return (float(lat), float(lon)) if math.isfinite(lat) and math.isfinite(lon) else None


@cache
def _transformer(code: int) -> Transformer | None:
    from pyproj import Transformer
    from pyproj.exceptions import ProjError

    try:
        # A ballpark transformation would return the position unchanged, as if the datums were the same.
        return Transformer.from_crs(code, WGS84, allow_ballpark=False)
    except ProjError:
        return None


@cache
def _codes_by_name() -> dict[str, int]:
    """Return {name without punctuation: EPSG code} of all geographic coordinate systems with latitude first."""
    from pyproj.database import query_crs_info
    from pyproj.enums import PJType

    systems = query_crs_info("EPSG", PJType.GEOGRAPHIC_2D_CRS)
    return {_plain(system.name): int(system.code) for system in systems if "lon-lat" not in system.name}


def _known(code: int) -> int | None:
    return code if code in _codes_by_name().values() else None


def _plain(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", name.upper())
