"""`prepare` on real files: accepted and rejected rows, resuming after a kill, and full disks."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from swclip.data.manifest import read_manifest
from swclip.errors import DiskFullError, InputError
from swclip.ingest import verification
from swclip.ingest.columns import ColumnNames
from swclip.ingest.prepare import PrepareResult, prepare
from swclip.ingest.values import parse_number


def photograph(seed: int, size: int = 48, **options: Any) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize((size, size)).save(stream, "JPEG", **options)
    return stream.getvalue()


def located(seed: int, lat: float | None = None, lon: float | None = None, **tags: Any) -> bytes:
    """Return a JPEG with a position in EXIF; `tags` are further GPS tags (g17=...) or EXIF tags (e36867=...)."""
    gps = {int(name[1:]): value for name, value in tags.items() if name[0] == "g"}
    details = {int(name[1:]): value for name, value in tags.items() if name[0] == "e"}
    if lat is not None and lon is not None:
        gps |= {1: "NS"[lat < 0], 2: (abs(lat), 0.0, 0.0), 3: "EW"[lon < 0], 4: (abs(lon), 0.0, 0.0)}
    exif = Image.Exif()
    exif[0x0112] = 1
    for tag, values in ((0x8825, gps), (0x8769, details)):
        if values:
            exif.get_ifd(tag).update(values)
            exif[tag] = values
    return photograph(seed, exif=exif)


def bomb() -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 4096)) + chunk(b"IEND", b"")


def table(folder: Path, text: str, name: str = "t.csv") -> Path:
    (folder / name).write_text(text)
    return folder / name


def photographs(folder: Path, *names: str) -> None:
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(photograph(seed))


def reasons(result: PrepareResult) -> dict[int, str]:
    return dict(zip(result.rejected["row"], result.rejected["reason"], strict=True))


def notes(result: PrepareResult) -> dict[str, int]:
    return {note.code: note.count for note in result.notes}


def test_manifest_of_a_table_is_readable_by_geopandas(tmp_path: Path) -> None:
    photographs(tmp_path, "images/a.jpg", "images/b.jpg")
    source = table(
        tmp_path,
        "Image,Latitude,LNG,Bearing,GPS accuracy (m),captured_at,town,Sequence,pano_id,street,code,height\n"
        "images/a.jpg,51.5,-0.1,-90,4.5,2019-12-29 13:35:13:170,London,s1,p1,High St,007,1.5\n"
        "images/b.jpg,51.6,-0.2,,,,,,,,012,\n",
    )
    result = prepare(source, tmp_path / "out")
    frame = read_manifest(tmp_path / "out").frame
    assert len(result.rejected) == 0
    assert frame.loc[0, ["image_id", "image_path", "city", "sequence_id", "place_id", "street", "code"]].tolist() == [
        "images/a", "../images/a.jpg", "London", "s1", "p1", "High St", "007",
    ]  # fmt: skip
    assert frame.loc[0, ["lat_deg", "lon_deg", "heading_deg", "accuracy_m", "height"]].tolist() == [
        51.5, -0.1, 270.0, 4.5, 1.5,
    ]  # fmt: skip
    assert frame["captured_at"][0] == pd.Timestamp("2019-12-29 13:35:13.170")
    assert pd.isna(frame["captured_at"][1])
    assert frame.loc[1, ["city", "sequence_id", "street"]].tolist() == [None, None, None]
    assert np.isnan(frame["heading_deg"][1])
    geo = geopandas.read_parquet(result.manifest.path)
    assert (geo.geometry.iloc[0].x, geo.geometry.iloc[0].y) == (-0.1, 51.5)
    assert read_manifest(tmp_path / "out").image_paths == [tmp_path / "images/a.jpg", tmp_path / "images/b.jpg"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["manifest.parquet", "rejected.csv"]


def test_every_invalid_row_is_rejected_with_its_reason(tmp_path: Path) -> None:
    photographs(tmp_path, *(f"{k}.jpg" for k in range(9)))
    whole = photograph(20, 256)
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not a picture\n")
    (tmp_path / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "bomb.png").write_bytes(bomb())
    (tmp_path / "twin.jpg").write_bytes(photograph(0))
    (tmp_path / "elsewhere.jpg").write_bytes(photograph(1))
    source = table(
        tmp_path,
        "image,lat,lon\n"
        "0.jpg,51.5,-0.1\n"  # 2: kept
        "1.jpg,51.5,-0.1\n"  # 3: same bytes as row 14, at another place
        "none.jpg,51.5,-0.1\n"
        "empty.jpg,51.5,-0.1\n"  # 5
        "text.jpg,51.5,-0.1\n"
        "truncated.jpg,51.5,-0.1\n"
        "bomb.png,51.5,-0.1\n"
        "2.jpg,,\n"
        "3.jpg,nan,-0.1\n"  # 10
        "4.jpg,91,-0.1\n"
        "5.jpg,0,0\n"
        "twin.jpg,51.5001,-0.1\n"  # 13: 11 m from row 2
        "elsewhere.jpg,51.501,-0.1\n"
        "0.jpg,51.5,-0.1\n"  # 15: repeats row 2
        "6.jpg,51.5\n"
        ",51.5,-0.1\n"
        "https://x.org/a.jpg,51.5,-0.1\n"
        "7.jpg,north,-0.1\n"
        "8.jpg,51.5,181\n",  # 20
    )
    result = prepare(source, tmp_path / "out")
    expected = {
        3: "duplicate-image-other-place",
        4: "missing",
        5: "empty",
        6: "not-an-image",
        7: "truncated",
        8: "too-large",
        9: "coordinate-missing",
        10: "coordinate-nan",
        11: "coordinate-out-of-range",
        12: "coordinate-zero",
        13: "duplicate-image",
        14: "duplicate-image-other-place",
        15: "duplicate-row",
        16: "malformed-row",
        17: "missing",
        18: "missing",
        19: "coordinate-nan",
        20: "coordinate-out-of-range",
    }
    assert reasons(result) == expected
    assert result.manifest.frame["image_path"].tolist() == ["../0.jpg"]
    assert result.n_rows == 1 + len(expected)
    on_disk = pd.read_csv(tmp_path / "out/rejected.csv", keep_default_na=False)
    assert dict(zip(on_disk["row"], on_disk["reason"], strict=True)) == expected
    assert on_disk["detail"].str.len().min() > 10
    assert list(on_disk.columns) == ["row", "image", "reason", "detail"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("b.jpg,95,1,,", r"row 3 \(b\.jpg\), column 'lat', value 95\.0: latitude 95\.0 is not within"),
        ("b.jpg,5,200,,", r"row 3 \(b\.jpg\), column 'lon', value 200\.0: longitude"),
        ("b.jpg,five,1,,", r"column 'lat', value 'five': latitude: 'five' is not a number of degrees"),
        ("b.jpg,5,1,-3,", r"column 'accuracy', value '-3': an accuracy of -3 m is not a positive number"),
        ("b.jpg,5,1,,03/04/2019", r"column 'time', value '03/04/2019'.*could be day/month or month/day"),
        ("none.jpg,5,1,,", r"row 3 \(none\.jpg\), column 'image', value 'none\.jpg': there is no such file"),
        ("a.jpg,1,1,,", r"row 3 \(a\.jpg\): the same image at the same position as row 2"),
    ],
)
def test_strict_raises_with_row_column_and_value(tmp_path: Path, line: str, message: str) -> None:
    photographs(tmp_path, "a.jpg", "b.jpg")
    source = table(tmp_path, f"image,lat,lon,accuracy,time\na.jpg,1,1,,\n{line}\n")
    with pytest.raises(InputError, match=message) as raised:
        prepare(source, tmp_path / "out", strict=True)
    assert str(raised.value).startswith(str(source))
    assert not (tmp_path / "out/manifest.parquet").exists()


def test_discards_invalid_optional_values_and_keeps_the_row(tmp_path: Path) -> None:
    photographs(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    source = table(
        tmp_path,
        "image,lat,lon,accuracy,heading,time\n"
        "a.jpg,1,1,0,720,03/04/2019\n"
        "b.jpg,1,2,good,west,teatime\n"
        "c.jpg,1,3,5,90,2019-12-29T13:35:13+08:00\n",
    )
    result = prepare(source, tmp_path / "out")
    assert len(result.manifest) == 3
    assert notes(result) == {"accuracy-unusable": 2, "heading-unusable": 2, "time-ambiguous": 1, "time-unreadable": 1}
    assert "row 2, time: '03/04/2019' could be day/month or month/day" in next(
        note.detail for note in result.notes if note.code == "time-ambiguous"
    )
    assert result.manifest.frame["captured_at"].isna().tolist() == [True, True, False]
    assert result.manifest.frame["captured_at"][2] == pd.Timestamp("2019-12-29 05:35:13")


def test_folder_reads_position_heading_accuracy_and_time_from_exif(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    (photos / "deep").mkdir(parents=True)
    (photos / "deep/a.jpg").write_bytes(located(1, 51.5, -0.1, g17=90.5, g31=6.0, e36867="2019:12:29 13:35:13"))
    (photos / "b.jpg").write_bytes(located(2, -33.9, 151.2, e36867="2019:12:29 13:35:13", e36881="+11:00"))
    (photos / "nowhere.jpg").write_bytes(photograph(3))
    (photos / "nofix.jpg").write_bytes(located(4, 0.0, 0.0))
    (photos / "beyond.jpg").write_bytes(located(5, 95.0, 0.5))
    (photos / "half.jpg").write_bytes(located(6, g2=(51.0, 30.0, 0.0), g3="W", g4=(0.0, 6.0, 0.0)))
    result = prepare(photos, tmp_path / "out", city="Mixed")
    frame = result.manifest.frame
    assert frame["image_id"].tolist() == ["b", "deep/a"]
    assert frame["image_path"].tolist() == ["../photos/b.jpg", "../photos/deep/a.jpg"]
    np.testing.assert_allclose(result.manifest.positions_deg, [[-33.9, 151.2], [51.5, -0.1]], atol=1e-6)
    assert frame["heading_deg"][1] == pytest.approx(90.5)
    assert frame["accuracy_m"][1] == pytest.approx(6.0)
    assert frame["captured_at"].tolist() == [pd.Timestamp("2019-12-29 02:35:13"), pd.Timestamp("2019-12-29 13:35:13")]
    assert notes(result) == {"time-without-zone": 1}
    assert frame["city"].tolist() == ["Mixed", "Mixed"]
    by_image = dict(zip(result.rejected["image"], result.rejected["reason"], strict=True))
    assert by_image == {
        "nowhere.jpg": "coordinate-missing",
        "nofix.jpg": "coordinate-zero",
        "beyond.jpg": "coordinate-out-of-range",
        "half.jpg": "exif-position-unusable",
    }
    assert "does not say N or S" in result.rejected.set_index("image")["detail"]["half.jpg"]


def test_exif_fills_empty_values_and_never_overrides_the_table(tmp_path: Path) -> None:
    for k in range(3):
        (tmp_path / f"{k}.jpg").write_bytes(located(k, 51.5 + k / 100, -0.1, g17=45.0))
    source = table(tmp_path, "image,lat,lon,heading\n0.jpg,52.5,-0.1,180\n1.jpg,,,\n2.jpg,nan,nan,10\n")
    result = prepare(source, tmp_path / "out")
    np.testing.assert_allclose(result.manifest.positions_deg[:, 0], [52.5, 51.51, 51.52], atol=1e-6)
    assert result.manifest.frame["heading_deg"].tolist() == [180.0, 45.0, 10.0]
    assert notes(result) == {"position-from-exif": 2, "exif-elsewhere": 1}
    bare = prepare(table(tmp_path, "image\n0.jpg\n1.jpg\n", "bare.csv"), tmp_path / "bare")
    np.testing.assert_allclose(bare.manifest.positions_deg[:, 0], [51.5, 51.51], atol=1e-6)


def test_rejects_swapped_coordinates_with_the_flags_that_correct_them(tmp_path: Path) -> None:
    photographs(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    source = table(tmp_path, "image,lat,lon\na.jpg,114.41,30.5\nb.jpg,114.42,30.6\nc.jpg,30.5,114.4\n")
    with pytest.raises(InputError, match="look swapped") as raised:
        prepare(source, tmp_path / "out")
    assert '--lat-column "lon" --lon-column "lat"' in str(raised.value)
    assert "(row 2: 114.41, 30.5)" in str(raised.value)
    assert not (tmp_path / "out").exists()
    result = prepare(source, tmp_path / "out", columns=ColumnNames(lat="lon", lon="lat"))
    assert reasons(result) == {4: "coordinate-out-of-range"}


def test_single_swapped_row_is_rejected_alone(tmp_path: Path) -> None:
    photographs(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    source = table(tmp_path, "image,lat,lon\na.jpg,30.5,114.4\nb.jpg,30.6,114.4\nc.jpg,114.4,30.5\n")
    result = prepare(source, tmp_path / "out")
    assert reasons(result) == {4: "coordinate-out-of-range"}
    assert "look swapped" in result.rejected["detail"][0]


def test_exif_reveals_swapped_coordinates_within_range(tmp_path: Path) -> None:
    for k in range(3):
        (tmp_path / f"{k}.jpg").write_bytes(located(k, 51.5 + k / 100, -0.1))
    source = table(tmp_path, "image,lat,long\n" + "".join(f"{k}.jpg,-0.1,{51.5 + k / 100}\n" for k in range(3)))
    with pytest.raises(InputError, match="in 3 of 3 photographs EXIF has them the other way round"):
        prepare(source, tmp_path / "out")
    assert not (tmp_path / "out/manifest.parquet").exists()


def test_rejects_swapped_geometry(tmp_path: Path) -> None:
    photographs(tmp_path, "a.jpg")
    point = {"type": "Point", "coordinates": [30.5, 114.4]}
    feature = {"type": "Feature", "properties": {"image": "a.jpg"}, "geometry": point}
    (tmp_path / "t.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    with pytest.raises(InputError, match="swapped in its geometry"):
        prepare(tmp_path / "t.geojson", tmp_path / "out")


def test_error_summarises_reasons_if_no_row_is_accepted(tmp_path: Path) -> None:
    photographs(tmp_path, "c.jpg")
    source = table(tmp_path, "image,lat,lon\na.jpg,1,1\nb.jpg,1,1\nc.jpg,nan,1\n")
    with pytest.raises(InputError, match=r"nothing in it can be used: 2 missing, 1 coordinate-nan.*--images"):
        prepare(source, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["rejected.csv"]
    assert len(pd.read_csv(tmp_path / "out/rejected.csv")) == 3


def test_every_table_format_gives_the_same_manifest(tmp_path: Path) -> None:
    photographs(tmp_path, "a.jpg", "b.jpg")
    frame = pd.DataFrame({"image": ["a.jpg", "b.jpg"], "lat": [51.5, 51.6], "lon": [-0.1, -0.2], "note": ["x", None]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_csv(tmp_path / "t.tsv", index=False, sep="\t")
    frame.to_parquet(tmp_path / "t.parquet")
    geo = geopandas.GeoDataFrame(
        frame.drop(columns=["lat", "lon"]), geometry=geopandas.points_from_xy(frame["lon"], frame["lat"]), crs=4326
    )
    geo.to_parquet(tmp_path / "t.geoparquet")
    geo.to_file(tmp_path / "t.geojson", driver="GeoJSON")
    manifests = [prepare(p, tmp_path / "out").manifest for p in sorted(tmp_path.glob("t.*"))]
    assert len(manifests) == 5
    assert len({manifest.digest for manifest in manifests}) == 1
    for manifest in manifests:
        pd.testing.assert_frame_equal(manifest.frame, manifests[0].frame)


def test_keeps_nested_and_mixed_columns(tmp_path: Path) -> None:
    photographs(tmp_path, "a.jpg", "b.jpg")
    features = [
        {
            "type": "Feature",
            "properties": {"image": f"{name}.jpg", "tags": {"k": value} if value else {}, "mixed": value, "seq": 12},
            "geometry": {"type": "Point", "coordinates": [1.0, 2.0]},
        }
        for name, value in (("a", "text"), ("b", 3))
    ]
    (tmp_path / "t.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    frame = prepare(tmp_path / "t.geojson", tmp_path / "out").manifest.frame
    assert frame["tags"].tolist() == ['{"k": "text"}', '{"k": 3}']
    assert frame["mixed"].tolist() == ["text", "3"]
    assert frame["sequence_id"].tolist() == ["12", "12"]


def test_copy_makes_a_relocatable_folder(tmp_path: Path) -> None:
    photographs(tmp_path / "far", "x/a.jpg", "y/a.jpg")
    source = table(tmp_path, f"image,lat,lon\nfar/x/a.jpg,1,1\n{tmp_path}/far/y/a.jpg,1,2\n")
    result = prepare(source, tmp_path / "out", copy=True)
    assert result.manifest.frame["image_path"].tolist() == ["images/x/a.jpg", "images/y/a.jpg"]
    shutil.rmtree(tmp_path / "far")
    (tmp_path / "out").rename(tmp_path / "moved")
    assert [p.read_bytes() for p in read_manifest(tmp_path / "moved").image_paths] == [photograph(0), photograph(1)]


def test_reads_captions_and_map_tiles_from_a_table(tmp_path: Path) -> None:
    photographs(tmp_path, "a.jpg", "b.jpg", "c.jpg", "tiles/a.png", "tiles/c.png")
    source = table(
        tmp_path,
        "image,lat,lon,Description,title,map_tile\n"
        'a.jpg,1,1,"Elm Street, by Café",x,tiles/a.png\n'
        "b.jpg,1,2,,y,\n"
        f"c.jpg,1,3, 42 ,z,{tmp_path}/tiles/c.png\n",
    )
    manifest = prepare(source, tmp_path / "out").manifest
    assert manifest.captions == ["Elm Street, by Café", None, "42"]
    assert manifest.frame["map_path"].tolist() == ["../tiles/a.png", None, "../tiles/c.png"]
    assert manifest.map_paths == [tmp_path / "tiles/a.png", None, tmp_path / "tiles/c.png"]
    assert manifest.frame["title"].tolist() == ["x", "y", "z"]
    from_manifest = prepare(manifest.path, tmp_path / "again").manifest
    assert (from_manifest.captions, from_manifest.map_paths) == (manifest.captions, manifest.map_paths)
    copied = prepare(source, tmp_path / "copied", copy=True).manifest
    assert copied.frame["map_path"].tolist() == ["maps/a.png", None, "maps/c.png"]
    assert [p.read_bytes() for p in copied.map_paths if p] == [photograph(3), photograph(4)]


def test_discards_unusable_map_tiles_and_keeps_the_photograph(tmp_path: Path) -> None:
    photographs(tmp_path, *(f"{k}.jpg" for k in range(5)))
    (tmp_path / "text.png").write_text("not a picture\n")
    whole = photograph(20, 256)
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    names = ["none.png", "text.png", "half.png", "https://x.org/a.png", "none.png"]
    rows = "".join(f"{k}.jpg,1,{k},{name}\n" for k, name in enumerate(names))
    source = table(tmp_path, "image,lat,lon,map\n" + rows)
    result = prepare(source, tmp_path / "out")
    assert len(result.rejected) == 0
    assert result.manifest.map_paths == [None] * 5
    assert notes(result) == {"map-missing": 3, "map-not-an-image": 1, "map-truncated": 1}
    assert any("'https://x.org/a.png': is a web address" in note.detail for note in result.notes)
    with pytest.raises(InputError, match=r"row 2 \(0\.jpg\), column 'map', value 'none\.png': .*there is no such file"):
        prepare(table(tmp_path, "image,lat,lon,map\n0.jpg,1,1,none.png\n"), tmp_path / "strict", strict=True)


def test_output_folder_inside_the_source_is_not_searched(tmp_path: Path) -> None:
    for k in range(2):
        (tmp_path / f"{k}.jpg").write_bytes(located(k, 51.5, -0.1))
    for _ in range(2):
        assert len(prepare(tmp_path, tmp_path / "out", copy=True).manifest) == 2
    assert len(prepare(tmp_path, tmp_path, city="London").manifest) == 4 - 2
    with pytest.raises(InputError, match="into itself"):
        prepare(tmp_path, tmp_path, copy=True)


def test_keeps_unique_ids_and_replaces_repeated_ones(tmp_path: Path) -> None:
    photographs(tmp_path, "a.jpg", "a.png", "c.jpg")
    unique = table(tmp_path, "image_id,image,lat,lon\n7,a.jpg,1,1\n8,a.png,1,2\n9,c.jpg,1,3\n")
    assert prepare(unique, tmp_path / "o").manifest.frame["image_id"].tolist() == ["7", "8", "9"]
    repeated = table(tmp_path, "image_id,image,lat,lon\n7,a.jpg,1,1\n7,a.png,1,2\n9,c.jpg,1,3\n")
    result = prepare(repeated, tmp_path / "o")
    assert result.manifest.frame["image_id"].tolist() == ["a.jpg", "a.png", "c.jpg"]
    assert notes(result) == {"ids-not-unique": 1}


def test_reads_windows_paths_and_decimal_commas(tmp_path: Path) -> None:
    photographs(tmp_path, "images/a.jpg")
    result = prepare(table(tmp_path, "image;lat;lon\nimages\\a.jpg;51,5;-0,1\n"), tmp_path / "out")
    assert result.manifest.positions_deg.tolist() == [[51.5, -0.1]]
    assert result.manifest.image_paths == [tmp_path / "images/a.jpg"]
    assert parse_number(" 51,5\u00b0 ") == 51.5
    for text in ("1,000,5", "1_0", "east", True):
        with pytest.raises(ValueError, match=r"\S"):
            parse_number(text)


def test_max_megapixels_limits_pictures(tmp_path: Path) -> None:
    photographs(tmp_path, "a.jpg")
    (tmp_path / "b.png").write_bytes(bomb())
    source = table(tmp_path, "image,lat,lon\na.jpg,1,1\nb.png,1,2\n")
    assert reasons(prepare(source, tmp_path / "out")) == {3: "too-large"}
    small = prepare(source, tmp_path / "out", max_megapixels=48 * 48 / 1e6)
    assert reasons(small) == {3: "too-large"}
    with pytest.raises(InputError, match="2 too-large"):
        prepare(source, tmp_path / "out", max_megapixels=0.002)
    with pytest.raises(InputError, match="must be above 0"):
        prepare(source, tmp_path / "out", max_megapixels=0)


def test_progress_counts_every_photograph(tmp_path: Path) -> None:
    photographs(tmp_path, *(f"{k}.jpg" for k in range(40)))
    source = table(tmp_path, "image,lat,lon\n" + "".join(f"{k}.jpg,1,{k}\n" for k in range(40)))
    calls: list[tuple[int, int]] = []
    prepare(source, tmp_path / "out", workers=2, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(k + 1, 40) for k in range(40)]


STOPPED = """
import os, signal, sys, threading
from swclip.ingest import verification

