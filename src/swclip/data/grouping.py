"""The units that a protocol draws (places, captures, blocks), and the draw: the same share from each city.

Photographs without a city (None) count as one more city, last in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float64, Int64

from swclip.errors import InputError
from swclip.geo.coordinates import LocalFrame
from swclip.geo.neighbours import distinct_rows, nearest_m
from swclip.geo.places import place_leaders

SAME_PLACE_M = 1.0
"""Photographs without a place_id that are at most this far apart show the same place."""

STEPS_PER_DEG = 10_000_000
"""Positions are distinguished to 1e-7 degrees, about a centimetre."""


def text_or_none(column: pd.Series[Any]) -> list[str | None]:
    """The values of a text column, None where unknown."""
    values = column.to_numpy(dtype=object)
    if pd.api.types.infer_dtype(values, skipna=True) not in ("string", "empty"):
        return [None if value is None or value != value else str(value) for value in values]
    texts: list[str | None] = column.astype(object).where(column.notna(), None).tolist()
    return texts


def rows_by_name(names: Sequence[str | None]) -> dict[str | None, Int64[np.ndarray, " m"]]:
    """The rows of each name, names in order and None last."""
    distinct = sorted(set(names), key=_none_last)
    numbers = _numbers(names, distinct)
    ends = np.cumsum(np.bincount(numbers, minlength=len(distinct)))
    rows = np.split(np.argsort(numbers, kind="stable"), ends[:-1])
    return dict(zip(distinct, rows, strict=True)) if distinct else {}


def id_order(ids: np.ndarray[Any, Any]) -> Int64[np.ndarray, " n"]:
    """(N,) the rows in the order of their ids, which are text."""
    # By the bytes of UTF-8, whose order is that of Python, in a tenth of the time.
    order: Int64[np.ndarray, " n"] = pc.sort_indices(pa.array(ids, pa.large_string())).to_numpy().astype(np.int64)
    return order


def group_numbers(keys: Sequence[Any]) -> Int64[np.ndarray, " n"]:
    """Number the keys from 0 in their sorted order."""
    return _numbers(keys, sorted(set(keys)))


def _numbers(keys: Sequence[Any], distinct: Sequence[Any]) -> Int64[np.ndarray, " n"]:
    number_of = {key: number for number, key in enumerate(distinct)}
    return np.fromiter(map(number_of.__getitem__, keys), dtype=np.int64, count=len(keys))


def pair_numbers(first: Int64[np.ndarray, " n"], second: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Number the pairs of two numberings from 0, in the order of the first and then of the second.

    Example:
        >>> pair_numbers(np.array([1, 0, 1]), np.array([0, 5, 0])).tolist()
        [1, 0, 1]
    """
    width = int(second.max()) + 1 if len(second) else 1
    _, number = np.unique(first * width + second, return_inverse=True)
    return number.reshape(-1).astype(np.int64)


def first_of_group(names: Sequence[str | None], group: Int64[np.ndarray, " n"]) -> list[str | None]:
    """For each group (numbered from 0) the first name that is not None; None where all are."""
    values = np.empty(len(names) + 1, dtype=object)
    values[:-1] = names
    stated = np.flatnonzero(values[:-1] != None)  # noqa: E711  (element by element)
    row = np.full(int(group.max()) + 1, -1, dtype=np.int64)
    row[group[stated[::-1]]] = stated[::-1]  # of repeated indices the last one counts: the first row
    first: list[str | None] = values[row].tolist()
    return first


def distinct_positions(
    positions_deg: Float64[np.ndarray, "n 2"],
) -> tuple[Float64[np.ndarray, "m 2"], Int64[np.ndarray, " n"]]:
    """Positions that differ after rounding to 1e-7 degrees, ordered by latitude and longitude.

    Args:
        positions_deg: (N, 2) latitude, longitude in degrees.

    Returns:
        (M, 2) the rounded positions, and (N,) the number of each row's position among them.

    Example:
        >>> distinct_positions(np.array([[1.0, 2.0], [0.0, 0.0], [1.0, 2.00000001]]))[1].tolist()
        [1, 0, 1]
    """
    unique, which = distinct_rows(position_steps(positions_deg))
    return unique / STEPS_PER_DEG, which


