"""Calibrate answers on validation queries: regions and stated probabilities, each with a posterior that was not fitted
on the query; and whether a photograph was taken in the gallery's area (`swclip.calibration.in_area`).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from numpy.typing import ArrayLike

from swclip.calibration.conformal import Calibration
from swclip.calibration.in_area import LEAST_QUERIES, InArea
from swclip.calibration.posterior_config import ESTIMATOR, PosteriorConfig
from swclip.calibration.region import tail_mass
from swclip.calibration.region_cells import RESOLUTION, RegionCells, area_spreads_m
from swclip.calibration.stated import RADII_M, StatedProbabilities
from swclip.data.grouping import group_numbers
from swclip.gallery.gallery import Gallery
from swclip.geo.distance import geodesic_m, haversine_m
from swclip.geo.neighbours import SphereIndex
from swclip.geo.spatial_smoothing import ground_kernel, spread
from swclip.models.photograph_vectors import PhotographVectors, Vectors
from swclip.retrieval.point_estimates import estimators
from swclip.retrieval.posterior_fit import PosteriorFit
from swclip.retrieval.scores import Photographed, check_queries, chunks, log_probability, similarity_kind, similarity_of

SURROUNDINGS_M = 300.0
"""Candidates up to this far from a query are removed to see it from outside the gallery's area."""

_LEAST_LEFT = 0.5


def fit_in_area(
    queries: PhotographVectors,
    truth_deg: Float64[np.ndarray, "q 2"],
    gallery: Gallery,
    config: PosteriorConfig,
    error_m: Float64[np.ndarray, " q"],
    units: int,
) -> InArea | None:
    """Fit the probability that a photograph was taken in the gallery's area.

    Each query is seen from outside by removing its surroundings from the gallery: the candidates within
    `SURROUNDINGS_M`, or the nearer half where these are more; and, where there are several cities, by removing its
    city. No photograph of another place is needed. A query is inside wherever its true position is: also one whose
    nearest candidate is far.

    Args:
        queries: Vectors of Q validation queries, none of which is in the gallery.
        truth_deg: (Q, 2) their true positions, degrees.
        gallery: The validation queries' gallery.
        config: The posterior, for the kind of similarity that it uses.
        error_m: (Q,) errors of the answers, metres.
        units: Number of independent units (places or blocks) of the queries.

    Returns:
        The fit; None with fewer than `LEAST_QUERIES` queries, or with neither photographs nor novelty.
    """
    if len(queries) < LEAST_QUERIES:
        return None
    photographed = Photographed.of(gallery)
    kind = similarity_kind(config, photographed)
    positions, cities = gallery.positions_deg, np.array([city or "" for city in gallery.cities], dtype=object)
    if kind == "none":
        if queries.novelty is None:
            return None
        zeros = np.zeros(len(queries))
        return InArea.fit(kind, zeros, zeros, queries.novelty.astype(np.float64), error_m, 0.0)
    rows = photographed.rows
    inside, surroundings, city = [], [], []
    for part in chunks(len(queries), gallery):
        similarity = similarity_of(queries.take(part), gallery, photographed, config, kind)
        truth = truth_deg[part]
        distance = haversine_m(truth[:, None, 0], truth[:, None, 1], positions[None, rows, 0], positions[None, rows, 1])
        limit = np.minimum(np.quantile(distance, _LEAST_LEFT, axis=1), SURROUNDINGS_M)
        own = cities[rows][distance.argmin(axis=1)]
        inside.append(similarity.max(axis=1))
        surroundings.append(_largest(similarity, distance > limit[:, None]))
        city.append(_largest(similarity, cities[rows][None, :] != own[:, None]))
    outside = np.concatenate([*surroundings, *city])
    outside = outside[np.isfinite(outside)]
    if len(outside) < LEAST_QUERIES:
        return None
    novelty = None if queries.novelty is None else queries.novelty.astype(np.float64)
    weight = min(1.0, units / len(queries))
    return InArea.fit(kind, np.concatenate(inside).astype(np.float64), outside, novelty, error_m, weight)


