"""What a query's embedding says about each candidate: similarities, and the log probabilities they stand for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64
from scipy.special import logsumexp

from swclip.errors import MismatchError
from swclip.gallery.gallery import Gallery
from swclip.gallery.hubness import Hubness
from swclip.calibration.posterior_config import PosteriorConfig

MEMORY_BYTES = 256 * 2**20
"""What one chunk of queries may take, over all its (q, M) arrays."""
_ARRAYS_AT_ONCE = 6


@dataclass(frozen=True)
class Photographed:
    """The candidates with photographs, and where each one's photographs are.

    Attributes:
        rows: (C,) candidates with at least one photograph, increasing.
        order: (P,) photographs ordered by candidate.
        starts: (C,) where each candidate's photographs begin in `order`.
    """

    rows: Int64[np.ndarray, " c"]
    order: Int64[np.ndarray, " p"]
    starts: Int64[np.ndarray, " c"]

    @classmethod
    def of(cls, gallery: Gallery) -> Photographed:
        """Group a gallery's photographs by candidate."""
        order = np.argsort(gallery.image_rows, kind="stable")
        rows, starts = np.unique(gallery.image_rows[order], return_index=True)
        return cls(rows.astype(np.int64), order.astype(np.int64), starts.astype(np.int64))

    def of_candidate(self, row: int) -> Int64[np.ndarray, " k"]:
        """The photographs at one candidate."""
        at = int(np.searchsorted(self.rows, row))
        if at == len(self.rows) or self.rows[at] != row:
            return self.order[:0]
        return self.order[self.starts[at] : self.starts[at + 1] if at + 1 < len(self.starts) else None]


def check_queries(query: Float32[np.ndarray, "q d"], gallery: Gallery) -> Float32[np.ndarray, "q d"]:
    """The queries as a contiguous float32 matrix of the gallery's dimension, or MismatchError."""
    array = np.ascontiguousarray(query, dtype=np.float32)
    if array.ndim != 2 or array.shape[1] != gallery.dim:
        raise MismatchError(
            f"query embeddings have shape {array.shape}, and the gallery's have dimension {gallery.dim}: they come "
            "from different models; embed the photographs with the gallery's own model."
        )
    return array


