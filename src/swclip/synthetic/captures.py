"""Plan of the photographs of a city: places along streets, drives, headings and recorded positions."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from swclip.geo.coordinates import LocalFrame
from swclip.synthetic.camera import Camera
from swclip.synthetic.cities import CITIES
from swclip.synthetic.conditions import Conditions, draw_conditions
from swclip.synthetic.render import Shot
from swclip.synthetic.scene import Scene, city_plan
from swclip.synthetic.streets import HALF_EXTENT_M, Plan
from swclip.synthetic.traffic import Parked, place_people, place_vehicles

SPACING_M = 12.0
"""Distance between neighbouring places along a street, metres."""
PASSES = 4
"""Number of photographs of each place, if the city has enough places."""
_SECTION = 12
_SECTIONS_A_DAY = 10
_ACCURACY_SPREAD = 0.45
"""Standard deviation of the logarithm of a photograph's GPS accuracy."""
_DISTRICTS = ("Old Town", "Market", "Station", "Riverside", "Park End")


@dataclass(frozen=True)
class Place:
    """A point on a street that is photographed repeatedly.

    Attributes:
        street: Number of the street.
        section: Number of the section of the street, which a drive covers.
        order: Rank along the drive.
        position_m: (2,) east, north on the centre line.
        direction: (2,) unit vector of the drive.
        lane_m: Distance from the centre line to the middle of the lane, to the left of the drive.
        turn_deg: Angle between the direction of the drive and of the view, to either side.
    """

    street: int
    section: int
    order: int
    position_m: NDArray[np.float64]
    direction: NDArray[np.float64]
    lane_m: float
    turn_deg: float


@dataclass(frozen=True)
class Capture:
    """One photograph: its place, drive, position and heading.

    Attributes:
        index: Index of the photograph in the city.
        place: Number of the place.
        date: Numbers of the survey of the city and of its day.
        sequence: Name of the drive within the city.
        position_m: (2,) true position of the camera: east, north.
        heading_deg: Direction of view, degrees clockwise from north.
        captured_at: Local time.
        conditions: Light and weather of the drive.
    """

    index: int
    place: int
    date: tuple[int, int]
    sequence: str
    position_m: NDArray[np.float64]
    heading_deg: float
    captured_at: dt.datetime
    conditions: Conditions


def choose_places(plan: Plan, count: int, rng: np.random.Generator) -> list[Place]:
    """Choose sections of streets, from the centre of the city outwards, until they contain enough places.

    A survey covers whole streets that adjoin each other, so that most places have photographed neighbours in all
    directions, whatever the number of places.

    Args:
        plan: Streets of the city.
        count: Number of places.
        rng: Source of randomness.

    Returns:
        `count` places, or fewer if the city has no more.
    """
    sections: list[list[tuple[int, NDArray[np.float64], NDArray[np.float64]]]] = []
    for number, street in enumerate(plan.streets):
        stations = np.arange(street.half_width_m + 6.0, street.length_m - 8.0, SPACING_M)
        if not len(stations):
            continue
        points, directions = plan.centre_line(number, stations)
        inside = np.flatnonzero(np.abs(points).max(axis=1) < HALF_EXTENT_M - 4.0)
        for start in range(0, len(inside), _SECTION):
            rows = inside[start : start + _SECTION]
            sections.append([(number, points[i], directions[i]) for i in rows])
    places: list[Place] = []
    from_centre = [float(np.hypot(*np.mean([point for _, point, _ in section], axis=0))) for section in sections]
    for section, chosen in enumerate(np.argsort(from_centre, kind="stable")):
        section_points = sections[chosen]
        reverse = rng.random() < 0.5
        if reverse:
            section_points = section_points[::-1]
        turn = float(rng.uniform(50.0, 75.0))
        for order, (number, point, direction) in enumerate(section_points):
            if len(places) == count:
                return places
            drive_direction = -direction if reverse else direction
            lane = 0.45 * plan.streets[number].half_road_m
            places.append(Place(number, section, order, point, drive_direction, lane, turn))
    return places


