"""Calibrating the regions on validation queries, each by a posterior that was not fitted on it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Float32, Float64, Int64
from numpy.typing import ArrayLike

from swclip.calibration.conformal import Calibration
from swclip.calibration.density import tail_mass
from swclip.calibration.posterior_config import PosteriorConfig
from swclip.calibration.region_cells import RESOLUTION, SPREAD_M, GroundCells
from swclip.data.grouping import group_numbers
from swclip.gallery.gallery import Gallery
from swclip.geo.spatial_smoothing import ground_kernel, spread
from swclip.retrieval.posterior_fit import PosteriorFit
from swclip.retrieval.scores import Photographed, check_queries, chunks, log_probability

FOLDS = 5
"""Folds of the validation queries that the posterior is fitted without in turn."""


def deal_blocks(blocks: Sequence[Hashable], parts: int, generator: np.random.Generator) -> Int64[np.ndarray, " q"]:
    """Deal whole blocks of queries to parts of about one size, in random order, each to the smallest part so far.

    Args:
        blocks: Block of each of Q queries.
        parts: How many parts; some stay empty where there are fewer blocks.
        generator: Of the order.

    Returns:
        (Q,) part of each query, from 0.
    """
    number = group_numbers([str(block) for block in blocks])
    sizes = np.bincount(number)
    part_of, dealt = np.zeros(len(sizes), dtype=np.int64), np.zeros(parts)
    for block in generator.permutation(len(sizes)):
        part_of[block] = int(dealt.argmin())
        dealt[part_of[block]] += sizes[block]
    found: Int64[np.ndarray, " q"] = part_of[number]
    return found


def calibrate(
    query: Float32[np.ndarray, "q d"],
    truth_deg: ArrayLike,
    gallery: Gallery,
    fit: PosteriorFit,
    fold_of: Int64[np.ndarray, " q"],
    cities: Sequence[str | None] | None = None,
    blocks: Sequence[Hashable] | None = None,
    *,
    views: int = 1,
    resolution: int = RESOLUTION,
    spread_m: float = SPREAD_M,
) -> Calibration:
    """The tails of validation queries, for the regions of new ones.

    The temperatures, the image weight and the smoothing were chosen on these very queries; tails by that posterior
    would flatter it. Each query's tail is therefore by the posterior that was fitted without its fold (cross-fitting),
    and the thresholds are then used with the one fitted on all. With the posteriors alike, as a few numbers from
    hundreds of queries are, that is split conformal prediction; it is not so by proof.

    Args:
        query: (Q, D) unit vectors; none of their photographs is in the gallery.
        truth_deg: (Q, 2) where they were taken, degrees.
        gallery: The validation queries' gallery.
        fit: Fitted with these folds.
        fold_of: (Q,) fold of each query.
        cities: Names of the n photographs' cities, None where unknown.
        blocks: Blocks of the n photographs; None for each by itself.
        views: How many times each photograph is asked, by other views, one time after another: Q = views * n. It
            counts once, with its smallest tail, so that the promise holds for each way of asking.
        resolution: H3 resolution of the ground cells.
        spread_m: What a candidate is spread over, metres.

    Returns:
        Tails of n photographs.
    """
    queries = check_queries(query, gallery)
    truth = np.asarray(truth_deg, dtype=np.float64).reshape(-1, 2)
    ground = GroundCells.of(gallery.positions_deg, gallery.cities, resolution=resolution, spread_m=spread_m)
    cells = ground.index_of(truth)
    left_out = fit.left_out or (fit.config,)
    by = np.array([left_out[fold] if fold < len(left_out) else fit.config for fold in fold_of], dtype=object)
    tails = np.zeros(len(queries))
    for config in dict.fromkeys(by.tolist()):
        rows = np.flatnonzero(by == config)
        tails[rows] = _tails(queries[rows], cells[rows], gallery, ground, config)
    least = tails.reshape(views, -1).min(axis=0)
    return Calibration.of(least, cells[: len(least)], ground, cities, blocks)


def _tails(
    queries: Float32[np.ndarray, "q d"],
    cells: Int64[np.ndarray, " q"],
    gallery: Gallery,
    ground: GroundCells,
    config: PosteriorConfig,
) -> Float64[np.ndarray, " q"]:
    kernel, photographed = (
        ground_kernel(gallery.positions_deg, config.smoothing_m, config.kernel),
        Photographed.of(gallery),
    )
    tails = np.zeros(len(queries))
    for part in chunks(len(queries), gallery):
        probability = np.exp(log_probability(queries[part], gallery, config, photographed))
        tails[part] = tail_mass(ground.mass(spread(probability, kernel)), ground.area_km2, cells[part])
    return tails
