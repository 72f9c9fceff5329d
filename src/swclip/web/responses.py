"""The responses to requests for answers: the record of an answer, and fields that only the service has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import h3
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from swclip.answers.record import Answer
from swclip.geo.distance import geodesic_m
from swclip.models.patch_matching import PatchMatches
from swclip.web.engine import LevelRegion, LocatedAnswer
from swclip.web.problems import ProblemDetail

Probability = Field(ge=0.0, le=1.0)


class Model(BaseModel):
    """Base class: all fields are present, and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Point(Model):
    """A position, WGS84."""

    lat_deg: float = Field(ge=-90, le=90, description="Latitude, degrees.")
    lon_deg: float = Field(ge=-180, le=180, description="Longitude, degrees.")


class Region(Model):
    """A prediction region: contains the true position with a stated probability."""

    level: float = Field(ge=0.5, le=0.95, description="The nominal coverage.")
    area_km2: float | None = Field(ge=0, description="Area in km2; null where the region covers everything.")
    cells: int | None = Field(ge=0, description="Number of cells; null where the region covers everything.")
    cannot_tell: bool = Field(
        description="True where the answer abstains: the region is no smaller than one that ignores the photograph."
    )


class PosteriorCell(Model):
    """An H3 cell with its posterior probability."""

    cell_id: str
    probability: float = Probability
    from_level: float | None = Field(description="Lowest level whose region contains the cell; null for none.")
    boundary_deg: list[tuple[float, float]] = Field(description="Corners: latitude and longitude in degrees.")


class Posterior(Model):
    """The posterior: its densest cells, and the regions of all coverage levels from 0.5 to 0.95."""

    resolution: int = Field(ge=0, le=15, description="H3 resolution of the cells.")
    cells: list[PosteriorCell] = Field(description="Densest first.")
    left_out: float = Field(ge=0, le=1, description="Posterior mass of cells that are not listed.")
    regions: list[Region] = Field(
        description="Levels in steps of 0.01. All cells of a region are listed unless `cut` is true."
    )
    cut: bool = Field(description="Whether cells of a region are omitted, because there are too many.")


class ExifComparison(Model):
    """The position in the photograph's EXIF metadata, which is not used for the answer."""

    position: Point | None = Field(description="Null where there is no usable one.")
    distance_m: float | None = Field(description="Distance from the answer's point in metres (WGS84 geodesic).")


class PatchPair(Model):
    """A patch of the photograph and one of the gallery's photograph, each the most similar one of the other."""

    query: tuple[float, float] = Field(
        description="Centre of the photograph's patch: shares, from 0 to 1, of the width and height of what the model "
        "sees of it (`matches` of /v2/gallery)."
    )
    photograph: tuple[float, float] = Field(description="The same of the patch of the gallery's photograph.")
    cosine: float = Field(ge=0, le=1, description="Similarity of the two patches.")


class CandidateMatches(Model):
    """What a photograph and a candidate have in common."""

    candidate: int = Field(ge=0, description="Number of the candidate in `answer.candidates`, from 0.")
    image_id: str = Field(description="The photograph there whose patches are most similar.")
    total: int = Field(ge=0, description="Number of matches.")
    pairs: list[PatchPair] = Field(description="The most similar of them, the best first.")


class PhotographMatches(Model):
    """The matches of a photograph of the request."""

    photograph: int = Field(ge=0, description="Its number in the request.")
    candidates: list[CandidateMatches] = Field(description="The best candidates that have patch features.")


class Result(Model):
    """An answer to one photograph or to several combined ones, or the reason why there is none."""

    photographs: list[int] = Field(description="Photographs of the request, numbered from 0.")
    answer: Answer | None = Field(
        description="The record, as in files of answers; photographs are named by their number in the request."
    )
    posterior: Posterior | None = Field(description="Present where requested.")
    exif: list[ExifComparison] | None = Field(description="Present where requested: one per photograph of the result.")
    matches: list[PhotographMatches] | None = Field(description="Present where requested: one per photograph.")
    problem: ProblemDetail | None


