"""Facades: the colour of each pixel of a building's wall, from its place on the wall and the building's identity.

What depends only on the place along the wall is found once for a span (a column of pixels); what depends on height is
found for each pixel. Windows and lines are box-filtered, so that far facades turn into an even tone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from swclip.synthetic.buildings import BLANK, HOUSE, OFFICE, SHOP, Buildings
from swclip.synthetic.conditions import Conditions
from swclip.synthetic.fields import F32, I64, band, hash01, pulse
from swclip.synthetic.frontage import blank, house, office, shop
from swclip.synthetic.paint import Columns, Paint, Zone, glass_colour, wall_texture
from swclip.synthetic.walls import FRONT


@dataclass(frozen=True)
class Shaded:
    """Albedo (P, 3), share of lamplight (P,), and darkening by relief (P,)."""

    albedo: F32
    glow: F32
    relief: F32


def shade_facade(b: Buildings, columns: Columns, span: I64, height: F32, conditions: Conditions) -> Shaded:
    """Colour of pixels of facades.

    Args:
        b: All buildings.
        columns: The spans.
        span: (P,) span of each pixel.
        height: (P,) metres above the ground.
        conditions: The day: how many windows are lit.
    """
    count = len(span)
    out = Shaded(np.zeros((count, 3), np.float32), np.zeros(count, np.float32), np.ones(count, np.float32))
    use = b.use[columns.building]
    street = columns.kind == FRONT
    ground = np.where(street, b.ground_m[columns.building], np.float32(0.0))
    low = height < ground[span]
    zone = np.where(low, (use + 1)[span], 0)
    for number, shade in (
        (0, _upper),
        (HOUSE + 1, house),
        (SHOP + 1, shop),
        (OFFICE + 1, office),
        (BLANK + 1, blank),
    ):
        rows = np.flatnonzero(zone == number)
        if len(rows):
            albedo, glow, relief = shade(b, columns, span[rows], height[rows], ground, conditions)
            out.albedo[rows], out.glow[rows], out.relief[rows] = albedo, glow, relief
    return out


def _upper(b: Buildings, c: Columns, span: I64, h: F32, ground: F32, conditions: Conditions) -> Zone:
    building = c.building[span]
    floor_m = b.floor_m[building]
    v = (h - ground[span]) / floor_m
    storey = np.floor(v)
    pv = c.pixel_v[span]
    wide = pv / floor_m
    wh = b.window_h[building]
    sill = np.float32(0.86) - wh
    storeys = b.floors[building] - (ground[span] > 0)
    inside = (storey < storeys).astype(np.float32)
    # Flanks and backs have windows in some bays only.
    plain = c.kind[span] != FRONT
    if plain.any():
        inside *= np.where(plain, hash01(b.key[building], c.bay[span], c.kind[span]) < 0.45, 1.0).astype(np.float32)
    edge = np.minimum(0.07 / floor_m, 0.1 * wh)
    window = c.window[span] * pulse(v, sill, 0.86, wide) * inside
    pane = c.glass[span] * pulse(v, sill + edge, 0.86 - edge, wide)
    middle = sill + 0.5 * wh
    cross = pulse(v, middle - 0.5 * edge, middle + 0.5 * edge, wide) * (b.bars[building] > 0)
    pane *= (1.0 - c.bar[span]) * (1.0 - cross)
    calm = np.clip(1.6 * wide - 0.4, 0.0, 1.0).astype(np.float32)
    lift = np.clip((v - storey - sill) / wh, 0.0, 1.0)
    glass, lit = glass_colour(b, building, c.bay[span], storey, lift, calm, conditions.lit)
    office = b.material[building] == 3
    if office.any():
        glass[office] = 0.35 * glass[office] + 0.65 * b.wall[building[office]] * (0.6 + 0.5 * lift[office])[:, None]
    paint = Paint(len(span))
    shown = paint.put(window * pane, glass)
    glow = shown * lit * 0.62
    paint.put(window, b.frame[building])
    trim = b.trim[building]
    around = c.around[span] * pulse(v, sill - 2.0 * edge, np.minimum(0.86 + 2.6 * edge, 0.98), wide) * inside
    paint.put(around * b.surround[building], trim)
    spandrel = (b.material[building] == 4) & (hash01(b.key[building], 77) < 0.6)
    if spandrel.any():
        paint.put(c.window[span] * pulse(v, 0.0, sill, wide) * inside * spandrel, b.accent[building])
    course = pulse(v, 0.0, 0.07, wide) * b.banding[building] * (h < b.eave_m[building])
    eave = b.eave_m[building]
    paint.put(np.maximum(course, band(h, eave - 0.42, eave - 0.02, pv)), trim)
    texture = wall_texture(b.material[building], b.key[building], c.u[span], h, pv)
    paint.put(paint.left, b.wall[building] * texture[:, None])
    # Shadow under the cornice, and under sills and lintels.
    relief = 1.0 - 0.38 * band(h, eave - 0.85, eave - 0.42, pv)
    relief *= 1.0 - 0.30 * window * pulse(v, 0.86 - 2.6 * edge, 0.86 - edge, wide)
    return paint.albedo, glow, relief.astype(np.float32)
