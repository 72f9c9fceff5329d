"""Hierarchical cells of the Earth's surface (H3): ids at a resolution, and parents."""

from __future__ import annotations

import math
from collections.abc import Sequence

import h3
import numpy as np
from numpy.typing import ArrayLike

from swclip.errors import ConfigError


def cell_ids(positions_deg: ArrayLike, resolution: int) -> list[str]:
    """H3 cell of each position.

    Args:
        positions_deg: (N, 2) latitude, longitude in degrees.
        resolution: H3 resolution, 0 (continents) to 15 (half a metre); 9 is about 200 m, 11 about 30 m across.

    Returns:
        N cell ids, as H3's hexadecimal strings.

    Raises:
        ConfigError: The resolution is not 0 to 15.

    Example:
        >>> cell_ids([[51.5074, -0.1278]], 9)
        ['89195da49b7ffff']
    """
    if resolution not in range(16):
        raise ConfigError(f"H3 resolution {resolution} does not exist; give 0 to 15 (9 is about 200 m, 11 about 30 m).")
    p = np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2)
    return [str(h3.latlng_to_cell(float(lat), float(lon), resolution)) for lat, lon in p]


def nested_cell_ids(positions_deg: ArrayLike, resolutions: Sequence[int]) -> dict[int, list[str]]:
    """H3 cells of each position at several resolutions, such that each lies in the coarser ones of the same position.

    H3's hexagons do not tile their parents exactly: near an edge, the coarse cell of a position need not be the parent
    of its fine one, and sums over fine cells would differ from those over coarse cells. So only the finest is looked
    up, and the others are its parents.

    Args:
        positions_deg: (N, 2) latitude, longitude in degrees.
        resolutions: H3 resolutions, 0 to 15.

    Returns:
        Resolution, from coarse to fine, and N cell ids.

    Raises:
        ConfigError: There are no resolutions, or one is not 0 to 15.

    Example:
        >>> nested_cell_ids([[51.5074, -0.1278]], [9, 5])
        {5: ['85195da7fffffff'], 9: ['89195da49b7ffff']}
    """
    wanted = sorted(set(resolutions))
    if not wanted:
        raise ConfigError("no H3 resolution was given; name at least one from 0 to 15.")
    if wrong := [resolution for resolution in wanted if resolution not in range(16)]:
        raise ConfigError(f"H3 resolution {wrong[0]} does not exist; give 0 to 15 (9 is about 200 m, 11 about 30 m).")
    found = {wanted[-1]: cell_ids(positions_deg, wanted[-1])}
    for finer, coarser in zip(wanted[:0:-1], wanted[-2::-1], strict=True):
        parent = {cell: parent_cell(cell, coarser) for cell in set(found[finer])}
        found[coarser] = [parent[cell] for cell in found[finer]]
    return {resolution: found[resolution] for resolution in wanted}


def cell_centre_deg(cell: str) -> tuple[float, float]:
    """Latitude and longitude of a cell's centre, degrees."""
    lat, lon = h3.cell_to_latlng(cell)
    return float(lat), float(lon)


def across_m(resolution: int) -> float:
    """How far it is across an average cell, from side to side, to two figures, metres.

    Example:
        >>> [across_m(resolution) for resolution in (6, 8, 10)]
        [6500.0, 920.0, 130.0]
    """
    # From the area, since H3 states an edge that no regular hexagon of that area has.
    across = math.sqrt(2.0 / math.sqrt(3.0) * h3.average_hexagon_area(resolution, unit="m^2"))
    return float(f"{across:.1e}")


def parent_cell(cell: str, resolution: int) -> str:
    """The cell of a coarser resolution that holds `cell`.

    Args:
        cell: An H3 id.
        resolution: Resolution of the parent, at most that of `cell`, which is its own parent there.

    Raises:
        ConfigError: The resolution is negative or finer than the cell's.
    """
    if not 0 <= resolution <= h3.get_resolution(cell):
        raise ConfigError(
            f"cell {cell} has resolution {h3.get_resolution(cell)} and so no parent of resolution {resolution}; give 0 "
            f"to {h3.get_resolution(cell)}."
        )
    return str(h3.cell_to_parent(cell, resolution))
