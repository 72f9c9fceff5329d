"""Whether a photograph was taken in the gallery's area at all: from its similarity and novelty to a probability.

A posterior over the candidates says where in the gallery's area a photograph was taken, if it was taken there; it sums
to 1 for a photograph of another country too. Two observations say whether it was:

- the similarity s of the photograph to the most similar photograph of the gallery. Its distribution outside the area
  is that of validation queries whose surroundings are removed from their gallery (or whose city is, where there are
  several). In a gallery without photographs, novelty decides alone: similarities to location embeddings are trained to
  tell the candidates apart, and say little of what is no candidate (docs/results/not-here.md);
- its novelty n, the log Mahalanobis distance of its features from those of the training photographs
  (`swclip.models.whitening.Whitening.log_distance`). Photographs of another city of the same kind are not novel, those
  of another country or by another camera are. The data have none of these; they are assumed to be half of all
  photographs from outside, with n ~ N(m + 3 d, (1.5 d)^2) where that of validation queries is N(m, d^2).

The probability, for a photograph that is as likely from inside as from outside before it is looked at, is

    logit P = a s + b - log(1/2 + 1/2 f_out(n) / f_in(n)),    a >= 0

with a and b by maximum likelihood on validation queries inside and outside. The ratio of the densities never falls
with n.

References:
    K. Lee et al., "A simple unified framework for detecting out-of-distribution samples and adversarial attacks",
    NeurIPS 2018 (Mahalanobis distance of features). The balanced prior and the assumed outside are ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike
from scipy.special import expit

SimilarityKind = Literal["none", "image", "whitened"]
"""What the similarity of a query to a gallery is taken from: the embeddings of photographs, or their whitened features;
`none` for a gallery without photographs."""

KEPT_M = 100.0
"""Queries with errors up to this, metres, are the ones that the threshold keeps."""

KEPT_SHARE = 0.95
LEAST_QUERIES = 20
"""Fewer validation queries fit nothing."""

_LARGEST_THRESHOLD = 0.5
_SHIFT, _WIDTH = 3.0, 1.5  # of the novelty of photographs from elsewhere, in standard deviations of that of queries
_PRECISION = 0.01
_LEAST_SPREAD = 0.01
_SMALLEST = 1e-6


@dataclass(frozen=True)
class InArea:
    """The probability that a photograph was taken in the gallery's area.

    Attributes:
        kind: Which similarity it was fitted on.
        slope: a.
        offset: b.
        novelty_centre: m, median novelty of validation queries; None where the model measures none.
        novelty_spread: d, their robust standard deviation.
        threshold: Answers with a smaller probability abstain.
        n_queries: Number of validation queries that it was fitted on.

    Example:
        >>> model = InArea("image", 20.0, -10.0, 3.0, 0.1, 0.5, 100)
        >>> model.probability(np.array([0.7, 0.7, 0.3]), np.array([3.0, 4.0, 3.0])).round(3).tolist()
        [0.99, 0.0, 0.033]
    """

    kind: SimilarityKind
    slope: float
    offset: float
    novelty_centre: float | None
    novelty_spread: float | None
    threshold: float
    n_queries: int

    def probability(self, similarity: ArrayLike, novelty: ArrayLike | None) -> Float64[np.ndarray, " q"]:
        """(Q,) probabilities.

        Args:
            similarity: (Q,) largest similarity of each query, of this kind.
            novelty: (Q,) novelty of each; None where it is not measured.
        """
        logit = self.slope * np.asarray(similarity, dtype=np.float64) + self.offset
        if novelty is not None and self.novelty_centre is not None and self.novelty_spread is not None:
            logit = logit - novelty_evidence(novelty, self.novelty_centre, self.novelty_spread)
        probability: Float64[np.ndarray, " q"] = expit(logit)
        return probability

    @classmethod
    def fit(
        cls,
        kind: SimilarityKind,
        inside: Float64[np.ndarray, " q"],
        outside: Float64[np.ndarray, " k"],
        novelty: Float64[np.ndarray, " q"] | None,
        error_m: Float64[np.ndarray, " q"],
        weight: float,
    ) -> InArea:
        """Fit the probability.

        Args:
            kind: Which similarity.
            inside: (Q,) largest similarity of each validation query to its gallery.
            outside: (K,) largest similarities of the same queries to galleries without their surroundings.
            novelty: (Q,) novelty of the queries; None where it is not measured.
            error_m: (Q,) errors of their answers, metres: the threshold keeps those within `KEPT_M`.
            weight: Number of independent units per query, at most 1: queries of one block are not independent.
        """
        from scipy.optimize import minimize  # answers need no fit, and it is slow to import

        scale = max(float(np.std(np.concatenate([inside, outside]))), _SMALLEST)
        centre = float(np.mean(np.concatenate([inside, outside])))
        x_in, x_out = (inside - centre) / scale, (outside - centre) / scale

        def cost(line: Float64[np.ndarray, " two"]) -> float:
            loss_in = np.logaddexp(0.0, -(line[0] * x_in + line[1])).sum()
            loss_out = np.logaddexp(0.0, line[0] * x_out + line[1]).sum() * (len(x_in) / len(x_out))
            return float(weight * (loss_in + loss_out) + 0.5 * _PRECISION * (line**2).sum())

        slope, offset = minimize(cost, np.array([1.0, 0.0]), bounds=[(0.0, None), (None, None)], method="L-BFGS-B").x
        usual = spread = None
        if novelty is not None:
            usual = float(np.median(novelty))
            deviation = 1.4826 * float(np.median(np.abs(novelty - usual)))
            spread = max(deviation, float(np.std(novelty)), _LEAST_SPREAD)
        model = cls(kind, float(slope / scale), float(offset - slope * centre / scale), usual, spread, 0.0, len(inside))
        probability = model.probability(inside, novelty)
        near = probability[error_m <= KEPT_M]
        kept = float(np.quantile(near, 1.0 - KEPT_SHARE)) if len(near) else 0.0
        return cls(**{**asdict(model), "threshold": min(kept, _LARGEST_THRESHOLD)})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> InArea:
        """The inverse of `dataclasses.asdict`.

        Raises:
            TypeError, ValueError: The values are not those of a fit.
        """
        model = cls(**values)
        numbers = [model.slope, model.offset, model.threshold, *_present(model)]
        if model.kind not in get_args(SimilarityKind):
            raise ValueError(f"in_area: the kind of similarity is {model.kind!r}")
        if not all(isinstance(number, (int, float)) and math.isfinite(number) for number in numbers):
            raise ValueError(f"in_area: a value is no number: {numbers}")
        if model.slope < 0 or (model.novelty_spread is not None and model.novelty_spread <= 0):
            raise ValueError("in_area: the slope is negative, or the spread not above 0")
        return model


def _present(model: InArea) -> list[float]:
    return [value for value in (model.novelty_centre, model.novelty_spread) if value is not None]


def novelty_evidence(novelty: ArrayLike, centre: float, spread: float) -> Float64[np.ndarray, " q"]:
    """(Q,) log(1/2 + 1/2 f_out / f_in), the evidence of novelty against the area; it increases with the novelty."""
    score = (np.asarray(novelty, dtype=np.float64) - centre) / spread
    # Where the ratio of the two normal densities is smallest; towards smaller novelty it would rise again.
    score = np.maximum(score, -_SHIFT / (_WIDTH**2 - 1.0))
    log_ratio = 0.5 * score**2 - 0.5 * ((score - _SHIFT) / _WIDTH) ** 2 - math.log(_WIDTH)
    return np.asarray(np.logaddexp(0.0, log_ratio) + math.log(0.5))
