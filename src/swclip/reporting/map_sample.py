"""Which queries a page draws where there are too many: the worst and the clusters first, the rest at random."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Int64

from swclip.metrics.localization_error import worst_count

CLUSTERS = ("high-high", "low-low")
"""LISA labels of queries whose neighbours err as they do."""


def shares_of(counts: Sequence[int], at_most: int) -> list[int]:
    """Divide a number of places fairly: all get the same, and what a small one does not need goes to the others.

    Args:
        counts: How many each would take.
        at_most: How many there are to give.

    Example:
        >>> shares_of([10, 500, 900], 400)
        [10, 195, 195]
    """
    given = [0] * len(counts)
    left = at_most
    for place, at in enumerate(sorted(range(len(counts)), key=lambda at: counts[at])):
        given[at] = min(counts[at], left // (len(counts) - place))
        left -= given[at]
    return given


def drawn_rows(
    predictions: pd.DataFrame, rows: Int64[np.ndarray, " n"], at_most: int, generator: np.random.Generator
) -> Int64[np.ndarray, " d"]:
    """Rows to draw, in increasing order.

    Where not all fit, the worst twentieth of them comes first and then the queries of LISA clusters, each in at most
    a third of the places; the others are drawn at random.

    Args:
        predictions: Of the evaluation, with `error_m`, and `lisa` where it was measured.
        rows: Rows of the predictions to choose from.
        at_most: How many.
        generator: Of the random ones.
    """
    if len(rows) <= at_most:
        return np.sort(rows)
    own = predictions.iloc[rows]
    third = at_most // 3
    worst = np.argsort(-own["error_m"].to_numpy(dtype=np.float64), kind="stable")[: min(third, worst_count(len(rows)))]
    taken = set(worst.tolist())
    if "lisa" in own:
        inside = [at for at in np.flatnonzero(own["lisa"].isin(CLUSTERS).to_numpy()).tolist() if at not in taken]
        taken.update(_some(np.asarray(inside, dtype=np.int64), third, generator).tolist())
    rest = np.asarray([at for at in range(len(rows)) if at not in taken], dtype=np.int64)
    kept = np.concatenate([np.asarray(sorted(taken), dtype=np.int64), _some(rest, at_most - len(taken), generator)])
    return np.sort(rows[kept])


def _some(rows: Int64[np.ndarray, " n"], at_most: int, generator: np.random.Generator) -> Int64[np.ndarray, " m"]:
    return rows if len(rows) <= at_most else generator.choice(rows, size=at_most, replace=False)
