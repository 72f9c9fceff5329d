"""Positions and styles of the eight synthetic cities."""

from __future__ import annotations

from dataclasses import dataclass

RGB = tuple[float, float, float]

MATERIALS = ("brick", "stone", "render", "glass", "panel")


@dataclass(frozen=True)
class CityStyle:
    """Properties of a city; districts and buildings vary around them.

    Attributes:
        name: Name in the column `city` of the manifest.
        lat_deg: Latitude of the centre.
        lon_deg: Longitude of the centre.
        palettes: For each material in `MATERIALS`, a palette of wall colours (sRGB, 0 to 1).
        mixture: Weight of each material.
        block_area_m2: Area below which a block is not divided further.
        irregularity_deg: Standard deviation of the angle between a new street and the perpendicular.
        curvature_m: Amplitude of the displacement of the ground; 0 gives straight streets.
        avenues_deg: Bearings of the first streets of the city.
        floors: Typical number of floors.
        pitched: Share of buildings with a pitched roof.
        green: Trees and gardens, 0 to 1.
        trims: Colours of window surrounds and cornices.
        roof: Colour of pitched roofs.
        pavement: Colour of pavements.
        bus: Colour of buses.
    """

    name: str
    lat_deg: float
    lon_deg: float
    palettes: tuple[tuple[RGB, ...], ...]
    mixture: tuple[float, ...]
    block_area_m2: float
    irregularity_deg: float
    curvature_m: float
    avenues_deg: tuple[float, ...]
    floors: float
    pitched: float
    green: float
    trims: tuple[RGB, ...]
    roof: RGB
    pavement: RGB
    bus: RGB


_WHITE_TRIM: tuple[RGB, ...] = ((0.93, 0.92, 0.88), (0.85, 0.82, 0.74), (0.30, 0.31, 0.33))
_STONE_TRIM: tuple[RGB, ...] = ((0.78, 0.70, 0.56), (0.86, 0.84, 0.78), (0.42, 0.36, 0.30))
_GLASS: tuple[RGB, ...] = ((0.34, 0.45, 0.52), (0.42, 0.52, 0.50), (0.28, 0.33, 0.40))
_PANEL: tuple[RGB, ...] = ((0.62, 0.61, 0.58), (0.48, 0.52, 0.55), (0.72, 0.62, 0.48), (0.66, 0.40, 0.28))
_RED_BRICK: tuple[RGB, ...] = ((0.58, 0.33, 0.26), (0.50, 0.30, 0.26), (0.66, 0.44, 0.34), (0.45, 0.29, 0.26))
_STOCK_BRICK: tuple[RGB, ...] = ((0.72, 0.60, 0.42), (0.60, 0.47, 0.34), (0.62, 0.34, 0.25), (0.50, 0.41, 0.34))
_GREY_STONE: tuple[RGB, ...] = ((0.60, 0.57, 0.50), (0.50, 0.48, 0.45), (0.68, 0.62, 0.52), (0.43, 0.42, 0.41))
_RED_STONE: tuple[RGB, ...] = ((0.66, 0.45, 0.38), (0.57, 0.40, 0.35), (0.73, 0.61, 0.48), (0.62, 0.50, 0.43))
_HONEY_STONE: tuple[RGB, ...] = ((0.82, 0.70, 0.50), (0.76, 0.63, 0.46), (0.70, 0.60, 0.48))
_STUCCO: tuple[RGB, ...] = ((0.92, 0.90, 0.84), (0.88, 0.83, 0.72), (0.83, 0.82, 0.80))
_PASTEL: tuple[RGB, ...] = (
    (0.86, 0.55, 0.48), (0.92, 0.78, 0.45), (0.58, 0.74, 0.62), (0.52, 0.66, 0.82), (0.80, 0.62, 0.74),
    (0.93, 0.90, 0.82),
)  # fmt: skip

