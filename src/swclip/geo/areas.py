"""Areas: point-in-polygon tests and boxes in latitude and longitude; read from GeoJSON and other files of polygons.

This is the only reader of areas. Longitudes beyond 180 degrees are allowed, so that one polygon can cross the
antimeridian. A polygon that is cut in two at the antimeridian, as RFC 7946 requires, is read as well.

References:
    H. Butler et al., "The GeoJSON Format", RFC 7946 (2016), section 3.1.9.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from jaxtyping import Bool, Float64

from swclip.errors import ConfigError, InputError, first_line
from swclip.geo.boxes import Box
from swclip.geo.coordinates import displaced, position_problem
from swclip.geo.distance import EARTH_RADIUS_M

_TURNS_DEG = (-360.0, 0.0, 360.0)
_MAX_LONGITUDE_DEG = 540.0
_CIRCLE_CORNERS = 128
_LAYER = "|layername="
_JSON_SUFFIXES = (".json", ".geojson")
_PARQUET_SUFFIXES = (".parquet", ".geoparquet")
_NOT_AN_AREA = "must be a GeoJSON Polygon or MultiPolygon, or a Feature or FeatureCollection of these."
_OUTSIDE_EARTH = "a corner is outside the Earth; longitude comes before latitude, which is -90 to 90."


class AreaError(InputError):
    """The input is not an area.

    Args:
        source: The file or other origin of the input, for the message.
        detail: The reason.
    """

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(f"{source}: {detail}")
        self.detail = detail


@dataclass(frozen=True, eq=False)
class Area:
    """One or more polygons, holes excluded.

    Attributes:
        geometry: Polygon or MultiPolygon of (longitude, latitude) in degrees; longitudes within [-540, 540].
        name: Name of the area in messages.

    Raises:
        AreaError: The geometry is not a valid polygon in degrees, or its area is zero.
    """

    geometry: Any
    name: str = "the area"

    def __post_init__(self) -> None:
        shape = self.geometry
        if not isinstance(shape, shapely.Geometry):
            raise AreaError(self.name, f"is a {type(shape).__name__}; give a shapely Polygon or MultiPolygon.")
        if not shape.is_empty and shape.geom_type not in ("Polygon", "MultiPolygon"):
            raise AreaError(self.name, f"is a {shape.geom_type}; give a Polygon or a MultiPolygon.")
        if not shape.is_valid:
            raise AreaError(self.name, _not_simple(shape))
        if shape.is_empty or shape.area == 0:
            raise AreaError(self.name, "has no area.")
        west, south, east, north = shape.bounds
        if not (west >= -_MAX_LONGITUDE_DEG and east <= _MAX_LONGITUDE_DEG and south >= -90.0 and north <= 90.0):
            raise AreaError(self.name, _OUTSIDE_EARTH)

    def contains(self, positions_deg: Float64[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
        """Test which positions are inside the area or on its border.

        Args:
            positions_deg: (N, 2) latitude, longitude in degrees.

        Returns:
            (N,) True where the position is inside.

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

    @classmethod
    def of_box(cls, box: Box, name: str = "the area") -> Area:
        """The area of a box, which may have longitudes above 180 (`parse_bbox`)."""
        return cls(shapely.box(box.west, box.south, box.east, box.north), name)

    @classmethod
    def around(cls, centre_deg: tuple[float, float], radius_m: float, name: str = "the area") -> Area:
        """A circle, as a polygon of 128 corners that contains it and reaches 0.03 % of the radius beyond it.

        Args:
            centre_deg: Latitude, longitude in degrees.
            radius_m: Radius in metres.
            name: Name of the area in messages.

        Raises:
            ConfigError: The centre is not a position, the radius is not a positive number, or the circle contains a
                pole.
        """
        lat, lon = centre_deg
        problem = position_problem(lat, lon)
        if problem is not None:
            raise ConfigError(f"{name}: {problem.detail}; a centre is LAT,LON in degrees, such as 53.8,-1.55.")
        if not (math.isfinite(radius_m) and radius_m > 0.0):
            raise ConfigError(f"{name}: a radius of {radius_m:g} m is not a positive number of metres.")
        if abs(lat) + math.degrees(radius_m / EARTH_RADIUS_M) >= 90.0:
            raise ConfigError(f"{name}: the circle of {radius_m:g} m around {lat:g}, {lon:g} contains a pole.")
        bearings = np.arange(_CIRCLE_CORNERS) * (2.0 * np.pi / _CIRCLE_CORNERS)
        reach_m = radius_m / math.cos(math.pi / _CIRCLE_CORNERS)
        steps = reach_m * np.stack([np.sin(bearings), np.cos(bearings)], axis=1)
        corners = displaced(np.broadcast_to([lat, lon], steps.shape), steps)
        east = (corners[:, 1] - lon + 180.0) % 360.0 - 180.0  # without a jump at the antimeridian
        return cls(shapely.Polygon(np.stack([lon + east, corners[:, 0]], axis=1)), name)

    @cached_property
    def area_km2(self) -> float:
        """Area on the sphere, square kilometres, holes excluded."""
        # Cylindrical equal-area projection: exact for parallels and meridians, and close for short edges.
        fine = shapely.segmentize(self.geometry, 0.1)
        plane = shapely.transform(fine, lambda xy: np.stack([np.radians(xy[:, 0]), np.sin(np.radians(xy[:, 1]))], 1))
        return float(plane.area) * (EARTH_RADIUS_M / 1000.0) ** 2

    def quarters(self, box: Box) -> list[Box]:
        """The quarters of a box that the area touches; a service that cuts its answers is asked for these instead."""
        return [quarter for quarter in box.quarters() if self.touches(quarter)]

    def touches(self, box: Box) -> bool:
        """Whether the area and a box with longitudes within [-180, 180] have a point in common."""
        return any(
            shapely.intersects(self.geometry, shapely.box(box.west + turn, box.south, box.east + turn, box.north))
            for turn in self._turns
        )

    def to_geojson(self) -> dict[str, Any]:
        """The geometry as GeoJSON, which `parse_area` reads to the same area."""
        document: dict[str, Any] = json.loads(shapely.to_geojson(self.geometry))
        return document

    @cached_property
    def boxes_deg(self) -> list[Box]:
        """Bounding boxes with longitudes within [-180, 180].

        One box, or one for each side of the antimeridian.
        """
        west, south, east, north = self.geometry.bounds
        boxes = []
        for turn in self._turns:
            low, high = max(west - turn, -180.0), min(east - turn, 180.0)
            if low <= high:
                boxes.append(Box(south, low, north, high))
        return boxes

    @property
    def _turns(self) -> list[float]:
        west, _, east, _ = self.geometry.bounds
        return [turn for turn in _TURNS_DEG if west - turn <= 180.0 and east - turn >= -180.0]


