"""Which shop names can be read in a photograph: whole, large enough, and with nothing before them.

The same rays over the ground as in the photograph say what of each name shows, and the same trees, posts and people
are laid over it. The view is cast at a size of its own, so what can be read does not depend on the size of the picture:
it is what a person reads who stands there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from swclip.synthetic.buildings import SHOP, Buildings
from swclip.synthetic.camera import Camera
from swclip.synthetic.fields import F32, I64
from swclip.synthetic.lettering import LENGTHS, ROWS, SHOP_NAMES
from swclip.synthetic.render import REACH_M, Shot
from swclip.synthetic.scene import Scene
from swclip.synthetic.things import draw_things
from swclip.synthetic.visibility import Spans, find_spans, pixels_of
from swclip.synthetic.walls import FRONT, Walls

VIEW_PX = 160
LEGIBLE_DEG = 1.0
"""Least width of a letter, with the space after it, as it is seen."""
WHOLE = 0.85
"""Least share of a name's area that shows, all of it in the picture. The rest is the rounding of columns and a twig."""
_CELLS_PER_LETTER = 4
_BRIGHT = np.float32(1e6)


@dataclass(frozen=True)
class Sign:
    """A shop's name that can be read.

    Attributes:
        name: As it is painted.
        across: Its middle, from 0 at the left edge of the picture to 1 at the right.
        area: Its share of the picture.
    """

    name: str
    across: float
    area: float


@dataclass(frozen=True)
class _Lettering:
    """Where on its wall the name of a shop is painted: arrays over walls, in metres along and above the ground."""

    length: F32
    left: F32
    right: F32
    low: F32
    high: F32

    @classmethod
    def of(cls, b: Buildings, walls: Walls, rows: I64) -> _Lettering:
        """Of these walls, which are fronts of shops; as `frontage.shop` paints it."""
        owner = walls.owner[rows]
        length = np.hypot(*(walls.ends[rows, 1] - walls.ends[rows, 0]).T)
        cells = LENGTHS[b.name[owner]]
        cell_m = np.minimum(0.15, (length - 0.9) / (cells + 2))
        half, middle = 0.5 * cells * cell_m, b.ground_m[owner] - 0.61
        tall = 0.5 * ROWS * cell_m
        return cls(length, 0.5 * length - half, 0.5 * length + half, middle - tall, middle + tall)


def signs_in_view(scene: Scene, shot: Shot) -> list[Sign]:
    """The shop names that can be read in a photograph.

    Args:
        scene: The city.
        shot: Camera, day, vehicles and people.

    Returns:
        One for each name, the largest first.
    """
    camera = replace(shot.camera, size_px=VIEW_PX)
    half = np.arctan(0.5 * VIEW_PX / camera.focal_px)
    city = scene.walls.before(np.array([camera.east_m, camera.north_m]), camera.forward, REACH_M, float(np.cos(half)))
    walls = Walls.joined([city, shot.vehicles.walls])
    spans = find_spans(camera, walls, REACH_M)
    shop = np.zeros(len(walls), dtype=bool)
    fronts = np.flatnonzero(walls.kind == FRONT)
    shop[fronts] = scene.buildings.use[walls.owner[fronts]] == SHOP
    rows = np.unique(spans.wall[shop[spans.wall]])
    if not len(rows):
        return []
    letters = _Lettering.of(scene.buildings, walls, rows)
    names = scene.buildings.name[walls.owner[rows]]
    columns, whole = _outlines(camera, walls, rows, letters)
    wide, across = columns[1] - columns[0], columns.mean(axis=0)
    legible = wide * _CELLS_PER_LETTER >= np.radians(LEGIBLE_DEG) * camera.focal_px * LENGTHS[names]
    legible &= (columns[0] >= 0.0) & (columns[1] <= VIEW_PX)
    if not legible.any():
        return []
    shown = _shown(scene, shot, camera, spans, rows, letters)
    readable = np.flatnonzero(legible & (shown >= WHOLE * whole))
    best: dict[str, Sign] = {}
    for i in sorted(readable.tolist(), key=lambda i: (-shown[i], i)):
        name = SHOP_NAMES[int(names[i])]
        best.setdefault(name, Sign(name, float(across[i]) / VIEW_PX, float(shown[i]) / VIEW_PX**2))
    return list(best.values())


def _outlines(camera: Camera, walls: Walls, rows: I64, letters: _Lettering) -> tuple[F32, F32]:
    """Columns (2, N) of the left and right edge of each name, and its area in pixels with nothing before it."""
    ends = walls.ends[rows].astype(np.float64)
    along = (ends[:, 1] - ends[:, 0]) / letters.length[:, None]
    edges = np.stack([ends[:, 0] + at[:, None] * along for at in (letters.left, letters.right)])
    view = camera.to_view(edges)
    depth = np.maximum(view[..., 1], 0.1)  # what is beside the camera comes to lie far out of the picture
    columns = camera.focal_px * view[..., 0] / depth + 0.5 * VIEW_PX
    heights = camera.focal_px * (letters.high - letters.low) / depth
    area = (columns[1] - columns[0]) * heights.mean(axis=0)
    return columns.astype(np.float32), area.astype(np.float32)


def _shown(scene: Scene, shot: Shot, camera: Camera, spans: Spans, rows: I64, letters: _Lettering) -> F32:
    """Pixels in which each name shows, with the share that trees, posts and people leave of each."""
    number = np.searchsorted(rows, spans.wall)
    number = np.where(rows[np.minimum(number, len(rows) - 1)] == spans.wall, number, -1)
    u = spans.share * letters.length[number]
    lettered = (number >= 0) & (u >= letters.left[number]) & (u < letters.right[number])
    depth = np.full(VIEW_PX * VIEW_PX, np.inf, dtype=np.float32)
    pixels = pixels_of(camera, spans)
    depth[pixels.place] = spans.depth_m[pixels.span]
    # The light behind is so bright that the things' own does not count: what is left of it is what they let through.
    picture = np.full((VIEW_PX * VIEW_PX, 3), _BRIGHT, dtype=np.float32)
    draw_things(scene.props, camera, shot.conditions, shot.people_m, shot.key, picture, depth)
    on = lettered[pixels.span]
    span, place = pixels.span[on], pixels.place[on]
    row = (place % VIEW_PX).astype(np.float32)
    top = camera.row_of(letters.high[number[span]].astype(np.float32), spans.depth_m[span])
    foot = camera.row_of(letters.low[number[span]].astype(np.float32), spans.depth_m[span])
    covered = np.clip(np.minimum(row + 1.0, foot) - np.maximum(row, top), 0.0, 1.0)
    weight = covered * np.minimum(picture[place, 0] / _BRIGHT, 1.0)
    return np.bincount(number[span], weights=weight, minlength=len(rows)).astype(np.float32)
