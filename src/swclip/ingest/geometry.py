"""Points in cells: well-known text and binary, GeoJSON, and x and y of GeoArrow, as latitude and longitude."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely
from jaxtyping import Bool, Float64, Int64

from swclip.geo.projections import problems_of_projected

_WKT = re.compile(
    r"\s*(?:SRID\s*=\s*(?P<srid>\d+)\s*;)?\s*(?P<text>(?:MULTI)?(?:POINT|LINESTRING|POLYGON)|GEOMETRYCOLLECTION)\b",
    re.IGNORECASE,
)
_HEX = re.compile(r"(?:\\x)?(?P<digits>0[01](?:[0-9a-f]{2}){8,})$", re.IGNORECASE)
_WGS84 = (0, 4326, 4979)


@dataclass(frozen=True)
class Points:
    """Points of N cells.

    Attributes:
        lat_deg: (N,) latitudes in degrees, NaN where a cell has no point.
        lon_deg: (N,) longitudes in degrees.
        problems: {index: why the geometry of the cell is not a point}; an empty cell is no problem.
    """

    lat_deg: Float64[np.ndarray, " n"]
    lon_deg: Float64[np.ndarray, " n"]
    problems: dict[int, str] = field(default_factory=dict)

    @property
    def stated(self) -> Bool[np.ndarray, " n"]:
        """(N,) whether a cell has a point."""
        return np.asarray(~(np.isnan(self.lat_deg) & np.isnan(self.lon_deg)), dtype=np.bool_)


def is_geometry(value: Any) -> bool:
    """Return whether a cell is in a notation of geometries; its content may still be broken.

    Example:
        >>> is_geometry("SRID=4326;POINT (-1.5 53.8)"), is_geometry({"x": 1.0, "y": 2.0}), is_geometry("53.8, -1.5")
        (True, True, False)
    """
    if isinstance(value, (bytes, bytearray, memoryview)):
        return True
    if isinstance(value, str):
        return bool(_WKT.match(value) or _HEX.match(value.strip())) or _geojson(value) is not None
    return isinstance(value, Mapping) and (_geojson(value) is not None or {"x", "y"} <= set(value))


def points_of_cells(values: Sequence[Any]) -> Points:
    """Read geometries in cells.

    Args:
        values: WKT or EWKT; WKB or EWKB as bytes or hexadecimal text; GeoJSON as text or object; an object with x and
            y. x is the longitude. Coordinates with an SRID are converted to WGS84.

    Example:
        >>> points = points_of_cells(["POINT (-1.5491 53.8008)", None, "MULTIPOINT ((1 2), (3 4))"])
        >>> points.lat_deg.tolist(), points.problems
        ([53.8008, nan, nan], {2: 'it is a MultiPoint of 2 points'})
    """
    shapes = np.full(len(values), None, dtype=object)
    srid = np.zeros(len(values), dtype=np.int64)
    binary: dict[int, Any] = {}
    text: dict[int, str] = {}
    problems: dict[int, str] = {}
    for at, value in enumerate(values):
        if isinstance(value, (bytes, bytearray, memoryview)):
            if len(value):
                binary[at] = bytes(value)
        elif isinstance(value, str) and (match := _WKT.match(value)) is not None:
            text[at], srid[at] = value[match.start("text") :], int(match["srid"] or 0)
        elif isinstance(value, str) and (digits := _HEX.match(value.strip())) is not None:
            binary[at] = bytes.fromhex(digits["digits"])
        elif (geojson := _geojson(value)) is not None:
            point = point_of_geojson(geojson)
            if isinstance(point, str):
                problems[at] = point
            elif point is not None:
                shapes[at] = _point(point[1], point[0])
        elif isinstance(value, Mapping) and {"x", "y"} <= set(value):
            shapes[at] = _point(value["x"], value["y"])
        elif not _is_empty(value):
            problems[at] = "it is not a geometry in WKT, WKB or GeoJSON"
    for read, cells in ((shapely.from_wkb, binary), (shapely.from_wkt, text)):
        if cells:
            at_cells = np.fromiter(cells, dtype=np.int64)
            shapes[at_cells] = read(np.array([*cells.values()], dtype=object), on_invalid="ignore")
            for at in at_cells[[shape is None for shape in shapes[at_cells]]].tolist():
                problems[at] = "its geometry is damaged, or in a notation of one program; write WKT or WKB"
    known = np.array([shape is not None for shape in shapes], dtype=np.bool_)
    srid[known] = np.maximum(srid[known], shapely.get_srid(shapes[known]))
    points = points_of_shapes(shapes)
    return _in_wgs84(Points(points.lat_deg, points.lon_deg, {**problems, **points.problems}), srid)


def points_of_shapes(shapes: Sequence[Any] | np.ndarray[Any, Any]) -> Points:
    """Return the points of shapely geometries in longitude and latitude; a MultiPoint of one is its point."""
    array = np.asarray(shapes, dtype=object)
    kinds, sizes = shapely.get_type_id(array), shapely.get_num_geometries(array)
    empty = (kinds == -1) | shapely.is_empty(array)
    one = ~empty & ((kinds == 0) | ((kinds == 4) & (sizes == 1)))
    lat, lon = np.full(len(array), np.nan), np.full(len(array), np.nan)
    points = shapely.get_geometry(array[one], 0)
    lat[one], lon[one] = shapely.get_y(points), shapely.get_x(points)
    problems = {}
    for at in np.flatnonzero(~one & ~empty).tolist():
        kind = array[at].geom_type
        problems[at] = f"it is a MultiPoint of {sizes[at]} points" if kind == "MultiPoint" else f"it is a {kind}"
    return Points(lat, lon, problems)


def point_of_geojson(geometry: Any) -> tuple[Any, Any] | str | None:
    """Return latitude and longitude of a GeoJSON point as written, why it is none, or None without a geometry.

    Example:
        >>> point_of_geojson({"type": "MultiPoint", "coordinates": [[-1.5, 53.8]]}), point_of_geojson(None)
        ((53.8, -1.5), None)
    """
    if geometry is None:
        return None
    if not isinstance(geometry, Mapping):
        return "it is not a GeoJSON geometry"
    kind, coordinates = geometry.get("type"), geometry.get("coordinates")
    if not isinstance(coordinates, (list, tuple, np.ndarray)) or kind not in ("Point", "MultiPoint"):
        return f"it is a {kind}" if isinstance(kind, str) else "it is not a GeoJSON geometry"
    if kind == "MultiPoint":
        if len(coordinates) > 1:
            return f"it is a MultiPoint of {len(coordinates)} points"
        coordinates = coordinates[0] if len(coordinates) else ()
    if len(coordinates) == 0:
        return None
    return (coordinates[1], coordinates[0]) if len(coordinates) > 1 else "its point has one coordinate"


def _geojson(value: Any) -> Mapping[str, Any] | None:
    if isinstance(value, str) and value.lstrip()[:1] == "{":
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return value if isinstance(value, Mapping) and {"type", "coordinates"} <= set(value) else None


def _point(x: Any, y: Any) -> Any:
    try:
        return shapely.Point(float(x), float(y))
    except (TypeError, ValueError):
        return None


def _is_empty(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in ("", "null", "none", "nan", "point empty")
    return value is None or (isinstance(value, (float, np.floating)) and bool(np.isnan(value)))


def _in_wgs84(points: Points, srid: np.ndarray[Any, Any]) -> Points:
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    for code in sorted(set(srid[points.stated].tolist()).difference(_WGS84)):
        rows = np.flatnonzero(points.stated & (srid == code))
        try:
            convert_points(points, rows, CRS.from_epsg(code))
        except CRSError:
            points.problems.update(dict.fromkeys(rows.tolist(), f"its SRID {code} is not known"))
            points.lat_deg[rows] = points.lon_deg[rows] = np.nan
    return points


def convert_points(points: Points, rows: Int64[np.ndarray, " k"], crs: Any) -> None:
    """Convert points to WGS84 in place; those that cannot be of the coordinate system become problems.

    Args:
        points: Points with x in `lon_deg` and y in `lat_deg`.
        rows: (K,) the points to convert.
        crs: Their `pyproj.CRS`.
    """
    from pyproj import Transformer

    x, y = points.lon_deg[rows], points.lat_deg[rows]
    lon, lat = Transformer.from_crs(crs, 4326, always_xy=True).transform(x, y)
    points.lon_deg[rows], points.lat_deg[rows] = lon, lat
    for at, problem in problems_of_projected(x, y, np.stack([lat, lon], axis=1), crs).items():
        points.problems[int(rows[at])] = problem
        points.lat_deg[rows[at]] = points.lon_deg[rows[at]] = np.nan
