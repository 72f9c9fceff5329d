"""Data of the map of an inspection: one view per city with its photographs and the suspicious ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from swclip.data.grouping import rows_by_name, text_or_none
from swclip.data.manifest import Manifest
from swclip.geo.coordinates import LocalFrame
from swclip.imaging.decode import PhotographError
from swclip.inspection.inspection import Inspection
from swclip.inspection.suspicious import REASONS
from swclip.reporting.examples import Picture, thumbnail
from swclip.reporting.map_data import allocate, axes, frame_of, with_margin

_DRAWN, _LISTED, _VIEWS = 24_000, 3_000, 60
# Photographs that the extent of a map ignores, and the per cent of the others beyond each of its sides: a position that
# is wrong must not make all others a single dot.
_ASTRAY = ("jump", "isolated")
_BEYOND = 0.5


class Album:
    """Thumbnails of photographs by their row in the manifest, each embedded once, until the budget is used.

    Args:
        manifest: The photographs.
        budget_bytes: Total size of the thumbnails; 0 for none.
    """

    def __init__(self, manifest: Manifest, budget_bytes: int) -> None:
        self._manifest = manifest
        self._left = budget_bytes
        self._numbers: dict[int, int] = {}
        self.images: list[str] = []

    def number(self, row: int) -> int:
        """Number of a thumbnail; -1 where the photograph cannot be read or the budget is used."""
        if row not in self._numbers:
            self._numbers[row] = -1
            if self._left > 0:
                try:
                    picture = thumbnail(self._manifest.image_paths[row], size_px=280, quality=66)
                except PhotographError:
                    return -1
                self._left -= len(picture)
                self._numbers[row] = len(self.images)
                self.images.append(picture)
        return self._numbers[row]

    def picture(self, row: int) -> Picture:
        """A thumbnail with the id of its photograph."""
        number, image_id = self.number(row), str(self._manifest.frame["image_id"].iloc[row])
        return Picture("" if number < 0 else self.images[number], image_id, image_id)


def inspection_map(inspection: Inspection, album: Album) -> dict[str, Any]:
    """The views of the map, one per city, the largest first."""
    manifest, listed = inspection.manifest, inspection.suspicious
    reasons = [reason for reason in REASONS if (listed["reason"] == reason.name).any()]
    number = {reason.name: at for at, reason in enumerate(reasons)}
    of_row: dict[int, list[tuple[int, str]]] = {}
    for row, reason, detail in zip(listed.index, listed["reason"], listed["detail"], strict=True):
        of_row.setdefault(int(row), []).append((number[reason], str(detail)))
    rows_of = rows_by_name(text_or_none(manifest.frame["city"]))
    cities = sorted(rows_of.items(), key=lambda item: -len(item[1]))[:_VIEWS]
    generator = np.random.default_rng(0)
    views = []
    for (name, rows), most, listed_most in zip(
        cities,
        allocate([len(rows) for _, rows in cities], _DRAWN),
        allocate([sum(row in of_row for row in rows.tolist()) for _, rows in cities], _LISTED),
        strict=True,
    ):
        suspicious = np.array([row for row in rows.tolist() if row in of_row], dtype=np.int64)[:listed_most]
        drawn = rows if len(rows) <= most else np.sort(generator.choice(rows, most, replace=False))
        views.append(
            _view(
                name or ("All photographs" if len(rows_of) == 1 else "Unknown city"),
                inspection,
                rows,
                drawn,
                suspicious,
                of_row,
                album,
            )
        )
    left_out = len(manifest) - sum(len(view["photographs"]["x"]) for view in views)
    note = (
        f"To limit the size of this file, {left_out:,} photographs, chosen at random, are not drawn."
        if left_out
        else ""
    )
    return {
        "views": views,
        "reasons": [reason.name for reason in reasons],
        "rules": [reason.rule for reason in reasons],
        "images": album.images,
        "note": note,
    }


def _view(
    name: str,
    inspection: Inspection,
    rows: Int64[np.ndarray, " n"],
    drawn: Int64[np.ndarray, " d"],
    suspicious: Int64[np.ndarray, " s"],
    of_row: Mapping[int, list[tuple[int, str]]],
    album: Album,
) -> dict[str, Any]:
    deg, frame = inspection.manifest.positions_deg, inspection.manifest.frame
    # Around the median: the mean of a city with one photograph elsewhere is nowhere.
    local = LocalFrame(*np.median(deg[rows], axis=0).tolist())
    listed = inspection.suspicious
    astray = listed.index[listed["reason"].isin(_ASTRAY)]
    usual = rows[~np.isin(rows, astray)]
    xy = local.to_xy_m(deg[usual if len(usual) else rows])
    low, high = (np.percentile(xy, share, axis=0) for share in (_BEYOND, 100.0 - _BEYOND))
    low, high = with_margin(low, high)
    ids = frame["image_id"].iloc[suspicious].astype(str).tolist()
    return {
        "name": name,
        "n": len(rows),
        "frame": frame_of(local),
        "extent_m": [*np.round(low, 1).tolist(), *np.round(high, 1).tolist()],
        "photographs": {
            axis: np.round(values).astype(int).tolist() for axis, values in axes(local.to_xy_m(deg[drawn])).items()
        },
        "suspicious": {
            **axes(local.to_xy_m(deg[suspicious])),
            "id": ids,
            "path": [Path(str(path)).name for path in frame["image_path"].iloc[suspicious]],
            "reasons": [[reason for reason, _ in of_row[row]] for row in suspicious.tolist()],
            "detail": [[list(item) for item in of_row[row]] for row in suspicious.tolist()],
            "photo": [album.number(row) for row in suspicious.tolist()],
        },
    }
