"""Facades: the colour of each pixel of a building's wall, from its position on the wall and the building.

Values that depend only on the position along the wall are computed once per span (a column of pixels), values that
depend on height once per pixel. Windows and lines are box-filtered, so that distant facades have an even tone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from swclip.synthetic.buildings import BLANK, HOUSE, OFFICE, SHOP, Buildings
from swclip.synthetic.conditions import Conditions
from swclip.synthetic.fields import F32, I64, band, hash01, pulse, step
from swclip.synthetic.lettering import BITS, LENGTHS, ROWS
from swclip.synthetic.paint import CURTAIN, SHOP_GLASS, Columns, Paint, Zone, glass_colour, wall_texture
from swclip.synthetic.walls import FRONT


@dataclass(frozen=True)
class Shaded:
    """Albedo (P, 3), share of lamplight (P,), and darkening by relief (P,)."""

    albedo: F32
    glow: F32
    relief: F32


def shade_facade(b: Buildings, columns: Columns, span: I64, height: F32, conditions: Conditions) -> Shaded:
    """Compute the colour of pixels of facades.

    Args:
        b: All buildings.
        columns: The spans.
        span: (P,) span of each pixel.
        height: (P,) metres above the ground.
        conditions: Conditions, which determine the share of lit windows.
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
    # Sides and backs have windows only in some bays.
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
    paint.put(paint.remaining, b.wall[building] * texture[:, None])
    # Shadow under the cornice, and under sills and lintels.
    relief = 1.0 - 0.38 * band(h, eave - 0.85, eave - 0.42, pv)
    relief *= 1.0 - 0.30 * window * pulse(v, 0.86 - 2.6 * edge, 0.86 - edge, wide)
    return paint.albedo, glow, relief.astype(np.float32)


def house(b: Buildings, c: Columns, span: I64, h: F32, ground: F32, conditions: Conditions) -> Zone:
    """Shade the ground floor of a house: one bay has the door, the others have windows."""
    building, pv, pu = c.building[span], c.pixel_v[span], c.pixel_u
    key = b.key[c.building]
    pitch = c.length / c.bays
    door_bay = np.floor(hash01(b.material[c.building], b.floors[c.building], 11) * np.minimum(c.bays, 2.0))
    from_middle = np.abs(c.u - (door_bay + 0.5) * pitch)
    half = np.float32(0.5)
    at_door = 1.0 - step(from_middle, half, pu)
    surround = 1.0 - step(from_middle, half + 0.2, pu)
    fan = hash01(key, 12) < 0.6
    paint = Paint(len(span))
    door = at_door[span] * band(h, 0.12, 2.15, pv)
    middle = (1.0 - step(from_middle, 0.34, pu))[span]
    panel = np.float32(1.0) - np.float32(0.3) * pulse(h / 0.7, 0.15, 0.85, pv / 0.7) * middle
    light = at_door[span] * band(h, 2.22, 2.55, pv) * fan[span]
    is_door_bay = (c.bay == door_bay)[span]
    glass, lit = glass_colour(
        b, building, c.bay[span], -1, np.clip((h - 0.9) / 1.5, 0, 1), np.zeros_like(h), conditions.lit
    )
    shown = paint.put(light, glass) * lit
    paint.put(door, b.door[building] * panel[:, None])
    paint.put(surround[span] * band(h, 0.0, 2.75, pv), b.trim[building])
    top = np.minimum(b.ground_m[building] - 0.45, 2.6)
    window = c.window[span] * band(h, 0.85, top, pv) * ~is_door_bay
    pane = c.glass[span] * band(h, 0.92, top - 0.07, pv) * (1.0 - c.bar[span])
    pane *= 1.0 - band(h, 0.5 * (0.85 + top) - 0.035, 0.5 * (0.85 + top) + 0.035, pv)
    shown = shown + paint.put(window * pane, glass) * lit
    paint.put(window, b.frame[building])
    around = c.around[span] * band(h, 0.72, top + 0.16, pv) * ~is_door_bay * b.surround[building]
    course = step(h, b.ground_m[building] - 0.16, pv) * b.banding[building]
    paint.put(np.maximum(around, course), b.trim[building])
    texture = wall_texture(b.material[building], b.key[building], c.u[span], h, pv)
    plinth = 1.0 - 0.25 * (1.0 - step(h, 0.45, pv))
    paint.put(paint.remaining, b.wall[building] * (texture * plinth)[:, None])
    return paint.albedo, shown * 0.62, np.ones_like(h)


