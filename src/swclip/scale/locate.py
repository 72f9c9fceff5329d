"""Locate photographs on a cluster: they are decoded in tasks, and answered by actors that each hold the gallery."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from swclip.answers.formats import JSON_LINES
from swclip.answers.record import Answer, answer_from_json
from swclip.errors import ArtefactError
from swclip.ingest.file_names import stated_name
from swclip.lance_tables import is_url
from swclip.models.embed import evaluating, pixel_vectors
from swclip.retrieval.locator import Locator
from swclip.retrieval.prior import Prior
from swclip.retrieval.queries import Queries
from swclip.scale.cluster import Workers, blocks, in_actors, in_tasks, results
from swclip.scale.decode import FAILURE, NUMBER, PATH, PIXELS, decode, pixels_from_bytes

if TYPE_CHECKING:
    from swclip.imaging.preprocess import JointPreprocess, Preprocess

_NAME = "name"


@dataclass(frozen=True)
class ClusterAnswers:
    """Answers of a gallery, computed on the cluster that is joined (`swclip.scale.cluster.cluster`).

    Attributes:
        gallery: The gallery's folder, at a path that all machines can read, or its URL.
        preprocess: The preprocessing of its model.
        workers: Which of the cluster's processors do what.
        locator_options: Further arguments of `Locator.from_gallery`.
        options: Arguments of `Locator.locate` that change the answers.
        prior: The prior over positions.
    """

    gallery: str
    preprocess: Preprocess | JointPreprocess
    workers: Workers
    locator_options: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    prior: Prior | None = None

    def batches(self, names: Sequence[str], batch_size: int, start: int = 0) -> Iterator[list[Answer]]:
        """Yield the answers of each batch, in the order of the photographs.

        Args:
            names: The photographs, at paths that all machines can read.
            batch_size: Photographs that are answered together.
            start: The first photograph to answer: the first of a batch.

        Raises:
            ArtefactError: The gallery or its model cannot be read by the actors.
        """
        rows = pa.table(
            {
                NUMBER: np.arange(start, len(names)),
                _NAME: pa.array(map(os.fsencode, names[start:]), pa.binary()),
                PATH: pa.array((os.fsencode(os.path.abspath(name)) for name in names[start:]), pa.binary()),
            }
        )
        data = in_tasks(blocks(rows, batch_size), decode, self.workers, None, self.preprocess)
        loading = {name: _absolute(value) for name, value in self.locator_options.items()}
        seen = replace(self, gallery=_absolute(self.gallery), locator_options=loading)
        data = in_actors(data, Answerer, self.workers, batch_size, seen)
        done = start
        for part in results(data):
            answers = [answer_from_json(line, "Ray") for line in part["answers"]]
            if part["start"] != done or len(answers) != min(batch_size, len(names) - done):
                raise ArtefactError(f"the cluster returned photograph {part['start']} in place of {done}.")
            done += len(answers)
            yield answers


def _absolute(value: Any) -> Any:
    """A path that does not depend on the working folder, which the actors do not share; other values unchanged."""
    is_path = isinstance(value, (str, os.PathLike)) and not is_url(value) and os.path.exists(value)
    return os.path.abspath(value) if is_path else value


class Answerer:
    """Answers decoded photographs, in an actor that holds a gallery and its model."""

    def __init__(self, request: ClusterAnswers) -> None:
        from swclip.models.blocks import available_device

        self.locator = Locator.from_gallery(request.gallery, **request.locator_options)
        self.locator.to(available_device(request.workers.device))
        self.request = request

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Answer a batch; the result is one row with the answers as JSON lines."""
        model = self.locator.model
        pixels = [None if data is None else pixels_from_bytes(data) for data in rows[PIXELS].to_pylist()]
        with evaluating(model):
            vectors = pixel_vectors(model, pixels, **self.locator.vectors_needed)
        paths = [os.fsdecode(path) for path in rows[PATH].to_pylist()]
        queries = Queries.of_vectors(vectors, paths, rows[FAILURE].drop_null().to_pylist())
        answers = self.locator.locate(queries, **self.request.options, prior=self.request.prior)
        names = (stated_name(os.fsdecode(name)) for name in rows[_NAME].to_pylist())
        named = (answer.model_copy(update={"photograph": name}) for answer, name in zip(answers, names, strict=True))
        lines = [[JSON_LINES.item(answer).encode() for answer in named]]
        return pa.table({"start": rows[NUMBER][:1], "answers": pa.array(lines, pa.list_(pa.binary()))})
