"""The candidates of an answer: the positions that it may name, written with the splits.

Each row is one distinct position (rounded to 1e-7 degrees, about a centimetre). Its `image_ids` are the training-side
photographs taken there that the search may use; the list is empty where there are none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float64

from swclip.data.grouping import (
    distinct_positions,
    first_of_group,
    id_order,
    position_name,
    position_steps,
    rows_by_name,
    text_or_none,
)
from swclip.errors import ConfigError, InputError
from swclip.geo.areas import Area, read_areas
from swclip.geo.coordinates import LocalFrame
from swclip.geo.distance import EARTH_RADIUS_M
from swclip.geo.lattice import line_points, lines_between

MAX_GRID_POINTS = 5_000_000
_ROW_COLUMNS = ["image_id", "lat_deg", "lon_deg", "city"]


@dataclass(frozen=True)
class GalleryRule:
    """What the candidates are.

    Attributes:
        kind: photographs (the positions of the training side, with its photographs), positions (every distinct
            position, no photograph), or grid (a regular grid over each city, which reveals nothing of the queries).
        spacing_m: The spacing of the grid in metres; None for the other kinds.
    """

    kind: Literal["photographs", "positions", "grid"]
    spacing_m: float | None = None

    def __str__(self) -> str:
        return f"grid:{self.spacing_m:g}" if self.kind == "grid" else self.kind


def parse_gallery(text: str, protocol: str) -> GalleryRule:
    """Parse a gallery rule of the command line.

    Args:
        text: auto, photographs, positions or grid:SPACING_M. `auto` is photographs for known-places, and positions
            for the protocols in which training has no photograph of the query's place.
        protocol: The protocol, for `auto`.

    Raises:
        ConfigError: The text is none of these, or the spacing is not a positive number.

    Example:
        >>> parse_gallery("grid:10", "new-streets")
        GalleryRule(kind='grid', spacing_m=10.0)
    """
    if text == "auto":
        return GalleryRule("photographs" if protocol == "known-places" else "positions")
    if text == "photographs":
        return GalleryRule("photographs")
    if text == "positions":
        return GalleryRule("positions")
    if match := re.fullmatch(r"grid:(.+)", text):
        try:
            spacing = float(match[1].removesuffix("m"))
        except ValueError:
            spacing = float("nan")
        if np.isfinite(spacing) and spacing > 0:
            return GalleryRule("grid", spacing)
        raise ConfigError(f"gallery {text!r}: the spacing must be a positive number of metres, such as grid:10.")
    raise ConfigError(f"gallery {text!r} is not known; choose auto, photographs, positions or grid:SPACING_M.")


def build_candidates(frame: pd.DataFrame, split_of: np.ndarray[Any, Any], rule: GalleryRule) -> pd.DataFrame:
    """The candidates of a split.

    Args:
        frame: The manifest's rows: image_id, lat_deg, lon_deg, city.
        split_of: (N,) the split of each row: train, val, gallery or query.
        rule: What the candidates are.

    Returns:
        Columns candidate_id, lat_deg, lon_deg, city, image_ids, for_val, for_query; independent of the order of the
        rows.

    Raises:
        InputError: The grid would have more than `MAX_GRID_POINTS` points.
    """
    order = id_order(frame["image_id"].to_numpy(dtype=object))
    rows, split_sorted = frame[_ROW_COLUMNS].iloc[order], np.asarray(split_of)[order]
    if rule.spacing_m is not None:
        return _grid(rows, rule.spacing_m)
    return _at_photographs(rows, split_sorted, with_photographs=rule.kind == "photographs")


def candidates_at(frame: pd.DataFrame, for_query: np.ndarray[Any, Any], for_val: np.ndarray[Any, Any]) -> pd.DataFrame:
    """Candidates at the positions of selected photographs, with these photographs.

    Args:
        frame: The manifest's rows: image_id, lat_deg, lon_deg, city.
        for_query: (N,) whether the row's photograph is in the gallery of the queries.
        for_val: (N,) whether it is in the gallery of the validation queries.

    Returns:
        As `build_candidates`.
    """
    order = id_order(frame["image_id"].to_numpy(dtype=object))
    return _with_flags(frame[_ROW_COLUMNS].iloc[order], np.asarray(for_query)[order], np.asarray(for_val)[order])


def _with_flags(rows: pd.DataFrame, query: np.ndarray[Any, Any], val: np.ndarray[Any, Any]) -> pd.DataFrame:
    positions, which = distinct_positions(rows[["lat_deg", "lon_deg"]].to_numpy(np.float64))
    usable = np.flatnonzero(query | val)
    usable = usable[np.argsort(which[usable], kind="stable")]
    names = rows["image_id"].to_numpy(dtype=object)[usable].tolist()
    bounds = np.searchsorted(which[usable], np.arange(len(positions) + 1)).tolist()
    image_ids: list[list[str]] = [names[start:stop] for start, stop in pairwise(bounds)]
    flags = [np.bincount(which, weights=chosen, minlength=len(positions)) > 0 for chosen in (val, query)]
    return _kept(rows, positions, which, image_ids, flags[0], flags[1])


def _at_photographs(rows: pd.DataFrame, split_of: np.ndarray[Any, Any], *, with_photographs: bool) -> pd.DataFrame:
    train, val = split_of == "train", split_of == "val"
    if with_photographs:
        # Validation belongs to the training side when queries are answered.
        return _with_flags(rows, train | val, train)
    positions, which = distinct_positions(rows[["lat_deg", "lon_deg"]].to_numpy(np.float64))
    every = np.ones(len(positions), dtype=bool)
    return _kept(rows, positions, which, [[] for _ in positions], every, every)


def _kept(
    rows: pd.DataFrame,
    positions: Float64[np.ndarray, "p 2"],
    which: np.ndarray[Any, Any],
    image_ids: list[list[str]],
    for_val: np.ndarray[Any, Any],
    for_query: np.ndarray[Any, Any],
) -> pd.DataFrame:
    """Number the positions that are candidates of either split; each has the first city stated there."""
    cities = first_of_group(text_or_none(rows["city"]), which)
    kept = np.flatnonzero(for_val | for_query)
    digits = len(str(len(kept)))
    return _table(
        [f"pos-{number:0{digits}d}" for number in range(len(kept))],
        positions[kept],
        [cities[i] for i in kept],
        [image_ids[i] for i in kept],
        for_val[kept],
        for_query[kept],
    )


def _grid(rows: pd.DataFrame, spacing_m: float) -> pd.DataFrame:
    positions = rows[["lat_deg", "lon_deg"]].to_numpy(np.float64)
    ids: list[str] = []
    labels: list[str | None] = []
    parts: list[Float64[np.ndarray, "m 2"]] = []
    boxes = []
    for city, inside in rows_by_name(text_or_none(rows["city"])).items():
        frame = LocalFrame.around(positions[inside])
        xy = frame.to_xy_m(positions[inside])
        # Centred on the bounding box: centred on the mean position, the grid would shift with every photograph.
        middle = LocalFrame(*frame.to_deg((xy.min(axis=0) + xy.max(axis=0)) / 2.0)[0].tolist())
        narrower = np.cos(np.radians(middle.lat_deg)) / np.cos(np.radians(frame.lat_deg))
        size_m = np.ptp(xy, axis=0) * np.array([narrower, 1.0])
        # One spacing of padding on each side, so that the photographs at the edge are not the edge of the grid.
        boxes.append((city, middle, np.ceil(size_m / spacing_m) + 3))
    _check_grid_size(boxes, spacing_m)
    for city, frame, shape in boxes:
        columns, lines = int(shape[0]), int(shape[1])
        line, column = (axis.reshape(-1) for axis in np.mgrid[0:lines, 0:columns])
        points = frame.to_deg(np.stack([column - (columns - 1) / 2, line - (lines - 1) / 2], axis=1) * spacing_m)
        real = np.abs(points[:, 0]) <= 90.0  # a grid near a pole would extend beyond it
        prefix = "grid" if city is None else f"grid-{city}"
        ids.extend(f"{prefix}-{r}-{c}" for r, c in zip(line[real].tolist(), column[real].tolist(), strict=True))
        labels.extend([city] * int(real.sum()))
        parts.append(points[real])
    every = np.ones(len(ids), dtype=bool)
    return _table(ids, np.concatenate(parts), labels, [[] for _ in ids], every, every)


def _check_grid_size(boxes: Iterable[tuple[str | None, LocalFrame, Any]], spacing_m: float) -> None:
    sizes = {city: float(shape[0] * shape[1]) for city, _, shape in boxes}
    if (total := sum(sizes.values())) > MAX_GRID_POINTS:
        largest = max(sizes, key=lambda city: sizes[city])
        where = f"city {largest!r}" if largest is not None else "the photographs without a city"
        raise InputError(
            f"a grid of {spacing_m:g} m would have {total:,.0f} points, more than {MAX_GRID_POINTS:,}, "
            f"{sizes[largest]:,.0f} of them over the bounding box of {where}; take a wider spacing, or check for a "
            "photograph far from the others."
        )


def _table(
    ids: list[str],
    positions: Float64[np.ndarray, "m 2"],
    cities: list[str | None],
    image_ids: list[list[str]],
    for_val: np.ndarray[Any, Any],
    for_query: np.ndarray[Any, Any],
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "candidate_id": pd.Series(ids, dtype=object),
            "lat_deg": positions[:, 0],
            "lon_deg": positions[:, 1],
            "city": pd.Series(cities, dtype=object),
            "image_ids": pd.Series(image_ids, dtype=object),
            "for_val": for_val,
            "for_query": for_query,
        }
    )


_MAX_TESTED_POINTS = 100 * MAX_GRID_POINTS  # points in the areas' bounding boxes: most may be outside a diagonal area


def area_candidates(path: str | os.PathLike[str], spacing_m: float) -> pd.DataFrame:
    """Candidates on a lattice within the polygons of a file.

    Args:
        path: The polygons; the property `city` of a feature, if any, is the city of its candidates.
        spacing_m: Metres between candidates; see `swclip.geo.lattice`.

    Returns:
        Columns candidate_id, lat_deg, lon_deg, city, image_ids (empty), ordered by latitude and longitude. A point in
        several polygons is one candidate, of the first of them.

    Raises:
        InputError: The file cannot be used, or contains no lattice point, or more than `MAX_GRID_POINTS`.
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
        raise InputError(f"{path}: no point of a grid of {spacing_m:g} m is in the polygons; take a narrower spacing.")
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
    """The points of the global lattice within an area.

    Args:
        area: The area.
        spacing_m: Metres between points.

    Returns:
        (N, 2) latitude, longitude in degrees.

    Raises:
        InputError: There would be more than `MAX_GRID_POINTS`.
    """
    tested = sum(_box_points(box, spacing_m) for box in area.boxes_deg)
    if tested > _MAX_TESTED_POINTS:
        raise _too_many(f"{tested:,.0f}", area.name, spacing_m)
    parts: list[Float64[np.ndarray, "n 2"]] = []
    count = 0
    for south, west, north, east in area.boxes_deg:
        for line in lines_between(south, north, spacing_m):
            points = line_points(line, west, east, spacing_m)
            parts.append(points[area.contains(points)])
            count += len(parts[-1])
            _check_count(count, area.name, spacing_m)
    return np.concatenate(parts) if parts else np.zeros((0, 2))


def _box_points(box: Sequence[float], spacing_m: float) -> float:
    south, west, north, east = np.radians(box)
    return float((np.sin(north) - np.sin(south)) * (east - west) * (EARTH_RADIUS_M / spacing_m) ** 2)


def _check_count(count: int, name: str, spacing_m: float) -> None:
    if count > MAX_GRID_POINTS:
        raise _too_many(f"more than {MAX_GRID_POINTS:,}", name, spacing_m)


def _too_many(count: str, name: str, spacing_m: float) -> InputError:
    return InputError(
        f"{name}: a grid of {spacing_m:g} m would have {count} points; at most {MAX_GRID_POINTS:,} are allowed; take a "
        "wider spacing or a smaller area."
    )


def _city(properties: dict[str, Any]) -> str | None:
    value = properties.get("city")
    return None if value is None or value == "" else str(value)
