"""Stated probabilities: from the posterior mass near an answer to the probability that the true place is near it.

The posterior is over candidates, its temperature is one for all areas, and its mass within 50 m of an answer is not the
share of answers with an error below 50 m. The stated probability q of an answer of area a with mass p is

    logit q = s_a logit p + o_a,    s_a > 0

fitted on validation queries by maximum likelihood, each with the posterior that was fitted without it. Within an area
it increases with the mass, so that the ranking of the answers stays. Two parameters per area need few queries, and are
drawn to those of all areas by a normal prior, these to s = 1, o = 0: an area with few queries or none has the map of
all areas. With K blocks of correlated queries the likelihood counts as that of K queries.

References:
    J. C. Platt, "Probabilistic outputs for support vector machines", 1999; C. Guo et al., "On calibration of modern
    neural networks", ICML 2017 (temperature: o = 0). A. Gelman et al., "A weakly informative default prior distribution
    for logistic and other regression models", Annals of Applied Statistics 2 (2008).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.special import expit

RADII_M = (25.0, 50.0)
"""Distances from the answer, metres, that probabilities are stated for: in reports, and in answers."""

LEAST_SLOPE = 0.05
"""Smallest slope: the probability increases with the mass, also where the mass says nothing."""

_PRIOR_PRECISION = np.array([1.0, 0.25])  # standard deviations of 1 for the slope and 2 for the offset
_SMALLEST = 1e-9
_STEPS = 100
_CLOSE = 1e-10

Line = tuple[float, float]
"""Slope s and offset o of a map."""


@dataclass(frozen=True)
class StatedProbabilities:
    """The maps from masses to probabilities.

    Attributes:
        overall: The map of all areas, by radius in metres.
        by_area: The maps of each area with validation queries, by radius.

    Example:
        >>> maps = StatedProbabilities({50.0: (0.5, -1.0)}, {50.0: {"Leeds": (1.0, 0.0)}})
        >>> maps.of(np.array([0.9, 0.9]), ["Leeds", "York"], 50.0).round(3).tolist()
        [0.9, 0.525]
    """

    overall: Mapping[float, Line]
    by_area: Mapping[float, Mapping[str, Line]]

    def of(self, mass: Float64[np.ndarray, " q"], areas: Sequence[str], radius_m: float) -> Float64[np.ndarray, " q"]:
        """(Q,) stated probabilities.

        Args:
            mass: (Q,) posterior mass within the radius of each answer.
            areas: Q areas of the posteriors.
            radius_m: One of `RADII_M`.
        """
        overall, by_area = self.overall[radius_m], self.by_area[radius_m]
        lines = np.array([by_area.get(area, overall) for area in areas], dtype=np.float64).reshape(-1, 2)
        stated: Float64[np.ndarray, " q"] = expit(lines[:, 0] * _logit(mass) + lines[:, 1])
        return stated

    @classmethod
    def fit(
        cls,
        mass: Mapping[float, Float64[np.ndarray, " q"]],
        error_m: Float64[np.ndarray, " q"],
        areas: Sequence[str],
        blocks: Int64[np.ndarray, " q"],
    ) -> StatedProbabilities:
        """Fit the maps of each radius.

        Args:
            mass: For each radius, (Q,) posterior mass within it of each query's answer.
            error_m: (Q,) errors of the answers, metres.
            areas: Q areas of the posteriors.
            blocks: (Q,) number of each query's block.
        """
        overall: dict[float, Line] = {}
        by_area: dict[float, dict[str, Line]] = {}
        names = np.asarray(areas, dtype=object)
        for radius_m, masses in mass.items():
            hits = error_m <= radius_m
            overall[radius_m] = _fit_line(masses, hits, blocks, (1.0, 0.0))
            by_area[radius_m] = {
                area: _fit_line(masses[rows], hits[rows], blocks[rows], overall[radius_m])
                for area in sorted(set(areas))
                for rows in [np.flatnonzero(names == area)]
            }
        return cls(overall, by_area)

    def to_dict(self) -> dict[str, Any]:
        """The values for JSON: by radius in metres, `all` and `areas`."""
        return {
            f"{radius_m:g}": {
                "all": list(line),
                "areas": {area: list(own) for area, own in self.by_area[radius_m].items()},
            }
            for radius_m, line in self.overall.items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StatedProbabilities:
        """The inverse of `to_dict`.

        Raises:
            KeyError, TypeError, ValueError: The values are not those of `to_dict`.
        """
        overall = {radius_m: _line(values[f"{radius_m:g}"]["all"]) for radius_m in RADII_M}
        by_area = {
            radius_m: {str(area): _line(own) for area, own in values[f"{radius_m:g}"]["areas"].items()}
            for radius_m in RADII_M
        }
        return cls(overall, by_area)


def _line(values: Any) -> Line:
    slope, offset = (float(value) for value in values)
    if not (math.isfinite(slope) and math.isfinite(offset) and slope > 0):
        raise ValueError(f"a slope of {slope} and an offset of {offset} are no map of probabilities")
    return slope, offset


def _logit(mass: Float64[np.ndarray, " q"]) -> Float64[np.ndarray, " q"]:
    clipped = np.clip(np.asarray(mass, dtype=np.float64), _SMALLEST, 1.0 - _SMALLEST)
    return np.log(clipped) - np.log1p(-clipped)


def _fit_line(
    mass: Float64[np.ndarray, " q"], hits: Bool[np.ndarray, " q"], blocks: Int64[np.ndarray, " q"], prior: Line
) -> Line:
    """The slope and offset of greatest posterior density: Newton's method on a convex function."""
    design = np.stack([_logit(mass), np.ones(len(mass))], axis=1)
    weight = len(np.unique(blocks)) / max(1, len(mass))
    centre = np.array(prior)

    def cost(line: Float64[np.ndarray, " two"]) -> float:
        logits = design @ line
        likelihood = np.logaddexp(0.0, logits).sum() - logits[hits].sum()
        return float(weight * likelihood + 0.5 * (_PRIOR_PRECISION * (line - centre) ** 2).sum())

    def least(line: Float64[np.ndarray, " two"], free: list[int]) -> Float64[np.ndarray, " two"]:
        for _ in range(_STEPS):
            probability = expit(design @ line)
            gradient = weight * design.T @ (probability - hits) + _PRIOR_PRECISION * (line - centre)
            curvature = weight * (design * (probability * (1.0 - probability))[:, None]).T @ design
            curvature += np.diag(_PRIOR_PRECISION)
            step = np.zeros(2)
            step[free] = np.linalg.solve(curvature[np.ix_(free, free)], gradient[free])
            while cost(line - step) > cost(line) and np.abs(step).max() > _CLOSE:
                step *= 0.5
            line = line - step
            if np.abs(step).max() <= _CLOSE:
                break
        return line

    line = least(centre, [0, 1])
    if line[0] < LEAST_SLOPE:  # the function is convex: the least is at the limit
        line = least(np.array([LEAST_SLOPE, line[1]]), [1])
    return float(line[0]), float(line[1])
