"""A gallery's entries as GeoParquet, for QGIS, geopandas and DuckDB, without embeddings, patch features, thumbnails."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from swclip.files import atomic_file
from swclip.gallery.assign_candidates import positions_of
from swclip.gallery.schema import EMBEDDINGS, PATCHES

if TYPE_CHECKING:
    from swclip.gallery.filters import EntryFilter
    from swclip.gallery.store import GalleryStore

_WKB_POINT = np.dtype([("order", "u1"), ("kind", "<u4"), ("x", "<f8"), ("y", "<f8")])


def export_points(store: GalleryStore, path: str | os.PathLike[str], where: EntryFilter | None = None) -> int:
    """Write entries as GeoParquet, ordered by `entry_id`.

    Args:
        store: The gallery.
        path: The `.parquet` file.
        where: The entries; None for all.

    Returns:
        Number of entries written.

    Raises:
        DiskFullError: The disk is full; no partial file is left.
    """
    from pyproj import CRS

    columns = [name for name in store.schema.names if name not in (*EMBEDDINGS, PATCHES, "thumbnail")]
    table = store.read(columns, where).sort_by("entry_id")
    positions = positions_of(table)
    wkb = np.zeros(len(table), dtype=_WKB_POINT)
    wkb["order"], wkb["kind"], wkb["x"], wkb["y"] = 1, 1, positions[:, 1], positions[:, 0]
    column = {"encoding": "WKB", "geometry_types": ["Point"], "crs": CRS.from_epsg(4326).to_json_dict()}
    geo = {"version": "1.0.0", "primary_column": "geometry", "columns": {"geometry": column}}
    points = pa.array([point.tobytes() for point in wkb], pa.binary())
    table = table.append_column("geometry", points).replace_schema_metadata({b"geo": json.dumps(geo).encode()})
    with atomic_file(path) as beside:
        pq.write_table(table, beside, compression="zstd")
    return len(table)
