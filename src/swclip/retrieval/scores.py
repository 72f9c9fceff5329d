"""What a query's embedding says about each candidate: similarities, and the log probabilities they stand for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64
from scipy import sparse
from scipy.special import logsumexp

from swclip.answers.record import CandidateEvidence
from swclip.calibration.posterior_config import PosteriorConfig
from swclip.errors import MismatchError
from swclip.gallery.gallery import Gallery
from swclip.gallery.hubness import Hubness

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


_DIGITS = 6


@dataclass(frozen=True, eq=False)
class Support:
    """What photographs say of some candidates, each photograph by itself.

    With p the log probability that a photograph gives to candidates, p_l the part of it that is location evidence
    (`evidence.Evidence`) and W the smoothing on the ground (`ground_kernel.spread`), the share of the images is

        1 - (p_l W)_m / (p W)_m

    so that location and images together make the probability that is stated.

    Attributes:
        probability: (Q, K) (p W)_m.
        image_share: (Q, K) the share; NaN where the probability is 0.
        location_similarity: (Q, K) similarity to the location embeddings, less hubness as the posterior has it.
        photographs: K arrays of the photographs at each candidate, by their number in the gallery.
        image_similarity: K arrays (Q, P_k) of similarities to them, likewise.
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
        handed: Float64[np.ndarray, " m"],
    ) -> Support:
        """The support of candidates.

        Args:
            evidence: Of Q photographs over the gallery's candidates.
            rows: The candidates.
            gallery: The gallery.
            photographed: Its photographs by candidate.
            config: What hubness is taken off.
            kernel: (M, M) `ground_kernel` of the candidates.
            handed: (M,) its `outflow`.
        """
        probability, located = _smoothed_at(rows, kernel, handed, evidence.log_p, evidence.log_located)
        with np.errstate(invalid="ignore"):
            share = np.clip(1.0 - located / probability, 0.0, 1.0)
        query = evidence.query.astype(np.float64)
        location = query @ gallery.location_embeddings[rows].T.astype(np.float64)
        if config.location_hubness:
            location = location - config.location_hubness * hubness_of(gallery).locations[rows]
        photographs = [photographed.of_candidate(int(row)) for row in rows]
        similarity = []
        for own in photographs:
            seen = query @ gallery.image_embeddings[own].T.astype(np.float64)
            if config.image_hubness:
                seen = seen - config.image_hubness * hubness_of(gallery).photographs[own]
            similarity.append(seen)
        return cls(probability, share, location, photographs, similarity)

    def ordered(self, at: int, image_ids: Sequence[str], own: int | None = None) -> tuple[tuple[str, float], ...]:
        """The photographs at a candidate with their similarities, the most similar first; of equals the first by id.

        Args:
            at: Which candidate.
            image_ids: The gallery's ids.
            own: Similar to which of the Q photographs; None for the nearest of them.
        """
        similarity = self.image_similarity[at]
        values = similarity.max(axis=0) if own is None else similarity[own]
        named = [
            (image_ids[photograph], round(value, _DIGITS))
            for photograph, value in zip(self.photographs[at].tolist(), values.tolist(), strict=True)
        ]
        return tuple(sorted(named, key=lambda pair: (-pair[1], pair[0])))

    def testimonies(self, at: int, image_ids: Sequence[str], names: Sequence[str]) -> tuple[CandidateEvidence, ...]:
        """What each photograph says of a candidate.

        Args:
            at: Which candidate.
            image_ids: The gallery's ids.
            names: Q names of the photographs.
        """
        found = []
        for own, name in enumerate(names):
            pairs = self.ordered(at, image_ids, own)
            found.append(
                CandidateEvidence(
                    photograph=name,
                    probability=float(self.probability[own, at]),
                    location_similarity=self.location_similarity_of(at, own),
                    image_share=self.image_share_of(at, own),
                    image_ids=tuple(image_id for image_id, _ in pairs),
                    image_similarities=tuple(similarity for _, similarity in pairs),
                )
            )
        return tuple(found)

    def location_similarity_of(self, at: int, own: int) -> float:
        """Similarity of one photograph to a candidate's location."""
        return round(float(self.location_similarity[own, at]), _DIGITS)

    def image_share_of(self, at: int, own: int) -> float | None:
        """Share of a candidate's probability that images carry; None where there is no probability."""
        share = float(self.image_share[own, at])
        return None if np.isnan(share) else round(share, _DIGITS)


def _smoothed_at(
    rows: Int64[np.ndarray, " k"],
    kernel: sparse.csr_array,
    handed: Float64[np.ndarray, " m"],
    *log_parts: Float64[np.ndarray, "q m"],
) -> list[Float64[np.ndarray, "q k"]]:
    """Parts of posteriors smoothed on the ground, at some candidates only: what their neighbours hand to them."""
    # SciPy's own slicing of a few rows takes longer than all the rest of an answer. No row is empty: each has itself.
    starts, stops = kernel.indptr[rows], kernel.indptr[rows + 1]
    entries = np.concatenate([np.arange(start, stop) for start, stop in zip(starts, stops, strict=True)])
    near = kernel.indices[entries]
    share = kernel.data[entries] / handed[near]
    first = np.concatenate([[0], np.cumsum(stops - starts)[:-1]])
    return [np.add.reduceat(np.exp(part[:, near]) * share, first, axis=1) for part in log_parts]