def position_steps(positions_deg: Float64[np.ndarray, "n 2"]) -> Int64[np.ndarray, "n 2"]:
    """Positions in whole steps of 1e-7 degrees: two positions with the same steps are one.

    Args:
        positions_deg: (N, 2) latitude, longitude in degrees.

    Example:
        >>> position_steps(np.array([[51.5, 180.0]])).tolist()
        [[515000000, -1800000000]]
    """
    steps = np.round(positions_deg * STEPS_PER_DEG).astype(np.int64)
    steps[steps[:, 1] == 180 * STEPS_PER_DEG, 1] *= -1  # longitude 180 and -180 are one meridian
    return steps


def position_name(lat_steps: int, lon_steps: int) -> str:
    """The id of a candidate that is named after its position.

    Args:
        lat_steps: Latitude in steps of 1e-7 degrees.
        lon_steps: Longitude in the same steps.

    Example:
        >>> position_name(515074000, -1278000)
        'at+51.5074000-000.1278000'
    """
    lat, lon = lat_steps / STEPS_PER_DEG, lon_steps / STEPS_PER_DEG
    return f"at{lat:+011.7f}{lon:+012.7f}"


def block_ids(
    positions_deg: Float64[np.ndarray, "n 2"], city: Sequence[str | None], block_m: float, rng: np.random.Generator
) -> list[str]:
    """The square block that contains each photograph: "CITY/column/row" in a grid with a random offset in each city.

    Args:
        positions_deg: (N, 2) latitude, longitude in degrees.
        city: The city of each photograph; those without one share a grid.
        block_m: Side of a block, metres.
        rng: The generator of the offsets.

    Returns:
        N block ids, in the order of the photographs.
    """
    blocks = np.empty(len(city), dtype=object)
    for name, rows in rows_by_name(city).items():
        offset = rng.uniform(0.0, block_m, size=2)
        xy = LocalFrame.around(positions_deg[rows]).to_xy_m(positions_deg[rows])
        cells, which = distinct_rows(np.floor((xy + offset) / block_m).astype(np.int64))
        names = [f"{name or ''}/{column}/{line}" for column, line in cells.tolist()]
        blocks[rows] = np.array(names, dtype=object)[which]
    return list(blocks.tolist())


def place_numbers(
    positions_deg: Float64[np.ndarray, "n 2"], city: Sequence[str | None], place: Sequence[str | None]
) -> Int64[np.ndarray, " n"]:
    """Number the place of each photograph: by its place_id within its city, or by its position where it has none.

    Photographs without a place_id are grouped around the first position within `SAME_PLACE_M`. Chains are not
    followed: a sequence with half a metre between frames would otherwise be a single place.

    Args:
        positions_deg: (N, 2) latitude, longitude in degrees.
        city: The city of each photograph.
        place: The place_id of each photograph, None where it has none.

    Returns:
        (N,) numbers from 0.
    """
    known = np.array([name is not None for name in place], dtype=bool)
    number = np.empty(len(place), dtype=np.int64)
    towns = group_numbers([town or "" for town in city])
    names = group_numbers([name or "" for name in place])
    number[known] = pair_numbers(towns[known], names[known])
    if not known.all():
        distinct, which = distinct_positions(positions_deg[~known])
        _, at_position = np.unique(place_leaders(distinct, SAME_PLACE_M), return_inverse=True)
        number[~known] = at_position.reshape(-1)[which] + (int(number[known].max()) + 1 if known.any() else 0)
    return number


