"""Tables and lists of photographs as people reported them: each with the right reading."""

from __future__ import annotations

import csv
import io
import os
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from swclip.answers.formats import as_text
from swclip.answers.record import Answer
from swclip.cli.app import run
from swclip.data.manifest import write_manifest
from swclip.errors import InputError
from swclip.ingest.columns import ColumnNames
from swclip.ingest.named_photographs import named_photographs
from swclip.ingest.prepare import PrepareResult, prepare
from swclip.ingest.sources import read_source, read_table

BIG = 12345678901234567
HEAD = "image,lat,lon\n"
NFC, NFD = "Königstraße.jpg", unicodedata.normalize("NFD", "Königstraße.jpg")


def photograph(name: str) -> bytes:
    """A JPEG whose pixels depend on its name."""
    seed = list(name.encode("utf-8", "surrogateescape"))
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize((24, 24)).save(stream, "JPEG")
    return stream.getvalue()


def save_photographs(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(photograph(name))


def prepared(folder: Path, table: str | bytes, *names: str, **options: Any) -> PrepareResult:
    """Prepare a CSV beside the photographs that it names."""
    save_photographs(folder, *names)
    (folder / "t.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    return prepare(folder / "t.csv", folder / "out", **options)


def notes(result: PrepareResult) -> dict[str, str]:
    return {note.code: note.detail for note in result.notes}


@pytest.mark.parametrize(
    ("text", "files", "expected"),
    [
        # darktable 12991: names that differ in spaces only.
        pytest.param(" IMG.jpg,1,1\nIMG.jpg,1,2\n", [" IMG.jpg", "IMG.jpg"], [" IMG.jpg", "IMG.jpg"], id="space"),
        pytest.param("IMG.jpg ,1,1\n", ["IMG.jpg ", "IMG.jpg"], ["IMG.jpg "], id="space-after"),
        pytest.param(" a b.jpg , 1, 1\n", ["a b.jpg"], ["a b.jpg"], id="padded-cells"),
        pytest.param("x\\a.jpg,1,1\n", ["x/a.jpg"], ["x/a.jpg"], id="backslashes"),
        # The file system of macOS stores decomposed letters, tables have composed ones.
        pytest.param(f"{NFC},1,1\n", [NFD], [NFD], id="nfc-table-nfd-disk"),
        pytest.param(f"{NFD},1,1\n", [NFC], [NFC], id="nfd-table-nfc-disk"),
        pytest.param(f"{NFC},1,1\n{NFD},1,2\n", [NFC, NFD], [NFC, NFD], id="both-forms-on-disk"),
        pytest.param(f"{NFC}/a.jpg,1,1\n", [f"{NFD}/a.jpg"], [f"{NFD}/a.jpg"], id="nfd-folder"),
    ],
)  # fmt: skip
def test_the_file_that_a_name_means(text: str, files: list[str], expected: list[str], tmp_path: Path) -> None:
    manifest = prepared(tmp_path, HEAD + text, *files).manifest
    assert [path.read_bytes() for path in manifest.image_paths] == [photograph(name) for name in expected]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        pytest.param(b"sep=;\r\nimage;lat;lon\r\na.jpg;1,5;2,5\r\n", (1.5, 2.5), id="sep-line"),
        pytest.param(b'"sep=;"\nimage;lat;lon\na.jpg;1,5;2,5\n', (1.5, 2.5), id="sep-line-in-quotes"),
        pytest.param(b"\xef\xbb\xbfsep=\t\nimage\tlat\tlon\na.jpg\t1.5\t2.5\n", (1.5, 2.5), id="sep-tab-after-mark"),
        pytest.param(b"# exported, 2024, by hand\n#\nimage,lat,lon\na.jpg,1.5,2.5\n", (1.5, 2.5), id="comment-lines"),
        pytest.param(b"# version 2\n# image,lat,lon\na.jpg,1.5,2.5\n", (1.5, 2.5), id="commented-header"),
        pytest.param(b'image;"lat, WGS84";"lon, WGS84"\na.jpg;1.5;2.5\n', (1.5, 2.5), id="separator-in-quotes"),
        pytest.param(b"image,lat,lon\na.jpg,1.5,2.5,\n", (1.5, 2.5), id="trailing-comma"),
        pytest.param(b"image,lat,lon,\na.jpg,1.5,2.5\n", (1.5, 2.5), id="trailing-comma-in-header"),
        pytest.param("image,lat,lon\na.jpg,1.5,2.5\n".encode("utf-16-le"), (1.5, 2.5), id="utf-16-without-mark"),
        pytest.param("image,lat,lon\na.jpg,1.5,2.5\n".encode("utf-16"), (1.5, 2.5), id="utf-16"),
    ],
)  # fmt: skip
def test_the_head_of_a_text_table(table: bytes, expected: tuple[float, float], tmp_path: Path) -> None:
    columns = ColumnNames(lat="lat, WGS84", lon="lon, WGS84") if b"WGS84" in table else None
    result = prepared(tmp_path, table, "a.jpg", columns=columns)
    assert len(result.rejected) == 0
    assert tuple(result.manifest.positions_deg[0]) == expected


