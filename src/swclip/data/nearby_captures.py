"""Whether the training photographs near a query are from the same drive: then no place was passed twice.

Lists of neighbours would be billions of pairs where many photographs are at one place. Smallest and largest values of
the neighbours (of sequence and time) decide the same, and most queries are decided by few neighbours.
"""

from __future__ import annotations

from enum import IntEnum
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int64

from swclip.data.grouping import group_numbers, text_or_none
from swclip.data.manifest import Manifest
from swclip.geo.coordinates import unit_vectors
from swclip.geo.distance import EARTH_RADIUS_M
from swclip.geo.neighbours import SphereIndex, distinct_rows

SAME_DRIVE_RADIUS_M = 25.0
SAME_DRIVE_S = 600.0
_FEW = 8


def nearby_captures(
    manifest: Manifest, query_rows: Int64[np.ndarray, " q"], training: Int64[np.ndarray, " t"]
) -> dict[str, Any]:
    """Count queries by whether the training photographs near them are from another drive, or all from the same one.

    Two photographs are from one drive if they have the same sequence_id or, where one has none, if their times differ
    by at most `SAME_DRIVE_S`; without times either it is unknown.

    Args:
        manifest: The photographs.
        query_rows: Rows of the queries.
        training: Rows of their training side.

    Returns:
        radius_m, and the numbers other_drive, same_drive_only, unknown and none_near, which sum to the queries.
    """
    counts = {"other_drive": 0, "same_drive_only": 0, "unknown": 0, "none_near": 0}
    if len(query_rows) and len(training):
        sequence, time_s = sequence_numbers(manifest), capture_times_s(manifest)
        places, place_of_row = distinct_rows(manifest.positions_deg[training])
        of_place = _extremes(sequence[training], time_s[training], place_of_row)
        spots, spot = distinct_rows(manifest.positions_deg[query_rows])
        index = SphereIndex(places)
        few, none_near = _of_few(index, of_place, spots)
        # What few neighbours contain, all contain; what a larger area lacks, the neighbours lack.
        other, undecided = _judged(few[spot], sequence[query_rows], time_s[query_rows])
        other_around, undecided_around = _judged(
            _of_area(places, of_place, spots)[spot], sequence[query_rows], time_s[query_rows]
        )
        same_around = ~other_around & (undecided == undecided_around)
        open_ = ~none_near[spot] & ~other & ~same_around
        if open_.any():
            left = np.unique(spot[open_])
            few[left] = _of_all(index, of_place, spots[left])
            other, undecided = _judged(few[spot], sequence[query_rows], time_s[query_rows])
        near = ~none_near[spot]
        counts["none_near"] = int((~near).sum())
        counts["other_drive"] = int((near & other).sum())
        counts["same_drive_only"] = int((near & ~other & ~undecided).sum())
        counts["unknown"] = int((near & ~other & undecided).sum())
    return {"radius_m": SAME_DRIVE_RADIUS_M, **counts}


def sequence_numbers(manifest: Manifest) -> Int64[np.ndarray, " n"]:
    """Number the sequences of photographs from 0; -1 where unknown."""
    names = text_or_none(manifest.frame["sequence_id"])
    numbers = group_numbers([name or "" for name in names])
    return np.where([name is None for name in names], -1, numbers)


def capture_times_s(manifest: Manifest) -> Float64[np.ndarray, " n"]:
    """Times of capture, seconds since 1970; NaN where unknown."""
    times = pd.to_datetime(manifest.frame["captured_at"], utc=True).to_numpy(dtype="datetime64[ms]")
    seconds: Float64[np.ndarray, " n"] = times.astype(np.int64) / 1000.0
    return np.where(np.isnat(times), np.nan, seconds)


class _At(IntEnum):
    """Columns of extremes: the smallest values among photographs, infinite where there are none."""

    SEQUENCE = 0
    NEGATIVE_SEQUENCE = 1
    TIME = 2
    NEGATIVE_TIME = 3
    TIME_WITHOUT_SEQUENCE = 4
    NEGATIVE_TIME_WITHOUT_SEQUENCE = 5
    UNTIMED = 6  # 0 if there is one, as in the others
    UNTIMED_WITHOUT_SEQUENCE = 7
    WITHOUT_SEQUENCE = 8


def _extremes(
    sequence: Int64[np.ndarray, " t"], time_s: Float64[np.ndarray, " t"], group: Int64[np.ndarray, " t"]
) -> Float64[np.ndarray, "p c"]:
    """The extremes of each group of photographs; groups are numbered from 0 without gaps."""
    told, timed = sequence >= 0, np.isfinite(time_s)
    zero = np.zeros(len(group))
    columns = {
        _At.SEQUENCE: (told, sequence),
        _At.NEGATIVE_SEQUENCE: (told, -sequence),
        _At.TIME: (timed, time_s),
        _At.NEGATIVE_TIME: (timed, -time_s),
        _At.TIME_WITHOUT_SEQUENCE: (timed & ~told, time_s),
        _At.NEGATIVE_TIME_WITHOUT_SEQUENCE: (timed & ~told, -time_s),
        _At.UNTIMED: (~timed, zero),
        _At.UNTIMED_WITHOUT_SEQUENCE: (~timed & ~told, zero),
        _At.WITHOUT_SEQUENCE: (~told, zero),
    }
    smallest = np.full((int(group.max()) + 1, len(_At)), np.inf)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    for column, (rows, values) in columns.items():  # one at a time: all of ten million rows would be a gigabyte
        smallest[:, column] = np.minimum.reduceat(np.where(rows, values, np.inf)[order], starts)
    return smallest


