"""Photographs embedded in a page for its map, within a size limit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from swclip.data.manifest import Manifest
from swclip.evaluation.result import Evaluation
from swclip.geo.coordinates import unit_vectors
from swclip.imaging.decode import PhotographError
from swclip.metrics.localization_error import worst_count
from swclip.reporting.examples import thumbnail

BUDGET_BYTES = 5_000_000
"""Total size of the embedded photographs of a map."""

_SIZE_PX = 232
_QUALITY = 62
# Number of best candidates of a query whose photographs are embedded with it.
_CANDIDATES = 3


def add_photographs(
    drawn: dict[str, Any],
    evaluation: Evaluation,
    manifest: Manifest | None,
    examples: Sequence[str],
    budget_bytes: int = BUDGET_BYTES,
) -> None:
    """Add thumbnails to the queries and candidates of a map.

    The order is: queries that the page shows as examples (whose photographs are already on the page), the largest
    errors up to half of the budget, then queries spread over space by farthest-point sampling. Each query brings the
    photographs at its three best candidates.

    Args:
        drawn: Result of `map_data`, changed in place. `photographs` is added: images, unread (image_id and reason), and
            why photographs are missing. Queries and places of each view get `photo`: index of an image, -1 for none.
        evaluation: The evaluation on the map.
        manifest: The photographs; None for a page without photographs.
        examples: image_id of the queries whose photograph is already on the page.
        budget_bytes: Total size of the thumbnails.
    """
    pictures = _Pictures(manifest, budget_bytes)
    for view in drawn["views"]:
        view["queries"]["photo"] = [-1] * len(view["queries"]["id"])
        if "places" in view:
            view["places"]["photo"] = [-1] * len(view["places"]["row"])
    if manifest is not None:
        frame, ids_at = evaluation.predictions, evaluation.candidates["image_ids"].to_numpy()
        where = {int(row): (view, at) for view in drawn["views"] for at, row in enumerate(view["queries"]["row"])}
        for row in _order(frame, np.asarray(sorted(where), dtype=np.int64), examples, pictures):
            view, at = where[row]
            image_id = view["queries"]["id"][at]
            if image_id not in examples:
                view["queries"]["photo"][at] = pictures.number(image_id)
            for place in view["top"][at][: 3 * _CANDIDATES : 3] if "top" in view else []:
                ids = ids_at[view["places"]["row"][place]]
                if len(ids):
                    view["places"]["photo"][place] = pictures.number(str(ids[0]))
    for view in drawn["views"]:  # row numbers of the tables, which the page does not need
        del view["queries"]["row"]
        if "places" in view:
            del view["places"]["row"]
    drawn["photographs"] = {
        "images": pictures.images,
        "unread": pictures.unread,
        "why": pictures.why,
    }


def _order(
    frame: pd.DataFrame, rows: Int64[np.ndarray, " d"], examples: Sequence[str], pictures: _Pictures
) -> Iterator[int]:
    """Rows in the order in which they get photographs, until the budget is used."""
    shown = set(examples)
    first = [int(row) for row in rows if frame["image_id"].iloc[row] in shown]
    yield from first
    error = frame["error_m"].to_numpy(dtype=np.float64)[rows]
    worst = rows[np.argsort(-error, kind="stable")][: worst_count(len(frame))]
    taken = list(first)
    for row in worst:
        if pictures.left < 0.5:
            break
        if int(row) not in taken:
            taken.append(int(row))
            yield int(row)
    at = unit_vectors(frame.iloc[rows][["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64))
    for chosen in _farthest_first(at, [int(np.searchsorted(rows, row)) for row in taken]):
        if pictures.left <= 0.0:
            return
        yield int(rows[chosen])


def _farthest_first(at: Float64[np.ndarray, "n 3"], taken: Sequence[int]) -> Iterator[int]:
    """Farthest-point sampling: any prefix of this order is spread over all points."""
    off = np.full(len(at), np.inf)
    for row in taken:
        off = np.minimum(off, ((at - at[row]) ** 2).sum(axis=1))
    off[list(taken)] = -1.0
    while (row := int(np.argmax(off))) >= 0 and off[row] >= 0.0:
        yield row
        off = np.minimum(off, ((at - at[row]) ** 2).sum(axis=1))
        off[row] = -1.0


class _Pictures:
    """Numbered thumbnails, each embedded once, until the budget is used."""

    def __init__(self, manifest: Manifest | None, budget_bytes: int) -> None:
        self._paths: Mapping[str, Any] = (
            {} if manifest is None else dict(zip(manifest.frame["image_id"], manifest.image_paths, strict=True))
        )
        self._has_manifest = manifest is not None
        self._budget = budget_bytes
        self._used = 0
        self._numbers: dict[str, int] = {}
        self.images: list[str] = []
        self.unread: dict[str, str] = {}

    @property
    def left(self) -> float:
        """Share of the budget that is left; at most 0 where it is used."""
        return 1.0 - self._used / self._budget

    @property
    def why(self) -> str:
        """Why photographs are missing, as a sentence; empty where none is."""
        if not self._has_manifest:
            return "This page was created without photographs."
        if self.left > 0.0:
            return ""
        return (
            f"To limit the size of this page, {len(self.images):,} photographs are embedded for the map: those of the "
            "examples and the largest errors, and of queries spread over the map."
        )

    def number(self, image_id: str) -> int:
        """Number of the thumbnail of a photograph, -1 where the budget is used or it cannot be read."""
        if image_id in self._numbers:
            return self._numbers[image_id]
        if self.left <= 0.0 or image_id not in self._paths:
            return -1
        try:
            picture = thumbnail(self._paths[image_id], size_px=_SIZE_PX, quality=_QUALITY)
        except PhotographError as error:
            self.unread[image_id] = error.reason
            self._numbers[image_id] = -1
            return -1
        if self._used + len(picture) > self._budget:
            self._used = self._budget
            return -1
        self._used += len(picture)
        self._numbers[image_id] = len(self.images)
        self.images.append(picture)
        return self._numbers[image_id]