def keep_buffer(
    labels: np.ndarray[Any, Any], positions_deg: Float64[np.ndarray, "n 2"], around: str, buffer_m: float
) -> None:
    """Move training photographs near those of another split to `gallery`.

    Args:
        labels: (N,) the split of each photograph; changed in place.
        positions_deg: (N, 2) latitude, longitude in degrees.
        around: The split around which the buffer is.
        buffer_m: Width of the buffer, metres.
    """
    training, held_out = np.flatnonzero(labels == "train"), np.flatnonzero(labels == around)
    if len(training) and len(held_out):
        distance_m = nearest_m(positions_deg[held_out], positions_deg[training], at_most_m=buffer_m)
        labels[training[distance_m <= buffer_m]] = "gallery"


def draw_by_city(
    units: Int64[np.ndarray, " u"],
    city_of_unit: Sequence[str | None],
    share: float,
    rng: np.random.Generator,
    unit: str,
    hint: str = "bring more photographs or another share",
) -> Int64[np.ndarray, " t"]:
    """Draw the same share of the units from each city; the counts are rounded so that they sum to the share of all.

    Args:
        units: Numbers of the units to draw from, in order.
        city_of_unit: The city of each unit, by its number.
        share: The share to draw, at least one unit; 0 draws none.
        rng: The generator.
        unit: Name of the units, plural, for the message.
        hint: What the message advises where there are too few.

    Returns:
        The units drawn, in order.

    Raises:
        InputError: No unit would remain.
    """
    if share == 0.0:
        return units[:0]
    if len(units) - max(1, round(share * len(units))) < 1:
        few = "only one is there" if len(units) == 1 else f"there are {len(units)}"
        raise InputError(f"{unit} to draw from: {few}, too few for a share of {share:g}; {hint}.")
    drawn = [rng.permutation(of_city)[:count] for of_city, count in _quota_by_city(units, city_of_unit, share)]
    return np.sort(np.concatenate(drawn))


def draw_captures(
    captures: Int64[np.ndarray, " c"],
    place_of_capture: Int64[np.ndarray, " a"],
    remaining: Int64[np.ndarray, " p"],
    city_of_capture: Sequence[str | None],
    share: float,
    rng: np.random.Generator,
) -> Int64[np.ndarray, " t"]:
    """Draw the same share of the captures from each city, while at least one capture of each place remains.

    Args:
        captures: Numbers of the captures to draw from.
        place_of_capture: The place of each capture, by its number.
        remaining: How many captures of each place are still in training; lowered in place.
        city_of_capture: The city of each capture, by its number.
        share: The share to draw; 0 draws none.
        rng: The generator.

    Returns:
        The captures drawn, in order; fewer than the share where places have too few.
    """
    taken: list[int] = []
    if share == 0.0:
        return np.array(taken, dtype=np.int64)
    for of_city, count in _quota_by_city(captures, city_of_capture, share):
        left = count
        drawn = rng.permutation(of_city)
        for capture, place in zip(drawn.tolist(), place_of_capture[drawn].tolist(), strict=True):
            if left == 0:
                break
            if remaining[place] > 1:
                remaining[place] -= 1
                left -= 1
                taken.append(capture)
    return np.array(sorted(taken), dtype=np.int64)


def _quota_by_city(
    units: Int64[np.ndarray, " u"], city_of_unit: Sequence[str | None], share: float
) -> list[tuple[Int64[np.ndarray, " m"], int]]:
    """The units of each city and how many of them to draw: the largest remainders are rounded up."""
    total = max(1, round(share * len(units)))
    groups = [units[rows] for rows in rows_by_name([city_of_unit[unit] for unit in units.tolist()]).values()]
    exact = np.array([total * len(group) / len(units) for group in groups])
    count = np.floor(exact).astype(np.int64)
    for i in np.argsort(-(exact - count), kind="stable")[: total - int(count.sum())]:
        count[i] += 1
    return list(zip(groups, count.tolist(), strict=True))


def _none_last(name: str | None) -> tuple[bool, str]:
    return name is None, name or ""
