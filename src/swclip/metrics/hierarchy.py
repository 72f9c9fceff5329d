"""Accuracy and proper scores of the posterior at each hierarchy level: the city and the H3 cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from jaxtyping import Float, Float64, Int64
from numpy.typing import ArrayLike
from pydantic import Field

from swclip.geo.cells import nested_cell_ids
from swclip.geo.neighbours import SphereIndex
from swclip.metrics.parts import Number, Part, Share
from swclip.retrieval.hierarchy import RESOLUTIONS, Hierarchy, Level

LEAST_PROBABILITY = 1e-12
"""Lower bound of probabilities in the log score, so that one confident and wrong answer cannot make it infinite."""

_NOWHERE, _UNKNOWN = -1, -2
"""The true unit has no candidate; the true unit is unknown."""


class LevelFigures(Part):
    """Figures of one hierarchy level, the city or the H3 cells of a resolution."""

    n: int
    n_answerable: int
    units: Number
    accuracy: Share
    accuracy_of_point: Share
    mean_probability: Annotated[float, Field(ge=0.0, le=1.0 + 1e-9)]
    brier: float
    log_score: float | None


def level_scores(
    probability: Float[np.ndarray, "q u"], true: Int64[np.ndarray, " q"]
) -> tuple[Float64[np.ndarray, " q"], Float64[np.ndarray, " q"]]:
    """The probability of the true unit and the Brier score of each query.

        brier = sum_u (p_u - [u = true])^2        0 for a certain and correct answer, 2 for a certain and wrong one

    The mass of candidates without a unit is in no p_u, and so counts as wrong.

    Args:
        probability: (Q, U) posterior over the units.
        true: (Q,) number of the true unit, negative where it has no candidate: its probability is then 0.

    Returns:
        (Q,) probabilities and (Q,) scores.

    References:
        G. W. Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78 (1950),
        eq. 2. T. Gneiting, A. E. Raftery, "Strictly proper scoring rules, prediction, and estimation", JASA 102 (2007).

    Example:
        >>> of_true, brier = level_scores(np.array([[0.75, 0.25], [0.5, 0.5]]), np.array([0, -1]))
        >>> of_true.tolist(), brier.tolist()
        ([0.75, 0.0], [0.125, 1.5])
    """
    values = np.asarray(probability, dtype=np.float64)
    of_true = np.zeros(len(values))
    has_candidate = true >= 0
    of_true[has_candidate] = values[np.flatnonzero(has_candidate), true[has_candidate]]
    return of_true, np.maximum((values**2).sum(axis=1) - 2.0 * of_true + 1.0, 0.0)


@dataclass
class _Tally:
    """Accumulated values of one level."""

    level: Level
    true: Int64[np.ndarray, " q"]
    of_true: list[Float64[np.ndarray, " q"]] = field(default_factory=list)
    brier: list[Float64[np.ndarray, " q"]] = field(default_factory=list)
    best: list[Int64[np.ndarray, " q"]] = field(default_factory=list)
    best_probability: list[Float64[np.ndarray, " q"]] = field(default_factory=list)


class LevelMeter:
    """Accumulates the figures of the levels from posteriors in chunks.

    Args:
        truth_deg: (Q, 2) true positions in degrees.
        true_cities: Q names, None where unknown.
        candidates_deg: (M, 2) positions of the candidates in degrees.
        candidate_cities: M names, None where unknown.
        resolutions: H3 resolutions of the cells.

    Raises:
        ConfigError: There are no resolutions, or one is not 0 to 15.
    """

    def __init__(
        self,
        truth_deg: ArrayLike,
        true_cities: Sequence[str | None],
        candidates_deg: ArrayLike,
        candidate_cities: Sequence[str | None],
        resolutions: Sequence[int] = RESOLUTIONS,
    ) -> None:
        self.hierarchy = Hierarchy.of(candidates_deg, candidate_cities, resolutions)
        self._index = SphereIndex(candidates_deg)
        cells = nested_cell_ids(truth_deg, resolutions)
        true_units: list[list[str | None]] = [list(true_cities)]
        true_units += [list(cells[resolution]) for resolution in self.hierarchy.resolutions]
        self._true_units = true_units
        self._tallies = [
            _Tally(level, np.array([_UNKNOWN if unit is None else level.number_of(unit) for unit in units]))
            for level, units in zip(self.hierarchy.levels, true_units, strict=True)
        ]
        self._done = 0

    def add(self, probability: Float[np.ndarray, "q m"]) -> None:
        """Add the posteriors of the next queries; rows sum to 1 up to float32 rounding."""
        probability = np.asarray(probability, dtype=np.float64)
        probability = probability / probability.sum(axis=1, keepdims=True)
        rows = slice(self._done, self._done + len(probability))
        self._done = rows.stop
        for tally in self._tallies:
            values = tally.level.probabilities(probability)
            of_true, brier = level_scores(values, tally.true[rows])
            tally.of_true.append(of_true)
            tally.brier.append(brier)
            if values.shape[1]:
                best = values.argmax(axis=1)
                tally.best.append(best)
                tally.best_probability.append(values[np.arange(len(best)), best])

    def report(self, points_deg: ArrayLike) -> dict[str, LevelFigures]:
        """The figures of each level, coarse to fine.

        The city is left out where it is unknown for all queries or for all candidates.

        Args:
            points_deg: (Q, 2) the answers' points in degrees.

        Returns:
            Figures by name of the level (`city`, `cell_RES`): n (queries whose unit is known), n_answerable (the unit
            has a candidate), units (of the candidates), accuracy (the most probable unit is the true one),
            accuracy_of_point (the point is in it), mean_probability (of the true unit), brier; log_score, the mean of
            -ln of the probability of the true unit over the answerable queries, None where there are none.
        """
        points = self.hierarchy.units_at(points_deg, self._index)
        figures: dict[str, LevelFigures] = {}
        for tally, units in zip(self._tallies, self._true_units, strict=True):
            has_unit = tally.true != _UNKNOWN
            if not has_unit.any() or not tally.level.units:
                continue
            of_true, brier, best = (np.concatenate(chunks) for chunks in (tally.of_true, tally.brier, tally.best))
            answerable = tally.true >= 0
            at_point = np.array([a == b for a, b in zip(points[tally.level.name], units, strict=True)])
            scores = 0.0 - np.log(np.clip(of_true[answerable], LEAST_PROBABILITY, 1.0))  # never -0.0
            figures[tally.level.name] = LevelFigures(
                n=int(has_unit.sum()),
                n_answerable=int(answerable.sum()),
                units=len(tally.level.units),
                accuracy=float(np.mean(best[has_unit] == tally.true[has_unit])),
                accuracy_of_point=float(np.mean(at_point[has_unit])),
                mean_probability=float(of_true[has_unit].mean()),
                brier=float(brier[has_unit].mean()),
                log_score=float(scores.mean()) if answerable.any() else None,
            )
        return figures

    def cities(self) -> tuple[list[str | None], list[float | None]]:
        """The most probable city of each query and its probability; all None where no candidate has a city."""
        tally = self._tallies[0]
        if not tally.level.units:
            return [None] * self._done, [None] * self._done
        names = [tally.level.units[at] for best in tally.best for at in best]
        return list(names), [min(1.0, float(value)) for chunk in tally.best_probability for value in chunk]
