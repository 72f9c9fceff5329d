"""Rows that say the same thing twice, and pictures that are said to be at two places."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from swclip.ingest.rejections import Ledger, Rejection, Row
from swclip.ingest.verification import Verdict
from swclip.geo.distance import haversine_m

SAME_PLACE_M = 25.0
"""Byte-identical pictures further apart than this contradict each other."""


def without_repeats(rows: list[Row], ledger: Ledger) -> list[Row]:
    """The first of rows with the same image file and the same position; the others are rejected."""
    seen: dict[tuple[Path, float | None, float | None], int] = {}
    kept = []
    for row in rows:
        known = not (row.lat_deg is None or row.lon_deg is None or math.isnan(row.lat_deg) or math.isnan(row.lon_deg))
        key = (row.path, row.lat_deg, row.lon_deg) if known else (row.path, None, None)
        if key in seen:
            detail = f"the same image at the same position as row {seen[key]}."
            ledger.reject(Rejection(row.row, row.image, "duplicate-row", detail))
        else:
            seen[key] = row.row
            kept.append(row)
    return kept


def without_twins(rows: list[Row], verdicts: dict[Path, Verdict], ledger: Ledger) -> list[Row]:
    """Of byte-identical pictures at one place the first stays; at different places none does."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(verdicts[row.path].sha256, []).append(row)
    out: dict[int, Rejection] = {}
    for group in (group for group in groups.values() if len(group) > 1):
        lat = np.array([row.lat_deg for row in group], dtype=np.float64)
        lon = np.array([row.lon_deg for row in group], dtype=np.float64)
        away_m = haversine_m(lat[0], lon[0], lat, lon)
        far = int(np.argmax(away_m))
        for place, row in enumerate(group):
            if away_m[far] > SAME_PLACE_M:
                other = group[far] if place == 0 else group[0]
                apart_m = float(away_m[far] if place == 0 else away_m[place])
                where = f"{apart_m:.0f} m away" if apart_m > SAME_PLACE_M else "and others further away"
                detail = f"the same bytes as row {other.row} ({other.image}), {where}; which is right cannot be known."
                out[row.index] = Rejection(row.row, row.image, "duplicate-image-other-place", detail)
            elif place > 0:
                detail = f"the same bytes as row {group[0].row} ({group[0].image}) at the same place."
                out[row.index] = Rejection(row.row, row.image, "duplicate-image", detail)
    for index in sorted(out):
        ledger.reject(out[index])
    return [row for row in rows if row.index not in out]
