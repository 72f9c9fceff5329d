"""Vectors for benchmarks of search: synthetic ones with the geometry of a location encoder, and multiplied real ones.

Random vectors in hundreds of dimensions have no near neighbours, and those of tight clusters are trivial: both would
give an unrealistic recall of an index. Embeddings of positions are on a two-dimensional surface in each city, with
geographic waves of several lengths; those of photographs scatter around it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int64

WAVES_M, SHARES = (2000.0, 400.0, 80.0), (0.5, 0.6, 0.5)
"""Lengths of the waves, metres, and the weight of each."""

CITIES, HALF_WIDTH_M, OF_CITY, NOISE = 40, 4000.0, 0.5, 0.1
_DEG_M = 111_195.0  # a degree of latitude, metres
_ROWS_AT_ONCE = 50_000
_BY_WHICH_CHOSEN = 128  # held-out photographs by which the settings of swclip's index were chosen


def unit(rows: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    """Rows of length 1."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def towns(
    count: int, dim: int, seed: int = 0, draw: int | None = None
) -> tuple[Float32[np.ndarray, "n d"], Float64[np.ndarray, "n 2"], Int64[np.ndarray, " n"]]:
    """Embeddings of positions drawn uniformly in 40 cities 8 km wide, the positions, and their cities.

    x(p) is the unit vector of a vector of the city, and for each wave length w of R_w [sin(B_w p), cos(B_w p)] with
    B_w ~ N(0, 1 / w^2) and R_w a rotation, and a little noise.

    Args:
        count: N.
        dim: D, even.
        seed: Seed of all draws.
        draw: Seed of positions and noise, for further parts of the same cities and waves; None for that of `seed`.

    Returns:
        (N, D) unit vectors, (N, 2) latitude and longitude in degrees, (N,) numbers of the cities.
    """
    generator = np.random.default_rng(seed)
    wave = [generator.standard_normal((2, dim // 2)).astype(np.float32) / length for length in WAVES_M]
    turn = [np.linalg.qr(generator.standard_normal((dim, dim)))[0].astype(np.float32) for _ in WAVES_M]
    city_vector = OF_CITY * unit(generator.standard_normal((CITIES, dim)).astype(np.float32))
    generator = generator if draw is None else np.random.default_rng([seed, draw])
    city = generator.integers(0, CITIES, count)
    ground_m = generator.uniform(-HALF_WIDTH_M, HALF_WIDTH_M, (count, 2))
    embeddings = np.empty((count, dim), dtype=np.float32)
    for start in range(0, count, _ROWS_AT_ONCE):
        part = slice(start, min(start + _ROWS_AT_ONCE, count))
        # Cities are far apart, so that their waves are unrelated.
        place = (ground_m[part] + 7919.0 * city[part][:, None]).astype(np.float32)
        rows = city_vector[city[part]]
        for share, waves, turned in zip(SHARES, wave, turn, strict=True):
            phase = place @ waves
            rows = rows + share * np.sqrt(2.0 / dim) * np.concatenate([np.sin(phase), np.cos(phase)], axis=1) @ turned
        noise = generator.standard_normal(rows.shape, dtype=np.float32) / np.float32(np.sqrt(dim))
        embeddings[part] = unit(rows + NOISE * noise)
    centre = np.stack([51.0 + 0.2 * (city // 8), -3.0 + 0.4 * (city % 8)], axis=1)
    scale = np.stack([np.ones(count), 1.0 / np.cos(np.radians(centre[:, 0]))], axis=1)
    return embeddings, centre + ground_m / _DEG_M * scale, city


def noisy_queries(
    rows: Float32[np.ndarray, "n d"], count: int, noise: float, seed: int = 1
) -> Float32[np.ndarray, "q d"]:
    """Queries: a sample of the rows with noise of `noise` times their length; 1.0 gives a cosine of about 0.7."""
    generator = np.random.default_rng(seed)
    drawn = rows[generator.choice(len(rows), count, replace=False)]
    return unit(drawn + noise * generator.standard_normal(drawn.shape, dtype=np.float32) / np.sqrt(rows.shape[1]))


def split_features(path: Path, dim: int, queries: int) -> tuple[Float32[np.ndarray, "n d"], Float32[np.ndarray, "q d"]]:
    """Image features in D dimensions (PCA): four fifths of the photographs, to multiply, and queries of the others.

    The held-out photographs by which the settings of swclip's index were chosen are not among the queries.

    Args:
        path: A .npy of image features, a row each.
        dim: D.
        queries: Q.
    """
    features = unit(np.load(path).astype(np.float32))
    centred = features - features.mean(axis=0)
    features = unit(centred @ np.linalg.svd(centred, full_matrices=False)[2][:dim].T)
    aside = np.arange(len(features)) % 5 == 0
    held_out = np.random.default_rng(0).permutation(features[aside])
    return features[~aside], held_out[min(_BY_WHICH_CHOSEN, len(held_out) // 2) :][:queries]


def multiplied(
    rows: Float32[np.ndarray, "n d"], count: int, noise: float = 0.2, seed: int = 2
) -> Float32[np.ndarray, "m d"]:
    """Interpolate many vectors from few: between a row and one of its 5 nearest, closer to the row, with noise.

    Args:
        rows: (N, D) unit vectors.
        count: M.
        noise: Length of the noise.
        seed: Seed of all draws.

    Returns:
        (M, D) unit vectors.
    """
    generator = np.random.default_rng(seed)
    similarity = rows @ rows.T
    np.fill_diagonal(similarity, -np.inf)
    nearest = np.argpartition(-similarity, 5, axis=1)[:, :5]
    vectors = np.empty((count, rows.shape[1]), dtype=np.float32)
    for start in range(0, count, _ROWS_AT_ONCE):
        size = min(_ROWS_AT_ONCE, count - start)
        first = generator.integers(0, len(rows), size)
        second = nearest[first, generator.integers(0, 5, size)]
        share = generator.uniform(0.0, 0.5, (size, 1)).astype(np.float32)
        more = noise * generator.standard_normal((size, rows.shape[1]), dtype=np.float32) / np.sqrt(rows.shape[1])
        vectors[start : start + size] = unit((1.0 - share) * rows[first] + share * rows[second] + more)
    return vectors
