"""The VPR folder layout: names against pyproj, folders of real JPEG files, and splits."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from pyproj import Geod, Transformer

from swclip.cli.app import run
from swclip.data.manifest import read_manifest
from swclip.data.published_splits import published_splits
from swclip.data.splits import candidates_for, indices, read_splits
from swclip.errors import ConfigError, InputError
from swclip.ingest.layouts.vpr import folder_role
from swclip.ingest.prepare import prepare
from swclip.ingest.vpr_names import PlaceNameError, parse_name

BANDS = "CDEFGHJKLMNPQRSTUVWX"
DRIVES = [folder / "shared" / "data" / "wuhan-drive" for folder in Path(__file__).parents]


def zone_of(lon: float) -> int:
    return int((lon + 180.0) // 6.0) % 60 + 1


def letter_of(lat: float) -> str:
    return BANDS[min(int((lat + 80.0) // 8.0), 19)]


def utm(lat: float, lon: float, zone: int | None = None) -> tuple[float, float, int, str]:
    zone = zone_of(lon) if zone is None else zone
    code = (32600 if lat >= 0 else 32700) + zone
    east, north = Transformer.from_crs(4326, code, always_xy=True).transform(lon, lat)
    return float(east), float(north), zone, letter_of(lat)


def name_of(lat: float, lon: float, *, zone: int | None = None, latlon: bool = True, **fields: str) -> str:
    east, north, number, letter = utm(lat, lon, zone)
    lat_lon = (f"{lat:010.5f}", f"{lon:011.5f}") if latlon else ("", "")
    keys = ("pano", "tile", "heading", "pitch", "roll", "height", "timestamp", "note")
    parts = [f"{east:010.2f}", f"{north:010.2f}", f"{number:02d}", letter, *lat_lon, *(fields.get(k, "") for k in keys)]
    return "@" + "@".join(parts) + "@.jpg"


def apart_m(lat: float, lon: float, place: tuple[float, float]) -> float:
    return float(Geod(ellps="WGS84").inv(lon, lat, place[1], place[0])[2])


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((48, 48)).save(path, "JPEG")


@given(st.floats(-79.9, 83.9), st.floats(-179.99, 179.99), st.booleans())
def test_parses_the_position_of_a_name(lat: float, lon: float, latlon: bool) -> None:
    assume(abs(lat) > 1e-3)
    place = parse_name(name_of(lat, lon, latlon=latlon))
    assert apart_m(lat, lon, (place.lat_deg, place.lon_deg)) < 0.02


@pytest.mark.parametrize(
    ("lat", "lon", "zone"),
    [
        (-33.8568, 151.2153, None),  # Sydney, letter H
        (-16.5, 179.95, None),  # Fiji, zone 60
        (-16.5, -179.95, None),  # Fiji across the antimeridian, zone 1
        (-16.5, -179.95, 60),  # the same, in the coordinates of the neighbouring zone
        (60.39, 5.32, 32),  # Bergen: zone 32 is wider there
        (-0.0001, -78.45, None),  # eleven metres south of the equator
    ],
)
def test_parses_both_hemispheres_and_the_antimeridian(lat: float, lon: float, zone: int | None) -> None:
    place = parse_name(name_of(lat, lon, zone=zone, latlon=False))
    assert apart_m(lat, lon, (place.lat_deg, place.lon_deg)) < 0.02
    assert -180.0 <= place.lon_deg <= 180.0


def test_parses_empty_fields_and_short_names() -> None:
    east, north, *_ = utm(30.5, 114.4)
    for name in (f"@{east:.2f}@{north:.2f}@.jpg", f"@{east:.2f}@{north:.2f}@@@@@@@@@@@@@.jpg"):
        place = parse_name(name, "EPSG:32650")
        assert apart_m(30.5, 114.4, (place.lat_deg, place.lon_deg)) < 0.02
        assert place.values == {}
    short = parse_name(f"@{east:.2f}@{north:.2f}.jpg", "EPSG:32650")
    assert apart_m(30.5, 114.4, (short.lat_deg, short.lon_deg)) < 0.02
    full = parse_name(name_of(30.5, 114.4, pano="None", heading="275", note="tile_3", timestamp="20191229_133513"))
    assert full.values == {"heading": "275", "note": "tile_3", "timestamp": "20191229_133513"}


def test_uses_latitude_and_longitude_without_a_zone() -> None:
    place = parse_name("@0244128.10@3377950.20@@@30.50000@114.40000@@@@@@@@@.jpg")
    assert (place.lat_deg, place.lon_deg) == (30.5, 114.4)


def test_zone_without_letter_uses_the_hemisphere_of_the_latitude() -> None:
    east, north, zone, _ = utm(-33.8568, 151.2153)
    place = parse_name(f"@{east:.2f}@{north:.2f}@{zone}@@-33.8568@151.2153@@@@@@@@@.jpg")
    assert apart_m(-33.8568, 151.2153, (place.lat_deg, place.lon_deg)) < 0.02


@pytest.mark.parametrize(
    ("name", "reason", "message"),
    [
        ("street.jpg", "name-not-read", "does not begin with @"),
        ("@12.jpg", "name-not-read", "fewer than two fields"),
        ("@@3377950.2@50@R@@@@@@@@@@@.jpg", "name-not-read", "no easting"),
        ("@x1@3377950.2@50@R@@@@@@@@@@@.jpg", "name-not-read", "easting 'x1'"),
        ("@1_000@3377950.2@50@R@@@@@@@@@@@.jpg", "name-not-read", "easting '1_000'"),
        ("@244128.1@nan@50@R@@@@@@@@@@@.jpg", "name-not-read", "no northing"),
        ("@244128.1@3377950.2@61@R@@@@@@@@@@@.jpg", "name-not-read", "zone '61'"),
        ("@244128.1@3377950.2@50@I@@@@@@@@@@@.jpg", "zone-letter", "not one of UTM's"),
        ("@244128.1@3377950.2@@@@@@@@@@@@@.jpg", "zone-missing", "--crs"),
        ("@244128.1@3377950.2@50@@@@@@@@@@@@.jpg", "zone-missing", "--crs"),
        ("@244128.1@3377950.2@50@R@95.0@114.3@@@@@@@@@.jpg", "name-not-read", "latitude 95"),
        ("@244128.1@3377950.2@50@R@30.6@114.33386@@@@@@@@@.jpg", "positions-disagree", "m apart"),
    ],
)
def test_rejects_invalid_names_with_a_reason(name: str, reason: str, message: str) -> None:
    with pytest.raises(PlaceNameError) as raised:
        parse_name(name)
    assert raised.value.reason == reason
    assert message in raised.value.detail


def test_rejects_s_for_south() -> None:
    east, north, zone, _ = utm(-33.8568, 151.2153)
    with pytest.raises(PlaceNameError, match="band of latitudes 32 to 40") as raised:
        parse_name(f"@{east:.2f}@{north:.2f}@{zone}@S@@@@@@@@@@@.jpg")
    assert raised.value.reason == "zone-letter"


def test_folder_role_of_paths() -> None:
    assert folder_role("images/train/database/a.jpg") == "train/database"
    assert folder_role("Test/Gallery/a.jpg") == "test/database"
    assert folder_role("queries/a.jpg") == "test/queries"
    assert folder_role("validation/query/x/a.jpg") == "val/queries"
    assert folder_role("train/other/a.jpg") is None
    assert folder_role("database.jpg") is None


def street(folder: Path, role: str, lats: np.ndarray, seed: int) -> None:
    for number, lat in enumerate(lats):
        picture(folder / role / name_of(float(lat), 114.4, pano=f"p{number}", heading="90"), seed + number)


@pytest.fixture
def pitts_like(tmp_path: Path) -> Path:
    """train, val and test, each with a database and queries, 3 km apart."""
    folder = tmp_path / "set"
    for at, part in enumerate(("train", "val", "test")):
        base = 30.5 + 0.03 * at
        street(folder, f"images/{part}/database", base + 1e-4 * np.arange(8), 100 * at)
        street(folder, f"images/{part}/queries", base + 1e-4 * np.arange(4) + 3e-5, 100 * at + 50)
    return folder


def test_splits_of_train_val_and_test_folders(pitts_like: Path, tmp_path: Path) -> None:
    assert run(["prepare", str(pitts_like), "--layout=vpr", f"--out={tmp_path / 'data'}"]) == 0
    manifest = read_manifest(tmp_path / "data")
    splits = read_splits(tmp_path / "data")
    assert len(manifest) == 36
    assert splits.meta["protocol"] == "published"
    counts = splits.meta["counts"]
    assert {name: counts[name] for name in ("train", "val", "gallery", "query")} == {
        "train": 12, "val": 4, "gallery": 16, "query": 4
    }  # fmt: skip
    for split, low in (("val", 30.53), ("query", 30.56)):
        places = candidates_for(splits, split)
        assert len(places) == 8
        assert places["lat_deg"].between(low - 1e-6, low + 8e-4).all()
        # Answers may use the photographs of the database, and none of the queries.
        ids = [image_id for ids in places["image_ids"] for image_id in ids]
        queries = set(manifest.frame["image_id"].iloc[indices(splits, manifest, split)])
        assert len(ids) == len(set(ids)) == 8
        assert not queries & set(ids)
    assert set(manifest.frame["published_split"]) == {
        f"{part}/{kind}" for part in ("train", "val", "test") for kind in ("database", "queries")
    }
    assert manifest.frame["heading_deg"].eq(90.0).all()
    assert manifest.frame["place_id"].str.startswith("p").all()
    leakage = json.loads((tmp_path / "data" / "splits.leakage.json").read_text())
    assert leakage["query"]["n"] == 4


def test_database_is_the_training_split_without_a_train_folder(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    street(folder, "gallery", 30.5 + 1e-4 * np.arange(8), 0)
    street(folder, "queries", 30.5 + 1e-4 * np.arange(4) + 3e-5, 50)
    manifest = prepare(folder, tmp_path / "data", layout="vpr").manifest
    draft = published_splits(manifest)
    splits = draft.write(tmp_path / "data" / "splits.parquet")
    assert draft.frame["split"].value_counts().to_dict() == {"train": 8, "query": 4}
    assert [len(ids) for ids in candidates_for(splits, "query")["image_ids"]] == [1] * 8
    assert draft.frame["block_id"].notna().all()


def test_rejects_unusable_files_with_reasons(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    street(folder, "database", 30.5 + 1e-4 * np.arange(4), 0)
    street(folder, "queries", np.array([30.50003]), 50)
    picture(folder / "queries" / "street.jpg", 60)
    picture(folder / "queries" / "@244128.1@3377950.2@50@R@30.6@114.33386@@@@@@@@@.jpg", 61)
    (folder / "queries" / name_of(30.50005, 114.4)).write_bytes(b"")
    picture(folder / "readme.jpg", 62)
    (folder / "notes.txt").write_text("x")
    result = prepare(folder, tmp_path / "data", layout="vpr")
    assert result.n_rows == 8
    assert sorted(result.rejected["reason"]) == ["empty", "name-not-read", "positions-disagree"]
    written = pd.read_csv(tmp_path / "data" / "rejected.csv")
    assert "queries/street.jpg" in set(written["image"])
    (note,) = [note for note in result.notes if note.code == "file-not-looked-at"]
    assert note.count == 2
    with pytest.raises(InputError, match="10,351 m apart"):
        prepare(folder, tmp_path / "strict", layout="vpr", strict=True)


def test_names_without_a_zone_need_a_projection(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for kind, shift in (("database", 0.0), ("queries", 3.0)):
        for number in range(3):
            east, north, *_ = utm(-33.8568, 151.2153)
            picture(folder / kind / f"@{east + 10 * number + shift:.2f}@{north:.2f}@.jpg", number + int(shift) * 10)
    with pytest.raises(InputError, match=r"6 zone-missing.*--crs"):
        prepare(folder, tmp_path / "data", layout="vpr")
    manifest = prepare(folder, tmp_path / "data", layout="vpr", crs="EPSG:32756").manifest
    assert apart_m(-33.8568, 151.2153, tuple(manifest.positions_deg[0])) < 0.02  # type: ignore[arg-type]


def test_rejects_folders_of_another_layout(tmp_path: Path) -> None:
    picture(tmp_path / "set" / "streets" / "a.jpg", 0)
    with pytest.raises(InputError, match="database"):
        prepare(tmp_path / "set", tmp_path / "data", layout="vpr")
    with pytest.raises(ConfigError, match="--layout vpr"):
        prepare(tmp_path / "set", tmp_path / "data", crs="EPSG:32650")
    street(tmp_path / "half", "database", np.array([30.5]), 0)
    manifest = prepare(tmp_path / "half", tmp_path / "half-data", layout="vpr").manifest
    with pytest.raises(InputError, match="the queries of the part test or val"):
        published_splits(manifest)


def test_keeps_partial_times_as_text(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    picture(folder / "database" / name_of(30.5, 114.4, timestamp="201901"), 0)
    picture(folder / "queries" / name_of(30.5, 114.4001, timestamp="20191229_133513", pitch="-5"), 1)
    frame = prepare(folder, tmp_path / "data", layout="vpr").manifest.frame
    assert frame["timestamp"].tolist() == ["201901", None]
    assert frame["captured_at"].isna().tolist() == [True, False]
    assert str(frame["captured_at"][1]) == "2019-12-29 13:35:13"
    assert frame["pitch_deg"].tolist()[1] == -5.0


def test_positions_of_real_photographs_round_trip(tmp_path: Path) -> None:
    drive = next((folder for folder in DRIVES if (folder / "metadata.csv").is_file()), None)
    if drive is None:
        pytest.skip("the photographs of the Wuhan drive are not available")
    table = pd.read_csv(drive / "metadata.csv").iloc[::60].reset_index(drop=True)
    for number, row in table.iterrows():
        kind = "queries" if int(str(number)) % 3 == 0 else "database"
        target = tmp_path / "set" / kind / name_of(row["lat"], row["lon"], heading=f"{row['heading']:.0f}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((drive / row["image"]).read_bytes())
        assert Image.open(io.BytesIO(target.read_bytes())).format == "JPEG"
    manifest = prepare(tmp_path / "set", tmp_path / "data", layout="vpr").manifest
    assert len(manifest) == len(table)
    positions = manifest.frame.sort_values("lat_deg")[["lat_deg", "lon_deg"]].to_numpy()
    expected = table.sort_values("lat")[["lat", "lon"]].to_numpy()
    for (lat, lon), place in zip(expected, positions, strict=True):
        assert apart_m(lat, lon, tuple(place)) < 0.02