def shop(b: Buildings, c: Columns, span: I64, h: F32, ground: F32, conditions: Conditions) -> Zone:
    """Shade the ground floor of a shop: fascia with the name, glazing with goods, pilasters, optional awning."""
    building, pv, pu = c.building[span], c.pixel_v[span], c.pixel_u
    key = b.key[c.building]
    top = b.ground_m[building]
    # Pilasters at both ends, mullions and a door.
    inside = band(c.u, 0.28, c.length - 0.28, pu)
    mullion = 1.0 - pulse(c.u / 1.55, 0.04, 0.96, pu / 1.55)
    door_at = 0.5 + hash01(key, 21) * np.maximum(c.length - 2.2, 0.1)
    door = band(c.u, door_at, door_at + 1.05, pu)
    door_frame = band(c.u, door_at - 0.1, door_at + 1.15, pu) - door
    # The name in cells of the block font, centred on the front.
    cells = LENGTHS[b.name[c.building]]
    cell_m = np.minimum(0.15, (c.length - 0.9) / (cells + 2)).astype(np.float32)
    cell = (c.u - 0.5 * c.length) / cell_m + 0.5 * cells + 1.0
    number = np.clip(np.floor(cell), 0, BITS.shape[1] - 1).astype(np.int32)
    bits = np.where((cell >= 0) & (cell < cells + 1), BITS[b.name[c.building], number], 0).astype(np.int32)
    fascia_low, fascia_high = top - 1.12, top - 0.10
    middle = 0.5 * (fascia_low + fascia_high)
    line = np.floor((middle - h) / cell_m[span] + 0.5 * ROWS)
    letter = ((bits[span] >> np.clip(line, 0, 7).astype(np.int32)) & 1) * ((line >= 0) & (line < ROWS))
    fascia = band(h, fascia_low, fascia_high, pv)
    paint = Paint(len(span))
    lamp = np.float32(0.25 + 1.2 * (conditions.lit > 0.3))
    signed = paint.put(fascia * letter.astype(np.float32), b.letters[building])
    signed = signed + paint.put(fascia, b.sign[building])
    awning_shop = (hash01(key, 22) < 0.28)[span]
    stripe = pulse(c.u / 0.9, 0.0, 0.5, pu / 0.9)[span]
    awning = awning_shop * band(h, fascia_low - 0.75, fascia_low, pv)
    cloth = b.accent[building] + stripe[:, None] * (np.float32(0.82) - b.accent[building])
    paint.put(awning, cloth)
    frame = np.maximum(mullion, door_frame)[span]
    glazed = inside[span] * (
        band(h, 0.55, fascia_low - 0.08, pv) * (1.0 - door[span]) + door[span] * band(h, 0.25, 2.2, pv)
    )
    shelf = hash01(key[span], np.floor(c.u / 0.55)[span], np.floor(h / 0.6))
    goods = (
        (0.25 + 0.75 * shelf)[:, None]
        * (0.5 * b.accent[building] + 0.5 * CURTAIN)
        * np.clip(1.6 - 0.5 * h, 0.15, 1.0)[:, None]
    )
    pane = 0.55 * goods + 0.45 * SHOP_GLASS
    open_late = conditions.lit + 0.35 * hash01(key, 23)
    shown = paint.put(glazed * (1.0 - frame), pane)
    paint.put(inside[span], b.shopfront[building])
    texture = wall_texture(b.material[building], b.key[building], c.u[span], h, pv)
    paint.put(band(h, top - 0.10, top + 1.0, pv), b.trim[building])
    paint.put(paint.remaining, 0.5 * (b.wall[building] * texture[:, None] + b.shopfront[building]))
    relief = 1.0 - 0.35 * band(h, fascia_low - 0.35, fascia_low, pv) * ~awning_shop
    glow = shown * (lamp * 0.8 * open_late[span]) + signed * (0.28 * lamp * (conditions.lit > 0.1))
    return paint.albedo, glow.astype(np.float32), relief.astype(np.float32)


def office(b: Buildings, c: Columns, span: I64, h: F32, ground: F32, conditions: Conditions) -> Zone:
    """Shade the ground floor of an office: tall glazing between piers, and an entrance."""
    building, pv, pu = c.building[span], c.pixel_v[span], c.pixel_u
    top = b.ground_m[building]
    pitch = c.length / c.bays
    bay = pulse(c.u / pitch, 0.11, 0.89, pu / pitch)
    mullion = pulse(c.u / pitch, 0.48, 0.52, pu / pitch)
    door_bay = np.floor(hash01(b.key[c.building], 41) * c.bays)
    entrance = (c.bay == door_bay)[span]
    glass, lit = glass_colour(
        b, building, c.bay[span], -2, np.clip(h / 3.5, 0, 1), np.zeros_like(h), 0.3 + conditions.lit
    )
    paint = Paint(len(span))
    paint.put(bay[span] * entrance * band(h, 2.5, 3.0, pv), b.sign[building])
    shown = paint.put(bay[span] * (1.0 - mullion[span]) * band(h, 0.35 * ~entrance, top - 0.75, pv), 0.7 * glass)
    paint.put(bay[span] * band(h, 0.0, top - 0.65, pv), b.frame[building])
    paint.put(band(h, top - 0.5, top, pv), b.trim[building])
    texture = wall_texture(b.material[building], b.key[building], c.u[span], h, pv)
    stone = 0.5 * b.trim[building] + 0.5 * b.wall[building]
    paint.put(paint.remaining, stone * texture[:, None])
    relief = 1.0 - 0.3 * band(h, top - 1.2, top - 0.75, pv)
    return paint.albedo, shown * lit * np.float32(0.15 + 0.7 * (conditions.lit > 0.3)), relief.astype(np.float32)


def blank(b: Buildings, c: Columns, span: I64, h: F32, ground: F32, conditions: Conditions) -> Zone:
    """Shade a ground floor with a gate for vehicles."""
    building, pv, pu = c.building[span], c.pixel_v[span], c.pixel_u
    wide = np.minimum(3.0, c.length - 1.0)
    gate = band(c.u, 0.5 * (c.length - wide), 0.5 * (c.length + wide), pu)[span] * band(h, 0.0, 2.5, pv)
    ribs = 0.75 + 0.25 * pulse(h / 0.28, 0.0, 0.7, pv / 0.28)
    paint = Paint(len(span))
    paint.put(gate, b.accent[building] * ribs[:, None])
    texture = wall_texture(b.material[building], b.key[building], c.u[span], h, pv)
    paint.put(paint.remaining, b.wall[building] * texture[:, None])
    return paint.albedo, np.zeros_like(h), np.ones_like(h)
