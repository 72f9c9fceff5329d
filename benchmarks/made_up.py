"""Vectors for benchmarks of search: made-up ones with the geometry of a location encoder, and real ones multiplied.

Random vectors in hundreds of dimensions have no near neighbours at all, and tight clusters have them for nothing:
either way an index looks other than it is. Embeddings of positions lie on a surface of two dimensions in each city,
waves of several lengths over the ground; those of photographs scatter round it.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64, Int64

WAVES_M, SHARES = (2000.0, 400.0, 80.0), (0.5, 0.6, 0.5)
"""Lengths of the waves over the ground, metres, and how much each weighs."""

CITIES, HALF_WIDTH_M, OF_CITY, OWN = 40, 4000.0, 0.5, 0.1
_DEG_M = 111_195.0  # a degree of latitude, metres
_ROWS_AT_ONCE = 50_000


def unit(rows: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    """Rows of length 1."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def towns(
    count: int, dim: int, seed: int = 0
) -> tuple[Float32[np.ndarray, "n d"], Float64[np.ndarray, "n 2"], Int64[np.ndarray, " n"]]:
    """Embeddings of positions scattered evenly over 40 cities 8 km wide, the positions, and their cities.

    x(p) is the unit vector of a vector of the city, and for each wave length w of R_w [sin(B_w p), cos(B_w p)] with
    B_w ~ N(0, 1 / w^2) and R_w a rotation, and a little noise.

    Args:
        count: N.
        dim: D, even.
        seed: Of everything that is drawn.

    Returns:
        (N, D) unit vectors, (N, 2) latitude and longitude in degrees, (N,) numbers of the cities.
    """
    generator = np.random.default_rng(seed)
    wave = [generator.standard_normal((2, dim // 2)).astype(np.float32) / length for length in WAVES_M]
    turn = [np.linalg.qr(generator.standard_normal((dim, dim)))[0].astype(np.float32) for _ in WAVES_M]
    city_vector = OF_CITY * unit(generator.standard_normal((CITIES, dim)).astype(np.float32))
    city = generator.integers(0, CITIES, count)
    ground_m = generator.uniform(-HALF_WIDTH_M, HALF_WIDTH_M, (count, 2))
    found = np.empty((count, dim), dtype=np.float32)
    for start in range(0, count, _ROWS_AT_ONCE):
        own = slice(start, min(start + _ROWS_AT_ONCE, count))
        # Cities lie far apart, so that their waves have nothing to do with each other.
        place = (ground_m[own] + 7919.0 * city[own][:, None]).astype(np.float32)
        rows = city_vector[city[own]]
        for share, waves, turned in zip(SHARES, wave, turn, strict=True):
            phase = place @ waves
            rows = rows + share * np.sqrt(2.0 / dim) * np.concatenate([np.sin(phase), np.cos(phase)], axis=1) @ turned
        noise = generator.standard_normal(rows.shape, dtype=np.float32) / np.float32(np.sqrt(dim))
        found[own] = unit(rows + OWN * noise)
    centre = np.stack([51.0 + 0.2 * (city // 8), -3.0 + 0.4 * (city % 8)], axis=1)
    stretch = np.stack([np.ones(count), 1.0 / np.cos(np.radians(centre[:, 0]))], axis=1)
    return found, centre + ground_m / _DEG_M * stretch, city


def asked_near(rows: Float32[np.ndarray, "n d"], count: int, noise: float, seed: int = 1) -> Float32[np.ndarray, "q d"]:
    """Queries: some of the rows with noise of so many times their length; 1.0 leaves a cosine of about 0.7."""
    generator = np.random.default_rng(seed)
    drawn = rows[generator.choice(len(rows), count, replace=False)]
    return unit(drawn + noise * generator.standard_normal(drawn.shape, dtype=np.float32) / np.sqrt(rows.shape[1]))


def multiplied(
    rows: Float32[np.ndarray, "n d"], count: int, noise: float = 0.2, seed: int = 2
) -> Float32[np.ndarray, "m d"]:
    """Many from few: each lies between a row and one of its 5 nearest, nearer to the row, with some noise.

    Args:
        rows: (N, D) unit vectors.
        count: M.
        noise: Length of the noise.
        seed: Of everything that is drawn.
    """
    generator = np.random.default_rng(seed)
    similarity = rows @ rows.T
    np.fill_diagonal(similarity, -np.inf)
    nearest = np.argpartition(-similarity, 5, axis=1)[:, :5]
    found = np.empty((count, rows.shape[1]), dtype=np.float32)
    for start in range(0, count, _ROWS_AT_ONCE):
        size = min(_ROWS_AT_ONCE, count - start)
        own = generator.integers(0, len(rows), size)
        other = nearest[own, generator.integers(0, 5, size)]
        share = generator.uniform(0.0, 0.5, (size, 1)).astype(np.float32)
        more = noise * generator.standard_normal((size, rows.shape[1]), dtype=np.float32) / np.sqrt(rows.shape[1])
        found[start : start + size] = unit((1.0 - share) * rows[own] + share * rows[other] + more)
    return found
