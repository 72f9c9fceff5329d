"""The posterior: how probable each candidate of a gallery is, given a query photograph."""

from __future__ import annotations

from collections.abc import Iterator
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Float32, Float64
from scipy import sparse

from swclip.calibration.posterior_config import PosteriorConfig
from swclip.gallery.gallery import Gallery
from swclip.geo.kernels import KernelName
from swclip.geo.spatial_smoothing import ground_kernel, spread
from swclip.models.photograph_vectors import Vectors
from swclip.retrieval.scores import MEMORY_BYTES, Photographed, check_queries, chunks, log_probability

_KERNELS: WeakKeyDictionary[Gallery, dict[tuple[float, str], sparse.csr_array]] = WeakKeyDictionary()


def gallery_kernel(gallery: Gallery, bandwidth_m: float, kernel: KernelName) -> sparse.csr_array:
    """`ground_kernel` of a gallery's candidates, (M, M), cached during the lifetime of the gallery.

    Args:
        gallery: The gallery.
        bandwidth_m: Bandwidth in metres.
        kernel: Name of the kernel.
    """
    kernels = _KERNELS.setdefault(gallery, {})
    key = (bandwidth_m, kernel)
    if key not in kernels:
        kernels[key] = ground_kernel(gallery.positions_deg, bandwidth_m, kernel)
    return kernels[key]


def smoothed(
    log_probability: Float64[np.ndarray, "q m"], kernel_matrix: sparse.csr_array
) -> Float64[np.ndarray, "q m"]:
    """Smooth a posterior spatially, conserving its mass; see `swclip.geo.spatial_smoothing.spread`.

    Args:
        log_probability: (q, M) log probabilities.
        kernel_matrix: (M, M) `ground_kernel` of the candidates.

    Returns:
        (q, M) log probabilities; -inf where no mass reaches.
    """
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(spread(np.exp(log_probability), kernel_matrix)))


def iter_log_posterior(
    query: Vectors,
    gallery: Gallery,
    config: PosteriorConfig,
    *,
    smooth: bool = False,
    memory_bytes: int = MEMORY_BYTES,
) -> Iterator[Float32[np.ndarray, "c m"]]:
    """Compute the posterior in chunks of queries, in order, so that (Q, M) is never in memory as a whole.

    Args:
        query: Vectors of Q photographs.
        gallery: The candidates.
        config: Temperatures, weight of the images, smoothing.
        smooth: Smooth spatially with `config.smoothing_m`. Off by default: `point_estimates.mode` smooths itself.
        memory_bytes: Memory of a chunk.

    Yields:
        (c, M) float32 log probabilities.

    Raises:
        MismatchError: The queries have another dimension than the gallery.
    """
    queries, photographed = check_queries(query, gallery), Photographed.of(gallery)
    for part in chunks(len(queries), gallery, memory_bytes):
        log_p = log_probability(queries.take(part), gallery, config, photographed)
        if smooth and config.smoothing_m > 0:
            log_p = smoothed(log_p, gallery_kernel(gallery, config.smoothing_m, config.kernel))
        yield log_p.astype(np.float32)


def log_posterior(
    query: Vectors,
    gallery: Gallery,
    config: PosteriorConfig,
    *,
    smooth: bool = False,
    memory_bytes: int = MEMORY_BYTES,
) -> Float32[np.ndarray, "q m"]:
    """The whole posterior; see `iter_log_posterior`, which takes the same arguments and less memory.

    Returns:
        (Q, M) float32 log probabilities; each row's exponentials sum to 1.

    Example:
        >>> import numpy as np
        >>> from swclip.gallery.gallery import Gallery
        >>> axes = np.eye(2, dtype=np.float32)
        >>> none = np.zeros((0, 2), dtype=np.float32)
        >>> places = Gallery(["a", "b"], np.array([[51.5, 0.0], [51.6, 0.0]]), [None, None], axes, none,
        ...                  np.zeros(0, dtype=np.int64), [])
        >>> np.exp(log_posterior(axes[:1], places, PosteriorConfig(location_temperature=1.0))).round(3).tolist()
        [[0.7310000061988831, 0.26899999380111694]]
    """
    parts = list(iter_log_posterior(query, gallery, config, smooth=smooth, memory_bytes=memory_bytes))
    return np.concatenate(parts) if parts else np.zeros((0, len(gallery)), dtype=np.float32)
