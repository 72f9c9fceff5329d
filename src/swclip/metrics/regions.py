"""The region a query is reported under, and the block it is resampled with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from swclip.errors import ConfigError
from swclip.geo.cells import cell_ids

UNKNOWN = "unknown"

# About 130 m across: a stretch of street.
_BLOCK_RESOLUTION = 10


def region_labels(cities: Sequence[str | None], positions_deg: ArrayLike, regions: str = "city") -> list[str]:
    """Region of each query.

    Args:
        cities: City of each of Q queries, None where unknown.
        positions_deg: (Q, 2) latitude, longitude, degrees.
        regions: "city", or "cells:RES" for the H3 cells of a resolution.

    Returns:
        Q names. With "city": the city, "unknown" where it is not known, or "all" where none is.

    Raises:
        ConfigError: `regions` is neither.

    Example:
        >>> region_labels(["York", None], [[53.96, -1.08], [53.8, -1.55]])
        ['York', 'unknown']
    """
    if regions == "city":
        if all(city is None for city in cities):
            return ["all"] * len(cities)
        return [UNKNOWN if city is None else city for city in cities]
    word, _, resolution = regions.partition(":")
    if word != "cells" or not resolution.isdigit() or int(resolution) > 15:
        raise ConfigError(f"regions {regions!r} are not known; write city, or cells:RES with RES from 0 to 15.")
    return cell_ids(positions_deg, int(resolution))


def resampling_blocks(queries: pd.DataFrame, positions_deg: ArrayLike) -> tuple[list[str], str]:
    """Block of each query for the bootstrap: the first of these that splits the queries at all.

    block_id of the split; place_id of the manifest; H3 cells about 130 m across; each query by itself.

    Args:
        queries: Q rows, with the columns block_id and place_id where there are such.
        positions_deg: (Q, 2) latitude, longitude, degrees.

    Returns:
        Q block names, and what the blocks are.
    """
    for column in ("block_id", "place_id"):
        if column in queries and queries[column].notna().all() and queries[column].nunique() > 1:
            return queries[column].astype(str).tolist(), column
    cells = cell_ids(positions_deg, _BLOCK_RESOLUTION)
    if len(set(cells)) > 1:
        return cells, f"H3 cell of resolution {_BLOCK_RESOLUTION}"
    return [str(row) for row in np.arange(len(queries))], "photograph"


def exchangeable_units(queries: pd.DataFrame, positions_deg: ArrayLike, protocol: str | None) -> list[str]:
    """What a split dealt to training, validation and queries as one: the unit that conformal regions count.

    known-places deals places: the next query is another place of the same streets. The other protocols deal blocks: the
    next query is on another street, and photographs of one street together say as much as one.

    Args:
        queries: Q rows, with the columns block_id and place_id where there are such.
        positions_deg: (Q, 2) latitude, longitude, degrees.
        protocol: The splits' protocol.

    Returns:
        Q names: with known-places the place_id, or where one is not known the position to about a metre; with others
        the blocks of `resampling_blocks`.
    """
    if protocol != "known-places":
        return resampling_blocks(queries, positions_deg)[0]
    if "place_id" in queries and queries["place_id"].notna().all():
        return queries["place_id"].astype(str).tolist()
    positions = np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2)
    return [f"{lat:.5f} {lon:.5f}" for lat, lon in positions.tolist()]
