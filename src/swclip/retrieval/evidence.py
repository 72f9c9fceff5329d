"""The evidence of photographs about candidates: location and images apart, for the whole gallery and for an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy import sparse
from scipy.special import logsumexp

from swclip.answers.record import PhotographEvidence
from swclip.calibration.posterior_config import PosteriorConfig
from swclip.gallery.gallery import Gallery
from swclip.models.photograph_vectors import PhotographVectors, Vectors, as_vectors
from swclip.retrieval.scores import Photographed, hubness_of, log_evidence, mix

_DIGITS = 6


@dataclass(frozen=True, eq=False)
class Evidence:
    """The evidence of photographs about a gallery's candidates, separately for each photograph, before verification.

    Attributes:
        vectors: Vectors of Q photographs.
        log_p: (Q, M) log probabilities, `log_probability`.
        log_location: (Q, M) logarithm of the part of them that is location evidence: (1 - w) p_loc at candidates with
            photographs, all of p_loc at the others.
    """

    vectors: PhotographVectors
    log_p: Float64[np.ndarray, "q m"]
    log_location: Float64[np.ndarray, "q m"]

    @classmethod
    def of(cls, query: Vectors, gallery: Gallery, config: PosteriorConfig, photographed: Photographed) -> Evidence:
        """Compute the evidence of embedded photographs; needs three (Q, M) arrays of memory.

        Args:
            query: Vectors of Q photographs.
            gallery: The candidates.
            config: The posterior.
            photographed: The gallery's photographs by candidate.
        """
        vectors = as_vectors(query)
        log_location, log_image = log_evidence(vectors, gallery, config, photographed)
        if log_image is None:
            return cls(vectors, log_location, log_location)
        log_p = mix(log_location, log_image, photographed.rows, config.image_weight)
        with np.errstate(divide="ignore"):
            log_location[:, photographed.rows] += np.log1p(-config.image_weight)
        return cls(vectors, log_p, log_location)

    def __len__(self) -> int:
        return len(self.vectors)

    def rows(self, photographs: slice) -> Evidence:
        """The evidence of a slice of the photographs."""
        return Evidence(self.vectors.take(photographs), self.log_p[photographs], self.log_location[photographs])

    def take(self, candidates: Int64[np.ndarray, " s"]) -> Evidence:
        """The evidence conditional on the place being one of these candidates."""
        return self._normalised(np.take(self.log_p, candidates, axis=1), np.take(self.log_location, candidates, axis=1))

    def times(self, log_weight: Float64[np.ndarray, "*q m"]) -> Evidence:
        """The evidence with a prior weight of each candidate, or with one of each photograph and candidate."""
        return self._normalised(self.log_p + log_weight, self.log_location + log_weight)

    def _normalised(self, log_p: Float64[np.ndarray, "q m"], log_location: Float64[np.ndarray, "q m"]) -> Evidence:
        total = np.asarray(logsumexp(log_p, axis=1, keepdims=True))
        return Evidence(self.vectors, log_p - total, log_location - total)


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
        image_similarity: K arrays (Q, P_k) of similarities of trained embeddings to them, less hubness as in the
            posterior.
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
        query = evidence.vectors.embeddings.astype(np.float64)
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
