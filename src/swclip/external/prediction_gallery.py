"""A gallery of another tool's vectors, with cosine or Euclidean similarity, and its posterior."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from jaxtyping import Float32, Float64, Int64

from swclip.calibration.posterior_config import PosteriorConfig
from swclip.errors import ConfigError, InputError
from swclip.gallery.gallery import Gallery
from swclip.retrieval.posterior_fit import fit_posterior

Similarity = Literal["cosine", "l2"]

TEMPERATURE = 0.01
"""Temperature of a posterior that is not fitted."""


@dataclass(frozen=True)
class Space:
    """Transforms vectors so that inner products rank a gallery as the similarity does.

    cosine: unit vectors. l2: with the gallery's mean c subtracted, q and g become

        (q, 1) / s    and    (g, -|g|^2 / 2) / s

    whose inner product is (|q|^2 - |q - g|^2) / 2 s^2: the order of the distances |q - g|, since |q| is constant for a
    query. s^2 is the median of |g|^2 over the gallery, so that scores have about the range of cosines; for unit vectors
    with mean 0 it is 1, and both similarities give the same posterior.

    Attributes:
        similarity: cosine or l2.
        centre: (D,) c.
        scale: s.
    """

    similarity: Similarity
    centre: Float64[np.ndarray, " d"]
    scale: float

    @classmethod
    def of(cls, gallery: Float32[np.ndarray, "p d"], similarity: str) -> Space:
        """The space of a gallery's vectors.

        Raises:
            ConfigError: The similarity is not known.
        """
        if similarity not in get_args(Similarity):
            raise ConfigError(f"similarity {similarity!r} is not known; choose cosine or l2.")
        if similarity == "cosine":
            return cls("cosine", np.zeros(gallery.shape[1]), 1.0)
        centre = gallery.mean(axis=0, dtype=np.float64)
        spread = float(np.median(((gallery - centre) ** 2).sum(axis=1)))
        return cls("l2", centre, float(np.sqrt(spread)) if spread > 0.0 else 1.0)

    def queries(self, vectors: Float32[np.ndarray, "q d"]) -> Float32[np.ndarray, "q e"]:
        """Transform query vectors."""
        if self.similarity == "cosine":
            return _unit(vectors)
        centred = (vectors - self.centre) / self.scale
        return np.concatenate([centred, np.ones((len(centred), 1))], axis=1).astype(np.float32)

    def gallery(self, vectors: Float32[np.ndarray, "p d"]) -> Float32[np.ndarray, "p e"]:
        """Transform gallery vectors."""
        if self.similarity == "cosine":
            return _unit(vectors)
        centred = (vectors - self.centre) / self.scale
        half = -0.5 * (centred**2).sum(axis=1, keepdims=True)
        return np.concatenate([centred, half], axis=1).astype(np.float32)


def image_gallery(
    candidates: pd.DataFrame,
    vectors: Float32[np.ndarray, "p e"],
    rows: Int64[np.ndarray, " p"],
    meta: Mapping[str, Any],
) -> Gallery:
    """A gallery without location embeddings: candidates are scored by their photographs only.

    Its location embeddings are zeros; the posterior must have an image weight of 1.

    Args:
        candidates: candidate_id, lat_deg, lon_deg, city, image_ids.
        vectors: (P, E) vectors of the photographs, in the order of the candidates' image_ids.
        rows: (P,) candidate of each photograph.
        meta: Metadata of the gallery.
    """
    return Gallery(
        candidate_ids=[str(value) for value in candidates["candidate_id"]],
        positions_deg=candidates[["lat_deg", "lon_deg"]].to_numpy(dtype=np.float64),
        cities=[None if pd.isna(value) else str(value) for value in candidates["city"]],
        location_embeddings=np.zeros((len(candidates), vectors.shape[1]), dtype=np.float32),
        image_embeddings=vectors,
        image_rows=rows.astype(np.int64),
        image_ids=[str(name) for ids in candidates["image_ids"] for name in ids],
        meta=dict(meta),
    )


def fixed_posterior(temperature: float | None = None) -> PosteriorConfig:
    """A posterior without fitting: fixed temperature, no smoothing, the position of the most similar candidate.

    Args:
        temperature: Temperature of the softmax over candidates; None for `TEMPERATURE`.
    """
    return PosteriorConfig(
        location_temperature=1.0,
        image_temperature=TEMPERATURE if temperature is None else temperature,
        image_weight=1.0,
        smoothing_m=0.0,
    )


def fitted_posterior(
    queries: Float32[np.ndarray, "v e"], truth_deg: Float64[np.ndarray, "v 2"], gallery: Gallery, seed: int
) -> PosteriorConfig:
    """Fit temperature and smoothing on validation queries, with an image weight of 1."""
    fit = fit_posterior(queries, truth_deg, gallery, image_weights=(1.0,), generator=np.random.default_rng(seed))
    return fit.config


def _unit(vectors: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    length = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    if (length == 0.0).any():
        count = int((length == 0.0).sum())
        raise InputError(
            f"{count} of {len(vectors)} vectors are zero, so their cosine is undefined; embed these photographs "
            "again, or leave them out."
        )
    return np.ascontiguousarray(vectors / length, dtype=np.float32)
