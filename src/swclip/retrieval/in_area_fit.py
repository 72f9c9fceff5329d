"""Fit on validation queries whether a photograph was taken in the gallery's area (`swclip.calibration.in_area`)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, Float64

from swclip.calibration.in_area import LEAST_QUERIES, InArea
from swclip.calibration.posterior_config import PosteriorConfig
from swclip.gallery.gallery import Gallery
from swclip.geo.distance import haversine_m
from swclip.models.photograph_vectors import PhotographVectors
from swclip.retrieval.scores import Photographed, chunks, similarity_kind, similarity_of

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