def test_rows_are_numbered_from_the_first_line_of_the_file(tmp_path: Path) -> None:
    table = "sep=,\n# a comment\nimage,lat,lon\na.jpg,1,2\n# , a remark\nnone.jpg,1,2\na.jpg,1,2,,3\n"
    result = prepared(tmp_path, table, "a.jpg")
    assert result.rejected[["row", "reason"]].to_numpy().tolist() == [[6, "missing"], [7, "malformed-row"]]
    assert [note.count for note in result.notes if note.code == "comment-lines"] == [1]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        pytest.param(["2019_05", "2019_06"], ["2019_05", "2019_06"], id="underscore"),
        pytest.param(["89e45", "12"], ["89e45", "12"], id="exponent"),  # csvkit 1246
        pytest.param(["12345678901234567", "12345678901234568"], [BIG, BIG + 1], id="17-digits"),
        pytest.param(["12345678901234567", ""], [BIG, pd.NA], id="17-digits-with-empty"),
        pytest.param(["12345678901234567890", "1"], ["12345678901234567890", "1"], id="20-digits"),
        pytest.param(["0.1234567890123456789", "0.5"], ["0.1234567890123456789", "0.5"], id="more-than-float64"),
        pytest.param(["007", "12"], ["007", "12"], id="leading-zeros"),
        pytest.param(["1.10", "1.1"], ["1.10", "1.1"], id="versions"),
        pytest.param(["5", "5.0"], ["5", "5.0"], id="two-texts-of-a-number"),
        pytest.param(["+5", "6"], ["+5", "6"], id="plus"),
        pytest.param(["\u0665", "6"], ["\u0665", "6"], id="arabic-digits"),
        pytest.param(["inf", "1"], ["inf", "1"], id="infinity"),
        pytest.param(["12", "-7"], [12, -7], id="integers"),
        pytest.param(["1.5", "12"], [1.5, 12.0], id="decimals"),
        pytest.param(["0.00001", "nan"], [0.00001, np.nan], id="small"),
    ],
)  # fmt: skip
def test_further_columns_stay_text_unless_every_value_comes_back(
    texts: list[str], expected: list[Any], tmp_path: Path
) -> None:
    table = f"image,lat,lon,further,further_deg\na.jpg,1,1,{texts[0]},1.50\nb.jpg,1,2,{texts[1]},2\n"
    frame = prepared(tmp_path, table, "a.jpg", "b.jpg").manifest.frame
    values = frame["further"].tolist()
    assert list(map(type, values)) == list(map(type, expected))
    assert list(map(str, values)) == list(map(str, expected))
    assert frame["further_deg"].tolist() == [1.5, 2.0], "a unit in the name makes a measured value"


@pytest.mark.parametrize(
    ("name", "values", "role"),
    [
        pytest.param("pano", ["True", "False", "False", "False"], "place_id", id="msls-pano"),
        pytest.param("pano", ["0", "1", "0", "0"], "place_id", id="pano-as-number"),
        pytest.param("track", ["271.5", "272.1", "271.9", "272.4"], "sequence_id", id="track-is-a-direction"),
        pytest.param("track", ["271", "272", "280", "281"], "sequence_id", id="track-in-whole-degrees"),
        pytest.param("seq", ["1001", "1002", "1003", "1004"], "sequence_id", id="running-number"),
        pytest.param("yaw", ["1.57", "-3.1", "0.2", "2.9"], "heading_deg", id="yaw-in-radians"),
        pytest.param("heading (rad)", ["1", "2", "3", "3"], "heading_deg", id="radians-in-the-name"),
    ],
)
def test_a_name_alone_makes_no_role(name: str, values: list[str], role: str, tmp_path: Path) -> None:
    rows = "".join(f"{k}.jpg,1,{k},{value}\n" for k, value in enumerate(values, start=1))
    names = [f"{k}.jpg" for k in range(1, 5)]
    result = prepared(tmp_path, f"image,lat,lon,{name}\n{rows}", *names)
    flag = {"place_id": "place", "sequence_id": "sequence", "heading_deg": "heading"}[role]
    frame = result.manifest.frame
    assert frame[role].isna().all()
    assert frame[name].astype(str).tolist() == values, "the column itself is kept"
    assert f"--{flag}-column" in notes(result)[f"{flag}-not-used"]
    by_name = prepare(tmp_path / "t.csv", tmp_path / "named", columns=ColumnNames(**{flag: name}))
    assert by_name.manifest.frame[role].notna().all()


