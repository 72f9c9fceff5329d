"""Fit the posterior on validation queries."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import ArrayLike
from scipy import sparse

from swclip.calibration.posterior_config import ESTIMATOR, PosteriorConfig
from swclip.errors import ConfigError, InputError
from swclip.gallery.gallery import Gallery
from swclip.geo.distance import geodesic_m, haversine_m
from swclip.geo.kernels import KernelName, kernel_weight
from swclip.geo.spatial_smoothing import ground_kernel, outflow, weigh
from swclip.models.photograph_vectors import PhotographVectors, Vectors
from swclip.retrieval.point_estimates import estimators
from swclip.retrieval.scores import (
    Photographed,
    check_queries,
    chunks,
    image_similarity,
    location_similarity,
    log_probability,
    log_softmax,
    whitened_similarity,
)

_LOG = logging.getLogger(__name__)
SCORE_SCALE_M = 25.0
_BACKGROUND = 0.01
_TEMPERATURES = tuple(float(t) for t in np.geomspace(0.001, 0.5, 17))
_WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_SMOOTHINGS_M = (0.0, 5.0, 10.0, 20.0, 40.0, 80.0)
_GAIN = 1e-4  # a search by coordinates ends where a round improves the score by less
_QuerySets = Sequence[Int64[np.ndarray, " k"]]
_SMALLEST = 1e-300  # a true position whose kernel is 0 at all candidates has the same score for every setting


@dataclass(frozen=True)
class PosteriorFit:
    """A fitted posterior, and its score and errors on the queries it was fitted on.

    Attributes:
        config: The posterior.
        score: Mean negative log of the probability near the truth; see `fit_posterior`. Lower is better.
        uniform_score: The score of the uniform posterior.
        median_error_m: Median error of its modes on those queries, metres.
        mean_error_m: Their mean.
        n_queries: Number of queries it was fitted on.
        left_out: For each fold of the queries, the posterior fitted without it; empty without folds.
        fast: The fit without whitened features; None where they are not used.
        balanced: The fit without verification; None where it is not used (`swclip.retrieval.verification_fit`).
    """

    config: PosteriorConfig
    score: float
    uniform_score: float
    median_error_m: float
    mean_error_m: float
    n_queries: int
    left_out: tuple[PosteriorConfig, ...] = ()
    fast: PosteriorFit | None = None
    balanced: PosteriorFit | None = None


def fit_posterior(
    query: Vectors,
    truth_deg: ArrayLike,
    gallery: Gallery,
    *,
    temperatures: Sequence[float] = _TEMPERATURES,
    image_weights: Sequence[float] = _WEIGHTS,
    smoothings_m: Sequence[float] = _SMOOTHINGS_M,
    image_hubness: Sequence[float] = (),
    kernel: KernelName = "gaussian",
    max_queries: int = 2000,
    generator: np.random.Generator | None = None,
    fold_of: Int64[np.ndarray, " q"] | None = None,
) -> PosteriorFit:
    """Choose temperatures, image weight and smoothing on validation queries.

    A combination of the values is scored by

        mean over queries of  -log( (1 - b) sum_m p_m K(d(m, truth); 25 m) + b mean_m K(d(m, truth); 25 m) )

    with p the smoothed posterior, K exponential. It is the log score of a spatial density forecast, which is a proper
    score: overconfident and underconfident posteriors both score worse. The background of b = 1 % uniform posterior
    limits the influence of single outliers. The sum is linear in p, and the smoothing can be applied to K instead of p,
    so that all combinations together cost little more than one pass.

    Without whitened features every combination is scored. With them, a search starts from the best of those and changes
    in turn the scale of the image evidence and the temperature of the locations, with all weights and smoothings, until
    no change improves the score. Whitened features are therefore used only where they help on these queries.

    Args:
        query: Vectors of Q validation photographs, none of them in the gallery.
        truth_deg: (Q, 2) their true positions, degrees.
        gallery: The validation queries' gallery.
        temperatures: Values tried for each temperature.
        image_weights: Values tried for the image weight; ignored where the gallery has no photographs.
        smoothings_m: Values tried for the smoothing, metres; values too large for the gallery's density are skipped
            with a warning.
        image_hubness: Shares of the photographs' hubness tried beside 0; needs a gallery with measured hubness.
        kernel: Kernel of the smoothing.
        max_queries: Largest number of queries that are used, drawn without replacement.
        generator: Generator of that draw.
        fold_of: (Q,) folds of the queries, from 0; a further posterior is fitted without each of them, for
            `region_fit.calibrate`.

    Returns:
        The posterior with its score and errors; `fast` has those without whitened features.

    Raises:
        InputError: There are no queries, or their number differs from that of the positions.
        ConfigError: A list of values is empty.
    """
    queries = check_queries(query, gallery)
    truth = np.asarray(truth_deg, dtype=np.float64).reshape(-1, 2)
    if len(queries) == 0 or len(queries) != len(truth):
        raise InputError(f"fitting a posterior needs one position per query; got {len(truth)} for {len(queries)}.")
    photographed = Photographed.of(gallery)
    weights = tuple(image_weights) if len(photographed.rows) else (0.0,)
    if not (temperatures and weights and smoothings_m):
        raise ConfigError("fitting a posterior needs at least one temperature, image weight and smoothing.")
    if len(queries) > max_queries:
        drawn = np.sort((generator or np.random.default_rng(0)).choice(len(queries), max_queries, replace=False))
        queries, truth = queries.take(drawn), truth[drawn]
        fold_of = None if fold_of is None else fold_of[drawn]

    smoothings_m, kernels = _affordable(gallery, smoothings_m, kernel)
    with_images = photographed if any(weight > 0 for weight in weights) else _NO_PHOTOGRAPHS
    near = _NearTruth.of(queries, truth, gallery, with_images, temperatures, kernels)
    # A share of 0 first, which is preferred in ties.
    grid = _Grid(tuple(temperatures), tuple(sorted({0.0, *image_hubness})), weights, tuple(smoothings_m), kernel)
    query_sets = _training_queries(fold_of, len(queries))
    near.add_images(grid.scales())
    best = _best(near, grid, query_sets, grid.scales(), range(len(temperatures)))
    fit = _fit(near, grid, best, photographed)
    if gallery.image_whitened is None or queries.whitened is None or not len(with_images.rows):
        return fit
    found = [_with_whitened(near, grid, *each) for each in zip(query_sets, best, strict=True)]
    if found[0].scale.whitened is None:
        return fit
    whitened = _fit(near, grid, found, photographed)
    return replace(whitened, config=replace(whitened.config, fast=fit.config), fast=fit)


def _training_queries(fold_of: Int64[np.ndarray, " q"] | None, count: int) -> list[Int64[np.ndarray, " k"]]:
    """The queries that each posterior is fitted on: all, then all but each fold."""
    folds = 0 if fold_of is None or len(np.unique(fold_of)) < 2 else int(fold_of.max()) + 1
    return [np.arange(count), *(np.flatnonzero(fold_of != fold) for fold in range(folds))]


def _affordable(
    gallery: Gallery, smoothings_m: Sequence[float], kernel: KernelName
) -> tuple[list[float], list[sparse.csr_array]]:
    """The smoothings that the density of the gallery allows, with their kernels; the first is always tried."""
    kernels = [ground_kernel(gallery.positions_deg, min(smoothings_m), kernel)]
    tried = [min(smoothings_m)]
    for smoothing in sorted(smoothings_m)[1:]:
        try:
            kernels.append(ground_kernel(gallery.positions_deg, smoothing, kernel))
        except ConfigError as error:
            _LOG.warning("smoothing over %g m and more is not tried: %s", smoothing, error)
            break
        tried.append(smoothing)
    return tried, kernels


_NO_PHOTOGRAPHS = Photographed(*(np.zeros(0, dtype=np.int64) for _ in range(3)))


@dataclass(frozen=True)
class _ImageScale:
    """From image similarities to a logit: the temperature, the share of the hubness that is subtracted before, and the
    temperature of whitened features, None without them."""

    temperature: float
    hubness: float = 0.0
    whitened: float | None = None


@dataclass(frozen=True)
class _Grid:
    """The values that are tried."""

    temperatures: tuple[float, ...]
    hubness: tuple[float, ...]
    weights: tuple[float, ...]
    smoothings_m: tuple[float, ...]
    kernel: KernelName

    def scales(self, whitened: float | None = None) -> list[_ImageScale]:
        """The scales with one temperature of whitened features."""
        return [_ImageScale(t, share, whitened) for share in self.hubness for t in self.temperatures]


@dataclass(frozen=True)
class _Combination:
    """One combination of the grid's values, and its score: location temperature, weight and smoothing by number."""

    score: float
    location: int
    scale: _ImageScale
    weight: int
    smoothing: int

    def config(self, grid: _Grid) -> PosteriorConfig:
        """Its posterior."""
        weight, temperature = grid.weights[self.weight], grid.temperatures[self.location]
        # Without image evidence its scale has no effect.
        image = self.scale if weight > 0 else _ImageScale(temperature)
        return PosteriorConfig(
            temperature,
            image.temperature,
            weight,
            float(grid.smoothings_m[self.smoothing]),
            grid.kernel,
            image_hubness=image.hubness,
            whitened_temperature=image.whitened,
        )