class LocateResponse(Model):
    """Answers in the order of the photographs."""

    version: Literal["2"] = "2"
    model: str = Field(description="Fingerprint of the model.")
    combined: bool
    results: list[Result]


class Health(Model):
    """The service is alive, or ready."""

    status: Literal["ok"] = "ok"


_DIGITS = 6  # of a cell's mass: further digits depend on the batch of the photograph
_DEGREES = 6  # of a position: 0.1 m


def result_of(
    located: LocatedAnswer,
    photographs: Sequence[int],
    *,
    max_cells: int | None = None,
    exif: Sequence[tuple[float, float] | None] | None = None,
) -> Result:
    """The result of an answer.

    Args:
        located: The answer and its posterior.
        photographs: The photographs of the request that it answers.
        max_cells: Maximum number of posterior cells to list; None to omit the posterior.
        exif: The EXIF positions of the photographs, None for a photograph without one; None to omit them.
    """
    answer = located.answer
    assert answer.lat_deg is not None
    assert answer.lon_deg is not None
    point = (answer.lat_deg, answer.lon_deg)
    return Result(
        photographs=list(photographs),
        answer=answer,
        posterior=None if max_cells is None else posterior_of(located, max_cells),
        exif=None if exif is None else [_comparison(point, position) for position in exif],
        matches=None
        if located.matches is None
        else [_matches(*pair) for pair in zip(photographs, located.matches, strict=True)],
        problem=None,
    )


def _matches(photograph: int, matches: Sequence[tuple[str, PatchMatches] | None]) -> PhotographMatches:
    candidates = []
    for number, item in enumerate(matches):
        if item is None:
            continue
        image_id, patches = item
        centres = (values.round(4).tolist() for values in patches.centres())
        pairs = [
            PatchPair(query=start, photograph=stop, cosine=_rounded(cosine))
            for start, stop, cosine in zip(*centres, patches.cosine.tolist(), strict=True)
        ]
        candidates.append(CandidateMatches(candidate=number, image_id=image_id, total=patches.total, pairs=pairs))
    return PhotographMatches(photograph=photograph, candidates=candidates)


def posterior_of(located: LocatedAnswer, max_cells: int) -> Posterior:
    """The cells of a posterior, and its regions."""
    regions, cells = located.regions, located.cells
    listed = regions.order[:max_cells]
    ids = [f"{cell:x}" for cell in cells.ids[listed].tolist()]
    return Posterior(
        resolution=cells.resolution,
        cells=[
            PosteriorCell(
                cell_id=cell_id,
                probability=_rounded(probability),
                from_level=None if np.isnan(first) else round(first, 2),
                boundary_deg=[
                    (round(lat, _DEGREES), round(lon, _DEGREES)) for lat, lon in h3.cell_to_boundary(cell_id)
                ],
            )
            for cell_id, probability, first in zip(
                ids, located.mass[listed].tolist(), regions.from_level[:max_cells].tolist(), strict=True
            )
        ],
        left_out=_rounded(max(0.0, 1.0 - float(located.mass[listed].sum()))),
        regions=[_region(region) for region in regions.regions],
        cut=bool(np.isfinite(regions.from_level[max_cells:]).any()),
    )


def _region(region: LevelRegion) -> Region:
    return Region(
        level=region.level,
        area_km2=None if region.area_km2 is None else float(f"{region.area_km2:.6g}"),
        cells=region.cells,
        cannot_tell=region.cannot_tell,
    )


def _comparison(point: tuple[float, float], exif: tuple[float, float] | None) -> ExifComparison:
    if exif is None:
        return ExifComparison(position=None, distance_m=None)
    distance_m = float(geodesic_m([point], [exif])[0])
    return ExifComparison(
        position=Point(lat_deg=round(exif[0], 7), lon_deg=round(exif[1], 7)), distance_m=round(distance_m, 2)
    )


def _rounded(probability: float) -> float:
    return round(min(1.0, float(probability)), _DIGITS)