@pytest.mark.parametrize(
    ("name", "values", "role"),
    [
        pytest.param("pano", ["p1", "p1", "p2", "p2"], "place_id", id="pano-ids"),
        pytest.param("place_id", ["7", "8", "9", "10"], "place_id", id="numbered-places"),
        pytest.param("place_id", ["0", "0", "1", "1"], "place_id", id="two-places"),
        pytest.param("heading", ["0.5", "4.1", "5.6", "5.1"], "heading_deg", id="a-drive-to-the-north"),
        pytest.param("track", ["1", "1", "2", "2"], "sequence_id", id="numbered-tracks"),
        pytest.param("seq", ["881120013", "981120013", "481120013", "781120013"], "sequence_id", id="large-numbers"),
        pytest.param("yaw", ["1", "2", "3", "4"], "heading_deg", id="whole-degrees"),
        pytest.param("yaw", ["1.5", "2.5", "359.5", "4.5"], "heading_deg", id="degrees"),
    ],
)
def test_plausible_values_keep_their_role(name: str, values: list[str], role: str, tmp_path: Path) -> None:
    rows = "".join(f"{k}.jpg,1,{k},{value}\n" for k, value in enumerate(values, start=1))
    result = prepared(tmp_path, f"image,lat,lon,{name}\n{rows}", *(f"{k}.jpg" for k in range(1, 5)))
    assert result.manifest.frame[role].astype(str).str.removesuffix(".0").tolist() == values
    assert result.notes == []


@pytest.mark.parametrize("text", ["2014-11", "11/2014", "Nov 2014", "2014/11"])
def test_year_and_month_are_kept_and_are_no_day(text: str, tmp_path: Path) -> None:
    result = prepared(tmp_path, f"image,lat,lon,date\na.jpg,1,1,{text}\nb.jpg,1,2,2014-11-05\n", "a.jpg", "b.jpg")
    frame = result.manifest.frame
    assert frame["captured_month"].tolist() == ["2014-11", None]
    assert frame["captured_at"].tolist() == [pd.NaT, pd.Timestamp("2014-11-05")]
    assert result.notes == []
    again = prepare(result.manifest.path, tmp_path / "again").manifest.frame
    assert again["captured_month"].tolist() == ["2014-11", None], "a manifest is a source too"


def records(folder: Path) -> Path:
    pictures = [{"address": name, "size": 1} for name in ("a.jpg", "b.jpg")]
    pd.DataFrame({"image": pictures, "lat": [1.0, 2.0], "lon": [1.0, 2.0]}).to_parquet(folder / "t.parquet")
    return folder / "t.parquet"


def picture_bytes(folder: Path) -> Path:
    pd.DataFrame({"image": [photograph("a.jpg")], "lat": [1.0], "lon": [1.0]}).to_parquet(folder / "t.parquet")
    return folder / "t.parquet"


def csv_of(text: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / "t.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
        return folder / "t.csv"

    return write


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(records, "holds a record, not the name of a file", id="records"),
        pytest.param(picture_bytes, "holds bytes, not the name of a file", id="picture-bytes"),
        pytest.param(csv_of(f"image,lat,lon\n{'x' * 300},1,1\n"), "longer than the 255 bytes", id="300-letters"),
        pytest.param(csv_of("image,lat,lon\na\0.jpg,1,1\n"), "zero byte", id="zero-byte"),
        pytest.param(csv_of("image,lat,lon\nhttps://x.org/a.jpg,1,1\n"), "is a web address", id="url"),
    ],
)
def test_cells_that_name_no_file_are_rejected_in_short_words(
    make: Callable[[Path], Path], message: str, tmp_path: Path
) -> None:
    source = make(tmp_path)
    with pytest.raises(InputError, match=message) as raised:
        prepare(source, tmp_path / "out")
    assert len(str(raised.value)) < 500 + 2 * len(str(tmp_path))
    rejected = pd.read_csv(tmp_path / "out" / "rejected.csv")
    assert set(rejected["reason"]) == {"missing"}
    with pytest.raises(InputError, match=message) as raised:
        prepare(source, tmp_path / "out", strict=True)
    assert len(str(raised.value)) < 900 + 2 * len(str(tmp_path))


