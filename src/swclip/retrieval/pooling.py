"""Combine several photographs of one place, and prior knowledge, in one posterior.

With a uniform prior, p(m | x) is proportional to p(x | m). Photographs x_1 .. x_n that were independent given their
place m would give p(m | x_1 .. x_n) proportional to w(m) prod_i p(m | x_i), with the prior w. They are not: a model's
errors on photographs of one street are correlated, and the product is overconfident. Logarithmic pooling gives the
evidence of n photographs less than n times the weight of one:

    p(m | x_1 .. x_n)  proportional to  w(m) (prod_i p(m | x_i))^(1 / n^g)

g = 0 is the product. With g = 1, the geometric mean, any number of photographs has the weight of one: copies of a
photograph add no evidence. `EXPONENT` is in between, as measured by `benchmarks/combined.py` on held-out photographs
(docs/method.md).

References:
    C. Genest, J. V. Zidek, "Combining probability distributions", Statistical Science 1 (1986), section 3: logarithmic
    pools, their external Bayesianity, and weights that do not sum to 1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64

from swclip.retrieval.evidence import Evidence
from swclip.retrieval.prior import Weights
from swclip.retrieval.scores import log_softmax

EXPONENT = 0.7
"""g: four photographs have the weight of 4^0.3 = 1.5."""


def pooled(
    log_p: Float64[np.ndarray, "q m"],
    together: bool,
    log_prior: Float64[np.ndarray, " m"] | None = None,
    exponent: float = EXPONENT,
) -> Float64[np.ndarray, "r m"]:
    """Pool posteriors of photographs, and multiply by a prior.

    Args:
        log_p: (q, M) log posteriors, one per photograph.
        together: The photographs show one place.
        log_prior: (M,) log w; None for a uniform prior.
        exponent: g.

    Returns:
        (q, M), or (1, M) where together; each row's exponentials sum to 1.

    Example:
        >>> two = np.log([[0.5, 0.5], [0.8, 0.2]])
        >>> np.exp(pooled(two, True, np.log([1.0, 4.0]), exponent=0.0)).round(3).tolist()
        [[0.5, 0.5]]
        >>> np.exp(pooled(two[[1, 1]], True, exponent=1.0)).round(3).tolist()
        [[0.8, 0.2]]
    """
    rows = log_p
    if together and len(log_p) > 1:
        rows = log_p.sum(axis=0, keepdims=True) / len(log_p) ** exponent
    if log_prior is not None:
        rows = rows + log_prior
    return rows if rows is log_p else log_softmax(rows)


def combine_evidence(
    evidence: Evidence,
    together: bool,
    prior: Weights | None,
    verify: Callable[[Evidence], Float64[np.ndarray, "q s"]] | None = None,
) -> tuple[Float64[np.ndarray, "r s"], list[Evidence]]:
    """Posteriors of photographs over the candidates that a prior does not exclude, and the evidence of each.

    The prior is that of Bayes' rule: excluded candidates are removed from the posterior, and the rest is normalised.

    Args:
        evidence: The evidence of Q photographs about M candidates.
        together: The photographs show one place.
        prior: Weights of the candidates; None for uniform ones.
        verify: Logarithms (Q, S) of the factors of verification (`swclip.retrieval.verification`), of the evidence of
            each photograph with the prior about the S candidates that remain; None for no verification.

    Returns:
        (Q, S) log posteriors, not smoothed, or (1, S) where together; and for each the evidence of its photographs
        with the prior, separately for each photograph.
    """
    rows = None if prior is None else prior.rows
    log_weight = None if prior is None else prior.log_weight
    if rows is not None:
        evidence = evidence.take(rows)
        log_weight = None if log_weight is None else log_weight[rows]
    single = evidence if log_weight is None else evidence.times(log_weight)
    if verify is not None:
        factors = verify(single)
        single, evidence = single.times(factors), evidence.times(factors)
    each = [single] if together else [single.rows(slice(row, row + 1)) for row in range(len(single))]
    return pooled(evidence.log_p, together, log_weight), each
