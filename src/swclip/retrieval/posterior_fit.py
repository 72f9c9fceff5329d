"""Fit the posterior on validation queries."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64
from numpy.typing import ArrayLike
from scipy import sparse

from swclip.calibration.posterior_config import ESTIMATOR, PosteriorConfig
from swclip.errors import ConfigError, InputError
from swclip.gallery.gallery import Gallery
from swclip.geo.distance import geodesic_m, haversine_m
from swclip.geo.kernels import KernelName, kernel_weight
from swclip.geo.spatial_smoothing import ground_kernel, outflow, weigh
from swclip.retrieval.point_estimates import estimators
from swclip.retrieval.scores import (
    Photographed,
    check_queries,
    chunks,
    image_similarity,
    location_similarity,
    log_probability,
    log_softmax,
)

_LOG = logging.getLogger(__name__)
SCORE_SCALE_M = 25.0
_BACKGROUND = 0.01
_TEMPERATURES = tuple(float(t) for t in np.geomspace(0.001, 0.5, 17))
_WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_SMOOTHINGS_M = (0.0, 5.0, 10.0, 20.0, 40.0, 80.0)
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
    """

    config: PosteriorConfig
    score: float
    uniform_score: float
    median_error_m: float
    mean_error_m: float
    n_queries: int
    left_out: tuple[PosteriorConfig, ...] = ()