def _grouped(values: Float64[np.ndarray, "n c"], group: Int64[np.ndarray, " n"]) -> Float64[np.ndarray, "g c"]:
    order = np.argsort(group, kind="stable")
    smallest: Float64[np.ndarray, "g c"] = np.minimum.reduceat(
        values[order], np.flatnonzero(np.diff(group[order], prepend=-1)), axis=0
    )
    return smallest


def _judged(
    near: Float64[np.ndarray, "q c"], sequence: Int64[np.ndarray, " q"], time_s: Float64[np.ndarray, " q"]
) -> tuple[Bool[np.ndarray, " q"], Bool[np.ndarray, " q"]]:
    """Whether a photograph with these extremes is surely from another drive, and whether one may be from any."""
    told = sequence >= 0
    # A query with a sequence is compared by time with the photographs without one, another query with all.
    earliest_s = np.where(told, near[:, _At.TIME_WITHOUT_SEQUENCE], near[:, _At.TIME])
    latest_s = -np.where(told, near[:, _At.NEGATIVE_TIME_WITHOUT_SEQUENCE], near[:, _At.NEGATIVE_TIME])
    other = (time_s - earliest_s > SAME_DRIVE_S) | (latest_s - time_s > SAME_DRIVE_S)
    other |= told & ((near[:, _At.SEQUENCE] < sequence) | (-near[:, _At.NEGATIVE_SEQUENCE] > sequence))
    untimed = np.where(told, near[:, _At.UNTIMED_WITHOUT_SEQUENCE], near[:, _At.UNTIMED])
    without_time = np.where(told, near[:, _At.WITHOUT_SEQUENCE], 0.0)
    return other, np.where(np.isnan(time_s), without_time, untimed) == 0.0


def _of_few(
    index: SphereIndex, of_place: Float64[np.ndarray, "p c"], spots: Float64[np.ndarray, "s 2"]
) -> tuple[Float64[np.ndarray, "s c"], Bool[np.ndarray, " s"]]:
    """The extremes of the nearest places within the radius, and whether there are none."""
    distance_m, place = index.nearest(spots, _FEW)
    near = np.full((len(spots), len(_At)), np.inf)
    for rank in range(place.shape[1]):
        inside = distance_m[:, rank] <= SAME_DRIVE_RADIUS_M
        near[inside] = np.minimum(near[inside], of_place[place[inside, rank]])
    return near, distance_m[:, 0] > SAME_DRIVE_RADIUS_M


def _of_all(
    index: SphereIndex, of_place: Float64[np.ndarray, "p c"], spots: Float64[np.ndarray, "s 2"]
) -> Float64[np.ndarray, "s c"]:
    """The extremes of all places within the radius."""
    near = np.full((len(spots), len(_At)), np.inf)
    for spot, place in index.pairs_within(spots, SAME_DRIVE_RADIUS_M):
        starts = np.flatnonzero(np.diff(spot, prepend=-1))
        near[spot[starts]] = np.minimum.reduceat(of_place[place], starts, axis=0)
    return near


def _of_area(
    places: Float64[np.ndarray, "p 2"], of_place: Float64[np.ndarray, "p c"], spots: Float64[np.ndarray, "s 2"]
) -> Float64[np.ndarray, "s c"]:
    """The extremes of an area that contains the radius: the cube of each spot and the 26 around it."""
    side = 1.001 * SAME_DRIVE_RADIUS_M / EARTH_RADIUS_M
    width = int(2.0 / side) + 4

    def cubes(positions_deg: Float64[np.ndarray, "n 2"]) -> Int64[np.ndarray, "n 3"]:
        return np.floor((unit_vectors(positions_deg) + 1.0) / side).astype(np.int64) + 1

    weights = np.array([width * width, width, 1], dtype=np.int64)
    occupied, cube_of_place = np.unique(cubes(places) @ weights, return_inverse=True)
    of_cube = _grouped(of_place, cube_of_place.reshape(-1))
    near = np.full((len(spots), len(_At)), np.inf)
    cube_of_spot = cubes(spots) @ weights
    for step in product((-1, 0, 1), repeat=3):
        wanted = cube_of_spot + int(np.array(step) @ weights)
        at = np.minimum(np.searchsorted(occupied, wanted), len(occupied) - 1)
        inside = occupied[at] == wanted
        near[inside] = np.minimum(near[inside], of_cube[at[inside]])
    return near
