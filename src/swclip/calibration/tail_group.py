"""Queries that set the thresholds of regions together: sorted tails with the weights of their blocks.

The rule is that of `swclip.calibration.conformal`, which divides the queries into groups by area.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import betaincinv

Scope = Literal["area", "small areas", "all areas"]
"""Whose queries set a threshold: those of the area, of all areas with few queries together, or of all areas."""


@dataclass(frozen=True, eq=False)
class Group:
    """Queries that set thresholds together: sorted tails with cumulative weights.

    Attributes:
        tails: (n,) increasing.
        before: (n,) total weight of the tails below each; one block weighs 1.
        blocks: Number of blocks.
        scope: Whose queries they are.
    """

    tails: Float64[np.ndarray, " n"]
    before: Float64[np.ndarray, " n"]
    blocks: int
    scope: Scope

    @classmethod
    def of(cls, tails: Float64[np.ndarray, " n"], blocks: Int64[np.ndarray, " n"], scope: Scope) -> Group:
        """Sort the tails of queries, each with the number of its block."""
        _, number, sizes = np.unique(blocks, return_inverse=True, return_counts=True)
        order = np.argsort(tails, kind="stable")
        weight = 1.0 / sizes[number[order]]
        return cls(tails[order], np.cumsum(weight) - weight, len(sizes), scope)

    def __len__(self) -> int:
        return len(self.tails)

    @property
    def unreachable(self) -> int:
        """Number of truths that no candidate with a positive probability reaches."""
        return int(np.count_nonzero(self.tails == 0.0))

    def threshold(self, level: float) -> float:
        """The greatest tail such that the weight below it is within the budget; 0 where there is none."""
        least = np.searchsorted(self.before, _budget(self.blocks, level) - 1.0, side="right")
        return float(self.tails[least - 1]) if least else 0.0

    def has_blocks_for(self, level: float) -> bool:
        """Whether the blocks are enough for a level, wherever their queries are."""
        return _budget(self.blocks, level) >= 1.0

    def expected(self, level: float) -> tuple[float, float] | None:
        """The 95 % interval of the coverage of infinitely many new queries, over the draw of the calibration queries.

        With distinct tails, the coverage of the drawn threshold is Beta(n + 1 - k, k) for queries that are blocks by
        themselves; with blocks each one is counted as a query, which is too wide where those of a block differ. None
        where there is no threshold.

        References:
            V. Vovk, "Conditional validity of inductive conformal predictors", ACML 2012, proposition 2a.
        """
        k = math.floor(_budget(self.blocks, level))
        if k == 0:
            return None
        # The quantiles of the beta distribution; importing scipy.stats slows the start of `swclip locate`.
        low, high = betaincinv(self.blocks + 1 - k, k, [0.025, 0.975])
        return float(low), float(high)


def _budget(blocks: int, level: float) -> float:
    # 1 - 0.8 is not exactly 0.2: without the tolerance, ten of 49 queries would be nine.
    return (blocks + 1) * (1.0 - level) + 1e-9
