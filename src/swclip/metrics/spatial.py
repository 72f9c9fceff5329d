"""Spatial statistics of a report: spatial autocorrelation of errors, and embedding against geographic distance."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from pydantic import Field

from swclip.errors import InputError
from swclip.geo.coordinates import valid_positions
from swclip.metrics.embedding_smoothness import Pairs, correlogram, mantel, spatial_smoothness
from swclip.metrics.lisa import Label, Lisa, local_moran
from swclip.metrics.localization_error import checked_errors
from swclip.metrics.morans_i import (
    FEWEST_POINTS,
    GlobalMoran,
    component_autocorrelation,
    global_moran,
    nearest_neighbours,
    neighbour_graph,
)
from swclip.metrics.parts import Metres, Part, Share

NEIGHBOURS = 8
"""Number of neighbours of a lattice cell under queen contiguity."""

MANTEL_POINTS = 500
"""Largest number of points in a Mantel test: each permutation reorders all their pairs."""


class Moran(Part):
    """Global Moran's I of log(1 + error), with a permutation p-value."""

    i: float
    expected: float
    z: float | None
    p: Share
    permutations: int
    neighbours: int
    n: int


class LisaCounts(Part):
    """Number of queries in each kind of local cluster of the errors."""

    alpha: Share
    permutations: int
    correction: str = Field(description="correction for one test per query")
    threshold: float | None = Field(description="largest significant p; null: none is significant")
    counts: dict[Label, int]


class Component(Part):
    """Moran's I of one principal component of the image embeddings."""

    component: int
    variance_share: Share
    i: float
    p: Share


class Band(Part):
    """Embedding distance of pairs of queries (or candidates) within one band of ground distance."""

    low_m: Metres
    high_m: Metres
    pairs: int
    mean_distance: float | None = Field(description="mean of 1 - cosine")
    spearman: float | None = Field(description="rank correlation of embedding and ground distance within the band")
    p: Share | None


class MantelTest(Part):
    """Correlation of embedding and ground distance over all pairs, by permutation of the points."""

    r: float
    p: Share


class Smoothness(Part):
    """Spatial smoothness of an embedding."""

    k: int
    ratio: float = Field(description="ground distance to the k nearest in the embedding over that of random pairs")
    spearman: float | None
    within_m: Metres


class CorrelogramBands(Part):
    """The correlograms of both embeddings."""

    image: list[Band] | None = Field(description="of the image embeddings of the queries")
    location: list[Band] | None = Field(description="of the location embeddings of the candidates")


class MantelTests(Part):
    """The Mantel tests of both embeddings."""

    image: MantelTest | None
    location: MantelTest | None


class SmoothnessByEmbedding(Part):
    """The spatial smoothness of both embeddings."""

    image: Smoothness | None
    location: Smoothness | None


class Spatial(Part):
    """Spatial statistics of the errors and of the embeddings."""

    errors_moran: Moran | None
    lisa: LisaCounts | None
    components: list[Component] | None
    correlogram: CorrelogramBands | None
    mantel: MantelTests | None
    smoothness: SmoothnessByEmbedding | None


class SpatialReport(NamedTuple):
    """Result of `spatial_report`.

    Attributes:
        report: The figures; None with too few queries, or where all are at one position.
        lisa: Label of each query, one of `lisa.LABELS`; None where it has no neighbours.
        lisa_p: p-value of each query, before the correction for multiple tests; None where it has no neighbours.
    """

    report: Spatial | None
    lisa: list[str | None]
    lisa_p: list[float | None]


