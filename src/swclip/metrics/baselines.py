"""Baselines: the oracle error of a gallery, the constant baseline and the random baseline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike
from pydantic import Field

from swclip.errors import InputError
from swclip.geo.coordinates import centroid_deg, unit_vectors
from swclip.geo.distance import geodesic_m
from swclip.geo.neighbours import SphereIndex
from swclip.metrics.localization_error import accuracy_within, error_statistics
from swclip.metrics.parts import ByRadius, Errors, Part

RANDOM_DRAWS = 100


class BaselineFigures(Errors):
    """Errors and accuracy of a baseline."""

    accuracy_within_m: ByRadius
    lat_deg: float | None = Field(default=None, description="of the constant baseline")
    lon_deg: float | None = Field(default=None, description="of the constant baseline")
    draws: int | None = Field(default=None, description="of the random baseline: number of draws averaged")

    @classmethod
    def of(cls, error_m: ArrayLike) -> BaselineFigures:
        """Figures of (Q,) localization errors in metres."""
        return BaselineFigures(**dict(Errors.of(error_m)), accuracy_within_m=accuracy_within(error_m))

    @classmethod
    def constant(cls, error_m: ArrayLike, position_deg: ArrayLike) -> BaselineFigures:
        """Figures of one fixed answer for all queries, at (2,) latitude, longitude in degrees."""
        lat, lon = np.asarray(position_deg, dtype=np.float64).tolist()
        return BaselineFigures(
            **dict(Errors.of(error_m)), accuracy_within_m=accuracy_within(error_m), lat_deg=lat, lon_deg=lon
        )

    @classmethod
    def mean_of(cls, draws: Iterable[ArrayLike]) -> BaselineFigures:
        """Mean over random draws of the figures of each draw, (Q,) errors in metres."""
        statistics, accuracies = [], []
        for error_m in draws:
            statistics.append(error_statistics(error_m))
            accuracies.append(accuracy_within(error_m))
        return BaselineFigures(**_means(statistics), accuracy_within_m=_means(accuracies), draws=len(statistics))


class Baselines(Part):
    """Baselines of a report; null where one cannot be computed."""

    floor: BaselineFigures | None = Field(description="oracle error: the candidate nearest to the truth")
    constant: BaselineFigures | None = Field(
        description="one fixed answer: the geometric median of the training positions"
    )
    random: BaselineFigures | None = Field(description="a candidate drawn uniformly at random")


# The candidate nearest on the sphere need not be the nearest on the ellipsoid: their distances differ by up to 0.6 %.
# The geodesically nearest is therefore chosen among this many.
_NEAREST_COMPARED = 16


def oracle_error_m(truth_deg: ArrayLike, candidates_deg: ArrayLike) -> Float64[np.ndarray, " q"]:
    """Distance from each query to its nearest candidate: the lowest error of any answer that is a candidate.

    An answer between candidates can have a lower error.

    Args:
        truth_deg: (Q, 2) latitude, longitude of the queries, degrees.
        candidates_deg: (M, 2) latitude, longitude of the candidates, degrees.

    Returns:
        (Q,) metres.

    Example:
        >>> oracle_error_m([[52.0, 0.0]], [[52.0, 0.0], [53.0, 0.0]]).tolist()
        [0.0]
    """
    truth = np.asarray(truth_deg, dtype=np.float64).reshape(-1, 2)
    candidates = _checked_candidates(candidates_deg)
    _, which = SphereIndex(candidates).nearest(truth, _NEAREST_COMPARED)
    k = which.shape[1]
    metres = geodesic_m(np.repeat(truth, k, axis=0), candidates[which.reshape(-1)])
    nearest_m: Float64[np.ndarray, " q"] = metres.reshape(-1, k).min(axis=1)
    return nearest_m


def geometric_median_deg(positions_deg: ArrayLike, iterations: int = 200) -> Float64[np.ndarray, " 2"]:
    """The point with the least sum of distances to the positions: the fixed answer with the least mean error.

    Weiszfeld's iteration on unit vectors, with the correction that allows it to start from, and stop at, a data point.

    Args:
        positions_deg: (N, 2) latitude, longitude, degrees.
        iterations: Maximum number of iterations.

    Returns:
        (2,) latitude, longitude, degrees.

    References:
        Y. Vardi and C.-H. Zhang, "The multivariate L1-median and associated data depth", PNAS 97 (2000), eq. 2.6.

    Example:
        >>> geometric_median_deg([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 9.0]]).round(6).tolist()
        [0.0, 0.0]
    """
    points = unit_vectors(_checked_candidates(positions_deg))
    at = unit_vectors(centroid_deg(positions_deg))[0]
    for _ in range(iterations):
        distance = np.linalg.norm(points - at, axis=1)
        apart = distance > 1e-12
        if not apart.any():
            break
        weight = 1.0 / distance[apart]
        target = (weight[:, None] * points[apart]).sum(axis=0) / weight.sum()
        # Data points at the current position shorten the step, down to none. Of the gradient of the remaining points
        # only the component tangential to the sphere can move the position.
        coincident = float(np.count_nonzero(~apart))
        gradient = (weight[:, None] * (points[apart] - at)).sum(axis=0)
        tangential = float(np.linalg.norm(gradient - (gradient @ at) * at))
        share = 0.0 if coincident == 0.0 else 1.0 if tangential <= coincident else coincident / tangential
        moved = (1.0 - share) * target + share * at
        moved = moved / max(float(np.linalg.norm(moved)), 1e-300)
        step = float(np.linalg.norm(moved - at))
        at = moved
        if step < 1e-12:
            break
    return np.array([np.degrees(np.arctan2(at[2], np.hypot(at[0], at[1]))), np.degrees(np.arctan2(at[1], at[0]))])


def baselines(
    truth_deg: ArrayLike,
    candidates_deg: ArrayLike,
    training_deg: ArrayLike,
    generator: np.random.Generator,
    draws: int = RANDOM_DRAWS,
) -> tuple[Baselines, Float64[np.ndarray, " q"]]:
    """The three baselines of a report.

    floor: the oracle error, of the candidate nearest to each query. constant: the geometric median of the training
    positions, for all queries. random: a candidate drawn uniformly for each query; the figures are means over `draws`
    draws.

    Args:
        truth_deg: (Q, 2) latitude, longitude of the queries, degrees.
        candidates_deg: (M, 2) latitude, longitude of the candidates, degrees.
        training_deg: (N, 2) latitude, longitude of the training photographs, degrees; where empty, the
            candidates are used.
        generator: Draws the random baseline.
        draws: Number of draws per query.

    Returns:
        The figures of the three baselines, and the (Q,) oracle errors in metres.
    """
    truth = np.asarray(truth_deg, dtype=np.float64).reshape(-1, 2)
    candidates = _checked_candidates(candidates_deg)
    training = np.asarray(training_deg, dtype=np.float64).reshape(-1, 2)
    oracle_m = oracle_error_m(truth, candidates)
    centre = geometric_median_deg(training if len(training) else candidates)
    constant_m = geodesic_m(truth, np.broadcast_to(centre, truth.shape))
    random_m = (
        geodesic_m(truth, candidates[generator.integers(len(candidates), size=len(truth))]) for _ in range(draws)
    )
    figures = Baselines(
        floor=BaselineFigures.of(oracle_m),
        constant=BaselineFigures.constant(constant_m, centre),
        random=BaselineFigures.mean_of(random_m),
    )
    return figures, oracle_m


def _means(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([each[key] for each in figures])) for key in figures[0]}


def _checked_candidates(positions_deg: ArrayLike) -> Float64[np.ndarray, "n 2"]:
    positions = np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2)
    if len(positions) == 0:
        raise InputError("there are no candidates to answer with; check the gallery of the split.")
    return positions
