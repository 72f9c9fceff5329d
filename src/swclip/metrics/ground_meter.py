"""What is kept of the posteriors on the ground to be looked at: the most probable cells of each query."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int32

from swclip.metrics.query_details import GroundPosterior
from swclip.retrieval.point_estimates import top_k
from swclip.calibration.region_cells import NOWHERE, GroundCells

KEPT = 60
"""Cells that are kept of each query at most."""

LEAST_PROBABILITY = 1e-4
"""Cells with less are not kept: no map shows them."""


class GroundMeter:
    """Keeps the most probable cells of the ground of each query.

    Args:
        ground: The cells of the candidates.
        queries: How many queries there are.
        kept: Cells that are kept of each at most.
    """

    def __init__(self, ground: GroundCells, queries: int, kept: int = KEPT) -> None:
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

    def posterior(self) -> GroundPosterior:
        """The cells that some query names, and each query's."""
        named, number = np.unique(self._cells, return_inverse=True)
        number = number.reshape(self._cells.shape) - int(len(named) > 0 and named[0] == NOWHERE)
        ids = self._ground.ids[named[named >= 0]]
        return GroundPosterior([f"{cell:x}" for cell in ids.tolist()], number.astype(np.int32), self._probability)
