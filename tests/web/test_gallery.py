"""The gallery routes: description, points and photographs."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from swclip.data.manifest import read_manifest
from swclip.errors import MismatchError
from swclip.gallery.build import thumbnails_of
from swclip.gallery.read_write import save_gallery
from swclip.gallery.schema import manifest_details
from swclip.gallery.store import GalleryStore
from swclip.reporting.tiles import Tiles
from swclip.retrieval.locator import Locator
from swclip.web.gallery_description import points_geojson
from swclip.web.settings import Limits
from swclip.web.thumbnails import SIDE_PX, Thumbnails

from .test_locate import with_gps
from .test_problems import problem


def test_description(client: httpx.Client, locator: Locator) -> None:
    body = client.get("/v2/gallery").json()
    gallery = locator.gallery
    assert body["model"] == locator.model.fingerprint
    assert (body["candidates"], body["photographs"]) == (20, 60)
    assert body["cities"] == [{"name": "Leeds", "candidates": 10}, {"name": "York", "candidates": 10}]
    south, west, north, east = body["bbox_deg"]
    assert [south, west] == gallery.positions_deg.min(axis=0).tolist()
    assert [north, east] == gallery.positions_deg.max(axis=0).tolist()
    assert body["area_km2"] == pytest.approx(locator.region_cells.total_area_km2)
    assert body["posterior"] == locator.posterior.to_dict()
    assert body["calibration"] == {
        "queries": 49, "protocol": None, "resolution": 11, "spread_m": 25.0, "areas": ["Leeds"],
        "in_area_threshold": None,
    }  # fmt: skip
    assert body["limits"]["max_files"] == Limits().max_files
    assert (body["thumbnails"], body["tiles"]) == (False, None)


def test_description_without_cities_and_calibration(serve: Any, locator: Locator) -> None:
    from dataclasses import replace

    bare = replace(locator.gallery, cities=[None] * len(locator.gallery))
    tiles = Tiles("https://tiles.example.org/{z}/{x}/{y}.png", "© somebody")
    with serve(Locator(bare, locator.model, locator.posterior), tiles=tiles) as served, served.client() as client:
        body = client.get("/v2/gallery").json()
        assert body["cities"] == [{"name": None, "candidates": 20}]
        assert body["calibration"] is None
        assert body["tiles"] == {"url": tiles.url, "attribution": tiles.attribution, "max_zoom": 19}


def test_points_are_geojson_and_limited(client: httpx.Client, locator: Locator) -> None:
    response = client.get("/v2/gallery/points")
    assert response.headers["content-type"] == "application/geo+json"
    body = response.json()
    assert (body["type"], body["candidates"], body["shown"]) == ("FeatureCollection", 20, 20)
    by_city = {feature["properties"]["city"]: feature["geometry"] for feature in body["features"]}
    assert {geometry["type"] for geometry in by_city.values()} == {"MultiPoint"}
    points = np.concatenate([geometry["coordinates"] for geometry in by_city.values()])
    expected = locator.gallery.positions_deg[:, ::-1]
    np.testing.assert_allclose(np.sort(points, axis=0), np.sort(expected, axis=0), atol=1e-6)
    few = client.get("/v2/gallery/points", params={"limit": 7}).json()
    assert few["shown"] == sum(len(feature["geometry"]["coordinates"]) for feature in few["features"]) == 7
    assert few == client.get("/v2/gallery/points", params={"limit": 7}).json()
    assert points_geojson(locator.gallery, 1)["shown"] == 1


def test_photographs_are_reduced_and_without_exif(serve: Any, locator: Locator, town: Path) -> None:
    thumbnails = Thumbnails.of_manifest(read_manifest(town), locator.gallery.image_ids)
    with serve(locator, thumbnails=thumbnails) as served, served.client() as client:
        assert client.get("/v2/gallery").json()["thumbnails"] is True
        response = client.get("/v2/gallery/photographs/p00-0")
        assert response.headers["content-type"] == "image/jpeg"
        with Image.open(io.BytesIO(response.content)) as picture:
            assert picture.size == (48, 40)
        for unknown in ("p99-0", "../manifest.parquet", "%2e%2e/manifest.parquet", "/etc/passwd", "p00-0/", "x" * 500):
            problem(client.get(f"/v2/gallery/photographs/{unknown}"), "not-found")


def test_thumbnails_are_cached_and_have_no_position(tmp_path: Path) -> None:
    import pandas as pd

    from swclip.data.manifest import write_manifest

    large = io.BytesIO()
    Image.new("RGB", (2000, 1500), "teal").save(large, "JPEG")
    (tmp_path / "a b.jpg").write_bytes(with_gps(large.getvalue(), 51.5, -0.1))
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    frame = pd.DataFrame({"image_id": ["in a/ä b", "broken", "elsewhere"], "lat_deg": 51.5, "lon_deg": -0.1})
    manifest = write_manifest(tmp_path, frame.assign(image_path=["a b.jpg", "broken.jpg", "a b.jpg"]))
    thumbnails = Thumbnails.of_manifest(manifest, ["in a/ä b", "broken", "not in the manifest"])
    assert len(thumbnails) == 2
    data = thumbnails.jpeg("in a/ä b")
    assert data is not None
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.size == (640, SIDE_PX)
        assert len(picture.getexif()) == 0
    assert b"Exif" not in data
    (tmp_path / "a b.jpg").unlink()
    assert thumbnails.jpeg("in a/ä b") is data
    assert thumbnails.jpeg("broken") is None
    assert thumbnails.jpeg("elsewhere") is None  # in the manifest but not in the gallery
    with pytest.raises(MismatchError, match="has none of the gallery's 1 photographs"):
        Thumbnails.of_manifest(manifest, ["other"])


def test_thumbnails_of_the_gallery_are_served(serve: Any, locator: Locator, town: Path, tmp_path: Path) -> None:
    manifest = read_manifest(town)
    details, model = manifest_details(manifest), locator.model
    save_gallery(locator.gallery, tmp_path / "bare", model, details=details)
    assert Thumbnails.of_gallery(GalleryStore.open(tmp_path / "bare")) is None
    save_gallery(locator.gallery, tmp_path / "gallery", model, details=details, thumbnails=thumbnails_of(manifest, 20))
    thumbnails = Thumbnails.of_gallery(GalleryStore.open(tmp_path / "gallery"))
    assert thumbnails is not None
    assert len(thumbnails) == len(locator.gallery.image_ids)
    with serve(locator, thumbnails=thumbnails) as served, served.client() as client:
        response = client.get("/v2/gallery/photographs/p00-0")
        with Image.open(io.BytesIO(response.content)) as picture:
            assert picture.size == (24, 20)
        problem(client.get("/v2/gallery/photographs/p99-0"), "not-found")
