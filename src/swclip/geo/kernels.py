"""Spatial kernels: how the weight of a neighbour falls with geographic distance.

The array API serves NumPy and torch with the same code: the loss passes tensors, the posterior and the sampler arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import array_api_compat

from swclip.errors import ConfigError

KernelName = Literal["exponential", "gaussian", "bisquare", "tricube", "inverse-distance"]


def _exponential(u: Any) -> Any:
    return array_api_compat.array_namespace(u).exp(-u)


def _gaussian(u: Any) -> Any:
    return array_api_compat.array_namespace(u).exp(-0.5 * u**2)


def _bisquare(u: Any) -> Any:
    xp = array_api_compat.array_namespace(u)
    return xp.clip(1.0 - u**2, 0.0, 1.0) ** 2


def _tricube(u: Any) -> Any:
    xp = array_api_compat.array_namespace(u)
    return xp.clip(1.0 - u**3, 0.0, 1.0) ** 3


def _inverse_distance(u: Any) -> Any:
    # 1 / (1 + u) is finite at distance 0.
    return 1.0 / (1.0 + u)


_KERNELS: dict[str, Callable[[Any], Any]] = {
    "exponential": _exponential,
    "gaussian": _gaussian,
    "bisquare": _bisquare,
    "tricube": _tricube,
    "inverse-distance": _inverse_distance,
}
assert set(_KERNELS) == set(get_args(KernelName))


# Distance, in bandwidths, at which a kernel has fallen to 1/e.
_REACH: dict[str, float] = {
    "exponential": 1.0,
    "gaussian": math.sqrt(2.0),
    "bisquare": math.sqrt(1.0 - math.exp(-0.5)),
    "tricube": (1.0 - math.exp(-1.0 / 3.0)) ** (1.0 / 3.0),
    "inverse-distance": math.e - 1.0,
}


def kernel_reach(kernel: KernelName) -> float:
    """Return the distance, in bandwidths, at which a kernel has fallen to 1/e.

    It makes bandwidths of different kernels comparable.

    Raises:
        ConfigError: The kernel is not known.

    Example:
        >>> kernel_reach("exponential"), round(kernel_reach("gaussian"), 3)
        (1.0, 1.414)
    """
    if kernel not in _REACH:
        raise ConfigError(f"kernel {kernel!r} is not known; choose one of {', '.join(_KERNELS)}.")
    return _REACH[kernel]


def kernel_cutoff(kernel: KernelName, weight: float) -> float:
    """Return the distance, in bandwidths, beyond which a kernel is at most a weight between 0 and 1.

    Example:
        >>> kernel_cutoff("bisquare", 1e-9), round(kernel_cutoff("exponential", 1e-9), 2)
        (1.0, 20.72)
    """
    falls = -math.log(weight)
    cutoffs = {"exponential": falls, "gaussian": math.sqrt(2.0 * falls), "bisquare": 1.0, "tricube": 1.0}
    return cutoffs.get(kernel, 1.0 / weight - 1.0)  # inverse-distance


def kernel_weight(distance_m: Any, bandwidth_m: Any, kernel: KernelName = "exponential") -> Any:
    """Compute the kernel K(d; h), which is 1 at distance 0 and falls with d / h.

    Args:
        distance_m: Geographic distances in metres, any shape.
        bandwidth_m: Bandwidth h in metres: a number, or an array that broadcasts against the distances.
        kernel: exponential exp(-u), gaussian exp(-u^2/2), bisquare (1-u^2)^2 and tricube (1-u^3)^3 with compact
            support u <= 1, inverse-distance 1/(1+u); u = d/h.

    Returns:
        Weights in [0, 1], broadcast shape.

    Raises:
        ConfigError: The kernel is not known, or the bandwidth is a number that is not positive.

    References:
        A. S. Fotheringham, C. Brunsdon, M. Charlton, "Geographically Weighted Regression" (2002), ch. 2.

    Example:
        >>> import numpy as np
        >>> kernel_weight(np.array([0.0, 15.0]), 15.0).round(3).tolist()
        [1.0, 0.368]
    """
    try:
        function = _KERNELS[kernel]
    except KeyError:
        raise ConfigError(f"kernel {kernel!r} is not known; choose one of {', '.join(_KERNELS)}.") from None
    # Checking an array would wait for the device; callers check the values that they build it from.
    if isinstance(bandwidth_m, (int, float)) and not bandwidth_m > 0:
        raise ConfigError(f"a bandwidth of {bandwidth_m} m gives no weights; give a positive number of metres.")
    return function(distance_m / bandwidth_m)


def mixture_weight(
    distance_m: Any,
    bandwidths_m: Sequence[Any],
    kernel: KernelName = "exponential",
    shares: Sequence[float] | None = None,
) -> Any:
    """Compute a mixture of one kernel over several scales, such as street, neighbourhood and city.

    Args:
        distance_m: Geographic distances in metres, any shape.
        bandwidths_m: One bandwidth per scale, metres; numbers or arrays that broadcast.
        kernel: Name of the kernel.
        shares: Weight of each scale, normalised to sum to 1; None for equal weights.

    Returns:
        Weights in [0, 1].

    Raises:
        ConfigError: There are no bandwidths, or the shares differ in number, are negative or sum to 0.
    """
    if len(bandwidths_m) == 0:
        raise ConfigError("a mixture of kernels needs at least one bandwidth.")
    weights = [1.0] * len(bandwidths_m) if shares is None else list(shares)
    if len(weights) != len(bandwidths_m) or sum(weights) <= 0 or min(weights) < 0:
        raise ConfigError(
            f"a mixture over {len(bandwidths_m)} bandwidths needs as many non-negative shares, not {weights}."
        )
    total = sum(weights)
    mixture = (weights[0] / total) * kernel_weight(distance_m, bandwidths_m[0], kernel)
    for share, bandwidth in zip(weights[1:], bandwidths_m[1:], strict=True):
        mixture = mixture + (share / total) * kernel_weight(distance_m, bandwidth, kernel)
    return mixture
