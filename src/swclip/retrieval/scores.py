"""From the vectors of a query to probabilities of the candidates: similarities and log probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64
from scipy.special import logsumexp

from swclip.calibration.in_area import SimilarityKind
from swclip.calibration.posterior_config import PosteriorConfig
from swclip.errors import MismatchError
from swclip.gallery.gallery import Gallery
from swclip.models.blocks import cosines
from swclip.models.photograph_vectors import PhotographVectors, Vectors, as_vectors
from swclip.retrieval.verification import log_factors

MEMORY_BYTES = 256 * 2**20
"""Memory of one chunk of queries, over all its (q, M) arrays."""
_ARRAYS_AT_ONCE = 6


@dataclass(frozen=True)
class Photographed:
    """The photographs of a gallery grouped by candidate.

    Attributes:
        rows: (C,) candidates with at least one photograph, increasing.
        order: (P,) photographs ordered by candidate.
        starts: (C,) index of each candidate's first photograph in `order`.
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
        """The photographs (K,) at one candidate, as rows of the gallery."""
        at = int(np.searchsorted(self.rows, row))
        if at == len(self.rows) or self.rows[at] != row:
            return self.order[:0]
        return self.order[self.starts[at] : self.starts[at + 1] if at + 1 < len(self.starts) else None]

    def largest(self, similarity: Float32[np.ndarray, "q p"]) -> Float32[np.ndarray, "q c"]:
        """The largest similarity (Q, C) at each photographed candidate, of similarities (Q, P) in `order`.

        It is the largest, since photographs of one place have different headings, and a query has one.
        """
        if len(self.rows) == len(self.order):
            return np.asarray(similarity)
        return np.asarray(np.maximum.reduceat(similarity, self.starts, axis=1), dtype=np.float32)


def check_queries(query: Vectors, gallery: Gallery) -> PhotographVectors:
    """The vectors of queries, contiguous and float32.

    Raises:
        MismatchError: Their dimensions are not those of the gallery.
    """
    vectors = as_vectors(query)
    kinds = [("embeddings", vectors.embeddings, gallery.dim)]
    if vectors.whitened is not None and gallery.image_whitened is not None:
        kinds.append(("whitened features", vectors.whitened, gallery.image_whitened.shape[1]))
    for kind, array, dim in kinds:
        if array.ndim != 2 or array.shape[1] != dim:
            raise MismatchError(
                f"query {kind} have shape {array.shape}, but the gallery's have dimension {dim}: they come "
                "from different models; embed the photographs with the gallery's model."
            )
    return vectors


