"""Appearance of buildings, drawn from the style of the city, the fields of the district and individual variation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from swclip.synthetic.cities import CityStyle
from swclip.synthetic.fields import F32, SmoothField
from swclip.synthetic.lettering import SHOP_NAMES
from swclip.synthetic.lots import Lots

HOUSE, SHOP, OFFICE, BLANK = 0, 1, 2, 3
"""Uses of the ground floor."""


@dataclass(frozen=True)
class Districts:
    """Random fields that determine the appearance of districts, so that near places look alike.

    Attributes:
        commerce: Shops and offices (high) or homes (low).
        height: Number of floors.
        material: Prevailing wall material.
        tone: Position of wall colours in the palette of the material.
        light: Lightness of walls.
        age: Old buildings with narrow windows (low) or new ones with wide windows (high).
        green: Trees and gardens.
        paint: Colours of doors, shop fronts and frames.
    """

    commerce: SmoothField
    height: SmoothField
    material: SmoothField
    tone: SmoothField
    light: SmoothField
    age: SmoothField
    green: SmoothField
    paint: SmoothField

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Districts:
        """Draw all fields of a city."""
        return cls(*(SmoothField.draw(rng) for _ in range(8)))


@dataclass(frozen=True)
class Buildings:
    """Arrays over N buildings. Colours are linear RGB; lengths are in metres.

    `bay_m` and `floor_m` are the spacings of windows, `window_w` and `window_h` their shares of a bay and a floor.
    """

    eave_m: F32
    ridge_m: F32
    ground_m: F32
    floor_m: F32
    floors: NDArray[np.int32]
    bay_m: F32
    window_w: F32
    window_h: F32
    bars: F32
    wall: F32
    trim: F32
    door: F32
    frame: F32
    shopfront: F32
    sign: F32
    letters: F32
    roof: F32
    accent: F32
    banding: F32
    surround: F32
    material: NDArray[np.int32]
    use: NDArray[np.int32]
    name: NDArray[np.int32]
    key: NDArray[np.int32]

    def __len__(self) -> int:
        """Number of buildings."""
        return len(self.eave_m)


def linear(srgb: NDArray[np.float64]) -> F32:
    """Convert sRGB in [0, 1] to linear light, with the power law that the renderer's tone curve inverts."""
    return np.asarray(np.clip(srgb, 0.0, 1.0) ** 2.2, dtype=np.float32)


def _palette(colours: tuple[tuple[float, float, float], ...], position: NDArray[np.float64]) -> NDArray[np.float64]:
    """Interpolate colours linearly along a palette; `position` in [0, 1]."""
    table = np.array(colours)
    index = np.clip(position, 0.0, 1.0) * (len(table) - 1)
    low = np.minimum(index.astype(int), max(len(table) - 2, 0))
    high = np.minimum(low + 1, len(table) - 1)
    share = (index - low)[:, None]
    return np.asarray(table[low] * (1 - share) + table[high] * share)


