"""The queries and candidates of an evaluation, and the meters of its posteriors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64
from numpy.typing import ArrayLike, NDArray

from swclip.calibration.conformal import Calibration
from swclip.calibration.region_cells import adapted_cells
from swclip.errors import InputError
from swclip.geo.distance import geodesic_m
from swclip.geo.neighbours import SphereIndex
from swclip.metrics.districts import district_labels, resampling_blocks
from swclip.metrics.hierarchy import LevelMeter
from swclip.metrics.localization_error import RECALL_RADIUS_M
from swclip.metrics.query_details import CellMeter
from swclip.metrics.region_coverage import RegionMeter

# The ratio of geodesic and haversine distances is below this.
_ELLIPSOID_SHARE = 1.006


@dataclass(frozen=True, eq=False)
class RetrievalTask:
    """Queries and candidates with derived quantities.

    Attributes:
        queries: Q rows.
        candidates: M rows.
        truth_deg: (Q, 2) true positions.
        candidates_deg: (M, 2) positions of the candidates.
        answerable: For each query the candidates within 25 m of the truth.
        cities: City of each query, None where unknown.
        candidate_cities: (M,) city of each candidate, None where unknown.
        districts: District of each query.
        blocks: Block of each query for the bootstrap.
        block_kind: Kind of the blocks.
    """

    queries: pd.DataFrame
    candidates: pd.DataFrame
    truth_deg: Float64[np.ndarray, "q 2"]
    candidates_deg: Float64[np.ndarray, "m 2"]
    answerable: list[Int64[np.ndarray, " h"]]
    cities: list[str | None]
    candidate_cities: NDArray[np.object_]
    districts: list[str]
    blocks: list[str]
    block_kind: str

    @classmethod
    def of(cls, queries: pd.DataFrame, candidates: pd.DataFrame, districts: str) -> RetrievalTask:
        """Prepare a task.

        Args:
            queries: Q rows, as `measure` takes them.
            candidates: M rows, as `measure` takes them.
            districts: "city", or "cells:RES".

        Raises:
            InputError: There are no queries or no candidates.
            ConfigError: `districts` is neither.
        """
        if len(queries) == 0:
            raise InputError("there are no queries to answer; check the split.")
        queries, candidates = queries.reset_index(drop=True), candidates.reset_index(drop=True)
        truth, candidates_deg = _positions(queries), _positions(candidates)
        cities = texts(queries, "city")
        blocks, block_kind = resampling_blocks(queries, truth)
        return cls(
            queries,
            candidates,
            truth,
            candidates_deg,
            hits_within(truth, candidates_deg, RECALL_RADIUS_M),
            cities,
            np.asarray(texts(candidates, "city"), dtype=object),
            district_labels(cities, truth, districts),
            blocks,
            block_kind,
        )


@dataclass(frozen=True, eq=False)
class Meters:
    """Accumulators of the posteriors: hierarchy levels, prediction regions, most probable cells."""

    levels: LevelMeter
    regions: RegionMeter
    cells: CellMeter

    @classmethod
    def of(
        cls,
        task: RetrievalTask,
        resolutions: Sequence[int],
        seed: int,
        calibration: Calibration | None,
        units: Sequence[str] | None,
    ) -> Meters:
        """Meters of a task.

        Args:
            task: The queries and the candidates.
            resolutions: H3 resolutions of the hierarchy levels.
            seed: Seed of the split into halves for cross-calibration.
            calibration: Calibration of the prediction regions; None for cross-calibration by halves.
            units: Exchangeable unit of each query, for the halves; None for the blocks.

        Raises:
            MismatchError: The calibration was computed on other cells.
        """
        candidates_deg, names = task.candidates_deg, task.candidate_cities.tolist()
        levels = LevelMeter(task.truth_deg, task.cities, candidates_deg, names, resolutions)
        cells_of = adapted_cells if calibration is None else calibration.cells
        region_cells = cells_of(candidates_deg, names)
        cells = CellMeter(region_cells, len(task.queries))
        regions = RegionMeter(
            region_cells,
            task.truth_deg,
            calibration,
            blocks=task.blocks,
            units=units,
            seed=seed,
            cell_meter=cells,
        )
        return cls(levels, regions, cells)


def hits_within(truth_deg: ArrayLike, candidates_deg: ArrayLike, radius_m: float) -> list[Int64[np.ndarray, " h"]]:
    """For each query the candidates within a geodesic radius of the truth, boundary included."""
    truth = np.asarray(truth_deg, dtype=np.float64).reshape(-1, 2)
    candidates = np.asarray(candidates_deg, dtype=np.float64).reshape(-1, 2)
    if len(candidates) == 0:
        raise InputError("there are no candidates to answer with; check the gallery of the split.")
    near = SphereIndex(candidates).within(truth, radius_m * _ELLIPSOID_SHARE)
    return [
        which[geodesic_m(np.broadcast_to(query, (len(which), 2)), candidates[which]) <= radius_m]
        if len(which)
        else which
        for query, which in zip(truth, near, strict=True)
    ]


def _positions(frame: pd.DataFrame) -> Float64[np.ndarray, "n 2"]:
    return frame[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)


def texts(frame: pd.DataFrame, column: str) -> list[str | None]:
    """A column as text, None where a value or the column is missing."""
    if column not in frame:
        return [None] * len(frame)
    return [None if pd.isna(value) else str(value) for value in frame[column]]
