"""From the embedding of a query to scores of the candidates: similarities, log probabilities, and evidence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64
from scipy import sparse
from scipy.special import logsumexp

from swclip.answers.record import PhotographEvidence
from swclip.calibration.posterior_config import PosteriorConfig
from swclip.errors import MismatchError
from swclip.gallery.gallery import Gallery
from swclip.models.blocks import cosines

MEMORY_BYTES = 256 * 2**20
"""Memory of one chunk of queries, over all its (q, M) arrays."""
_ARRAYS_AT_ONCE = 6
_DIGITS = 6


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


def check_queries(query: Float32[np.ndarray, "q d"], gallery: Gallery) -> Float32[np.ndarray, "q d"]:
    """The queries as a contiguous float32 matrix (Q, D).

    Raises:
        MismatchError: Their dimension is not that of the gallery.
    """
    array = np.ascontiguousarray(query, dtype=np.float32)
    if array.ndim != 2 or array.shape[1] != gallery.dim:
        raise MismatchError(
            f"query embeddings have shape {array.shape}, but the gallery's have dimension {gallery.dim}: they come "
            "from different models; embed the photographs with the gallery's model."
        )
    return array


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

    It is the largest, since photographs of one place have different headings, and a query has one.

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
    if len(photographed.rows) == len(photographed.order):
        return np.asarray(similarity)
    return np.asarray(np.maximum.reduceat(similarity, photographed.starts, axis=1), dtype=np.float32)


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


def log_softmax(logits: Float64[np.ndarray, "q m"]) -> Float64[np.ndarray, "q m"]:
    """Log softmax over the candidates, (Q, M) float64."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def log_probability(
    query: Float32[np.ndarray, "q d"], gallery: Gallery, config: PosteriorConfig, photographed: Photographed
) -> Float64[np.ndarray, "q m"]:
    """Log probability of each candidate, before spatial smoothing.

    The location evidence is p_loc = softmax(location similarity / T_l) over all M candidates. The image evidence p_img
    = softmax(image similarity / T_i) covers only the candidates C that have photographs. It therefore redistributes the
    probability c = sum_{m in C} p_loc(m) that these candidates have together by the location evidence:

        p(m) = p_loc(m)                              m without photographs
        p(m) = (1 - w) p_loc(m) + w c p_img(m)       m with photographs

    This sums to 1 for every gallery; it is p_loc where no candidate has a photograph, and the plain mixture (1 - w)
    p_loc + w p_img where all have. Image similarities are less `config.image_hubness` times the photographs' hubness,
    see `swclip.gallery.hubness`.

    Args:
        query: (Q, D) unit vectors.
        gallery: The candidates.
        config: Temperatures, weight of the images, share of the hubness.
        photographed: The gallery's photographs by candidate.

    Returns:
        (Q, M) log probabilities, float64.

    Raises:
        MismatchError: The gallery's hubness is needed and was not measured.
    """
    log_location, log_image = _log_evidence(query, gallery, config, photographed)
    return log_location if log_image is None else mix(log_location, log_image, photographed.rows, config.image_weight)


def _log_evidence(
    query: Float32[np.ndarray, "q d"], gallery: Gallery, config: PosteriorConfig, photographed: Photographed
) -> tuple[Float64[np.ndarray, "q m"], Float64[np.ndarray, "q c"] | None]:
    """log p_loc and log p_img; None for the latter where its weight is 0."""
    similarity = location_similarity(query, gallery)
    log_location = log_softmax(similarity.astype(np.float64) / config.location_temperature)
    if config.image_weight == 0.0 or len(photographed.rows) == 0:
        return log_location, None
    similarity = image_similarity(query, gallery, photographed, config.image_hubness)
    return log_location, log_softmax(similarity.astype(np.float64) / config.image_temperature)


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


