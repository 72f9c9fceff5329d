"""Streets and blocks: a square divided recursively by streets, then warped.

Dividing convex polygons by chords gives the features of old towns: long through streets, T-junctions, blocks of many
shapes, and diagonals. The warp is a smooth displacement of the ground that turns straight chords into curves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray

from swclip.synthetic.cities import CityStyle
from swclip.synthetic.fields import SmoothField

HALF_EXTENT_M = 500.0
"""Half the side of the square around the city centre in which photographs are taken (1 km a side)."""
MARGIN_M = 70.0
"""Width of streets and buildings beyond this square, so that no photograph shows the edge of the model."""

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Street:
    """A street between two junctions with other streets, before warping.

    Attributes:
        start: (2,) east, north in metres.
        end: (2,) east, north in metres.
        half_road_m: Distance from the centre line to the kerb.
        pavement_m: Distance from the kerb to the building line.
        rank: 0 avenue, 1 main street, 2 side street, 3 lane.
    """

    start: Points
    end: Points
    half_road_m: float
    pavement_m: float
    rank: int

    @property
    def half_width_m(self) -> float:
        """Distance from the centre line to the building line."""
        return self.half_road_m + self.pavement_m

    @property
    def length_m(self) -> float:
        """Length before warping."""
        return float(np.linalg.norm(self.end - self.start))


@dataclass(frozen=True)
class Block:
    """A convex polygon inside the building lines, counter-clockwise.

    Attributes:
        corners: (K, 2) metres, before warping.
        streets: For each edge (corner i to i + 1), the number of the street in front, -1 for none.
        kind: "built", "park" or "square".
    """

    corners: Points
    streets: tuple[int, ...]
    kind: str


@dataclass(frozen=True)
class Warp:
    """A smooth displacement of the ground, which makes streets curved."""

    east: SmoothField
    north: SmoothField
    amplitude_m: float

    def __call__(self, points: ArrayLike) -> Float[np.ndarray, "n 2"]:
        """Displace (..., 2) points in metres."""
        p = np.asarray(points, dtype=np.float64)
        shift = np.stack([self.east(p[..., 0], p[..., 1]), self.north(p[..., 0], p[..., 1])], axis=-1)
        return np.asarray(p + self.amplitude_m * shift)


@dataclass(frozen=True)
class Plan:
    """Streets, blocks and warp of one city."""

    streets: tuple[Street, ...]
    blocks: tuple[Block, ...]
    warp: Warp

    def centre_line(self, street: int, along_m: ArrayLike) -> tuple[Points, Points]:
        """Return warped points and unit directions on the centre line of a street.

        Args:
            street: Number of the street.
            along_m: (N,) distance from its start in metres, before warping.

        Returns:
            (N, 2) metres, (N, 2) unit vectors.
        """
        s = self.streets[street]
        direction = (s.end - s.start) / s.length_m
        along = np.asarray(along_m, dtype=np.float64)[:, None]
        points = self.warp(s.start + along * direction)
        tangent = self.warp(s.start + (along + 1.0) * direction) - self.warp(s.start + (along - 1.0) * direction)
        return points, np.asarray(tangent / np.linalg.norm(tangent, axis=1, keepdims=True))


_WIDTHS = ((6.6, 4.6), (4.9, 3.4), (3.7, 2.4), (2.6, 1.5))  # half road, pavement by rank

_Polygon = tuple[Points, list[int]]


def _clip(polygon: _Polygon, point: Points, direction: Points, tag: int) -> _Polygon | None:
    """Return the part of a convex polygon to the left of a line; the new edge along the line gets `tag`."""
    corners, tags = polygon
    normal = np.array([-direction[1], direction[0]])
    side = (corners - point) @ normal
    if (side >= -1e-9).all():
        return polygon
    if (side <= 1e-9).all():
        return None
    clipped: list[Points] = []
    clipped_tags: list[int] = []
    for i in range(len(corners)):
        j = (i + 1) % len(corners)
        crosses = (side[i] > 0) != (side[j] > 0)
        cut = corners[i] + (corners[j] - corners[i]) * (side[i] / (side[i] - side[j])) if crosses else corners[i]
        if side[i] > 0:
            clipped.append(corners[i])
            clipped_tags.append(tags[i])
            if crosses:
                clipped.append(cut)
                clipped_tags.append(tag)
        elif crosses:
            clipped.append(cut)
            clipped_tags.append(tags[i])
    return np.array(clipped), clipped_tags


def _area(corners: Points) -> float:
    x, y = corners[:, 0], corners[:, 1]
    return 0.5 * float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))


def _chord(corners: Points, point: Points, direction: Points) -> tuple[Points, Points]:
    """Return the intersections of a line through an inner point of a convex polygon with its outline."""
    normal = np.array([-direction[1], direction[0]])
    side = (corners - point) @ normal
    ends = []
    for i in range(len(corners)):
        j = (i + 1) % len(corners)
        if (side[i] > 0) != (side[j] > 0):
            ends.append(corners[i] + (corners[j] - corners[i]) * (side[i] / (side[i] - side[j])))
    ends.sort(key=lambda p: float(p @ direction))
    return ends[0], ends[-1]


def _direction_of_cut(rng: np.random.Generator, corners: Points, style: CityStyle, depth: int) -> Points:
    if depth < len(style.avenues_deg):
        bearing = np.radians(style.avenues_deg[depth] + rng.normal(0.0, 3.0))
        return np.array([np.sin(bearing), np.cos(bearing)])
    edges = np.roll(corners, -1, axis=0) - corners
    longest = edges[np.argmax((edges**2).sum(axis=1))]
    angle = np.arctan2(longest[1], longest[0]) + np.pi / 2
    angle += np.radians(np.clip(rng.normal(0.0, style.irregularity_deg), -30.0, 30.0))
    return np.array([np.cos(angle), np.sin(angle)])


def _rank(rng: np.random.Generator, depth: int) -> int:
    if depth <= 1:
        return 0
    if depth <= 4:
        return 1
    return 3 if rng.random() < 0.10 else 2


def draw_plan(style: CityStyle, rng: np.random.Generator) -> Plan:
    """Draw the streets and blocks of a city.

    Args:
        style: The city.
        rng: Source of randomness.

    Returns:
        The plan; its streets extend `MARGIN_M` beyond the square in which photographs are taken.
    """
    reach = HALF_EXTENT_M + MARGIN_M
    square = np.array([[-reach, -reach], [reach, -reach], [reach, reach], [-reach, reach]])
    streets: list[Street] = []
    finished: list[_Polygon] = []
    waiting: list[tuple[_Polygon, int]] = [((square, [-1, -1, -1, -1]), 0)]
    while waiting:
        polygon, depth = waiting.pop()
        corners = polygon[0]
        if depth > 2 and _area(corners) < style.block_area_m2 * rng.uniform(0.75, 1.9):
            finished.append(polygon)
            continue
        direction = _direction_of_cut(rng, corners, style, depth)
        spread = 0.10 * np.sqrt(_area(corners))
        point = corners.mean(axis=0) + rng.uniform(-spread, spread, 2)
        start, end = _chord(corners, point, direction)
        rank = _rank(rng, depth)
        streets.append(Street(start, end, *_WIDTHS[rank], rank))
        for side in (direction, -direction):
            part = _clip(polygon, point, side, len(streets) - 1)
            if part is not None:
                waiting.append((part, depth + 1))
    warp = Warp(SmoothField.draw(rng, (330.0, 700.0)), SmoothField.draw(rng, (330.0, 700.0)), style.curvature_m)
    return Plan(tuple(streets), _blocks(finished, streets, style, rng), warp)


def _blocks(
    polygons: list[_Polygon], streets: list[Street], style: CityStyle, rng: np.random.Generator
) -> tuple[Block, ...]:
    blocks = []
    for corners, tags in polygons:
        inside: _Polygon | None = (corners, tags)
        for i, tag in enumerate(tags):
            if inside is None or tag < 0:
                continue
            edge = corners[(i + 1) % len(corners)] - corners[i]
            length = np.linalg.norm(edge)
            if length < 1e-6:
                continue
            direction = edge / length
            inward = np.array([-direction[1], direction[0]])
            inside = _clip(inside, corners[i] + inward * streets[tag].half_width_m, direction, tag)
        if inside is None or _area(inside[0]) < 250.0:
            continue
        open_space = rng.random() < 0.04 + 0.07 * style.green
        kind = ("park" if rng.random() < 0.65 else "square") if open_space else "built"
        blocks.append(Block(inside[0], tuple(inside[1]), kind))
    return tuple(blocks)
