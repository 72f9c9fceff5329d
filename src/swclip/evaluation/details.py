"""What is kept of each query's posterior beside its figures: enough to look at, small enough to hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32


@dataclass(frozen=True, eq=False)
class TopCandidates:
    """The most probable candidates of each query, best first.

    Attributes:
        rows: (Q, K) rows of the candidates' table.
        probability: (Q, K) their posterior, before any smoothing on the ground.
    """

    rows: Int32[np.ndarray, "q k"]
    probability: Float32[np.ndarray, "q k"]


@dataclass(frozen=True, eq=False)
class GroundPosterior:
    """The posterior of each query on the ground: its most probable H3 cells, best first.

    Attributes:
        cell_ids: C H3 ids.
        cells: (Q, K) indices into `cell_ids`, -1 where a query has fewer.
        probability: (Q, K) posterior mass of each.
    """

    cell_ids: list[str]
    cells: Int32[np.ndarray, "q k"]
    probability: Float32[np.ndarray, "q k"]
