"""`swclip fetch --views`: panoramas of a service become views of the directions and the pose that it states."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from swclip.cli.app import run
from swclip.connectors import dataset
from swclip.connectors.area import requested_area
from swclip.connectors.fetch import FetchResult, Politeness, fetch
from swclip.connectors.stand_in import StandIn
from swclip.connectors.stand_in_data import Photographs
from swclip.connectors.views import panorama_of
from swclip.data.manifest import read_manifest
from swclip.geo.boxes import Box
from swclip.imaging.decode import decode_photograph
from swclip.imaging.panoramas import Panorama, ViewOptions, perspective_views
from swclip.ingest.prepare import prepare

AREA = requested_area(bbox="-1.56,53.79,-1.53,53.81")
QUICK = Politeness(connections=4, per_second=0.0, attempts=2, backoff_s=0.001, timeout_s=10.0)
SMALL = ViewOptions(views=4, fov_deg=60.0, width_px=16, height_px=12)
COLOURS = {0: (200, 40, 40), 90: (40, 180, 40), 180: (40, 40, 200), 270: (200, 200, 40)}
TILTED = 3


def panorama(path: Path, heading_deg: float, seed: int) -> Path:
    """A panorama of four coloured quarters, the first around north; no metadata says that it is one."""
    away_deg = (np.arange(256) + 0.5) / 256 * 360.0 - 180.0
    quarter = np.round((heading_deg + away_deg) / 90.0).astype(int) % 4
    row = np.array([COLOURS[90 * int(q)] for q in quarter], dtype=np.uint8)
    pixels = np.repeat(row[None], 128, axis=0)
    pixels[:16], pixels[-16:] = 230, 20 + seed
    Image.fromarray(pixels).save(path, quality=95)
    return path


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Photographs:
    """Six panoramas and six other photographs, of several drives; some panoramas are at one place."""
    folder = tmp_path_factory.mktemp("panoramas")
    records = Photographs.generated(12, Box(53.79, -1.56, 53.81, -1.53)).records
    for n in range(6):
        heading_deg = 47.0 * n
        file = panorama(folder / f"{n}.jpg", heading_deg, n)
        tilt: dict[str, Any] = {"pitch_deg": 20.0, "roll_deg": -8.0} if n == TILTED else {}
        records[n] = replace(
            records[n], file=file, panorama=True, heading_deg=heading_deg, sequence=f"d{n % 2}", rank=n + 1, **tilt
        )
    for n in (4, 8):  # half a metre from the first one, of another drive, and no panorama
        records[n] = replace(records[n], lat_deg=records[0].lat_deg + 4e-6, lon_deg=records[0].lon_deg)
    return Photographs(records)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest is written in parts of a few rows; the day of the request does not change."""
    monkeypatch.setattr(dataset, "_ROWS_AT_ONCE", 3)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")


def fetched(server: StandIn, out: Path, service: str = "panoramax", **options: Any) -> FetchResult:
    return fetch(service, AREA, out, endpoint=server.address, politeness=QUICK, **options)


