"""Traffic of one photograph: vehicles as boxes in perspective, and people on pavements."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from swclip.synthetic.buildings import linear
from swclip.synthetic.camera import Camera
from swclip.synthetic.fields import F32, band, hash01, pulse
from swclip.synthetic.ground import INSIDE, KERB
from swclip.synthetic.scene import Scene
from swclip.synthetic.streets import Points
from swclip.synthetic.walls import VEHICLE, Walls

CAR, VAN, BUS, TAXI = range(4)
FLANK, NOSE, TAIL, TOP = range(4)
"""Parts of a vehicle."""
_PARTS = 4

_CAR_COLOURS = linear(
    np.array(
        [(0.82, 0.83, 0.84), (0.16, 0.17, 0.19), (0.50, 0.52, 0.55), (0.70, 0.10, 0.10), (0.10, 0.22, 0.48),
         (0.93, 0.93, 0.92), (0.30, 0.33, 0.36), (0.12, 0.34, 0.24), (0.75, 0.70, 0.58), (0.35, 0.55, 0.72)]
    )
)  # fmt: skip


@dataclass(frozen=True)
class _Shape:
    """Dimensions of a vehicle in metres.

    Attributes:
        length: Length.
        width: Width.
        body: Height of the body without the cabin.
        lid: Height with the cabin.
        front: Distance of the front of the cabin from the nose.
        rear: Distance of the rear of the cabin from the nose.
        slope: Length of the sloping screens.
    """

    length: float
    width: float
    body: float
    lid: float
    front: float
    rear: float
    slope: float


_SHAPES = {
    CAR: _Shape(4.3, 1.75, 0.86, 1.46, 0.95, 3.95, 0.62),
    VAN: _Shape(5.2, 1.95, 1.10, 2.20, 0.35, 5.18, 0.45),
    BUS: _Shape(10.5, 2.5, 4.30, 4.30, 0.0, 0.0, 0.0),
    TAXI: _Shape(4.6, 1.8, 0.98, 1.74, 0.95, 4.35, 0.50),
}

_BODY = np.array([shape.body for shape in _SHAPES.values()], dtype=np.float32)
_SLOPE = np.array([shape.slope for shape in _SHAPES.values()], dtype=np.float32)
_LID = np.array([shape.lid for shape in _SHAPES.values()], dtype=np.float32)


@dataclass(frozen=True)
class Vehicles:
    """Arrays over vehicles: kind, linear colour (N, 3), position, direction, and walls (owner = vehicle * 4 + part)."""

    kind: NDArray[np.int32]
    colour: F32
    centre_m: NDArray[np.float64]
    ahead: NDArray[np.float64]
    walls: Walls


def _boxes(centre: Points, ahead: Points, rear: float, front: float, half: float) -> Points:
    """Return the (N, 4, 2, 2) faces of upright boxes: nose, left, tail, right; the outside is to the right of each."""
    left = np.stack([-ahead[:, 1], ahead[:, 0]], axis=1)
    corner = [centre + ahead * a + left * (s * half) for a, s in ((front, -1), (front, 1), (rear, 1), (rear, -1))]
    return np.stack([np.stack([corner[i], corner[(i + 1) % 4]], axis=1) for i in range(4)], axis=1)


def _vehicle_walls(kind: int, rows: NDArray[np.int64], centre: Points, ahead: Points) -> list[Walls]:
    """Build body and cabin of the vehicles of one kind; `rows` are their numbers."""
    shape = _SHAPES[kind]
    owner = (rows[:, None] * _PARTS + np.array([NOSE, FLANK, TAIL, FLANK])).ravel()
    nose = 0.5 * shape.length
    body = _boxes(centre, ahead, -nose, nose, 0.5 * shape.width)
    parts = [Walls.of(body.reshape(-1, 2, 2), shape.body, 0.0, VEHICLE, owner)]
    if shape.lid > shape.body:
        inner = 0.5 * shape.width - 0.12
        rise = shape.lid - shape.body
        long = _boxes(centre, ahead, nose - shape.rear, nose - shape.front, inner)[:, [1, 3]]
        steep = 0.5 * (shape.rear - shape.front) / shape.slope
        top = np.repeat(rows * _PARTS + TOP, 2)
        parts.append(Walls.of(long.reshape(-1, 2, 2), shape.body, rise, VEHICLE, top, steep))
        # The sloping screens are vertical faces at the edge of the roof, which look the same from the front.
        ends = _boxes(centre, ahead, nose - shape.rear + shape.slope, nose - shape.front - shape.slope, inner)[
            :, [0, 2]
        ]
        parts.append(Walls.of(ends.reshape(-1, 2, 2), shape.lid - 0.12, 0.12, VEHICLE, top, 7.0))
    return parts


@dataclass(frozen=True)
class Parked:
    """The parked vehicles of a day: share of occupied parking spaces, and the seed of which, and by what."""

    density: float
    key: int


def place_vehicles(scene: Scene, camera: Camera, parked: Parked, rng: np.random.Generator) -> Vehicles:
    """Place the parked vehicles of the day, and draw moving ones, in front of the camera.

    Args:
        scene: The city.
        camera: The camera; a few metres around it remain free.
        parked: The parked vehicles, the same in all photographs of a day.
        rng: Source of randomness of the moving vehicles.
    """
    spots = scene.kerbside
    offset = spots.position_m - np.array([camera.east_m, camera.north_m])
    depth, across = offset @ camera.forward, offset @ camera.right
    distance = np.hypot(depth, across)
    near = np.flatnonzero((depth > 1.0) & (distance > 6.5) & (distance < 65.0) & (np.abs(across) < depth + 6.0))
    stands = spots.parking[near]

    def draw(number: int) -> F32:
        moving = rng.random(len(near), dtype=np.float32)
        return np.asarray(np.where(stands, hash01(near, parked.key, number), moving))

    near_draws = np.stack([draw(number) for number in range(6)])
    present = near_draws[0] < np.where(stands, parked.density, 0.05)
    near, stands, draws = near[present], stands[present], near_draws[1:, present]
    moving = np.where(
        draws[0] < 0.12,
        np.where(distance[near] > 18.0, BUS, VAN),
        np.where(draws[0] < 0.3, TAXI, np.where(draws[0] < 0.4, VAN, CAR)),
    )
    kind = np.where(stands, np.where(draws[0] < 0.10, VAN, CAR), moving).astype(np.int32)
    centre = spots.position_m[near] + 0.4 * (draws[1:3].T - 0.5)
    ahead = spots.direction[near]
    colour = _CAR_COLOURS[(draws[3] * len(_CAR_COLOURS)).astype(np.int64)].copy()
    colour[(kind == VAN) & (draws[4] < 0.6)] = _CAR_COLOURS[5]
    colour[kind == BUS] = linear(np.array(scene.style.bus))
    colour[kind == TAXI] = 0.012
    parts = []
    for number in _SHAPES:
        rows = np.flatnonzero(kind == number)
        if len(rows):
            parts += _vehicle_walls(number, rows, centre[rows], ahead[rows])
    walls = Walls.joined(parts) if parts else Walls.of(np.zeros((0, 2, 2)), 0.0, 0.0, VEHICLE, 0)
    return Vehicles(kind, colour, centre, ahead, walls)


def place_people(scene: Scene, camera: Camera, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw (N, 2) positions of people on pavements and squares in front of the camera."""
    depth = 4.0 + 46.0 * rng.random(8 * count + 8) ** 1.3
    across = depth * rng.uniform(-0.95, 0.95, len(depth))
    position = (
        np.array([camera.east_m, camera.north_m]) + depth[:, None] * camera.forward + across[:, None] * camera.right
    )
    x, y = position[:, 0].astype(np.float32), position[:, 1].astype(np.float32)
    table = scene.ground.sample(x, y)
    walks = (table[:, KERB] > 0.3) & (table[:, INSIDE] < 0.6) & (scene.ground.roof_at(x, y) < 0.1)
    return np.asarray(position[np.flatnonzero(walks)[:count]])