def chunks(query_count: int, gallery: Gallery, memory_bytes: int = MEMORY_BYTES) -> Iterator[slice]:
    """Slices of the queries whose arrays fit into memory.

    Args:
        query_count: Number of queries.
        gallery: The gallery.
        memory_bytes: Memory of the arrays of one slice.
    """
    width = max(len(gallery), len(gallery.image_ids), 1)
    step = max(1, memory_bytes // (width * 8 * _ARRAYS_AT_ONCE))
    for start in range(0, query_count, step):
        yield slice(start, min(start + step, query_count))


def location_similarity(query: Float32[np.ndarray, "q d"], gallery: Gallery) -> Float32[np.ndarray, "q m"]:
    """Cosine (Q, M) of each query to each candidate's location embedding; it does not depend on the other queries."""
    return cosines(query, gallery.location_embeddings)


def image_similarity(
    query: Float32[np.ndarray, "q d"], gallery: Gallery, photographed: Photographed, hubness: float = 0.0
) -> Float32[np.ndarray, "q c"]:
    """Largest cosine (Q, C) of each query to the photographs of each photographed candidate, less a share of hubness.

    Args:
        query: (Q, D) unit vectors.
        gallery: The gallery.
        photographed: Its photographs by candidate.
        hubness: Share of the photographs' hubness that is subtracted.

    Raises:
        MismatchError: The gallery's hubness is needed and was not measured.
    """
    similarity = cosines(query, gallery.image_embeddings[photographed.order])
    if hubness:
        similarity = similarity - np.float32(hubness) * hubness_of(gallery)[photographed.order]
    return photographed.largest(similarity)


def whitened_similarity(
    vectors: PhotographVectors, gallery: Gallery, photographed: Photographed
) -> Float32[np.ndarray, "q c"]:
    """Largest cosine (Q, C) of whitened features to the photographs of each photographed candidate.

    Args:
        vectors: Vectors of Q queries.
        gallery: The gallery.
        photographed: Its photographs by candidate.

    Raises:
        MismatchError: The queries or the gallery have no whitened features.
    """
    if gallery.image_whitened is None or vectors.whitened is None:
        without = "this gallery" if gallery.image_whitened is None else "the query"
        raise MismatchError(
            f"the posterior uses whitened features, and {without} has none: build the gallery with `swclip index RUN "
            "MANIFEST --out GALLERY`, and embed queries with its model (in Python: photograph_vectors)."
        )
    return photographed.largest(cosines(vectors.whitened, gallery.image_whitened[photographed.order]))


def hubness_of(gallery: Gallery) -> Float32[np.ndarray, " p"]:
    """The hubness (P,) of a gallery's photographs.

    Raises:
        MismatchError: It was not measured.
    """
    if gallery.image_hubness is None:
        raise MismatchError(
            "the posterior subtracts the photographs' hubness, but this gallery's was not measured: build it again "
            "with `swclip index RUN MANIFEST --out GALLERY`, from a run whose model/ has bank.safetensors (in "
            "Python: pass bank=read_bank(run))."
        )
    return gallery.image_hubness


def image_logits(
    vectors: PhotographVectors, gallery: Gallery, photographed: Photographed, config: PosteriorConfig
) -> Float64[np.ndarray, "q c"]:
    """The image evidence: logits (Q, C) of the photographed candidates, a sum over the kinds of image similarity.

    Trained embeddings and whitened features of the frozen tower fail on different queries. Their logits add up, as
    those of independent evidence do; a mixture of the two softmaxes was worse on validation (docs/method.md). Each has
    its own temperature, by which correlated kinds share their weight:

        trained similarity, less hubness, / T_i  +  whitened similarity / T_w

    A further kind of evidence that exists for every photographed candidate is a further summand here, with a
    temperature in `PosteriorConfig` and an axis in `swclip.retrieval.posterior_fit`. Evidence that is computed for the
    best candidates only comes after the mixture instead: `swclip.retrieval.verification`.

    Args:
        vectors: Vectors of Q queries.
        gallery: The gallery.
        photographed: Its photographs by candidate.
        config: Temperatures and share of the hubness.

    Raises:
        MismatchError: The gallery lacks whitened features or hubness that the posterior uses.
    """
    similarity = image_similarity(vectors.embeddings, gallery, photographed, config.image_hubness)
    logits = similarity.astype(np.float64) / config.image_temperature
    if config.whitened_temperature is not None:
        whitened = whitened_similarity(vectors, gallery, photographed)
        logits += whitened.astype(np.float64) / config.whitened_temperature
    return logits


def similarity_kind(config: PosteriorConfig, photographed: Photographed) -> SimilarityKind:
    """The similarity to photographs that says most of a query among those that a posterior uses."""
    if config.image_weight == 0.0 or len(photographed.rows) == 0:
        return "none"
    return "image" if config.whitened_temperature is None else "whitened"


def similarity_of(
    vectors: PhotographVectors,
    gallery: Gallery,
    photographed: Photographed,
    config: PosteriorConfig,
    kind: SimilarityKind,
) -> Float32[np.ndarray, "q c"]:
    """Similarity (Q, C) of queries to the photographed candidates; a column of zeros for `none`."""
    if kind == "none":
        return np.zeros((len(vectors), 1), dtype=np.float32)
    if kind == "image":
        return image_similarity(vectors.embeddings, gallery, photographed, config.image_hubness)
    return whitened_similarity(vectors, gallery, photographed)


def log_softmax(logits: Float64[np.ndarray, "q m"]) -> Float64[np.ndarray, "q m"]:
    """Log softmax over the candidates, (Q, M) float64."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def log_probability(
    query: Vectors, gallery: Gallery, config: PosteriorConfig, photographed: Photographed
) -> Float64[np.ndarray, "q m"]:
    """Log probability of each candidate, before spatial smoothing.

    The location evidence is p_loc = softmax(location similarity / T_l) over all M candidates. The image evidence p_img
    = softmax(`image_logits`) covers only the candidates C that have photographs. It therefore redistributes the
    probability c = sum_{m in C} p_loc(m) that these candidates have together by the location evidence:

        p(m) = p_loc(m)                              m without photographs
        p(m) = (1 - w) p_loc(m) + w c p_img(m)       m with photographs

    Verification (`swclip.retrieval.verification`) then redistributes the mass of the most probable candidates among
    them. p sums to 1 for every gallery; before verification it is p_loc where no candidate has a photograph, and the
    plain mixture (1 - w) p_loc + w p_img where all have. Image similarities are less `config.image_hubness` times the
    photographs' hubness, see `swclip.gallery.hubness`.

    Args:
        query: Vectors of Q queries.
        gallery: The candidates.
        config: Temperatures, weight of the images, share of the hubness.
        photographed: The gallery's photographs by candidate.

    Returns:
        (Q, M) log probabilities, float64.

    Raises:
        MismatchError: The gallery lacks whitened features, hubness or patch features that the posterior uses.
    """
    vectors = as_vectors(query)
    log_location, log_image = log_evidence(vectors, gallery, config, photographed)
    log_p = log_location if log_image is None else mix(log_location, log_image, photographed.rows, config.image_weight)
    return np.asarray(log_p + log_factors(log_p, vectors.details, gallery, config, photographed.of_candidate))


def log_evidence(
    vectors: PhotographVectors, gallery: Gallery, config: PosteriorConfig, photographed: Photographed
) -> tuple[Float64[np.ndarray, "q m"], Float64[np.ndarray, "q c"] | None]:
    """log p_loc and log p_img of `log_probability`; None for the latter where its weight is 0."""
    similarity = location_similarity(vectors.embeddings, gallery)
    log_location = log_softmax(similarity.astype(np.float64) / config.location_temperature)
    if config.image_weight == 0.0 or len(photographed.rows) == 0:
        return log_location, None
    return log_location, log_softmax(image_logits(vectors, gallery, photographed, config))


def mix(
    log_location: Float64[np.ndarray, "q m"],
    log_image: Float64[np.ndarray, "q c"],
    rows: Int64[np.ndarray, " c"],
    image_weight: float,
) -> Float64[np.ndarray, "q m"]:
    """The mixture of `log_probability`, in logarithms to avoid underflow.

    Args:
        log_location: (Q, M) log p_loc.
        log_image: (Q, C) log p_img.
        rows: (C,) candidates with photographs.
        image_weight: w.

    Returns:
        (Q, M) log probabilities.
    """
    mixed = log_location.copy()
    # Not log_location[:, rows], whose layout, and with it the order of sums, depends on the number of queries.
    log_location_there = np.take(log_location, rows, axis=1)
    log_c = np.asarray(logsumexp(log_location_there, axis=1, keepdims=True))
    with np.errstate(divide="ignore"):
        log_keep, log_weight = np.log1p(-image_weight), np.log(image_weight)
        mixed[:, rows] = np.logaddexp(log_keep + log_location_there, log_weight + log_c + log_image)
    return mixed
