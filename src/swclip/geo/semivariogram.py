"""The semivariogram: how the dissimilarity of photographs grows with geographic distance, and up to which range."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar

from swclip.errors import ConfigError, InputError
from swclip.geo.coordinates import valid_positions
from swclip.geo.distance import pairwise_haversine_m

VariogramModel = Literal["exponential", "spherical", "gaussian"]

_LEAST_SHARE = 0.2
_LEAST_R_SQUARED = 0.5
_PAIRS_AT_ONCE = 1 << 21
_PRACTICAL = -math.log(0.05)


@dataclass(frozen=True, eq=False)
class EmpiricalSemivariogram:
    """Half the mean squared difference of features, by distance.

    Attributes:
        lag_m: (K,) mean distance of the pairs of each bin, metres, increasing.
        gamma: (K,) half the mean squared difference of their features.
        pairs: (K,) number of pairs.
        max_lag_m: Largest distance of a pair, metres.
    """

    lag_m: Float64[np.ndarray, " k"]
    gamma: Float64[np.ndarray, " k"]
    pairs: Int64[np.ndarray, " k"]
    max_lag_m: float


def empirical_semivariogram(
    positions_deg: ArrayLike,
    features: Float[np.ndarray, "n f"],
    *,
    generator: np.random.Generator,
    max_lag_m: float = 500.0,
    min_lag_m: float = 1.0,
    bins: int = 16,
    min_pairs: int = 50,
    max_pairs: int = 10_000_000,
    heading_deg: ArrayLike | None = None,
    heading_within_deg: float = 30.0,
) -> EmpiricalSemivariogram:
    """Compute half the mean squared difference of feature vectors by bins of distance.

        gamma(h) = 1 / (2 N(h)) sum over the N(h) pairs about h apart of |f_i - f_j|^2

    Bins are logarithmic from the nearest pair to `max_lag_m`, because short distances determine the range; a bin with
    too few pairs is joined to the next. Photographs of one place (nearer than `min_lag_m`) form no pair, because their
    differences, such as season or heading, do not depend on distance. Pairs in different cities are beyond the longest
    lag.

    Args:
        positions_deg: (N, 2) latitude, longitude in degrees.
        features: (N, F) features; of unit vectors gamma is one minus the mean cosine.
        generator: Draws the photographs whose pairs are used, if there are more than `max_pairs` pairs.
        max_lag_m: Longest distance of a pair, metres.
        min_lag_m: Shortest distance of a pair, metres.
        bins: Number of bins before bins with few pairs are joined.
        min_pairs: Smallest number of pairs in a bin.
        max_pairs: Largest number of pairs examined, at any distance.
        heading_deg: (N,) headings, degrees; if given, only pairs with similar headings count, and NaN matches none.
        heading_within_deg: Largest difference of similar headings, degrees.

    Returns:
        The bins that have pairs; no bins if no two photographs are within the lags.

    Raises:
        InputError: Positions, features or headings differ in length or are not finite.
        ConfigError: The lags or numbers of bins and pairs are not valid.

    References:
        G. Matheron, "Principles of geostatistics", Economic Geology 58 (1963). For vectors: G. Bourgault, D. Marcotte,
        "Multivariable variogram and its application to the linear model of coregionalization", Math. Geology 23
        (1991), with the identity as metric.

    Example:
        >>> positions_deg = np.stack([np.zeros(40), np.arange(40) * 1e-4], axis=1)
        >>> empirical = empirical_semivariogram(positions_deg, np.eye(40), generator=np.random.default_rng(0))
        >>> empirical.gamma.round(6).tolist()[:3]
        [1.0, 1.0, 1.0]
    """
    positions = np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2)
    vectors = np.asarray(features)
    heading = None if heading_deg is None else np.asarray(heading_deg, dtype=np.float64)
    _check(positions, vectors, heading, max_lag_m, min_lag_m, bins, min_pairs, max_pairs)
    n = len(positions)
    rows = np.arange(n)
    if n * (n - 1) // 2 > max_pairs:
        rows = np.sort(generator.permutation(n)[: max(1, max_pairs // (n - 1))])
    drawn = np.zeros(n, dtype=np.bool_)
    drawn[rows] = True
    lengths = np.einsum("nf,nf->n", vectors, vectors, dtype=np.float64)
    distances, halves = [], []
    step = max(1, _PAIRS_AT_ONCE // max(n, 1))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        distance_m = pairwise_haversine_m(positions[part], positions)
        # A pair of two drawn photographs occurs in two rows and is counted in the first.
        use = (np.arange(n)[None] > part[:, None]) | ~drawn[None]
        use &= (distance_m >= min_lag_m) & (distance_m <= max_lag_m)
        if heading is not None:
            use &= _similar_headings(heading[part], heading, heading_within_deg)
        squared = lengths[part][:, None] + lengths[None] - 2.0 * (vectors[part] @ vectors.T)
        distances.append(distance_m[use])
        halves.append(0.5 * np.maximum(squared[use], 0.0))
    return _binned(
        np.concatenate(distances or [np.zeros(0)]), np.concatenate(halves or [np.zeros(0)]), max_lag_m, bins, min_pairs
    )


def _check(
    positions: Float64[np.ndarray, "n 2"],
    vectors: Any,
    heading: Any,
    max_lag_m: float,
    min_lag_m: float,
    bins: int,
    min_pairs: int,
    max_pairs: int,
) -> None:
    if vectors.ndim != 2 or len(vectors) != len(positions):
        raise InputError(
            f"{len(positions)} positions and features of shape {vectors.shape}: give one row per position."
        )
    if heading is not None and heading.shape != (len(positions),):
        raise InputError(f"{len(positions)} positions and headings of shape {heading.shape}: give one per position.")
    bad = np.flatnonzero(~valid_positions(positions[:, 0], positions[:, 1]) | ~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise InputError(f"row {bad[0]}: its position or a feature is not finite; leave such rows out.")
    if not 0.0 <= min_lag_m < max_lag_m < math.inf:
        raise ConfigError(f"lags from {min_lag_m} to {max_lag_m} m are not valid; the second must be the larger.")
    if bins < 1 or min_pairs < 1 or max_pairs < 1:
        raise ConfigError(f"bins {bins}, min_pairs {min_pairs} and max_pairs {max_pairs} must be 1 or more.")


def _similar_headings(
    a_deg: Float64[np.ndarray, " a"], b_deg: Float64[np.ndarray, " b"], within_deg: float
) -> Bool[np.ndarray, "a b"]:
    turn = np.abs((a_deg[:, None] - b_deg[None] + 180.0) % 360.0 - 180.0)
    return np.asarray(turn <= within_deg)  # False for NaN


def _binned(
    distance_m: Float64[np.ndarray, " p"], half: Float64[np.ndarray, " p"], max_lag_m: float, bins: int, min_pairs: int
) -> EmpiricalSemivariogram:
    if len(distance_m) == 0:
        return EmpiricalSemivariogram(np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.int64), max_lag_m)
    edges = np.geomspace(max(float(distance_m.min()), 1e-3), max_lag_m, bins + 1)[1:-1]
    fine_bin = np.searchsorted(edges, distance_m)
    counts = np.bincount(fine_bin, minlength=bins)
    group = np.zeros(bins, dtype=np.int64)
    current, total = 0, 0
    for number, count in enumerate(counts):
        group[number] = current
        total += int(count)
        if total >= min_pairs:
            current, total = current + 1, 0
    if total < min_pairs and current > 0:  # the remainder at the far end joins the last full bin
        group[group == current] = current - 1
    joined = group[fine_bin]
    pairs = np.bincount(joined)
    return EmpiricalSemivariogram(
        np.bincount(joined, distance_m) / pairs, np.bincount(joined, half) / pairs, pairs.astype(np.int64), max_lag_m
    )


def _exponential(u: Any) -> Any:
    return 1.0 - np.exp(-u)


def _spherical(u: Any) -> Any:
    u = np.minimum(u, 1.0)
    return 1.5 * u - 0.5 * u**3


def _gaussian(u: Any) -> Any:
    return 1.0 - np.exp(-(u**2))


# Curve from 0 to 1 in u = distance / range; u at which it reaches 95 % (spherical: 100 %); u at which 1 - 1/e.
_MODELS: dict[str, tuple[Callable[[Any], Any], float, float]] = {
    "exponential": (_exponential, _PRACTICAL, 1.0),
    "spherical": (_spherical, 1.0, 2.0 * math.sin(math.asin(1.0 - math.exp(-1.0)) / 3.0)),
    "gaussian": (_gaussian, math.sqrt(_PRACTICAL), 1.0),
}


@dataclass(frozen=True)
class FittedSemivariogram:
    """A model of the semivariogram: gamma(d) = nugget + partial_sill g(d / range_m).

    Attributes:
        model: `exponential` g(u) = 1 - exp(-u), `spherical` 1.5 u - 0.5 u^3 up to 1, `gaussian` 1 - exp(-u^2).
        nugget: Dissimilarity of photographs of one place.
        partial_sill: Dissimilarity that distance adds.
        range_m: The model's range parameter, metres.
        r_squared: Share of the (weighted) variation over the bins that the model explains.
        structured: Whether distance explains dissimilarity and the data determine the range.
        statement: `structured` in words, with the reason.
    """

    model: VariogramModel
    nugget: float
    partial_sill: float
    range_m: float
    r_squared: float
    structured: bool
    statement: str

    @property
    def sill(self) -> float:
        """The limit of gamma: nugget plus partial sill."""
        return self.nugget + self.partial_sill

    @property
    def practical_range_m(self) -> float:
        """Distance at which 95 % of the partial sill is reached (spherical model: 100 %), metres."""
        return _MODELS[self.model][1] * self.range_m

    @property
    def correlation_length_m(self) -> float:
        """Distance at which the spatial correlation has fallen to 1/e, metres; comparable between models."""
        return _MODELS[self.model][2] * self.range_m

    def gamma(self, distance_m: ArrayLike) -> Float64[np.ndarray, " ..."]:
        """Evaluate the curve at distances in metres, any shape, greater than 0."""
        rise = _MODELS[self.model][0](np.asarray(distance_m, dtype=np.float64) / self.range_m)
        return np.asarray(self.nugget + self.partial_sill * rise)


def fit_semivariogram(
    empirical: EmpiricalSemivariogram, model: VariogramModel = "exponential", position_m: float = 0.0
) -> FittedSemivariogram:
    """Fit a model by weighted least squares with weights N(h) / (h^2 + position_m^2).

    Without `position_m` the weights are N(h) / h^2. They are preferred to Cressie's N(h) / gamma(h)^2 because a
    bandwidth depends on the near pairs: a city has a thousand far pairs for each near one, and Cressie's weights would
    fit the sill alone. For a fixed range, nugget and partial sill are linear and are solved for, neither below 0. The
    range is searched on a grid and then refined.

    The data are structured if distance explains at least 20 % of the sill, the curve explains at least half of the
    variation over the bins, and the range is within the lags: not much shorter than the shortest, and reached within
    the longest.

    Args:
        empirical: The bins.
        model: `exponential`, `spherical` or `gaussian`.
        position_m: Accuracy of the positions, metres; it limits the weight of shorter lags.

    Raises:
        ConfigError: The model is not known.

    References:
        N. Cressie, "Fitting variogram models by weighted least squares", Math. Geology 17 (1985).
        E. J. Pebesma, "Multivariable geostatistics in S: the gstat package", Computers & Geosciences 30 (2004), whose
        default weights these are.

    Example:
        >>> lag_m = np.array([5.0, 10.0, 20.0, 40.0, 80.0, 160.0])
        >>> bins = EmpiricalSemivariogram(lag_m, 0.2 + 0.8 * (1 - np.exp(-lag_m / 25.0)), np.full(6, 100), 200.0)
        >>> fitted = fit_semivariogram(bins)
        >>> round(fitted.range_m, 3), round(fitted.nugget, 3), fitted.structured
        (25.0, 0.2, True)
    """
    if model not in get_args(VariogramModel):
        raise ConfigError(f"model {model!r} is not known; choose one of {', '.join(get_args(VariogramModel))}.")
    lag, gamma = empirical.lag_m, empirical.gamma
    if len(lag) < 4:
        level = float(gamma.mean()) if len(gamma) else 0.0
        detail = f"only {len(lag)} bins of distance have pairs within {empirical.max_lag_m:g} m; 4 are needed"
        return FittedSemivariogram(model, level, 0.0, empirical.max_lag_m, 0.0, False, f"no structure: {detail}.")
    weight = empirical.pairs / (lag**2 + position_m**2)
    weight = weight / weight.sum()
    rise = _MODELS[model][0]

    def solve(log_range: float) -> tuple[float, float, float]:
        return _solve(rise(lag / math.exp(log_range)), gamma, weight)

    grid = np.linspace(math.log(lag[0] / 20.0), math.log(3.0 * empirical.max_lag_m), 200)
    best = int(np.argmin([solve(log_range)[0] for log_range in grid]))
    bounds = (float(grid[max(best - 1, 0)]), float(grid[min(best + 1, len(grid) - 1)]))
    refined = minimize_scalar(lambda value: solve(value)[0], bounds=bounds, method="bounded", options={"xatol": 1e-10})
    log_range = min((float(refined.x), float(grid[best])), key=lambda value: solve(value)[0])
    error, nugget, partial_sill = solve(log_range)
    total = float((weight * (gamma - (weight * gamma).sum()) ** 2).sum())
    r_squared = 1.0 - error / total if total > 1e-24 else 0.0
    fitted = FittedSemivariogram(model, nugget, partial_sill, math.exp(log_range), r_squared, True, "")
    reason = _no_structure_reason(fitted, empirical)
    statement = (
        f"structure: distance explains {partial_sill / fitted.sill:.0%} of the sill, within "
        f"{fitted.practical_range_m:.3g} m."
        if reason is None
        else f"no structure: {reason}."
    )
    return replace(fitted, structured=reason is None, statement=statement)


def _solve(
    rise: Float64[np.ndarray, " k"], gamma: Float64[np.ndarray, " k"], weight: Float64[np.ndarray, " k"]
) -> tuple[float, float, float]:
    """Return weighted squared error, nugget and partial sill (neither below 0) for a fixed range."""
    mean_rise, mean_gamma = (weight * rise).sum(), (weight * gamma).sum()
    spread = (weight * (rise - mean_rise) ** 2).sum()
    slope = (weight * (rise - mean_rise) * (gamma - mean_gamma)).sum() / spread if spread > 1e-15 else 0.0
    slope = max(float(slope), 0.0)
    level = float(mean_gamma - slope * mean_rise)
    if level < 0.0:
        level, slope = 0.0, float((weight * rise * gamma).sum() / (weight * rise**2).sum())
    return float((weight * (gamma - level - slope * rise) ** 2).sum()), level, slope


def _no_structure_reason(fitted: FittedSemivariogram, empirical: EmpiricalSemivariogram) -> str | None:
    """Return the reason why distance does not explain the features, or None if it does."""
    if fitted.sill <= 0.0 or fitted.partial_sill < _LEAST_SHARE * fitted.sill:
        return f"distance explains less than {_LEAST_SHARE:.0%} of the sill"
    if fitted.r_squared < _LEAST_R_SQUARED:
        return f"the curve explains only {max(fitted.r_squared, 0.0):.0%} of the variation over the bins"
    if fitted.correlation_length_m < 0.5 * empirical.lag_m[0]:
        return f"the features differ at the shortest lag already, {empirical.lag_m[0]:.3g} m"
    if fitted.practical_range_m > empirical.max_lag_m:
        return f"the sill is not reached within the longest lag, {empirical.max_lag_m:g} m"
    return None


def feature_directions(features: Float[np.ndarray, "n f"]) -> Float32[np.ndarray, "n f"]:
    """Centre features (N, F), divide them by their standard deviations, and normalise the rows to unit vectors.

    After centring, two unrelated photographs have a cosine of about 0, so that gamma is about 1.
    """
    centred = features - features.mean(axis=0, dtype=np.float64)
    spread = centred.std(axis=0)
    scaled = centred / np.where(spread > 1e-6 * max(float(spread.max(initial=0.0)), 1e-12), spread, np.inf)
    length = np.linalg.norm(scaled, axis=1, keepdims=True)
    return np.asarray(scaled / np.where(length > 0.0, length, 1.0), dtype=np.float32)