def _largest(similarity: Float32[np.ndarray, "q c"], allowed: Bool[np.ndarray, "q c"]) -> Float64[np.ndarray, " q"]:
    """(Q,) the largest similarity among the allowed candidates; -inf where there are none."""
    return np.asarray(np.where(allowed, similarity, -np.inf).max(axis=1, initial=-np.inf), dtype=np.float64)


def in_area_probability(
    queries: PhotographVectors,
    gallery: Gallery,
    config: PosteriorConfig,
    model: InArea | None,
    photographed: Photographed | None = None,
) -> Float64[np.ndarray, " q"] | None:
    """(Q,) probabilities that photographs were taken in the gallery's area.

    Args:
        queries: Vectors of Q queries.
        gallery: The gallery.
        config: The posterior that the probability was fitted with.
        model: The fit; None where there is none.
        photographed: The gallery's photographs by candidate; None to group them.

    Returns:
        The probabilities; None without a fit, and where the gallery lacks the kind of similarity that it is of.
    """
    if model is None:
        return None
    photographed = photographed or Photographed.of(gallery)
    if similarity_kind(config, photographed) != model.kind or not len(queries):
        return None
    similarity = [
        similarity_of(queries.take(part), gallery, photographed, config, model.kind).max(axis=1)
        for part in chunks(len(queries), gallery)
    ]
    return model.probability(np.concatenate(similarity), queries.novelty)


FOLDS = 5
"""Number of folds of the validation queries; a posterior is fitted without each."""


def split_blocks(blocks: Sequence[Hashable], parts: int, generator: np.random.Generator) -> Int64[np.ndarray, " q"]:
    """Split queries by whole blocks into parts of similar size: in random order, each to the smallest part so far.

    Args:
        blocks: Block of each of Q queries.
        parts: Number of parts; some are empty where there are fewer blocks.
        generator: Generator of the order.

    Returns:
        (Q,) part of each query, from 0.
    """
    number = group_numbers([str(block) for block in blocks])
    sizes = np.bincount(number)
    part_of, part_sizes = np.zeros(len(sizes), dtype=np.int64), np.zeros(parts)
    for block in generator.permutation(len(sizes)):
        part_of[block] = int(part_sizes.argmin())
        part_sizes[part_of[block]] += sizes[block]
    part_of_query: Int64[np.ndarray, " q"] = part_of[number]
    return part_of_query


def calibrate(
    query: Vectors,
    truth_deg: ArrayLike,
    gallery: Gallery,
    fit: PosteriorFit,
    fold_of: Int64[np.ndarray, " q"],
    blocks: Sequence[Hashable] | None = None,
    *,
    variants: int = 1,
    resolution: int = RESOLUTION,
) -> Calibration:
    """Compute the tails of validation queries, which set the thresholds of regions, and fit stated probabilities and
    the probability that a photograph was taken in the gallery's area.

    The temperatures, the image weight and the smoothing were chosen on the same queries; tails of that posterior would
    be optimistically biased. Each query's tail is therefore computed with the posterior that was fitted without its
    fold (cross-fitting), and the thresholds are used with the posterior fitted on all. If these posteriors are similar,
    as with few parameters fitted on hundreds of queries, this approximates split conformal prediction, without a proof.

    Args:
        query: Vectors of Q photographs, none of which is in the gallery.
        truth_deg: (Q, 2) their true positions, degrees.
        gallery: The validation queries' gallery.
        fit: The posterior fitted with these folds.
        fold_of: (Q,) fold of each query.
        blocks: Blocks of the n photographs; None to treat them as independent.
        variants: Number of queries per photograph, by different modalities, one variant after another: Q = variants *
            n. A photograph counts once, with its smallest tail and in the area of that posterior, so that each variant
            is covered.
        resolution: H3 resolution of the cells.

    Returns:
        The calibration, from the tails of n photographs.
    """
    queries = check_queries(query, gallery)
    truth = np.asarray(truth_deg, dtype=np.float64).reshape(-1, 2)
    spreads = area_spreads_m(gallery.positions_deg, gallery.cities, resolution)
    cells = RegionCells.of(gallery.positions_deg, gallery.cities, resolution=resolution, spread_m=spreads)
    truth_cells = cells.index_of(truth)
    left_out = fit.left_out or (fit.config,)
    config_of = np.array([left_out[fold] if fold < len(left_out) else fit.config for fold in fold_of], dtype=object)
    answered = _Answered.empty(len(queries))
    for config in dict.fromkeys(config_of.tolist()):
        rows = np.flatnonzero(config_of == config)
        answered.fill(rows, queries.take(rows), truth[rows], truth_cells[rows], gallery, cells, config)
    least = answered.tails.reshape(variants, -1).argmin(axis=0)[None]
    tails, areas = (
        np.take_along_axis(each.reshape(variants, -1), least, axis=0)[0] for each in (answered.tails, answered.areas)
    )
    units = range(len(tails)) if blocks is None else blocks
    stated = StatedProbabilities.fit(
        answered.mass,
        answered.error_m,
        [cells.areas.names[area] for area in answered.areas],
        np.tile(group_numbers([str(unit) for unit in units]), variants),
    )
    units_of = len(set(map(str, units)))
    in_area = fit_in_area(queries, truth, gallery, fit.config, answered.error_m, units_of)
    return replace(Calibration.of(tails, cells, areas, blocks), stated=stated, in_area=in_area)