@dataclass(eq=False)
class _NearTruth:
    """Sums over candidates of evidence times E, the (smoothed) kernel around the truth; T temperatures of the location
    evidence, H smoothings.

    Attributes:
        location: (T, H, Q) sum over all candidates of p_loc E.
        location_photographed: (T, H, Q) the same over the candidates with photographs.
        mass_photographed: (T, Q) sum over the candidates with photographs of p_loc.
        uniform: (H, Q) mean of E.
        image: By scale, (H, Q) sum over the candidates with photographs of p_img E.
    """

    queries: PhotographVectors
    truth_deg: Float64[np.ndarray, "q 2"]
    gallery: Gallery
    photographed: Photographed
    kernels: Sequence[sparse.csr_array]
    location: Float64[np.ndarray, "t h q"]
    location_photographed: Float64[np.ndarray, "t h q"]
    mass_photographed: Float64[np.ndarray, "t q"]
    uniform: Float64[np.ndarray, "h q"]
    image: dict[_ImageScale, Float64[np.ndarray, "h q"]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        queries: PhotographVectors,
        truth_deg: Float64[np.ndarray, "q 2"],
        gallery: Gallery,
        photographed: Photographed,
        temperatures: Sequence[float],
        kernels: Sequence[sparse.csr_array],
    ) -> _NearTruth:
        """Compute the sums of the location evidence."""
        t, h, q, rows = len(temperatures), len(kernels), len(queries), photographed.rows
        arrays = (np.zeros((t, h, q)), np.zeros((t, h, q)), np.zeros((t, q)), np.zeros((h, q)))
        near = cls(queries, truth_deg, gallery, photographed, kernels, *arrays)
        for chunk in chunks(q, gallery):
            around = near.around(chunk)
            near.uniform[:, chunk] = around.mean(axis=2)
            location = location_similarity(queries.embeddings[chunk], gallery).astype(np.float64)
            for i, temperature in enumerate(temperatures):
                p = np.exp(log_softmax(location / temperature))
                near.location[i][:, chunk] = np.einsum("qm,hqm->hq", p, around)
                if len(rows):
                    near.mass_photographed[i, chunk] = p[:, rows].sum(axis=1)
                    near.location_photographed[i][:, chunk] = np.einsum("qc,hqc->hq", p[:, rows], around[:, :, rows])
        return near

    def add_images(self, scales: Iterable[_ImageScale]) -> None:
        """Compute the sums of the image evidence for the scales that lack them."""
        missing = [scale for scale in dict.fromkeys(scales) if scale not in self.image]
        if not missing:
            return
        count, rows = len(self.queries), self.photographed.rows
        for scale in missing:
            self.image[scale] = np.zeros((len(self.kernels), count))
        for chunk in chunks(count, self.gallery) if len(rows) else ():
            around, vectors = self.around(chunk)[:, :, rows], self.queries.take(chunk)
            trained = {
                share: image_similarity(vectors.embeddings, self.gallery, self.photographed, share).astype(np.float64)
                for share in {scale.hubness for scale in missing}
            }
            whitened = None
            if any(scale.whitened is not None for scale in missing):
                whitened = whitened_similarity(vectors, self.gallery, self.photographed).astype(np.float64)
            for scale in missing:
                logits = trained[scale.hubness] / scale.temperature
                if whitened is not None and scale.whitened is not None:
                    logits = logits + whitened / scale.whitened
                self.image[scale][:, chunk] = np.einsum("qc,hqc->hq", np.exp(log_softmax(logits)), around)

    def around(self, chunk: slice) -> Float64[np.ndarray, "h q m"]:
        """E of some of the queries."""
        return np.stack([near_truth(self.truth_deg[chunk], self.gallery, matrix) for matrix in self.kernels])

    def surprise(self, location: int, scale: _ImageScale, weight: float) -> Float64[np.ndarray, "h q"]:
        """The score of each query for one location temperature, image scale and weight, for each smoothing."""
        mass = self.location[location]
        if weight > 0:
            redistributed = self.mass_photographed[location] * self.image[scale] - self.location_photographed[location]
            mass = mass + weight * redistributed
        return surprise(mass, self.uniform)


