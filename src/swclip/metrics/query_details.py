"""What an evaluation knows of each query beyond its answer: the best candidates, and the posterior on the ground."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float32, Int32
from numpy import ndarray


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
class GroundPosterior:
    """The most probable cells of the ground of each query, best first.

    Attributes:
        cell_ids: C cells (H3) that some query names.
        cells: (Q, K) indices into `cell_ids`; -1 where a query has no further cell.
        probability: (Q, K) what the posterior gives each of them; 0 where there is none.
    """

    cell_ids: list[str]
    cells: Int32[ndarray, "q k"]
    probability: Float32[ndarray, "q k"]
