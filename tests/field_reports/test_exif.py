"""Metadata of photographs as people reported them: one row per report, with its source and the right value."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image, TiffTags
from PIL.TiffImagePlugin import IFDRational

from swclip.imaging.decode import open_photograph
from swclip.imaging.preprocess import Preprocess
from swclip.ingest.exif import ExifFacts, read_exif
from swclip.ingest.prepare import prepare
from swclip.ingest.verification import WorkFile, verify_photograph
from swclip.web.decoding import Encoded

GPS, EXIF = 0x8825, 0x8769
UNDEFINED = IFDRational(0, 0)
HERE = {1: "N", 2: (53.0, 48.0, 2.88), 3: "W", 4: (1.0, 32.0, 56.76)}
HERE_DEG = (53.8008, -1.5491)
CAPTURED = {0x9003: "2019:12:29 13:35:13"}


def photograph(gps: dict[int, Any], details: dict[int, Any] | None = None, xmp: str | None = None) -> bytes:
    """A JPEG with these tags and this XMP packet."""
    exif = Image.Exif()
    for tag, values in ((GPS, gps), (EXIF, details or {})):
        if values:
            exif.get_ifd(tag).update(values)
    pixels = np.random.default_rng(len(repr((gps, details, xmp)))).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    stream = io.BytesIO()
    options = {} if xmp is None else {"xmp": xmp.encode()}
    signed = {
        tag: TiffTags.TagInfo(tag, "signed", TiffTags.SIGNED_RATIONAL, 3)
        for tag in (2, 4)
        if isinstance(gps.get(tag), tuple) and any(part < 0.0 for part in gps[tag])
    }
    with patch.dict(TiffTags.TAGS_V2_GROUPS, {GPS: {**TiffTags.TAGS_V2_GROUPS.get(GPS, {}), **signed}}):
        Image.fromarray(pixels).save(stream, "JPEG", exif=exif, **options)
    return stream.getvalue()


def packet(**properties: str) -> str:
    """An XMP packet with properties as attributes; names are PREFIX_NAME."""
    attributes = " ".join(f'{name.replace("_", ":", 1)}="{text}"' for name, text in properties.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        'xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" '
        f'{attributes}/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    )


def facts_of(data: bytes, sidecar: tuple[str, bytes] | None = None) -> ExifFacts:
    with open_photograph(data) as image:
        return read_exif(image, sidecar)


@dataclass(frozen=True)
class Position:
    """Tags of a position, and its latitude and longitude or the reason why it is refused."""

    source: str
    gps: dict[int, Any]
    deg: tuple[float, float] | None = None
    refused: str = ""
    codes: tuple[str, ...] = ()


SOUTH = {3: "E", 4: (151.0, 12.0, 36.0)}
TOKYO = {1: "N", 2: (35.6615, 0.0, 0.0), 3: "E", 4: (139.7414, 0.0, 0.0)}
POSITIONS = [
    Position("piexifjs PR 53: sign and letter", {1: "S", 2: (-33.0, 51.0, 30.0), **SOUTH}, (-33.858333, 151.21)),
    Position("piexifjs PR 53: sign on each part", {1: "S", 2: (-33.0, -51.0, -30.0), **SOUTH}, (-33.858333, 151.21)),
    Position("mapillary_issues 2114: sign without a letter", {2: (-33.0, 51.0, 30.0), **SOUTH}, (-33.858333, 151.21)),
    Position("sign on the minutes of zero degrees", {**HERE, 3: "W", 4: (0.0, -7.0, 39.93)}, (53.8008, -0.127758)),
    Position(
        "piexifjs PR 53: sign against the letter",
        {1: "N", 2: (-33.0, 51.0, 30.0), **SOUTH},
        refused="the EXIF latitude is negative and says N, which contradict each other (-33.0 51.0 30.0)",
    ),
    Position("east and negative", {**HERE, 3: "E", 4: (-1.0, 32.0, 56.76)}, refused="longitude is negative and says E"),
    Position("unsigned without a letter", {**HERE, 1: ""}, refused="the EXIF latitude does not say N or S"),
    Position("letter of the other axis", {**HERE, 1: "E"}, refused="the EXIF latitude does not say N or S"),
    Position("seconds without their point", {**HERE, 2: (53.0, 48.0, 3034.0)}, refused="latitude has 3034 seconds"),
    Position("minutes without their point", {**HERE, 2: (53.0, 4805.0, 0.0)}, refused="latitude has 4805 minutes"),
    Position("fraction of degrees, minutes beside", {**HERE, 2: (53.8008, 48.0, 2.88)}, refused="read in two ways"),
    Position("fraction of degrees, seconds beside", {**HERE, 2: (53.8008, 0.0, 2.88)}, refused="read in two ways"),
    Position("fraction of minutes, seconds beside", {**HERE, 2: (53.0, 48.048, 2.88)}, refused="read in two ways"),
    Position("rounded up to 60 seconds", {**HERE, 2: (53.0, 47.0, 60.0)}, (53.8, -1.5491)),
    Position("rounded up to 60 minutes", {**HERE, 2: (53.0, 60.0, 0.0)}, (54.0, -1.5491)),
    Position("mapillary_issues 2369: seconds 0/0", {**HERE, 2: (53.0, IFDRational(48048, 1000), UNDEFINED)}, HERE_DEG),
    Position(
        "seconds 0/0 after whole minutes",
        {**HERE, 2: (53.0, 48.0, UNDEFINED)},
        (53.8, -1.5491),
        codes=("position-coarse",),
    ),
    Position("minutes and seconds 0/0", {**HERE, 2: (53.8008, UNDEFINED, UNDEFINED)}, HERE_DEG),
    Position("whole degrees, the rest 0/0", {**HERE, 2: (53.0, UNDEFINED, UNDEFINED)}, refused="whole degrees alone"),
    Position("exifr 69: all 0/0", {**HERE, 2: (UNDEFINED,) * 3}, refused="the EXIF latitude is not a number"),
    Position("0/0 before a good part", {**HERE, 2: (53.0, UNDEFINED, 2.88)}, refused="latitude is not a number"),
    Position("no datum", HERE, HERE_DEG),
    *(
        Position(f"datum {name!r}", {**HERE, 18: name}, HERE_DEG)
        for name in ("", " ", "WGS-84", "WGS84", "WGS 84", "wgs-84", "WGS_1984", "World Geodetic System 1984")
    ),
    Position(
        "old Japanese telephones",
        {**TOKYO, 18: "TOKYO"},
        (35.664740, 139.738169),
        codes=("datum-converted",),
    ),
    Position("JGD2000 is WGS84 within a metre", {**TOKYO, 18: "JGD2000"}, (35.6615, 139.7414)),
    Position(
        "receivers set to NAD27",
        {1: "N", 2: (40.0, 0.0, 0.0), 3: "W", 4: (100.0, 0.0, 0.0), 18: "NAD27"},
        (39.999997, -100.000416),
        codes=("datum-converted",),
    ),
    Position(
        "receivers set to European 1950",
        {1: "N", 2: (48.0, 0.0, 0.0), 3: "E", 4: (2.0, 0.0, 0.0), 18: "ED50"},
        (47.999062, 1.998740),
        codes=("datum-converted",),
    ),
    Position(
        "Chinese map services",
        {1: "N", 2: (39.9, 0.0, 0.0), 3: "E", 4: (116.4, 0.0, 0.0), 18: "GCJ-02"},
        (39.9, 116.4),
        codes=("datum-unknown",),
    ),
]


@pytest.mark.parametrize("case", POSITIONS, ids=lambda case: case.source)
def test_position(case: Position) -> None:
    facts = facts_of(photograph(case.gps))
    assert tuple(note.code for note in facts.notes) == case.codes
    if case.deg is None:
        assert case.refused
        assert facts.problem is not None
        assert case.refused in facts.problem
        assert facts.lat_deg is None or facts.lon_deg is None or np.isnan([facts.lat_deg, facts.lon_deg]).any()
    else:
        assert facts.problem is None
        assert facts.lat_deg is not None
        assert facts.lon_deg is not None
        np.testing.assert_allclose([facts.lat_deg, facts.lon_deg], case.deg, atol=1e-6)


@pytest.mark.parametrize("case", POSITIONS, ids=lambda case: case.source)
def test_service_compares_with_the_same_position(case: Position) -> None:
    position = Encoded(photograph(case.gps), Preprocess(size_px=8), 10_000, with_exif=True).decode().exif_deg
    if case.deg is None or "datum-unknown" in case.codes:
        assert position is None
    else:
        np.testing.assert_allclose(position, case.deg, atol=1e-6)


@dataclass(frozen=True)
class Value:
    """Tags, an XMP packet, and the value of one attribute that follows from them."""

    source: str
    expected: Any
    gps: dict[int, Any] = field(default_factory=dict)
    details: dict[int, Any] = field(default_factory=dict)
    xmp: str | None = None
    codes: tuple[str, ...] = ()


CLOCK, WRONG = "2019-12-29T13:35:13.000", ("gps-date-wrong",)
TIMES = [
    Value(
        "GPS time beside a clock", "2019-12-29T05:35:13.000+00:00", {7: (5.0, 35.0, 13.0), 29: "2019:12:29"}, CAPTURED
    ),
    Value("GPS date never set", CLOCK, {7: (5.0, 35.0, 13.0), 29: "1970:01:01"}, CAPTURED, codes=WRONG),
    Value("GPS date 1024 weeks back", CLOCK, {7: (5.0, 35.0, 13.0), 29: "2000:05:14"}, CAPTURED, codes=WRONG),
    Value("GPS date alone, never set", None, {7: (0.0, 0.0, 13.0), 29: "1980:01:06"}, codes=WRONG),
    Value(
        "GPS date across midnight", "2019-12-30T00:35:13.000+00:00", {7: (0.0, 35.0, 13.0), 29: "2019:12:30"}, CAPTURED
    ),
    Value(
        "modified years after the GPS date",
        "2019-12-29T05:35:13.000+00:00",
        {7: (5.0, 35.0, 13.0), 29: "2019:12:29"},
        {0x0132: "2023:01:01 00:00:00"},
    ),
    Value(
        "time in XMP alone",
        "2019-12-29T05:35:13.170+00:00",
        xmp=packet(exif_DateTimeOriginal="2019-12-29T13:35:13.17+08:00"),
    ),
]


@pytest.mark.parametrize("case", TIMES, ids=lambda case: case.source)
def test_time(case: Value) -> None:
    facts = facts_of(photograph(case.gps, case.details, case.xmp))
    assert facts.captured_at == case.expected
    assert tuple(note.code for note in facts.notes) == case.codes


MAGNETIC = ("heading-magnetic",)
HEADINGS = [
    Value("from true north", 90.5, {16: "T", 17: 90.5}),
    Value("from magnetic north", None, {16: "M", 17: 90.5}, codes=MAGNETIC),
    Value("panorama in XMP", 271.5, xmp=packet(GPano_PoseHeadingDegrees="271.5")),
    Value("magnetic in EXIF, true in XMP", 95.25, {16: "M", 17: 90.5}, xmp=packet(GPano_PoseHeadingDegrees="95.25")),
    Value("fraction in XMP", 271.5, xmp=packet(exif_GPSImgDirection="2715/10", exif_GPSImgDirectionRef="T")),
    Value(
        "magnetic in XMP", None, xmp=packet(exif_GPSImgDirection="2715/10", exif_GPSImgDirectionRef="M"), codes=MAGNETIC
    ),
]


@pytest.mark.parametrize("case", HEADINGS, ids=lambda case: case.source)
def test_heading(case: Value) -> None:
    facts = facts_of(photograph(case.gps, case.details, case.xmp))
    assert facts.heading_deg == (None if case.expected is None else pytest.approx(case.expected))
    assert tuple(note.code for note in facts.notes) == case.codes


FROM_XMP = ("position-from-xmp",)
MINUTES = packet(exif_GPSLatitude="53,48.0480N", exif_GPSLongitude="1,32.946W")
XMP_POSITIONS = [
    Value("degrees and minutes", HERE_DEG, xmp=MINUTES, codes=FROM_XMP),
    Value(
        "degrees, minutes and seconds",
        HERE_DEG,
        xmp=packet(exif_GPSLatitude="53,48,2.88N", exif_GPSLongitude="1,32,56.76W"),
        codes=FROM_XMP,
    ),
    Value(
        "properties as elements",
        HERE_DEG,
        xmp=packet()
        .replace("/></rdf:RDF>", "><exif:GPSLatitude>53,48.0480N</exif:GPSLatitude></rdf:Description></rdf:RDF>")
        .replace("</rdf:Desc", "<exif:GPSLongitude>1,32.946W</exif:GPSLongitude></rdf:Desc"),
        codes=FROM_XMP,
    ),
    Value("EXIF first", HERE_DEG, HERE, xmp=MINUTES),
    Value(
        "EXIF first, XMP elsewhere",
        HERE_DEG,
        HERE,
        xmp=packet(exif_GPSLatitude="53,49.0480N", exif_GPSLongitude="1,32.946W"),
        codes=("xmp-elsewhere",),
    ),
    Value(
        "another datum in XMP",
        (35.664740, 139.738169),
        xmp=packet(exif_GPSLatitude="35,39.69N", exif_GPSLongitude="139,44.484E", exif_GPSMapDatum="TOKYO"),
        codes=("datum-converted", *FROM_XMP),
    ),
    Value("no letter", None, xmp=packet(exif_GPSLatitude="53.8008", exif_GPSLongitude="1.5491"), codes=FROM_XMP),
    Value("cut short", None, xmp=MINUTES[:-40], codes=("xmp-unreadable",)),
    Value("declares entities", None, xmp='<!DOCTYPE x [<!ENTITY a "a">]>' + MINUTES, codes=("xmp-unreadable",)),
]


@pytest.mark.parametrize("case", XMP_POSITIONS, ids=lambda case: case.source)
@pytest.mark.parametrize("sidecar", [False, True], ids=["packet", "sidecar"])
def test_xmp_position(case: Value, sidecar: bool) -> None:
    beside = ("IMG.jpg.xmp", (case.xmp or "").encode()) if sidecar else None
    facts = facts_of(photograph(case.gps, case.details, None if sidecar else case.xmp), beside)
    assert tuple(note.code for note in facts.notes) == case.codes
    if case.expected is None:
        assert facts.lat_deg is None
    else:
        np.testing.assert_allclose(np.array([facts.lat_deg, facts.lon_deg], float), case.expected, atol=1e-6)


@pytest.mark.parametrize("name", ["IMG.jpg.xmp", "IMG.xmp", "IMG.XMP"])
def test_prepare_reads_sidecars_and_names_what_it_converted(tmp_path: Path, name: str) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "IMG.jpg").write_bytes(photograph({16: "M", 17: 90.5}))
    (photos / name).write_text(MINUTES, encoding="utf-8")
    (photos / "old.jpg").write_bytes(photograph({**TOKYO, 18: "TOKYO"}))
    (photos / "bad.jpg").write_bytes(photograph({**HERE, 2: (53.0, 4805.0, 0.0)}))
    result = prepare(photos, tmp_path / "out")
    np.testing.assert_allclose(result.manifest.positions_deg, [HERE_DEG, (35.664740, 139.738169)], atol=1e-6)
    assert result.manifest.frame["heading_deg"].isna().all()
    notes = {note.code: note for note in result.notes}
    assert set(notes) == {"position-from-xmp", "datum-converted", "heading-magnetic"}
    assert f"IMG.jpg): the position is from {name}" in notes["position-from-xmp"].detail
    assert "old.jpg): the position in the datum TOKYO was converted" in notes["datum-converted"].detail
    (rejected,) = result.rejected.to_dict("records")
    assert (rejected["image"], rejected["reason"]) == ("bad.jpg", "exif-position-unusable")
    assert "4805 minutes" in rejected["detail"]


def test_edited_sidecar_is_read_again_after_an_interruption(tmp_path: Path) -> None:
    image, beside = tmp_path / "IMG.jpg", tmp_path / "IMG.jpg.xmp"
    image.write_bytes(photograph({18: "X", 16: "M", 17: 90.5}))
    beside.write_text(MINUTES, encoding="utf-8")
    verdict = verify_photograph(image, 10_000)
    with WorkFile(tmp_path / "work", 10_000) as work:
        work.add(image, verdict)
    with WorkFile(tmp_path / "work", 10_000) as work:
        assert work.get(image) == verdict
        beside.unlink()
        assert work.get(image) is None
