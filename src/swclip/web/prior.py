"""What is known of the place beforehand: an area that it lies in, or roughly where it is."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from jaxtyping import Float64, Int64

from swclip.geo.distance import haversine_m
from swclip.web.problems import Problem, invalid

_MOST_VERTICES = 5_000


def area_of(text: str) -> shapely.Geometry:
    """Read a GeoJSON area.

    Args:
        text: A Polygon or MultiPolygon, longitude before latitude; or a Feature or FeatureCollection of such.

    Raises:
        Problem: It is not GeoJSON, not an area, or crosses itself.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise invalid("prior", "is not JSON.") from None
    polygons = [_polygon(rings) for rings in _all_rings(value)]
    area = shapely.union_all(polygons)
    if area.is_empty or area.area == 0:
        raise invalid("prior", "has no area.")
    return area


@dataclass(frozen=True, eq=False)
class Prior:
    """What is known, in terms of a gallery's candidates.

    Attributes:
        rows: (S,) candidates that the place can be at, increasing; None for all.
        log_weight: (M,) logarithm of each candidate's weight, up to a constant; None where all weigh the same.
    """

    rows: Int64[np.ndarray, " s"] | None = None
    log_weight: Float64[np.ndarray, " m"] | None = None

    @classmethod
    def of(
        cls,
        positions_deg: Float64[np.ndarray, "m 2"],
        area: shapely.Geometry | None = None,
        near: tuple[float, float, float] | None = None,
    ) -> Prior | None:
        """The prior of an area and of a rough position; None where nothing is known.

        An area is a fact: candidates outside are as if they were not in the gallery. A rough position is a belief with
        its radius r as the standard deviation, w = exp(-d^2 / (2 r^2)) with d the haversine distance; it rules out
        none.

        Args:
            positions_deg: (M, 2) candidates, degrees.
            area: The area in longitude and latitude.
            near: Latitude and longitude of the rough position in degrees, and r in metres.

        Raises:
            Problem: No candidate lies in the area.

        Example:
            >>> places = np.array([[51.5, 0.0], [51.6, 0.0]])
            >>> prior = Prior.of(places, area_of('{"type": "Polygon", "coordinates": [[[-1, 51], [1, 51], [0, 51.55], '
            ...                                  '[-1, 51]]]}'))
            >>> prior.rows.tolist(), Prior.of(places) is None
            ([0], True)
        """
        if area is None and near is None:
            return None
        rows = log_weight = None
        if area is not None:
            inside = shapely.contains_xy(area, positions_deg[:, 1], positions_deg[:, 0])
            rows = np.flatnonzero(inside).astype(np.int64)
            if len(rows) == 0:
                raise Problem(
                    "prior-excludes-all", "none of the gallery's candidates lies in `prior`; draw it elsewhere."
                )
        if near is not None:
            lat, lon, radius_m = (np.float64(value) for value in near)
            away_m = haversine_m(positions_deg[:, 0], positions_deg[:, 1], lat, lon)
            log_weight = -0.5 * (away_m / radius_m) ** 2
        return cls(rows, log_weight)


def _all_rings(value: Any) -> list[list[Any]]:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "FeatureCollection" and isinstance(value.get("features"), list):
        return [rings for feature in value["features"] for rings in _all_rings(feature)]
    if kind == "Feature":
        return _all_rings(value.get("geometry"))
    inside = value.get("coordinates") if isinstance(value, dict) else None
    if kind == "Polygon" and isinstance(inside, list):
        return [inside]
    if kind == "MultiPolygon" and isinstance(inside, list):
        return inside
    raise invalid("prior", "must be a GeoJSON Polygon or MultiPolygon, or a Feature or FeatureCollection of such.")


def _polygon(rings: Any) -> shapely.Geometry:
    if not isinstance(rings, list) or not rings:
        raise invalid("prior", "a polygon has at least one ring.")
    if sum(len(ring) for ring in rings if isinstance(ring, list)) > _MOST_VERTICES:
        raise invalid("prior", f"has more than {_MOST_VERTICES} corners; simplify it.")
    checked = [[_corner(corner) for corner in _ring(ring)] for ring in rings]
    polygon = shapely.Polygon(checked[0], checked[1:])
    if not polygon.is_valid:
        raise invalid("prior", f"is not a simple polygon ({shapely.is_valid_reason(polygon).split('[')[0]}).")
    return polygon


def _ring(ring: Any) -> list[Any]:
    if not isinstance(ring, list) or len(ring) < 4 or ring[0] != ring[-1]:
        raise invalid("prior", "a ring has at least four corners, the last the same as the first.")
    return ring


def _corner(corner: Any) -> tuple[float, float]:
    numbers = corner[:2] if isinstance(corner, list) else []
    if len(numbers) != 2 or any(isinstance(n, bool) or not isinstance(n, (int, float)) for n in numbers):
        raise invalid("prior", "a corner is a pair of numbers, longitude and latitude.")
    lon, lat = float(numbers[0]), float(numbers[1])
    if not (math.isfinite(lon) and math.isfinite(lat) and abs(lon) <= 180 and abs(lat) <= 90):
        raise invalid("prior", "a corner lies outside the Earth; longitude is -180 to 180 and comes before latitude.")
    return lon, lat
