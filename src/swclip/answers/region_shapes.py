"""Regions of answers as polygons for maps: GeoJSON, longitude first, cut at the antimeridian (RFC 7946, 3.1.9)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import h3
import numpy as np

from swclip.geo.coordinates import rounded_deg

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

_Ring = Sequence[tuple[float, float]]


def region_geometry(cells: Sequence[str], resolution: int) -> dict[str, Any] | None:
    """The outline of a set of H3 cells.

    Args:
        cells: H3 ids of the resolution, or coarser ids for all cells within them (compact form).
        resolution: H3 resolution of the region.

    Returns:
        A GeoJSON Polygon or MultiPolygon, None where there are no cells.

    Example:
        >>> shape = region_geometry(["8b195da49b71fff"], 11)
        >>> shape["type"], len(shape["coordinates"][0])
        ('Polygon', 7)
    """
    if not cells:
        return None
    from shapely import transform, union_all
    from shapely.geometry import mapping

    polygons = h3.cells_to_h3shape(h3.uncompact_cells(list(cells), resolution), tight=False)
    # Each ring is cut separately: a hole may cross the antimeridian or enclose a pole where its outline does not.
    merged = union_all(
        [_cut(part.outer).difference(union_all([_cut(hole) for hole in part.holes])) for part in polygons]
    )
    rounded = transform(merged, lambda xy: np.vectorize(rounded_deg)(xy))
    return json.loads(json.dumps(mapping(_outwards(rounded))))  # type: ignore[no-any-return]


def _unrolled(ring: _Ring) -> Any:
    """(K, 2) longitude and latitude without jumps at the antimeridian; a ring around a pole is closed along it."""
    lat, lon = np.array(ring, dtype=np.float64).T
    along = np.unwrap(np.append(lon, lon[0]), period=360.0)
    if abs(along[-1] - along[0]) < 180.0:
        return np.stack([along[:-1], lat], axis=1)
    pole = np.copysign(90.0, lat.mean())
    corners = [(along[-1], lat[0]), (along[-1], pole), (along[0], pole)]
    return np.concatenate([np.stack([along[:-1], lat], axis=1), corners])


def _cut(ring: _Ring) -> BaseGeometry:
    """The area that a ring encloses, as polygons between longitudes -180 and 180 degrees."""
    from shapely import Polygon, box, transform, union_all

    polygon = Polygon(_unrolled(ring))
    west, _, east, _ = polygon.bounds
    if west >= -180.0 and east <= 180.0:
        return polygon
    pieces = []
    for turn in (-360.0, 0.0, 360.0):
        piece = polygon.intersection(box(turn - 180.0, -90.0, turn + 180.0, 90.0))
        if piece.area > 0.0:
            pieces.append(transform(piece, lambda xy, turn=turn: xy - [turn, 0.0]))
    return union_all(pieces)


def _outwards(shape: BaseGeometry) -> BaseGeometry:
    """Outlines anticlockwise and holes clockwise, as GeoJSON requires."""
    from shapely import MultiPolygon, Polygon
    from shapely.geometry.polygon import orient

    if isinstance(shape, Polygon):
        return orient(shape)
    return MultiPolygon([orient(part) for part in shape.geoms])
