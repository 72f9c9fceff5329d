"""Details of each query beyond its answer: the most probable candidates, and the posterior over H3 cells."""

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
        probability: (Q, K) posterior probability of each.
    """

    rows: Int32[ndarray, "q k"]
    probability: Float32[ndarray, "q k"]


@dataclass(frozen=True)
class CellPosterior:
    """The most probable H3 cells of each query, best first.

    Attributes:
        cell_ids: C cells that are kept for at least one query.
        cells: (Q, K) indices into `cell_ids`; -1 where a query has no further cell.
        probability: (Q, K) posterior probability of each; 0 where there is no further cell.
    """

    cell_ids: list[str]
    cells: Int32[ndarray, "q k"]
    probability: Float32[ndarray, "q k"]


KEPT = 60
"""Maximum number of cells kept per query."""

LEAST_PROBABILITY = 1e-4
"""Cells with a lower probability are not kept, since maps do not show them."""


class CellMeter:
    """Collects the most probable cells of each query.

    Args:
        cells: The cells of the candidates.
        queries: Number of queries.
        kept: Maximum number of cells kept per query.
    """

    def __init__(self, cells: RegionCells, queries: int, kept: int = KEPT) -> None:
        self._region_cells = cells
        kept = min(kept, len(cells))
        self._numbers: Int32[np.ndarray, "q k"] = np.full((queries, kept), NOWHERE, dtype=np.int32)
        self._probability = np.zeros((queries, kept), dtype=np.float32)
        self._done = 0

    def add(self, mass: Float64[np.ndarray, "q c"]) -> None:
        """Add the masses of the cells of the next queries."""
        rows = slice(self._done, self._done + len(mass))
        best = top_k(mass, self._numbers.shape[1])
        probability = np.take_along_axis(mass, best, axis=1)
        self._numbers[rows] = np.where(probability >= LEAST_PROBABILITY, best, NOWHERE)
        self._probability[rows] = np.where(probability >= LEAST_PROBABILITY, probability, 0.0)
        self._done = rows.stop

    def posterior(self) -> CellPosterior:
        """The cells of all queries added so far."""
        used, number = np.unique(self._numbers, return_inverse=True)
        number = number.reshape(self._numbers.shape) - int(len(used) > 0 and used[0] == NOWHERE)
        ids = self._region_cells.ids[used[used >= 0]]
        return CellPosterior([f"{cell:x}" for cell in ids.tolist()], number.astype(np.int32), self._probability)
