"""The result of an evaluation: the report, the predictions by query with their file, and the candidates."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float32, Float64

from swclip.calibration.region import LEVELS
from swclip.errors import ArtefactError
from swclip.evaluation.report import Report
from swclip.files import atomic_file
from swclip.metrics.query_details import CellPosterior, TopCandidates


@dataclass(frozen=True)
class Evaluation:
    """The answers of a system to the queries of a split, and their figures.

    Attributes:
        report: The figures, as in report.json.
        predictions: One row per query, in the manifest's order: image_id; lat_deg, lon_deg (the truth);
            predicted_lat_deg, predicted_lon_deg; error_m; floor_m (oracle error); region (district); city;
            rank_25m (rank of the first candidate within 25 m of the truth, null where none is); top1_candidate_id;
            probability (posterior mass within 25 m of the answer); split; block; city_predicted (the most probable
            city, null where no candidate has one); city_probability; ndcg_20; geoscore; lisa, lisa_p (local cluster
            of the errors); region_area_km2_LEVEL, covered_LEVEL, cannot_tell; top_candidate_ids, top_probabilities;
            image_path; ESTIMATOR_lat_deg, ESTIMATOR_lon_deg (the answer of each estimator; see `answer_columns`).
        candidates: One row per candidate: candidate_id, lat_deg, lon_deg, city, image_ids.
        errors_m: Errors in metres by estimator, in the order of the predictions.
        top: The most probable candidates of each query, in the order of the predictions; None where not kept.
        cell_posterior: The posterior of each query over H3 cells, in the order of the predictions; None where not kept.
    """

    report: Report
    predictions: pd.DataFrame
    candidates: pd.DataFrame
    errors_m: Mapping[str, Float64[np.ndarray, " q"]] = field(default_factory=dict)
    top: TopCandidates | None = None
    cell_posterior: CellPosterior | None = None


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Embeddings for spatial statistics.

    Attributes:
        queries: (Q, D) unit vectors of the queries.
        locations: (M, D) unit vectors of the candidates' positions; None where a system has none.
    """

    queries: Float32[np.ndarray, "q d"]
    locations: Float32[np.ndarray, "m d"] | None


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
"""Columns of predictions.parquet, beside those of the estimators (`answer_columns`)."""


def answer_columns(estimator: str) -> tuple[str, str]:
    """Columns of the predictions with the answers of an estimator, latitude and longitude.

    Example:
        >>> answer_columns("geometric-median")
        ('geometric_median_lat_deg', 'geometric_median_lon_deg')
    """
    name = estimator.replace("-", "_")
    return f"{name}_lat_deg", f"{name}_lon_deg"


def write_predictions(path: str | os.PathLike[str], predictions: pd.DataFrame) -> None:
    """Write predictions.parquet: GeoParquet with the true position of each query as geometry, for a GIS.

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