@dataclass(frozen=True, eq=False)
class _Answered:
    """Answers to validation queries.

    Attributes:
        tails: (Q,) tail of each truth.
        areas: (Q,) number of the area of each posterior.
        error_m: (Q,) errors of the points of the default estimator, metres.
        mass: For each radius, (Q,) mass within it of the point, as answers and reports have it.
    """

    tails: Float64[np.ndarray, " q"]
    areas: Int64[np.ndarray, " q"]
    error_m: Float64[np.ndarray, " q"]
    mass: dict[float, Float64[np.ndarray, " q"]]

    @classmethod
    def empty(cls, count: int) -> _Answered:
        mass = {radius_m: np.zeros(count) for radius_m in RADII_M}
        return cls(np.zeros(count), np.zeros(count, dtype=np.int64), np.zeros(count), mass)

    def fill(
        self,
        rows: Int64[np.ndarray, " k"],
        queries: PhotographVectors,
        truth_deg: Float64[np.ndarray, "k 2"],
        truth_cells: Int64[np.ndarray, " k"],
        gallery: Gallery,
        cells: RegionCells,
        config: PosteriorConfig,
    ) -> None:
        """Answer some of the queries with one posterior."""
        kernel = ground_kernel(gallery.positions_deg, config.smoothing_m, config.kernel)
        photographed, index = Photographed.of(gallery), SphereIndex(gallery.positions_deg)
        estimate = estimators(config)[ESTIMATOR]
        for part in chunks(len(rows), gallery):
            log_p = log_probability(queries.take(part), gallery, config, photographed)
            probability = spread(np.exp(log_p), kernel)
            self.tails[rows[part]] = tail_mass(cells.mass(probability), cells.area_km2, truth_cells[part])
            self.areas[rows[part]] = cells.areas.of_posteriors(probability)
            points = estimate(log_p, gallery.positions_deg)
            self.error_m[rows[part]] = geodesic_m(truth_deg[part], points)
            for radius_m, mass in self.mass.items():
                mass[rows[part]] = mass_within(index, probability, points, radius_m)


def mass_within(
    index: SphereIndex, probability: Float64[np.ndarray, "q m"], points_deg: Float64[np.ndarray, "q 2"], radius_m: float
) -> Float64[np.ndarray, " q"]:
    """(Q,) the mass of each posterior within a radius of its point.

    Args:
        index: Index of the M candidates' positions.
        probability: (Q, M) posteriors.
        points_deg: (Q, 2) points, degrees.
        radius_m: Radius, metres.
    """
    near = index.within(points_deg, radius_m)
    return np.array([min(1.0, p[which].sum()) for p, which in zip(probability, near, strict=True)], dtype=np.float64)
