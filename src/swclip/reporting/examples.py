"""Queries to look at: the best, typical and worst answers, each with the photographs that show why."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64
from numpy.typing import ArrayLike

from swclip.data.manifest import Manifest
from swclip.evaluation.result import Evaluation
from swclip.geo.neighbours import SphereIndex
from swclip.imaging.decode import PhotographError, decode_photograph

PER_KIND = 4

_THUMBNAIL_PX = 320
_JPEG_QUALITY = 74
# A photograph this near to an answer shows what stands there.
_AT_THE_ANSWER_M = 25.0


@dataclass(frozen=True)
class Picture:
    """A photograph small enough to carry in a page.

    Attributes:
        data_uri: JPEG as a data: address; empty where the photograph could not be read.
        caption: What it shows, or why it is missing.
        image_id: Which photograph it is.
    """

    data_uri: str
    caption: str
    image_id: str


@dataclass(frozen=True)
class Example:
    """One query, its answer, and what both look like.

    Attributes:
        image_id: The query.
        place: Its region.
        error_m: Distance from truth to answer.
        probability: Posterior mass within 25 m of the answer; None of a system that states none.
        query: The photograph.
        answer: A photograph taken where the answer is, None where there is none.
        others_m: Errors of further systems by name, for a comparison.
    """

    image_id: str
    place: str
    error_m: float
    probability: float | None
    query: Picture
    answer: Picture | None
    others_m: Mapping[str, float]


def pick_examples(error_m: ArrayLike, blocks: Sequence[str], count: int = PER_KIND) -> dict[str, list[int]]:
    """Rows of the best, typical and worst queries; from different blocks as long as there are such.

    Args:
        error_m: (Q,) errors in metres.
        blocks: Block of each query.
        count: How many of each kind at most.

    Returns:
        best (smallest errors), typical (nearest to the median) and worst (largest errors), no row twice.

    Example:
        >>> pick_examples([1.0, 5.0, 2.0, 90.0, 4.0], list("abcde"), count=1)
        {'best': [0], 'typical': [4], 'worst': [3]}
    """
    error = np.asarray(error_m, dtype=np.float64)
    count = min(count, error.size // 3)
    ascending = np.argsort(error, kind="stable").tolist()
    near_median = np.argsort(np.abs(error - np.median(error)), kind="stable").tolist()
    taken: set[int] = set()
    # Best and worst are sought within their own third, so that a best one from a street of its own is still good.
    best = pick_rows(ascending[: error.size // 3], blocks, count, taken)
    worst = pick_rows(ascending[::-1][: error.size // 3], blocks, count, taken)
    return {"best": best, "typical": pick_rows(near_median, blocks, count, taken), "worst": worst}


def pick_rows(order: Sequence[int], blocks: Sequence[str], count: int, taken: set[int]) -> list[int]:
    """The first rows of an order that are from blocks of their own; then, if these are too few, the first others.

    Args:
        order: Rows, first choice first; blocks of their own are sought among the first ten times `count`.
        blocks: Block of each row.
        count: How many.
        taken: Rows that are spoken for; the picked ones are added.
    """
    free = [row for row in order if row not in taken][: 10 * count]
    rows: list[int] = []
    seen: set[str] = set()
    for row in free:
        if len(rows) < count and blocks[row] not in seen:
            rows.append(row)
            seen.add(blocks[row])
    rows += [row for row in free if row not in rows][: count - len(rows)]
    taken.update(rows)
    return [row for row in free if row in rows]


class Album:
    """Finds and shrinks the photographs of queries and answers."""

    def __init__(self, manifest: Manifest, candidates: pd.DataFrame) -> None:
        self._paths = dict(zip(manifest.frame["image_id"], manifest.image_paths, strict=True))
        self._ids = manifest.frame["image_id"].tolist()
        self._headings = dict(zip(self._ids, manifest.frame["heading_deg"].to_numpy(dtype=np.float64), strict=True))
        self._taken_at = SphereIndex(manifest.positions_deg)
        self._gallery = {image_id for ids in candidates["image_ids"] for image_id in ids}
        self._gallery_known = len(candidates) > 0  # a report on disk does not hold it

    def example(self, row: pd.Series[float], others_m: Mapping[str, float] | None = None) -> Example:
        """The example of one row of predictions."""
        image_id = str(row["image_id"])
        answer = np.array([row["predicted_lat_deg"], row["predicted_lon_deg"]], dtype=np.float64)
        return Example(
            image_id=image_id,
            place=str(row["region"]),
            error_m=float(row["error_m"]),
            probability=None if pd.isna(row["probability"]) else float(row["probability"]),
            query=self.picture(image_id, "the query"),
            answer=self._at(answer, image_id),
            others_m=dict(others_m or {}),
        )

    def picture(self, image_id: str, caption: str) -> Picture:
        """A thumbnail of a photograph of the manifest."""
        try:
            return Picture(thumbnail(self._paths[image_id]), caption, image_id)
        except PhotographError as error:
            return Picture("", f"{caption}: the photograph is {error.reason}", image_id)

    def _at(self, position_deg: Float64[np.ndarray, " 2"], query_id: str) -> Picture | None:
        around = [self._ids[row] for row in self._taken_at.within(position_deg[None], _AT_THE_ANSWER_M)[0]]
        around = [image_id for image_id in around if image_id != query_id]
        if not around:
            return None
        indexed = [image_id for image_id in around if image_id in self._gallery]
        caption = "in the gallery, at the answer" if indexed else "taken at the answer, not in the gallery"
        if not self._gallery_known:
            caption = "taken at the answer"
        return self.picture(self._looking_alike(indexed or around, query_id), caption)

    def _looking_alike(self, image_ids: Sequence[str], query_id: str) -> str:
        # Of several photographs at a place the one that looks the same way is the one worth comparing.
        heading = self._headings[query_id]
        if not np.isfinite(heading):
            return image_ids[0]
        turn = [abs((self._headings[image_id] - heading + 180.0) % 360.0 - 180.0) for image_id in image_ids]
        return image_ids[int(np.argmin(np.where(np.isfinite(turn), turn, np.inf)))]


def thumbnail(path: Path, *, size_px: int = _THUMBNAIL_PX, quality: int = _JPEG_QUALITY) -> str:
    """A photograph as a small JPEG in a data: address.

    Args:
        path: The photograph.
        size_px: Its longer side becomes this long, pixels.
        quality: Of the JPEG, to 95.

    Raises:
        PhotographError: It cannot be read.
    """
    image = decode_photograph(path, size_px=size_px)
    image.thumbnail((size_px, size_px))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def examples_of(evaluation: Evaluation, manifest: Manifest, count: int = PER_KIND) -> dict[str, list[Example]]:
    """Best, typical and worst examples of one evaluation."""
    frame = evaluation.predictions
    album = Album(manifest, evaluation.candidates)
    picked = pick_examples(frame["error_m"].to_numpy(dtype=np.float64), frame["block"].tolist(), count)
    return {kind: [album.example(frame.iloc[row]) for row in rows] for kind, rows in picked.items()}
