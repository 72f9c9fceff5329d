"""The description of the gallery that a service has: GET /v2/gallery, and its candidates for a map."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

import numpy as np
from pydantic import Field

from swclip.calibration.posterior_config import ESTIMATOR_NAMES
from swclip.data.attribution import licence_url
from swclip.gallery.gallery import Gallery
from swclip.gallery.patches import PatchSource
from swclip.models.embed_patches import compared_side
from swclip.reporting.tiles import Tiles
from swclip.retrieval.locator import Locator
from swclip.versions import own_version
from swclip.web.responses import Model
from swclip.web.settings import Limits

_DEGREES = 6  # of a position: 0.1 m
_SEED = 0  # of the sample of a large gallery's points


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


class MatchesInfo(Model):
    """How matching patches can be drawn on photographs."""

    central_square: float | None = Field(
        gt=0,
        le=1,
        description="The model sees the square in the middle of a photograph whose side is this share of the shorter "
        "side; null where it sees the whole photograph.",
    )


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
    matches: MatchesInfo | None = Field(
        description="Null where the gallery has no patch features, and the field `matches` cannot be requested."
    )
    tiles: TilesInfo | None
    limits: LimitsInfo


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
        matches=matches_info(locator),
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


def matches_info(locator: Locator) -> MatchesInfo | None:
    """How matching patches can be drawn; None where the gallery has no patch features of the model."""
    source, encoder = locator.gallery.verifier, locator.model.patches
    if not isinstance(source, PatchSource) or encoder is None or source.fingerprint != encoder.fingerprint:
        return None
    part = compared_side(locator.model).preprocess
    cropped = part.resize == "shortest-crop"
    return MatchesInfo(central_square=part.size_px / part.decode_px if cropped else None)


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