def shade_vehicles(
    vehicles: Vehicles, owner: NDArray[np.int32], u: F32, length: F32, height: F32, back: NDArray[np.bool_], pixel: F32
) -> tuple[F32, F32, F32]:
    """Compute the colour of pixels of vehicles.

    Args:
        vehicles: The vehicles.
        owner: (P,) owner of the wall: vehicle * 4 + part.
        u: (P,) metres along the face.
        length: (P,) length of the face, metres.
        height: (P,) metres above the ground.
        back: (P,) whether the face is visible from behind, over the top, where the roof is.
        pixel: (P,) size of the pixel on the face, metres.

    Returns:
        Albedo (P, 3), lamplight (P,), 1 for surfaces that face upwards (P,).
    """
    vehicle, part = owner // _PARTS, owner % _PARTS
    kind = vehicles.kind[vehicle]
    colour = vehicles.colour[vehicle]
    albedo = colour.copy()
    glow = np.zeros(len(u), dtype=np.float32)
    body = _BODY[kind]
    lid = _LID[kind]
    cabin = part == TOP
    upper = cabin & (height > body)
    pane = band(u, 0.10, length - 0.10, pixel) * band(height, body + 0.03, lid - 0.09, pixel) * upper
    pillar = pulse(u / (0.5 * length), 0.05, 0.95, pixel / (0.5 * length)) * (length > 2.2) + (length <= 2.2)
    pane *= pillar * np.where(kind == VAN, (length <= 2.2) | (u < 0.28 * length), 1.0)
    # Buses: a band of windows on each deck.
    deck = band(height, 1.0, 2.0, pixel) + band(height, 2.75, 3.6, pixel)
    bays = pulse(u / 1.3, 0.05, 0.95, pixel / 1.3) * band(u, 0.25, length - 0.25, pixel)
    bus = kind == BUS
    # The far side of a cabin, visible over the near side, is drawn as its roof and, at the slopes, as screens.
    screen = cabin & back & (length > 2.2) & (np.minimum(u, length - u) < _SLOPE[kind]) & (height > body)
    pane = np.maximum(np.where(bus, deck * bays, pane) * ~back, screen).astype(np.float32)
    dark = np.array([0.030, 0.038, 0.048], dtype=np.float32) + 0.10 * np.clip(height - 0.8, 0, 1)[:, None]
    albedo += pane[:, None] * (dark - albedo)
    glow += 0.5 * pane * bus
    # Lamps at both ends, wheels on the sides, the shadow under the body.
    lamps = (
        band(height, 0.55, 0.76, pixel)
        * (band(u, 0.1, 0.5, pixel) + band(u, length - 0.5, length - 0.1, pixel))
        * ~back
    )
    nose, tail = lamps * (part == NOSE), lamps * (part == TAIL)
    albedo += nose[:, None] * (np.float32(0.9) - albedo)
    albedo += tail[:, None] * (np.array([0.6, 0.02, 0.02], dtype=np.float32) - albedo)
    glow += 0.6 * nose + 0.4 * tail
    plate = (
        band(height, 0.38, 0.50, pixel)
        * band(u, 0.5 * length - 0.26, 0.5 * length + 0.26, pixel)
        * ((part == NOSE) | (part == TAIL))
    )
    albedo += plate[:, None] * (np.array([0.75, 0.68, 0.35], dtype=np.float32) - albedo)
    flank = part == FLANK
    radius = np.where(bus, 0.48, 0.33).astype(np.float32)
    from_axle = np.minimum(np.abs(u - 0.19 * length), np.abs(u - 0.80 * length))
    wheel = np.hypot(from_axle, height - radius)
    tyre = np.clip((radius - wheel) / np.maximum(pixel, 0.02) + 0.5, 0, 1) * flank
    hub = np.clip((0.58 * radius - wheel) / np.maximum(pixel, 0.02) + 0.5, 0, 1) * flank
    under = 1.0 - np.clip((height - 0.26) / np.maximum(pixel, 0.02) + 0.5, 0, 1)
    shade = np.maximum(under, tyre) * (1.0 - hub)
    albedo *= (1.0 - 0.93 * shade * ~back)[:, None]
    albedo += (hub * 0.6 * ~back)[:, None] * (np.float32(0.35) - albedo)
    line = band(height, 0.30, 0.40, pixel) * flank
    albedo *= (1.0 - 0.3 * line)[:, None]
    up = np.maximum((back & ~screen).astype(np.float32), (cabin & (height <= body)).astype(np.float32))
    return albedo, glow, up