inner, number, stopped, verified = verification.verify_photograph, int(sys.argv[3]), threading.Event(), []
def interrupt(*_):
    stopped.set()
    raise KeyboardInterrupt
signal.signal(signal.SIGINT, interrupt)
def stopping(path, max_pixels):
    verified.append(path)
    if len(verified) == 20:
        os.kill(os.getpid(), number)
        stopped.wait()
    return inner(path, max_pixels)
verification.verify_photograph = stopping
from swclip.ingest.prepare import prepare
prepare(sys.argv[1], sys.argv[2], workers=1)
"""


@pytest.mark.parametrize("stop_signal", [signal.SIGKILL, signal.SIGINT])
def test_resumes_after_a_kill(tmp_path: Path, stop_signal: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    photographs(tmp_path, *(f"{k}.jpg" for k in range(60)))
    source = table(tmp_path, "image,lat,lon\n" + "".join(f"{k}.jpg,1,{k}\n" for k in range(60)))
    out = tmp_path / "out"
    command = [sys.executable, "-c", STOPPED, str(source), str(out), str(int(stop_signal))]
    assert subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode != 0
    work = out / ".prepare.jsonl"
    assert not (out / "manifest.parquet").exists()
    with work.open("ab") as stream:
        stream.write(b'{"file": ["half a li')  # as after a crash of the machine
    os.utime(tmp_path / "3.jpg", ns=(1, 1))  # modified, so verified again

    verified: list[str] = []
    real = verification.verify_photograph

    def counted(path: Path, max_pixels: int) -> verification.Verdict:
        verified.append(path.name)
        return real(path, max_pixels)

    monkeypatch.setattr(verification, "verify_photograph", counted)
    result = prepare(source, out)
    resumed = notes(result)["resumed"]
    # Ctrl-C keeps the twenty that were read, but for the changed one; SIGKILL those that had left the queue of eight.
    assert resumed == 19 if stop_signal == signal.SIGINT else 11 <= resumed <= 19
    assert resumed + len(verified) == 60
    assert "3.jpg" in verified
    assert "1.jpg" not in verified
    assert not work.exists()
    fresh = prepare(source, tmp_path / "fresh")
    assert fresh.manifest.digest == result.manifest.digest
    pd.testing.assert_frame_equal(fresh.manifest.frame, result.manifest.frame)


def test_ignores_work_files_of_other_limits_or_versions(tmp_path: Path) -> None:
    photographs(tmp_path, "a.jpg")
    source = table(tmp_path, "image,lat,lon\na.jpg,1,1\n")
    (tmp_path / "out").mkdir()
    for text in ("", "rubbish\n", '{"swclip": "prepare", "version": 1, "max_pixels": 5}\n{"file": 1}\n', "\0\xff"):
        (tmp_path / "out/.prepare.jsonl").write_text(text)
        assert "resumed" not in notes(prepare(source, tmp_path / "out"))


def test_full_disk_keeps_the_old_manifest_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photographs(tmp_path, "a.jpg", "b.jpg")
    source = table(tmp_path, "image,lat,lon\na.jpg,1,1\nb.jpg,1,2\n")
    out = tmp_path / "out"
    before = prepare(source, out, city="old").manifest.path.read_bytes()

    def full(_table: object, where: Path, **_: object) -> None:
        Path(where).write_bytes(b"PAR1")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(DiskFullError, match="free some space"):
        prepare(source, out)
    monkeypatch.undo()
    assert (out / "manifest.parquet").read_bytes() == before
    assert sorted(p.name for p in out.iterdir()) == [".prepare.jsonl", "manifest.parquet", "rejected.csv"]
    assert notes(prepare(source, out))["resumed"] == 2


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs to mount a small disk")
@pytest.mark.parametrize("copy", [False, True])
def test_resumes_after_a_mounted_disk_was_full(tmp_path: Path, copy: bool) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", small], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting is not permitted here")
    try:
        photographs(tmp_path, *(f"{k}.jpg" for k in range(40)))
        source = table(tmp_path, "image,lat,lon\n" + "".join(f"{k}.jpg,1,{k}\n" for k in range(40)))
        if not copy:
            (small / "ballast").write_bytes(b"\0" * 28_000)
        with pytest.raises(DiskFullError, match="free some space"):
            prepare(source, small / "out", copy=copy)
        assert not (small / "out/manifest.parquet").exists()
        assert not [p for p in (small / "out").rglob("*.jpg") if p.read_bytes() != (tmp_path / p.name).read_bytes()]
        (small / "ballast").unlink(missing_ok=True)
        subprocess.run(["mount", "-o", "remount,size=8m", small], check=True)
        result = prepare(source, small / "out", copy=copy)
        assert len(result.manifest) == 40
        assert notes(result)["resumed"] > 0
    finally:
        subprocess.run(["umount", small], check=True)
