"""Answers as they are sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import h3
import numpy as np

from swclip.answers.record import Testimony
from swclip.calibration.posterior_config import EstimatorName
from swclip.geo.distance import geodesic_m
from swclip.web import responses as schemas
from swclip.web.engine import Found
from swclip.web.regions import LEVELS, LevelRegion

_DIGITS = 6  # of probabilities: further ones differ with the batch that a photograph was in
_DEGREES = 6  # of a cell's corners: 0.1 m


def answer_body(
    found: Found,
    level: float,
    *,
    max_cells: int | None = None,
    exif: Sequence[tuple[float, float] | None] | None = None,
) -> schemas.Answer:
    """An answer as it is sent.

    Args:
        found: The answer.
        level: Which region.
        max_cells: List the cells of the posterior, at most so many; None to leave them out.
        exif: The positions in the EXIF blocks of the photographs, None for one without; None to leave them out.
    """
    answer = found.answer
    assert answer.lat_deg is not None
    assert answer.lon_deg is not None
    assert answer.probability_within_50m is not None
    return schemas.Answer(
        point=schemas.Point(lat_deg=answer.lat_deg, lon_deg=answer.lon_deg),
        estimator=cast(EstimatorName, answer.estimator),
        probability_within_50m=_rounded(answer.probability_within_50m),
        city=answer.city,
        city_probability=None if answer.city_probability is None else _rounded(answer.city_probability),
        region=_region(found.levels.regions[nearest_level(level)]),
        calibrated=found.calibrated,
        candidates=[
            schemas.Candidate(
                candidate_id=one.candidate_id,
                lat_deg=one.lat_deg,
                lon_deg=one.lon_deg,
                probability=_rounded(one.probability),
                distance_m=one.distance_m,
                city=one.city,
                image_ids=list(one.image_ids),
                image_similarities=list(one.image_similarities),
                location_similarity=one.location_similarity,
                image_share=one.image_share,
                evidence=[_testimony(own) for own in one.evidence],
            )
            for one in answer.candidates
        ],
        cells=[
            schemas.HierarchyCell(
                resolution=cell.resolution,
                cell_id=cell.cell_id,
                lat_deg=cell.lat_deg,
                lon_deg=cell.lon_deg,
                probability=_rounded(cell.probability),
                point_cell_id=cell.point_cell_id,
                point_cell_probability=_rounded(cell.point_cell_probability),
            )
            for cell in answer.cells
        ],
        posterior=None if max_cells is None else posterior_body(found, max_cells),
        exif=None if exif is None else [_comparison((answer.lat_deg, answer.lon_deg), one) for one in exif],
    )


def posterior_body(found: Found, max_cells: int) -> schemas.Posterior:
    """The cells of a posterior, and all regions."""
    levels, ground = found.levels, found.ground
    shown = levels.order[:max_cells]
    ids = [f"{cell:x}" for cell in ground.ids[shown].tolist()]
    return schemas.Posterior(
        resolution=ground.resolution,
        cells=[
            schemas.PosteriorCell(
                cell_id=cell_id,
                probability=_rounded(probability),
                from_level=None if np.isnan(first) else round(first, 2),
                boundary_deg=[
                    (round(lat, _DEGREES), round(lon, _DEGREES)) for lat, lon in h3.cell_to_boundary(cell_id)
                ],
            )
            for cell_id, probability, first in zip(
                ids, found.mass[shown].tolist(), levels.from_level[:max_cells].tolist(), strict=True
            )
        ],
        left_out=_rounded(max(0.0, 1.0 - float(found.mass[shown].sum()))),
        regions=[_region(region) for region in levels.regions],
        cut=bool(np.isfinite(levels.from_level[max_cells:]).any()),
    )


def nearest_level(level: float) -> int:
    """The place of the lowest of `LEVELS` that is at least `level`."""
    return int(np.searchsorted(np.array(LEVELS), level - 1e-9))


def _testimony(said: Testimony) -> schemas.Testimony:
    return schemas.Testimony(
        probability=_rounded(said.probability),
        location_similarity=said.location_similarity,
        image_share=said.image_share,
        image_ids=list(said.image_ids),
        image_similarities=list(said.image_similarities),
    )


def _region(region: LevelRegion) -> schemas.Region:
    return schemas.Region(
        level=region.level,
        area_km2=None if region.area_km2 is None else float(f"{region.area_km2:.6g}"),
        cells=region.cells,
        cannot_tell=region.cannot_tell,
    )


def _comparison(point: tuple[float, float], exif: tuple[float, float] | None) -> schemas.ExifComparison:
    if exif is None:
        return schemas.ExifComparison(position=None, distance_m=None)
    away_m = float(geodesic_m([point], [exif])[0])
    return schemas.ExifComparison(
        position=schemas.Point(lat_deg=round(exif[0], 7), lon_deg=round(exif[1], 7)), distance_m=round(away_m, 2)
    )


def _rounded(probability: float) -> float:
    return round(min(1.0, float(probability)), _DIGITS)
