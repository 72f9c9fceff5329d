"""Which photographs of a dense service are enough: filters, and spacing by distance and direction, before download."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from swclip.connectors.service import Item, Query
from swclip.errors import ConfigError
from swclip.geo.distance import EARTH_RADIUS_M

_METRES_PER_DEG = math.radians(1.0) * EARTH_RADIUS_M


@dataclass(frozen=True)
class Thinning:
    """Rules of which photographs are downloaded.

    Attributes:
        every_m: Smallest distance between two photographs of one direction, metres; None to keep all.
        sectors: Number of directions: two photographs whose headings differ by at least 360 / sectors degrees have
            different ones. A photograph without a heading, and a panorama, has a direction of its own kind.
        captures: Photographs of one place and direction, each of another sequence.
        per_place: Photographs within `every_m`, of all directions together; None for no limit.
        min_quality: Smallest quality as the service states it; photographs without one are left out. None for all.

    Raises:
        ConfigError: A value is invalid.
    """

    every_m: float | None = None
    sectors: int = 4
    captures: int = 1
    per_place: int | None = None
    min_quality: float | None = None

    def __post_init__(self) -> None:
        if self.every_m is not None and not (math.isfinite(self.every_m) and self.every_m > 0.0):
            raise ConfigError(f"--every-m {self.every_m:g}: must be a positive number of metres.")
        for name in ("sectors", "captures", "per_place"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"--{name.replace('_', '-')} {value}: must be at least 1.")
        if self.every_m is None and self.per_place is not None:
            raise ConfigError("--per-place needs --every-m, which states how large a place is.")


def filter_reason(item: Item, query: Query, thinning: Thinning) -> str | None:
    """Why a filter leaves a photograph out, or None: no-date, date, no-camera, panorama, no-quality, quality."""
    if query.since is not None or query.until is not None:
        if item.captured_at is None:
            return "no-date"
        if (query.since is not None and item.captured_at < query.since) or (
            query.until is not None and item.captured_at >= query.until
        ):
            return "date"
    if query.panoramas is not None:
        # A service that does not state the camera of a photograph has no panorama to offer there.
        if item.pano is None and query.panoramas:
            return "no-camera"
        if bool(item.pano) != query.panoramas:
            return "panorama"
    if thinning.min_quality is not None:
        if item.quality is None:
            return "no-quality"
        if item.quality < thinning.min_quality:
            return "quality"
    return None


class Candidate(NamedTuple):
    """What thinning knows of a photograph; `direction_deg` is None without a heading, NaN for a panorama."""

    id: str
    lat_deg: float
    lon_deg: float
    direction_deg: float | None
    sequence: str | None


class _Kept(NamedTuple):
    lat_deg: float
    lon_deg: float
    direction_deg: float | None
    sequence: str | None


def thin(
    kept: Iterable[Candidate], candidates: Iterable[Candidate], thinning: Thinning, max_lat_deg: float
) -> Iterator[str]:
    """Choose photographs one after the other: each if those chosen before leave room for it.

    Args:
        kept: Photographs that stay whatever the rules say, since they are downloaded.
        candidates: The others, the best first. The order decides, and not how they arrived.
        thinning: The rules.
        max_lat_deg: Largest absolute latitude of all, degrees.

    Yields:
        Ids of the chosen candidates.
    """
    if thinning.every_m is None:
        yield from (candidate.id for candidate in candidates)
        return
    row_deg = thinning.every_m / _METRES_PER_DEG
    # Cells of this width are at least `every_m` wide on every parallel of the area.
    column_deg = row_deg / max(math.cos(math.radians(min(max_lat_deg, 89.9))), 1e-9)
    cells: dict[tuple[int, int], list[_Kept]] = defaultdict(list)

    reference_deg: float | None = None

    def cell(candidate: Candidate) -> tuple[int, int]:
        nonlocal reference_deg
        if reference_deg is None:
            reference_deg = candidate.lon_deg  # so that the antimeridian is no border between cells of one area
        east = (candidate.lon_deg - reference_deg + 180.0) % 360.0 - 180.0
        return math.floor(candidate.lat_deg / row_deg), math.floor(east / column_deg)

    for candidate in kept:
        cells[cell(candidate)].append(_Kept(*candidate[1:]))
    for candidate in candidates:
        row, column = cell(candidate)
        near = [
            other
            for y in (row - 1, row, row + 1)
            for x in (column - 1, column, column + 1)
            for other in cells.get((y, x), ())
            if _distance_m(candidate, other) < thinning.every_m
        ]
        if _has_room(candidate, near, thinning):
            cells[row, column].append(_Kept(*candidate[1:]))
            yield candidate.id


def _has_room(candidate: Candidate, near: list[_Kept], thinning: Thinning) -> bool:
    if thinning.per_place is not None and len(near) >= thinning.per_place:
        return False
    width_deg = 360.0 / thinning.sectors
    alike = [other for other in near if _same_direction(candidate.direction_deg, other.direction_deg, width_deg)]
    if len(alike) >= thinning.captures:
        return False
    return candidate.sequence is None or all(other.sequence != candidate.sequence for other in alike)


def _same_direction(one: float | None, other: float | None, width_deg: float) -> bool:
    if one is None or other is None:
        return one is other
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    apart = abs(one - other) % 360.0
    return min(apart, 360.0 - apart) < width_deg


def _distance_m(one: Candidate, other: _Kept) -> float:
    # Flat: within metres of each other, the error is below a millionth.
    north = one.lat_deg - other.lat_deg
    east = ((one.lon_deg - other.lon_deg + 180.0) % 360.0 - 180.0) * math.cos(math.radians(one.lat_deg))
    return math.hypot(north, east) * _METRES_PER_DEG
