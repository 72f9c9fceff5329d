"""What an evaluation knows of each query beyond its answer: the best candidates, and the posterior on the ground."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int32
from numpy import ndarray

from swclip.calibration.region_cells import NOWHERE, RegionCells
from swclip.retrieval.point_estimates import top_k


@dataclass(frozen=True)
class TopCandidates:
    """The most probable candidates of each query, best first.

    Attributes:
        rows: (Q, K) rows of the evaluation's `candidates`.
        probability: (Q, K) what the posterior gives each of them.
    """

    rows: Int32[ndarray, "q k"]
    probability: Float32[ndarray, "q k"]


@dataclass(frozen=True)
class CellPosterior:
    """The most probable cells of the ground of each query, best first.

    Attributes:
        cell_ids: C cells (H3) that some query names.
        cells: (Q, K) indices into `cell_ids`; -1 where a query has no further cell.
        probability: (Q, K) what the posterior gives each of them; 0 where there is none.
    """

    cell_ids: list[str]
    cells: Int32[ndarray, "q k"]
    probability: Float32[ndarray, "q k"]


KEPT = 60
"""Cells that are kept of each query at most."""

LEAST_PROBABILITY = 1e-4
"""Cells with less are not kept: no map shows them."""


class CellMeter:
    """Keeps the most probable cells of the ground of each query.

    Args:
        ground: The cells of the candidates.
        queries: How many queries there are.
        kept: Cells that are kept of each at most.
    """

    def __init__(self, ground: RegionCells, queries: int, kept: int = KEPT) -> None:
        self._ground = ground
        kept = min(kept, len(ground))
        self._cells: Int32[np.ndarray, "q k"] = np.full((queries, kept), NOWHERE, dtype=np.int32)
        self._probability = np.zeros((queries, kept), dtype=np.float32)
        self._done = 0

    def add(self, mass: Float64[np.ndarray, "q c"]) -> None:
        """The masses of the cells under the posteriors of the next queries."""
        rows = slice(self._done, self._done + len(mass))
        best = top_k(mass, self._cells.shape[1])
        probability = np.take_along_axis(mass, best, axis=1)
        self._cells[rows] = np.where(probability >= LEAST_PROBABILITY, best, NOWHERE)
        self._probability[rows] = np.where(probability >= LEAST_PROBABILITY, probability, 0.0)
        self._done = rows.stop

    def posterior(self) -> CellPosterior:
        """The cells that some query names, and each query's."""
        named, number = np.unique(self._cells, return_inverse=True)
        number = number.reshape(self._cells.shape) - int(len(named) > 0 and named[0] == NOWHERE)
        ids = self._ground.ids[named[named >= 0]]
        return CellPosterior([f"{cell:x}" for cell in ids.tolist()], number.astype(np.int32), self._probability)
