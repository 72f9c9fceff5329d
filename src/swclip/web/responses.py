"""What the service sends, version 2: the record of an answer, and beside it what only the service states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import h3
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from swclip.answers.record import Answer
from swclip.geo.distance import geodesic_m
from swclip.web.engine import Found
from swclip.web.problems import ProblemDetail
from swclip.web.regions import LevelRegion

Probability = Field(ge=0.0, le=1.0)


class Model(BaseModel):
    """Base of all: no field is left out or made up."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Point(Model):
    """A position, WGS84."""

    lat_deg: float = Field(ge=-90, le=90, description="Latitude, degrees.")
    lon_deg: float = Field(ge=-180, le=180, description="Longitude, degrees.")


class Region(Model):
    """Ground that holds the place with a probability."""

    level: float = Field(ge=0.5, le=0.95, description="The probability.")
    area_km2: float | None = Field(ge=0, description="Its area; null where it is all ground.")
    cells: int | None = Field(ge=0, description="How many cells it has; null where it is all ground.")
    cannot_tell: bool = Field(description="Too large to be an answer: a blind region would be no larger.")


class PosteriorCell(Model):
    """An H3 cell with its share of the posterior."""

    cell_id: str
    probability: float = Probability
    from_level: float | None = Field(description="It is in the regions of this level and above; null: in none listed.")
    boundary_deg: list[tuple[float, float]] = Field(description="Its corners, latitude and longitude.")


class Posterior(Model):
    """Where the place may be: the densest cells of the ground, and the regions of every level from 0.5 to 0.95."""

    resolution: int = Field(ge=0, le=15, description="H3 resolution of the cells.")
    cells: list[PosteriorCell] = Field(description="Densest first.")
    left_out: float = Field(ge=0, le=1, description="Posterior mass of cells that are not listed.")
    regions: list[Region] = Field(description="In steps of 0.01; every cell of a region is listed unless it is cut.")
    cut: bool = Field(description="Whether cells of some region are left out, because there are too many.")


class ExifComparison(Model):
    """The position in the photograph's own EXIF block, which the answer knows nothing of."""

    position: Point | None = Field(description="Null where there is none that can be used.")
    distance_m: float | None = Field(description="From the answer's point to it, metres (WGS84 geodesic).")


class Result(Model):
    """An answer, or why there is none, to one photograph or to several that were combined."""

    photographs: list[int] = Field(description="Which photographs of the request, from 0.")
    answer: Answer | None = Field(
        description="The record that files of answers hold; it names photographs by their number in the request."
    )
    posterior: Posterior | None = Field(description="Where requested.")
    exif: list[ExifComparison] | None = Field(description="Where requested: one for each photograph of the result.")
    problem: ProblemDetail | None


class LocateResponse(Model):
    """Answers in the order of the photographs."""

    version: Literal["2"] = "2"
    model: str = Field(description="Fingerprint of the model that answered.")
    combined: bool
    results: list[Result]


class City(Model):
    """A city of the gallery."""

    name: str | None
    candidates: int = Field(ge=0)


class CalibrationInfo(Model):
    """How the regions were calibrated."""

    queries: int = Field(ge=0, description="Validation queries.")
    resolution: int
    spread_m: float


class TilesInfo(Model):
    """Map tiles that the page may draw under the points."""

    url: str
    attribution: str


class LimitsInfo(Model):
    """What a request may hold."""

    max_upload_bytes: int
    max_request_bytes: int
    max_files: int
    max_pixels: int
    timeout_s: float


class GalleryResponse(Model):
    """The gallery that answers."""

    version: Literal["2"] = "2"
    model: str = Field(description="Fingerprint of the model.")
    made_with: str = Field(description="Version of swclip that serves.")
    candidates: int = Field(ge=1)
    photographs: int = Field(ge=0)
    cities: list[City] = Field(description="Most candidates first.")
    bbox_deg: tuple[float, float, float, float] = Field(description="South, west, north, east.")
    area_km2: float = Field(ge=0, description="Area of the cells that its candidates reach.")
    estimators: list[str]
    posterior: dict[str, Any] = Field(description="How scores become probabilities.")
    calibration: CalibrationInfo | None
    thumbnails: bool = Field(description="Whether /v2/gallery/photographs answers.")
    tiles: TilesInfo | None
    limits: LimitsInfo


class Health(Model):
    """The service is alive, or ready."""

    status: Literal["ok"] = "ok"


_DIGITS = 6  # of the mass of a cell: further ones differ with the batch that a photograph was in
_DEGREES = 6  # of a cell's corners: 0.1 m


def result_of(
    found: Found,
    photographs: Sequence[int],
    *,
    max_cells: int | None = None,
    exif: Sequence[tuple[float, float] | None] | None = None,
) -> Result:
    """The result of an answer.

    Args:
        found: The answer and its posterior.
        photographs: Which photographs of the request it is to.
        max_cells: List the cells of the posterior, at most so many; None to leave them out.
        exif: The positions in the EXIF blocks of the photographs, None for one without; None to leave them out.
    """
    answer = found.answer
    assert answer.lat_deg is not None
    assert answer.lon_deg is not None
    point = (answer.lat_deg, answer.lon_deg)
    return Result(
        photographs=list(photographs),
        answer=answer,
        posterior=None if max_cells is None else posterior_of(found, max_cells),
        exif=None if exif is None else [_comparison(point, one) for one in exif],
        problem=None,
    )


def posterior_of(found: Found, max_cells: int) -> Posterior:
    """The cells of a posterior, and all regions."""
    levels, ground = found.levels, found.ground
    shown = levels.order[:max_cells]
    ids = [f"{cell:x}" for cell in ground.ids[shown].tolist()]
    return Posterior(
        resolution=ground.resolution,
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
                ids, found.mass[shown].tolist(), levels.from_level[:max_cells].tolist(), strict=True
            )
        ],
        left_out=_rounded(max(0.0, 1.0 - float(found.mass[shown].sum()))),
        regions=[_region(region) for region in levels.regions],
        cut=bool(np.isfinite(levels.from_level[max_cells:]).any()),
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
    away_m = float(geodesic_m([point], [exif])[0])
    return ExifComparison(
        position=Point(lat_deg=round(exif[0], 7), lon_deg=round(exif[1], 7)), distance_m=round(away_m, 2)
    )


def _rounded(probability: float) -> float:
    return round(min(1.0, float(probability)), _DIGITS)
