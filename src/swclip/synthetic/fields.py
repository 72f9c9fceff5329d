"""Randomness of scenes: smooth random fields over the ground, hashes of integers, and noise tiles."""

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
    """A stationary random field with zero mean and unit variance, as a sum of plane waves.

    Fields determine the appearance of districts, so that near places look more alike than distant ones.

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
        """Draw a field of plane waves with lengths within `wavelength_m` and random directions."""
        length = np.exp(rng.uniform(np.log(wavelength_m[0]), np.log(wavelength_m[1]), waves))
        angle = rng.uniform(0.0, 2.0 * np.pi, waves)
        vectors = (2.0 * np.pi / length)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return cls(vectors, rng.uniform(0.0, 2.0 * np.pi, waves))

    def __call__(self, x_m: ArrayLike, y_m: ArrayLike) -> Float[np.ndarray, ...]:
        """Evaluate the field at east and north in metres, any shape."""
        x, y = np.asarray(x_m, dtype=np.float64), np.asarray(y_m, dtype=np.float64)
        phase = x[..., None] * self.waves[:, 0] + y[..., None] * self.waves[:, 1] + self.phases
        return np.asarray(np.cos(phase).sum(axis=-1) * np.sqrt(2.0 / len(self.phases)))


def hash01(*keys: Any) -> F32:
    """Hash integers to pseudorandom numbers in [0, 1).

    Args:
        keys: Integers of less than 32 bits, or arrays of them that broadcast.

    Returns:
        float32 of the broadcast shape.
    """
    value: Any = np.full(1, 0x9E3779B9, dtype=np.uint32)  # an array, because its products overflow without a warning
    for key in keys:
        value = (value ^ np.asarray(key).astype(np.int32).view(np.uint32)) * np.uint32(0x85EBCA6B)
        value ^= value >> np.uint32(15)
    value *= np.uint32(0xC2B2AE35)
    value ^= value >> np.uint32(13)
    result = (value >> np.uint32(8)).astype(np.float32) * np.float32(1.0 / (1 << 24))
    return np.asarray(result if any(np.ndim(key) for key in keys) else result[0])


@lru_cache(maxsize=8)
def noise_tile(roughness: float = 1.0, size: int = 256) -> F32:
    """Return a square, seamlessly repeating tile of noise with zero mean and unit variance.

    Args:
        roughness: Exponent of the decrease of amplitude with frequency: 0 is white noise, 1.5 resembles clouds.
        size: Side in pixels, a power of two.
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
    """Sample a repeating tile at fractional pixel coordinates, by nearest neighbour."""
    mask = tile.shape[0] - 1
    return np.asarray(tile.ravel()[(x.astype(np.int32) & mask) * np.int32(tile.shape[0]) + (y.astype(np.int32) & mask)])


def sample_tile_smooth(tile: F32, x: F32, y: F32) -> F32:
    """Sample a repeating tile at fractional pixel coordinates, by bilinear interpolation."""
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
    """Return the share of a window of `width` around `x` in which the fractional part is within [start, stop].

    This is the box-filtered periodic pulse: distant rows of windows get an even tone instead of moire.

    Args:
        x: Coordinates in periods.
        start: Start of the pulse within a period, in [0, 1].
        stop: End of the pulse, at least `start`.
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
    """Return the share of a window of `width` around `x` that is above `edge`: an antialiased step."""
    return np.asarray(np.minimum(np.maximum((x - edge) / np.maximum(width, 1e-3) + 0.5, 0.0), 1.0), dtype=np.float32)


def band(x: Any, start: Any, stop: Any, width: Any) -> F32:
    """Return the share of a window of `width` around `x` that is within [start, stop]."""
    return np.asarray(step(x, start, width) - step(x, stop, width), dtype=np.float32)