CITIES: tuple[CityStyle, ...] = (
    CityStyle(
        "London", 51.5145, -0.1180, (_STOCK_BRICK, _GREY_STONE, _STUCCO, _GLASS, _PANEL),
        (0.42, 0.14, 0.26, 0.10, 0.08),
        8200.0, 11.0, 9.0, (62.0, 148.0, 20.0), 4.0, 0.40, 0.5, _WHITE_TRIM, (0.30, 0.30, 0.33),
        (0.62, 0.60, 0.57),
        (0.80, 0.08, 0.09),
    ),
    CityStyle(
        "Manchester", 53.4800, -2.2440, (_RED_BRICK, _GREY_STONE, _STUCCO, _GLASS, _PANEL),
        (0.58, 0.10, 0.04, 0.16, 0.12),
        9000.0, 5.0, 3.0, (35.0, 125.0), 4.4, 0.35, 0.3, _STONE_TRIM, (0.28, 0.28, 0.31),
        (0.55, 0.54, 0.53),
        (0.95, 0.75, 0.10),
    ),
    CityStyle(
        "Birmingham", 52.4790, -1.8980, (_RED_BRICK, _RED_STONE, _STUCCO, _GLASS, _PANEL),
        (0.34, 0.06, 0.10, 0.20, 0.30),
        11500.0, 9.0, 11.0, (10.0, 75.0, 140.0), 4.2, 0.32, 0.4, _STONE_TRIM, (0.38, 0.27, 0.24),
        (0.63, 0.58, 0.52),
        (0.12, 0.30, 0.62),
    ),
    CityStyle(
        "Leeds", 53.7975, -1.5450, (_RED_BRICK, _HONEY_STONE, _STUCCO, _GLASS, _PANEL),
        (0.50, 0.24, 0.06, 0.10, 0.10),
        7200.0, 6.0, 7.0, (88.0, 2.0), 3.2, 0.72, 0.45, _STONE_TRIM, (0.33, 0.30, 0.31),
        (0.60, 0.57, 0.50),
        (0.24, 0.50, 0.25),
    ),
    CityStyle(
        "Glasgow", 55.8610, -4.2530, (_RED_BRICK, _RED_STONE, _STUCCO, _GLASS, _PANEL),
        (0.05, 0.68, 0.06, 0.12, 0.09),
        7600.0, 2.5, 1.5, (8.0, 98.0), 4.3, 0.45, 0.25, _STONE_TRIM, (0.27, 0.29, 0.33),
        (0.56, 0.53, 0.51),
        (0.93, 0.93, 0.90),
    ),
    CityStyle(
        "Edinburgh", 55.9520, -3.1930, (_STOCK_BRICK, _GREY_STONE, _STUCCO, _GLASS, _PANEL),
        (0.02, 0.80, 0.09, 0.05, 0.04),
        8000.0, 8.0, 12.0, (72.0, 160.0), 4.0, 0.68, 0.5, _STONE_TRIM, (0.31, 0.33, 0.37),
        (0.52, 0.51, 0.50),
        (0.48, 0.07, 0.16),
    ),
    CityStyle(
        "Bristol", 51.4550, -2.5930, (_RED_BRICK, _HONEY_STONE, _PASTEL, _GLASS, _PANEL),
        (0.14, 0.26, 0.46, 0.07, 0.07),
        6600.0, 14.0, 15.0, (50.0, 110.0, 170.0), 3.1, 0.70, 0.6, _WHITE_TRIM, (0.46, 0.28, 0.22),
        (0.64, 0.58, 0.48),
        (0.15, 0.45, 0.55),
    ),
    CityStyle(
        "Cardiff", 51.4810, -3.1790, (_RED_BRICK, _GREY_STONE, _PASTEL, _GLASS, _PANEL),
        (0.30, 0.36, 0.20, 0.07, 0.07),
        7000.0, 5.0, 6.0, (20.0, 105.0), 2.7, 0.82, 0.55, _WHITE_TRIM, (0.28, 0.30, 0.32),
        (0.58, 0.56, 0.54),
        (0.93, 0.45, 0.08),
    ),
)  # fmt: skip
