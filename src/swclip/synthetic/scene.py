"""The fixed model of a city for the renderer: walls, ground, and permanent objects in the streets."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from swclip.synthetic.buildings import Buildings, Districts, draw_buildings, linear
from swclip.synthetic.cities import CITIES, CityStyle
from swclip.synthetic.fields import F32
from swclip.synthetic.ground import KERB, Ground, build_ground
from swclip.synthetic.lots import cut_lots, front_gardens
from swclip.synthetic.streets import Plan, draw_plan
from swclip.synthetic.walls import WallIndex, build_walls

TREE, LAMP, SIGNAL, BOLLARD, PILLAR_BOX, ROUND_SIGN = range(6)
"""Kinds of prop."""


@dataclass(frozen=True)
class Props:
    """Arrays over objects in the streets, which are drawn facing the camera.

    Attributes:
        position_m: (N, 2) east, north.
        kind: (N,) one of the kinds above.
        height_m: (N,) metres.
        key: (N,) seed of the object's appearance.
    """

    position_m: NDArray[np.float64]
    kind: NDArray[np.int32]
    height_m: F32
    key: NDArray[np.int32]


@dataclass(frozen=True)
class Kerbside:
    """Arrays over possible positions of vehicles: position, direction of the street, whether it is a parking space."""

    position_m: NDArray[np.float64]
    direction: NDArray[np.float64]
    parking: NDArray[np.bool_]


@dataclass(frozen=True)
class Scene:
    """The parts of a city that are the same in all photographs.

    `footprints` (N, 4, 2) are the corners of the buildings, counter-clockwise from front left, and `gardens` (M, 4, 2)
    those of the front gardens: east, north in metres.
    """

    style: CityStyle
    plan: Plan
    districts: Districts
    buildings: Buildings
    walls: WallIndex
    ground: Ground
    props: Props
    kerbside: Kerbside
    pavement: F32
    footprints: NDArray[np.float64]
    gardens: NDArray[np.float64]


def _props(plan: Plan, districts: Districts, style: CityStyle, ground: Ground, rng: np.random.Generator) -> Props:
    rows: list[tuple[float, float, int, float]] = []

    def along(
        street: int, start: float, spacing: float, jitter: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        length = plan.streets[street].length_m
        stations = np.arange(start, max(length - 5.0, start), spacing)
        stations = stations + rng.uniform(-jitter, jitter, len(stations))
        points, directions = plan.centre_line(street, stations)
        return points, np.stack([directions[:, 1], -directions[:, 0]], axis=1)

    for number, street in enumerate(plan.streets):
        middle = 0.5 * (street.start + street.end)
        leafy = float(districts.green(*middle)) + 2.4 * style.green - 0.25 * street.rank
        for side in (-1.0, 1.0):
            if street.rank < 3:
                # Leafy streets have a tree at most stations, others one here and there.
                share = 0.65 if leafy > 1.0 + 0.3 * rng.random() else 0.15
                points, right = along(number, rng.uniform(8.0, 14.0), rng.uniform(8.0, 13.0), 3.0)
                for p in points + side * (street.half_road_m + 0.9) * right:
                    if rng.random() < share:
                        rows.append((p[0], p[1], TREE, rng.uniform(3.5, 10.0)))
            points, right = along(number, 9.0 + 12.0 * (side > 0), 26.0, 1.0)
            for p in points + side * (street.half_road_m + 0.5) * right:
                rows.append((p[0], p[1], LAMP, 5.5 if street.rank > 1 else 7.5))
            if rng.random() < 0.35 and street.rank < 3:
                points, right = along(number, rng.uniform(6.0, 60.0), 90.0, 10.0)
                for p in points + side * (street.half_road_m + 0.6) * right:
                    kind = int(rng.choice([PILLAR_BOX, ROUND_SIGN, ROUND_SIGN, BOLLARD]))
                    rows.append((p[0], p[1], kind, {PILLAR_BOX: 1.6, ROUND_SIGN: 2.6, BOLLARD: 1.0}[kind]))
        if street.rank < 2:
            for stations in (13.0, street.length_m - 13.0):
                points, directions = plan.centre_line(number, np.array([stations]))
                right = np.stack([directions[:, 1], -directions[:, 0]], axis=1)
                for side in (-1.0, 1.0):
                    p = (points + side * (street.half_road_m + 0.4) * right)[0]
                    rows.append((p[0], p[1], SIGNAL, 3.4))
    for block in plan.blocks:
        if block.kind == "built":
            continue
        low, high = block.corners.min(axis=0), block.corners.max(axis=0)
        centre = block.corners.mean(axis=0)
        count = int(np.prod(high - low) / (120.0 if block.kind == "park" else 420.0))
        for _ in range(count):
            p = plan.warp(centre + (rng.uniform(low, high) - centre) * 0.85)
            rows.append((p[0], p[1], TREE, rng.uniform(6.0, 12.0)))
    table = np.array(rows).reshape(-1, 4)
    # Remove objects in crossing roads and inside buildings.
    x, y = table[:, 0].astype(np.float32), table[:, 1].astype(np.float32)
    free = (ground.sample(x, y)[:, KERB] > 0.15) & (ground.roof_at(x, y) < 0.1)
    table = table[free]
    key = rng.integers(0, 2**31 - 1, len(table)).astype(np.int32)
    return Props(table[:, :2].copy(), table[:, 2].astype(np.int32), table[:, 3].astype(np.float32), key)


def _kerbside(plan: Plan, rng: np.random.Generator) -> Kerbside:
    position, direction, parking = [], [], []
    for number, street in enumerate(plan.streets):
        stations = np.arange(14.0, street.length_m - 14.0, 6.0)
        if not len(stations):
            continue
        points, ahead = plan.centre_line(number, stations)
        right = np.stack([ahead[:, 1], -ahead[:, 0]], axis=1)
        for side in (-1.0, 1.0):
            if street.rank in (1, 2) and rng.random() < 0.75:
                position.append(points + side * (street.half_road_m - 0.95) * right)
                direction.append(-side * ahead)
                parking.append(np.ones(len(stations), dtype=bool))
            if street.rank < 3:
                position.append(points + side * (0.45 * street.half_road_m) * right)
                direction.append(-side * ahead)
                parking.append(np.zeros(len(stations), dtype=bool))
    return Kerbside(np.concatenate(position), np.concatenate(direction), np.concatenate(parking))


@lru_cache(maxsize=8)
def city_plan(city: int, seed: int) -> Plan:
    """Draw streets and blocks of one of the eight cities; much faster than the full scene."""
    return draw_plan(CITIES[city], np.random.default_rng([seed, city, 0]))


@lru_cache(maxsize=2)
def build_scene(city: int, seed: int) -> Scene:
    """Build one of the eight cities.

    Args:
        city: Number of the city in `cities.CITIES`.
        seed: Seed of the data set.

    Returns:
        The scene; the last two scenes are cached.
    """
    style = CITIES[city]
    rng = np.random.default_rng([seed, city, 1])
    plan = city_plan(city, seed)
    districts = Districts.draw(rng)
    lots = cut_lots(plan, districts.commerce, districts.green, style.green, rng)
    buildings = draw_buildings(style, lots, districts, rng)
    footprints = plan.warp(lots.corners)
    ground = build_ground(plan, footprints, buildings.eave_m + 0.4 * buildings.ridge_m)
    props = _props(plan, districts, style, ground, rng)
    walls = WallIndex.build(build_walls(plan, lots, buildings))
    return Scene(
        style, plan, districts, buildings, walls, ground, props, _kerbside(plan, rng), linear(np.array(style.pavement)),
        footprints, plan.warp(front_gardens(lots)),
    )  # fmt: skip
