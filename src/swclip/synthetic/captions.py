"""Captions such as a visitor might write: the name of the street and visible shop signs in varied wording, or nothing.

A sign is readable if its name is complete, large enough and unobstructed. Visibility is determined by the rays of the
photograph at a fixed size, so that it does not depend on the size of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from swclip.synthetic.buildings import SHOP, Buildings
from swclip.synthetic.camera import Camera
from swclip.synthetic.captures import Capture, Place
from swclip.synthetic.fields import F32, I64
from swclip.synthetic.lettering import LENGTHS, ROWS, SHOP_NAMES
from swclip.synthetic.render import REACH_M, Shot
from swclip.synthetic.scene import Scene, city_plan
from swclip.synthetic.sprites import draw_sprites
from swclip.synthetic.streets import Plan
from swclip.synthetic.visibility import Spans, find_spans, pixels_of
from swclip.synthetic.walls import FRONT, Walls

MISSING = 0.15
"""Share of photographs without a caption, regardless of their content."""
KNOWS_STREET = 0.75
"""Share of captions that may name the street."""
NOTICES_SIGN = 0.8
"""Share of visible signs that captions name, at most three."""
_MAX_SIGNS = 3

_SHORT = {"Street": "St", "Road": "Rd", "Avenue": "Ave", "Lane": "Ln", "Terrace": "Terr", "Place": "Pl"}

_STREET_ALONE = (
    "{street}",
    "{street}",
    "in {street}",
    "on {street}",
    "walking along {street}",
    "somewhere on {street}",
)
_SIGNS_ALONE = ("{signs}", "near {signs}", "by {signs}", "I can see {signs}", "{first} {side}", "{signs} in view")
_BOTH = (
    "{street}, near {signs}", "{signs}, {street}", "{signs} on {street}", "{street} by {signs}",
    "in {street}, {signs} in view", "{street}, with {first} {side}", "{first} {side}, on {street}",
    "standing on {street}, I can see {signs}",
)  # fmt: skip


def write_caption(street: str, signs: Sequence[Sign], rng: np.random.Generator) -> str | None:
    """Write a caption.

    Args:
        street: Name of the street.
        signs: Readable shop signs, the largest first.
        rng: Source of randomness for content and wording.

    Returns:
        The caption, or None for no caption.

    Example:
        >>> write_caption("Elm Street", [Sign("CAFE", 0.2, 0.01)], np.random.default_rng(9))
        'Elm Street, with Cafe on the left'
    """
    missing, knows, style, case = rng.random(4)
    noticed = [sign for sign, luck in zip(signs, rng.random(len(signs)), strict=True) if luck < NOTICES_SIGN]
    noticed = noticed[:_MAX_SIGNS]
    if missing < MISSING or (knows >= KNOWS_STREET and not noticed):
        return None
    words: dict[str, str] = {"street": _street(street, rng)}
    if noticed:
        # Names are from left to right; in capitals as on the sign, or in title case.
        ordered = sorted(noticed, key=lambda sign: sign.across)
        painted = rng.random() < 0.35
        names = [sign.name if painted else sign.name.title() for sign in ordered]
        words["signs"] = names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
        first = noticed[0]
        words["first"] = first.name if painted else first.name.title()
        words["side"] = "on the left" if first.across < 0.4 else "on the right" if first.across > 0.6 else "ahead"
        if style < 0.15:  # like the output of text recognition: only the signs
            return " ".join(sign.name for sign in ordered)
    patterns = _STREET_ALONE if not noticed else _BOTH if knows < KNOWS_STREET else _SIGNS_ALONE
    text = patterns[int(rng.integers(len(patterns)))].format(**words)
    return text.lower() if case < 0.2 else text[0].upper() + text[1:]


def _street(name: str, rng: np.random.Generator) -> str:
    stem, _, kind = name.rpartition(" ")
    return f"{stem} {_SHORT[kind]}" if rng.random() < 0.3 and kind in _SHORT else name


def caption_of(scene: Scene, city: int, place: Place, capture: Capture, shot: Shot, seed: int) -> str | None:
    """Draw the caption of one photograph; it depends only on the seed, the city and the index of the photograph.

    Args:
        scene: The city.
        city: Number of the city.
        place: Place of the photograph.
        capture: The photograph.
        shot: Content of the photograph.
        seed: Seed of the data set.
    """
    street = street_names(city, seed)[place.street]
    return write_caption(street, signs_in_view(scene, shot), np.random.default_rng([seed, city, 9, capture.index]))


_STEMS = (
    "Abbey", "Acorn", "Addison", "Albion", "Alder", "Alma", "Argyle", "Ash", "Barlow", "Beech", "Belmont", "Bishop",
    "Blake", "Bramley", "Bridge", "Brook", "Burton", "Cable", "Calder", "Cambridge", "Canal", "Carlton", "Castle",
    "Cedar", "Chapel", "Charlotte", "Chestnut", "Church", "Clarence", "Clifton", "College", "Copper", "Cross", "Dale",
    "Derby", "Devon", "Duke", "Dyer", "Elm", "Exchange", "Fairfield", "Falcon", "Fern", "Foundry", "Fountain",
    "Garden", "George", "Gilbert", "Grange", "Granby", "Green", "Hanover", "Harbour", "Harrow", "Hawthorn", "Hazel",
    "Heath", "High", "Hill", "Holly", "Hope", "Infirmary", "Ivy", "James", "John Dalton", "Juniper", "Kensal", "Kiln",
    "King", "Lansdowne", "Larch", "Laurel", "Leather", "Library", "Lime", "Linden", "Lonsdale", "Mabel", "Maple",
    "Marlow", "Mason", "Meadow", "Melrose", "Merchant", "Mill", "Minster", "Mulberry", "Nelson", "New", "North", "Oak",
    "Old Hall", "Orchard", "Oxford", "Palmer", "Park", "Pearl", "Pepper", "Percy", "Poplar", "Priory", "Quay", "Queen",
    "Ramsay", "Regent", "Richmond", "Rose", "Rowan", "Russell", "St Anne", "St Giles", "St James", "Salisbury",
    "School", "Silver", "South", "Spring", "Stanley", "Station", "Tanner", "Temple", "Thistle", "Thorn", "Tower",
    "Trinity", "Union", "Vale", "Vernon", "Victoria", "Vine", "Warwick", "Water", "Weaver", "Wellington", "West",
    "Wharf", "William", "Willow", "Windmill", "Wood", "York",
)  # fmt: skip

_KINDS: tuple[tuple[str, ...], ...] = (
    ("Road", "Avenue", "Parade"),
    ("Street", "Road", "Street"),
    ("Street", "Street", "Street", "Road", "Terrace", "Place", "Grove"),
    ("Lane", "Row", "Passage", "Court"),
)
"""Kinds of names of streets by rank: avenue, main street, side street, lane."""


def name_streets(plan: Plan, rng: np.random.Generator) -> tuple[str, ...]:
    """Draw unique names for the streets of a plan.

    Args:
        plan: Streets of the city.
        rng: Source of randomness.

    Returns:
        The names, in the order of the streets.
    """
    names: list[str] = []
    used: set[str] = set()
    waiting: list[str] = []
    for street in plan.streets:
        name = ""
        while not name or name in used:
            if not waiting:
                waiting = [_STEMS[i] for i in rng.permutation(len(_STEMS))]
            kinds = _KINDS[street.rank]
            name = f"{waiting.pop()} {kinds[int(rng.integers(len(kinds)))]}"
        used.add(name)
        names.append(name)
    return tuple(names)


@lru_cache(maxsize=8)
def street_names(city: int, seed: int) -> tuple[str, ...]:
    """Return the names of the streets of one of the eight cities.

    Example:
        >>> len(street_names(0, seed=0)) == len(set(street_names(0, seed=0)))
        True
    """
    return name_streets(city_plan(city, seed), np.random.default_rng([seed, city, 8]))


VIEW_PX = 160
LEGIBLE_DEG = 1.0
"""Smallest angular width of a readable letter with the space after it, degrees."""
WHOLE = 0.85
"""Smallest visible share of the area of a readable name; it allows for rounding to columns and for twigs."""
_CELLS_PER_LETTER = 4
_BRIGHT = np.float32(1e6)


@dataclass(frozen=True)
class Sign:
    """A readable shop sign.

    Attributes:
        name: The name as painted.
        across: Horizontal centre, from 0 at the left edge of the picture to 1 at the right.
        area: Share of the picture.
    """

    name: str
    across: float
    area: float


@dataclass(frozen=True)
class _Lettering:
    """Position of shop names on their walls: arrays over walls, in metres along the wall and above the ground."""

    length: F32
    left: F32
    right: F32
    low: F32
    high: F32

    @classmethod
    def of(cls, b: Buildings, walls: Walls, rows: I64) -> _Lettering:
        """Compute the lettering of walls that are fronts of shops, as painted by `facade.shop`."""
        owner = walls.owner[rows]
        length = np.hypot(*(walls.ends[rows, 1] - walls.ends[rows, 0]).T)
        cells = LENGTHS[b.name[owner]]
        cell_m = np.minimum(0.15, (length - 0.9) / (cells + 2))
        half, middle = 0.5 * cells * cell_m, b.ground_m[owner] - 0.61
        tall = 0.5 * ROWS * cell_m
        return cls(length, 0.5 * length - half, 0.5 * length + half, middle - tall, middle + tall)


def signs_in_view(scene: Scene, shot: Shot) -> list[Sign]:
    """Find the readable shop signs in a photograph.

    Args:
        scene: The city.
        shot: Camera, conditions, vehicles and people.

    Returns:
        One sign for each name, the largest first.
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
    visible = _visible_area(scene, shot, camera, spans, rows, letters)
    readable = np.flatnonzero(legible & (visible >= WHOLE * whole))
    best: dict[str, Sign] = {}
    for i in sorted(readable.tolist(), key=lambda i: (-visible[i], i)):
        name = SHOP_NAMES[int(names[i])]
        best.setdefault(name, Sign(name, float(across[i]) / VIEW_PX, float(visible[i]) / VIEW_PX**2))
    return list(best.values())


