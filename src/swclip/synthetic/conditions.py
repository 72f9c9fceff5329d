"""Conditions of a drive: season, time of day, weather, light and camera settings."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from swclip.synthetic.buildings import hue_colour, linear
from swclip.synthetic.fields import F32

WEATHERS = ("sun", "cloud", "rain", "dusk")
_CHANCES = (0.40, 0.56, 0.02, 0.02)  # surveys are made in daylight and dry weather, with few exceptions


@dataclass(frozen=True)
class Conditions:
    """Light and weather of one drive. Colours are linear RGB.

    Attributes:
        when: Local time.
        weather: One of `WEATHERS`.
        sun: (3,) unit vector to the sun: east, north, up.
        sunlight: (3,) direct light on a surface facing the sun; zeros if the sun is hidden.
        skylight: (3,) light from the whole sky.
        zenith: (3,) colour of the sky overhead.
        horizon: (3,) colour of the sky at the horizon, and of haze.
        clouds: Share of the sky covered by clouds.
        haze_m: Distance at which contrast falls to 1/e.
        wet: Wetness of the ground, 0 to 1.
        lit: Share of lit windows.
        foliage: (3,) colour of leaves.
        leaves: 1 if trees have leaves, else 0.
        exposure: Factor on the light.
        balance: (3,) factors of the white balance.
        contrast: Exponent of the tone curve.
        drift: (2,) offset of the clouds.
    """

    when: dt.datetime
    weather: str
    sun: F32
    sunlight: F32
    skylight: F32
    zenith: F32
    horizon: F32
    clouds: float
    haze_m: float
    wet: float
    lit: float
    foliage: F32
    leaves: float
    exposure: float
    balance: F32
    contrast: float
    drift: F32

    @property
    def sunny(self) -> bool:
        """Whether the sun casts shadows."""
        return float(self.sunlight[0]) > 0.2


def sun_direction(when: dt.datetime, lat_deg: float) -> NDArray[np.float64]:
    """Compute the (3,) unit vector to the sun (east, north, up), accurate to one or two degrees.

    Args:
        when: Local solar time.
        lat_deg: Latitude in degrees.

    Example:
        >>> import datetime as dt
        >>> bool(sun_direction(dt.datetime(2024, 6, 21, 12), 51.5)[1] < 0)  # at noon the sun is in the south
        True
    """
    day = when.timetuple().tm_yday
    declination = np.radians(-23.44) * np.cos(2 * np.pi * (day + 10) / 365.25)
    hour = np.radians(15.0 * (when.hour + when.minute / 60.0 - 12.0))
    lat = np.radians(lat_deg)
    east = -np.cos(declination) * np.sin(hour)
    north = np.sin(declination) * np.cos(lat) - np.cos(declination) * np.sin(lat) * np.cos(hour)
    up = np.sin(declination) * np.sin(lat) + np.cos(declination) * np.cos(lat) * np.cos(hour)
    return np.array([east, north, up])


def _foliage(day: int, rng: np.random.Generator) -> tuple[F32, float]:
    if day < 85 or day > 330:
        return linear(np.array([0.42, 0.36, 0.28])), 0.0
    if day < 140:
        hue = rng.uniform(0.24, 0.29)
        colour = hue_colour(np.array([hue]), np.array([0.55]), np.array([0.62]))
    elif day < 265:
        colour = hue_colour(np.array([rng.uniform(0.26, 0.33)]), np.array([0.50]), np.array([0.46]))
    else:
        colour = hue_colour(np.array([rng.uniform(0.05, 0.15)]), np.array([0.68]), np.array([0.68]))
    return linear(colour[0]), 1.0


def draw_conditions(lat_deg: float, rng: np.random.Generator) -> Conditions:
    """Draw the conditions of a drive.

    Args:
        lat_deg: Latitude of the city, which determines the elevation of the sun.
        rng: Source of randomness.
    """
    weather = str(rng.choice(WEATHERS, p=_CHANCES))
    season = dt.timedelta(days=int(rng.integers(110, 300)))  # mid-April to October
    day = dt.datetime(2022 + int(rng.integers(0, 3)), 1, 1) + season
    while True:
        when = day.replace(
            hour=int(rng.integers(8, 18)), minute=int(rng.integers(0, 60)), second=int(rng.integers(0, 60))
        )
        sun = sun_direction(when, lat_deg)
        if sun[2] > 0.10:
            break
    foliage, leaves = _foliage(when.timetuple().tm_yday, rng)
    low = float(np.clip((0.55 - sun[2]) / 0.5, 0.0, 1.0))  # 1 when the sun is low
    warm = np.array([1.0, 0.93 - 0.16 * low, 0.82 - 0.34 * low])
    f32 = np.float32
    base = Conditions(
        when=when, weather=weather, sun=sun.astype(f32), sunlight=(1.2 * warm).astype(f32),
        skylight=np.array([0.84, 0.90, 1.00], f32), zenith=linear(np.array([0.36, 0.56, 0.82])),
        horizon=linear(np.array([0.76, 0.85, 0.93]) - low * np.array([-0.06, 0.03, 0.14])),
        clouds=float(rng.uniform(0.15, 0.50)), haze_m=float(rng.uniform(350.0, 900.0)), wet=0.0, lit=0.03,
        foliage=foliage, leaves=leaves, exposure=float(np.exp(rng.normal(0.0, 0.08))),
        balance=np.exp(rng.normal(0.0, 0.03) * np.array([1.0, 0.0, -1.0])).astype(f32),
        contrast=float(rng.uniform(0.95, 1.06)), drift=rng.uniform(0.0, 256.0, 2).astype(f32),
    )  # fmt: skip
    if weather == "sun":
        return base
    grey = float(rng.uniform(0.84, 0.97))
    if weather == "cloud":
        return replace(
            base, sunlight=(0.10 * warm).astype(f32), skylight=np.array([1.20, 1.23, 1.28], f32),
            zenith=linear(grey * np.array([0.78, 0.82, 0.88])), horizon=linear(grey * np.array([1.02, 1.03, 1.04])),
            clouds=1.0, haze_m=float(rng.uniform(250.0, 600.0)), lit=0.06,
        )  # fmt: skip
    if weather == "rain":
        return replace(
            base, sunlight=np.zeros(3, f32), skylight=np.array([0.92, 0.97, 1.04], f32),
            zenith=linear(grey * np.array([0.68, 0.72, 0.77])), horizon=linear(grey * np.array([0.84, 0.87, 0.90])),
            clouds=1.0, haze_m=float(rng.uniform(110.0, 220.0)), wet=1.0, lit=0.16,
            exposure=base.exposure * 1.1,
        )  # fmt: skip
    while sun[2] > 0.0:  # advance to sunset
        when += dt.timedelta(minutes=6)
        sun = sun_direction(when, lat_deg)
    glow = float(rng.uniform(0.0, 0.22)) * np.array([1.0, 0.6, 0.2])
    return replace(
        base, when=when, sunlight=np.zeros(3, f32), skylight=np.array([0.36, 0.36, 0.50], f32),
        zenith=linear(np.array([0.16, 0.22, 0.42])), horizon=linear(np.array([0.86, 0.66, 0.52]) - glow),
        clouds=float(rng.uniform(0.2, 0.6)), wet=float(rng.random() < 0.3), lit=0.38, exposure=base.exposure * 1.5,
    )  # fmt: skip