def chunks(query_count: int, gallery: Gallery, memory_bytes: int = MEMORY_BYTES) -> Iterator[slice]:
    """Slices of the queries small enough that a chunk's arrays stay within the memory."""
    width = max(len(gallery), len(gallery.image_ids), 1)
    step = max(1, memory_bytes // (width * 8 * _ARRAYS_AT_ONCE))
    for start in range(0, query_count, step):
        yield slice(start, min(start + step, query_count))


def location_similarity(
    query: Float32[np.ndarray, "q d"], gallery: Gallery, hubness: float = 0.0
) -> Float32[np.ndarray, "q m"]:
    """Cosine of each query to each candidate's location embedding, less so much of the location's hubness."""
    similarity = query @ gallery.location_embeddings.T
    return np.asarray(similarity - np.float32(hubness) * hubness_of(gallery).locations if hubness else similarity)


def image_similarity(
    query: Float32[np.ndarray, "q d"], gallery: Gallery, photographed: Photographed, hubness: float = 0.0
) -> Float32[np.ndarray, "q c"]:
    """Largest cosine of each query to the photographs of each candidate that has some, less so much of their hubness.

    The largest, because photographs of one place look different ways and a query looks only one way.
    """
    similarity = query @ gallery.image_embeddings[photographed.order].T
    if hubness:
        similarity = similarity - np.float32(hubness) * hubness_of(gallery).photographs[photographed.order]
    if len(photographed.rows) == len(photographed.order):
        return np.asarray(similarity)
    return np.asarray(np.maximum.reduceat(similarity, photographed.starts, axis=1), dtype=np.float32)


def hubness_of(gallery: Gallery) -> Hubness:
    """The hubness measured of a gallery, or MismatchError where a posterior needs it and there is none."""
    if gallery.hubness is None:
        raise MismatchError(
            "the posterior takes off the candidates' hubness, and none was measured of this gallery: make it again "
            "with `swclip index RUN MANIFEST --out GALLERY`, from a run whose model/ holds bank.safetensors (in "
            "Python: pass bank=read_bank(run))."
        )
    return gallery.hubness


def log_softmax(logits: Float64[np.ndarray, "q m"]) -> Float64[np.ndarray, "q m"]:
    """Log softmax over the candidates, in float64."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def log_probability(
    query: Float32[np.ndarray, "q d"], gallery: Gallery, config: PosteriorConfig, photographed: Photographed
) -> Float64[np.ndarray, "q m"]:
    """Log probability of each candidate, before smoothing on the ground.

    The location evidence is p_loc = softmax(location similarity / T_l) over all M candidates. The image evidence p_img
    = softmax(image similarity / T_i) can only speak about the candidates C that have photographs. It therefore deals
    out anew the probability c = sum_{m in C} p_loc(m) that the location evidence gives to those candidates together:

        p(m) = p_loc(m)                              m without photographs
        p(m) = (1 - w) p_loc(m) + w c p_img(m)       m with photographs

    This sums to 1 whatever the gallery holds; it is p_loc where no candidate has a photograph, and the plain mixture
    (1 - w) p_loc + w p_img where all have. Similarities are less `location_hubness` and `image_hubness` times the
    hubness of what they are to, see `hubness`.
    """
    located, seen = _both_kinds(query, gallery, config, photographed)
    return located if seen is None else mix(located, seen, photographed.rows, config.image_weight)


def _both_kinds(
    query: Float32[np.ndarray, "q d"], gallery: Gallery, config: PosteriorConfig, photographed: Photographed
) -> tuple[Float64[np.ndarray, "q m"], Float64[np.ndarray, "q c"] | None]:
    """log p_loc and log p_img; None for the latter where it counts for nothing."""
    similarity = location_similarity(query, gallery, config.location_hubness)
    located = log_softmax(similarity.astype(np.float64) / config.location_temperature)
    if config.image_weight == 0.0 or len(photographed.rows) == 0:
        return located, None
    seen = image_similarity(query, gallery, photographed, config.image_hubness)
    return located, log_softmax(seen.astype(np.float64) / config.image_temperature)


def mix(
    located: Float64[np.ndarray, "q m"],
    seen: Float64[np.ndarray, "q c"],
    rows: Int64[np.ndarray, " c"],
    image_weight: float,
) -> Float64[np.ndarray, "q m"]:
    """The mixture of `log_probability`, in logarithms so that nothing underflows."""
    mixed = located.copy()
    there = located[:, rows]
    reach = np.asarray(logsumexp(there, axis=1, keepdims=True))
    with np.errstate(divide="ignore"):
        mixed[:, rows] = np.logaddexp(np.log1p(-image_weight) + there, np.log(image_weight) + reach + seen)
    return mixed


@dataclass(frozen=True, eq=False)
class Evidence:
    """What photographs say of a gallery's candidates, each by itself.

    Attributes:
        query: (Q, D) their embeddings.
        log_p: (Q, M) log probabilities, `log_probability`.
        log_located: (Q, M) logarithm of the part of them that is location evidence: (1 - w) p_loc at candidates with
            photographs, all of p_loc at the others.
    """

    query: Float32[np.ndarray, "q d"]
    log_p: Float64[np.ndarray, "q m"]
    log_located: Float64[np.ndarray, "q m"]

    @classmethod
    def of(
        cls, query: Float32[np.ndarray, "q d"], gallery: Gallery, config: PosteriorConfig, photographed: Photographed
    ) -> Evidence:
        """The evidence of embedded photographs; takes three (Q, M) arrays at once."""
        located, seen = _both_kinds(query, gallery, config, photographed)
        if seen is None:
            return cls(query, located, located)
        log_p = mix(located, seen, photographed.rows, config.image_weight)
        with np.errstate(divide="ignore"):
            located[:, photographed.rows] += np.log1p(-config.image_weight)
        return cls(query, log_p, located)

    def __len__(self) -> int:
        return len(self.query)

    def rows(self, own: slice) -> Evidence:
        """That of some of the photographs."""
        return Evidence(self.query[own], self.log_p[own], self.log_located[own])

    def take(self, candidates: Int64[np.ndarray, " s"]) -> Evidence:
        """Over some of the candidates, given that it is one of them."""
        return self._normal(self.log_p[:, candidates], self.log_located[:, candidates])

    def times(self, log_weight: Float64[np.ndarray, " m"]) -> Evidence:
        """With a weight for each candidate."""
        return self._normal(self.log_p + log_weight, self.log_located + log_weight)

    def _normal(self, log_p: Float64[np.ndarray, "q m"], log_located: Float64[np.ndarray, "q m"]) -> Evidence:
        total = np.asarray(logsumexp(log_p, axis=1, keepdims=True))
        return Evidence(self.query, log_p - total, log_located - total)