def read_areas(path: str | os.PathLike[str]) -> list[tuple[Area, dict[str, Any]]]:
    """Read the areas of a file, each with its properties.

    Args:
        path: GeoJSON (a FeatureCollection, a Feature, or a bare Polygon or MultiPolygon), GeoParquet, or any other file
            of polygons that GDAL reads (GeoPackage, Shapefile, KML, FlatGeobuf) in any coordinate system. The layer of
            a file with several is named as in QGIS: FILE|layername=NAME.

    Raises:
        AreaError: The file cannot be read, contains no polygons or other geometries, has several layers of polygons or
            no coordinate system, or has a ring that crosses itself or jumps across the antimeridian.
    """
    name, _, layer = os.fspath(path).partition(_LAYER)
    try:
        with open(name, "rb") as file:
            is_json = (
                Path(name).suffix.lower() in _JSON_SUFFIXES or file.read(64).lstrip(b"\xef\xbb\xbf \r\n\t")[:1] == b"{"
            )
        if not is_json:
            return _areas_of_layer(name, layer or None)
        text = Path(name).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise AreaError(name, "there is no such file; give a file of polygons, such as GeoJSON.") from None
    except OSError as error:
        raise AreaError(name, f"cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise AreaError(name, "is not JSON.") from None
    return _parse_areas(text, name, None)


def _areas_of_layer(name: str, layer: str | None) -> list[tuple[Area, dict[str, Any]]]:
    import geopandas

    try:
        if Path(name).suffix.lower() in _PARQUET_SUFFIXES:
            frame = geopandas.read_parquet(name)
        else:
            frame = geopandas.read_file(name, layer=layer or _only_layer(name, geopandas.list_layers(name).to_numpy()))
        if not isinstance(frame, geopandas.GeoDataFrame):
            raise AreaError(name, "has no geometry; give a file of polygons, such as GeoJSON.")
        if frame.crs is None:
            raise AreaError(name, "names no coordinate system; save it with one (a Shapefile needs its .prj file).")
        frame = frame.to_crs(4326)
    except AreaError:
        raise
    except Exception as error:  # those of pyogrio, geopandas, pyarrow and pyproj have no common class
        raise AreaError(
            name, f"cannot be read as a file of polygons ({first_line(error).partition(';')[0]})."
        ) from None
    if frame.empty:
        raise AreaError(name, "contains no polygon and so has no area; draw one, for example in QGIS.")
    areas = []
    properties = frame.drop(columns=frame.geometry.name).to_dict(orient="records")
    for number, (shape, values) in enumerate(zip(frame.geometry, properties, strict=True)):
        feature = name if len(frame) == 1 else f"{name}, feature {number}"
        if shape is None:
            raise AreaError(feature, "has no geometry.")
        areas.append(
            (
                Area(shapely.force_2d(shape), feature),
                {str(key): None if value != value else value for key, value in values.items()},
            )
        )
    return areas


def _only_layer(name: str, layers: Any) -> str:
    """The name of the layer with polygons; a layer of points or lines beside it is no area."""
    polygons = [str(layer) for layer, kind in layers if kind is None or "Polygon" in kind or kind == "Unknown"]
    if len(polygons) == 1:
        return polygons[0]
    if not polygons:
        kinds = ", ".join(f"{layer} ({kind})" for layer, kind in layers) or "none"
        raise AreaError(name, f"has no layer of polygons, and so has no area; its layers: {kinds}.")
    raise AreaError(name, f"has several layers: {', '.join(polygons)}. Name one: '{name}{_LAYER}{polygons[0]}'.")


def read_area(path: str | os.PathLike[str]) -> Area:
    """Read the polygons of a file as one area; see `read_areas`."""
    return _union([area for area, _ in read_areas(path)], os.fspath(path))


def parse_area(text: str, source: str = "the area", *, max_corners: int | None = None) -> Area:
    """Read an area from GeoJSON text.

    Args:
        text: A Polygon or MultiPolygon, longitude before latitude; or a Feature or FeatureCollection of these.
        source: Origin of the text, for the message.
        max_corners: Largest number of corners of a polygon; None for no limit.

    Returns:
        The union of all polygons.

    Raises:
        AreaError: The text is not GeoJSON, is not an area, or a polygon crosses itself.

    Example:
        >>> triangle = '{"type": "Polygon", "coordinates": [[[-1, 51], [1, 51], [0, 53], [-1, 51]]]}'
        >>> parse_area(triangle).geometry.area
        2.0
    """
    return _union([area for area, _ in _parse_areas(text, source, max_corners)], source)


def _union(areas: list[Area], name: str) -> Area:
    return areas[0] if len(areas) == 1 else Area(shapely.union_all([area.geometry for area in areas]), name)


def _parse_areas(text: str, source: str, max_corners: int | None) -> list[tuple[Area, dict[str, Any]]]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise AreaError(source, "is not JSON.") from None
    crs = crs_name(document)
    if crs and not crs.upper().endswith(("CRS84", "EPSG::4326", "EPSG:4326")):
        raise AreaError(source, f"its coordinates are in {crs}; save it as WGS84 (EPSG:4326), as GeoJSON requires.")
    features = _features(document)
    if not features:
        raise AreaError(source, "contains no polygon and so has no area; draw one, for example in QGIS.")
    areas = []
    for number, (geometry, properties) in enumerate(features):
        name = source if len(features) == 1 else f"{source}, feature {number}"
        areas.append((Area(_multipolygon(geometry, name, max_corners), name), properties))
    return areas


def crs_name(document: Any) -> str:
    """Return the coordinate reference system that GeoJSON 2008 allowed a file to name, or ""."""
    for key in ("crs", "properties", "name"):
        document = document.get(key) if isinstance(document, dict) else None
    return document if isinstance(document, str) else ""


def _features(document: Any) -> list[tuple[Any, dict[str, Any]]]:
    kind = document.get("type") if isinstance(document, dict) else None
    if kind == "FeatureCollection" and isinstance(document.get("features"), list):
        return [pair for feature in document["features"] for pair in _features(feature)]
    if kind == "Feature":
        properties = document.get("properties")
        return [(document.get("geometry"), properties if isinstance(properties, dict) else {})]
    return [(document, {})]


def _multipolygon(geometry: Any, name: str, max_corners: int | None) -> shapely.Geometry:
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    coordinates = geometry.get("coordinates") if isinstance(geometry, dict) else None
    if kind == "Polygon" and isinstance(coordinates, list):
        return _polygon(coordinates, name, max_corners)
    if kind == "MultiPolygon" and isinstance(coordinates, list):
        return shapely.union_all([_polygon(rings, name, max_corners) for rings in coordinates])
    raise AreaError(name, f"is a {kind}, and {_NOT_AN_AREA}" if isinstance(kind, str) else _NOT_AN_AREA)


def _polygon(rings: Any, name: str, max_corners: int | None) -> shapely.Geometry:
    if not isinstance(rings, list) or not rings:
        raise AreaError(name, "a polygon has at least one ring.")
    corners = sum(len(ring) for ring in rings if isinstance(ring, list))
    if max_corners is not None and corners > max_corners:
        raise AreaError(name, f"has more than {max_corners} corners; simplify it.")
    checked = [[_corner(corner, name) for corner in _ring(ring, name)] for ring in rings]
    for ring in checked:
        if any(abs(second[0] - first[0]) > 180.0 for first, second in pairwise(ring)):
            raise AreaError(
                name,
                "an edge is longer than half the globe. If it should cross the antimeridian, cut the polygon in two "
                "there (RFC 7946), or use longitudes beyond 180.",
            )
    polygon = shapely.Polygon(checked[0], checked[1:])
    if not polygon.is_valid:
        raise AreaError(name, _not_simple(polygon))
    return polygon


def _not_simple(polygon: shapely.Geometry) -> str:
    return f"is not a simple polygon ({shapely.is_valid_reason(polygon).split('[')[0]})."


def _ring(ring: Any, name: str) -> list[Any]:
    if not isinstance(ring, list) or len(ring) < 4 or ring[0] != ring[-1]:
        raise AreaError(name, "a ring has at least four corners, the last the same as the first.")
    return ring


def _corner(corner: Any, name: str) -> tuple[float, float]:
    numbers = corner[:2] if isinstance(corner, list) else []
    if len(numbers) != 2 or any(isinstance(n, bool) or not isinstance(n, (int, float)) for n in numbers):
        raise AreaError(name, "a corner is a pair of numbers, longitude and latitude.")
    try:
        lon, lat = float(numbers[0]), float(numbers[1])
    except OverflowError:  # JSON has integers of any size
        raise AreaError(name, _OUTSIDE_EARTH) from None
    if not (math.isfinite(lon) and math.isfinite(lat) and abs(lon) <= _MAX_LONGITUDE_DEG and abs(lat) <= 90):
        raise AreaError(name, _OUTSIDE_EARTH)
    return lon, lat