@dataclass(frozen=True, eq=False)
class Evidence:
    """The evidence of photographs about a gallery's candidates, separately for each photograph.

    Attributes:
        query: (Q, D) embeddings of the photographs.
        log_p: (Q, M) log probabilities, `log_probability`.
        log_location: (Q, M) logarithm of the part of them that is location evidence: (1 - w) p_loc at candidates with
            photographs, all of p_loc at the others.
    """

    query: Float32[np.ndarray, "q d"]
    log_p: Float64[np.ndarray, "q m"]
    log_location: Float64[np.ndarray, "q m"]

    @classmethod
    def of(
        cls, query: Float32[np.ndarray, "q d"], gallery: Gallery, config: PosteriorConfig, photographed: Photographed
    ) -> Evidence:
        """Compute the evidence of embedded photographs; needs three (Q, M) arrays of memory.

        Args:
            query: (Q, D) unit vectors.
            gallery: The candidates.
            config: The posterior.
            photographed: The gallery's photographs by candidate.
        """
        log_location, log_image = _log_evidence(query, gallery, config, photographed)
        if log_image is None:
            return cls(query, log_location, log_location)
        log_p = mix(log_location, log_image, photographed.rows, config.image_weight)
        with np.errstate(divide="ignore"):
            log_location[:, photographed.rows] += np.log1p(-config.image_weight)
        return cls(query, log_p, log_location)

    def __len__(self) -> int:
        return len(self.query)

    def rows(self, photographs: slice) -> Evidence:
        """The evidence of a slice of the photographs."""
        return Evidence(self.query[photographs], self.log_p[photographs], self.log_location[photographs])

    def take(self, candidates: Int64[np.ndarray, " s"]) -> Evidence:
        """The evidence conditional on the place being one of these candidates."""
        return self._normalised(np.take(self.log_p, candidates, axis=1), np.take(self.log_location, candidates, axis=1))

    def times(self, log_weight: Float64[np.ndarray, " m"]) -> Evidence:
        """The evidence with a prior weight of each candidate."""
        return self._normalised(self.log_p + log_weight, self.log_location + log_weight)

    def _normalised(self, log_p: Float64[np.ndarray, "q m"], log_location: Float64[np.ndarray, "q m"]) -> Evidence:
        total = np.asarray(logsumexp(log_p, axis=1, keepdims=True))
        return Evidence(self.query, log_p - total, log_location - total)