def test_names_that_are_not_utf_8_are_rejected_and_the_others_kept(tmp_path: Path) -> None:
    latin = os.fsdecode(b"caf\xe9")
    save_photographs(tmp_path / "in", f"{latin}.jpg", f"{latin}/a.jpg", "b.jpg")
    save_photographs(tmp_path / "in", "c.jpg")
    result = prepared(tmp_path / "in", "image,lat,lon\nb.jpg,1,1\n", "b.jpg")
    assert len(result.manifest) == 1
    table = f"image,lat,lon\n{latin}.jpg,1,1\n{latin}/a.jpg,1,2\nb.jpg,1,3\n".encode("utf-8", "surrogateescape")
    result = prepared(tmp_path / "in", table, columns=None)
    assert set(result.rejected["reason"]) == {"missing"}
    with pytest.raises(InputError, match="coordinate-missing") as raised:
        prepare(tmp_path / "in", tmp_path / "out")
    assert "2 missing" in str(raised.value)
    rejected = pd.read_csv(tmp_path / "out" / "rejected.csv").set_index("image")
    assert "not valid UTF-8; rename" in rejected.loc["caf\\xe9.jpg", "detail"]


@pytest.mark.parametrize("latin_out", [False, True])
def test_folders_that_are_not_utf_8_are_an_error(
    latin_out: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    latin = tmp_path / os.fsdecode(b"caf\xe9")
    save_photographs(tmp_path if latin_out else latin, "a.jpg")
    source = (tmp_path if latin_out else latin) / "t.csv"
    source.write_text("image,lat,lon\na.jpg,1,1\n")
    out = latin / "out" if latin_out else tmp_path / "out"
    assert run(["prepare", str(source), f"--out={out}"]) == 2
    assert "is not valid UTF-8; rename" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param("a.jpg\r\nb.jpg\r\n".encode("utf-16"), ["a.jpg", "b.jpg"], id="utf-16"),
        pytest.param("a.jpg\nb.jpg\n".encode("utf-16-le"), ["a.jpg", "b.jpg"], id="utf-16-without-mark"),
        pytest.param(b"\xef\xbb\xbfa.jpg\nb.jpg\n", ["a.jpg", "b.jpg"], id="byte-order-mark"),
        pytest.param(b" a.jpg \n\n  \nb.jpg\t\n", ["a.jpg", "b.jpg"], id="spaces"),
        pytest.param(b" c.jpg\n", [" c.jpg"], id="a-name-with-a-space"),
        pytest.param(b"deep\\a.jpg\r\n", ["deep/a.jpg"], id="backslashes"),
        pytest.param(f"{NFC}\n".encode(), [NFD], id="nfc-list-nfd-disk"),
        pytest.param(b"caf\xe9.jpg\n", [os.fsdecode(b"caf\xe9.jpg")], id="not-utf-8"),
        pytest.param(b"a.jpg\0b.jpg\0", ["a.jpg", "b.jpg"], id="zero-terminated"),
        pytest.param(b"x\0y\0", ["x", "y"], id="letters-zero-terminated"),
    ],
)
def test_lists_of_names(data: bytes, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_photographs(tmp_path, "a.jpg", "b.jpg", " c.jpg", "c.jpg", "deep/a.jpg", NFD)
    Path("list").write_bytes(data)
    assert named_photographs([], Path("list")) == expected


def test_a_list_with_a_web_address_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("a.jpg\nhttps://x.org/b.jpg\n")
    with pytest.raises(InputError, match=r"list, name 2: 'https://x\.org/b\.jpg': is a web address"):
        named_photographs([], tmp_path / "list")


@pytest.mark.parametrize("place", ["beside", "elsewhere"])
def test_ids_of_absolute_names_hold_no_path_and_do_not_move(place: str, tmp_path: Path) -> None:
    ids = []
    for root in ("machine-1/home/ada/album", "machine-2/mnt/x"):
        folder = tmp_path / root
        save_photographs(folder, "x/1.jpg", "y/1.jpg")
        at = folder if place == "beside" else tmp_path
        (at / "t.csv").write_text(f"image,lat,lon\n{folder}/x/1.jpg,1,1\n{folder}/y/1.jpg,1,2\n")
        ids.append(prepare(at / "t.csv", tmp_path / "out" / root).manifest.frame["image_id"].tolist())
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 2
    assert all(image_id.startswith("1-") and "/" not in image_id for image_id in ids[0])


def test_ids_of_relative_names_do_not_climb(tmp_path: Path) -> None:
    save_photographs(tmp_path, "a/1.jpg", "b/1.jpg")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "t.csv").write_text("image,lat,lon\n../a/1.jpg,1,1\n../b/1.jpg,1,2\n")
    assert prepare(tmp_path / "tables" / "t.csv", tmp_path / "out").manifest.frame["image_id"].tolist() == [
        "a/1",
        "b/1",
    ]


