"""`prepare --views`: panoramas become rows, which no split separates."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from swclip.cli.options import ViewsOptions
from swclip.data.manifest import Manifest, read_manifest
from swclip.data.protocols import split
from swclip.errors import ConfigError, InputError
from swclip.imaging import panoramas
from swclip.imaging.decode import decode_photograph
from swclip.imaging.panoramas import Panorama, ViewOptions
from swclip.ingest.panorama_views import panorama_from_gpano
from swclip.ingest.prepare import PrepareResult, prepare
from swclip.ingest.xmp import gpano_of_xmp

SMALL = ViewOptions(views=4, width_px=24, height_px=24)


def smooth(seed: int, width: int = 128, height: int = 64) -> Image.Image:
    """A picture without seam: its colours are waves of whole periods that vanish at the poles."""
    rng = np.random.default_rng(seed)
    lon = (np.arange(width) + 0.5) / width * 2 * np.pi
    lat = np.sin((np.arange(height) + 0.5) / height * np.pi)[:, None]
    waves = [sum(np.sin(k * lon + rng.uniform(0, 6)) for k in (1, 2, 5)) * lat for _ in range(3)]
    return Image.fromarray(np.round(127 + 40 * np.stack(waves, axis=-1)).clip(0, 255).astype(np.uint8))


def packet(as_elements: bool = False, **properties: object) -> bytes:
    values = {"ProjectionType": "equirectangular", **properties}
    if as_elements:
        attributes, inside = "", "".join(f"<G:{name}>{value}</G:{name}>" for name, value in values.items())
    else:
        attributes, inside = " ".join(f'G:{name}="{value}"' for name, value in values.items()), ""
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<r:Description r:about="" xmlns:G="http://ns.google.com/photos/1.0/panorama/" {attributes}>{inside}'
        "</r:Description></r:RDF></x:xmpmeta>"
    ).encode()


def notes(result: PrepareResult) -> dict[str, int]:
    return {note.code: note.count for note in result.notes}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A table of a GPano panorama, one in a sidecar, one without metadata, and pictures that are none."""
    folder = tmp_path / "in"
    folder.mkdir()
    smooth(0).save(folder / "gpano.jpg", xmp=packet(PoseHeadingDegrees=30, PosePitchDegrees=5, PoseRollDegrees=-3))
    smooth(1).save(folder / "sidecar.jpg")
    (folder / "sidecar.xmp").write_bytes(packet(as_elements=True, PoseHeadingDegrees=200.5))
    smooth(2).save(folder / "plain.png")
    rng = np.random.default_rng(3)
    for name in ("wide.png", "photo.png"):
        coarse = rng.integers(0, 256, (7, 13, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((128, 64 if name == "wide.png" else 96)).save(folder / name)
    smooth(4).save(folder / "other.jpg", xmp=packet(ProjectionType="cylindrical"))
    (folder / "t.csv").write_text(
        "image,lat,lon,heading,place,colour\n"
        "gpano.jpg,52.1,0.1,,,red\nsidecar.jpg,52.2,0.1,90,p1,green\nplain.png,52.100001,0.1,,,\n"
        "wide.png,52.4,0.1,10,,\nphoto.png,52.100002,0.1,20,,\nother.jpg,52.6,0.1,,,\n"
    )
    return folder / "t.csv"


def test_each_panorama_becomes_rows_with_heading_place_and_group(source: Path, tmp_path: Path) -> None:
    result = prepare(source, tmp_path / "out", views=SMALL)
    frame = read_manifest(tmp_path / "out").frame.set_index("image_id")
    assert list(frame.index) == [
        *(f"gpano_h{h}" for h in ("000", "090", "180", "270")),
        *(f"sidecar_h{h}" for h in ("000", "090", "180", "270")),
        *(f"plain_c{h}" for h in ("000", "090", "180", "270")),
        "wide", "photo", "other",
    ]  # fmt: skip
    assert frame["heading_deg"].tolist()[:8] == [0.0, 90.0, 180.0, 270.0] * 2
    assert frame["heading_deg"].isna().tolist() == [False] * 8 + [True] * 4 + [False, False, True]
    assert frame["panorama_id"].tolist() == ["gpano"] * 4 + ["sidecar"] * 4 + ["plain"] * 4 + [None] * 3
    # A place of the table stays; within 1 m of a view there is one place, as splits see it.
    assert frame["place_id"].tolist() == ["gpano"] * 4 + ["p1"] * 4 + ["gpano"] * 4 + [None, "gpano", None]
    assert frame["fov_deg"].tolist()[:12] == [90.0] * 12
    assert math.isnan(frame["fov_deg"]["wide"])
    assert frame["colour"].tolist()[:8] == ["red"] * 4 + ["green"] * 4
    assert frame["image_path"]["gpano_h090"] == "views/gpano_h090.jpg"
    assert {decode_photograph(path).size for path in result.manifest.image_paths[:12]} == {(24, 24)}
    assert notes(result) == {
        "panorama-unusable": 1,
        "panorama-by-edges": 1,
        "panorama-by-shape": 1,
        "panorama-views": 12,
        "panorama-heading-unknown": 1,
    }


def test_the_table_states_the_heading_before_the_packet(source: Path, tmp_path: Path) -> None:
    """The table says that the panorama's centre looks east, so the view to the east is its centre."""
    prepare(source, tmp_path / "out", views=SMALL)
    view = np.asarray(decode_photograph(tmp_path / "out/views/sidecar_h090.jpg"), dtype=float)
    panorama = decode_photograph(source.parent / "sidecar.jpg")
    centre = next(panoramas.perspective_views(panorama, Panorama("gpano", 0.0), SMALL, headings_deg=[0.0]))
    assert np.abs(view - centre).mean() < 4


def test_which_pictures_are_panoramas_can_be_chosen(source: Path, tmp_path: Path) -> None:
    whole = prepare(source, tmp_path / "whole")
    assert len(whole.manifest) == 6
    assert notes(whole) == {"panorama": 3}
    for which, views, kinds in (("gpano", 8, {"gpano", "sidecar"}), ("all", 16, {"gpano", "sidecar", "plain", "wide"})):
        options = ViewOptions(views=4, width_px=8, height_px=8, panoramas=which)  # type: ignore[arg-type]
        result = prepare(source, tmp_path / which, views=options)
        assert notes(result)["panorama-views"] == views
        assert set(result.manifest.frame["panorama_id"].dropna()) == kinds


def test_a_manifest_of_whole_panoramas_is_a_source(source: Path, tmp_path: Path) -> None:
    """As `swclip fetch` leaves one: the views are those that the table of photographs gives."""
    whole = prepare(source, tmp_path / "whole").manifest
    again = prepare(whole.path, tmp_path / "again", views=SMALL)
    direct = prepare(source, tmp_path / "direct", views=SMALL)
    columns = ["image_id", "heading_deg", "place_id", "panorama_id", "fov_deg", "colour"]
    pd.testing.assert_frame_equal(again.manifest.frame[columns], direct.manifest.frame[columns])
    for one, other in zip(again.manifest.image_paths[:12], direct.manifest.image_paths[:12], strict=True):
        assert one.read_bytes()[-100:] == other.read_bytes()[-100:]


def test_copies_only_what_stays_whole(source: Path, tmp_path: Path) -> None:
    result = prepare(source, tmp_path / "out", views=SMALL, copy=True)
    assert sorted(path.name for path in (tmp_path / "out/images").iterdir()) == ["other.jpg", "photo.png", "wide.png"]
    assert all(path.is_file() and tmp_path / "out" in path.parents for path in result.manifest.image_paths)


def test_second_run_makes_nothing_anew(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare(source, tmp_path / "out", views=SMALL)
    (tmp_path / "out/views/gpano_h090.jpg").unlink()
    rendered: list[float] = []
    real = panoramas.perspective_views

    def counted(picture, panorama, options, headings_deg=None):  # type: ignore[no-untyped-def]
        rendered.extend(headings_deg)
        return real(picture, panorama, options, headings_deg)

    monkeypatch.setattr(panoramas, "perspective_views", counted)
    calls: list[tuple[int, int]] = []
    again = prepare(source, tmp_path / "out", views=SMALL, progress=lambda done, total: calls.append((done, total)))
    assert rendered == [90.0]
    assert again.manifest.digest == first.manifest.digest
    assert calls[-1] == (9, 9), "six photographs, then three panoramas"


def test_no_split_separates_the_views_of_a_panorama(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "in"
    folder.mkdir()
    lines = ["image,lat,lon,sequence,city"]
    for k in range(40):
        smooth(k, 32, 16).save(folder / f"{k}.jpg", xmp=packet())
        if k % 2 == 0:  # two passes over each place
            lat, lon = 52.0 + rng.integers(40) / 2_000, rng.integers(40) / 2_000
        lines.append(f"{k}.jpg,{lat},{lon},s{k % 3},{'AB'[k // 20]}")
    (folder / "t.csv").write_text("\n".join(lines))
    manifest = prepare(folder / "t.csv", tmp_path / "out", views=ViewOptions(views=3, width_px=4, height_px=4)).manifest
    assert len(manifest) == 120
    cases = [("known-places", "place"), ("known-places", "capture"), ("new-streets", "auto"), ("new-city", "auto")]
    for protocol, hold_out in cases:
        for seed in range(5):
            draft = split(manifest, protocol, hold_out=hold_out, seed=seed, buffer_m=5.0)  # type: ignore[arg-type]
            parts = draft.frame["split"].groupby(manifest.frame["panorama_id"]).nunique()
            assert parts.max() == 1, (protocol, hold_out, seed)
            assert draft.frame["split"].nunique() > 1


def test_named_places_leave_every_split_as_it_was(tmp_path: Path) -> None:
    """Grouping by the new place ids is that by position, so a split of the panoramas is that of their views."""
    folder = tmp_path / "in"
    folder.mkdir()
    lines = ["image,lat,lon,sequence"]
    for k in range(24):
        smooth(k, 32, 16).save(folder / f"{k:02d}.jpg", xmp=packet())
        lines.append(f"{k:02d}.jpg,{52 + k // 3 / 1_000 + k % 3 * 4e-6},0,s{k % 3}")
    (folder / "t.csv").write_text("\n".join(lines))
    whole = prepare(folder / "t.csv", tmp_path / "whole").manifest
    views = prepare(folder / "t.csv", tmp_path / "views", views=ViewOptions(views=2, width_px=4, height_px=4)).manifest
    assert views.frame["place_id"].nunique() == 8

    def parts(manifest: Manifest) -> list[str]:
        draft = split(manifest, "known-places", hold_out="capture", seed=1)
        return draft.frame["split"].tolist()

    assert [name for name in parts(whole) for _ in range(2)] == parts(views)


def test_gpano_is_read_and_contradictions_are_named() -> None:
    whole = {"ProjectionType": "equirectangular"}
    assert panorama_from_gpano({}, 200, 100) is None
    assert panorama_from_gpano({"PoseHeadingDegrees": "20"}, 200, 100) is None
    assert panorama_from_gpano(whole, 200, 100) == Panorama("gpano")
    area = {
        "FullPanoWidthPixels": 8000, "FullPanoHeightPixels": 4000, "CroppedAreaImageWidthPixels": 6000,
        "CroppedAreaImageHeightPixels": 3000, "CroppedAreaLeftPixels": 1000, "CroppedAreaTopPixels": 400,
        "PoseHeadingDegrees": -10, "PosePitchDegrees": 2.5, "PoseRollDegrees": -4,
    }  # fmt: skip
    properties = {name: str(value) for name, value in area.items()}
    expected = Panorama("gpano", 350.0, 2.5, -4.0, 0.125, 0.1, 0.75, 0.75)
    assert panorama_from_gpano(whole | properties, 6000, 3000) == expected
    assert panorama_from_gpano(properties, 600, 300) == expected, "resized, and without the name of the projection"
    assert gpano_of_xmp(packet(**area)) == whole | properties
    problems = {
        "its projection is 'fisheye'": {"ProjectionType": "fisheye"},
        "PoseRollDegrees is 'level', not a number": {"PoseRollDegrees": "level"},
        "not inside of it": {"CroppedAreaTopPixels": "2000"},
        "but the picture has 600 x 100": {},
        "a pitch of 100": {"PosePitchDegrees": "100"},
        "an area of -1": {"CroppedAreaImageWidthPixels": "-1"},
    }
    for message, changed in problems.items():
        size = (600, 100) if not changed else (600, 300)
        panorama = panorama_from_gpano(whole | properties | changed, *size)
        assert panorama is not None
        assert message in str(panorama.problem)


def test_options_of_the_command_line() -> None:
    assert ViewsOptions().options() is None
    chosen = ViewsOptions(view_headings=[0.0, 120.0], view_fov=60.0, view_size="320x240", level=False)
    assert chosen.options("all") == ViewOptions(
        None, (0.0, 120.0), fov_deg=60.0, width_px=320, height_px=240, level=False, panoramas="all"
    )
    square = ViewsOptions(views=8, view_size="128", view_pitch=10.0).options()
    assert square == ViewOptions(8, pitch_deg=10.0, width_px=128, height_px=128)
    with pytest.raises(ConfigError, match="add --views 4"):
        ViewsOptions(view_fov=60.0).options()
    with pytest.raises(ConfigError, match="add --views 4"):
        ViewsOptions().options("all")
    with pytest.raises(ConfigError, match="--view-size 3x4x5"):
        ViewsOptions(views=4, view_size="3x4x5").options()


def test_views_are_not_written_into_the_folder_of_the_panoramas(source: Path) -> None:
    with pytest.raises(InputError, match="choose another --out"):
        prepare(source.parent, source.parent, views=4)
