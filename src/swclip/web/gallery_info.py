"""The description of the gallery, and its points for a map."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from swclip.calibration.posterior_config import ESTIMATOR_NAMES
from swclip.gallery.gallery import Gallery
from swclip.versions import own_version
from swclip.web import responses as schemas
from swclip.web.service import Service
from swclip.web.settings import Tiles

_DEGREES = 6
_SEED = 0


def gallery_body(service: Service, *, thumbnails: bool, tiles: Tiles | None) -> schemas.GalleryResponse:
    """The description of a gallery."""
    gallery, limits, calibration = service.locator.gallery, service.limits, service.locator.calibration
    cities = Counter(gallery.cities).most_common()
    low, high = gallery.positions_deg.min(axis=0), gallery.positions_deg.max(axis=0)
    return schemas.GalleryResponse(
        model=service.locator.model.fingerprint,
        made_with=own_version(),
        candidates=len(gallery),
        photographs=len(gallery.image_ids),
        cities=[schemas.City(name=name, candidates=count) for name, count in cities],
        bbox_deg=(float(low[0]), float(low[1]), float(high[0]), float(high[1])),
        area_km2=service.locator.region_cells.total_area_km2,
        estimators=list(ESTIMATOR_NAMES),
        posterior=service.locator.posterior.to_dict(),
        calibration=None
        if calibration is None
        else schemas.CalibrationInfo(
            queries=len(calibration), resolution=calibration.resolution, spread_m=calibration.spread_m
        ),
        thumbnails=thumbnails,
        tiles=None if tiles is None else schemas.TilesInfo(url=tiles.url, attribution=tiles.attribution),
        limits=schemas.LimitsInfo(
            max_upload_bytes=limits.upload_bytes,
            max_request_bytes=limits.request_bytes,
            max_files=limits.max_files,
            max_pixels=limits.pixels,
            timeout_s=limits.timeout_s,
        ),
    )


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
