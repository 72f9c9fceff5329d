"""Smooth random fields over the ground, hashes of integers, and tiles of noise: the randomness of the scenes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


@dataclass(frozen=True)
class SmoothField:
    """A stationary random field: a sum of plane waves, zero mean, unit variance.

    What a district looks like is read from such fields, so two places look the more alike the nearer they are.

    Attributes:
        waves: (K, 2) wave vectors in radians per metre.
        phases: (K,) radians.
    """

    waves: Float[np.ndarray, "k 2"]
    phases: Float[np.ndarray, " k"]

    @classmethod
    def draw(
        cls, rng: np.random.Generator, wavelength_m: tuple[float, float] = (350.0, 1100.0), waves: int = 14
    ) -> SmoothField:
        """Draw a field whose plane waves have lengths within `wavelength_m` and any direction."""
        length = np.exp(rng.uniform(np.log(wavelength_m[0]), np.log(wavelength_m[1]), waves))
        angle = rng.uniform(0.0, 2.0 * np.pi, waves)
        vectors = (2.0 * np.pi / length)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return cls(vectors, rng.uniform(0.0, 2.0 * np.pi, waves))

    def __call__(self, x_m: ArrayLike, y_m: ArrayLike) -> Float[np.ndarray, ...]:
        """The field at points given by east and north in metres, any shape."""
        x, y = np.asarray(x_m, dtype=np.float64), np.asarray(y_m, dtype=np.float64)
        phase = x[..., None] * self.waves[:, 0] + y[..., None] * self.waves[:, 1] + self.phases
        return np.asarray(np.cos(phase).sum(axis=-1) * np.sqrt(2.0 / len(self.phases)))


def hash01(*keys: Any) -> F32:
    """Integers to numbers in [0, 1) that look random: the same keys always give the same number.

    Args:
        keys: Whole numbers of less than 32 bits, or arrays of them that broadcast.

    Returns:
        float32 of the broadcast shape.
    """
    value: Any = np.full(1, 0x9E3779B9, dtype=np.uint32)  # an array: its products may wrap round without a warning
    for key in keys:
        value = (value ^ np.asarray(key).astype(np.int32).view(np.uint32)) * np.uint32(0x85EBCA6B)
        value ^= value >> np.uint32(15)
    value *= np.uint32(0xC2B2AE35)
    value ^= value >> np.uint32(13)
    result = (value >> np.uint32(8)).astype(np.float32) * np.float32(1.0 / (1 << 24))
    return np.asarray(result if any(np.ndim(key) for key in keys) else result[0])


@lru_cache(maxsize=8)
def noise_tile(roughness: float = 1.0, size: int = 256) -> F32:
    """A square tile of noise that repeats without a seam, zero mean, unit variance.

    Args:
        roughness: Exponent of the fall of amplitude with frequency: 0 is white, 1.5 is cloudy.
        size: Pixels a side, a power of two.
    """
    rng = np.random.default_rng(20260404)
    fx, fy = np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size))
    radius = np.hypot(fx, fy)
    radius[0, 0] = 1.0
    amplitude = radius**-roughness
    amplitude[0, 0] = 0.0
    tile = np.fft.ifft2(np.fft.fft2(rng.standard_normal((size, size))) * amplitude).real
    return np.ascontiguousarray((tile / tile.std()).astype(np.float32))


def sample_tile(tile: F32, x: F32, y: F32) -> F32:
    """Nearest value of a repeating tile at fractional pixel coordinates."""
    mask = tile.shape[0] - 1
    return np.asarray(tile.ravel()[(x.astype(np.int32) & mask) * np.int32(tile.shape[0]) + (y.astype(np.int32) & mask)])


def sample_tile_smooth(tile: F32, x: F32, y: F32) -> F32:
    """Value of a repeating tile between its pixels, by bilinear interpolation."""
    low_x, low_y = np.floor(x), np.floor(y)
    fx, fy = x - low_x, y - low_y
    side = np.int32(tile.shape[0])
    mask = side - 1
    ix, iy = low_x.astype(np.int32) & mask, low_y.astype(np.int32) & mask
    ix2, iy2 = ((ix + 1) & mask) * side, (iy + 1) & mask
    ix = ix * side
    flat = tile.ravel()
    low = flat[ix + iy] * (1 - fy) + flat[ix + iy2] * fy
    high = flat[ix2 + iy] * (1 - fy) + flat[ix2 + iy2] * fy
    return np.asarray(low + fx * (high - low))


def pulse(x: F32, start: Any, stop: Any, width: Any) -> F32:
    """Share of a window of `width` round `x` in which the fractional part lies within [start, stop].

    This is the box-filtered periodic pulse: a row of windows seen from afar becomes an even tone and not moire.

    Args:
        x: Coordinates in periods.
        start: Where the pulse starts within a period, in [0, 1].
        stop: Where it ends, at least `start`.
        width: Width of the pixel in periods.

    Returns:
        Coverage in [0, 1].
    """
    duty = stop - start
    w = np.maximum(width, 1e-3)
    lo, hi = x - 0.5 * w, x + 0.5 * w
    flo, fhi = np.floor(lo), np.floor(hi)
    integral_lo = flo * duty + np.minimum(np.maximum(lo - flo - start, 0.0), duty)
    integral_hi = fhi * duty + np.minimum(np.maximum(hi - fhi - start, 0.0), duty)
    return np.asarray((integral_hi - integral_lo) / w, dtype=np.float32)


def step(x: Any, edge: Any, width: Any) -> F32:
    """Share of a window of `width` round `x` that lies above `edge`: a step without jagged edges."""
    return np.asarray(np.minimum(np.maximum((x - edge) / np.maximum(width, 1e-3) + 0.5, 0.0), 1.0), dtype=np.float32)


def band(x: Any, start: Any, stop: Any, width: Any) -> F32:
    """Share of a window of `width` round `x` within [start, stop]."""
    return np.asarray(step(x, start, width) - step(x, stop, width), dtype=np.float32)