def hue_colour(
    hue: NDArray[np.float64], saturation: NDArray[np.float64], value: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Convert (N,) hue, saturation, value in [0, 1] (hue is cyclic) to (N, 3) sRGB."""
    k = (np.array([5.0, 3.0, 1.0]) + 6.0 * hue[:, None]) % 6.0
    return np.asarray(value[:, None] * (1.0 - saturation[:, None] * np.clip(np.minimum(k, 4.0 - k), 0.0, 1.0)))


_PAINTS = (
    (0.11, 0.25, 0.18), (0.16, 0.36, 0.33), (0.20, 0.45, 0.52), (0.13, 0.22, 0.38), (0.25, 0.38, 0.58),
    (0.52, 0.60, 0.66), (0.80, 0.79, 0.72), (0.86, 0.70, 0.30), (0.80, 0.48, 0.22), (0.68, 0.27, 0.18),
    (0.56, 0.13, 0.15), (0.38, 0.10, 0.16), (0.20, 0.14, 0.14), (0.12, 0.12, 0.13), (0.36, 0.42, 0.30),
    (0.45, 0.55, 0.38),
)  # fmt: skip
"""Colours of doors, shop fronts and panels as a cyclic palette; similar colours are neighbours."""


def _paint(position: NDArray[np.float64], lightness: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return colours at positions in the cyclic palette of paints (period 1), lighter or darker by `lightness`."""
    colour = _palette((*_PAINTS, _PAINTS[0]), position % 1.0)
    return np.asarray(np.clip(colour * (1.0 + 0.16 * lightness[:, None]), 0.03, 0.95))


_MATERIAL_VARIATION = 1.5
"""Variation of the material between rows of buildings, in units of the variation between districts."""


def _materials(style: CityStyle, field: NDArray[np.float64], variation: NDArray[np.float64]) -> NDArray[np.int32]:
    # The quantile of the field selects from the mixture, so that a district has a prevailing material with exceptions.
    from scipy.special import ndtr

    quantile = np.clip(
        ndtr((field + _MATERIAL_VARIATION * variation) / np.hypot(1.0, _MATERIAL_VARIATION)), 0.0, 1.0 - 1e-9
    )
    edges = np.cumsum(style.mixture) / np.sum(style.mixture)
    return np.asarray(np.searchsorted(edges, quantile, side="right").clip(0, 4), dtype=np.int32)


def draw_buildings(style: CityStyle, lots: Lots, districts: Districts, rng: np.random.Generator) -> Buildings:
    """Draw every building of a city.

    Args:
        style: The city.
        lots: The footprints.
        districts: Fields of the city.
        rng: Source of randomness.

    Returns:
        One building for each lot, in the same order.
    """
    n = len(lots.street)
    centre = lots.corners.mean(axis=1)
    x, y = centre[:, 0], centre[:, 1]
    terraces = int(lots.terrace.max()) + 1
    row = lots.terrace

    def terrace_noise() -> NDArray[np.float64]:
        return rng.standard_normal(terraces)[row]

    commerce = districts.commerce(x, y) + 0.9 - 0.75 * lots.rank + 0.5 * rng.standard_normal(n)
    home = (commerce < 0.25) | lots.garden
    width = np.linalg.norm(lots.corners[:, 1] - lots.corners[:, 0], axis=1)
    office = (width > 10.5) & (commerce > 0.4)
    use = np.where(home, HOUSE, np.where(office & (rng.random(n) < 0.5), OFFICE, SHOP))
    use = np.where(rng.random(n) < 0.03, BLANK, use).astype(np.int32)
    material = _materials(style, districts.material(x, y), terrace_noise())
    material = np.where(home & (material == 3), 0, material).astype(np.int32)
    modern = 0.6 * districts.age(x, y) + 1.2 * terrace_noise() + (material >= 3) * 1.2

    floors = style.floors + 0.6 * districts.height(x, y) + 1.5 * terrace_noise() - 0.35 * lots.rank + 0.9 * office
    floors = np.clip(np.rint(floors - 1.2 * lots.garden + 1.3 * (material == 3)), 2, 10).astype(np.int32)
    floor_m = np.clip(3.1 + 0.35 * terrace_noise() - 0.12 * np.sign(modern), 2.6, 3.8)
    ground_m = np.where(use == HOUSE, floor_m * 1.02, floor_m * 1.28) + 0.1 * terrace_noise()
    eave = ground_m + (floors - 1) * floor_m + 0.5
    pitched = (rng.random(terraces)[row] < style.pitched + 0.25 * lots.garden) & (floors <= 5) & (material < 3)
    ridge = np.where(pitched, np.clip(2.6 + 0.5 * terrace_noise(), 1.6, 4.0), 0.0)

    tone = 0.5 + 0.20 * districts.tone(x, y) + 0.36 * terrace_noise() + 0.08 * rng.standard_normal(n)
    wall = np.zeros((n, 3))
    for number, colours in enumerate(style.palettes):
        chosen = material == number
        # Painted render varies between houses; masonry hardly does.
        variation = 0.30 * rng.standard_normal(n) if number == 2 else np.zeros(n)
        wall[chosen] = _palette(colours, (tone + variation)[chosen])
    wall *= (1.0 + 0.06 * districts.light(x, y) + 0.18 * terrace_noise() + 0.05 * rng.standard_normal(n))[:, None]
    wall += 0.006 * rng.standard_normal((n, 3))

    paint = 0.5 + 0.26 * districts.paint(x, y)
    varied_paint = paint + 0.35 * rng.standard_normal(n)
    door = _paint(varied_paint, rng.standard_normal(n)) * 0.85
    front = _paint(varied_paint + 0.12 * rng.standard_normal(n), rng.standard_normal(n))
    dark = front.mean(axis=1) < 0.42
    letters = np.where(dark[:, None], np.array([0.95, 0.93, 0.82]), np.array([0.10, 0.09, 0.12]))
    gold = rng.random(n) < 0.25
    letters = np.where((gold & dark)[:, None], np.array([0.93, 0.75, 0.25]), letters)
    trim = _palette(style.trims, np.clip(0.4 + 0.25 * districts.light(x, y) + 0.22 * terrace_noise(), 0, 1))
    frame = np.where(
        (rng.random(terraces)[row] < 0.72)[:, None], np.array([0.92, 0.92, 0.90]), np.array([0.16, 0.17, 0.19])
    )
    frame = np.where((material == 3)[:, None], wall * 0.45, frame)
    accent = _paint(paint + 0.45 + 0.15 * terrace_noise(), rng.standard_normal(n))

    bay = np.clip(np.where(modern > 0.7, 3.4, 2.7) + 0.9 * terrace_noise(), 1.9, 5.0)
    window_w = np.clip(np.where(modern > 0.7, 0.62, 0.42) + 0.14 * terrace_noise(), 0.28, 0.85)
    window_h = np.clip(np.where(modern > 0.7, 0.50, 0.58) + 0.11 * terrace_noise(), 0.36, 0.75)
    window_w = np.where(material == 3, 0.93, window_w)
    window_h = np.where(material == 3, 0.86, window_h)
    roof = np.array(style.roof) * (1.0 + 0.12 * terrace_noise()[:, None]) + 0.02 * terrace_noise()[:, None] * np.array(
        [1, 0, -1]
    )
    f = np.float32
    return Buildings(
        eave_m=eave.astype(f), ridge_m=ridge.astype(f), ground_m=ground_m.astype(f), floor_m=floor_m.astype(f),
        floors=floors, bay_m=bay.astype(f), window_w=window_w.astype(f), window_h=window_h.astype(f),
        bars=np.where(modern > 0.7, 0.0, rng.choice([0.0, 1.0, 1.0, 2.0], terraces)[row]).astype(f),
        wall=linear(wall), trim=linear(trim), door=linear(door), frame=linear(frame), shopfront=linear(front * 0.8),
        sign=linear(front), letters=linear(letters), roof=linear(roof), accent=linear(accent),
        banding=np.where(rng.random(terraces)[row] < 0.35, 1.0, 0.0).astype(f),
        surround=np.where((rng.random(terraces)[row] < 0.55) & (modern < 0.7), 1.0, 0.0).astype(f),
        material=material, use=use, name=rng.integers(0, len(SHOP_NAMES), n).astype(np.int32),
        key=rng.integers(0, 2**31 - 1, n).astype(np.int32),
    )  # fmt: skip
