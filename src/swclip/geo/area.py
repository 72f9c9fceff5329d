"""Areas that a place lies in: GeoJSON read and checked, and shapes from elsewhere."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import shapely

from swclip.errors import InputError

_MOST_VERTICES = 5_000


class AreaError(InputError):
    """What is given is no area.

    Args:
        where: The file, or what else it came from.
        detail: What is wrong with it.
    """

    def __init__(self, where: str, detail: str) -> None:
        super().__init__(f"{where}: {detail}")
        self.detail = detail


def read_area(path: str | os.PathLike[str]) -> shapely.Geometry:
    """Read a GeoJSON file with an area; see `area_of`.

    Raises:
        AreaError: It cannot be read, or is not an area.
    """
    name = os.fspath(path)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise AreaError(name, "there is no such file; check the path.") from None
    except OSError as error:
        raise AreaError(name, f"cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError:
        raise AreaError(name, "is not JSON.") from None
    return area_of(text, name)


def area_of(text: str, where: str = "the area") -> shapely.Geometry:
    """Read a GeoJSON area.

    Args:
        text: A Polygon or MultiPolygon, longitude before latitude; or a Feature or FeatureCollection of such.
        where: Where it came from, for the message.

    Returns:
        The area in longitude and latitude; several are one.

    Raises:
        AreaError: It is not GeoJSON, not an area, or crosses itself.

    Example:
        >>> triangle = '{"type": "Polygon", "coordinates": [[[-1, 51], [1, 51], [0, 53], [-1, 51]]]}'
        >>> area_of(triangle).area
        2.0
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise AreaError(where, "is not JSON.") from None
    area = shapely.union_all([_polygon(rings, where) for rings in _all_rings(value, where)])
    check_area(area, where)
    return area


def check_area(area: Any, where: str = "the area") -> None:
    """Raise AreaError unless a shape covers some ground on the Earth, longitude before latitude."""
    if not isinstance(area, shapely.Geometry):
        raise AreaError(where, f"is a {type(area).__name__}; give a shapely Polygon or MultiPolygon.")
    if not area.is_empty and area.geom_type not in ("Polygon", "MultiPolygon"):
        raise AreaError(where, f"is a {area.geom_type}; give a Polygon or a MultiPolygon.")
    if not area.is_valid:
        raise AreaError(where, _not_simple(area))
    if area.is_empty or area.area == 0:
        raise AreaError(where, "has no area.")
    west, south, east, north = area.bounds
    if not (west >= -180 and east <= 180 and south >= -90 and north <= 90):
        raise AreaError(where, _OFF_THE_EARTH)


_OFF_THE_EARTH = "a corner lies outside the Earth; longitude is -180 to 180 and comes before latitude."


def _not_simple(polygon: shapely.Geometry) -> str:
    return f"is not a simple polygon ({shapely.is_valid_reason(polygon).split('[')[0]})."


def _all_rings(value: Any, where: str) -> list[list[Any]]:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "FeatureCollection" and isinstance(value.get("features"), list):
        return [rings for feature in value["features"] for rings in _all_rings(feature, where)]
    if kind == "Feature":
        return _all_rings(value.get("geometry"), where)
    inside = value.get("coordinates") if isinstance(value, dict) else None
    if kind == "Polygon" and isinstance(inside, list):
        return [inside]
    if kind == "MultiPolygon" and isinstance(inside, list):
        return inside
    raise AreaError(where, "must be a GeoJSON Polygon or MultiPolygon, or a Feature or FeatureCollection of such.")


def _polygon(rings: Any, where: str) -> shapely.Geometry:
    if not isinstance(rings, list) or not rings:
        raise AreaError(where, "a polygon has at least one ring.")
    if sum(len(ring) for ring in rings if isinstance(ring, list)) > _MOST_VERTICES:
        raise AreaError(where, f"has more than {_MOST_VERTICES} corners; simplify it.")
    checked = [[_corner(corner, where) for corner in _ring(ring, where)] for ring in rings]
    polygon = shapely.Polygon(checked[0], checked[1:])
    if not polygon.is_valid:
        raise AreaError(where, _not_simple(polygon))
    return polygon


def _ring(ring: Any, where: str) -> list[Any]:
    if not isinstance(ring, list) or len(ring) < 4 or ring[0] != ring[-1]:
        raise AreaError(where, "a ring has at least four corners, the last the same as the first.")
    return ring


def _corner(corner: Any, where: str) -> tuple[float, float]:
    numbers = corner[:2] if isinstance(corner, list) else []
    if len(numbers) != 2 or any(isinstance(n, bool) or not isinstance(n, (int, float)) for n in numbers):
        raise AreaError(where, "a corner is a pair of numbers, longitude and latitude.")
    lon, lat = float(numbers[0]), float(numbers[1])
    if not (math.isfinite(lon) and math.isfinite(lat) and abs(lon) <= 180 and abs(lat) <= 90):
        raise AreaError(where, _OFF_THE_EARTH)
    return lon, lat