def spatial_report(
    positions_deg: ArrayLike,
    error_m: ArrayLike,
    image_embeddings: Float[np.ndarray, "q d"] | None = None,
    location: tuple[ArrayLike, Float[np.ndarray, "m d"]] | None = None,
    *,
    seed: int = 0,
    within_m: float | None = None,
) -> SpatialReport:
    """Spatial statistics of the queries' errors and of the embeddings.

    Moran's I and LISA are of log(1 + error in metres), over the nearest 8 queries, or half of the other queries if that
    is fewer. Each part has a separate random generator, so that leaving one out does not change the others.

    Args:
        positions_deg: (Q, 2) true positions of the queries, degrees.
        error_m: (Q,) their localization errors, metres.
        image_embeddings: (Q, D) image embeddings of the queries.
        location: Positions (M, 2) in degrees and location embeddings (M, D) of the candidates.
        seed: Seed of all permutations and samples.
        within_m: Longest distance between neighbours, metres; None for no limit.

    Returns:
        report: errors_moran, lisa, components, correlogram, mantel, smoothness. Figures of the errors are null where
        all errors are equal, those of the embeddings where no embeddings are given. The report is null with fewer than
        8 queries, or where all are at one position; likewise the figures of the candidates.

    Raises:
        InputError: The numbers of rows differ, or a position, error or embedding is invalid.

    Example:
        >>> at = np.random.default_rng(0).uniform(0, 0.01, (60, 2))
        >>> result = spatial_report(at, 10.0 + 1e5 * at[:, 0] ** 2, image_embeddings=at - at.mean(axis=0))
        >>> result.report.errors_moran.p, result.report.mantel.image.p, result.report.mantel.location
        (0.002, 0.004, None)
    """
    positions = _checked_positions(positions_deg, "query")
    error = checked_errors(error_m)
    n = error.size
    if len(positions) != n:
        raise InputError(f"{len(positions)} positions of queries and {n} errors: give one position per error.")
    for_moran, for_lisa, for_images, for_candidates = np.random.default_rng(seed).spawn(4)
    if not _has_extent(positions):
        return SpatialReport(None, [None] * n, [None] * n)
    k = min(NEIGHBOURS, (n - 1) // 2)
    neighbours = nearest_neighbours(positions, k, within_m)
    value = np.log1p(error)
    moran = global_moran(value, neighbour_graph(neighbours), generator=for_moran)
    local = local_moran(value, neighbours, generator=for_lisa)
    image = location_figures = None
    if image_embeddings is not None:
        image = _embedding_statistics(positions, image_embeddings, for_images, components=True)
    if location is not None:
        candidates = _checked_positions(location[0], "candidate")
        if _has_extent(candidates):
            location_figures = _embedding_statistics(candidates, location[1], for_candidates, components=False)
    embedded = image is not None or location_figures is not None
    report = Spatial(
        errors_moran=None if moran is None else _moran(moran, k, n),
        lisa=None if local is None else _lisa_counts(local),
        components=image and image.components,
        correlogram=CorrelogramBands(image=image and image.bands, location=location_figures and location_figures.bands)
        if embedded
        else None,
        mantel=MantelTests(image=image and image.mantel, location=location_figures and location_figures.mantel)
        if embedded
        else None,
        smoothness=SmoothnessByEmbedding(
            image=image and image.smoothness, location=location_figures and location_figures.smoothness
        )
        if embedded
        else None,
    )
    return SpatialReport(report, *_by_query(local, n))


def _moran(moran: GlobalMoran, neighbours: int, n: int) -> Moran:
    return Moran(
        i=moran.i,
        expected=moran.expected,
        z=moran.z,
        p=moran.p,
        permutations=moran.permutations,
        neighbours=neighbours,
        n=n,
    )


def _lisa_counts(local: Lisa) -> LisaCounts:
    return LisaCounts(
        alpha=local.alpha,
        permutations=local.permutations,
        correction="Benjamini-Hochberg",
        threshold=local.threshold,
        counts=dict(local.counts()),
    )


class _EmbeddingStatistics(NamedTuple):
    bands: list[Band]
    mantel: MantelTest | None
    smoothness: Smoothness
    components: list[Component] | None


def _embedding_statistics(
    positions_deg: ArrayLike, embeddings: Float[np.ndarray, "n d"], generator: np.random.Generator, *, components: bool
) -> _EmbeddingStatistics:
    for_sample, for_components, for_bands, for_mantel, for_ranks = generator.spawn(5)
    pairs = Pairs.of(positions_deg, embeddings, generator=for_sample)
    n = len(pairs)
    bands = correlogram(pairs, generator=for_bands)
    smoothness = spatial_smoothness(pairs, generator=for_ranks)
    sample = np.sort(for_mantel.permutation(n)[:MANTEL_POINTS])
    ground_m = np.zeros((n, n))
    ground_m[pairs.first, pairs.second] = ground_m[pairs.second, pairs.first] = pairs.ground_m
    test = mantel(pairs.distances[np.ix_(sample, sample)], ground_m[np.ix_(sample, sample)], generator=for_mantel)
    component_figures = None
    if components:
        graph = neighbour_graph(nearest_neighbours(pairs.positions_deg, min(NEIGHBOURS, (n - 1) // 2)))
        figures = component_autocorrelation(pairs.embeddings, graph, generator=for_components)
        component_figures = [Component(**figure) for figure in figures]
    return _EmbeddingStatistics(
        [Band(**band) for band in bands],
        None if test is None else MantelTest(r=test.r, p=test.p),
        Smoothness(**smoothness),
        component_figures,
    )


def _by_query(local: Lisa | None, n: int) -> tuple[list[str | None], list[float | None]]:
    if local is None:
        return [None] * n, [None] * n
    return local.labels, [None if np.isnan(p) else float(p) for p in local.p]


def _has_extent(positions: Float[np.ndarray, "n 2"]) -> bool:
    return len(positions) >= FEWEST_POINTS and bool((positions != positions[0]).any())


def _checked_positions(positions_deg: ArrayLike, role: str) -> Float[np.ndarray, "n 2"]:
    positions = np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2)
    bad = np.flatnonzero(~valid_positions(positions[:, 0], positions[:, 1]))
    if bad.size:
        raise InputError(f"{role} {bad[0]}: position {positions[bad[0]].tolist()} is not valid; check the manifest.")
    return positions
