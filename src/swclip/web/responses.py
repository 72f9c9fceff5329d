"""The responses of version 2: the record of an answer, and fields that only the service has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import h3
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from swclip.answers.record import Answer
from swclip.calibration.posterior_config import ESTIMATOR_NAMES
from swclip.data.attribution import licence_url
from swclip.gallery.gallery import Gallery
from swclip.geo.distance import geodesic_m
from swclip.reporting.tiles import Tiles
from swclip.retrieval.locator import Locator
from swclip.versions import own_version
from swclip.web.engine import LevelRegion, LocatedAnswer
from swclip.web.problems import ProblemDetail
from swclip.web.settings import Limits

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


class Result(Model):
    """An answer to one photograph or to several combined ones, or the reason why there is none."""

    photographs: list[int] = Field(description="Photographs of the request, numbered from 0.")
    answer: Answer | None = Field(
        description="The record, as in files of answers; photographs are named by their number in the request."
    )
    posterior: Posterior | None = Field(description="Present where requested.")
    exif: list[ExifComparison] | None = Field(description="Present where requested: one per photograph of the result.")
    problem: ProblemDetail | None


class LocateResponse(Model):
    """Answers in the order of the photographs."""

    version: Literal["2"] = "2"
    model: str = Field(description="Fingerprint of the model.")
    combined: bool
    results: list[Result]


class City(Model):
    """A city of the gallery."""

    name: str | None
    candidates: int = Field(ge=0)


class CalibrationInfo(Model):
    """How the regions were calibrated."""

    queries: int = Field(ge=0, description="Validation queries.")
    protocol: str | None = Field(
        description="Split protocol of these queries, such as known-places: certainty is calibrated for photographs "
        "taken under the same conditions. Null where it is not known."
    )
    in_area_threshold: float | None = Field(
        description="Answers with a smaller `in_area_probability` abstain. Null where that is not calibrated."
    )
    resolution: int
    spread_m: float = Field(description="Least spread of a candidate over the cells near it, of all areas.")
    areas: list[str] = Field(description="Areas that are calibrated on validation queries of their own.")


class TilesInfo(Model):
    """Map tiles that the page draws below the points."""

    url: str
    attribution: str
    max_zoom: int = Field(ge=0, description="Largest zoom level of the tiles.")


class LimitsInfo(Model):
    """Limits on requests."""

    max_upload_bytes: int
    max_request_bytes: int
    max_files: int
    max_pixels: int
    timeout_s: float


class GalleryResponse(Model):
    """Description of the gallery."""

    version: Literal["2"] = "2"
    model: str = Field(description="Fingerprint of the model.")
    made_with: str = Field(description="Version of swclip that runs the service.")
    candidates: int = Field(ge=1)
    photographs: int = Field(ge=0)
    cities: list[City] = Field(description="Most candidates first.")
    bbox_deg: tuple[float, float, float, float] = Field(description="South, west, north, east.")
    area_km2: float = Field(ge=0, description="Area of the cells that its candidates reach.")
    estimators: list[str]
    posterior: dict[str, Any] = Field(description="How scores become probabilities.")
    calibration: CalibrationInfo | None
    thumbnails: bool = Field(description="Whether /v2/gallery/photographs is available.")
    licence_urls: dict[str, str] = Field(
        description="Addresses of the texts of the photographs' licences, where they are known."
    )
    tiles: TilesInfo | None
    limits: LimitsInfo


class Health(Model):
    """The service is alive, or ready."""

    status: Literal["ok"] = "ok"


_DIGITS = 6  # of a cell's mass: further digits depend on the batch of the photograph
_DEGREES = 6  # of a position: 0.1 m
_SEED = 0  # of the sample of a large gallery's points


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
        problem=None,
    )


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


def gallery_response(locator: Locator, limits: Limits, *, thumbnails: bool, tiles: Tiles | None) -> GalleryResponse:
    """The description of a gallery."""
    gallery, calibration = locator.gallery, locator.calibration
    cities = Counter(gallery.cities).most_common()
    low, high = gallery.positions_deg.min(axis=0), gallery.positions_deg.max(axis=0)
    return GalleryResponse(
        model=locator.model.fingerprint,
        made_with=own_version(),
        candidates=len(gallery),
        photographs=len(gallery.image_ids),
        cities=[City(name=name, candidates=count) for name, count in cities],
        bbox_deg=(float(low[0]), float(low[1]), float(high[0]), float(high[1])),
        area_km2=locator.region_cells.total_area_km2,
        estimators=list(ESTIMATOR_NAMES),
        posterior=locator.posterior.to_dict(),
        calibration=None
        if calibration is None
        else CalibrationInfo(
            queries=len(calibration),
            protocol=calibration.protocol,
            in_area_threshold=None if calibration.in_area is None else calibration.in_area.threshold,
            resolution=calibration.resolution,
            spread_m=min(locator.region_cells.spread_m.values()),
            areas=calibration.calibrated_areas,
        ),
        thumbnails=thumbnails,
        licence_urls=_licence_urls(gallery),
        tiles=None
        if tiles is None
        else TilesInfo(url=tiles.url, attribution=tiles.attribution, max_zoom=tiles.max_zoom),
        limits=LimitsInfo(
            max_upload_bytes=limits.upload_bytes,
            max_request_bytes=limits.request_bytes,
            max_files=limits.max_files,
            max_pixels=limits.pixels,
            timeout_s=limits.timeout_s,
        ),
    )


def _licence_urls(gallery: Gallery) -> dict[str, str]:
    if gallery.image_attribution is None:
        return {}
    names = (name for name in gallery.image_attribution["licence"].unique().to_pylist() if name is not None)
    return {name: url for name in sorted(names) if (url := licence_url(name)) is not None}


def points_geojson(gallery: Gallery, max_points: int) -> dict[str, Any]:
    """The candidates as GeoJSON: one MultiPoint per city, longitude first.

    Args:
        gallery: The gallery.
        max_points: Maximum number of points; of more candidates a fixed random sample is taken.
    """
    rows = np.arange(len(gallery))
    if len(rows) > max_points:
        rows = np.sort(np.random.default_rng(_SEED).choice(len(rows), max_points, replace=False))
    by_city: dict[str | None, list[int]] = {}
    for row in rows.tolist():
        by_city.setdefault(gallery.cities[row], []).append(row)
    lon_lat = gallery.positions_deg[:, ::-1].round(_DEGREES)
    return {
        "type": "FeatureCollection",
        "candidates": len(gallery),
        "shown": len(rows),
        "features": [
            {
                "type": "Feature",
                "properties": {"city": city},
                "geometry": {"type": "MultiPoint", "coordinates": lon_lat[city_rows].tolist()},
            }
            for city, city_rows in by_city.items()
        ],
    }
