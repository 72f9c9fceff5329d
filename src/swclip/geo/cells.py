"""H3 cells: ids of positions at a resolution, centres, sizes and parents."""

from __future__ import annotations

import math
from collections.abc import Sequence

import h3
import numpy as np
from numpy.typing import ArrayLike

from swclip.errors import ConfigError


def cell_ids(positions_deg: ArrayLike, resolution: int) -> list[str]:
    """Return the H3 cell of each position.

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
    """Return the H3 cells of each position at several resolutions, each nested in the coarser ones.

    H3's hexagons do not tile their parents exactly. Near an edge, the coarse cell of a position need not be the parent
    of its fine cell, and sums over fine cells would differ from sums over coarse cells. This function therefore looks
    up only the finest cell; the coarser cells are its parents.

    Args:
        positions_deg: (N, 2) latitude, longitude in degrees.
        resolutions: H3 resolutions, 0 to 15.

    Returns:
        {resolution: N cell ids}, from coarse to fine.

    Raises:
        ConfigError: No resolution is named, or one is not 0 to 15.

    Example:
        >>> nested_cell_ids([[51.5074, -0.1278]], [9, 5])
        {5: ['85195da7fffffff'], 9: ['89195da49b7ffff']}
    """
    levels = sorted(set(resolutions))
    if not levels:
        raise ConfigError("no H3 resolution is named; give at least one from 0 to 15.")
    if invalid := [resolution for resolution in levels if resolution not in range(16)]:
        raise ConfigError(f"H3 resolution {invalid[0]} does not exist; give 0 to 15 (9 is about 200 m, 11 about 30 m).")
    cells = {levels[-1]: cell_ids(positions_deg, levels[-1])}
    for finer, coarser in zip(levels[:0:-1], levels[-2::-1], strict=True):
        parent = {cell: parent_cell(cell, coarser) for cell in set(cells[finer])}
        cells[coarser] = [parent[cell] for cell in cells[finer]]
    return {resolution: cells[resolution] for resolution in levels}


def cell_centre_deg(cell: str) -> tuple[float, float]:
    """Return latitude and longitude of a cell's centre in degrees."""
    lat, lon = h3.cell_to_latlng(cell)
    return float(lat), float(lon)


def across_m(resolution: int) -> float:
    """Return the distance between opposite sides of an average cell in metres, to two significant figures.

    Example:
        >>> [across_m(resolution) for resolution in (6, 8, 10)]
        [6500.0, 920.0, 130.0]
    """
    # Computed from the area, because the edge length that H3 states does not match a regular hexagon of that area.
    across = math.sqrt(2.0 / math.sqrt(3.0) * h3.average_hexagon_area(resolution, unit="m^2"))
    return float(f"{across:.1e}")


def parent_cell(cell: str, resolution: int) -> str:
    """Return the parent of a cell at a coarser resolution.

    Args:
        cell: An H3 id.
        resolution: Resolution of the parent; at the resolution of `cell`, the result is `cell`.

    Raises:
        ConfigError: The resolution is negative or finer than that of `cell`.
    """
    if not 0 <= resolution <= h3.get_resolution(cell):
        raise ConfigError(
            f"cell {cell} has resolution {h3.get_resolution(cell)} and so no parent of resolution {resolution}; give 0 "
            f"to {h3.get_resolution(cell)}."
        )
    return str(h3.cell_to_parent(cell, resolution))