def near_truth(
    truth: Float64[np.ndarray, "q 2"], gallery: Gallery, kernel: sparse.csr_array
) -> Float64[np.ndarray, "q m"]:
    """E: the kernel of the score around each truth, smoothed as a posterior would be.

    sum_n (p W)_n E_n = sum_m p_m (W E)_m: the kernel is smoothed once, not every posterior.
    """
    places = gallery.positions_deg
    distance = haversine_m(truth[:, None, 0], truth[:, None, 1], places[None, :, 0], places[None, :, 1])
    return np.asarray(weigh(kernel_weight(distance, SCORE_SCALE_M, "exponential"), kernel) / outflow(kernel))


def surprise(mass: Float64[np.ndarray, "*q"], uniform: Float64[np.ndarray, "*q"]) -> Float64[np.ndarray, "*q"]:
    """The score of queries whose posterior, and the uniform one, have these sums of p E."""
    # The sum can round to slightly below zero.
    near = (1 - _BACKGROUND) * np.maximum(mass, 0.0) + _BACKGROUND * uniform
    return np.asarray(-np.log(near + _SMALLEST))


def _best(
    near: _NearTruth, grid: _Grid, query_sets: _QuerySets, scales: Sequence[_ImageScale], locations: Iterable[int]
) -> list[_Combination]:
    """For each set of queries the best of these values with any weight and smoothing; the first one in ties."""
    share = np.zeros((len(near.queries), len(query_sets)))
    for number, rows in enumerate(query_sets):
        share[rows, number] = 1.0 / len(rows)
    best: list[_Combination | None] = [None] * len(query_sets)
    for location in locations:
        for scale in scales:
            for w, weight in enumerate(grid.weights):
                # Without image evidence its scale has no effect: try only one.
                if weight == 0 and scale is not scales[0]:
                    continue
                scores = near.surprise(location, scale, weight) @ share
                smoothings = scores.argmin(axis=0)
                for number, at in enumerate(smoothings.tolist()):
                    score, before = float(scores[at, number]), best[number]
                    if before is None or score < before.score:
                        best[number] = _Combination(score, location, scale, w, at)
    return [combination for combination in best if combination is not None]