@pytest.mark.parametrize(
    "name",
    ["=1+1.jpg", "+44 20.jpg", "-b.jpg", "@home.jpg", "'=quoted.jpg", "'plain.jpg", "-0.1", "a=b.jpg", "\tt.jpg"],
)
def test_names_that_look_like_formulas_come_back_from_csv(name: str, tmp_path: Path) -> None:
    """A spreadsheet program runs cells that begin with =, +, -, @, a tab or a carriage return."""
    answer = Answer(photograph=name, lat_deg=-33.8, lon_deg=-1.5, estimator="mode", city="=cmd()")
    (tmp_path / "answers.csv").write_text(as_text([answer], "csv"), encoding="utf-8")
    (cells,) = csv.DictReader(io.StringIO((tmp_path / "answers.csv").read_text(encoding="utf-8"), newline=""))
    assert not re.match(r"[=+\-@\t\r](?![\d.]+$)", cells["photograph"])
    assert (cells["answer_lat_deg"], cells["answer_lon_deg"], cells["answer_city"]) == ("-33.8", "-1.5", "'=cmd()")
    raw = read_table(tmp_path / "answers.csv")
    assert raw.frame["photograph"].tolist() == [name]
    assert raw.frame["answer_city"].tolist() == ["=cmd()"]


def test_rejected_rows_are_no_formulas(tmp_path: Path) -> None:
    result = prepared(tmp_path, "image,lat,lon\na.jpg,1,2\n=1+1.jpg,1,2\n", "a.jpg")
    assert result.rejected["image"].tolist() == ["=1+1.jpg"]
    assert "\n3,'=1+1.jpg,missing," in (tmp_path / "out" / "rejected.csv").read_text()


@pytest.mark.parametrize(("letter", "heading"), [("M", np.nan), ("Magnetic North", np.nan), ("T", 90.0), ("", 90.0)])
def test_headings_from_magnetic_north_are_not_used(letter: str, heading: float, tmp_path: Path) -> None:
    table = f"SourceFile,lat,lon,GPSImgDirection,GPSImgDirectionRef\na.jpg,1,2,90,{letter}\n"
    result = prepared(tmp_path, table, "a.jpg")
    np.testing.assert_array_equal(result.manifest.frame["heading_deg"], [heading])
    assert ("heading-not-used" in notes(result)) == np.isnan(heading)


IMAGE_COLUMNS = (
    "Datei Dateiname Bilddatei Foto Bild fichier archivo arquivo Imagen immagine bestandsnaam zdjęcie файл фото "
    "图片 文件名 画像 파일명 ảnh file_name FName"
)


@pytest.mark.parametrize("name", [*IMAGE_COLUMNS.split(), "Nom du fichier", "Nombre de archivo", "Dosya Ad\u0131"])
def test_image_columns_of_the_usual_languages(tmp_path: Path, name: str) -> None:
    (tmp_path / "t.csv").write_text(f"{name};Breite;Laenge\na.jpg;53,8008;-1,5491\n", encoding="utf-8")
    table = read_source(tmp_path / "t.csv")
    assert table.values("image") == ["a.jpg"]
    assert table.positions is not None
    assert (table.positions.lat_deg[0], table.positions.lon_deg[0]) == (53.8008, -1.5491)


def test_a_file_name_comes_before_a_picture(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("Bild;Datei;Breite;Laenge\n1;a.jpg;53,8008;-1,5491\n")
    assert read_source(tmp_path / "t.csv").values("image") == ["a.jpg"]


def test_an_id_of_places_comes_before_a_mark_of_panoramas(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image,lat,lon,place_id,pano\na.jpg,53.8,-1.5,7,True\nb.jpg,53.9,-1.5,8,False\n")
    assert read_source(tmp_path / "t.csv").values("place") == ["7", "8"]


def test_a_manifest_of_another_program_with_zeros_for_no_position(tmp_path: Path) -> None:
    frame = prepared(tmp_path, "image,lat,lon\na.jpg,53.8,-1.5\nb.jpg,53.9,-1.5\n", "a.jpg", "b.jpg").manifest.frame
    with pytest.raises(InputError, match=r"row 1: the position \(0, 0\) is in the Atlantic"):
        write_manifest(tmp_path / "other", frame.assign(lat_deg=[53.8, 0.0], lon_deg=[-1.5, 0.0]))