def _outlines(camera: Camera, walls: Walls, rows: I64, letters: _Lettering) -> tuple[F32, F32]:
    """Return columns (2, N) of the left and right edge of each name, and its unobstructed area in pixels."""
    ends = walls.ends[rows].astype(np.float64)
    along = (ends[:, 1] - ends[:, 0]) / letters.length[:, None]
    edges = np.stack([ends[:, 0] + at[:, None] * along for at in (letters.left, letters.right)])
    view = camera.to_view(edges)
    depth = np.maximum(view[..., 1], 0.1)  # moves points beside the camera far outside the picture
    columns = camera.focal_px * view[..., 0] / depth + 0.5 * VIEW_PX
    heights = camera.focal_px * (letters.high - letters.low) / depth
    area = (columns[1] - columns[0]) * heights.mean(axis=0)
    return columns.astype(np.float32), area.astype(np.float32)


def _visible_area(scene: Scene, shot: Shot, camera: Camera, spans: Spans, rows: I64, letters: _Lettering) -> F32:
    """Return the visible area of each name in pixels; trees, posts and people reduce the share of a pixel."""
    number = np.searchsorted(rows, spans.wall)
    number = np.where(rows[np.minimum(number, len(rows) - 1)] == spans.wall, number, -1)
    u = spans.share * letters.length[number]
    lettered = (number >= 0) & (u >= letters.left[number]) & (u < letters.right[number])
    depth = np.full(VIEW_PX * VIEW_PX, np.inf, dtype=np.float32)
    pixels = pixels_of(camera, spans)
    depth[pixels.place] = spans.depth_m[pixels.span]
    # The background is so bright that the light of sprites is negligible: the remaining light is their transparency.
    picture = np.full((VIEW_PX * VIEW_PX, 3), _BRIGHT, dtype=np.float32)
    draw_sprites(scene.props, camera, shot.conditions, shot.people_m, shot.key, picture, depth)
    on = lettered[pixels.span]
    span, place = pixels.span[on], pixels.place[on]
    row = (place % VIEW_PX).astype(np.float32)
    top = camera.row_of(letters.high[number[span]].astype(np.float32), spans.depth_m[span])
    foot = camera.row_of(letters.low[number[span]].astype(np.float32), spans.depth_m[span])
    covered = np.clip(np.minimum(row + 1.0, foot) - np.maximum(row, top), 0.0, 1.0)
    weight = covered * np.minimum(picture[place, 0] / _BRIGHT, 1.0)
    return np.bincount(number[span], weights=weight, minlength=len(rows)).astype(np.float32)
