"""The data set: reproducible for any number of processes and after interruptions, with correct positions."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swclip.data.manifest import read_manifest
from swclip.errors import ConfigError
from swclip.geo.coordinates import LocalFrame
from swclip.geo.distance import geodesic_m, haversine_m
from swclip.synthetic.captures import plan_captures, recorded_positions
from swclip.synthetic.cities import CITIES
from swclip.synthetic.generate import generate

SMALL = {"cities": 2, "photos_per_city": 9, "size_px": 24}


def _hashes(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*.jpg"))
    }


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synth") / "one"
    generate(folder, **SMALL, workers=1)
    return folder


def test_writes_photographs_and_manifest(dataset: Path) -> None:
    manifest = read_manifest(dataset)
    assert len(manifest) == 18
    assert manifest.frame["image_id"].is_unique
    assert set(manifest.frame["city"]) == {"London", "Manchester"}
    assert manifest.frame["licence"].unique().tolist() == ["CC0-1.0"]
    assert np.isnan(manifest.accuracy_m).all()
    for path in manifest.image_paths:
        with Image.open(path) as picture:
            assert picture.size == (24, 24)
            assert np.asarray(picture).std() > 8.0  # not uniform


def test_two_processes_give_equal_files(dataset: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    manifest = generate(tmp_path / "two", **SMALL, workers=2, progress=lambda done, total: calls.append((done, total)))
    assert _hashes(tmp_path / "two") == _hashes(dataset)
    assert manifest.digest == read_manifest(dataset).digest
    assert calls[0] == (0, 18)
    assert calls[-1] == (18, 18)


def test_resumes_an_interrupted_run(dataset: Path, tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done >= 9:
            raise StopError

    folder = tmp_path / "again"
    with pytest.raises(StopError):
        generate(folder, **SMALL, workers=1, progress=stop)
    assert not (folder / "manifest.parquet").exists()
    first = folder / "images" / "london" / "london-00003.jpg"
    stamp = first.stat().st_mtime_ns
    (folder / "images" / "london" / "london-00005.jpg").unlink()
    generate(folder, **SMALL, workers=1)
    assert _hashes(folder) == _hashes(dataset)
    assert first.stat().st_mtime_ns == stamp  # existing photographs are not rendered again


def test_cities_of_different_density(dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "uneven"
    uneven = {**SMALL, "photos_per_city": [9, 3]}
    manifest = generate(folder, **uneven, workers=1)
    assert manifest.frame["city"].value_counts().to_dict() == {"London": 9, "Manchester": 3}
    even, hashes = _hashes(dataset), _hashes(folder)
    london = {name: digest for name, digest in hashes.items() if "london" in name}
    assert len(hashes) == 12
    assert london == {name: even[name] for name in london}, "cities are independent"
    stamp = (folder / "images" / "london" / "london-00003.jpg").stat().st_mtime_ns
    generate(folder, **uneven, workers=1)
    assert (folder / "images" / "london" / "london-00003.jpg").stat().st_mtime_ns == stamp
    with pytest.raises(ConfigError, match=r"photos_per_city \[9, 3\], not \[9, 4\]; choose another --out"):
        generate(folder, **{**SMALL, "photos_per_city": [9, 4]})
    with pytest.raises(ConfigError, match=r"photos_per_city \[9, 3\], not 9"):
        generate(folder, **SMALL)


def test_equal_numbers_equal_a_single_number(dataset: Path) -> None:
    before = (dataset / "synth.json").read_bytes()
    for numbers in ([9, 9], (9,)):
        assert (
            generate(dataset, **{**SMALL, "photos_per_city": numbers}, workers=1).digest
            == read_manifest(dataset).digest
        )
    assert (dataset / "synth.json").read_bytes() == before


@pytest.mark.parametrize(
    ("numbers", "message"),
    [([5, 5, 5], r"3 numbers for 2 cities; .*--cities 3"), ([5, 0], "--photos-per-city 0: "), ([], "0 numbers")],
)
def test_rejects_invalid_photos_per_city(tmp_path: Path, numbers: list[int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        generate(tmp_path / "x", cities=2, photos_per_city=numbers)
    assert not (tmp_path / "x").exists()


def test_another_seed_gives_other_photographs(dataset: Path, tmp_path: Path) -> None:
    generate(tmp_path, cities=1, photos_per_city=2, size_px=24, seed=1, workers=1)
    hashes = _hashes(tmp_path)
    assert all(_hashes(dataset)[name] != digest for name, digest in hashes.items())


def test_captures_of_a_place_are_within_a_few_metres() -> None:
    places, captures = plan_captures(2, 400, 0)
    assert len(places) == 100
    for capture in captures:
        place = places[capture.place]
        offset = capture.position_m - place.position_m
        assert abs(offset @ place.direction) <= 2.5 + 1e-9
        assert np.hypot(*offset) < 6.0
    by_place: dict[int, set[str]] = {}
    for capture in captures:
        by_place.setdefault(capture.place, set()).add(capture.sequence)
    assert all(len(drives) == 4 for drives in by_place.values())


def test_neighbouring_places_are_twelve_metres_apart() -> None:
    places, _ = plan_captures(4, 400, 0)
    steps = [float(np.hypot(*(b.position_m - a.position_m))) for a, b in pairwise(places) if a.section == b.section]
    assert len(steps) > 70
    assert 10.0 < np.median(steps) < 15.0
    assert max(steps) < 30.0


def test_gps_noise_has_the_stated_accuracy() -> None:
    frame = LocalFrame(CITIES[1].lat_deg, CITIES[1].lon_deg)
    true_m = np.random.default_rng(0).uniform(-400, 400, (4000, 2))
    recorded, accuracy = recorded_positions(frame, true_m, city=1, seed=0, gps_noise_m=12.0)
    assert accuracy.mean() == pytest.approx(12.0, rel=0.05)
    assert accuracy.std() > 3.0
    error = frame.to_xy_m(recorded) - true_m
    standard = error / accuracy[:, None]
    assert np.abs(standard.mean(axis=0)).max() < 0.06
    assert standard.std(axis=0) == pytest.approx([1.0, 1.0], rel=0.05)
    assert abs(np.corrcoef(standard.T)[0, 1]) < 0.06


def test_gps_noise_does_not_change_photographs(dataset: Path, tmp_path: Path) -> None:
    small = {**SMALL, "cities": 1}
    manifest = generate(tmp_path / "noisy", **small, gps_noise_m=20.0, workers=1)
    clean = _hashes(dataset)
    assert all(clean[name] == digest for name, digest in _hashes(tmp_path / "noisy").items())
    true = manifest.frame[["true_lat_deg", "true_lon_deg"]].to_numpy()
    np.testing.assert_array_equal(true, read_manifest(dataset).positions_deg[: len(true)])
    moved = geodesic_m(manifest.positions_deg, true)
    assert 2.0 < np.median(moved) < 80.0
    assert (manifest.accuracy_m > 0).all()


def test_photographs_are_near_their_city_centres(dataset: Path) -> None:
    manifest = read_manifest(dataset)
    for style in CITIES[:2]:
        rows = manifest.frame[manifest.frame["city"] == style.name]
        away = haversine_m(rows["lat_deg"].to_numpy(), rows["lon_deg"].to_numpy(), style.lat_deg, style.lon_deg)
        assert away.max() < 720.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cities", 0), ("cities", 9), ("photos_per_city", 0), ("size_px", 4), ("gps_noise_m", -1.0),
        ("gps_noise_m", float("nan")), ("workers", 0), ("seed", -1),
    ],
)  # fmt: skip
def test_rejects_invalid_arguments(tmp_path: Path, name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=str(value).replace("-", "-")):
        generate(tmp_path / "x", **{name: value})  # type: ignore[arg-type]
    assert not (tmp_path / "x").exists()


def test_rejects_folders_with_other_settings_or_files(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="seed 0"):
        generate(dataset, **SMALL, seed=5)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not made by swclip synth"):
        generate(tmp_path, **SMALL)