def _with_whitened(near: _NearTruth, grid: _Grid, rows: Int64[np.ndarray, " k"], start: _Combination) -> _Combination:
    """Improve a combination by coordinates until no change of one of them improves it."""
    best = start
    while True:
        scale, before = best.scale, best.score
        cross = [replace(scale, whitened=temperature) for temperature in grid.temperatures]
        cross += grid.scales(scale.whitened)
        near.add_images(cross)
        for scales, locations in ((cross, (best.location,)), ((best.scale,), range(len(grid.temperatures)))):
            (other,) = _best(near, grid, [rows], scales, locations)
            best = other if other.score < best.score else best
        if best.score >= before - _GAIN:
            return best


def _fit(near: _NearTruth, grid: _Grid, best: Sequence[_Combination], photographed: Photographed) -> PosteriorFit:
    """The fit of the best combinations: on all queries, then without each fold."""
    config, *left_out = [combination.config(grid) for combination in best]
    errors = errors_m(near.queries, near.truth_deg, near.gallery, photographed, config)
    return PosteriorFit(
        config=config,
        score=best[0].score,
        uniform_score=float(-np.log(near.uniform[0] + _SMALLEST).mean()),
        median_error_m=float(np.median(errors)),
        mean_error_m=float(np.mean(errors)),
        n_queries=len(near.queries),
        left_out=tuple(left_out),
    )


def errors_m(
    queries: PhotographVectors,
    truth: Float64[np.ndarray, "q 2"],
    gallery: Gallery,
    photographed: Photographed,
    config: PosteriorConfig,
) -> Float64[np.ndarray, " q"]:
    """Errors of the answers of a posterior."""
    estimate = estimators(config)[ESTIMATOR]
    errors = np.empty(len(queries))
    for chunk in chunks(len(queries), gallery):
        log_p = log_probability(queries.take(chunk), gallery, config, photographed)
        errors[chunk] = geodesic_m(truth[chunk], estimate(log_p, gallery.positions_deg))
    return errors
