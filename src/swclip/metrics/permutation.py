"""What the permutation tests share: a p-value that counts ties against a finding, and rank correlation without NaN."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike
from scipy.stats import rankdata

TIE = 1e-10
"""Statistics of order one that differ by less are equal but for rounding."""


def two_sided_p(observed: float, drawn: ArrayLike) -> float:
    """How often chance alone gives a statistic as far out as the observed one, on either side.

        p = min(1, 2 (1 + min(#{T_b >= T}, #{T_b <= T})) / (B + 1))

    Equal statistics count on both sides: data that no permutation changes give p = 1. (`p_sim` of esda is the smaller
    tail alone, chosen after looking, and does not count equals of the lower one.)

    Args:
        observed: The statistic of the data, T.
        drawn: (B,) the statistic under each permutation.

    Returns:
        p, at least 2 / (B + 1).

    References:
        B. Phipson, G. K. Smyth, "Permutation p-values should never be zero", Stat. Appl. Genet. Mol. Biol. 9 (2010).

    Example:
        >>> two_sided_p(3.0, [0.0] * 99), two_sided_p(0.0, [0.0] * 99)
        (0.02, 1.0)
    """
    sample = np.asarray(drawn, dtype=np.float64)
    above = int(np.count_nonzero(sample >= observed - TIE))
    below = int(np.count_nonzero(sample <= observed + TIE))
    return min(1.0, 2.0 * (1 + min(above, below)) / (sample.size + 1))


def centred_ranks(values: ArrayLike) -> Float64[np.ndarray, " n"] | None:
    """Ranks, of equals their mean, shifted and scaled to mean 0 and length 1; None where all values are equal.

    Example:
        >>> centred_ranks([3.0, 1.0, 2.0]).round(3).tolist(), centred_ranks([2.0, 2.0])
        ([0.707, -0.707, 0.0], None)
    """
    rank = rankdata(np.asarray(values, dtype=np.float64))
    return unit_deviation(rank)


def unit_deviation(values: ArrayLike) -> Float64[np.ndarray, " n"] | None:
    """Values shifted to mean 0 and scaled to length 1, so that products of two such are Pearson correlations.

    None where all are equal.

    Example:
        >>> unit_deviation([1.0, 3.0]).round(3).tolist(), unit_deviation([0.1, 0.1, 0.1])
        ([-0.707, 0.707], None)
    """
    x = np.asarray(values, dtype=np.float64)
    if x.size == 0:
        return None
    # By a power of two, which rounds nothing: the mean of the smallest numbers there are could not be written, and
    # differences of the largest neither.
    x = np.ldexp(x, -int(np.frexp(np.abs(x).max())[1]))
    if np.ptp(x) == 0.0:
        return None
    x = x - x.mean()
    x = x / np.abs(x).max()  # so that no square is too small to be written
    unit: Float64[np.ndarray, " n"] = x / np.sqrt(x @ x)
    return unit


def spearman(a: ArrayLike, b: ArrayLike) -> float | None:
    """Spearman's rank correlation; None where one side has no two different values.

    References:
        C. Spearman, "The proof and measurement of association between two things", Am. J. Psychology 15 (1904).

    Example:
        >>> round(spearman([1.0, 2.0, 3.0], [1.0, 10.0, 5.0]), 6), spearman([1.0, 1.0], [1.0, 2.0])
        (0.5, None)
    """
    one, other = centred_ranks(a), centred_ranks(b)
    if one is None or other is None:
        return None
    return float(np.clip(one @ other, -1.0, 1.0))
