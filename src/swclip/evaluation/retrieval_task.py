"""The queries and the candidates of an evaluation before any answer, and the meters that look at its posteriors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64
from numpy.typing import ArrayLike, NDArray

from swclip.calibration.conformal import Calibration
from swclip.calibration.region_cells import RegionCells
from swclip.errors import InputError
from swclip.geo.distance import geodesic_m
from swclip.geo.neighbours import SphereIndex
from swclip.metrics.districts import district_labels, resampling_blocks
from swclip.metrics.hierarchy import LevelMeter
from swclip.metrics.localization_error import RECALL_RADIUS_M
from swclip.metrics.query_details import CellMeter
from swclip.metrics.region_coverage import RegionMeter

# Geodesic and haversine distances differ by less than this share.
_ELLIPSOID_SHARE = 1.006


@dataclass(frozen=True, eq=False)
class RetrievalTask:
    """Queries and candidates, and what follows from them before any answer.

    Attributes:
        queries: Q rows.
        candidates: M rows.
        truth_deg: (Q, 2) true positions.
        places_deg: (M, 2) positions of the candidates.
        answerable: For each query the candidates within 25 m of the truth.
        cities: City of each query, None where not known.
        candidate_cities: (M,) city of each candidate, None where not known.
        regions: Region of each query.
        blocks: Block of each query, which the bootstrap draws whole.
        block_kind: What the blocks are.
    """

    queries: pd.DataFrame
    candidates: pd.DataFrame
    truth_deg: Float64[np.ndarray, "q 2"]
    places_deg: Float64[np.ndarray, "m 2"]
    answerable: list[Int64[np.ndarray, " h"]]
    cities: list[str | None]
    candidate_cities: NDArray[np.object_]
    regions: list[str]
    blocks: list[str]
    block_kind: str

    @classmethod
    def of(cls, queries: pd.DataFrame, candidates: pd.DataFrame, regions: str) -> RetrievalTask:
        """Prepare a task.

        Args:
            queries: Q rows, as `measure` takes them.
            candidates: M rows, as `measure` takes them.
            regions: "city", or "cells:RES".

        Raises:
            InputError: There are no queries or no candidates.
            ConfigError: The regions are neither.
        """
        if len(queries) == 0:
            raise InputError("there are no queries to answer; check the split.")
        queries, candidates = queries.reset_index(drop=True), candidates.reset_index(drop=True)
        truth, places = _positions(queries), _positions(candidates)
        cities = texts(queries, "city")
        blocks, block_kind = resampling_blocks(queries, truth)
        return cls(
            queries,
            candidates,
            truth,
            places,
            hits_within(truth, places, RECALL_RADIUS_M),
            cities,
            np.asarray(texts(candidates, "city"), dtype=object),
            district_labels(cities, truth, regions),
            blocks,
            block_kind,
        )


@dataclass(frozen=True, eq=False)
class Meters:
    """What looks at the posteriors as they pass: at cities and cells, at prediction regions, at the ground."""

    levels: LevelMeter
    regions: RegionMeter
    ground: CellMeter

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
            resolutions: H3 resolutions of the cells whose probabilities are measured.
            seed: Of the halves of the queries that calibrate one another.
            calibration: Of the prediction regions; where None the queries calibrate one another by halves.
            units: Of the halves, one a query; blocks where None.

        Raises:
            MismatchError: The calibration is of other cells.
        """
        places, names = task.places_deg, task.candidate_cities.tolist()
        levels = LevelMeter(task.truth_deg, task.cities, places, names, resolutions)
        cells = _ground(places, names, calibration)
        ground = CellMeter(cells, len(task.queries))
        regions = RegionMeter(
            cells,
            task.truth_deg,
            calibration,
            cities=task.cities,
            blocks=task.blocks,
            units=units,
            seed=seed,
            kept=ground,
        )
        return cls(levels, regions, ground)


def _ground(
    places_deg: Float64[np.ndarray, "m 2"], cities: list[str | None], calibration: Calibration | None
) -> RegionCells:
    """The cells that the regions were calibrated on, of these candidates."""
    if calibration is None:
        return RegionCells.of(places_deg, cities)
    return RegionCells.of(places_deg, cities, resolution=calibration.resolution, spread_m=calibration.spread_m)


def hits_within(truth_deg: ArrayLike, candidates_deg: ArrayLike, radius_m: float) -> list[Int64[np.ndarray, " h"]]:
    """For each query the candidates within a geodesic radius of the truth, edge included."""
    truth = np.asarray(truth_deg, dtype=np.float64).reshape(-1, 2)
    places = np.asarray(candidates_deg, dtype=np.float64).reshape(-1, 2)
    if len(places) == 0:
        raise InputError("there are no candidates to answer with; check the gallery of the split.")
    near = SphereIndex(places).within(truth, radius_m * _ELLIPSOID_SHARE)
    return [
        which[geodesic_m(np.broadcast_to(query, (len(which), 2)), places[which]) <= radius_m] if len(which) else which
        for query, which in zip(truth, near, strict=True)
    ]


def _positions(frame: pd.DataFrame) -> Float64[np.ndarray, "n 2"]:
    return frame[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64)


def texts(frame: pd.DataFrame, column: str) -> list[str | None]:
    """A column as text, None where it has no value or there is no such column."""
    if column not in frame:
        return [None] * len(frame)
    return [None if pd.isna(value) else str(value) for value in frame[column]]
