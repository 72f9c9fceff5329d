"""The Mantel test: whether two tables of distances between the same points agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from swclip.errors import InputError
from swclip.metrics.permutation import centred_ranks, two_sided_p, unit_deviation

PERMUTATIONS = 499


@dataclass(frozen=True)
class Mantel:
    """The correlation of two tables of distances.

    Attributes:
        r: Correlation over the pairs.
        p: Two-sided, from permutations of the points of one table.
    """

    r: float
    p: float


def mantel(
    a: Float64[np.ndarray, "n n"],
    b: Float64[np.ndarray, "n n"],
    *,
    generator: np.random.Generator,
    permutations: int = PERMUTATIONS,
    ranks: bool = True,
) -> Mantel | None:
    """Correlation of the distances of all pairs, with a p-value from permutations of the points.

        r = corr over i < j of (a_ij, b_ij)

    A point's distances to all others change together: the n (n - 1) / 2 pairs are not so many independent
    observations, and a p-value that takes them for that is far too small. So points are permuted, rows and columns
    alike, and not pairs.

    Args:
        a: (N, N) symmetric distances.
        b: (N, N) symmetric distances between the same points.
        generator: Draws the permutations.
        permutations: How many.
        ranks: Spearman's correlation, which asks only that the two rise together; Pearson's where False.

    Returns:
        r and p; None where there are fewer than three points or the distances of one table are all equal.

    Raises:
        InputError: The tables are not of one size, not symmetric, or not finite.

    References:
        N. Mantel, "The detection of disease clustering and a generalized regression approach", Cancer Research 27
        (1967). P. Legendre, L. Legendre, "Numerical Ecology", 3rd ed. (2012), section 10.5.1.

    Example:
        >>> a = np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 3.0], [2.0, 3.0, 0.0]])
        >>> b = np.array([[0.0, 2.0, 7.0], [2.0, 0.0, 6.0], [7.0, 6.0, 0.0]])
        >>> found = mantel(a, b, generator=np.random.default_rng(0), ranks=False)
        >>> round(found.r, 4), found.p > 0.3
        (0.7559, True)
    """
    for table in (a, b):
        if table.ndim != 2 or table.shape != (len(a), len(a)):
            raise InputError(f"two tables of distances must be square and of one size, not {a.shape} and {b.shape}.")
        if not (np.isfinite(table).all() and (table == table.T).all()):
            raise InputError("a table of distances must be finite, and the same from i to j as from j to i.")
    n = len(a)
    if n < 3:
        return None
    first, second = np.triu_indices(n, 1)
    scale = centred_ranks if ranks else unit_deviation
    one, other = scale(a[first, second]), scale(b[first, second])
    if one is None or other is None:
        return None
    table = np.zeros((n, n))  # ranks move with the points: they need be taken once
    table[first, second] = table[second, first] = one
    drawn = np.empty(permutations)
    for number in range(permutations):
        order = generator.permutation(n)
        drawn[number] = table[order[first], order[second]] @ other
    r = float(one @ other)
    return Mantel(float(np.clip(r, -1.0, 1.0)), two_sided_p(r, drawn))
