"""Example queries: smallest, typical and largest errors, with photographs of query and answer."""

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
# Photographs within this distance show the place of an answer.
_AT_THE_ANSWER_M = 25.0


@dataclass(frozen=True)
class Picture:
    """A photograph embedded in a page.

    Attributes:
        data_uri: JPEG as a data: URI; empty where the photograph cannot be read.
        caption: Description, or why the photograph is missing.
        image_id: Id of the photograph.
    """

    data_uri: str
    caption: str
    image_id: str


@dataclass(frozen=True)
class Example:
    """One query and its answer, with photographs of both.

    Attributes:
        image_id: The query.
        place: Its district.
        error_m: Localization error, metres.
        probability: Posterior probability within 25 m of the answer; None for a system without probabilities.
        query: The query photograph.
        answer: A photograph taken at the answer, None where there is none.
        others_m: In a comparison, errors of the systems by name.
    """

    image_id: str
    place: str
    error_m: float
    probability: float | None
    query: Picture
    answer: Picture | None
    others_m: Mapping[str, float]


def pick_examples(error_m: ArrayLike, blocks: Sequence[str], count: int = PER_KIND) -> dict[str, list[int]]:
    """Choose rows with the smallest, typical and largest errors, from different blocks where possible.

    Args:
        error_m: (Q,) errors in metres.
        blocks: Block of each query.
        count: Maximum number of each kind.

    Returns:
        best (smallest errors), typical (nearest to the median) and worst (largest errors); no row is repeated.

    Example:
        >>> pick_examples([1.0, 5.0, 2.0, 90.0, 4.0], list("abcde"), count=1)
        {'best': [0], 'typical': [4], 'worst': [3]}
    """
    error = np.asarray(error_m, dtype=np.float64)
    count = min(count, error.size // 3)
    ascending = np.argsort(error, kind="stable").tolist()
    near_median = np.argsort(np.abs(error - np.median(error)), kind="stable").tolist()
    taken: set[int] = set()
    # Best and worst come from their third of the errors, so that a best one from another block is still good.
    best = pick_rows(ascending[: error.size // 3], blocks, count, taken)
    worst = pick_rows(ascending[::-1][: error.size // 3], blocks, count, taken)
    return {"best": best, "typical": pick_rows(near_median, blocks, count, taken), "worst": worst}


def pick_rows(order: Sequence[int], blocks: Sequence[str], count: int, taken: set[int]) -> list[int]:
    """Choose the first rows of an order that are from different blocks; if these are too few, add the first others.

    Args:
        order: Rows, best first; different blocks are searched among the first ten times `count` rows.
        blocks: Block of each row.
        count: Number of rows.
        taken: Rows that are already used; the chosen rows are added.
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
    """Thumbnails of the photographs of queries and answers."""

    def __init__(self, manifest: Manifest, candidates: pd.DataFrame) -> None:
        self._paths = dict(zip(manifest.frame["image_id"], manifest.image_paths, strict=True))
        self._ids = manifest.frame["image_id"].tolist()
        self._headings = dict(zip(self._ids, manifest.frame["heading_deg"].to_numpy(dtype=np.float64), strict=True))
        self._taken_at = SphereIndex(manifest.positions_deg)
        self._gallery = {image_id for ids in candidates["image_ids"] for image_id in ids}
        self._gallery_known = len(candidates) > 0  # a report on disk does not contain it

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
        return self.picture(self._nearest_heading(indexed or around, query_id), caption)

    def _nearest_heading(self, image_ids: Sequence[str], query_id: str) -> str:
        # Of several photographs at a place, the one with the most similar heading is comparable to the query.
        heading = self._headings[query_id]
        if not np.isfinite(heading):
            return image_ids[0]
        turn = [abs((self._headings[image_id] - heading + 180.0) % 360.0 - 180.0) for image_id in image_ids]
        return image_ids[int(np.argmin(np.where(np.isfinite(turn), turn, np.inf)))]


def thumbnail(path: Path, *, size_px: int = _THUMBNAIL_PX, quality: int = _JPEG_QUALITY) -> str:
    """Encode a photograph as a small JPEG in a data: URI.

    Args:
        path: The photograph.
        size_px: Length of the longer side, pixels.
        quality: JPEG quality, at most 95.

    Raises:
        PhotographError: The photograph cannot be read.
    """
    image = decode_photograph(path, size_px=size_px)
    image.thumbnail((size_px, size_px))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def examples_of(evaluation: Evaluation, manifest: Manifest, count: int = PER_KIND) -> dict[str, list[Example]]:
    """Examples of one evaluation with the smallest, typical and largest errors."""
    frame = evaluation.predictions
    album = Album(manifest, evaluation.candidates)
    picked = pick_examples(frame["error_m"].to_numpy(dtype=np.float64), frame["block"].tolist(), count)
    return {kind: [album.example(frame.iloc[row]) for row in rows] for kind, rows in picked.items()}
