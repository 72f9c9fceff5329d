"""A manifest that is written part by part, in the memory of one part."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from swclip.data.manifest import METADATA_KEY, SCHEMA_VERSION, manifest_file
from swclip.data.manifest_table import arrow_schema, checked_frame, geo_metadata, tidy_frame, wkb_points
from swclip.files import atomic_file
from swclip.versions import own_version


def write_manifest_parts(
    path: str | os.PathLike[str],
    parts: Iterable[pd.DataFrame],
    further: Mapping[str, pa.DataType],
    *,
    made_with: dict[str, Any] | None = None,
) -> int:
    """Write a manifest whose rows come in parts, whole or not at all. `write_manifest` says what a row has.

    Args:
        path: The `.parquet` file, or the folder for `manifest.parquet`.
        parts: Tables with the same columns. Ids must be unique over all of them, which is checked within each.
        further: Types of the columns beyond those of every manifest: a part may have nulls alone.
        made_with: Further metadata of the file.

    Returns:
        The number of rows.

    Raises:
        InputError: A row is invalid.
        DiskFullError: The disk filled; no incomplete file is left.
    """
    file = manifest_file(path)
    folder = Path(os.path.abspath(file)).parent.resolve()
    rows = 0
    bounds = np.array([np.inf, np.inf, -np.inf, -np.inf])
    with atomic_file(file) as beside:
        writer: pq.ParquetWriter | None = None
        try:
            for part in parts:
                tidy = tidy_frame(part, folder)
                checked_frame(tidy, f"{file}, rows from {rows}")
                table = pa.Table.from_pandas(tidy, schema=arrow_schema(tidy, further), preserve_index=False)
                table = table.append_column(pa.field("geometry", pa.binary()), wkb_points(tidy))
                writer = writer or pq.ParquetWriter(beside, table.schema, compression="zstd")
                writer.write_table(table)
                rows += len(tidy)
                lon, lat = tidy["lon_deg"], tidy["lat_deg"]
                bounds[:2] = np.minimum(bounds[:2], [lon.min(), lat.min()])
                bounds[2:] = np.maximum(bounds[2:], [lon.max(), lat.max()])
            if writer is not None:
                corners = pd.DataFrame({"lon_deg": bounds[[0, 2]], "lat_deg": bounds[[1, 3]]})
                description = {"version": SCHEMA_VERSION, "made_with": {"swclip": own_version(), **(made_with or {})}}
                metadata = {METADATA_KEY.decode(): description, "geo": geo_metadata(corners)}
                writer.add_key_value_metadata(
                    {key: json.dumps(value, ensure_ascii=False) for key, value in metadata.items()}
                )
        finally:
            if writer is not None:
                writer.close()
    return rows
