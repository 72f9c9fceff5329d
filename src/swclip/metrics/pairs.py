"""All pairs of a set of points: how far apart on the ground, and how far apart their embeddings are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64
from numpy.typing import ArrayLike
from scipy.spatial.distance import pdist

from swclip.errors import InputError
from swclip.geo.coordinates import unit_vectors, valid_positions
from swclip.geo.distance import EARTH_RADIUS_M

MOST_POINTS = 3_000
"""4.5 million pairs, some 300 MB: of larger sets a sample of as many points is taken."""

_SAME, _SAME_M = 12, 6
"""Decimals of an embedding distance and of metres that are kept: beyond, equals would differ by rounding."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """N points and their N (N - 1) / 2 pairs.

    Attributes:
        positions_deg: (N, 2) latitude, longitude in degrees.
        embeddings: (N, D) the embeddings, of length 1.
        first: (P,) number of the first point of each pair.
        second: (P,) number of its second, larger.
        ground_m: (P,) great-circle distance in metres, to the micrometre.
        distances: (N, N) embedding distances, 1 - cosine, from 0 to 2; 0 on the diagonal.
    """

    positions_deg: Float64[np.ndarray, "n 2"]
    embeddings: Float64[np.ndarray, "n d"]
    first: Int64[np.ndarray, " p"]
    second: Int64[np.ndarray, " p"]
    ground_m: Float64[np.ndarray, " p"]
    distances: Float64[np.ndarray, "n n"]

    @classmethod
    def of(
        cls,
        positions_deg: ArrayLike,
        embeddings: Float[np.ndarray, "n d"],
        *,
        generator: np.random.Generator,
        most: int = MOST_POINTS,
    ) -> Pairs:
        """The pairs of all points, or of a sample of them where there are more than `most`.

        Args:
            positions_deg: (N, 2) latitude, longitude in degrees.
            embeddings: (N, D) embeddings; their lengths do not matter.
            generator: Draws the sample.
            most: Most points.

        Raises:
            InputError: Positions and embeddings do not belong together, or a row of either cannot be used.

        Example:
            >>> vectors = np.array([[1.0, 0.0], [0.0, 3.0]])
            >>> pairs = Pairs.of([[0, 0], [0, 1]], vectors, generator=np.random.default_rng(0))
            >>> pairs.ground_m.round().tolist(), pairs.distances.tolist()
            ([111195.0], [[0.0, 1.0], [1.0, 0.0]])
        """
        positions = np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2)
        vectors = np.asarray(embeddings)
        length = _lengths(positions, vectors)
        n = len(positions)
        rows = np.arange(n) if n <= most else np.sort(generator.permutation(n)[:most])
        n, positions, vectors = len(rows), positions[rows], vectors[rows].astype(np.float64) / length[rows, None]
        distances = np.round(np.clip(1.0 - vectors @ vectors.T, 0.0, 2.0), _SAME) + 0.0  # never -0.0
        distances = 0.5 * (distances + distances.T)
        np.fill_diagonal(distances, 0.0)
        first, second = np.triu_indices(n, 1)
        chord = pdist(unit_vectors(positions)) if n > 1 else np.zeros(0)
        ground_m = 2.0 * EARTH_RADIUS_M * np.arcsin(np.minimum(0.5 * chord, 1.0))
        return cls(positions, vectors, first, second, np.round(ground_m, _SAME_M), distances)

    def __len__(self) -> int:
        return len(self.positions_deg)


def _lengths(positions: Float64[np.ndarray, "n 2"], embeddings: Float[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
    if embeddings.ndim != 2 or len(embeddings) != len(positions):
        raise InputError(
            f"{len(positions)} positions and embeddings of shape {embeddings.shape}: give one row a position."
        )
    bad = np.flatnonzero(~valid_positions(positions[:, 0], positions[:, 1]))
    if bad.size:
        raise InputError(f"row {bad[0]}: position {positions[bad[0]].tolist()} is none; leave such rows out.")
    length: Float64[np.ndarray, " n"] = np.sqrt(np.einsum("nd,nd->n", embeddings, embeddings, dtype=np.float64))
    bad = np.flatnonzero(~(np.isfinite(length) & (length > 0.0)))
    if bad.size:
        raise InputError(
            f"row {bad[0]}: an embedding of length {length[bad[0]]} has no direction; the model's training diverged."
        )
    return length
