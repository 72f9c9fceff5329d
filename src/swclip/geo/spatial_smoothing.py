"""Spatial smoothing: a kernel over fixed positions as a sparse matrix, applied to a posterior."""

from __future__ import annotations

from typing import get_args

import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike
from scipy import sparse

from swclip.errors import ConfigError
from swclip.geo.distance import haversine_m
from swclip.geo.kernels import KernelName, kernel_weight
from swclip.geo.neighbours import SphereIndex

CUT_BANDWIDTHS = 4.0
"""Kernels without compact support are cut at this distance: a gaussian is at 0.03 % there, an exponential at 2 %."""

MAX_PAIRS = 50_000_000
"""Largest number of candidate pairs in a kernel, 12 bytes each."""

_COMPACT = frozenset({"bisquare", "tricube"})
_WEIGHTLESS = 1e-12
_ROWS_AT_ONCE = 4096
_SAMPLE = 256


def check_smoothing(smoothing_m: float, kernel: str) -> None:
    """Raise ConfigError unless the bandwidth and the kernel are valid."""
    if not np.isfinite(smoothing_m) or smoothing_m < 0:
        raise ConfigError(f"smoothing_m is {smoothing_m}; give a bandwidth in metres, or 0 for no smoothing.")
    if kernel not in get_args(KernelName):
        raise ConfigError(f"kernel {kernel!r} is not known; choose one of {', '.join(get_args(KernelName))}.")


def reach_m(bandwidth_m: float, kernel: KernelName) -> float:
    """Return the distance in metres at which a kernel ends or is cut."""
    return bandwidth_m * (1.0 if kernel in _COMPACT else CUT_BANDWIDTHS)


def ground_kernel(positions_deg: ArrayLike, bandwidth_m: float, kernel: KernelName = "gaussian") -> sparse.csr_array:
    """Compute the kernel K(d_mn; h) between all pairs of positions within its reach.

    Args:
        positions_deg: (M, 2) latitude, longitude in degrees.
        bandwidth_m: Bandwidth h in metres; 0 gives the identity.
        kernel: Kernel; without compact support it is cut at `CUT_BANDWIDTHS` bandwidths.

    Returns:
        (M, M) symmetric float64 with ones on the diagonal.

    Raises:
        ConfigError: The bandwidth is negative, the kernel unknown, or the positions are so dense that more than
            `MAX_PAIRS` pairs are within reach.
    """
    check_smoothing(bandwidth_m, kernel)
    positions = np.asarray(positions_deg, dtype=np.float64).reshape(-1, 2)
    count = len(positions)
    if bandwidth_m == 0 or count == 0:
        return sparse.csr_array(sparse.eye_array(count, format="csr"))
    radius_m = reach_m(bandwidth_m, kernel)
    index = SphereIndex(positions)
    _check_pairs(index, positions, radius_m, bandwidth_m)
    data, columns, sizes = [], [], []
    for start in range(0, count, _ROWS_AT_ONCE):
        block = positions[start : start + _ROWS_AT_ONCE]
        near = index.within(block, radius_m)
        row, column = np.repeat(np.arange(len(block)), [len(indices) for indices in near]), np.concatenate(near)
        distance_m = haversine_m(block[row, 0], block[row, 1], positions[column, 0], positions[column, 1])
        weight = kernel_weight(distance_m, bandwidth_m, kernel)
        # The weight is 0 at the very end of a compact kernel: stored zeros would only cost time.
        positive = weight > _WEIGHTLESS
        data.append(weight[positive])
        columns.append(column[positive].astype(np.int32))
        sizes.append(np.bincount(row[positive], minlength=len(block)))
    ends = np.concatenate([[0], np.cumsum(np.concatenate(sizes))]).astype(np.int32)
    return sparse.csr_array((np.concatenate(data), np.concatenate(columns), ends), shape=(count, count))


def weigh(values: Float64[np.ndarray, "q m"], kernel_matrix: sparse.csr_array) -> Float64[np.ndarray, "q m"]:
    """Multiply (q, M) values by the symmetric kernel: the kernel-weighted sum over the neighbours of each candidate."""
    return np.ascontiguousarray((kernel_matrix @ values.T).T)


def outflow(kernel_matrix: sparse.csr_array) -> Float64[np.ndarray, " m"]:
    """Return the (M,) row sums of the kernel."""
    return np.asarray(kernel_matrix.sum(axis=1), dtype=np.float64).ravel()


def spread(probability: Float64[np.ndarray, "q m"], kernel_matrix: sparse.csr_array) -> Float64[np.ndarray, "q m"]:
    """Smooth a posterior spatially: each candidate distributes its probability among its neighbours.

    Candidate n receives the share W_mn = K_mn / sum_k K_mk of candidate m. The shares of a row sum to 1, so p W has
    the mass of p: sum_n (p W)_n = sum_m p_m. Column-wise shares would average the probabilities of the neighbours
    instead, which loses or adds mass wherever the candidates are unevenly spaced.
    """
    return weigh(probability / outflow(kernel_matrix), kernel_matrix)


def _check_pairs(
    index: SphereIndex, positions: Float64[np.ndarray, "m 2"], radius_m: float, bandwidth_m: float
) -> None:
    step = max(1, len(positions) // _SAMPLE)
    sampled = positions[::step]
    pairs = sum(len(indices) for indices in index.within(sampled, radius_m)) / len(sampled) * len(positions)
    if pairs > MAX_PAIRS:
        raise ConfigError(
            f"smoothing {len(positions)} candidates over {bandwidth_m:g} m pairs about {pairs:.1e} of them, more than "
            f"{MAX_PAIRS:.0e}; smooth over a shorter distance, or use a coarser grid of candidates."
        )