@lru_cache(maxsize=8)
def plan_captures(city: int, count: int, seed: int) -> tuple[list[Place], list[Capture]]:
    """Plan the photographs of a city.

    `PASSES` surveys visit each place (more if the city has too few places), and a day of a survey covers some
    neighbouring sections. The camera looks ahead and to the left in the first and third survey, and to the right in the
    second and fourth.

    Args:
        city: Number of the city in `cities.CITIES`.
        count: Number of photographs.
        seed: Seed of the data set.

    Returns:
        The places and `count` captures, ordered by drive.
    """
    places = choose_places(city_plan(city, seed), -(-count // PASSES), np.random.default_rng([seed, city, 2]))
    days: dict[tuple[int, int], Conditions] = {}
    captures = []
    for index in range(count):
        number, drive = index % len(places), index // len(places)
        place = places[number]
        date = drive, place.section // _SECTIONS_A_DAY
        if date not in days:
            days[date] = draw_conditions(CITIES[city].lat_deg, np.random.default_rng([seed, city, 3, *date]))
        day = days[date]
        rng = np.random.default_rng([seed, city, 4, index])
        along = float(np.clip(rng.normal(0.0, 1.2), -2.5, 2.5))
        left = np.array([-place.direction[1], place.direction[0]])
        aside = place.lane_m + float(np.clip(rng.normal(0.0, 0.3), -1.0, 1.0))
        position = place.position_m + along * place.direction + aside * left
        heading = np.degrees(np.arctan2(place.direction[0], place.direction[1])) + float(rng.normal(0.0, 1.5))
        heading += place.turn_deg if drive % 2 else -place.turn_deg
        seconds = 40.0 * (place.section % _SECTIONS_A_DAY) + 2.2 * place.order + float(rng.uniform(0.0, 0.9))
        when = day.when + dt.timedelta(seconds=seconds)
        name = f"d{place.section:03d}-{drive:02d}"
        captures.append(Capture(index, number, date, name, position, float(heading % 360.0), when, day))
    return places, captures


def frame_shot(scene: Scene, city: int, capture: Capture, size_px: int, seed: int) -> Shot:
    """Draw the content of one photograph; it depends only on the seed, the city and the index of the photograph."""
    rng = np.random.default_rng([seed, city, 5, capture.index])
    camera = Camera(
        float(capture.position_m[0]), float(capture.position_m[1]), capture.heading_deg, size_px,
        height_m=2.4 + float(rng.normal(0.0, 0.06)),
    )  # fmt: skip
    # Parked vehicles are those of the day, so that neighbouring photographs of a drive show the same ones.
    day = np.random.default_rng([seed, city, 8, *capture.date])
    parked = Parked(float(day.uniform(0.15, 0.75)), int(day.integers(0, 2**31 - 1)))
    vehicles = place_vehicles(scene, camera, parked, rng)
    people = place_people(scene, camera, int(rng.poisson(4.0)), rng)
    return Shot(camera, capture.conditions, vehicles, people, int(rng.integers(0, 2**31 - 1)))


def recorded_positions(
    frame: LocalFrame, true_m: NDArray[np.float64], city: int, seed: int, gps_noise_m: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Simulate the positions recorded by a GPS receiver.

    The accuracy of each photograph is lognormal with mean `gps_noise_m`. Its errors to the east and to the north are
    normal with the accuracy as standard deviation.

    Args:
        frame: Local frame of the city.
        true_m: (N, 2) true east, north in metres.
        city: Number of the city.
        seed: Seed of the data set.
        gps_noise_m: Mean accuracy in metres; 0 records the true position without an accuracy.

    Returns:
        (N, 2) recorded latitude, longitude in degrees; (N,) accuracy in metres, NaN without noise.
    """
    if gps_noise_m == 0.0:
        return frame.to_deg(true_m), np.full(len(true_m), np.nan)
    error = np.empty((len(true_m), 3))
    for index in range(len(true_m)):
        error[index] = np.random.default_rng([seed, city, 6, index]).standard_normal(3)
    accuracy = gps_noise_m * np.exp(_ACCURACY_SPREAD * error[:, 2] - 0.5 * _ACCURACY_SPREAD**2)
    return frame.to_deg(true_m + accuracy[:, None] * error[:, :2]), accuracy


def district_names(positions_m: NDArray[np.float64], city: int, seed: int) -> list[str]:
    """Return the district of each position (N, 2), which is that of the nearest of five centres."""
    rng = np.random.default_rng([seed, city, 7])
    centres = rng.uniform(-0.75 * HALF_EXTENT_M, 0.75 * HALF_EXTENT_M, (len(_DISTRICTS), 2))
    nearest = ((positions_m[:, None] - centres[None]) ** 2).sum(axis=2).argmin(axis=1)
    return [_DISTRICTS[i] for i in nearest]
