"""Views of panoramas whose colours are directions: every pixel has the colour of the direction that it shows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from swclip.errors import ConfigError
from swclip.imaging.panoramas import (
    Panorama,
    ViewOptions,
    covered_share,
    perspective_views,
    view_suffix,
    write_views,
)

WIDTH = 512


def camera_axes(heading_deg: float, pitch_deg: float, roll_deg: float) -> np.ndarray:
    """The directions (east, up, north) to the right of a camera, above it and before it, from the definition of GPano.

    Its centre has the heading and is raised by the pitch; with a positive roll the horizon rises to the right.
    """
    heading, pitch, roll = np.radians([heading_deg, pitch_deg, roll_deg])
    forward = np.array([math.sin(heading) * math.cos(pitch), math.sin(pitch), math.cos(heading) * math.cos(pitch)])
    level_right = np.array([math.cos(heading), 0.0, -math.sin(heading)])
    level_up = np.cross(forward, level_right)
    right = math.cos(roll) * level_right - math.sin(roll) * level_up
    return np.stack([right, np.cross(forward, right), forward])


def directions_of_panorama(width: int, height: int) -> np.ndarray:
    """(H, W, 3) right, up and forward of each pixel of an equirectangular picture."""
    lon = (np.arange(width) + 0.5) / width * 2.0 * np.pi - np.pi
    lat = np.pi / 2.0 - (np.arange(height) + 0.5)[:, None] / height * np.pi
    return np.stack([np.cos(lat) * np.sin(lon), np.sin(lat) + 0.0 * lon, np.cos(lat) * np.cos(lon)], axis=-1)


def colour_panorama(pose: tuple[float, float, float], width: int = WIDTH) -> np.ndarray:
    world = directions_of_panorama(width, width // 2) @ camera_axes(*pose)
    return np.round(world * 127.5 + 127.5).astype(np.uint8)


def expected_directions(options: ViewOptions, heading_deg: float) -> np.ndarray:
    """(H, W, 3) the direction of each pixel of a level pinhole camera."""
    focal = options.width_px / 2.0 / math.tan(math.radians(options.fov_deg) / 2.0)
    x = (np.arange(options.width_px) + 0.5 - options.width_px / 2.0) / focal
    y = (options.height_px / 2.0 - 0.5 - np.arange(options.height_px))[:, None] / focal
    rays = np.stack(np.broadcast_arrays(x, y, 1.0), axis=-1)
    unit = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    return np.asarray(unit @ camera_axes(heading_deg, options.pitch_deg, 0.0))


def largest_error(pose: tuple[float, float, float], options: ViewOptions, width: int = WIDTH) -> float:
    """Largest difference of a colour of the views from that of its direction, of 255."""
    panorama = Panorama("gpano", *pose)
    views = list(perspective_views(colour_panorama(pose, width), panorama, options))
    pairs = zip(views, options.directions_deg, strict=True)
    return max(
        float(np.abs(view - (expected_directions(options, heading) * 127.5 + 127.5)).max()) for view, heading in pairs
    )


@settings(max_examples=30, deadline=None)
@given(
    heading=st.floats(0, 360, exclude_max=True),
    pitch=st.floats(-90, 90),
    roll=st.floats(-179, 180),
    direction=st.floats(0, 359),
    raised=st.floats(-90, 90),
    fov=st.floats(30, 120),
)
def test_every_pixel_shows_its_direction(
    heading: float, pitch: float, roll: float, direction: float, raised: float, fov: float
) -> None:
    options = ViewOptions(headings_deg=(direction,), fov_deg=fov, pitch_deg=raised, width_px=64, height_px=48)
    # 1.0 is the rounding of both pictures; the rest the curvature of the colours within the pixels of a small panorama.
    assert largest_error((heading, pitch, roll), options) < 1.6


@pytest.mark.parametrize("width", [200, 333, 1024])  # enlarged, of odd width, and reduced
def test_seam_and_poles_have_no_artefacts(width: int) -> None:
    seam = ViewOptions(headings_deg=(175.0, 180.0, 185.0), width_px=160, height_px=120)
    poles = [ViewOptions(headings_deg=(30.0,), pitch_deg=pitch, width_px=120, height_px=120) for pitch in (-90.0, 90.0)]
    for options in (seam, *poles):
        assert largest_error((0.0, 0.0, 0.0), options, width) < 2.0


def test_a_noisy_picture_is_continuous_across_the_seam() -> None:
    """The view across the seam equals the view of the same picture rolled by half, in which the seam is elsewhere."""
    noise = np.random.default_rng(0).integers(0, 256, (128, 256, 3), dtype=np.uint8)
    rolled = np.roll(noise, 128, axis=1)
    for pitch in (0.0, 60.0, -85.0):
        options = ViewOptions(headings_deg=(180.0,), pitch_deg=pitch, width_px=200, height_px=200)
        across = next(perspective_views(noise, Panorama("gpano", 0.0), options)).astype(int)
        elsewhere = next(perspective_views(rolled, Panorama("gpano", 180.0), options)).astype(int)
        assert np.abs(across - elsewhere).max() <= 1


def test_level_is_off_for_panoramas_that_are_levelled_already() -> None:
    picture = colour_panorama((40.0, 0.0, 0.0))
    options = ViewOptions(headings_deg=(90.0,), width_px=64, height_px=64)
    level = next(perspective_views(picture, Panorama("gpano", 40.0), options))
    kept = next(
        perspective_views(
            picture,
            Panorama("gpano", 40.0, 20.0, 10.0),
            ViewOptions(headings_deg=(90.0,), width_px=64, height_px=64, level=False),
        )
    )
    assert np.array_equal(level, kept)


def test_cropped_panorama_shows_its_part_and_black() -> None:
    pose = (70.0, 0.0, 0.0)
    whole = colour_panorama(pose)
    left, top, width, height = 100, 64, 300, 128
    cropped = whole[top : top + height, left : left + width]
    area = Panorama("gpano", *pose, left / WIDTH, top / 256, width / WIDTH, height / 256)
    options = ViewOptions(views=6, width_px=80, height_px=80)
    full = list(perspective_views(whole, Panorama("gpano", *pose), options))
    for heading, expected, view in zip(
        options.directions_deg, full, perspective_views(cropped, area, options), strict=True
    ):
        camera = expected_directions(options, heading) @ camera_axes(*pose).T
        column = (np.arctan2(camera[..., 0], camera[..., 2]) / (2 * np.pi) + 0.5) * WIDTH
        row = (0.5 - np.arcsin(camera[..., 1]) / np.pi) * 256
        inside = (column > left + 1) & (column < left + width - 1) & (row > top + 1) & (row < top + height - 1)
        outside = (column < left - 1) | (column > left + width + 1) | (row < top - 1) | (row > top + height + 1)
        assert not view[outside].any()
        if inside.any():
            assert np.abs(view[inside].astype(int) - expected[inside]).max() <= 2
        assert covered_share(area, options, heading) == pytest.approx(inside.mean(), abs=0.03)


def test_fine_patterns_are_averaged_and_do_not_alias() -> None:
    """A pattern finer than the pixels of a view becomes grey, at its centre and at its edges; point samples do not."""
    stripes = np.zeros((1024, 2048, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    options = ViewOptions(headings_deg=(0.0,), width_px=64, height_px=64)
    view = next(perspective_views(stripes, Panorama("gpano", 0.0), options)).astype(float)
    assert np.abs(view - 127.5).max() < 20


def test_options_that_cannot_work_are_refused() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, "a number of views, or their headings"),
        ({"views": 4, "headings_deg": (0.0,)}, "one of the two"),
        ({"views": 0}, "0 views"),
        ({"headings_deg": (0.0, 360.0)}, "different"),
        ({"views": 4, "fov_deg": 180.0}, "field of view of 180"),
        ({"views": 4, "pitch_deg": 91.0}, "pitch of 91"),
        ({"views": 4, "width_px": 0}, "0 x 640"),
        ({"views": 4, "panoramas": "some"}, "'some'"),
    ]
    for options, message in wrong:
        with pytest.raises(ConfigError, match=message):
            ViewOptions(**options)


def test_names_of_views_are_sorted_by_angle() -> None:
    assert [view_suffix(angle, True) for angle in (0.0, 7.5, 90.0, 359.9999)] == ["_h000", "_h007.5", "_h090", "_h000"]
    assert view_suffix(270.0, False) == "_c270"


def test_files_are_written_once_and_rewritten_when_anything_changes(tmp_path: Path) -> None:
    source = tmp_path / "p.jpg"
    Image.fromarray(colour_panorama((0.0, 0.0, 0.0))).save(source, quality=95)
    options = ViewOptions(views=2, width_px=40, height_px=30)
    targets = {heading: tmp_path / f"out/{heading:g}.jpg" for heading in options.directions_deg}
    panorama = Panorama("gpano", 0.0)
    assert write_views(source, panorama, options, targets, "a" * 64) == 2
    with Image.open(targets[180.0]) as view:
        assert view.size == (40, 30)
    assert write_views(source, panorama, options, targets, "a" * 64) == 0
    targets[180.0].write_bytes(b"\xff\xd8")
    assert write_views(source, panorama, options, targets, "a" * 64) == 1
    assert write_views(source, panorama, options, targets, "b" * 64) == 2
    assert write_views(source, Panorama("gpano", 5.0), options, targets, "b" * 64) == 2
    narrow = ViewOptions(views=2, width_px=40, height_px=30, fov_deg=60.0)
    assert write_views(source, Panorama("gpano", 5.0), narrow, targets, "b" * 64) == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.jpg", "180.jpg"]
