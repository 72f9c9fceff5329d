"""The queries of a locator: photographs, embedded with their captions and map tiles, and those that cannot be read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from swclip.answers.record import Answer
from swclip.errors import ArtefactError
from swclip.models.embed import Failure, PathLike, Progress
from swclip.models.embed_modalities import embed_queries, offered_modalities
from swclip.models.photograph_vectors import PhotographVectors

if TYPE_CHECKING:
    from swclip.models.locator_model import LocatorModel


@dataclass(frozen=True, eq=False)
class Queries:
    """Embedded photographs.

    Attributes:
        vectors: Vectors of the Q photographs that could be decoded.
        names: Q paths of those photographs.
        errors: Answers to the others, by their index among all photographs.
    """

    vectors: PhotographVectors
    names: list[str]
    errors: dict[int, Answer]

    def __len__(self) -> int:
        return len(self.names) + len(self.errors)

    @classmethod
    def of(
        cls,
        model: LocatorModel,
        photographs: PathLike | Sequence[PathLike],
        captions: str | Sequence[str | None] | None = None,
        maps: PathLike | Sequence[PathLike | None] | None = None,
        *,
        whitened: bool = True,
        patches: bool = False,
        batch_size: int = 32,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> Queries:
        """Embed photographs; see `swclip.retrieval.locator.Locator.locate` for the arguments.

        Raises:
            ConfigError: The model lacks a modality.
            ArtefactError: The model's embeddings are not numbers.
        """
        paths = paths_of(photographs)
        texts = [captions] if isinstance(captions, str) else captions
        tiles = [maps] if isinstance(maps, (str, os.PathLike)) else maps
        failures: list[Failure] = []
        vectors = embed_queries(
            model,
            paths,
            texts,
            tiles,
            use=offered_modalities(texts, tiles),
            whitened=whitened,
            patches=patches,
            batch_size=batch_size,
            workers=workers,
            failures=failures,
            progress=progress,
        )
        return cls.of_vectors(vectors, [os.fspath(path) for path in paths], [reason for _, reason in failures])

    @classmethod
    def of_vectors(cls, vectors: PhotographVectors, names: Sequence[str], reasons: Sequence[str]) -> Queries:
        """Queries of embedded photographs.

        Args:
            vectors: N rows, NaN where a photograph cannot be decoded.
            names: N paths.
            reasons: Why those photographs cannot be decoded, in their order.

        Raises:
            ArtefactError: The model's embeddings are not numbers.
        """
        finite = vectors.finite
        rows = np.flatnonzero(finite)
        if len(rows) + len(reasons) != len(names):
            raise ArtefactError("the model's embeddings are not numbers; its training diverged, train it again.")
        undecodable = zip(np.flatnonzero(~finite).tolist(), reasons, strict=True)
        errors = {row: Answer(photograph=names[row], error=reason) for row, reason in undecodable}
        return cls(vectors.take(rows), [names[row] for row in rows.tolist()], errors)


def paths_of(photographs: PathLike | Sequence[PathLike]) -> list[PathLike]:
    """One path or several as a list."""
    return [photographs] if isinstance(photographs, (str, os.PathLike)) else list(photographs)
