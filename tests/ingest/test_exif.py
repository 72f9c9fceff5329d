"""EXIF of real files, intact and damaged."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import IFDRational

from swclip.imaging.decode import open_photograph
from swclip.ingest.exif import ExifFacts, read_exif

GPS, EXIF = 0x8825, 0x8769
LONDON = {1: "N", 2: (51.0, 30.0, 26.64), 3: "W", 4: (0.0, 7.0, 39.93)}


def facts(
    gps: dict[int, Any] | None = None,
    details: dict[int, Any] | None = None,
    base: dict[int, Any] | None = None,
    kind: str = "JPEG",
) -> ExifFacts:
    """Write a file with these tags and read it back."""
    exif = Image.Exif()
    exif.update(base or {})
    for tag, values in ((GPS, gps), (EXIF, details)):
        if values:
            exif.get_ifd(tag).update(values)
            exif[tag] = values  # Pillow omits the block from a TIFF otherwise, and from a PNG without other tags
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), "grey").save(stream, kind, exif=exif)
    with open_photograph(stream.getvalue()) as image:
        return read_exif(image)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_reads_positions_from_every_format(kind: str) -> None:
    result = facts(LONDON, kind=kind)
    assert result.lat_deg == pytest.approx(51.5074, abs=1e-6)
    assert result.lon_deg == pytest.approx(-0.127758, abs=1e-6)
    assert result.problem is None


def test_absent_exif_gives_no_values() -> None:
    assert facts() == ExifFacts()


@given(st.floats(-90, 90), st.floats(-180, 180))
@settings(max_examples=40, deadline=None)
def test_positions_round_trip_through_degrees_minutes_seconds(lat: float, lon: float) -> None:
    def split(value: float) -> tuple[float, float, float]:
        minutes, seconds = divmod(abs(value) * 3600.0, 60.0)
        return (minutes // 60, minutes % 60, round(seconds, 4))

    result = facts({1: "NS"[lat < 0], 2: split(lat), 3: "EW"[lon < 0], 4: split(lon)})
    assert result.lat_deg is not None
    assert result.lon_deg is not None
    np.testing.assert_allclose([result.lat_deg, result.lon_deg], [lat, lon], atol=1e-6)  # a tenth of a metre


def test_reads_decimal_degrees_and_decimal_minutes() -> None:
    assert facts({**LONDON, 2: (51.5074, 0.0, 0.0)}).lat_deg == pytest.approx(51.5074, abs=1e-5)
    assert facts({**LONDON, 2: (51.0, 30.444, 0.0)}).lat_deg == pytest.approx(51.5074, abs=1e-5)


def test_latitude_without_hemisphere_is_rejected() -> None:
    result = facts({2: LONDON[2], 3: "W", 4: LONDON[4]})
    assert result.lat_deg is None
    assert result.problem == "the EXIF latitude does not say N or S"


def test_zero_by_zero_is_nan() -> None:
    result = facts({**LONDON, 4: (IFDRational(0, 0), IFDRational(0, 0), IFDRational(0, 0))})
    assert result.lon_deg is not None
    assert math.isnan(result.lon_deg)
    assert result.problem is not None
    assert "longitude is not a number" in result.problem


def test_reads_heading_and_accuracy() -> None:
    result = facts({**LONDON, 16: "T", 17: 271.5, 31: 4.75})
    assert result.heading_deg == pytest.approx(271.5)
    assert result.accuracy_m == pytest.approx(4.75)
    assert facts({17: 360.0}).heading_deg == 0.0
    assert facts({17: IFDRational(0, 0), 31: 0.0}) == ExifFacts()


@pytest.mark.parametrize(
    ("gps", "details", "base", "expected"),
    [
        ({}, {0x9003: "2019:12:29 13:35:13"}, {}, "2019-12-29T13:35:13.000"),
        ({}, {0x9003: "2019:12:29 13:35:13", 0x9291: "17"}, {}, "2019-12-29T13:35:13.170"),
        ({}, {0x9003: "2019:12:29 13:35:13", 0x9011: "+08:00"}, {}, "2019-12-29T05:35:13.000+00:00"),
        ({}, {0x9003: "2019:12:29 13:35:13", 0x9011: "   :  "}, {}, "2019-12-29T13:35:13.000"),
        ({}, {0x9003: "    :  :     :  :  "}, {0x0132: "2019:12:29 13:35:13"}, "2019-12-29T13:35:13.000"),
        ({}, {0x9003: "0000:00:00 00:00:00"}, {}, None),
        (
            {7: (5.0, 35.0, 13.0), 29: "2019:12:29"},
            {0x9003: "2019:12:29 13:35:13"},
            {},
            "2019-12-29T05:35:13.000+00:00",
        ),
        ({7: (5.0, 35.0, 13.0)}, {}, {}, None),
    ],
)
def test_reads_the_capture_time(
    gps: dict[int, Any], details: dict[int, Any], base: dict[int, Any], expected: str | None
) -> None:
    assert facts(gps, details, base).captured_at == expected


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_random_blocks_never_raise(noise: bytes) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0" + noise)
    with open_photograph(stream.getvalue()) as image:
        assert isinstance(read_exif(image), ExifFacts)


def test_truncated_blocks_never_raise() -> None:
    exif = Image.Exif()
    exif.get_ifd(GPS).update(LONDON)
    whole = exif.tobytes()
    for end in range(8, len(whole), 3):
        stream = io.BytesIO()
        Image.new("RGB", (8, 8)).save(stream, "JPEG", exif=whole[:end])
        with open_photograph(stream.getvalue()) as image:
            assert isinstance(read_exif(image), ExifFacts)


PACKET = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/" xmlns:exif="http://ns.adobe.com/exif/1.0/"><a exif:GPSLatitude="53,48.0480N">'
    b"<exif:GPSLongitude>1,32.946W</exif:GPSLongitude></a></x:xmpmeta>"
)


@given(st.integers(0, len(PACKET)), st.binary(max_size=12), st.integers(0, 12))
@settings(max_examples=200, deadline=None)
def test_damaged_packets_never_raise(at: int, noise: bytes, lost: int) -> None:
    image = Image.new("RGB", (2, 2))
    image.info["xmp"] = PACKET[:at] + noise + PACKET[at + lost :]
    result = read_exif(image)
    assert isinstance(result, ExifFacts)
    if noise == PACKET[at : at + lost]:
        assert (result.lat_deg, result.lon_deg) == pytest.approx((53.8008, -1.5491))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_packets_in_every_encoding(encoding: str) -> None:
    image = Image.new("RGB", (2, 2))
    image.info["xmp"] = (PACKET.decode() + "<?xpacket end='w'?>\n  ").encode(encoding)
    assert read_exif(image).lat_deg == pytest.approx(53.8008)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_reads_packets_from_every_format(kind: str) -> None:
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", PACKET.decode())
    options: dict[str, Any] = (
        {"pnginfo": text, "tiffinfo": {700: PACKET}} if kind in ("PNG", "TIFF") else {"xmp": PACKET}
    )
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), "grey").save(stream, kind, **options)
    with open_photograph(stream.getvalue()) as image:
        result = read_exif(image)
    assert (result.lat_deg, result.lon_deg) == pytest.approx((53.8008, -1.5491))
