"""Photograph files and folders as people reported them: one row per report, with its source and what must follow."""

from __future__ import annotations

import io
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fixtures.models import tiny_model
from swclip.errors import InputError
from swclip.imaging.decode import PhotographError, decode_photograph, open_photograph
from swclip.imaging.phash import hash_photographs
from swclip.imaging.photograph_file import photograph_sha256
from swclip.ingest.exif import read_exif
from swclip.ingest.named_photographs import named_photographs
from swclip.ingest.prepare import prepare
from swclip.ingest.verification import verify_photograph
from swclip.models.feature_cache import FeatureCache

SIZE = (96, 64)
HERE_DEG = (53.8008, -1.5491)


def street(size: tuple[int, int] = SIZE) -> Image.Image:
    pixels = np.random.default_rng(7).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def jpeg(image: Image.Image | None = None, **options: object) -> bytes:
    stream = io.BytesIO()
    (image or street()).save(stream, "JPEG", **options)  # type: ignore[arg-type]
    return stream.getvalue()


END = b"\xff\xd9"
WHOLE, CUT = jpeg(), jpeg()[: len(jpeg()) * 2 // 3]
UNENDED = WHOLE.removesuffix(END)
# What Samsung appends: names and lengths of blocks, a film and a directory. Its bytes look like markers by chance.
TRAILER = b"\0\0\x30\x0a\x10\0\0\0MotionPhoto_Data" + bytes(range(256)) * 40 + b"SEFHk\0\0\0SEFT"
PROGRESSIVE = jpeg(progressive=True)


def many_scans(n: int, size: tuple[int, int] = SIZE) -> bytes:
    """A progressive JPEG whose last scan is repeated: every repetition passes over the whole picture."""
    data = jpeg(Image.new("L", size, 128), progressive=True)
    last = data.rfind(b"\xff\xda")
    return data[:last] + data[last:-2] * n + END


def png(width: int, height: int) -> bytes:
    """A PNG of one colour."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    rows = zlib.compress(b"\0" * ((width + 1) * height), 9)
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@dataclass(frozen=True)
class File:
    """A file, and the reason why it is refused; empty for a whole photograph."""

    source: str
    data: bytes
    reason: str = ""
    detail: str = ""


FILES = [
    File("padded with zeros", WHOLE + b"\0" * 4096),
    File("trailer after the end", WHOLE + TRAILER),
    File("zeros after the end and a trailer", WHOLE + TRAILER + b"\0" * 4096),
    File("zeros, then a trailer", WHOLE + b"\0" * 4096 + TRAILER),
    File("libjpeg-turbo 163: no end marker", UNENDED),
    File("libjpeg-turbo 163: a trailer in place of the end marker", UNENDED + TRAILER),
    File("half an end marker", UNENDED + b"\xff"),
    File("no end marker, zeros behind", UNENDED + b"\0" * 4096),
    File("no end marker, grey", jpeg(street().convert("L")).removesuffix(END)),
    File("no end marker, restart markers", jpeg(restart_marker_blocks=2).removesuffix(END)),
    File("no end marker, unknown bytes behind: they might be part of the picture", UNENDED + b"Q" * 4096, "truncated"),
    File("cut short", CUT, "truncated"),
    File("cut short, unknown bytes behind", CUT + b"Q" * 4096, "truncated"),
    File("cut short by some bytes", UNENDED[:-8], "truncated"),
    File("cut short, zeros behind", CUT + b"\0" * 4096, "truncated"),
    File("cut short, a trailer behind", CUT + TRAILER, "truncated"),
    File("cut short, zeros and a trailer behind", CUT + b"\0" * 4096 + TRAILER, "truncated"),
    File("progressive, cut short", PROGRESSIVE[: len(PROGRESSIVE) * 2 // 3], "truncated"),
    File("progressive without end marker: later scans may lack", PROGRESSIVE.removesuffix(END), "truncated"),
    File("progressive with ten scans", PROGRESSIVE + b"\0" * 4096),
    File("many scans in few bytes", many_scans(3_000), "too-large", "scans"),
    File("fewer scans of a large picture", many_scans(60, (6000, 8000)), "too-large", "scans"),
    File("a million empty segments", WHOLE[:2] + b"\xff\xe5\x00\x02" * 1_000_000 + WHOLE[2:], "too-large", "parts"),
    File("four million bytes of filling", WHOLE[:2] + b"\xff" * 4_000_000 + WHOLE[2:], "too-large", "parts"),
    File("300,000 empty chunks", png(8, 8)[:33] + png(8, 8)[-12:-8] * 900_000 + png(8, 8)[33:], "too-large", "parts"),
    File("a row of 60 million pixels", png(59_999_999, 1), "too-large", "65535"),
    File("a column of 60 million pixels", png(1, 59_999_999), "too-large", "65535"),
]


@pytest.mark.parametrize("case", FILES, ids=lambda case: case.source)
@pytest.mark.parametrize("size_px", [None, 8])
def test_file(case: File, size_px: int | None, tmp_path: Path) -> None:
    path = tmp_path / "photograph.jpg"
    path.write_bytes(case.data)
    if case.reason:
        with pytest.raises(PhotographError, match=case.detail or None) as raised:
            decode_photograph(case.data, size_px=size_px)
        assert raised.value.reason == case.reason
        assert verify_photograph(path, 100_000_000).reason == case.reason
    else:
        picture = decode_photograph(case.data, size_px=size_px)
        assert picture.size == decode_photograph(WHOLE, size_px=size_px).size
        assert verify_photograph(path, 100_000_000).reason is None


def test_picture_without_end_marker_has_the_pixels_of_the_whole() -> None:
    expected = decode_photograph(WHOLE).tobytes()
    assert decode_photograph(UNENDED + TRAILER).tobytes() == expected
    assert decode_photograph(UNENDED).tobytes() == expected


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_every_cut_in_the_last_blocks_is_noticed(quality: int) -> None:
    data = jpeg(street((200, 150)), quality=quality)  # blocks that are cut by the edges of the picture
    for end in range(1, 60):
        with pytest.raises(PhotographError) as raised:
            decode_photograph(data[: -2 - end])
        assert raised.value.reason == "truncated"


def test_deep_grey_is_converted_in_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    ramp = np.linspace(0.0, 1.0, 300 * 50, dtype=np.float32).reshape(50, 300)
    ramp[3, 7] = np.nan
    stream = io.BytesIO()
    Image.fromarray(ramp).save(stream, "TIFF", compression="tiff_adobe_deflate")
    at_once = decode_photograph(stream.getvalue())
    monkeypatch.setattr("swclip.imaging.rgb._BAND_PX", 1000)
    assert decode_photograph(stream.getvalue()).tobytes() == at_once.tobytes()
    expected = np.clip(np.nan_to_num(ramp.astype(np.float64)) * 255.0, 0, 255).astype(np.uint8)
    assert (np.asarray(at_once)[..., 0] == expected).all()


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))


@pytest.mark.parametrize("make", [fifo, device, listening])
def test_no_reader_waits_for_what_is_no_file(
    make: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.jpg"
    make(path)
    refused = "is a device, pipe or socket"
    for read in (decode_photograph, photograph_sha256):
        with pytest.raises(PhotographError, match=refused):
            read(path)
    assert verify_photograph(path, 10_000).detail.startswith(refused)
    assert hash_photographs([path]).failures[0].startswith(refused)
    failures: list[tuple[Path, str]] = []
    FeatureCache(tmp_path / "cache").features(tiny_model([HERE_DEG]), [path], failures=failures)
    assert failures[0][1].startswith(refused)
    photo = tmp_path / "b.jpg"  # whose sidecar is no file
    photo.write_bytes(WHOLE)
    make(tmp_path / "b.jpg.xmp")
    assert [note.code for note in verify_photograph(photo, 10_000).exif.notes] == ["xmp-unreadable"]


def test_heic_is_decoded_upright_with_its_metadata(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8825).update({1: "N", 2: (53.0, 48.0, 2.88), 3: "W", 4: (1.0, 32.0, 56.76)})
    path = tmp_path / "IMG.heic"
    pillow_heif.from_pillow(street()).save(path, exif=exif.tobytes(), quality=90)
    turned = decode_photograph(path)
    assert turned.size == (SIZE[1], SIZE[0])
    expected = np.asarray(street().transpose(Image.Transpose.ROTATE_270), dtype=int)
    assert np.abs(np.asarray(turned, dtype=int) - expected).mean() < 8
    with open_photograph(path) as image:
        facts = read_exif(image)
    assert facts.lat_deg == pytest.approx(53.8008, abs=1e-6)
    damaged = path.read_bytes()[:40]
    with pytest.raises(PhotographError, match="damaged"):
        decode_photograph(damaged)


def test_heic_without_its_plugin_says_how_to_install_it() -> None:
    code = (
        "import sys; sys.modules['pillow_heif'] = None\n"
        "from swclip.imaging.decode import decode_photograph\n"
        "decode_photograph(b'\\0\\0\\0\\x18ftypheic' + bytes(64))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'pip install "swclip[heic]"' in result.stderr


@dataclass(frozen=True)
class Entry:
    """A name in a folder, and the code of the note that counts it."""

    source: str
    name: str
    code: str = "program-files"


LEFT_OUT = [
    Entry("Synology", "@eaDir/IMG.jpg/SYNOPHOTO_THUMB_M.jpg"),
    Entry("QNAP", ".@__thumb/default.jpg"),
    Entry("Linux desktops", ".thumbnails/large/a.jpg"),
    Entry("archives of macOS", "__MACOSX/._IMG.jpg"),
    Entry("AppleDouble", "._IMG.jpg"),
    Entry("recycle bin of Synology", "#recycle/old.jpg"),
    Entry("recycle bin of Windows", "$RECYCLE.BIN/old.jpg"),
]


@pytest.mark.parametrize("case", LEFT_OUT, ids=lambda case: case.source)
def test_files_of_programs_are_left_out_and_counted(
    case: Entry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photos = tmp_path / "photos"
    for name in ("deep/IMG.jpg", f"deep/{case.name}"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes(located())
    result = prepare(photos, tmp_path / "out")
    assert result.manifest.frame["image_id"].tolist() == ["deep/IMG"]
    (note,) = result.notes
    assert (note.code, note.count) == (case.code, 1)
    assert f"deep/{case.name.split('/')[0]}" in note.detail
    assert named_photographs([str(photos)]) == [str(photos / "deep/IMG.jpg")]
    assert "(1): hidden names" in caplog.text


def located() -> bytes:
    exif = Image.Exif()
    exif.get_ifd(0x8825).update({1: "N", 2: (53.0, 48.0, 2.88), 3: "W", 4: (1.0, 32.0, 56.76)})
    return jpeg(exif=exif)


def test_linked_folders_are_counted_and_loops_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    photos, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    photos.mkdir()
    elsewhere.mkdir()
    (photos / "a.jpg").write_bytes(located())
    (elsewhere / "b.jpg").write_bytes(located())
    (photos / "more").symlink_to(elsewhere)
    (photos / "round").symlink_to(photos)
    (photos / "itself").symlink_to(photos / "itself")
    result = prepare(photos, tmp_path / "out")
    assert result.manifest.frame["image_id"].tolist() == ["a"]
    notes = {note.code: note for note in result.notes}
    assert notes["linked-folder"].count == 2
    assert "more, round" in notes["linked-folder"].detail
    assert named_photographs([str(photos)]) == [str(photos / "a.jpg")]
    assert "(2): links to folders are not followed" in caplog.text


@pytest.fixture
def as_other_user() -> Iterator[Path]:
    """A folder of a user without privileges, who runs the test; root may read every folder."""
    folder = Path(tempfile.mkdtemp())
    is_root = os.geteuid() == 0
    if is_root:
        os.chown(folder, 65_534, 65_534)
        os.seteuid(65_534)
    yield folder
    if is_root:
        os.seteuid(0)
    (folder / "photos/closed").chmod(0o700)
    shutil.rmtree(folder)


def test_folder_without_permission_is_an_error_that_names_it(as_other_user: Path) -> None:
    photos = as_other_user / "photos"
    (photos / "closed").mkdir(parents=True)
    (photos / "a.jpg").write_bytes(WHOLE)
    (photos / "closed").chmod(0)
    for search in (lambda: prepare(photos, as_other_user / "out"), lambda: named_photographs([str(photos)])):
        with pytest.raises(InputError, match=r"photos/closed: the folder cannot be searched \(Permission denied\)"):
            search()