def fit_posterior(
    query: Float32[np.ndarray, "q d"],
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

    Every combination of the values is scored by

        mean over queries of  -log( (1 - b) sum_m p_m K(d(m, truth); 25 m) + b mean_m K(d(m, truth); 25 m) )

    with p the smoothed posterior, K exponential. It is the log score of a spatial density forecast, which is a proper
    score: overconfident and underconfident posteriors both score worse. The background of b = 1 % uniform posterior
    limits the influence of single outliers. The sum is linear in p, and the smoothing can be applied to K instead of p,
    so that all combinations together cost little more than one pass.

    Args:
        query: (Q, D) unit vectors of validation photographs, none of them in the gallery.
        truth_deg: (Q, 2) their true positions, degrees.
        gallery: The validation queries' gallery.
        temperatures: Values tried for both temperatures.
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
        The posterior with its score and errors.

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
        queries, truth = queries[drawn], truth[drawn]
        fold_of = None if fold_of is None else fold_of[drawn]

    smoothings_m, kernels = _affordable(gallery, smoothings_m, kernel)
    # A share of 0 first, which is preferred in ties.
    image_scales = [_ImageScale(t, share) for share in sorted({0.0, *image_hubness}) for t in temperatures]
    with_images = photographed if any(weight > 0 for weight in weights) else _NO_PHOTOGRAPHS
    parts = _evidence_near_truth(queries, truth, gallery, with_images, temperatures, image_scales, kernels)
    scores = _scores(parts, weights, _training_queries(fold_of, len(queries)))
    best = [tuple(map(int, np.unravel_index(int(np.argmin(table)), table.shape))) for table in scores]
    config, *left_out = [_config(at, temperatures, image_scales, weights, smoothings_m, kernel) for at in best]
    errors_m = _errors_m(queries, truth, gallery, photographed, config)
    return PosteriorFit(
        config=config,
        score=float(scores[0].min()),
        uniform_score=float(-np.log(parts.uniform[0] + _SMALLEST).mean()),
        median_error_m=float(np.median(errors_m)),
        mean_error_m=float(np.mean(errors_m)),
        n_queries=len(queries),
        left_out=tuple(left_out),
    )


def _training_queries(fold_of: Int64[np.ndarray, " q"] | None, count: int) -> list[Int64[np.ndarray, " k"]]:
    """The queries that each posterior is fitted on: all, then all but each fold."""
    all_queries = [np.arange(count)]
    if fold_of is None or len(np.unique(fold_of)) < 2:
        return all_queries
    return all_queries + [np.flatnonzero(fold_of != fold) for fold in range(int(fold_of.max()) + 1)]


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
    """From an image similarity to a logit: subtract a share of the hubness, divide by the temperature."""

    temperature: float
    hubness: float


@dataclass(frozen=True)
class _Parts:
    """Sums over candidates of evidence times E, the (smoothed) kernel around the truth; T temperatures of the location
    evidence, S scales of the image evidence, H smoothings.

    Attributes:
        location: (T, H, Q) sum over all candidates of p_loc E.
        location_photographed: (T, H, Q) the same over the candidates with photographs.
        mass_photographed: (T, Q) sum over the candidates with photographs of p_loc.
        image: (S, H, Q) sum over the candidates with photographs of p_img E.
        uniform: (H, Q) mean of E.
    """

    location: Float64[np.ndarray, "t h q"]
    location_photographed: Float64[np.ndarray, "t h q"]
    mass_photographed: Float64[np.ndarray, "t q"]
    image: Float64[np.ndarray, "s h q"]
    uniform: Float64[np.ndarray, "h q"]

    def surprise(self, location: int, image: int, weight: float) -> Float64[np.ndarray, "h q"]:
        """The score of each query for one temperature, image scale and weight, for each smoothing."""
        mass = self.location[location]
        if weight > 0:
            redistributed = self.mass_photographed[location] * self.image[image] - self.location_photographed[location]
            mass = mass + weight * redistributed
        # The difference can round to slightly below zero.
        near = (1 - _BACKGROUND) * np.maximum(mass, 0.0) + _BACKGROUND * self.uniform
        return np.asarray(-np.log(near + _SMALLEST))


def _evidence_near_truth(
    queries: Float32[np.ndarray, "q d"],
    truth: Float64[np.ndarray, "q 2"],
    gallery: Gallery,
    photographed: Photographed,
    temperatures: Sequence[float],
    image_scales: Sequence[_ImageScale],
    kernels: Sequence[sparse.csr_array],
) -> _Parts:
    t, s, h, q, rows = len(temperatures), len(image_scales), len(kernels), len(queries), photographed.rows
    parts = _Parts(np.zeros((t, h, q)), np.zeros((t, h, q)), np.zeros((t, q)), np.zeros((s, h, q)), np.zeros((h, q)))
    outflows = [outflow(matrix) for matrix in kernels]
    for chunk in chunks(q, gallery):
        near_truth = _kernel_around(truth[chunk], gallery)
        # sum_n (p W)_n E_n = sum_m p_m (W E)_m: smooth the kernel around the truth once, not every posterior.
        around = np.stack([weigh(near_truth, matrix) / out for matrix, out in zip(kernels, outflows, strict=True)])
        parts.uniform[:, chunk] = around.mean(axis=2)
        location = location_similarity(queries[chunk], gallery).astype(np.float64)
        for i, temperature in enumerate(temperatures):
            p = np.exp(log_softmax(location / temperature))
            parts.location[i][:, chunk] = np.einsum("qm,hqm->hq", p, around)
            if len(rows):
                parts.mass_photographed[i, chunk] = p[:, rows].sum(axis=1)
                parts.location_photographed[i][:, chunk] = np.einsum("qc,hqc->hq", p[:, rows], around[:, :, rows])
        for i, scale in enumerate(image_scales if len(rows) else ()):
            image = image_similarity(queries[chunk], gallery, photographed, scale.hubness).astype(np.float64)
            p = np.exp(log_softmax(image / scale.temperature))
            parts.image[i][:, chunk] = np.einsum("qc,hqc->hq", p, around[:, :, rows])
    return parts


def _kernel_around(truth: Float64[np.ndarray, "q 2"], gallery: Gallery) -> Float64[np.ndarray, "q m"]:
    places = gallery.positions_deg
    distance = haversine_m(truth[:, None, 0], truth[:, None, 1], places[None, :, 0], places[None, :, 1])
    return np.asarray(kernel_weight(distance, SCORE_SCALE_M, "exponential"))


def _config(
    best: Sequence[int],
    temperatures: Sequence[float],
    image_scales: Sequence[_ImageScale],
    weights: Sequence[float],
    smoothings_m: Sequence[float],
    kernel: KernelName,
) -> PosteriorConfig:
    """The posterior of one entry of the table of scores."""
    weight, temperature = weights[best[2]], temperatures[best[0]]
    # Without image evidence its scale has no effect.
    image = image_scales[best[1]] if weight > 0 else _ImageScale(temperature, 0.0)
    smoothing_m = float(smoothings_m[best[3]])
    return PosteriorConfig(temperature, image.temperature, weight, smoothing_m, kernel, image_hubness=image.hubness)


def _scores(
    parts: _Parts, weights: Sequence[float], query_sets: Sequence[Int64[np.ndarray, " k"]]
) -> Float64[np.ndarray, "k t s w h"]:
    """Mean score of every combination over each set of queries; infinite for those not tried."""
    (t, h), s = parts.location.shape[:2], len(parts.image)
    scores = np.full((len(query_sets), t, s, len(weights), h), np.inf)
    for location, image, w in np.ndindex(t, s, len(weights)):
        # Without image evidence its scale has no effect: try only one.
        if weights[w] > 0 or image == 0:
            surprise = parts.surprise(location, image, weights[w])
            for at, rows in enumerate(query_sets):
                scores[at, location, image, w] = surprise[:, rows].mean(axis=1)
    return scores


def _errors_m(
    queries: Float32[np.ndarray, "q d"],
    truth: Float64[np.ndarray, "q 2"],
    gallery: Gallery,
    photographed: Photographed,
    config: PosteriorConfig,
) -> Float64[np.ndarray, " q"]:
    """Errors of the answers of a posterior."""
    estimate = estimators(config)[ESTIMATOR]
    errors = np.empty(len(queries))
    for chunk in chunks(len(queries), gallery):
        log_p = log_probability(queries[chunk], gallery, config, photographed)
        errors[chunk] = geodesic_m(truth[chunk], estimate(log_p, gallery.positions_deg))
    return errors
