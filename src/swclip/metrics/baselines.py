"""What any system is measured against: the best this gallery allows, one guess for all, and a blind guess."""

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
    """A baseline."""

    accuracy_within_m: ByRadius
    lat_deg: float | None = Field(default=None, description="of the constant guess")
    lon_deg: float | None = Field(default=None, description="of the constant guess")
    draws: int | None = Field(default=None, description="of the random guess: how many were averaged")

    @classmethod
    def of(cls, error_m: ArrayLike) -> BaselineFigures:
        """Figures of (Q,) localization errors in metres."""
        return BaselineFigures(**dict(Errors.of(error_m)), accuracy_within_m=accuracy_within(error_m))

    @classmethod
    def constant(cls, error_m: ArrayLike, position_deg: ArrayLike) -> BaselineFigures:
        """Figures of one guess for all queries, at (2,) latitude, longitude in degrees."""
        lat, lon = np.asarray(position_deg, dtype=np.float64).tolist()
        return BaselineFigures(**dict(Errors.of(error_m)), accuracy_within_m=accuracy_within(error_m), lat_deg=lat, lon_deg=lon)

    @classmethod
    def mean_of(cls, draws: Iterable[ArrayLike]) -> BaselineFigures:
        """Figures of random guesses: the mean over the draws of the figures of each, (Q,) errors in metres."""
        statistics, accuracies = [], []
        for error_m in draws:
            statistics.append(error_statistics(error_m))
            accuracies.append(accuracy_within(error_m))
        return BaselineFigures(**_means(statistics), accuracy_within_m=_means(accuracies), draws=len(statistics))


class Baselines(Part):
    """What the figures are to be read against; each null where it cannot be known."""

    floor: BaselineFigures | None = Field(description="always the candidate nearest to the truth")
    constant: BaselineFigures | None = Field(description="one guess for all: the geometric median of the training side")
    random: BaselineFigures | None = Field(description="a candidate drawn blindly")


# The candidate nearest on the sphere need not be the nearest on the ellipsoid: their distances differ by up to 0.6 %.
# The true nearest is therefore sought among this many.
_NEAREST_LOOKED_AT = 16


def oracle_error_m(truth_deg: ArrayLike, candidates_deg: ArrayLike) -> Float64[np.ndarray, " q"]:
    """Distance from each query to its nearest candidate: the error of a system that always names the best one.

    A system that answers between candidates can, with luck, do better; one that names a candidate cannot.

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
    candidates = _some(candidates_deg)
    _, which = SphereIndex(candidates).nearest(truth, _NEAREST_LOOKED_AT)
    k = which.shape[1]
    metres = geodesic_m(np.repeat(truth, k, axis=0), candidates[which.reshape(-1)])
    floor: Float64[np.ndarray, " q"] = metres.reshape(-1, k).min(axis=1)
    return floor


def geometric_median_deg(positions_deg: ArrayLike, iterations: int = 200) -> Float64[np.ndarray, " 2"]:
    """The point with the least sum of distances to the positions: the best single guess for the mean error.

    Weiszfeld's iteration on unit vectors, with the correction that lets it start from, and stop on, a data point.

    Args:
        positions_deg: (N, 2) latitude, longitude, degrees.
        iterations: At most this many.

    Returns:
        (2,) latitude, longitude, degrees.

    References:
        Y. Vardi and C.-H. Zhang, "The multivariate L1-median and associated data depth", PNAS 97 (2000), eq. 2.6.

    Example:
        >>> geometric_median_deg([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 9.0]]).round(6).tolist()
        [0.0, 0.0]
    """
    points = unit_vectors(_some(positions_deg))
    at = unit_vectors(centroid_deg(positions_deg))[0]
    for _ in range(iterations):
        distance = np.linalg.norm(points - at, axis=1)
        apart = distance > 1e-12
        if not apart.any():
            break
        weight = 1.0 / distance[apart]
        target = (weight[:, None] * points[apart]).sum(axis=0) / weight.sum()
        # With data points right here, the step is shortened by their pull, down to none. Only the part of the others'
        # pull that lies along the ground can move the point.
        here = float(np.count_nonzero(~apart))
        pull = (weight[:, None] * (points[apart] - at)).sum(axis=0)
        along = float(np.linalg.norm(pull - (pull @ at) * at))
        share = 0.0 if here == 0.0 else 1.0 if along <= here else here / along
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

    floor: the nearest candidate for each query. constant: the geometric median of the training side's positions, for
    all. random: a candidate drawn blindly for each query; the figures are means over `draws` such guesses.

    Args:
        truth_deg: (Q, 2) latitude, longitude of the queries, degrees.
        candidates_deg: (M, 2) latitude, longitude of the candidates, degrees.
        training_deg: (N, 2) latitude, longitude of the training photographs, degrees; with none, the candidates'.
        generator: Where the random guesses come from.
        draws: How many random guesses for each query.

    Returns:
        The figures of the three, and the (Q,) errors of the floor.
    """
    truth = np.asarray(truth_deg, dtype=np.float64).reshape(-1, 2)
    candidates = _some(candidates_deg)
    training = np.asarray(training_deg, dtype=np.float64).reshape(-1, 2)
    floor = oracle_error_m(truth, candidates)
    guess = geometric_median_deg(training if len(training) else candidates)
    constant = geodesic_m(truth, np.broadcast_to(guess, truth.shape))
    blind = (geodesic_m(truth, candidates[generator.integers(len(candidates), size=len(truth))]) for _ in range(draws))
    guesses = Baselines(floor=BaselineFigures.of(floor), constant=BaselineFigures.constant(constant, guess), random=BaselineFigures.mean_of(blind))
    return guesses, floor


def _means(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([each[key] for each in figures])) for key in figures[0]}


def _some(positions_deg: ArrayLike) -> Float64[np.ndarray, "n 2"]:
    positions = np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2)
    if len(positions) == 0:
        raise InputError("there are no candidates to answer with; check the gallery of the split.")
    return positions
