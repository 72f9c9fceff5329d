"""The photographs that a page carries for its map, within a budget of bytes: it must stay a file that one can send."""

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
"""Bytes of all photographs of the map together, as they stand in the file."""

_SIZE_PX = 232
_QUALITY = 62
# Photographs at the best candidates of a query, where the file has room for the query at all.
_CANDIDATES = 3


def add_photographs(
    drawn: dict[str, Any],
    evaluation: Evaluation,
    manifest: Manifest | None,
    examples: Sequence[str],
    budget_bytes: int = BUDGET_BYTES,
) -> None:
    """Put thumbnails beside the queries and the places of a map.

    First come the queries that the page shows as examples (their own photograph is on the page already), then the
    worst, up to half of the budget, then queries spread over space, each the one farthest from those before it. With
    a query come the photographs at its three best candidates.

    Args:
        drawn: What `map_data` gave; gets photographs: the pictures, and why there are not more of them. Each view's
            queries and places get `photo`: a number of a picture, -1 where there is none; unread: image_id and reason.
        evaluation: What the map shows.
        manifest: Where the photographs are; None where the page is to have none.
        examples: image_id of the queries whose photograph is on the page already.
        budget_bytes: Bytes of all thumbnails together.
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
    for view in drawn["views"]:  # they led from the map to the tables; the page has no use for them
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
    """Rows in the order in which they get photographs, until there is no room."""
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
    """The point farthest from those taken, over and over: any beginning of this order is spread over all of them."""
    off = np.full(len(at), np.inf)
    for row in taken:
        off = np.minimum(off, ((at - at[row]) ** 2).sum(axis=1))
    off[list(taken)] = -1.0
    while (row := int(np.argmax(off))) >= 0 and off[row] >= 0.0:
        yield row
        off = np.minimum(off, ((at - at[row]) ** 2).sum(axis=1))
        off[row] = -1.0


class _Pictures:
    """Thumbnails by number, each once, until the budget is used."""

    def __init__(self, manifest: Manifest | None, budget_bytes: int) -> None:
        self._paths: Mapping[str, Any] = (
            {} if manifest is None else dict(zip(manifest.frame["image_id"], manifest.image_paths, strict=True))
        )
        self._given = manifest is not None
        self._budget = budget_bytes
        self._used = 0
        self._numbers: dict[str, int] = {}
        self.images: list[str] = []
        self.unread: dict[str, str] = {}

    @property
    def left(self) -> float:
        """Share of the budget that is left; never above 1, 0 or less where it is used."""
        return 1.0 - self._used / self._budget

    @property
    def why(self) -> str:
        """Why a photograph may be missing, as a sentence."""
        if not self._given:
            return "This page was made without photographs."
        if self.left > 0.0:
            return ""
        return (
            f"To keep the page small it holds {len(self.images):,} photographs for the map: those of the examples and "
            "the worst answers, and of others spread over the map."
        )

    def number(self, image_id: str) -> int:
        """The number of a photograph's thumbnail, -1 where there is no room or it cannot be read."""
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
