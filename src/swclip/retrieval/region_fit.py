"""Calibrate the regions on validation queries, each with a posterior that was not fitted on it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Float32, Float64, Int64
from numpy.typing import ArrayLike

from swclip.calibration.conformal import Calibration
from swclip.calibration.density import tail_mass
from swclip.calibration.posterior_config import PosteriorConfig
from swclip.calibration.region_cells import RESOLUTION, RegionCells, area_spreads_m
from swclip.data.grouping import group_numbers
from swclip.gallery.gallery import Gallery
from swclip.geo.spatial_smoothing import ground_kernel, spread
from swclip.retrieval.posterior_fit import PosteriorFit
from swclip.retrieval.scores import Photographed, check_queries, chunks, log_probability

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
    query: Float32[np.ndarray, "q d"],
    truth_deg: ArrayLike,
    gallery: Gallery,
    fit: PosteriorFit,
    fold_of: Int64[np.ndarray, " q"],
    blocks: Sequence[Hashable] | None = None,
    *,
    variants: int = 1,
    resolution: int = RESOLUTION,
) -> Calibration:
    """Compute the tails of validation queries, which set the thresholds of regions.

    The temperatures, the image weight and the smoothing were chosen on the same queries; tails of that posterior would
    be optimistically biased. Each query's tail is therefore computed with the posterior that was fitted without its
    fold (cross-fitting), and the thresholds are used with the posterior fitted on all. If these posteriors are similar,
    as with few parameters fitted on hundreds of queries, this approximates split conformal prediction, without a proof.

    Args:
        query: (Q, D) unit vectors; none of their photographs is in the gallery.
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
    tails, areas = np.zeros(len(queries)), np.zeros(len(queries), dtype=np.int64)
    for config in dict.fromkeys(config_of.tolist()):
        rows = np.flatnonzero(config_of == config)
        tails[rows], areas[rows] = _tails(queries[rows], truth_cells[rows], gallery, cells, config)
    least = tails.reshape(variants, -1).argmin(axis=0)[None]
    tails, areas = (np.take_along_axis(each.reshape(variants, -1), least, axis=0)[0] for each in (tails, areas))
    return Calibration.of(tails, cells, areas, blocks)


def _tails(
    queries: Float32[np.ndarray, "q d"],
    truth_cells: Int64[np.ndarray, " q"],
    gallery: Gallery,
    cells: RegionCells,
    config: PosteriorConfig,
) -> tuple[Float64[np.ndarray, " q"], Int64[np.ndarray, " q"]]:
    """Tail and area of each query."""
    kernel = ground_kernel(gallery.positions_deg, config.smoothing_m, config.kernel)
    photographed = Photographed.of(gallery)
    tails, areas = np.zeros(len(queries)), np.zeros(len(queries), dtype=np.int64)
    for part in chunks(len(queries), gallery):
        probability = spread(np.exp(log_probability(queries[part], gallery, config, photographed)), kernel)
        tails[part] = tail_mass(cells.mass(probability), cells.area_km2, truth_cells[part])
        areas[part] = cells.areas.of_posteriors(probability)
    return tails, areas
