"""Rows and columns of walls against closed forms of the perspective."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.synthetic.camera import HORIZON, Camera
from swclip.synthetic.visibility import blocks_of, find_spans, pixels_of
from swclip.synthetic.walls import FRONT, Walls


def _wall_ahead(camera: Camera, depth_m: float, left_m: float, right_m: float, height_m: float) -> Walls:
    """Return a wall across the view, with its outside towards the camera."""
    origin = np.array([camera.east_m, camera.north_m]) + depth_m * camera.forward
    # The outside is to the right of the direction from first to second, which is from left to right for the camera.
    ends = np.array([[origin + left_m * camera.right, origin + right_m * camera.right]])
    return Walls.of(ends, height_m, 0.0, FRONT, 0)


@settings(deadline=None, max_examples=60)
@given(
    heading=st.floats(0.0, 360.0),
    depth=st.floats(4.0, 60.0),
    height=st.floats(4.0, 25.0),
    size=st.sampled_from([96, 161, 256]),  # the wall is more than three rows high
)
def test_rows_of_a_wall_match_its_height_and_distance(heading: float, depth: float, height: float, size: int) -> None:
    camera = Camera(120.0, -45.0, heading, size)
    spans = find_spans(camera, _wall_ahead(camera, depth, -300.0, 300.0, height))
    assert len(spans.column) == size  # every column hits it
    focal = 0.5 * size / np.tan(np.radians(41.0))
    top = HORIZON * size - focal * (height - 2.4) / depth
    foot = HORIZON * size + focal * 2.4 / depth
    np.testing.assert_allclose(spans.depth_m, depth, rtol=1e-4)
    assert np.abs(spans.first - max(top, 0.0)).max() <= 0.51
    assert np.abs(spans.last - min(foot, size)).max() <= 0.51


@settings(deadline=None, max_examples=60)
@given(heading=st.floats(0.0, 360.0), depth=st.floats(5.0, 60.0), bearing=st.floats(-38.0, 38.0))
def test_column_of_a_wall_matches_its_bearing(heading: float, depth: float, bearing: float) -> None:
    size = 200
    camera = Camera(0.0, 0.0, heading, size)
    middle = depth * np.tan(np.radians(bearing))
    spans = find_spans(camera, _wall_ahead(camera, depth, middle - 0.4, middle + 0.4, 8.0))
    if not len(spans.column):
        pytest.fail("the wall is not in the picture")
    focal = 0.5 * size / np.tan(np.radians(41.0))
    expected = 0.5 * size + focal * np.tan(np.radians(bearing))
    low, high = expected - focal * 0.4 / depth, expected + focal * 0.4 / depth
    middles = spans.column + 0.5
    assert (middles >= low - 1e-3).all()
    assert (middles <= high + 1e-3).all()
    assert len(middles) >= np.floor(min(high, size) - max(low, 0)) - 1


def test_walls_are_visible_from_the_outside_only() -> None:
    camera = Camera(0.0, 0.0, 30.0, 64)
    wall = _wall_ahead(camera, 10.0, -5.0, 5.0, 6.0)
    behind = Walls.of(wall.ends[:, ::-1], 6.0, 0.0, FRONT, 0)
    assert len(find_spans(camera, wall).column)
    assert not len(find_spans(camera, behind).column)


def test_spans_match_a_loop_over_pixels() -> None:
    rng = np.random.default_rng(3)
    size = 40
    camera = Camera(0.0, 0.0, 0.0, size)
    centre = rng.uniform([-12, 3], [12, 30], (30, 2))
    away = rng.normal(0.0, 3.0, (30, 2))
    walls = Walls.of(
        np.stack([centre - away, centre + away], axis=1), rng.uniform(1.0, 9.0, 30), 0.0, FRONT, np.arange(30)
    )
    pixels = pixels_of(camera, spans := find_spans(camera, walls))
    owners = np.full(size * size, -1)
    owners[pixels.place] = walls.owner[spans.wall[pixels.span]]
    expected = np.full(size * size, -1)
    for column in range(size):
        slope = (column + 0.5 - size / 2) / camera.focal_px
        for row in range(size):
            nearest = np.inf
            for i, ((x0, z0), (x1, z1)) in enumerate(walls.ends.astype(float)):
                if x0 * (z1 - z0) - z0 * (x1 - x0) >= 0:  # visible from behind
                    continue
                t = (slope * z0 - x0) / ((x1 - x0) - slope * (z1 - z0))
                z = z0 + t * (z1 - z0)
                if not 0 <= t <= 1 or z <= 0.6:
                    continue
                height = camera.height_m + (camera.horizon_px - row - 0.5) / camera.focal_px * z
                if 0 <= height <= walls.top_m[i] and z < nearest:
                    nearest, expected[column * size + row] = z, i
    assert (owners != expected).mean() < 0.002  # edges at the centre of a pixel


def test_height_of_a_pixel_is_on_the_wall() -> None:
    camera = Camera(5.0, 5.0, 77.0, 80)
    spans = find_spans(camera, _wall_ahead(camera, 12.0, -20.0, 20.0, 7.0))
    heights = pixels_of(camera, spans).height_m
    assert heights.min() > -0.1
    assert heights.max() < 7.1


def test_blocks_cover_the_pixels_of_their_span() -> None:
    camera = Camera(5.0, 5.0, 200.0, 64)
    spans = find_spans(camera, _wall_ahead(camera, 9.0, -3.0, 8.0, 5.3))
    pixels = pixels_of(camera, spans)
    for block in (1, 2, 3):
        blocks, number = blocks_of(camera, spans, block)
        assert (blocks.span[number] == pixels.span).all()
        # The middle of a block is at most half its height from each of its pixels.
        metres_a_row = spans.depth_m[pixels.span] / camera.focal_px
        assert (np.abs(blocks.height_m[number] - pixels.height_m) <= 0.5 * block * metres_a_row + 1e-4).all()
