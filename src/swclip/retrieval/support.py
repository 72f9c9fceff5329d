"""What speaks for a candidate: similarities to its location and its photographs, and which of the two carries it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy import sparse

from swclip.answers.record import Testimony
from swclip.retrieval.scores import Evidence, Photographed, hubness_of
from swclip.gallery.gallery import Gallery
from swclip.calibration.posterior_config import PosteriorConfig

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

    def testimonies(self, at: int, image_ids: Sequence[str], names: Sequence[str]) -> tuple[Testimony, ...]:
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
                Testimony(
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