@pytest.mark.parametrize("service", ["panoramax", "mapillary", "kartaview"])
def test_each_view_shows_its_direction(
    photographs: Photographs, tmp_path: Path, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAPILLARY_TOKEN", "t")
    with StandIn(photographs, service) as server:
        result = fetched(server, tmp_path / "out", service, views=SMALL)
    assert (result.plan.panoramas, result.panoramas, result.views, result.photographs) == (6, 6, 24, 30)
    manifest = read_manifest(tmp_path / "out")
    of_view = manifest.frame["panorama_id"].notna().to_numpy()
    assert of_view.sum() == 24
    for row in np.flatnonzero(of_view).tolist():
        facts, pixels = manifest.frame.iloc[row], decode_photograph(manifest.image_paths[row])
        assert facts["image_id"] == f"{facts['panorama_id']}_h{facts['heading_deg']:03.0f}"
        assert (facts["fov_deg"], facts["pitch_deg"], facts["camera"], facts["field_of_view_deg"]) == (
            60.0, 0.0, "perspective", 60.0,
        )  # fmt: skip
        assert facts["panorama_id"] in facts["source_url"] or service == "kartaview"
        if facts["lat_deg"] != photographs.records[TILTED].lat_deg:
            centre = np.asarray(pixels)[6, 8].astype(int)
            assert np.abs(centre - COLOURS[round(facts["heading_deg"])]).max() < 25, facts["image_id"]
    assert manifest.frame["place_id"].notna().to_numpy()[of_view].all()
    document = json.loads((tmp_path / "out/fetch.json").read_text())
    assert (document["photographs"], document["panoramas_with_views"], document["views"]) == (12, 6, 24)
    assert document["request"]["views"]["fov_deg"] == 60.0


def test_views_are_those_of_prepare_over_all_parts_of_the_manifest(photographs: Photographs, tmp_path: Path) -> None:
    level = Photographs([replace(record, pitch_deg=None, roll_deg=None) for record in photographs.records])
    with StandIn(level) as server:
        fetched(server, tmp_path / "whole")
        fetched(server, tmp_path / "views", views=SMALL)
    every = replace(SMALL, panoramas="all")  # the seam of one is the border of two colours; the service knows better
    prepared = prepare(tmp_path / "whole/manifest.parquet", tmp_path / "prepared", views=every).manifest
    views = read_manifest(tmp_path / "views")
    columns = ["image_id", "lat_deg", "lon_deg", "heading_deg", "place_id", "panorama_id", "fov_deg", "pitch_deg"]
    assert views.frame[columns].equals(prepared.frame[columns])
    at_first = views.frame["place_id"] == views.frame["place_id"][views.frame["panorama_id"].notna()].mode()[0]
    assert at_first.sum() == 9, "two panoramas and a photograph are at one place"


def test_the_pose_that_the_service_states_is_levelled(photographs: Photographs, tmp_path: Path) -> None:
    record = photographs.records[TILTED]
    with StandIn(Photographs([record])) as server:
        fetched(server, tmp_path / "out", views=SMALL)
    assert record.file is not None
    tilted = Panorama("service", record.heading_deg, 20.0, -8.0)
    picture = decode_photograph(record.file)
    expected = dict(zip((0, 90, 180, 270), perspective_views(picture, tilted, SMALL), strict=True))
    manifest = read_manifest(tmp_path / "out")
    for heading, path in zip(manifest.frame["heading_deg"], manifest.image_paths, strict=True):
        error = np.abs(np.asarray(decode_photograph(path)).astype(int) - expected[int(heading)])
        assert error.mean() < 4.0  # of JPEG


def test_other_views_need_no_request_and_lost_ones_are_made_again(
    photographs: Photographs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with StandIn(photographs) as server:
        fetched(server, out)
        whole = (out / "manifest.parquet").read_bytes()
        asked = server.total
        fetched(server, out, views=SMALL)
        pictures = {path: path.read_bytes() for path in sorted(out.glob("views/**/*.jpg"))}
        assert len(pictures) == 24
        lost = next(iter(pictures))
        lost.unlink()
        times = {path: path.stat().st_mtime_ns for path in pictures if path != lost}
        command = ["fetch", "--bbox=-1.56,53.79,-1.53,53.81", "--endpoint", server.address, "--out", str(out)]
        options = ["--views", "4", "--view-fov", "60", "--view-size", "16x12"]
        assert run([*command, *options]) == 0
        assert "30 photographs, 24 of them views of 6 panoramas" in capsys.readouterr().err
        assert lost.read_bytes() == pictures[lost]
        assert {path: path.stat().st_mtime_ns for path in times} == times
        fetched(server, out)
        assert server.total == asked
    assert (out / "manifest.parquet").read_bytes() == whole


def test_what_is_a_panorama() -> None:
    gpano = Panorama("gpano", 10.0, 1.0, 2.0)
    assert panorama_of(json.dumps(gpano.__dict__), "equirectangular", 9.0, 9.0) == gpano
    edges = json.dumps(Panorama("edges").__dict__)
    assert panorama_of(edges, "equirectangular", float("nan"), 3.0) == Panorama("service", None, 0.0, 3.0)
    assert panorama_of(edges, "perspective", None, None) == Panorama("edges")
    assert panorama_of(None, None, None, None) is None
    cropped = panorama_of(None, "equirectangular", None, None)
    assert cropped is not None
    assert not SMALL.includes(cropped)
