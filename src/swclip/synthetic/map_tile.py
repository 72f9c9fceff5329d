"""Map tiles: a map of the city, drawn once and cropped around an approximate position of each photograph.

A tile simulates a crop of a town map by somebody who knows the position only roughly. Its centre is offset from the
camera by a vector drawn uniformly from a disc, so that the centre reveals the position only up to this disc.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from swclip.synthetic.buildings import BLANK, HOUSE, OFFICE, SHOP
from swclip.synthetic.captures import Capture
from swclip.synthetic.ground import outline
from swclip.synthetic.scene import TREE, Scene, build_scene
from swclip.synthetic.streets import HALF_EXTENT_M, MARGIN_M, Points

TILE_PX = 128
TILE_M = 128.0
"""Side of a tile in metres; north is up."""
OFFSET_M = 30.0
"""Radius of the disc from which the offset of a tile's centre is drawn, metres; the mean offset is 20 m."""

_FINE = 4
"""Oversampling of the map relative to tiles, along each side; averaging smooths the edges."""
_SCALE = _FINE * TILE_PX / TILE_M
_REACH_M = HALF_EXTENT_M + MARGIN_M + 0.5 * TILE_M

(
    _PAVEMENT, _LAND, _GARDEN, _PARK, _SQUARE, _CASING, _LANE, _SIDE_STREET, _MAIN_STREET, _AVENUE,
    _HOME, _SHOPS, _OFFICES, _OTHER, _WALL, _CROWN, _CROWN_EDGE, _DOT, _DOT_EDGE,
) = range(19)  # fmt: skip
_COLOURS = (
    (232, 229, 223), (243, 240, 233), (221, 232, 203), (190, 222, 170), (236, 227, 206), (196, 190, 180),
    (247, 246, 242), (255, 255, 255), (255, 240, 184), (252, 212, 140), (216, 205, 191), (233, 190, 163),
    (186, 196, 216), (204, 202, 200), (150, 138, 126), (128, 183, 116), (98, 154, 90), (214, 69, 65), (255, 255, 255),
)  # fmt: skip
_ROADS = (_AVENUE, _MAIN_STREET, _SIDE_STREET, _LANE)
_USES = {HOUSE: _HOME, SHOP: _SHOPS, OFFICE: _OFFICES, BLANK: _OTHER}


def _pixels(points_m: Points) -> list[tuple[float, float]]:
    return [((x + _REACH_M) * _SCALE, (_REACH_M - y) * _SCALE) for x, y in points_m.tolist()]


def draw_map(scene: Scene) -> Image.Image:
    """Draw the map of a city with indexed colours.

    Args:
        scene: The city.

    Returns:
        An image of mode P with north up and four pixels per metre; it extends `HALF_EXTENT_M + MARGIN_M` and half a
        tile to each side.
    """
    side = int(2 * _REACH_M * _SCALE)
    image = Image.new("P", (side, side), _PAVEMENT)
    image.putpalette([value for colour in _COLOURS for value in colour])
    draw = ImageDraw.Draw(image)
    plan, buildings = scene.plan, scene.buildings
    for block in plan.blocks:
        fill = {"built": _LAND, "park": _PARK, "square": _SQUARE}[block.kind]
        draw.polygon(_pixels(outline(plan, block.corners)), fill=fill)
    for quad in scene.gardens:
        draw.polygon(_pixels(quad), fill=_GARDEN)
    for number, quad in enumerate(scene.footprints):
        corners = _pixels(quad)
        draw.polygon(corners, fill=_USES[int(buildings.use[number])])
        draw.line([*corners, corners[0]], fill=_WALL, width=2)  # the outline option of polygon is slow on large images
    _draw_streets(draw, scene)
    trees = np.flatnonzero(scene.props.kind == TREE)
    for i in trees.tolist():
        radius = 0.26 * float(scene.props.height_m[i])
        _disc(draw, scene.props.position_m[i], radius, _CROWN, _CROWN_EDGE)
    for number in np.flatnonzero(buildings.use == SHOP).tolist():
        front, back = scene.footprints[number, :2].mean(axis=0), scene.footprints[number, 2:].mean(axis=0)
        _disc(draw, front + 0.25 * (back - front), 1.5, _DOT, _DOT_EDGE)
    return image


def _draw_streets(draw: ImageDraw.ImageDraw, scene: Scene) -> None:
    """Draw streets with edges, wide ones over narrow ones; edges come first, so that junctions are open."""
    lines = []
    for number, street in enumerate(scene.plan.streets):
        stations = np.linspace(0.0, street.length_m, max(2, int(street.length_m / 8.0) + 1))
        lines.append(scene.plan.centre_line(number, stations)[0])
    order = sorted(range(len(lines)), key=lambda number: (-scene.plan.streets[number].rank, number))
    for edge_m in (0.7, 0.0):
        for number in order:
            street = scene.plan.streets[number]
            colour = _CASING if edge_m else _ROADS[street.rank]
            half = street.half_road_m + edge_m
            draw.line(_pixels(lines[number]), fill=colour, width=round(2.0 * half * _SCALE), joint="curve")
            for end in (lines[number][0], lines[number][-1]):
                _disc(draw, end, half, colour, colour)


def _disc(draw: ImageDraw.ImageDraw, centre_m: Points, radius_m: float, fill: int, edge: int) -> None:
    (x, y), r = _pixels(centre_m[None])[0], radius_m * _SCALE
    draw.ellipse([x - r, y - r, x + r, y + r], fill=fill, outline=edge, width=2)


@lru_cache(maxsize=1)
def _city_map(city: int, seed: int) -> Image.Image:
    return draw_map(build_scene(city, seed))


def tile_centre(city: int, capture: Capture, seed: int) -> NDArray[np.float64]:
    """Return (2,) east, north in metres of the centre of a photograph's tile: the camera position plus an offset drawn
    uniformly from a disc of radius `OFFSET_M`."""
    rng = np.random.default_rng([seed, city, 10, capture.index])
    angle, radius = 2.0 * np.pi * rng.random(), OFFSET_M * np.sqrt(rng.random())
    return np.asarray(capture.position_m + radius * np.array([np.cos(angle), np.sin(angle)]))


def map_tile(city: int, capture: Capture, seed: int) -> Image.Image:
    """Return the map tile of one photograph; it depends only on the seed, the city and the index of the photograph.

    Args:
        city: Number of the city.
        capture: The photograph.
        seed: Seed of the data set.

    Returns:
        RGB picture with sides of `TILE_PX`.
    """
    (x, y) = _pixels(tile_centre(city, capture, seed)[None])[0]
    half = _FINE * TILE_PX // 2
    left, top = round(x) - half, round(y) - half
    crop = _city_map(city, seed).crop((left, top, left + 2 * half, top + 2 * half))
    return crop.convert("RGB").reduce(_FINE)
