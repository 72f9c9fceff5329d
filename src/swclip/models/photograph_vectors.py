"""What a model says of photographs: embeddings of the shared space, and whitened features of the frozen tower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64


@dataclass(frozen=True, eq=False)
class PhotographVectors:
    """The vectors of N photographs, row by row; a row does not depend on the others.

    Queries carry these, and galleries keep them of their photographs. A further kind of vector is a further attribute:
    `take` and `stacked` are all that has to know of it.

    Attributes:
        embeddings: (N, D) unit vectors of the trained image side; NaN where a photograph cannot be decoded.
        whitened: (N, W) unit vectors of the whitened features of the frozen tower, NaN in the same rows; None where the
            model has no whitening, or the photographs themselves are not used (a query by its caption alone).
        details: Each photograph in the form that a gallery's verifier compares (`swclip.gallery.patches`), such as its
            patch features, None where it has none; None without verification.
        novelty: (N,) log Mahalanobis distance of the image features from those of the training photographs, NaN in the
            same rows; None where the model does not measure it, and of a gallery's photographs.
    """

    embeddings: Float32[np.ndarray, "n d"]
    whitened: Float32[np.ndarray, "n w"] | None = None
    details: tuple[Any, ...] | None = None
    novelty: Float32[np.ndarray, " n"] | None = None

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def finite(self) -> Bool[np.ndarray, " n"]:
        """The rows with an embedding."""
        if not self.embeddings.size:
            return np.zeros(len(self.embeddings), dtype=np.bool_)
        return np.asarray(np.isfinite(self.embeddings).all(axis=1))

    def take(self, rows: slice | Int64[np.ndarray, " k"] | Bool[np.ndarray, " n"]) -> PhotographVectors:
        """The vectors of a part of the photographs."""
        details = None
        if self.details is not None:
            details = tuple(self.details[row] for row in np.arange(len(self))[rows].tolist())
        return PhotographVectors(
            self.embeddings[rows],
            None if self.whitened is None else self.whitened[rows],
            details,
            None if self.novelty is None else self.novelty[rows],
        )

    @classmethod
    def stacked(cls, parts: Sequence[PhotographVectors]) -> PhotographVectors:
        """The vectors of several parts, one after another; those kinds that all parts have.

        A part without columns is one of photographs that cannot be decoded: its rows become NaN.
        """
        whitened = [part.whitened for part in parts if part.whitened is not None]
        details = [part.details for part in parts if part.details is not None]
        novelty = [part.novelty for part in parts if part.novelty is not None]
        return cls(
            _stacked([part.embeddings for part in parts]),
            _stacked(whitened) if parts and len(whitened) == len(parts) else None,
            tuple(chain.from_iterable(details)) if parts and len(details) == len(parts) else None,
            np.concatenate(novelty) if parts and len(novelty) == len(parts) else None,
        )


def _stacked(parts: Sequence[Float32[np.ndarray, "n d"]]) -> Float32[np.ndarray, "m d"]:
    width = max((part.shape[1] for part in parts), default=0)
    filled = [part if part.shape[1] else np.full((len(part), width), np.nan, dtype=np.float32) for part in parts]
    return np.concatenate(filled) if filled else np.zeros((0, 0), dtype=np.float32)


Vectors = PhotographVectors | Float32[np.ndarray, "n d"]
"""Vectors of photographs; an array is their embeddings alone, (N, D), or (D,) of one."""


def as_vectors(vectors: Vectors) -> PhotographVectors:
    """The vectors as float32, rows contiguous."""
    if not isinstance(vectors, PhotographVectors):
        vectors = PhotographVectors(np.atleast_2d(vectors))
    whitened = vectors.whitened
    return PhotographVectors(
        np.ascontiguousarray(vectors.embeddings, dtype=np.float32),
        None if whitened is None else np.ascontiguousarray(whitened, dtype=np.float32),
        vectors.details,
        vectors.novelty,
    )
