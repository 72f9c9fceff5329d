"""Detection of swapped latitude and longitude, with the flags that correct it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from swclip.errors import InputError
from swclip.geo.distance import haversine_m
from swclip.ingest.columns import flag_of
from swclip.ingest.source_table import SourceTable


def check_not_swapped(table: SourceTable) -> None:
    """Check that latitudes and longitudes are not swapped; see `swap_evidence`.

    Raises:
        InputError: They are swapped; the message states the flags that exchange them.
    """
    if table.positions is None:
        return
    evidence = swap_evidence(table.positions.lat_deg, table.positions.lon_deg, table.rows)
    if evidence is not None:
        raise InputError(_message(table, evidence))


def swap_evidence(
    lat_deg: Float64[np.ndarray, " n"], lon_deg: Float64[np.ndarray, " n"], rows: Sequence[int]
) -> str | None:
    """Return evidence that two columns are swapped: most latitudes are beyond 90, and their longitudes are within it.

    Args:
        lat_deg: (N,) latitudes, NaN where unknown.
        lon_deg: (N,) longitudes, NaN where unknown.
        rows: Number of each row in messages.

    Returns:
        A clause for a message, or None if there is no such evidence.

    Example:
        >>> swap_evidence(np.array([114.4, 114.5]), np.array([30.5, 30.6]), [2, 3])
        'in 2 of 2 rows the latitude is beyond 90 and the longitude would fit one (row 2: 114.4, 30.5)'
    """
    both = np.isfinite(lat_deg) & np.isfinite(lon_deg)
    with np.errstate(invalid="ignore"):
        swapped = both & (np.abs(lat_deg) > 90.0) & (np.abs(lat_deg) <= 180.0) & (np.abs(lon_deg) <= 90.0)
    if 2 * int(swapped.sum()) <= int(both.sum()):
        return None
    first = int(np.flatnonzero(swapped)[0])
    return (
        f"in {int(swapped.sum())} of {int(both.sum())} rows the latitude is beyond 90 and the longitude "
        f"would fit one (row {rows[first]}: {lat_deg[first]:g}, {lon_deg[first]:g})"
    )


def exif_swap_message(table: SourceTable, pairs: list[tuple[float, float, float, float]]) -> str | None:
    """Return an error message if positions in EXIF agree with the table only after exchanging latitude and longitude.

    Args:
        table: The source.
        pairs: (table lat, table lon, EXIF lat, EXIF lon) of rows that have both, degrees.

    Returns:
        The message, or None.
    """
    if not pairs or table.positions is None:
        return None
    lat, lon, exif_lat, exif_lon = np.asarray(pairs, dtype=np.float64).T
    far = haversine_m(lat, lon, exif_lat, exif_lon) > 10_000.0
    near_swapped = (np.abs(lon) <= 90.0) & (haversine_m(lon, lat, exif_lat, exif_lon) < 1_000.0)
    count = int((far & near_swapped).sum())
    if 2 * count <= len(pairs):
        return None
    return _message(table, f"in {count} of {len(pairs)} photographs EXIF has them the other way round")


def _message(table: SourceTable, evidence: str) -> str:
    """Return the message for swapped latitude and longitude, with the flags that correct it."""
    positions = table.positions
    if positions is None or positions.geometry:
        return (
            f"{table.name}: latitude and longitude look swapped in its geometry: {evidence}. Geometries have longitude "
            f"first; save the file so, or name columns with {flag_of('lat')} and {flag_of('lon')}."
        )
    lat, lon = positions.column("lat"), positions.column("lon")
    if lat == lon:
        return (
            f"{table.name}: latitude and longitude look swapped in the column {lat!r}: {evidence}. "
            f'If so, add: {flag_of("lat")} "{lat}[1]" {flag_of("lon")} "{lat}[0]"'
        )
    return (
        f"{table.name}: the columns {lat!r} (latitude) and {lon!r} (longitude) look swapped: {evidence}. "
        f'If so, add: {flag_of("lat")} "{lon}" {flag_of("lon")} "{lat}"'
    )
