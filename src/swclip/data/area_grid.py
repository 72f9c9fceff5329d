"""Candidates without photographs: a lattice within areas that somebody drew."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64

from swclip.geo.areas import Area, read_areas
from swclip.data.candidates import MAX_GRID_POINTS
from swclip.data.grouping import distinct_positions, position_name, position_steps
from swclip.errors import ConfigError, InputError
from swclip.geo.distance import EARTH_RADIUS_M
from swclip.geo.lattice import line_points, lines_between

_MOST_LOOKED_AT = 100 * MAX_GRID_POINTS  # points of the boxes round the areas: a thin diagonal area has many outside


def area_candidates(path: str | os.PathLike[str], spacing_m: float) -> pd.DataFrame:
    """Candidates on a lattice within the polygons of a GeoJSON file.

    Args:
        path: Polygons; the property `city` of a feature, where it has one, is the city of its candidates.
        spacing_m: Metres between candidates; see `swclip.geo.lattice`.

    Returns:
        candidate_id, lat_deg, lon_deg, city, image_ids (empty), ordered by latitude and longitude. A point in several
        polygons is one candidate, of the first.

    Raises:
        InputError: The file cannot be used, no point lies within, or too many would.
        ConfigError: The spacing is not a positive number.
    """
    if not (np.isfinite(spacing_m) and spacing_m > 0.0):
        raise ConfigError(f"spacing {spacing_m:g}: must be a positive number of metres, such as 20.")
    features = read_areas(path)
    parts, cities = [], []
    for area, properties in features:
        points = lattice_within(area, spacing_m)
        parts.append(points)
        cities.extend([_city(properties)] * len(points))
        _check_count(sum(len(part) for part in parts), str(path), spacing_m)
    every = np.concatenate(parts)
    if not len(every):
        raise InputError(f"{path}: no point of a grid of {spacing_m:g} m lies within; take a narrower spacing.")
    positions, which = distinct_positions(every)
    _, first = np.unique(which, return_index=True)
    return pd.DataFrame(
        {
            "candidate_id": pd.Series(
                [position_name(*pair) for pair in position_steps(positions).tolist()], dtype=object
            ),
            "lat_deg": positions[:, 0],
            "lon_deg": positions[:, 1],
            "city": pd.Series([cities[row] for row in first.tolist()], dtype=object),
            "image_ids": pd.Series([[] for _ in range(len(positions))], dtype=object),
        }
    )


def lattice_within(area: Area, spacing_m: float) -> Float64[np.ndarray, "n 2"]:
    """The points of the Earth's lattice within an area, (N, 2) latitude, longitude in degrees.

    Raises:
        InputError: There would be too many.
    """
    looked_at = sum(_box_points(box, spacing_m) for box in area.boxes_deg)
    if looked_at > _MOST_LOOKED_AT:
        raise _too_many(f"{looked_at:,.0f}", area.name, spacing_m)
    found: list[Float64[np.ndarray, "n 2"]] = []
    count = 0
    for south, west, north, east in area.boxes_deg:
        for line in lines_between(south, north, spacing_m):
            points = line_points(line, west, east, spacing_m)
            found.append(points[area.contains(points)])
            count += len(found[-1])
            _check_count(count, area.name, spacing_m)
    return np.concatenate(found) if found else np.zeros((0, 2))


def _box_points(box: Sequence[float], spacing_m: float) -> float:
    south, west, north, east = np.radians(box)
    return float((np.sin(north) - np.sin(south)) * (east - west) * (EARTH_RADIUS_M / spacing_m) ** 2)


def _check_count(count: int, name: str, spacing_m: float) -> None:
    if count > MAX_GRID_POINTS:
        raise _too_many(f"more than {MAX_GRID_POINTS:,}", name, spacing_m)


def _too_many(count: str, name: str, spacing_m: float) -> InputError:
    return InputError(
        f"{name}: a grid of {spacing_m:g} m would have {count} points, and {MAX_GRID_POINTS:,} are the most; take a "
        "wider spacing or a smaller area."
    )


def _city(properties: dict[str, Any]) -> str | None:
    value = properties.get("city")
    return None if value is None or value == "" else str(value)
