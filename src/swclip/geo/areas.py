"""Areas on the ground, read from GeoJSON: whether positions lie inside, and the boxes that hold them.

Longitudes may run past 180 degrees, so that an area may cross the antimeridian in one piece; RFC 7946 cuts it in two
there, which is read as well.

References:
    H. Butler et al., "The GeoJSON Format", RFC 7946 (2016), section 3.1.9.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from jaxtyping import Bool, Float64
from shapely.geometry import shape

from swclip.errors import InputError

_TURNS_DEG = (-360.0, 0.0, 360.0)


@dataclass(frozen=True, eq=False)
class Area:
    """One or several polygons, holes left out.

    Attributes:
        geometry: Polygon or MultiPolygon of (longitude, latitude) in degrees; longitudes within [-540, 540].
        name: What to call it in a message.
    """

    geometry: Any
    name: str = "the area"

    def contains(self, positions_deg: Float64[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
        """Which positions lie inside, or on the border.

        Args:
            positions_deg: (N, 2) latitude, longitude in degrees.

        Example:
            >>> square = Area(shapely.box(179.0, -1.0, 181.0, 1.0))
            >>> square.contains(np.array([[0.0, 179.5], [0.0, -179.5], [0.0, 178.0]])).tolist()
            [True, True, False]
        """
        inside = np.zeros(len(positions_deg), dtype=bool)
        shapely.prepare(self.geometry)
        for turn in self._turns:
            inside |= shapely.intersects_xy(self.geometry, positions_deg[:, 1] + turn, positions_deg[:, 0])
        return inside

    @cached_property
    def boxes_deg(self) -> list[tuple[float, float, float, float]]:
        """Boxes (south, west, north, east) that hold the area, longitudes within [-180, 180]: one, or one a side of the
        antimeridian."""
        west, south, east, north = self.geometry.bounds
        boxes = []
        for turn in self._turns:
            low, high = max(west - turn, -180.0), min(east - turn, 180.0)
            if low <= high:
                boxes.append((south, low, north, high))
        return boxes

    @property
    def _turns(self) -> list[float]:
        west, _, east, _ = self.geometry.bounds
        return [turn for turn in _TURNS_DEG if west - turn <= 180.0 and east - turn >= -180.0]


def read_areas(path: str | os.PathLike[str]) -> list[tuple[Area, dict[str, Any]]]:
    """Read the polygons of a GeoJSON file, each with its properties.

    Args:
        path: A FeatureCollection, a Feature, or a bare Polygon or MultiPolygon.

    Raises:
        InputError: It cannot be read, holds something else than polygons or none, is not in degrees, or a ring crosses
            itself or jumps over the antimeridian.
    """
    file = Path(path)
    try:
        document = json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{file}: is not there; give a GeoJSON file of polygons.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: cannot be read as GeoJSON ({error}).") from error
    crs = str(
        (((document if isinstance(document, dict) else {}).get("crs") or {}).get("properties") or {}).get("name", "")
    )
    if crs and not crs.upper().endswith(("CRS84", "EPSG::4326", "EPSG:4326")):
        raise InputError(
            f"{file}: its coordinates are in {crs}; write it again as WGS84 (EPSG:4326), as GeoJSON should be."
        )
    found = [
        (Area(_polygons(geometry, f"{file}, feature {number}"), str(file)), properties)
        for number, (geometry, properties) in enumerate(_features(document))
    ]
    if not found:
        raise InputError(f"{file}: holds no polygon; draw one, for example in QGIS, and save it as GeoJSON.")
    return found


def read_area(path: str | os.PathLike[str]) -> Area:
    """Read the polygons of a GeoJSON file as one area; see `read_areas`."""
    return Area(shapely.union_all([area.geometry for area, _ in read_areas(path)]), str(path))


def _features(document: Any) -> list[tuple[Any, dict[str, Any]]]:
    if not isinstance(document, dict):
        return []
    if isinstance(document.get("features"), list):
        return [pair for feature in document["features"] for pair in _features(feature)]
    if document.get("type") == "Feature":
        return [(document.get("geometry"), document.get("properties") or {})]
    return [(document, {})]


def _polygons(geometry: Any, name: str) -> Any:
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind not in ("Polygon", "MultiPolygon"):
        raise InputError(f"{name}: is a {kind}, and a Polygon or MultiPolygon is needed.")
    try:
        polygons = shapely.force_2d(shape(geometry))
        corners = shapely.get_coordinates(polygons)
    except (shapely.errors.ShapelyError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise InputError(f"{name}: its coordinates cannot be read ({error}).") from error
    if not len(corners) or not np.isfinite(corners).all():
        raise InputError(f"{name}: is empty, or a coordinate is not a number.")
    if (np.abs(corners[:, 1]) > 90.0).any() or (np.abs(corners[:, 0]) > 540.0).any():
        raise InputError(f"{name}: its coordinates are not longitude and latitude in degrees.")
    if not polygons.is_valid:
        raise InputError(f"{name}: is not a sound polygon ({shapely.is_valid_reason(polygons)}); mend it.")
    for ring in shapely.get_rings(shapely.get_parts(polygons)):
        if (np.abs(np.diff(shapely.get_coordinates(ring)[:, 0])) > 180.0).any():
            raise InputError(
                f"{name}: an edge is longer than half the globe. If it is to cross the antimeridian, cut the polygon "
                "in two there (RFC 7946), or let its longitudes run past 180."
            )
    return polygons
