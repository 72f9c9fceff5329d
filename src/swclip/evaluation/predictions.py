"""predictions.parquet: true position, answer and error of each query, as GeoParquet."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from swclip.calibration.region import LEVELS
from swclip.errors import ArtefactError
from swclip.files import atomic_file

COLUMNS = (
    "image_id",
    "lat_deg",
    "lon_deg",
    "predicted_lat_deg",
    "predicted_lon_deg",
    "error_m",
    "floor_m",
    "region",
    "city",
    "rank_25m",
    "top1_candidate_id",
    "probability",
    "split",
    "block",
    "city_predicted",
    "city_probability",
    "ndcg_20",
    "geoscore",
    "lisa",
    "lisa_p",
    *(f"{name}_{100 * level:g}" for name in ("region_area_km2", "covered") for level in LEVELS),
    "cannot_tell",
    "top_candidate_ids",
    "top_probabilities",
    "image_path",
)


def write_predictions(path: str | os.PathLike[str], predictions: pd.DataFrame) -> None:
    """Write predictions as GeoParquet, with the true position as geometry, for a GIS.

    Args:
        path: The file.
        predictions: The table of an `Evaluation`.

    Raises:
        DiskFullError: The disk is full; an existing file is unchanged.
        InputError: The folder cannot be written.
    """
    import geopandas

    points = geopandas.points_from_xy(predictions["lon_deg"], predictions["lat_deg"], crs="EPSG:4326")
    with atomic_file(path) as beside:
        geopandas.GeoDataFrame(predictions, geometry=points).to_parquet(beside, index=False, compression="zstd")


def read_predictions(path: str | os.PathLike[str], columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read predictions written by `write_predictions`, without the geometry.

    Args:
        path: The file.
        columns: Required columns, to read files of several versions; further columns of the file are read too. None
            for exactly the columns of this version.

    Raises:
        ArtefactError: The file is missing, truncated, or not a table of predictions.
    """
    import pyarrow
    from pyarrow import parquet

    source = Path(path)
    try:
        table = parquet.read_table(source)
    except FileNotFoundError:
        raise ArtefactError(f"{source}: the file of predictions is missing; run `swclip evaluate` first.") from None
    except (OSError, pyarrow.ArrowException) as error:
        raise ArtefactError(
            f"{source}: the predictions cannot be read ({error}); run `swclip evaluate` again."
        ) from error
    required = COLUMNS if columns is None else columns
    missing = [name for name in required if name not in table.column_names]
    if missing:
        raise ArtefactError(f"{source}: column {missing[0]!r} is missing; run `swclip evaluate` again.")
    further = [name for name in table.column_names if name not in (*required, "geometry")]
    frame: pd.DataFrame = table.select([*required, *(further if columns is not None else ())]).to_pandas()
    frame["rank_25m"] = frame["rank_25m"].astype("Int64")
    frame["city_probability"] = frame["city_probability"].astype("Float64")
    return frame
