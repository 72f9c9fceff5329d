"""Positions of other geodetic datums converted to WGS84."""

from __future__ import annotations

import math
import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyproj import Transformer

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