@dataclass(frozen=True, eq=False)
class CandidateEvidence:
    """The evidence of photographs about the listed candidates of an answer, separately for each photograph.

    With p the probability that a photograph gives to candidates, p_l the part of it that is location evidence
    (`Evidence`) and W the spatial smoothing (`swclip.geo.spatial_smoothing.spread`), the share of the images is

        1 - (p_l W)_m / (p W)_m

    so that location and images together give the probability of the answer.

    Attributes:
        probability: (Q, K) (p W)_m.
        image_share: (Q, K) the share; NaN where the probability is 0.
        location_similarity: (Q, K) similarity to the location embeddings.
        photographs: K arrays of the photographs at each candidate, as rows of the gallery.
        image_similarity: K arrays (Q, P_k) of similarities to them, less hubness as in the posterior.
    """

    probability: Float64[np.ndarray, "q k"]
    image_share: Float64[np.ndarray, "q k"]
    location_similarity: Float64[np.ndarray, "q k"]
    photographs: list[Int64[np.ndarray, " p"]]
    image_similarity: list[Float64[np.ndarray, "q p"]]

    @classmethod
    def of(
        cls,
        evidence: Evidence,
        rows: Int64[np.ndarray, " k"],
        gallery: Gallery,
        photographed: Photographed,
        config: PosteriorConfig,
        kernel: sparse.csr_array,
        outflow: Float64[np.ndarray, " m"],
    ) -> CandidateEvidence:
        """The evidence about K candidates.

        Args:
            evidence: The evidence of Q photographs about the gallery's candidates.
            rows: (K,) the listed candidates.
            gallery: The gallery.
            photographed: Its photographs by candidate.
            config: The posterior, for the share of hubness to subtract.
            kernel: (M, M) `ground_kernel` of the candidates.
            outflow: (M,) its `outflow`.
        """
        probability, location_part = _smoothed_at(rows, kernel, outflow, evidence.log_p, evidence.log_location)
        with np.errstate(invalid="ignore"):
            share = np.clip(1.0 - location_part / probability, 0.0, 1.0)
        query = evidence.query.astype(np.float64)
        location = query @ gallery.location_embeddings[rows].T.astype(np.float64)
        photographs = [photographed.of_candidate(int(row)) for row in rows]
        image_similarity = []
        for at_candidate in photographs:
            similarity = query @ gallery.image_embeddings[at_candidate].T.astype(np.float64)
            if config.image_hubness:
                similarity = similarity - config.image_hubness * hubness_of(gallery)[at_candidate]
            image_similarity.append(similarity)
        return cls(probability, share, location, photographs, image_similarity)

    def ranked_photographs(
        self, candidate: int, image_ids: Sequence[str], query: int | None = None
    ) -> tuple[tuple[str, float], ...]:
        """The photographs at a candidate with their similarities, the most similar first; ties by id.

        Args:
            candidate: Index of the candidate, 0 to K - 1.
            image_ids: The gallery's ids.
            query: Index of the photograph that they are compared with, 0 to Q - 1; None for the most similar of all.

        Returns:
            Pairs of id and similarity.
        """
        similarity = self.image_similarity[candidate]
        values = similarity.max(axis=0) if query is None else similarity[query]
        named = [
            (image_ids[photograph], round(value, _DIGITS))
            for photograph, value in zip(self.photographs[candidate].tolist(), values.tolist(), strict=True)
        ]
        return tuple(sorted(named, key=lambda pair: (-pair[1], pair[0])))

    def by_photograph(
        self, candidate: int, image_ids: Sequence[str], names: Sequence[str]
    ) -> tuple[PhotographEvidence, ...]:
        """The evidence of each photograph about a candidate.

        Args:
            candidate: Index of the candidate, 0 to K - 1.
            image_ids: The gallery's ids.
            names: Q names of the photographs.

        Returns:
            Q records.
        """
        records = []
        for query, name in enumerate(names):
            pairs = self.ranked_photographs(candidate, image_ids, query)
            records.append(
                PhotographEvidence(
                    photograph=name,
                    probability=float(self.probability[query, candidate]),
                    location_similarity=self.location_similarity_of(candidate, query),
                    image_share=self.image_share_of(candidate, query),
                    image_ids=tuple(image_id for image_id, _ in pairs),
                    image_similarities=tuple(similarity for _, similarity in pairs),
                )
            )
        return tuple(records)

    def location_similarity_of(self, candidate: int, query: int) -> float:
        """Similarity of one photograph to a candidate's location."""
        return round(float(self.location_similarity[query, candidate]), _DIGITS)

    def image_share_of(self, candidate: int, query: int) -> float | None:
        """Share of a candidate's probability that is image evidence; None where the probability is 0."""
        share = float(self.image_share[query, candidate])
        return None if np.isnan(share) else round(share, _DIGITS)


def _smoothed_at(
    rows: Int64[np.ndarray, " k"],
    kernel: sparse.csr_array,
    outflow: Float64[np.ndarray, " m"],
    *log_parts: Float64[np.ndarray, "q m"],
) -> list[Float64[np.ndarray, "q k"]]:
    """Spatially smoothed posteriors at a few candidates only, from the candidates within the kernel's reach."""
    # SciPy's slicing of a few rows would take longer than the rest of an answer. Each row contains itself, and is not
    # empty.
    starts, stops = kernel.indptr[rows], kernel.indptr[rows + 1]
    entries = np.concatenate([np.arange(start, stop) for start, stop in zip(starts, stops, strict=True)])
    near = kernel.indices[entries]
    share = kernel.data[entries] / outflow[near]
    first = np.concatenate([[0], np.cumsum(stops - starts)[:-1]])
    return [np.add.reduceat(np.exp(part[:, near]) * share, first, axis=1) for part in log_parts]
